"""A study on a user's own manifest: planned first, made once, measured as its rows say."""

from __future__ import annotations

import csv
import json
import re
import shutil

import numpy as np
import pytest
from conftest import MEDIA, ROOT
from test_train import clips as training_clips
from test_train import lose_the_loss

from omni_msa.errors import ConfigError, TrainingError
from omni_msa.evaluation.evaluate import ScoredClip
from omni_msa.files.result_formats import read_records
from omni_msa.methods import TrainedBy
from omni_msa.options import MediaOptions, ModelOptions, TrainOptions
from omni_msa.training.data import TrainingData
from scripts.memory_feed import MemoryFeed
from scripts.study import running
from scripts.study.arms import make_arms, runs_of
from scripts.study.compare import main
from scripts.study.making import is_made, train_once
from scripts.study.plan import write_plan
from scripts.study.results import shown_less
from scripts.study.tables import escape

LABELS = {
    "train": {"angry.mp4": -2.4, "deadpan.mp4": 1.8, "glad.mp4": 2.6, "rotated.mov": 2.0,
              "sarcastic.mp4": -1.8},
    "valid": {"variable_rate.mkv": -2.0, "subtitles.mkv": 1.4},
    "test": {"sad.mp4": -2.2, "face_alone.mp4": 1.0, "no_audio.webm": 2.2, "audio_only.mp3": -1.5},
}  # fmt: skip
READOUTS = "regression,verbalizer,probe"
TA, TAV = frozenset({"text", "audio"}), frozenset({"text", "audio", "video"})


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Sample clips, with made-up labels in a column of their own name."""
    path = tmp_path_factory.mktemp("own") / "my_clips.jsonl"
    rows = [
        {"clip": str(ROOT / "sample_media" / name), "rating": label, "split": split}
        for split, labels in LABELS.items()
        for name, label in labels.items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def study(clips, base_folder, out, *more):
    return main([
        str(clips), "-o", str(out), "--model", str(base_folder), "--label-column", "rating",
        "--seeds", "1,2", "--modalities", "TAV,T", "--epochs", "1", "--batch-size", "4",
        "--lora-rank", "4", "--max-pixels", str(16 * 784), "--max-frames", "4",
        "--resamples", "50", "-q", *more,
    ])  # fmt: skip


@pytest.fixture(scope="module")
def watched(clips, base_folder, tmp_path_factory):
    """A study whose probe cannot be fitted: it needs eight clips, and there are five. Its folder,
    its exit code, and what there was whenever test clips began to be scored."""
    out = tmp_path_factory.mktemp("studies") / "study"
    moments = []
    score_clips = running.score_clips

    def watch(*arguments):
        plan = json.loads((out / "plan.json").read_text())
        moments.append((plan["comparisons"], [is_made(path) for path in (out / "runs").iterdir()]))
        return score_clips(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "score_clips", watch)
        code = study(clips, base_folder, out, "--readouts", READOUTS)
    return out, code, moments


@pytest.fixture
def results(watched):
    return watched[0]


def rows_of(out):
    return list(csv.DictReader((out / "results.csv").read_text().splitlines()))


def scores_of(out, run, shown):
    """The test clips' scores in a run's file, under what is shown; read as plain JSON."""
    lines = (out / "scores" / f"{run}.jsonl").read_text().splitlines()
    scores = {}
    for record in map(json.loads, lines):
        subsets = record["ablation"]["subsets"]
        name = "".join(letter for letter in max(subsets, key=len) if letter in shown)
        if name:
            scores[record["clip"]] = (subsets[name], record["label"])
    return scores


@pytest.mark.slow
def test_the_plan_and_every_model_are_there_before_a_test_clip_is_scored(watched):
    assert watched[2] == [(5, [True, True])] * 3


@pytest.mark.slow
def test_the_plan_says_what_the_numbers_follow_from(results, clips):
    plan = json.loads((results / "plan.json").read_text())
    assert {name: split["clips"] for name, split in plan["splits"].items()} == {
        "train": 5, "valid": 2, "test": 4,
    }  # fmt: skip
    assert all(len(set(s["sha256"])) == s["clips"] for s in plan["splits"].values())
    assert plan["arguments"]["epochs"] == 1 and plan["arguments"]["data"] == str(clips)
    assert plan["primary_metric"].startswith("Mean absolute error") and plan["comparisons"] == 5
    assert "patience" in plan["stopping_rule"] and "Holm" in plan["test"]
    first, second, third = plan["arms"][:3]
    assert first["recipe"]["seed"] == [1, 2] and first["recipe"]["epochs"] == 1
    assert second["protocol"] == "test-time subset of TAV, packed"
    assert second["runs"] == first["runs"] and third["protocol"] == "nothing is trained"


@pytest.mark.slow
def test_the_tables_hold_what_the_scored_clips_give(results):
    out = results
    plan = json.loads((out / "plan.json").read_text())
    rows = {row["arm"]: row for row in rows_of(out)}
    assert list(rows) == [arm["name"] for arm in plan["arms"]]
    for arm in plan["arms"][:4]:
        letters = {"text": "T", "audio": "A", "video": "V"}
        shown = {letters[name] for name in arm["shown"]}
        maes = []
        for run in arm["runs"]:
            pairs = scores_of(out, run, shown).values()
            maes.append(np.mean([abs(score - label) for score, label in pairs]))
        row = rows[arm["name"]]
        assert row["state"] == "done" and row["failed"] == "0" and row["clips"] == "4"
        assert float(row["mae"]) == pytest.approx(np.mean(maes), abs=1e-5)
        if len(maes) > 1:
            assert float(row["mae_deviation"]) == pytest.approx(np.std(maes, ddof=1), abs=1e-5)
        cell = f"{float(row['mae']):.3f}"
        if row["mae_deviation"]:
            cell += f" ± {float(row['mae_deviation']):.3f}"
        start = f"| {row['readout']} | {row['shown']} | {row['protocol']} |"
        page = (out / "results.md").read_text()
        [line] = [line for line in page.splitlines() if line.startswith(start)]
        assert f"| {cell} |" in line
        paper = (out / "results.tex").read_text()
        names = f"{row['readout']} & {row['shown']} & "
        [line] = [line for line in paper.splitlines() if line.startswith(names)]
        assert f"& {escape(cell)} &" in line


@pytest.mark.slow
def test_the_paired_test_is_that_of_the_clips(results):
    """Computed once more from the rows: the same draws, means over seeds, twice the far share."""
    out = results
    plan = json.loads((out / "plan.json").read_text())
    errors = {}
    for arm in plan["arms"][:4]:
        shown = {name[0].upper() for name in arm["shown"]}
        runs = [scores_of(out, run, shown) for run in arm["runs"]]
        pairs = [list(run.values()) for run in runs]  # in the order of the manifest
        errors[arm["name"]] = np.abs(np.diff(pairs))[..., 0].mean(axis=0)
    first, *others = errors
    p_values = {}
    for row in rows_of(out):
        if row["arm"] not in others:
            continue
        change = errors[row["arm"]] - errors[first]
        generator = np.random.default_rng(0)
        draws = [change[generator.integers(4, size=4)].mean() for _ in range(50)]
        assert float(row["change"]) == pytest.approx(change.mean(), abs=1e-5)
        ends = [float(row["change_low"]), float(row["change_high"])]
        assert ends == pytest.approx(list(np.percentile(draws, (2.5, 97.5))), abs=1e-5)
        far = min(sum(d <= 0 for d in draws), sum(d >= 0 for d in draws))
        p_values[row["arm"]] = min(1.0, 2 * (far + 1) / 51)
        assert float(row["p"]) == pytest.approx(p_values[row["arm"]], abs=1e-5)
    smallest = min(p_values, key=p_values.get)
    [row] = [row for row in rows_of(out) if row["arm"] == smallest]
    assert float(row["p_holm"]) == pytest.approx(min(1.0, 5 * p_values[smallest]), abs=1e-5)


@pytest.mark.slow
def test_an_arm_that_failed_is_a_row_that_says_so(watched):
    out, code, _ = watched
    assert code == 3
    failed = [row for row in rows_of(out) if row["readout"] == "probe"]
    assert len(failed) == 2 and not any(row["mae"] or row["p"] for row in failed)
    assert all("5 clips to fit on; a probe needs 8" in row["state"] for row in failed)
    assert (out / "results.md").read_text().count("failed: make: 5 clips to fit on") == 2
    log = [json.loads(line) for line in (out / "runs.jsonl").read_text().splitlines()]
    ends = {(e["run"].split("-")[0], e["step"]): e["outcome"] for e in log if e["event"] == "end"}
    assert ends == {
        ("regression", "make"): "done", ("probe", "make"): "failed",
        ("regression", "score"): "done", ("verbalizer", "score"): "done",
    }  # fmt: skip


@pytest.mark.slow
def test_what_has_ended_is_not_done_again(
    results, clips, base_folder, tmp_path, monkeypatch, capsys
):
    def files():
        paths = [*out.glob("runs/*/*"), *out.glob("scores/*"), out / "plan.json"]
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}

    out = tmp_path / "study"
    shutil.copytree(results, out)
    before, table = files(), (out / "results.tex").read_text()
    for name in ("train_once", "load_scorer"):
        monkeypatch.setattr(running, name, None)  # nothing is trained, nothing is loaded to score
    assert study(clips, base_folder, out, "--readouts", READOUTS) == 3  # the probe is tried again
    assert files() == before and (out / "results.tex").read_text() == table
    assert "| probe-TAV" in (page := (out / "results.md").read_text())
    [line] = [line for line in page.splitlines() if line.startswith("| probe-TAV")]
    assert line.split(" | ")[3] == "2"  # attempts
    capsys.readouterr()
    assert study(clips, base_folder, out, "--readouts", READOUTS, "--epochs", "2") == 2
    assert "holds a study with another plan (arms)" in capsys.readouterr().err


@pytest.mark.slow
def test_with_retrain_each_subset_has_models_of_its_own(clips, base_folder, tmp_path):
    out = tmp_path / "study"
    more = ["--readouts", "regression", "--retrain", "--modalities", "TAV,TA", "--seeds", "1"]
    assert study(clips, base_folder, out, *more) == 0
    assert {row["protocol"] for row in rows_of(out)} == {"trained with these"}
    infos = [json.loads(p.read_text()) for p in out.glob("runs/*/omni_msa.json")]
    assert sorted(info["hide"] for info in infos) == [[], ["video"]]
    [path] = out.glob("scores/regression-TA-*.jsonl")
    records = read_records(path)
    assert all(record.modalities["video"] is None for record in records)
    scored = sum(record.score is not None for record in records)
    [row] = [row for row in rows_of(out) if row["shown"] == "TA"]
    assert (row["clips"], row["failed"]) == (str(scored), str(4 - scored))


@pytest.mark.slow
def test_the_paper_table_is_well_formed(results):
    lines = (results / "results.tex").read_text().splitlines()
    table = [line for line in lines if not line.startswith("%")]
    text = "\n".join(table)
    bare = re.sub(r"\\[{}\\&%$#_]", "", text)
    assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0
    assert not re.search(r"[_#%^~]", bare)
    assert [line for line in table if line.startswith("\\")] == [
        table[0], r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}",
    ]  # fmt: skip
    columns = len(re.match(r"\\begin\{tabular\}\{(\w+)\}", table[0])[1])
    rows = [line for line in table if line.endswith(r"\\")]
    assert len(rows) == 7 and all(len(re.findall(r"(?<!\\)&", r)) == columns - 1 for r in rows)


def test_names_are_escaped_for_latex():
    assert escape(r"50% of a_b & {c}~^#$\ ") == (
        r"50\% of a\_b \& \{c\}\textasciitilde{}\textasciicircum{}\#\$\textbackslash{} "
    )
    assert escape("-0.1 ± 0.2 [-1, 2] test-time 1e-3") == (
        r"$-$0.1 $\pm$ 0.2 [$-$1, 2] test-time 1e-3"
    )


def test_arms_are_readouts_by_subsets_and_share_their_runs():
    arms = make_arms(["regression", "generative:zero-shot"], [TAV, TA], [1, 2], {},
                     {"regression": {"head": "linear", "epochs": "7"}}, retrain=False)  # fmt: skip
    assert [arm.name for arm in arms] == [
        "regression TAV", "regression TA", "generative (zero-shot) TAV", "generative (zero-shot) TA"
    ]  # fmt: skip
    assert [run.seed for run in runs_of(arms)] == [1, 2, None]
    options = arms[0].options
    assert options.epochs == 7 and options.method_options["head"] == "linear"
    assert arms[2].way is TrainedBy.NOTHING
    own = make_arms(["regression"], [TAV, TA], [1], {}, {}, retrain=True)
    names = [run.name for run in runs_of(own)]
    assert len(names) == 2 and names[0] != runs_of(arms)[0].name  # another head, another folder


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"readouts": ["probe:zero-shot"]}, "verbalizer and generative can be read"),
        ({"readouts": ["regression", "regression"]}, "one readout or more, each once"),
        ({"seeds": []}, "one seed or more"),
        ({"settings": {"regression": {"head": "round"}}}, "round"),
        ({"settings": {"regression": {"depth": "2"}}}, "depth"),
        ({"settings": {"probe": {"penalty": "2"}}}, "no readout of this study"),
        ({"readouts": ["verbalizer"], "settings": {"verbalizer": {"epochs": "2"}}}, "nothing is"),
    ],
)
def test_arms_that_cannot_be_are_refused(changes, words):
    values = {"readouts": ["regression"], "subsets": [TAV], "seeds": [1], "settings": {}}
    with pytest.raises(ConfigError, match=words):
        make_arms(**values | changes, budget={}, retrain=False)


def test_a_clip_is_shown_what_it_has_of_a_subset():
    scored = [
        ScoredClip("whole", 1.0, 0.9, {"": 0.0, "T": 0.1, "V": 0.2, "TV": 0.9}),
        ScoredClip("silent", 1.0, 0.5, {"": 0.0, "V": 0.5}),
    ]
    assert [(c.name, c.score) for c in shown_less(scored, TA)] == [("whole", 0.1)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--modalities", "TX"], "--modalities TX: use each of T, A, V"),
        (["--seeds", "1,x"], "--seeds x: give whole numbers"),
        (["--set", "head=linear"], "give READOUT:NAME=VALUE"),
        (["--primary", "acc9", "--label-column", "rating"], "choose one of: mae"),
        (["--label-column", "nowhere"], "no column"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_made(clips, tmp_path, capsys, arguments, words):
    assert main([str(clips), "-o", str(tmp_path / "out"), *arguments]) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_run_that_broke_off_is_not_taken_for_a_made_one(base_folder, tmp_path, monkeypatch):
    train = training_clips([1.0, -1.5, 2.0, -0.5], seconds=0.5, num_frames=2)
    data = TrainingData(MemoryFeed(train), MemoryFeed(train))
    options = TrainOptions(epochs=1, batch_size=2, lora_rank=4, lora_alpha=4)
    model, media = ModelOptions(str(base_folder)), MediaOptions(**MEDIA)
    with monkeypatch.context() as patch:
        lose_the_loss(patch, 0)
        with pytest.raises(TrainingError, match="the loss is nan"):
            train_once(tmp_path, model, options, media, data)
    assert not is_made(tmp_path)
    train_once(tmp_path, model, options, media, data)
    assert is_made(tmp_path)


def test_a_folder_of_something_else_is_not_written_to(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ConfigError, match="is not empty and holds no plan.json"):
        write_plan(tmp_path, {"arms": []})
    (tmp_path / "notes.txt").unlink()
    assert write_plan(tmp_path, {"arms": [1]}) and not write_plan(tmp_path, {"arms": [1]})
    with pytest.raises(ConfigError, match=r"another plan \(arms\)"):
        write_plan(tmp_path, {"arms": [2]})
