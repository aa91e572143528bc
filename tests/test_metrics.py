"""The metrics equal the published conventions, to the last digit, and their intervals hold."""

from __future__ import annotations

import math
import random
import struct
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score, f1_score, r2_score

from omni_msa.errors import ConfigError
from omni_msa.evaluation.metrics import (
    FAMILIES,
    emotion_family,
    mean_and_deviation,
    measure_meld,
    measure_mosi,
    measure_sims,
)
from omni_msa.evaluation.resampling import (
    Difference,
    bootstrap_intervals,
    holm,
    paired_differences,
)

pytestmark = pytest.mark.filterwarnings("error")

P = [0, 0, -0.0, 0.4, -0.4, 2.5, 3.5, -2.5, 1.5, 0.5]
Y = [1, -1, 0, 0, 0.2, 3, 3, -3, 2, 0]
EMOTIONS = ("neutral", "joy", "sadness", "anger")
SMOOTH = {"mae", "corr", "r2"}


# A second implementation: plain loops over Python floats, nothing shared with the first.


def single(value: float) -> float:
    return struct.unpack("f", struct.pack("f", value))[0]


def clip(value: float, limit: float) -> float:
    return min(max(value, -limit), limit)


def plain_mae(p: list[float], y: list[float]) -> float:
    return math.fsum(abs(a - b) for a, b in zip(p, y, strict=True)) / len(p)


def plain_corr(p: list[float], y: list[float]) -> float:
    if len(set(p)) == 1 or len(set(y)) == 1:
        return math.nan
    return float(pearsonr(p, y).statistic)


def plain_accuracy(p: list[int], y: list[int]) -> float:
    return sum(a == b for a, b in zip(p, y, strict=True)) / len(p) if p else math.nan


def plain_weighted_f1(p: list[int], y: list[int]) -> float:
    total = 0.0
    for c in sorted(set(y)):
        hits = sum(a == c and b == c for a, b in zip(p, y, strict=True))
        total += 2 * hits / (p.count(c) + y.count(c)) * y.count(c)
    return total / len(y) if y else math.nan


def plain_bin(value: float, cuts: list[float]) -> int:
    """Intervals open on the left and closed on the right."""
    return sum(single(value) > single(cut) for cut in cuts)


def plain_mosi(p: list[float], y: list[float]) -> dict[str, float]:
    kept = [(a, b) for a, b in zip(p, y, strict=True) if b != 0]
    has0 = [int(a >= 0) for a in p], [int(b >= 0) for b in y]
    non0 = [int(a > 0) for a, _ in kept], [int(b > 0) for _, b in kept]

    def rounded(limit: float) -> float:
        return plain_accuracy(
            [round(clip(a, limit)) for a in p], [round(clip(b, limit)) for b in y]
        )

    return {
        "mae": plain_mae(p, y),
        "corr": plain_corr(p, y),
        "acc7": rounded(3),
        "acc5": rounded(2),
        "acc2_has0": plain_accuracy(*has0),
        "f1_has0": plain_weighted_f1(*has0),
        "acc2_non0": plain_accuracy(*non0),
        "f1_non0": plain_weighted_f1(*non0),
    }


def plain_sims(p: list[float], y: list[float]) -> dict[str, float]:
    p, y = [clip(a, 1) for a in p], [clip(b, 1) for b in y]

    def binned(cuts: list[float], pairs: list[tuple[float, float]]) -> tuple[list[int], list[int]]:
        return [plain_bin(a, cuts) for a, _ in pairs], [plain_bin(b, cuts) for _, b in pairs]

    pairs = list(zip(p, y, strict=True))
    weak = [(a, b) for a, b in pairs if single(-0.4) <= single(b) <= single(0.4)]
    variable = len(set(y)) > 1
    return {
        "mae": plain_mae(p, y),
        "corr": plain_corr(p, y),
        "acc2": plain_accuracy(*binned([0], pairs)),
        "f1": plain_weighted_f1(*binned([0], pairs)),
        "acc3": plain_accuracy(*binned([-0.1, 0.1], pairs)),
        "acc5": plain_accuracy(*binned([-0.7, -0.1, 0.1, 0.7], pairs)),
        "acc2_weak": plain_accuracy(*binned([0], weak)),
        "r2": float(r2_score(y, p)) if variable else math.nan,
    }


