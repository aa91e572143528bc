"""Intervals are over what is independent: speakers or videos, where they are known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest

from omni_msa.errors import ConfigError
from omni_msa.evaluation.evaluate import ScoredClip, compare, evaluate, scored_clips
from omni_msa.evaluation.metrics import FAMILIES, measure_mosi
from omni_msa.evaluation.resampling import (
    Basis,
    bootstrap_intervals,
    check_units,
    paired_differences,
    units_of,
)
from omni_msa.files.labels import LabelSpace
from omni_msa.files.record import Record
from omni_msa.options import EvaluateOptions
from omni_msa.values import Clip

CONSTANT = (0.0, "always +0.00")


@dataclass(frozen=True)
class Of:
    speaker: str | None = None
    video: str | None = None


def videos(number: int, each: int = 3) -> list[Of]:
    return [Of(video=f"v{k % number}") for k in range(number * each)]


@pytest.mark.parametrize(
    ("clips", "basis"),
    [
        ([Of()] * 30, "30 clips"),
        (videos(12), "12 videos"),
        ([Of(f"s{k // 2}", f"v{k}") for k in range(40)], "20 speakers"),
        ([Of(f"s{k % 2}", f"v{k // 2}") for k in range(40)], "20 videos"),
        ([*videos(12), *[Of()] * 4], "16 videos"),  # those of no video stand alone
    ],
)
def test_the_largest_unit_that_is_known_is_drawn(clips, basis):
    units = units_of(clips)
    assert str(units.basis) == basis
    assert sorted(np.concatenate(units.members)) == list(range(len(clips)))


def test_a_few_groups_are_no_basis_and_this_is_said():
    units = units_of([Of("Ann" if k % 2 else "Bob", f"v{k % 5}") for k in range(30)])
    assert str(units.basis) == "30 clips"
    assert "since 2 speakers and 5 videos would be too few to draw from" in units.remark
    assert str(units_of(videos(5), "videos").basis) == "5 videos"
    assert str(units_of(videos(20), "clips").basis) == "60 clips"


def test_only_names_that_are_given_count_as_speakers():
    some = [Of(f"s{k % 12}" if k < 24 else None) for k in range(40)]
    units = units_of(some)
    assert str(units.basis) == "28 speakers"  # sixteen of them without a name
    assert "16 of 40 clips name no speaker; each counts as one of the speakers" in units.remark
    few = units_of([Of("Ann" if k % 2 else None) for k in range(40)])
    assert few.basis.unit == "clips" and "since 1 speaker would be too few" in few.remark
    with pytest.raises(ConfigError, match="one speaker is named of the 40 clips"):
        check_units([Of("Ann" if k % 2 else None) for k in range(40)], "speakers")


def test_clips_that_each_have_a_video_of_their_own_are_not_alike():
    for clips in ([Of(video=str(k)) for k in range(5)], [Of("Ann", "v")]):
        assert units_of(clips).basis.unit == "clips" and not units_of(clips).remark


@pytest.mark.parametrize(
    ("clips", "unit", "message"),
    [
        (videos(4), "speakers", "no speaker is named of the 12 clips; the manifest's column sp"),
        (videos(1), "videos", "one video is named of the 3 clips"),
    ],
)
def test_a_unit_that_cannot_be_drawn_is_one_line(clips, unit, message):
    with pytest.raises(ConfigError, match=f"--intervals-over {unit}: {message}"):
        check_units(clips, unit)
    check_units(clips, "auto")


def test_clips_of_a_video_that_are_all_alike_count_once():
    draw = np.random.default_rng(0)
    labels, first, second = (draw.uniform(-3, 3, 20) for _ in range(3))
    units = units_of([Of(video=str(k // 10)) for k in range(200)])
    many = [np.repeat(vector, 10) for vector in (labels, first, second)]
    found = bootstrap_intervals(measure_mosi, many[1], many[0], 50, 3, units)
    expected = bootstrap_intervals(measure_mosi, first, labels, 50, 3)
    for key, ends in expected.items():
        assert found[key] == pytest.approx(ends)
    alone = bootstrap_intervals(measure_mosi, many[1], many[0], 50, 3)
    assert found["mae"][1] - found["mae"][0] > 2 * (alone["mae"][1] - alone["mae"][0])
    change = paired_differences(measure_mosi, many[1], many[2], many[0], 50, 3, units)["mae"]
    once = paired_differences(measure_mosi, first, second, labels, 50, 3)["mae"]
    assert (change.low, change.high) == pytest.approx((once.low, once.high))


def test_of_one_unit_there_is_no_interval():
    labels = np.array([1.0, 2.0, -1.0])
    units = units_of(videos(1), "videos")
    for ends in bootstrap_intervals(measure_mosi, labels, labels, 20, 0, units).values():
        assert all(map(math.isnan, ends))
    change = paired_differences(measure_mosi, labels, labels + 1, labels, 20, 0, units)["mae"]
    assert change.value == 1.0 and math.isnan(change.low) and math.isnan(change.p)


def test_every_figure_says_what_it_rests_on():
    clips = [
        ScoredClip(str(k), k % 5 - 2.0, k % 3 - 1.0, {"": 0.0, "T": k % 3 - 1.0}, video=f"{k // 3}")
        for k in range(36)
    ]
    options = EvaluateOptions(ablate=True, resamples=20)
    found = evaluate("new", clips, FAMILIES["mosi"], CONSTANT, options)
    basis = Basis(36, "videos", 12)
    assert found.figures.basis == found.ablation["T"].figures.basis == basis
    told = found.to_json()
    assert told["metrics"]["intervals_over"] == {"unit": "videos", "number": 12}
    assert told["ablation"]["T"]["intervals_over"] == {"unit": "videos", "number": 12}
    assert compare(clips, clips, FAMILIES["mosi"], options)[1] == basis
    plain = EvaluateOptions(resamples=20, intervals_over="clips")
    other = evaluate("new", clips, FAMILIES["mosi"], CONSTANT, plain)
    assert other.figures.basis == Basis(36, "clips", 36)
    assert other.figures.values == found.figures.values
    assert other.figures.intervals != found.figures.intervals


def test_the_manifest_says_who_speaks_in_which_video():
    clips = [
        Clip(transcript="a", label=1.0, speaker="Ann", extra={"video": 7}),
        Clip(transcript="b", label=1.0, extra={"video": " v1 "}),
        Clip(transcript="c", label=1.0, extra={"video": ""}),
    ]
    scored, _ = scored_clips(clips, [Record(c.transcript, "s", 0.5) for c in clips], LabelSpace())
    assert [(c.speaker, c.video) for c in scored] == [("Ann", "7"), (None, "v1"), (None, None)]
