"""Intervals hold nine of ten labels, come back from a checkpoint, and say why they are missing."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import MEDIA, make_checkpoint, make_content
from result_rows import good
from test_calibrate import frozen_model, labelled
from test_evaluate import CONSTANT, MOSI, QUICK
from test_render import shown

from omni_msa.display.card import card
from omni_msa.display.tables import print_evaluation, print_inspection
from omni_msa.errors import ModelError
from omni_msa.evaluation.coverage import coverage_of
from omni_msa.evaluation.evaluate import ScoredClip, evaluate, scored_clips
from omni_msa.evaluation.flat_table import table_rows, write_table
from omni_msa.files.labels import LabelSpace
from omni_msa.files.result_formats import read_records
from omni_msa.files.results import open_results
from omni_msa.methods.ridge import fit_ridge
from omni_msa.options import AblationOptions, MediaOptions, ModelOptions, TrainOptions
from omni_msa.scoring.checkpoint import Checkpoint, read_info
from omni_msa.scoring.inspection import inspect_checkpoint
from omni_msa.scoring.intervals import (
    FEWEST,
    HALF_WIDTH,
    Interval,
    Residuals,
    half_width,
    interval_of,
    intervals_record,
)
from omni_msa.scoring.scorer import Scorer
from omni_msa.training.data import TrainingData
from omni_msa.training.fit import calibrate
from omni_msa.training.trainer import Trainer
from omni_msa.values import Clip
from scripts.memory_feed import MemoryFeed

T, TA, TAV = (
    frozenset({"text"}),
    frozenset({"text", "audio"}),
    frozenset({"text", "audio", "video"}),
)
SMALL = {"seconds": 0.5, "num_frames": 2, "size": (56, 56)}
RECORD = {"TAV": {"clips": 30, HALF_WIDTH: 0.5}, "T": {"clips": 4, HALF_WIDTH: None}}


def score(scorer, **changes):
    content = make_content(**(SMALL | changes))
    return scorer.score_prepared([scorer.prepare(content)], AblationOptions(enabled=False))[0]


# --- the quantile ----------------------------------------------------------------------------


@pytest.mark.parametrize("number", [9, 10, 19, 50, 199])
def test_nine_of_ten_labels_lie_inside_whatever_the_errors_look_like(number):
    """The mean coverage is ceil(0.9 (n + 1)) / (n + 1), exactly, for any continuous error."""
    rng = np.random.default_rng(number)
    coverage = []
    for _ in range(2000):
        errors = np.abs(rng.standard_t(2, number + 40) + 0.3)
        coverage.append(np.mean(errors[number:] <= half_width(errors[:number].tolist())))
    expected = math.ceil(9 * (number + 1) / 10) / (number + 1)
    assert expected >= 0.9
    assert np.mean(coverage) == pytest.approx(expected, abs=0.012)


@pytest.mark.parametrize(
    ("number", "place"), [(8, None), (9, 9), (10, 10), (18, 18), (19, 18), (99, 90), (109, 99)]
)
def test_the_quantile_is_a_residual_and_of_fewer_than_nine_there_is_none(number, place):
    residuals = [float(n) for n in range(number, 0, -1)]
    assert half_width(residuals) == place
    assert (half_width([1.0] * FEWEST), half_width([1.0] * (FEWEST - 1))) == (1.0, None)


def test_residuals_are_kept_by_what_is_shown():
    whole = [Residuals(TAV, {T: 2.0, TA: 1.5, TAV: 0.1 * n}) for n in range(1, 11)]
    record = intervals_record(whole)
    assert list(record) == ["T", "TA", "TAV"]  # nothing that was not scored
    assert record["TAV"] == {"clips": 10, HALF_WIDTH: pytest.approx(1.0)}
    assert record["T"] == {"clips": 10, HALF_WIDTH: 2.0}
    few = [Residuals(T, {T: 3.0})] * 3
    assert intervals_record([*whole, *few])["T"] == {"clips": 13, HALF_WIDTH: 3.0}
    enough = [Residuals(T, {T: 0.5})] * FEWEST  # clips that have words alone: no others count
    assert intervals_record([*whole, *enough])["T"] == {"clips": FEWEST, HALF_WIDTH: 0.5}
    assert intervals_record([]) == {}


@pytest.mark.parametrize("width", [64, 320])
def test_a_clip_left_out_of_a_ridge_is_nearly_as_far_off_as_a_new_one(width):
    """A little less: docs/measurements.md has the shares."""
    generator = torch.Generator().manual_seed(0)
    shares = []
    for _ in range(100):
        line = torch.randn(width, 1, generator=generator) / math.sqrt(width)
        states = torch.randn(250, width, generator=generator)
        labels = states @ line + 0.5 * torch.randn(250, 1, generator=generator)
        fitted = fit_ridge(states[:50], labels[:50])
        errors = (labels[:50] - fitted.left_out).abs().flatten().tolist()
        new = (labels[50:] - states[50:] @ fitted.weight.T - fitted.bias).abs()
        shares.append(float((new <= half_width(errors)).float().mean()))
    assert 0.85 < np.mean(shares) < 0.93


def test_an_interval_ends_where_the_labels_do(checkpoint_folder, scorer):
    info = replace(scorer.checkpoint.info, intervals=RECORD)
    checkpoint = replace(scorer.checkpoint, info=info)
    assert interval_of(2.8, TAV, checkpoint).bounds == pytest.approx((2.3, 3.0))
    assert interval_of(-3.0, TAV, checkpoint).bounds == (-3.0, -2.5)


def test_every_reason_is_one_line(scorer):
    checkpoint, info = scorer.checkpoint, scorer.checkpoint.info

    def reason(shown=TAV, **changes) -> str:
        other = Checkpoint(checkpoint.folder, replace(info, **changes), checkpoint.method)
        found = interval_of(1.0, shown, other)
        assert found == Interval(absent=found.absent)
        return found.absent

    assert reason() == "the checkpoint keeps no validation residuals"
    assert reason(T, intervals=RECORD) == "4 validation clips with text alone; 9 are needed"
    names = "0 validation clips with text and audio alone; 9 are needed"
    assert reason(TA, intervals=RECORD) == names
    assert reason(label_space=LabelSpace.of_classes(["a", "b"])) == "a class has none"
    words = "read by regression, validated with generative"
    assert reason(method="generative", intervals=RECORD) == words
    zero = interval_of(1.0, TAV, Checkpoint(None, info, checkpoint.method))
    assert zero.absent == "zero-shot: no checkpoint, so nothing was validated"


# --- in the checkpoint ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kept(base_folder, tmp_path_factory):
    """A checkpoint that keeps half widths; its base is random."""
    out = tmp_path_factory.mktemp("kept") / "checkpoint"
    return make_checkpoint(base_folder, out, intervals=RECORD)


def test_what_is_kept_comes_back_and_is_in_every_record(kept, scorer):
    assert read_info(kept).intervals == RECORD
    loaded = Scorer.load(ModelOptions(checkpoint=str(kept)))
    record = score(loaded)
    low, high = max(record.score - 0.5, -3.0), min(record.score + 0.5, 3.0)
    assert record.interval == pytest.approx((low, high)) and record.interval_absent is None
    dropped = loaded.score(Clip(transcript="I love this film."))
    assert dropped.interval is None and "4 validation clips with text" in dropped.interval_absent
    other = loaded.fingerprint(AblationOptions())
    assert other != scorer.fingerprint(AblationOptions())  # rows with and without do not mix


def test_a_checkpoint_of_an_older_version_loads_and_says_that_it_has_none(kept, tmp_path, scorer):
    old = shutil.copytree(kept, tmp_path / "old")
    document = json.loads((old / "omni_msa.json").read_text())
    del document["intervals"]
    (old / "omni_msa.json").write_text(json.dumps(document))
    loaded = Scorer.load(ModelOptions(checkpoint=str(old)))
    record = score(loaded)
    assert record.interval is None and record.warnings == ()
    assert record.interval_absent == "the checkpoint keeps no validation residuals"
    same_as_ever = scorer.fingerprint(AblationOptions())  # its rows go on
    assert loaded.fingerprint(AblationOptions()) == same_as_ever


@pytest.mark.parametrize(
    "value",
    [
        [],
        {"TAV": 0.5},
        {"TAV": {"clips": 30}},
        {"TAV": {"clips": 30, HALF_WIDTH: -1}},
        {"TAV": {"clips": 0, HALF_WIDTH: 1.0}},
        {"TAV": {"clips": 30, HALF_WIDTH: "wide"}},
        {"TAV": {"clips": 30, HALF_WIDTH: math.inf}},
    ],
)
def test_what_cannot_be_is_refused(kept, tmp_path, value):
    document = json.loads((kept / "omni_msa.json").read_text()) | {"intervals": value}
    (tmp_path / "omni_msa.json").write_text(json.dumps(document))
    with pytest.raises(ModelError, match=r"omni_msa\.json .*(intervals|Infinity)"):
        read_info(tmp_path)


def test_inspect_shows_the_half_widths(kept, capsys):
    found = inspect_checkpoint(ModelOptions(checkpoint=str(kept)))
    assert found.to_json()["intervals"] == RECORD
    print_inspection(found)
    words = "90 %, by what is shown (clips): TAV ±0.50 (30); none with fewer than 9 clips: T (4)"
    assert words in capsys.readouterr().out
    print_inspection(replace(found, info=replace(found.info, intervals={})))
    assert "none: no validation residuals are kept" in capsys.readouterr().out


# --- where they come from ----------------------------------------------------------------------


@pytest.mark.slow
def test_training_keeps_the_residuals_of_the_epoch_that_is_kept(base_folder, tmp_path):
    contents = [*labelled(12), *labelled(2, seconds=None)]
    options = TrainOptions(epochs=2, batch_size=4, lora_rank=4, lora_alpha=4)
    trainer = Trainer(ModelOptions(model=str(base_folder)), options, MediaOptions(**MEDIA))
    data = TrainingData(MemoryFeed(contents), MemoryFeed(contents))
    info = trainer.run(data, tmp_path / "c", fresh=True)
    assert set(info.intervals) == {"T", "A", "V", "TA", "TV", "AV", "TAV"}
    assert {name: row["clips"] for name, row in info.intervals.items()} == {
        "T": 14, "A": 12, "V": 14, "TA": 12, "TV": 14, "AV": 12, "TAV": 12,
    }  # fmt: skip
    scorer = Scorer.load(ModelOptions(checkpoint=str(tmp_path / "c")))
    ablated = scorer.score_prepared([scorer.prepare(c) for c in contents], AblationOptions())
    for name in ("TAV", "TV"):  # the largest: of 12 clips all, of 14 too
        residuals = [
            abs(record.ablation.subsets[name] - content.clip.label)
            for record, content in zip(ablated, contents, strict=True)
            if name in record.ablation.subsets
        ]
        assert info.intervals[name][HALF_WIDTH] == pytest.approx(half_width(residuals), abs=1e-3)
    record = scorer.score_prepared([scorer.prepare(contents[0])], AblationOptions())[0]
    assert record.interval[0] <= record.score <= record.interval[1]
    hidden = scorer.score_prepared(
        [scorer.prepare(contents[0], frozenset({"audio"}))], AblationOptions(), frozenset({"audio"})
    )[0]
    width = info.intervals["TV"][HALF_WIDTH]
    assert hidden.interval[1] == pytest.approx(min(hidden.score + width, 3.0))


@pytest.mark.slow
def test_calibrate_keeps_what_leaving_one_out_says(base_folder, kept, tmp_path):
    """Not what the adapter's own checkpoint kept."""
    contents = [*labelled(12), *labelled(3, seconds=None)]
    frozen = frozen_model(base_folder, kept)
    info = calibrate(frozen, MemoryFeed(contents), tmp_path / "c", LabelSpace())
    assert {name: row["clips"] for name, row in info.intervals.items()} == {"TV": 3, "TAV": 12}
    assert info.intervals["TV"][HALF_WIDTH] is None
    largest = info.intervals["TAV"][HALF_WIDTH]  # of twelve clips, the largest
    assert largest >= info.metrics["leave_one_out_mae"]
    scorer = Scorer.load(ModelOptions(checkpoint=str(tmp_path / "c")))
    fitted = scorer.score_prepared(
        [scorer.prepare(c) for c in contents[:12]], AblationOptions(enabled=False)
    )
    fitted_errors = [abs(r.score - c.clip.label) for r, c in zip(fitted, contents, strict=False)]
    assert largest > max(fitted_errors)  # which have seen the label
    assert "3 validation clips" in score(scorer, seconds=None).interval_absent