def random_vectors(seed: int, limit: float) -> tuple[list[float], list[float]]:
    """Labels on a grid or free, predictions with zeros, halves, cuts, outliers, or all the same."""
    draw = random.Random(seed)
    size = draw.choice([1, 2, 3, 10, 30, 60])
    special = [0.0, -0.0, 0.5, 1.5, 2.5, -0.5, -2.5, 0.1, -0.1, 0.7, -0.7, 0.4, -0.4, 9.0, -9.0]

    def value() -> float:
        return draw.choice([draw.choice(special), draw.uniform(-1.2, 1.2) * limit, 0.0])

    def grid() -> float:
        return draw.randint(-5, 5) * limit / 5

    p, y = [value() for _ in range(size)], [draw.choice([value, grid])() for _ in range(size)]
    if seed % 10 == 0:
        p = [value()] * size
    if seed % 25 == 0:
        y = [grid()] * size
    return p, y


def assert_same(ours: dict[str, float], theirs: dict[str, float], where: str) -> None:
    assert list(ours) == list(theirs)
    for key, value in ours.items():
        if key in SMOOTH and not math.isnan(value):
            assert value == pytest.approx(theirs[key], abs=1e-12, rel=1e-12), (where, key)
        else:
            assert value == theirs[key] or math.isnan(value) and math.isnan(theirs[key]), (
                where,
                key,
                value,
                theirs[key],
            )


def test_the_published_vectors():
    found = measure_mosi(np.array(P), np.array(Y))
    assert found["acc2_has0"] == 0.8
    assert found["acc2_non0"] == 5 / 7
    assert round(found["f1_non0"], 4) == 0.7262
    # by hand: 2.5 and 1.5 round to 2, -2.5 to -2, 0.5 to 0
    assert found["acc7"] == 6 / 10 and found["acc5"] == 8 / 10


@pytest.mark.parametrize(
    ("name", "plain", "limit"),
    [("mosi", plain_mosi, 3.0), pytest.param("sims", plain_sims, 1.0, marks=pytest.mark.slow)],
)
def test_no_difference_from_plain_loops_over_1000_vectors(name, plain, limit):
    undefined = 0
    for seed in range(1000):
        p, y = random_vectors(seed, limit)
        found = FAMILIES[name].measure(np.array(p), np.array(y))
        assert_same(found, plain(p, y), f"vector {seed}")
        undefined += math.isnan(found["corr"])
    assert 100 <= undefined <= 500  # the degenerate cases were there, and did not swallow the rest


@pytest.mark.slow
def test_two_class_scores_equal_scikit_learn():
    for seed in range(1000):
        p, y = (np.array(v) for v in random_vectors(seed, 3.0))
        found, polar = measure_mosi(p, y), y != 0
        assert found["acc2_has0"] == accuracy_score(y >= 0, p >= 0)
        assert found["f1_has0"] == f1_score(y >= 0, p >= 0, average="weighted"), seed
        if polar.any():
            assert found["acc2_non0"] == accuracy_score(y[polar] > 0, p[polar] > 0)
            theirs = f1_score(y[polar] > 0, p[polar] > 0, average="weighted")
            assert found["f1_non0"] == theirs, seed
        else:
            assert math.isnan(found["acc2_non0"]) and math.isnan(found["f1_non0"])


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_a_value_on_a_cut_falls_the_same_way_however_it_was_stored(kind):
    labels = np.array([-0.4, 0.4, 0.6, -0.6], dtype=kind)
    predictions = np.array([-1, -1, 1, -1], dtype=kind)
    assert measure_sims(predictions, labels)["acc2_weak"] == 0.5  # both ends included
    on, below = np.array([-0.7, -0.1, 0.1, 0.7], dtype=kind), np.array([-0.8, -0.3, 0, 0.4])
    assert measure_sims(on, below)["acc5"] == 1.0
    assert measure_sims(on[1:3], below[1:3])["acc3"] == 1.0


