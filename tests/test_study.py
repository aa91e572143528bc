"""The commands that import, train, calibrate, evaluate, inspect and plan, as a user types them."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file
from study_files import READ, SMALL, document, train

from omni_msa.__main__ import main

pytestmark = pytest.mark.slow


def test_import_says_what_it_found(manifest, tmp_path, capsys):
    out = tmp_path / "m.jsonl"
    assert main(["data", "import", "mosi", str(manifest.parent / "mosi"), "-o", str(out)]) == 0
    printed = capsys.readouterr()
    assert "14 rows (8 train, 2 valid, 4 test)" in printed.out
    assert "split sizes are not the published ones" in printed.err
    assert len(out.read_text().splitlines()) == 14
    assert main(["data", "import", "imdb", str(tmp_path), "-o", str(out)]) == 2
    assert "choose one of: mosi" in capsys.readouterr().err


def test_train_evaluate_inspect(manifest, trained, capsys):
    told = document(capsys, "evaluate", str(manifest), "--checkpoint", str(trained), "--ablate",
                    "--resamples", "20")  # fmt: skip
    (run,) = told["runs"]
    assert run["metrics"]["clips"] == 4 and list(run["ablation"]) == [
        "T", "A", "V", "TA", "TV", "AV", "TAV",
    ]  # fmt: skip
    assert run["ablation"]["TAV"]["mae"] == pytest.approx(run["metrics"]["mae"], abs=1e-5)
    assert run["baseline"]["mae"] == pytest.approx(2.0)
    assert "test-time drop" in run["protocol"]
    found = document(capsys, "inspect", str(trained))
    assert found["check"]["result"] == "passed" and found["label_range"] == [-3.0, 3.0]
    assert found["lora"]["scope"] == "all" and sum(found["wrapped"].values()) > 0
    log = [json.loads(line) for line in (trained / "train_log.jsonl").read_text().splitlines()]
    assert [e["event"] for e in log] == ["start", "step", "step", "epoch"]
    assert {"loss", "clips_per_second", "memory_gib", "learning_rate"} <= set(log[1])


def test_seeds_give_a_mean_and_two_checkpoints_a_difference(
    manifest, base_folder, trained, tmp_path, capsys
):
    other, deaf = tmp_path / "seed1", tmp_path / "deaf"
    assert train(manifest, base_folder, other, "--seed", "1") == 0
    assert train(manifest, base_folder, deaf, "--drop", "audio") == 0
    told = document(
        capsys, "evaluate", str(manifest), "--checkpoint", str(trained), "--also", str(other),
        "--against", str(deaf), "--resamples", "20", "-o", str(tmp_path / "rows.jsonl"), "--ablate",
    )  # fmt: skip
    maes = [run["metrics"]["mae"] for run in told["runs"]]
    assert told["over_seeds"]["mae"]["mean"] == pytest.approx(sum(maes) / 2, abs=1e-5)
    against = told["against"]
    difference = maes[0] - against["metrics"]["mae"]
    assert told["difference"]["mae"]["value"] == pytest.approx(difference, abs=1e-5)
    assert "trained on whole clips and all their subsets;" in told["runs"][0]["protocol"]
    assert "all their subsets, never with audio;" in against["protocol"]
    assert any("trained without audio" in notice for notice in against["notices"])
    assert {p.name for p in tmp_path.glob("*.jsonl")} == {
        "rows.jsonl", "rows-2.jsonl", "rows-3.jsonl",
    }  # fmt: skip
    row = json.loads((tmp_path / "rows-3.jsonl").read_text().splitlines()[0])
    assert row["modalities"]["audio"] is None and row["label"] is not None
    told = ["evaluate", str(manifest), "--checkpoint", str(trained), "--also", str(deaf)]
    assert main(told) == 2
    assert "more than its seed: never shown ([], ['audio'])" in capsys.readouterr().err
    assert main(["evaluate", str(manifest), "--also", str(trained)]) == 2
    assert "name that with --checkpoint" in capsys.readouterr().err
    shown = ["evaluate", str(manifest), "--checkpoint", str(trained), "--also", str(other)]
    assert main([*shown, "--against", str(deaf), "--resamples", "5", "-q"]) == 0
    out = capsys.readouterr().out
    assert out.count("split test: 4 clips") == 3 and "mean predictor" in out


def test_training_on_goes_on_as_the_checkpoint_was_made(manifest, base_folder, tmp_path, capsys):
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    assert train(manifest, base_folder, first, "--drop", "audio") == 0
    start = ["train", str(manifest), "--model", str(base_folder), "--epochs", "1", *SMALL]
    assert main([*start, "-o", str(second), "--start", str(first)]) == 0
    err = capsys.readouterr().err
    assert "8 clips to train on; 2 clips to validate on; not used: 4 of split 'test'" in err
    assert "trained without audio, and so is this" in err
    made = [json.loads((f / "omni_msa.json").read_text()) for f in (first, second)]
    assert made[1]["hide"] == ["audio"] and made[1]["media"] == made[0]["media"]
    asked = ["--start", str(first), "--drop", "video", "--max-frames", "2"]
    assert main([*start, "-o", str(third), *asked]) == 0
    told = json.loads((third / "omni_msa.json").read_text())
    assert told["hide"] == ["video"] and told["media"]["max_frames"] == 2
    assert "and so is this" not in capsys.readouterr().err
    fourth = tmp_path / "fourth"
    assert main([*start, "-o", str(fourth), *asked[:2], "--drop", "none", "-q"]) == 0
    assert json.loads((fourth / "omni_msa.json").read_text())["hide"] == []
    assert main([*start, "-o", str(first), *asked[:2], "--fresh"]) == 2
    assert "is what --start goes on from" in capsys.readouterr().err
    assert (first / "omni_msa.json").exists()


def test_a_base_named_from_here_is_found_from_anywhere(
    manifest, base_folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(base_folder.parent)
    out = tmp_path / "checkpoint"
    assert train(manifest, base_folder.name, out) == 0
    monkeypatch.chdir(tmp_path)
    assert document(capsys, "inspect", str(out))["check"]["result"] == "passed"
    path = out / "omni_msa.json"
    path.write_text(path.read_text().replace(str(base_folder.resolve()), "/gone/base"))
    assert main(["inspect", str(out)]) == 4
    assert "trained on /gone/base, which is not here; give --model DIR" in capsys.readouterr().err


def test_what_the_adapter_is_scaled_by_cannot_change(manifest, trained, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    path = copy / "adapter_config.json"
    path.write_text(path.read_text().replace('"lora_alpha": 4', '"lora_alpha": 40'))
    assert main(["evaluate", str(manifest), "--checkpoint", str(copy)]) == 4
    assert "adapter_config.json differs from what was saved" in capsys.readouterr().err


def test_the_table_has_the_subsets_of_what_is_shown(manifest, trained, capsys):
    told = document(capsys, "evaluate", str(manifest), "--checkpoint", str(trained), "--ablate",
                    "--drop", "text", "--resamples", "20")  # fmt: skip
    assert list(told["runs"][0]["ablation"]) == ["A", "V", "AV"]


def test_a_checkpoint_is_scored_as_it_was_trained(manifest, base_folder, tmp_path, capsys):
    out = tmp_path / "checkpoint"
    assert train(manifest, base_folder, out, "--quantize", "4bit") == 0
    clip = str(manifest.parent / "mosi" / "Raw" / "v00" / "1.mp4")
    scoring = ["score", clip, "--checkpoint", str(out), "--drop", "text"]  # it has no words anyway
    record = document(capsys, *scoring)
    assert record["model"]["quantize"] == "4bit"
    assert record["warnings"] == ["dropped on request: text"]
    record = document(capsys, *scoring, "--quantize", "none")
    assert record["warnings"][1:] == ["other quantization: trained with 4bit, scored with none"]
    assert document(capsys, "inspect", str(out))["check"]["result"] == "passed"


@pytest.mark.parametrize("readout", ["generative", "verbalizer"])
def test_a_bare_base_is_evaluated_zero_shot(manifest, base_folder, readout, capsys):
    told = document(capsys, "evaluate", str(manifest), "--model", str(base_folder), "--readout",
                    readout, "--resamples", "20", *READ)  # fmt: skip
    (run,) = told["runs"]
    assert readout in run["system"] and ("said" in run) == (readout == "generative")
    assert any(notice.startswith("zero-shot") for notice in run["notices"])


def test_a_bare_base_answers_in_the_range_that_is_asked_for(
    manifest, base_folder, trained, tmp_path, capsys
):
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    small = tmp_path / "small.jsonl"
    for row in rows:
        row |= {"label": row["label"] / 4, "clip": str(manifest.parent / row["clip"])}
        del row["dataset"]
    small.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = ["--label-range", "-1", "1", *READ]
    told = document(capsys, "evaluate", str(small), "--model", str(base_folder), *asked,
                    "--split", "train", "--resamples", "20")  # fmt: skip
    assert told["runs"][0]["family"] == "sims"
    clip = str(manifest.parent / "mosi" / "Raw" / "v00" / "1.mp4")
    assert document(capsys, "score", clip, "--model", str(base_folder), *asked)["range"] == [-1, 1]
    probe = tmp_path / "probe"
    fit = ["calibrate", str(small), "-o", str(probe), "--model", str(base_folder), "-q", *asked]
    assert main(fit) == 0
    assert main(fit) == 2 and "--fresh" in capsys.readouterr().err
    lost = tmp_path / "lost.jsonl"
    rows = [{"clip": f"gone{i}.mp4", "label": i / 9} for i in range(9)]
    lost.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["calibrate", str(lost), *fit[2:], "--fresh"]) == 2
    assert "0 clips could be read" in capsys.readouterr().err
    assert main(["inspect", str(probe)]) == 0  # still there
    assert main([*fit, "--fresh"]) == 0
    both = ["evaluate", str(small), "--checkpoint", str(probe), "--against", str(trained)]
    assert main(both) == 2 and "several metric families (mosi, sims)" in capsys.readouterr().err
    told = document(capsys, *both, "--metrics", "mosi", "--split", "train", "--resamples", "20")
    assert told["against"]["family"] == told["runs"][0]["family"] == "mosi"
    assert any("the figures flatter it" in notice for notice in told["runs"][0]["notices"])


def test_generative_training_and_calibration_make_checkpoints_too(
    manifest, base_folder, tmp_path, capsys
):
    assert train(manifest, base_folder, tmp_path / "sft", "--readout", "generative") == 0
    run = document(capsys, "evaluate", str(manifest), "--checkpoint", str(tmp_path / "sft"))
    assert set(run["runs"][0]["said"]) == {"unparsable", "out_of_range"}
    told = document(
        capsys, "calibrate", str(manifest), "-o", str(tmp_path / "probe"), "--model",
        str(base_folder), *READ,
    )  # fmt: skip
    assert told["readout"] == "probe" and "leave_one_out_mae" in told["metrics"]
    run = document(capsys, "evaluate", str(manifest), "--checkpoint", str(tmp_path / "probe"))
    assert "probe" in run["runs"][0]["system"]


def test_a_killed_command_goes_on_and_ends_with_the_same_weights(manifest, base_folder, tmp_path):
    options = ["--epochs", "2", "--batch-size", "1", "--save-every", "1", *SMALL[2:], *READ]
    command = ["train", str(manifest), "--model", str(base_folder), *options]
    assert main([*command, "-o", str(tmp_path / "whole"), "-q"]) == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "omni_msa", *command, "-o", str(tmp_path / "killed")],
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
    )  # fmt: skip
    log, until = tmp_path / "killed" / "train_log.jsonl", time.monotonic() + 120
    while time.monotonic() < until and not (log.exists() and log.read_text().count("step") > 5):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / "killed" / "training_state.pt").exists()
    assert main([*command, "-o", str(tmp_path / "killed"), "-q"]) == 0
    for file in ("adapter_model.safetensors", "readout.safetensors"):
        a, b = (load_file(tmp_path / name / file) for name in ("whole", "killed"))
        assert a.keys() == b.keys() and all((a[key] == b[key]).all() for key in a)


def test_with_a_cache_the_weights_are_the_same(manifest, base_folder, trained, tmp_path):
    for name in ("first", "second"):
        out = tmp_path / name
        assert train(manifest, base_folder, out, "--cache", str(tmp_path / "cache")) == 0
        a, b = (load_file(f / "adapter_model.safetensors") for f in (trained, out))
        assert all((a[key] == b[key]).all() for key in a)
    assert len(list((tmp_path / "cache").glob("*/*.npz"))) == 10  # train and valid


def test_a_folder_in_the_published_layout_with_qwens_vocabulary(
    manifest,
    qwen_folder,
    tmp_path,
    capsys,
):
    """What a user of the real weights does, with everything real but the weights."""
    clip = str(manifest.parent / "mosi" / "Raw" / "v00" / "1.mp4")
    record = document(capsys, "score", clip, "--model", str(qwen_folder), *READ)
    assert record["model"]["readout"] == "verbalizer" and record["model"]["checkpoint"] is None
    assert any("zero-shot" in warning for warning in record["warnings"])
    said = document(capsys, "score", clip, "--model", str(qwen_folder), "--readout", "generative",
                    *READ)  # fmt: skip
    assert set(said["answer"]) == {"text", "parsable", "in_range"}
    out = tmp_path / "checkpoint"
    assert train(manifest, qwen_folder, out, "--quantize", "4bit") == 0
    record = document(capsys, "score", clip, "--checkpoint", str(out))
    assert record["model"]["base"] == str(qwen_folder)
    told = document(capsys, "evaluate", str(manifest), "--checkpoint", str(out),
                    "--resamples", "20")  # fmt: skip
    assert told["runs"][0]["metrics"]["clips"] == 4
    inspected = document(capsys, "inspect", str(out))
    assert inspected["check"]["result"] == "passed" and "Linear4bit" in inspected["linear_layers"]


@pytest.mark.parametrize("readout", ["regression", "generative"])
def test_emotions_are_trained_and_measured_as_classes(
    emotions, base_folder, trained, readout, tmp_path, capsys
):
    out = tmp_path / "checkpoint"
    assert train(emotions, base_folder, out, "--task", "emotion", "--readout", readout) == 0
    info = json.loads((out / "omni_msa.json").read_text())
    assert info["scale"]["classes"] == ["anger", "joy"]
    assert 0 <= info["metrics"]["error_rate"] <= 1
    told = document(capsys, "evaluate", str(emotions), "--checkpoint", str(out), "--ablate",
                    "--resamples", "20")  # fmt: skip
    (run,) = told["runs"]
    assert run["family"] == "emotion" and set(run["titles"]) == {
        "accuracy", "weighted_f1", "f1_anger", "f1_joy",
    }  # fmt: skip
    assert run["baseline"]["name"].startswith("always ") and run["baseline"]["accuracy"] == 0.5
    mixed = ["evaluate", str(emotions), "--checkpoint", str(out), "--against", str(trained)]
    assert main(mixed) == 2 and "do not give the same labels" in capsys.readouterr().err
    alone = ["evaluate", str(emotions), "--model", str(base_folder), "--against", str(out)]
    assert main(alone) == 2 and "do not give the same labels" in capsys.readouterr().err
    clip = str(emotions.parent / "mosi" / "Raw" / "v00" / "1.mp4")
    record = document(capsys, "score", clip, "--checkpoint", str(out))
    assert record["emotion"] == ["anger", "joy"][round(record["score"])]
    assert record["ablation"]["contribution"] == {} and len(record["ablation"]["subsets"]) == 4
    assert main(["score", clip, "--checkpoint", str(out), "-q"]) == 0
    assert record["emotion"] in capsys.readouterr().out


def test_emotions_can_be_read_zero_shot_and_by_a_probe(emotions, base_folder, tmp_path, capsys):
    for readout in ("verbalizer", "generative"):
        run = document(capsys, "evaluate", str(emotions), "--model", str(base_folder), "--metrics",
                       "emotion", "--readout", readout, "--resamples", "20", *READ)  # fmt: skip
        assert run["runs"][0]["family"] == "emotion" and readout in run["runs"][0]["system"]
    rows = [json.loads(line) for line in emotions.read_text().splitlines()]
    partly = emotions.parent / "partly.jsonl"
    lines = [row | {"emotion": None if row["split"] == "valid" else row["emotion"]} for row in rows]
    partly.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for model in ([], ["--model", "tiny"]):  # the embedded checkpoint gives scores: it is not used
        run = document(capsys, "evaluate", str(partly), *model, "--metrics", "emotion",
                       "--resamples", "20", *READ)  # fmt: skip
        assert "tiny (verbalizer)" in run["runs"][0]["system"]
    out = tmp_path / "probe"
    told = document(capsys, "calibrate", str(emotions), "-o", str(out), "--model",
                    str(base_folder), "--task", "emotion", *READ)  # fmt: skip
    assert "leave_one_out_error_rate" in told["metrics"]
    run = document(capsys, "evaluate", str(emotions), "--checkpoint", str(out))
    assert run["runs"][0]["family"] == "emotion"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["train", "{m}", "-o", "{m}"], 2, "the folder cannot be made"),
        (["train", "{m}", "-o", "{t}", "--workers", "0"], 2, "workers must be 1 to 64"),
        (["train", "{m}", "-o", "{t}", "--readout", "generative", "--head", "linear"], 2, "head"),
        (["train", "{e}", "-o", "{t}", "--task", "emotion", "--label-range", "0", "1"], 2, "class"),
        (["calibrate", "{m}", "-o", "{m}/x", "--model", "{b}"], 2, "the folder cannot be made"),
        (["evaluate", "{m}", "--checkpoint", "{c}", "--also", "{c}"], 2, "twice"),
        (["evaluate", "{m}", "--checkpoint", "{c}", "--against", "nope"], 4, "no omni_msa.json"),
        (["plan", "--seconds", "nan"], 2, "lasts more than 0 s"),
        (["plan", "--seconds", "1e9"], 2, "at most a day"),
        (["plan", "--vram-budget", "nan"], 2, "vram-budget"),
        (["plan", "--quantize", "3bit"], 2, "choose one of: auto, none, 4bit, 8bit"),
        (["train", "{m}", "-o", "{t}", "--cache", "{t}/c", "--cache-gb", "nan"], 2, "cache-gb"),
        (["train", "{m}", "-o", "{t}", "--label-range", "-3", "inf"], 2, "two numbers"),
        (["train", "{m}", "-o", "{t}", "--seed", "9" * 23], 2, "seed must lie in"),
        (["train", "{m}", "-o", "{t}", "--start", "{m}"], 4, "no omni_msa.json"),
        (["score", "{m}", "--label-range", "-1", "1"], 2, "a checkpoint has the range"),
        (["evaluate", "{m}", "--checkpoint", "{c}", "--label-range", "0", "1"], 2, "the range"),
        (["calibrate", "{x}", "-o", "{t}", "--model", "{b}"], 2, "0 clips to fit on"),
        (["evaluate", "{x}", "--checkpoint", "{c}"], 3, "not one clip could be scored"),
        (["train", "{m}", "-o", "{t}", "--task", "emotion"], 2, "two or more are needed"),
        (["train", "{m}", "-o", "{t}", "--task", "mood"], 2, "choose one of: sentiment, emotion"),
        (["evaluate", "{m}", "--checkpoint", "{c}", "--metrics", "emotion"], 2, "gives scores"),
        (["train", "{m}", "-o", "{t}", "--epochs", "0"], 2, "epochs must be 1 or more"),
        (["train", "{m}", "-o", "{t}", "--readout", "probe"], 2, "choose one of: regression"),
        (["train", "nowhere.jsonl", "-o", "{t}"], 2, "cannot be read"),
        (["train", "{m}", "-o", "{t}", "--label-range", "1", "-1"], 2, "must be the smaller"),
        (["train", "{m}", "-o", "{t}", "--label-range", "-1", "1"], 2, "no label in"),
        (["train", "{m}", "-o", "{t}", "--cache", "{m}"], 2, "cannot be written"),
        (["train", "{m}", "-o", "{t}", "--cache", "{t}/c", "--cache-gb", "0"], 2, "cache-gb"),
        (["train", "{m}", "-o", "{c}", "--model", "{b}"], 2, "holds a finished checkpoint"),
        (["train", "{m}", "-o", "{t}", "--model", "nowhere"], 4, "no such folder"),
        (["train", "{m}", "-o", "{t}", "--drop", "text,audio,video"], 2, "leaves nothing"),
        (["evaluate", "{m}", "--split", "dev2"], 2, "the manifest has: test, train, valid"),
        (["evaluate", "{m}", "--metrics", "mse"], 2, "one of: auto, mosi, sims, meld"),
        (["evaluate", "{m}", "-o", "rows.txt"], 2, "results end in one of"),
        (["evaluate", "{m}", "--table", "all.xls"], 2, "a table ends in one of .csv, .md"),
        (["evaluate", "{m}", "--table", "{t}/no/all.md"], 2, "in a folder that exists"),
        (["evaluate", "{m}", "--checkpoint", "nowhere"], 4, "no omni_msa.json in it"),
        (["inspect", "nowhere"], 4, "no omni_msa.json in it"),
        (["inspect", "{c}", "--model", "tiny"], 4, "made for base"),
        (["calibrate", "{m}", "-o", "{c}", "--model", "{b}"], 2, "holds a finished checkpoint"),
        (["plan", "--model", "9b"], 4, "9b"),
        (["plan", "--vram-budget", "0.5"], 2, "GiB"),
        (["plan", "--task", "sleep"], 2, "choose one of: score, train"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(
    manifest, emotions, base_folder, trained, tmp_path, arguments, code, words, capsys
):
    gone = tmp_path / "gone.jsonl"
    gone.write_text('{"clip": "gone.mp4", "label": 1, "split": "test"}\n')
    places = {"m": manifest, "e": emotions, "t": tmp_path / "new", "c": trained, "b": base_folder}
    places["x"] = gone
    assert main([a.format(**places) for a in arguments]) == code
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("omni-msa")]
    assert words in errors[-1]


def test_the_commands_of_the_training_page_do_what_it_says(tmp_path, monkeypatch, capsys):
    """From a corpus in MOSI's layout to a verified checkpoint, as printed in docs/training.md."""
    pytest.importorskip("espeakng_loader", reason="the corpus needs the tiny extra")
    section = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    block = re.search(r"```console\n(.*?)```", section, re.DOTALL)
    commands = [line[2:] for line in block[1].splitlines() if line.startswith("$ ")]
    assert [shlex.split(c)[:2] for c in commands[1:]] == [
        ["omni-msa", "data"], ["omni-msa", "train"], ["omni-msa", "evaluate"],
        ["omni-msa", "inspect"],
    ]  # fmt: skip
    program, flag, module, *made = shlex.split(commands[0], comments=True)
    assert (program, flag) == ("python", "-m")
    made[made.index("--clips") + 1] = "16"
    monkeypatch.setattr(f"{module}.CLIPS_A_VIDEO", 2)  # eight videos: all three splits
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [module, *made])
    importlib.import_module(module).main()
    smaller = {"train": ["--epochs", "1", *READ]}
    for command in commands[1:]:
        words = shlex.split(command, comments=True)[1:]
        capsys.readouterr()
        assert main([*words, *smaller.get(words[0], [])]) == 0, command
    assert "verified" in capsys.readouterr().out