# --- where they are shown ------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet", "xlsx"])
def test_every_format_holds_both_ends_or_the_reason(tmp_path, suffix):
    path = tmp_path / f"r.{suffix}"
    with_one = replace(good("a.mp4"), interval=(0.25, 1 / 3))
    without = replace(good("b.mp4"), interval_absent="a class has none")
    with open_results(path, "f1") as results:
        results.write(with_one)
        results.write(without)
    first, second = read_records(path)
    assert first.interval == (0.25, 1 / 3) and first.interval_absent is None
    assert second.interval is None and second.interval_absent == "a class has none"
    assert first.range == (-3.0, 3.0)


def test_the_card_shows_it_where_there_is_one():
    lines = shown(card(replace(good(), interval=(-0.4, 1.2)))).splitlines()
    assert lines[2].rstrip() == "  90 % interval -0.40 to +1.20"
    assert "interval" not in shown(card(good()))


def clips_with(*intervals) -> list[ScoredClip]:
    return [
        ScoredClip(f"c{i}", float(i), float(i), interval=interval)
        for i, interval in enumerate(intervals)
    ]


def test_coverage_counts_the_labels_inside():
    found = coverage_of(clips_with((-1.0, 0.0), (0.5, 0.75), (1.0, 3.0), None))
    assert found.num_clips == 3  # an end is inside
    assert found.share == pytest.approx(2 / 3) and found.width == pytest.approx(3.25 / 3)
    assert coverage_of(clips_with(None)) is None
    record = replace(good(), interval=(0.0, 1.5))
    (scored,), _ = scored_clips([Clip("a.mp4", label=2.0)], [record], LabelSpace())
    assert scored.interval == (0.0, 1.5)


def test_evaluate_reports_coverage_beside_the_metrics(tmp_path, capsys):
    clips = clips_with((-1.0, 0.0), (0.5, 0.75), (1.0, 3.0))
    evaluation = evaluate("c (regression)", clips, MOSI, CONSTANT, QUICK)
    assert evaluation.to_json()["intervals_90"] == {
        "clips": 3, "coverage": 0.666667, "interval_width": 1.083333,
    }  # fmt: skip
    print_evaluation([evaluation], {}, [])
    words = "90 % intervals: 66.7% of the labels of 3 clips lie inside, mean width 1.0833"
    assert words in capsys.readouterr().out
    bare = evaluate("d", clips_with(None, None, None), MOSI, CONSTANT, QUICK)
    assert "intervals_90" not in bare.to_json()
    rows = table_rows({"system": [evaluation], "against": [bare]})
    assert [(r["coverage"], r["interval_width"]) for r in rows] == [
        (0.666667, 1.083333), (None, None),
    ]  # fmt: skip
    for name in ("all.csv", "all.md"):
        write_table(tmp_path / name, rows)
        assert "None" not in (tmp_path / name).read_text()
    assert "| 0.6667 | 1.0833 |" in (tmp_path / "all.md").read_text()