def test_the_two_families_treat_zero_and_the_range_differently():
    zero, one = np.zeros(4), np.array([1.0, 1.0, 0.2, 0.1])
    assert measure_mosi(zero, one)["acc2_has0"] == 1.0
    assert measure_sims(zero, one)["acc2"] == 0.0
    assert measure_mosi(one + 4, one)["mae"] == pytest.approx(4.0)
    assert measure_sims(one + 4, one)["mae"] == pytest.approx(1.7 / 4)


def test_extreme_values_give_numbers_or_nan_and_no_warnings():
    ramp = np.array([1.0, 2.0, 3.0])
    assert measure_mosi(ramp * 1e38, -ramp * 1e38)["corr"] == pytest.approx(-1.0)
    assert measure_mosi(ramp * 1e-40, ramp)["corr"] == pytest.approx(1.0)
    for noise in (ramp * 1e-200, 0.1 + ramp * 1e-16):  # constant, but for rounding
        assert math.isnan(measure_mosi(noise, ramp)["corr"])
        assert math.isnan(measure_sims(ramp, noise)["r2"])
    assert measure_sims(ramp, ramp * 1e-40)["r2"] < -1e70


def test_emotion_metrics_equal_scikit_learn():
    draw, family = np.random.default_rng(0), emotion_family(EMOTIONS)
    for size in [2, 5, 50, 500] * 25:
        y, p = draw.integers(4, size=size), draw.choice([0, 0, 1, 3], size=size)  # 2 is never said
        found = family.measure(p, y)
        assert found["accuracy"] == accuracy_score(y, p)
        theirs = f1_score(y, p, average="weighted", zero_division=0)
        assert found["weighted_f1"] == pytest.approx(theirs, abs=1e-15)
        per_class = f1_score(y, p, labels=range(4), average=None, zero_division=np.nan)
        ours = [found[f"f1_{name}"] for name in EMOTIONS]
        assert np.array_equal(ours, per_class, equal_nan=True)
        assert found["f1_sadness"] == 0.0 or not (y == 2).any()


@pytest.mark.parametrize("seed", range(8))
def test_melds_sentiments_equal_sklearns(seed):
    draw = np.random.default_rng(seed)
    y = draw.choice([-1.0, 0.0, 1.0], 60, p=[0.2, 0.8, 0.0] if seed % 2 else [0.3, 0.5, 0.2])
    p = np.clip(y + draw.normal(0, 0.6, 60), -1.2, 1.2)
    p[:4] = (0.5, -0.5, 0.51, -3.0)
    found = measure_meld(p, y)
    predicted = np.select([p < -0.5, p > 0.5], [-1.0, 1.0], 0.0)
    theirs = f1_score(y, predicted, average="weighted", zero_division=0)
    assert found["weighted_f1"] == pytest.approx(theirs, abs=1e-15)
    assert found["accuracy"] == accuracy_score(y, predicted)
    names, order = ("negative", "neutral", "positive"), [-1.0, 0.0, 1.0]
    per_class = f1_score(y, predicted, labels=order, average=None, zero_division=np.nan)
    assert np.array_equal([found[f"f1_{n}"] for n in names], per_class, equal_nan=True)
    assert found["mae"] == pytest.approx(np.abs(p - y).mean())


def test_every_key_has_a_title_and_a_heading():
    for family in [*FAMILIES.values(), emotion_family(EMOTIONS)]:
        keys = list(family.measure(np.array([0.0, 1.0]), np.array([1.0, 0.0])))
        assert keys == list(family.titles) == list(family.short)
        assert len(set(family.titles.values())) == len(set(family.short.values())) == len(keys)
        assert family.lower_is_better == frozenset({"mae"} & set(keys))
    ranges = {name: family.label_range for name, family in FAMILIES.items()}
    assert ranges == {
        "mosi": (-3, 3), "sims": (-1, 1), "meld": (-1, 1), "general": (-math.inf, math.inf)
    }  # fmt: skip
    assert emotion_family(EMOTIONS).label_range == (0, 3)


