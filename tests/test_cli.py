"""The command line: what goes to stdout, what to stderr, and with which exit code it ends."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from sounds import write_wav

from omni_msa.__main__ import main

WORDS = ("--transcript", "I love this film.")


@pytest.fixture
def model(base_folder, checkpoint_folder) -> tuple[str, ...]:
    return ("--model", str(base_folder), "--checkpoint", str(checkpoint_folder))


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two sounds, one with words beside it, and one file that cannot be read."""
    folder = tmp_path / "clips"
    folder.mkdir()
    write_wav(folder / "a.wav", seed=1)
    write_wav(folder / "b.wav", seed=2)
    (folder / "b.txt").write_text("Not bad at all.")
    (folder / "c.wav").write_bytes(b"no sound at all")
    return folder


@pytest.fixture
def run(capsys, model):
    """Run a command line in this process, with the small random model."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([*map(str, arguments), *model])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


# --- without a model -------------------------------------------------------------------------


def test_help_imports_no_heavy_library():
    code = (
        "import sys; from omni_msa.__main__ import main\n"
        "codes = [main([*c, '--help']) for c in ([], ['score'], ['ablate'])]\n"
        "heavy = {'numpy', 'torch', 'transformers', 'av', 'decord', 'librosa', 'pyarrow'}\n"
        "sys.exit(repr(heavy & set(sys.modules)) if heavy & set(sys.modules) else max(codes))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("omni-msa ablate clip.mp4") == 2  # every command shows examples


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("omni-msa 0.")


USAGE = [
    ([], "score"),  # the help, which lists the commands
    (["scroe", "a.wav"], "No such command"),
    (["score"], "nothing to score: give clips, folders, globs or a manifest, or words alone"),
    (["score", ""], "an input is empty"),
    (["score", "a.wav", "--fsp", "2"], "No such option: --fsp"),
    (["score", "a.wav", "--fps", "two"], "Invalid value for '--fps'"),
    (["score", "a.wav", "--drop", "voice"], "'voice' is not known; choose one of: text, audio"),
    (["score", "a.wav", "--drop", "text,audio", "--drop", "video,ecg"], "leaves nothing to score"),
    (["ablate", "a.wav", "--drop", "text,audio,video,ecg"], "leaves nothing to score"),
    (["score", "a.wav", "b.wav", *WORDS], "gives the words of one clip, and here are 2"),
    (["score", "http://x.org/a.mp4"], "is a URL"),
    (["score", "no_such/*.wav"], "no media file matches"),
    (["score", "a.wav", "--quantize", "3bit"], "'3bit' is not known; choose one of: auto, none"),
    (["score", "a.wav", "--device", "tpu"], "'tpu' is not known; choose one of: auto, cpu, cuda"),
    (["score", "a.wav", "--batch-size", "0"], "batch size must be 1 to 1024, got 0"),
    (["score", "a.wav", "--workers", "0"], "workers must be 1 to 64, got 0"),
    (["score", "a.wav", "-o", "out.xml"], "results end in one of .jsonl, .csv, .parquet"),
    (["score", "a.wav", "--fresh"], "add -o FILE"),
    (["score", "a.wav", "--retry-failed"], "add -o FILE"),
    (["score", "no_such.csv"], "no_such.csv: cannot be read"),
]


@pytest.mark.parametrize(("arguments", "words"), USAGE)
def test_usage_errors_end_with_2_and_say_what_to_do(arguments, words, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    shown = captured.err if arguments else captured.out + captured.err
    assert " ".join(words.split()) in " ".join(shown.split())
    assert not captured.out or not arguments
    assert "Traceback" not in captured.err


def test_our_own_errors_are_one_line(capsys):
    main(["score", "a.wav", "--drop", "voice"])
    assert capsys.readouterr().err.count("\n") == 1


def test_an_empty_folder_is_a_usage_error(tmp_path, capsys):
    assert main(["score", str(tmp_path)]) == 2
    assert "no media files in this folder" in capsys.readouterr().err


def test_a_bad_manifest_ends_with_2_and_lists_its_rows(tmp_path, capsys):
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('{"clip": "a.wav", "label": "good"}\n{"clip": 3}\n')
    assert main(["score", str(manifest)]) == 2
    error = capsys.readouterr().err
    assert "line 1, label" in error and "line 2, clip" in error


def test_a_missing_transcript_file_ends_with_3(capsys):
    assert main(["score", "--transcript", "words.srt"]) == 3
    assert "there is no such file" in capsys.readouterr().err


def test_a_bug_keeps_its_traceback(monkeypatch):
    def broken(*_: object) -> None:
        raise IndexError("a bug")

    monkeypatch.setattr("omni_msa.commands.score.gather_inputs", broken)
    with pytest.raises(IndexError, match="a bug"):
        main(["score", "a.wav"])


# --- with a model that cannot be loaded ------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--model", "no_such_folder", "--checkpoint", "{checkpoint}"], 4, "no such folder"),
        (["--checkpoint", "no_such_folder"], 4, "no omni_msa.json in it"),
        (["--model", "{base}", "--readout", "probe"], 2, "add --checkpoint DIR"),
        (["--checkpoint", "{checkpoint}", "--readout", "tarot"], 2, "readout 'tarot'"),
        (["--checkpoint", "{checkpoint}", "--decoder", "vlc"], 2, "'vlc' is not known"),
        (["--checkpoint", "{checkpoint}", "--fps", "0"], 2, "fps must lie in (0, 120]"),
        (["--checkpoint", "{checkpoint}", "--max-pixels", "10"], 2, "pixels a frame"),
        (["--checkpoint", "{checkpoint}", "--max-frames", "1"], 2, "frames:"),
    ],
)
def test_a_model_that_cannot_be_used(
    arguments, code, words, base_folder, checkpoint_folder, tmp_path, capsys
):
    folders = {"base": base_folder, "checkpoint": checkpoint_folder}
    out = tmp_path / "out.jsonl"
    out.write_text("")
    filled = [argument.format(**folders) for argument in arguments]
    assert main(["score", *WORDS, "-o", str(out), "--fresh", *filled]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("omni-msa: ") and captured.err.count("\n") == 1
    assert words in captured.err
    assert out.exists()


# --- one clip --------------------------------------------------------------------------------


def test_one_clip_is_a_card(run, folder):
    code, out, _ = run("score", folder / "b.wav")
    assert code == 0
    assert "score" in out and "sidecar b.txt" in out and "contribution" in out
    assert "│" in out and "with nothing shown" in out


def test_one_clip_as_json_is_one_object(run, folder):
    code, out, err = run("score", folder / "b.wav", "--json", "--quiet")
    record = json.loads(out)
    assert (code, err) == (0, "")
    assert record["clip"] == str(folder / "b.wav") and record["error"] is None
    assert record["range"] == [-3.0, 3.0] and -3 <= record["score"] <= 3
    assert set(record["ablation"]["subsets"]) == {"", "T", "A", "TA"}
    total = sum(record["ablation"]["contribution"].values())
    assert total == pytest.approx(record["score"] - record["ablation"]["subsets"][""], abs=1e-5)


@pytest.mark.parametrize("option", [("I love this film.",), ("file",)])
def test_words_alone_and_words_of_a_file(run, tmp_path, option):
    words = option[0]
    if words == "file":
        words = str(tmp_path / "words.srt")
        Path(words).write_text("1\n00:00:00,000 --> 00:00:02,000\nI love this film.\n")
    code, out, _ = run("score", "--transcript", words, "--json")
    record = json.loads(out)
    assert code == 0 and record["clip"] == "(text)" and record["sha256"]
    assert record["modalities"]["audio"] is record["modalities"]["video"] is None
    assert record["modalities"]["text"].startswith("option")


def test_given_words_replace_those_beside_the_clip(run, folder):
    _, out, _ = run("score", folder / "b.wav", *WORDS, "--json")
    assert json.loads(out)["modalities"]["text"] == "option"


def test_score_without_ablation(run, folder):
    _, out, _ = run("score", folder / "b.wav", "--no-ablate", "--json")
    assert json.loads(out)["ablation"] is None


def test_score_drop_hides_a_modality_altogether(run, folder):
    _, out, _ = run("score", folder / "b.wav", "--drop", "audio", "--json")
    record = json.loads(out)
    assert record["modalities"]["audio"] is None
    assert set(record["ablation"]["subsets"]) == {"", "T"}


def test_ablate_drop_scores_with_and_without(run, folder):
    _, out, _ = run("ablate", folder / "b.wav", "--drop", "audio", "--json")
    record = json.loads(out)
    subsets, drop = record["ablation"]["subsets"], record["ablation"]["drop"]
    assert set(subsets) == {"TA", "T"} and set(drop) == {"audio"}
    assert drop["audio"]["delta"] == pytest.approx(subsets["T"] - record["score"], abs=1e-6)
    _, hidden, _ = run("score", folder / "b.wav", "--drop", "audio", "--json")
    assert json.loads(hidden)["score"] == pytest.approx(subsets["T"], abs=1e-4)


def test_one_clip_that_fails_is_one_line_and_exit_3(run, folder):
    code, out, err = run("score", folder / "c.wav")
    assert (code, out) == (3, "")
    assert err.startswith("omni-msa: ") and err.count("\n") == 1 and "c.wav" in err


@pytest.mark.parametrize("name", ["c.wav", "no_such_clip.wav"])
def test_one_clip_that_fails_is_still_one_json_object(run, folder, name):
    code, out, err = run("score", folder / name, "--json", "--quiet")
    record = json.loads(out)
    assert code == 3 and record["score"] is None
    assert record["error"]["type"] == "MediaError" and name in record["error"]["message"]
    assert err.count("\n") == 1  # errors are no notices


def test_dropping_all_that_the_clip_has_fails_that_clip(run, folder):
    code, out, err = run("score", folder / "a.wav", "--drop", "audio,text")
    assert (code, out) == (3, "") and err.count("\n") == 1


# --- several clips ---------------------------------------------------------------------------


def test_several_clips_are_lines(run, folder):
    code, out, err = run("score", folder)
    assert code == 3
    lines = out.splitlines()
    assert lines[:2] == [f"3 clips in {folder}/", "scores from -3 (negative) to +3 (positive)"]
    table = lines[lines.index("") + 1 :]
    assert table[0].split()[:2] == ["clip", "score"] and table[3].split() == ["c.wav", "failed"]
    assert err.count("c.wav") == 1 and out.count("c.wav") == 1  # why it failed is said once
    assert "3 of 3 clips" in err and "3 of 3 clips" not in out


def test_a_folder_as_json_is_an_array_in_order(run, folder):
    code, out, err = run("score", folder, "--json", "--quiet")
    rows = json.loads(out)
    assert code == 3 and [Path(row["clip"]).name for row in rows] == ["a.wav", "b.wav", "c.wav"]
    assert [row["error"] is None for row in rows] == [True, True, False]
    assert err.count("\n") == 1


@pytest.mark.parametrize("how", ["folder", "glob", "manifest"])
def test_what_may_hold_several_is_an_array_even_with_one(run, tmp_path, how):
    write_wav(tmp_path / "a.wav")
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('{"clip": "a.wav", "label": 1.5}\n')
    argument = {"folder": tmp_path, "glob": tmp_path / "*.wav", "manifest": manifest}[how]
    code, out, _ = run("score", argument, "--json")
    (row,) = json.loads(out)
    assert code == 0 and row.get("label") == (1.5 if how == "manifest" else None)


# --- output files ----------------------------------------------------------------------------


def read_rows(path: Path) -> list[dict]:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    with open(path, encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            return list(csv.DictReader(file))
        return [json.loads(line) for line in file]


@pytest.mark.parametrize(
    "suffix", [".jsonl", *(pytest.param(s, marks=pytest.mark.slow) for s in (".csv", ".parquet"))]
)
def test_rows_go_to_a_file_and_a_rerun_does_nothing(run, folder, tmp_path, suffix, monkeypatch):
    output = tmp_path / f"out{suffix}"
    code, out, err = run("score", folder, "-o", output)
    assert (code, out) == (3, "")
    assert "2 scored, 1 failed" in err
    rows = read_rows(output)
    assert sorted(Path(row["clip"]).name for row in rows) == ["a.wav", "b.wav", "c.wav"]

    def refuse(*_: object) -> None:
        raise AssertionError("the scorer was called")

    monkeypatch.setattr("omni_msa.scoring.scorer.Scorer.score_prepared", refuse)
    code, out, err = run("score", folder, "-o", output)
    assert (code, out) == (3, "")  # one of the rows is still a failure
    assert "0 scored, 0 failed, 3 already there" in err and "1 failed in all" in err
    assert read_rows(output) == rows


@pytest.mark.slow
def test_json_of_a_rerun_shows_earlier_rows_too(run, folder, tmp_path):
    output = tmp_path / "out.jsonl"
    _, first, _ = run("score", folder, "-o", output, "--json")
    _, again, _ = run("score", folder, "-o", output, "--json")
    assert json.loads(again) == json.loads(first)


@pytest.mark.slow
def test_other_settings_are_not_mixed_into_a_file_unless_it_is_started_anew(run, folder, tmp_path):
    output = tmp_path / "out.jsonl"
    run("score", folder, "-o", output)
    before = output.read_bytes()
    code, out, err = run("score", folder, "-o", output, "--no-ablate")
    assert (code, out) == (2, "") and "--fresh" in err and err.count("\n") == 1
    assert output.read_bytes() == before
    code, _, _ = run("score", folder, "-o", output, "--no-ablate", "--fresh")
    assert code == 3 and all(row["ablation"] is None for row in read_rows(output) if row["score"])


@pytest.mark.slow
def test_a_failed_clip_is_tried_again_on_request(run, folder, tmp_path):
    output = tmp_path / "out.jsonl"
    run("score", folder, "-o", output)
    code, _, err = run("score", folder, "-o", output, "--retry-failed")
    assert code == 3 and "0 scored, 1 failed, 2 already there" in err
    assert len(read_rows(output)) == 3


@pytest.mark.slow
@pytest.mark.parametrize(("number", "ending"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_ended_run_keeps_finished_rows(run, tmp_path, model, number, ending):
    clips = tmp_path / "clips"
    clips.mkdir()
    for seed in range(30):
        write_wav(clips / f"{seed:02d}.wav", seconds=1, seed=seed)
    output = tmp_path / "out.jsonl"
    command = ["score", str(clips), "-o", str(output), "--batch-size", "1"]
    program = subprocess.Popen(
        [sys.executable, "-m", "omni_msa", *command, *model],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while program.poll() is None and time.monotonic() < deadline:
        if output.exists() and output.read_bytes().count(b"\n") >= 3:
            break
        time.sleep(0.02)
    os.killpg(program.pid, number)  # as a terminal does: to the workers as well
    out, err = program.communicate(timeout=60)
    assert (program.returncode, out) == (ending, "")
    assert "interrupted; finished rows are in" in err and "Traceback" not in err
    kept = len(read_rows(output))
    assert 3 <= kept < 30
    code, _, err = run(*command)
    assert code == 0 and f"{30 - kept} scored, 0 failed, {kept} already there" in err
    assert len({row["clip"] for row in read_rows(output)}) == 30


@pytest.mark.parametrize("suffix", ["csv", pytest.param("parquet", marks=pytest.mark.slow)])
def test_a_rerun_prints_nested_records_whatever_the_file_holds(tmp_path, capsys, suffix):
    out = tmp_path / f"r.{suffix}"
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('{"text": "I love it.", "id": 7}\n{"text": "So bad.", "id": "b"}\n')
    arguments = ["score", str(manifest), "-o", str(out), "--json", "--quiet"]
    documents = []
    for _ in range(2):
        assert main(arguments) == 0
        documents.append(json.loads(capsys.readouterr().out))
    first, again = documents
    assert [row["id"] for row in first] == [row["id"] for row in again] == ["7", "b"]
    for one, other in zip(first, again, strict=True):
        assert other["score"] == pytest.approx(one["score"], abs=1e-9)
        assert other["ablation"]["subsets"] == pytest.approx(one["ablation"]["subsets"])
        assert set(other) == set(one) and isinstance(other["modalities"], dict)
