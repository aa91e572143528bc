"""Figures are those of metrics.py on the right clips; nothing undefined reaches the JSON."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from omni_msa.errors import ConfigError, ManifestError, MediaError
from omni_msa.evaluation.evaluate import (
    ScoredClip,
    compare,
    differences_json,
    evaluate,
    family_of,
    over_seeds,
    require_labels,
    scored_clips,
    select,
)
from omni_msa.evaluation.metrics import FAMILIES, measure_mosi
from omni_msa.evaluation.resampling import Basis, bootstrap_intervals, paired_differences
from omni_msa.files.importers import DATASETS
from omni_msa.files.labels import LabelSpace
from omni_msa.files.record import Ablation, Answer, Record
from omni_msa.options import EvaluateOptions
from omni_msa.values import Clip

TABLE = ("T", "A", "V", "TA", "TV", "AV", "TAV")

MOSI, SIMS = FAMILIES["mosi"], FAMILIES["sims"]
QUICK = EvaluateOptions(resamples=40, seed=3)
ABLATE = replace(QUICK, ablate=True)
PROTOCOL = "test-time drop: one model"
CONSTANT = (0.25, "always +0.25 (mean of the training labels)")


def clip(name: str, label: float | None = 1.0, **changes) -> Clip:
    return Clip(path=Path(f"{name}.mp4"), id=name, label=label, **changes)


def scored(number: int = 12, seed: int = 0, noise: float = 0.7) -> list[ScoredClip]:
    """Clips with all subsets; the fewer modalities, the worse the score. Every fourth lacks sound.

    The labels do not depend on the seed.
    """
    labels = np.random.default_rng(99).uniform(-3, 3, number).round(1)
    rng = np.random.default_rng(seed)
    clips = []
    for i, label in enumerate(labels):
        names = ("", *TABLE) if i % 4 else ("", "T", "V", "TV")
        subsets = {n: float(label + rng.normal(0, noise * (4 - len(n)))) for n in names}
        score = subsets[names[-1]]
        clips.append(ScoredClip(f"clip{i}", float(label), score, subsets))
    return clips


def arrays(clips) -> tuple[np.ndarray, np.ndarray]:
    return np.array([c.score for c in clips]), np.array([c.label for c in clips])


def same(found: dict[str, float], expected: dict[str, float]) -> bool:
    return found.keys() == expected.keys() and np.array_equal(
        list(found.values()), list(expected.values()), equal_nan=True
    )


# --- which clips ------------------------------------------------------------------------------


def test_the_test_split_is_what_is_evaluated():
    clips = [clip("a", split="train"), clip("b", split="test"), clip("c", split="valid"), clip("d")]
    assert select(clips, None) == ([clips[1]], "test")
    assert select(clips, "valid") == ([clips[2]], "valid")


def test_without_splits_all_clips_are():
    clips = [clip("a"), clip("b")]
    assert select(clips, None) == (clips, "all")


@pytest.mark.parametrize(
    ("clips", "split", "message"),
    [
        ([clip("a", split="train"), clip("b", split="valid")], None,
         "no clip of split 'test'; the manifest has: train, valid"),
        ([clip("a", split="train")], "dev", "no clip of split 'dev'; the manifest has: train"),
        ([clip("a")], "test", "no clip of split 'test'; the manifest has: no splits"),
    ],
)  # fmt: skip
def test_a_split_that_cannot_be_evaluated_is_one_clear_line(clips, split, message):
    with pytest.raises(ManifestError, match=message):
        select(clips, split)


def test_what_is_measured_needs_labels():
    require_labels([clip("a")])
    message = "2 of 3 clips have no label, such as b; evaluation needs one each"
    with pytest.raises(ManifestError, match=message):
        require_labels([clip("a"), clip("b", None), clip("c", None)])


def test_labels_are_asked_of_the_split_alone():
    clips = [clip("a", None, split="train"), clip("b", split="test")]
    assert select(clips, None)[0] == [clips[1]]


def test_the_family_is_asked_for_or_the_data_sets_own_or_suggested_by_the_range():
    own = [clip("a", dataset="sims"), clip("b", dataset="simsv2"), clip("c")]
    assert family_of(own, "auto", LabelSpace(-3, 3)) == (SIMS, None)
    assert family_of(own, "mosi", LabelSpace(-1, 1)) == (MOSI, None)
    family, notice = family_of([clip("a")], "auto", LabelSpace(-3.0, 3.0))
    assert family is MOSI and notice == "metrics of the mosi family, by the label range -3..3"
    family, notice = family_of([clip("a", dataset="unheard of")], "auto", LabelSpace(-1.0, 1.0))
    assert family is SIMS and "sims family" in notice


@pytest.mark.parametrize("label_range", [(1.0, 5.0), (0.0, 1.0), (-5.0, 1.0)])
def test_classes_are_counted_in_the_ranges_alone_that_have_them(label_range):
    family, notice = family_of([clip("a")], "auto", LabelSpace(*label_range))
    assert list(family.titles) == ["mae", "corr", "r2"]
    low, high = label_range
    assert f"general family: the label range {low:g}..{high:g} is neither" in notice
    assert family_of([clip("a")], "mosi", LabelSpace(*label_range)) == (MOSI, None)
    labels = np.array([low, high, high])
    assert family.measure(labels, labels) == pytest.approx({"mae": 0, "corr": 1, "r2": 1})


def test_data_sets_of_two_families_have_none_of_their_own():
    mixed = [clip("a", dataset="mosi"), clip("b", dataset="sims")]
    assert {DATASETS[c.dataset].facts.family for c in mixed} == {"mosi", "sims"}
    family, notice = family_of(mixed, "auto", LabelSpace(-3.0, 3.0))
    assert family is MOSI and notice is not None


def test_a_data_set_of_emotions_may_have_numbers_too():
    numbers = LabelSpace(-1.0, 1.0)
    assert family_of([clip("a", dataset="meld")], "auto", numbers) == (FAMILIES["meld"], None)
    emotions = LabelSpace.of_classes(("joy", "anger"))
    assert family_of([clip("a", dataset="meld")], "auto", emotions)[0].name == "emotion"
    family, notice = family_of([clip("a", dataset="iemocap")], "auto", numbers)
    assert family is SIMS and notice is not None


def test_failed_rows_are_counted_and_left_out():
    clips = [clip("a", 1.0), clip("b", 2.0), clip("c", -1.0), clip("d", 0.5)]
    answer = Answer("so so", 0.0, parsable=False, in_range=True)
    records = [
        Record("a", "s", 0.5, ablation=Ablation({"": 0.1, "T": 0.5})),
        Record("b", "s", None, error={"type": "MediaError", "message": "damaged"}),
        None,
        Record("d", "s", 0.0, answer=answer),
    ]
    found, failed = scored_clips(clips, records, LabelSpace())
    assert failed == 2
    assert found == [
        ScoredClip("a", 1.0, 0.5, {"": 0.1, "T": 0.5}),
        ScoredClip("d", 0.5, 0.0, {}, answer),
    ]


def test_nothing_scored_is_nothing_to_evaluate():
    with pytest.raises(MediaError, match="not one clip could be scored"):
        scored_clips([clip("a")], [Record("a", None, None)], LabelSpace())


# --- figures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [MOSI, SIMS])
def test_figures_are_the_metrics_of_the_scores(family):
    clips = scored()
    predictions, labels = arrays(clips)
    found = evaluate("new", clips, family, CONSTANT, QUICK, failed=2)
    assert found.figures.num_clips == 12 and found.failed == 2
    assert same(found.figures.values, family.measure(predictions, labels))
    intervals = bootstrap_intervals(family.measure, predictions, labels, 40, seed=3)
    assert found.figures.intervals == intervals
    other = evaluate("new", clips, family, CONSTANT, replace(QUICK, seed=4)).figures
    assert other.values == found.figures.values and other.intervals != intervals


def test_the_mean_predictor_always_says_the_same():
    clips = scored()
    _, labels = arrays(clips)
    found = evaluate("new", clips, MOSI, CONSTANT, QUICK)
    assert found.baseline["mae"] == pytest.approx(np.abs(labels - 0.25).mean())
    assert math.isnan(found.baseline["corr"])
    assert found.baseline_name == "always +0.25 (mean of the training labels)"


def answered(clips, unparsable=()):
    """The clips as a method gives them that parses its scores from text."""
    clips = [replace(c, answer=Answer(f"{c.score:+.1f}", c.score, True, True)) for c in clips]
    for i in unparsable:
        clips[i] = replace(clips[i], score=0.0, answer=Answer("well", 0.0, False, True))
    return clips


def test_unparsable_answers_count_as_zero_and_are_also_left_out():
    clips = answered(scored(8), unparsable=(1, 5))
    clips[6] = replace(clips[6], score=3.0, answer=Answer("+9", 3.0, True, False))
    found = evaluate("new", clips, MOSI, CONSTANT, QUICK)
    assert found.answers == {"unparsable": 0.25, "out_of_range": 0.125}
    assert same(found.figures.values, measure_mosi(*arrays(clips)))
    readable = [c for c in clips if c.answer.parsable]
    assert found.parsable_only.num_clips == 6
    assert same(found.parsable_only.values, measure_mosi(*arrays(readable)))
    told = found.to_json()
    assert told["unparsable_excluded"]["clips"] == 6 and told["said"]["unparsable"] == 0.25


def test_a_model_that_says_nothing_of_use_still_has_figures():
    clips = answered(scored(), unparsable=range(12))
    found = evaluate("new", clips, MOSI, CONSTANT, QUICK)
    assert found.answers["unparsable"] == 1.0 and found.parsable_only is None
    assert found.to_json()["unparsable_excluded"] is None


def test_scores_that_no_text_was_parsed_for_have_no_unparsable_share():
    told = evaluate("new", scored(), MOSI, CONSTANT, QUICK).to_json()
    assert "said" not in told and "unparsable_excluded" not in told and "ablation" not in told


# --- the ablation table -----------------------------------------------------------------------


def test_the_table_has_seven_rows_on_clips_with_all_modalities():
    clips = scored()
    complete = [c for c in clips if "TAV" in c.subsets]
    assert len(complete) == 9
    labels = np.array([c.label for c in complete])
    whole = np.array([c.subsets["TAV"] for c in complete])
    table = evaluate("new", clips, MOSI, CONSTANT, ABLATE).ablation
    assert list(table) == ["T", "A", "V", "TA", "TV", "AV", "TAV"]
    for name, row in table.items():
        shown = np.array([c.subsets[name] for c in complete])
        assert row.figures.num_clips == 9
        assert same(row.figures.values, measure_mosi(shown, labels))
        assert row.change == paired_differences(measure_mosi, whole, shown, labels, 40, 3)
        change = row.figures.values["mae"] - table["TAV"].figures.values["mae"]
        assert row.change["mae"].value == pytest.approx(change)
    unchanged = table["TAV"].change["mae"]
    assert (unchanged.value, unchanged.low, unchanged.high) == (0.0, 0.0, 0.0)
    assert table["A"].change["mae"].value > 0  # a voice alone is worse, in these clips


def test_the_figures_beside_the_table_are_of_all_clips():
    clips = scored()
    found = evaluate("new", clips, MOSI, CONSTANT, ABLATE)
    plain = evaluate("new", clips, MOSI, CONSTANT, QUICK)
    assert found.figures == plain.figures and found.figures.num_clips == 12


def test_where_a_modality_is_hidden_the_table_has_the_others():
    silent = [c for c in scored() if "TAV" not in c.subsets]
    whole = max((name for c in silent for name in c.subsets), key=len)
    table = evaluate("new", silent, MOSI, CONSTANT, ABLATE).ablation
    assert list(table)[-1] == whole and all(set(name) <= set(whole) for name in table)
    nothing = [replace(c, subsets={"": 0.0}) for c in silent]
    with pytest.raises(ManifestError, match="there is nothing to ablate"):
        evaluate("new", nothing, MOSI, CONSTANT, ABLATE)


# --- two systems, several seeds ---------------------------------------------------------------


def test_systems_are_compared_clip_by_clip_whatever_their_order():
    first, second = scored(seed=1), scored(seed=2, noise=0.3)
    change, basis = compare(first, second, MOSI, QUICK)
    assert basis == Basis(12, "clips", 12)
    before, after = (measure_mosi(*arrays(c)) for c in (first, second))
    assert change["mae"].value == pytest.approx(after["mae"] - before["mae"]) and (
        change["mae"].value < 0
    )
    assert compare(first[::-1], second, MOSI, QUICK) == (change, basis)


def test_only_clips_that_both_have_scored_are_compared():
    first, second = scored(seed=1), scored(seed=2)
    change, basis = compare(first[:8], second[3:], MOSI, QUICK)
    assert basis.num_clips == 5
    assert (change, basis) == compare(first[3:8], second[3:8], MOSI, QUICK)
    with pytest.raises(ConfigError, match="no scored clip in common"):
        compare(first[:4], second[4:], MOSI, QUICK)


def test_a_system_does_not_differ_from_itself():
    change, _ = compare(scored(), scored(), MOSI, QUICK)
    assert all((d.value, d.low, d.high) == (0.0, 0.0, 0.0) for d in change.values())


def test_seeds_have_a_mean_and_a_deviation():
    runs = [evaluate(f"seed{i}", scored(seed=i), MOSI, CONSTANT, QUICK) for i in range(3)]
    spread = over_seeds(runs)
    values = [run.figures.values["mae"] for run in runs]
    assert spread["mae"] == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    assert list(spread) == list(MOSI.titles)
    assert math.isnan(over_seeds(runs[:1])["mae"][1])


# --- JSON -------------------------------------------------------------------------------------


def constant_scores(number: int) -> list[ScoredClip]:
    """One score for all, so that correlations are undefined everywhere."""
    subsets = dict.fromkeys(("", *TABLE), 0.5)
    return [ScoredClip(f"clip{i}", float(i % 3 - 1), 0.5, subsets) for i in range(number)]


@pytest.mark.parametrize("family", [MOSI, SIMS])
@pytest.mark.parametrize("clips", [constant_scores(1), constant_scores(5), scored()])
def test_json_has_no_nan(family, clips):
    found = evaluate("new", answered(clips), family, CONSTANT, ABLATE)
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    for key, value in found.figures.values.items():
        expected = None if math.isnan(value) else pytest.approx(value, abs=1e-6)
        assert told["metrics"][key] == expected
    assert told["baseline"]["corr"] is None
    assert told["metrics"]["clips"] == len(clips)
    assert told["ablation"]["T"]["change"]["mae"]["interval_95"]
    change, _ = compare(clips, clips[::-1], family, QUICK)
    json.dumps(differences_json(change), allow_nan=False)


def test_json_says_what_a_metric_is_and_how_the_table_was_made():
    notice = "metrics of the mosi family, by the label range -3..3"
    found = replace(
        evaluate("new", scored(), MOSI, CONSTANT, ABLATE, protocol=PROTOCOL), notices=(notice,)
    )
    told = found.to_json()
    assert told["titles"].keys() == found.figures.values.keys()
    assert told["protocol"] == PROTOCOL
    whole = [c for c in scored() if "TAV" in c.subsets]
    always = MOSI.measure(np.full(len(whole), CONSTANT[0]), np.array([c.label for c in whole]))
    assert told["ablation_baseline"]["mae"] == pytest.approx(always["mae"], abs=1e-6)
    assert told["notices"] == [notice] and told["family"] == "mosi" and told["system"] == "new"