def systems(num_clips: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, a poor system and a clearly better one."""
    draw = np.random.default_rng(1)
    labels = draw.uniform(-3, 3, num_clips)
    poor, good = (labels + draw.normal(0, noise, num_clips) for noise in (1.5, 0.5))
    return labels, poor, good


def test_intervals_hold_the_estimate_and_repeat_with_the_seed():
    labels, poor, _ = systems()
    for measure in (measure_mosi, measure_sims):
        found = bootstrap_intervals(measure, poor, labels, resamples=200)
        for key, value in measure(poor, labels).items():
            low, high = found[key]
            assert low < value < high, key
        assert found == bootstrap_intervals(measure, poor, labels, resamples=200)
        assert found != bootstrap_intervals(measure, poor, labels, resamples=200, seed=1)


def test_the_interval_of_a_mean_is_as_wide_as_theory_says():
    labels = np.zeros(400)
    predictions = np.random.default_rng(2).uniform(0, 2, 400)
    low, high = bootstrap_intervals(measure_mosi, predictions, labels)["mae"]
    expected = 2 * 1.96 * predictions.std() / 20
    assert high - low == pytest.approx(expected, rel=0.1)


def test_resamples_without_a_value_are_left_out():
    labels = np.array([0.0, 0.0, 0.0, 2.0])  # a third of the resamples hold no polar clip
    found = bootstrap_intervals(measure_mosi, np.array([0.1, 0.2, 0.3, 1.0]), labels, resamples=200)
    assert found["acc2_non0"] == (1.0, 1.0)
    never = bootstrap_intervals(measure_mosi, np.ones(4), labels, resamples=50)
    assert all(math.isnan(end) for end in never["corr"])


def test_paired_differences():
    labels, poor, good = systems()
    same = paired_differences(measure_mosi, poor, poor, labels, resamples=50)
    assert set(same.values()) == {Difference(0.0, 0.0, 0.0, 1.0)}
    better = paired_differences(measure_mosi, poor, good, labels, resamples=200)
    change = measure_mosi(good, labels)["mae"] - measure_mosi(poor, labels)["mae"]
    assert better["mae"].value == pytest.approx(change, abs=1e-12)
    assert better["mae"].low < better["mae"].value < better["mae"].high < 0
    assert better["corr"].low > 0
    # the pairing is what makes a small, steady gain visible
    steady = paired_differences(measure_mosi, poor, labels + (poor - labels) * 0.98, labels, 200)
    low, high = bootstrap_intervals(measure_mosi, poor, labels, 200)["mae"]
    assert steady["mae"].high < 0
    assert steady["mae"].high - steady["mae"].low < (high - low) / 10


def test_the_p_value_counts_the_draws_on_the_far_side_of_no_change():
    labels, poor, good = systems(60)
    better = paired_differences(measure_mosi, poor, good, labels, resamples=99)["mae"]
    assert better.high < 0 and better.p == pytest.approx(2 / 100)
    small = poor + 0.02 * np.sign(np.random.default_rng(5).normal(size=len(labels)))
    found = paired_differences(measure_mosi, poor, small, labels, resamples=99)["mae"]
    generator, draws = np.random.default_rng(0), []
    for _ in range(99):
        i = generator.integers(len(labels), size=len(labels))
        errors = [np.abs(system[i] - labels[i]).mean() for system in (poor, small)]
        draws.append(errors[1] - errors[0])
    far = min(sum(d <= 0 for d in draws), sum(d >= 0 for d in draws))
    assert found.p == pytest.approx(min(1.0, 2 * (far + 1) / 100)) and far > 0
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(draws, (2.5, 97.5))))


def test_runs_of_several_seeds_are_compared_by_the_means_of_their_figures():
    labels, poor, good = systems(40)
    seeds = np.stack([poor, poor + 0.5])
    found = paired_differences(measure_mosi, seeds, good, labels, resamples=20)
    means = [np.mean([measure_mosi(run, labels)[key] for run in seeds]) for key in ("mae", "corr")]
    whole = measure_mosi(good, labels)
    assert found["mae"].value == pytest.approx(whole["mae"] - means[0])
    assert found["corr"].value == pytest.approx(whole["corr"] - means[1])


def test_holms_correction():
    # by hand: 4 x 0.005, 3 x 0.01, 2 x 0.03, and never less than the one before
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}, planned=4)
    assert found == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    found = holm({"a": 0.01, "b": math.nan}, planned=3)
    assert found["a"] == pytest.approx(0.03) and math.isnan(found["b"])
    assert holm({"a": 0.7, "b": 0.6}, planned=2) == {"a": 1.0, "b": 1.0}


def test_a_thousand_resamples_of_a_large_test_split_are_quick():
    labels, poor, _ = systems(4659)
    start = time.process_time()
    bootstrap_intervals(measure_mosi, poor, labels, resamples=200)
    assert time.process_time() - start < 5.0 / 1000 * 200


def test_mean_and_deviation_over_seeds():
    runs = [{"mae": 1.0, "corr": 0.5}, {"mae": 2.0, "corr": math.nan}, {"mae": 6.0, "corr": 0.7}]
    found = mean_and_deviation(runs)
    assert found["mae"] == (3.0, pytest.approx(math.sqrt((4 + 1 + 9) / 2)))
    assert all(math.isnan(part) for part in found["corr"])
    mean, deviation = mean_and_deviation(runs[:1])["mae"]
    assert mean == 1.0 and math.isnan(deviation)


@pytest.mark.parametrize(
    ("predictions", "labels", "told"),
    [
        ([1, 2, 3], [1, 2], "got 3 predictions, 2 labels"),
        ([], [], "at least one clip"),
        ([1, math.nan], [1, 2], "1 of 2 predictions are not finite, the first is number 1"),
        ([1, 2], [-math.inf, 2], "1 of 2 labels are not finite, the first is number 0"),
        ([1, 1e300], [1, 2], "not finite"),
        ([[1], [2]], [1, 2], "predictions must hold one number a clip, got shape (2, 1)"),
    ],
)
def test_bad_vectors_are_one_clear_line(predictions, labels, told):
    p, y = np.array(predictions, dtype=float), np.array(labels, dtype=float)
    measures: list[Callable[..., object]] = [family.measure for family in FAMILIES.values()]
    measures += [emotion_family(EMOTIONS).measure, partial(bootstrap_intervals, measure_mosi)]
    for measure in measures:
        with pytest.raises(ConfigError) as caught:
            measure(p, y)
        assert told in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: emotion_family(["joy"]), "two or more different classes"),
        (lambda: emotion_family(["joy", "joy"]), "two or more different classes"),
        (
            lambda: emotion_family(EMOTIONS).measure(np.array([4]), np.array([0])),
            "from 0 to 3 (neutral, joy, sadness, anger), got 4",
        ),
        (lambda: emotion_family(EMOTIONS).measure(np.array([0]), np.array([0.5])), "got 0.5"),
        (lambda: emotion_family(EMOTIONS).measure(np.array([-1]), np.array([0])), "got -1"),
        (lambda: bootstrap_intervals(measure_mosi, np.ones(2), np.ones(2), 0), "resamples must be"),
        (
            lambda: paired_differences(measure_mosi, np.ones(2), np.ones(3), np.ones(2)),
            "got 3 second, 2 labels",
        ),
        (lambda: mean_and_deviation([]), "no runs"),
        (lambda: mean_and_deviation([{"mae": 1.0, "acc7": 1.0}, {"mae": 1.0}]), "acc7"),
    ],
)
def test_bad_requests_are_refused(call, told):
    with pytest.raises(ConfigError) as caught:
        call()
    assert told in str(caught.value)
