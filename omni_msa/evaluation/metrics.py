"""How far predictions are from labels, in the conventions that published tables are computed in.

The same name means different numbers on different data sets (MOSI's "has0" puts a zero with the
positives, CH-SIMS's "Acc-2" with the negatives), so a `Family` holds the measure of a data set and
a title for each key that spells its convention out. The conventions are those of MMSA
(github.com/thuiar/MMSA, `metricsTop.py`; weak Acc-2 and R2: github.com/thuiar/ch-sims-v2). Nothing
is rounded, and what is undefined is NaN. Shapes: N clips, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf

import numpy as np

from omni_msa.errors import ConfigError

Measure = Callable[[np.ndarray, np.ndarray], dict[str, float]]  # predictions [N], labels [N]
Names = dict[str, tuple[str, str]]  # key -> short name, title with its convention

NAN = float("nan")
SIMS_ACC3_CUTS = (-0.1, 0.1)
SIMS_ACC5_CUTS = (-0.7, -0.1, 0.1, 0.7)
SENTIMENTS = ("negative", "neutral", "positive")  # of MELD: labels -1, 0 and 1
SIMS_WEAK = 0.4  # the published comment says 0.6, the published code and numbers use 0.4


@dataclass(frozen=True)
class Family:
    """The metrics of a kind of data set, and what each of its keys is called.

    `measure` takes predictions and labels [N] and returns all keys of `titles`, in that order.
    `label_range` is the lowest and the highest label (of an emotion family: class indices).
    """

    name: str
    label_range: tuple[float, float]
    measure: Measure
    titles: dict[str, str]  # key -> full name, convention included
    short: dict[str, str]  # key -> column heading
    lower_is_better: frozenset[str] = frozenset()


def vectors(**inputs: Sequence[float] | np.ndarray) -> list[np.ndarray]:
    """The named inputs as float64 vectors [N] of one length, N > 0, finite in single precision.

    Raises:
        ConfigError: they are not that.
    """
    vectors = {name: np.asarray(values, dtype=np.float64) for name, values in inputs.items()}
    for name, vector in vectors.items():
        if vector.ndim != 1:
            raise ConfigError(f"{name} must hold one number a clip, got shape {vector.shape}")
    sizes = {name: len(vector) for name, vector in vectors.items()}
    if len(set(sizes.values())) > 1:
        counts = ", ".join(f"{size} {name}" for name, size in sizes.items())
        raise ConfigError(f"got {counts}; metrics need one of each for every clip")
    if not all(sizes.values()):
        raise ConfigError(f"got no {' and no '.join(sizes)}; metrics need at least one clip")
    for name, vector in vectors.items():
        bad = np.flatnonzero(~(np.abs(vector) <= np.finfo(np.float32).max))
        if len(bad):
            raise ConfigError(
                f"{len(bad)} of {len(vector)} {name} are not finite, the first is number {bad[0]} "
                f"(counting from 0): {vector[bad[0]]}; leave those clips out"
            )
    return list(vectors.values())


def _single(vector: np.ndarray) -> np.ndarray:
    """float32, in which MMSA decides classes: 0.4 lies on the cut, however it was stored."""
    return vector.astype(np.float32)


def _mae(predictions: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(np.abs(predictions - labels)))


def _constant(vector: np.ndarray) -> bool:
    """Whether all values are one in single precision: the rest would be rounding noise."""
    return bool(np.all(_single(vector) == _single(vector[:1])))


def _correlation(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Pearson's; NaN when either is constant."""
    if _constant(predictions) or _constant(labels):
        return NAN
    first, second = predictions - predictions.mean(), labels - labels.mean()
    value = (first @ second) / np.sqrt((first @ first) * (second @ second))
    return float(np.clip(value, -1.0, 1.0))


def _r2(predictions: np.ndarray, labels: np.ndarray) -> float:
    """1 - squared error / variance of the labels; NaN when the labels are constant."""
    if _constant(labels):
        return NAN
    deviations, errors = labels - labels.mean(), labels - predictions
    return float(1.0 - (errors @ errors) / (deviations @ deviations))


def _same(predicted: np.ndarray, true: np.ndarray) -> float:
    """Share of equal classes; NaN for none at all."""
    return float(np.mean(predicted == true)) if len(true) else NAN


def _class_f1(
    predicted: np.ndarray, true: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """F1 of each class [C], and how often each is true [C]; both inputs are indices below C.

    A class that is true but never predicted gets 0; one that is neither is NaN.
    """
    pairs = true.astype(np.intp) * num_classes + predicted
    confusion = np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
    support = confusion.sum(axis=1)
    either = support + confusion.sum(axis=0)  # 2 TP + FP + FN
    f1 = np.full(num_classes, NAN)
    np.divide(2.0 * confusion.diagonal(), either, out=f1, where=either > 0)
    return f1, support


def _weighted(f1: np.ndarray, support: np.ndarray) -> float:
    """Mean F1, each class weighted by how often it is true; NaN for no clips."""
    occurs = support > 0
    if not occurs.any():
        return NAN
    return float((f1[occurs] * support[occurs]).sum() / support.sum())


def _two_class(positive: np.ndarray, truly_positive: np.ndarray) -> tuple[float, float]:
    """Accuracy and weighted F1 of two boolean vectors."""
    f1, support = _class_f1(positive, truly_positive, 2)
    return _same(positive, truly_positive), _weighted(f1, support)


def measure_mosi(predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """All metrics of CMU-MOSI and CMU-MOSEI; predictions and labels [N], about -3 to 3.

    Raises:
        ConfigError: lengths differ, there are no clips, or a value is not finite.
    """
    predictions, labels = vectors(predictions=predictions, labels=labels)
    p, y = _single(predictions), _single(labels)
    acc2_has0, f1_has0 = _two_class(p >= 0, y >= 0)
    polar = y != 0
    acc2_non0, f1_non0 = _two_class(p[polar] > 0, y[polar] > 0)
    return {
        "mae": _mae(predictions, labels),
        "corr": _correlation(predictions, labels),
        "acc7": _same(np.round(np.clip(p, -3, 3)), np.round(np.clip(y, -3, 3))),
        "acc5": _same(np.round(np.clip(p, -2, 2)), np.round(np.clip(y, -2, 2))),
        "acc2_has0": acc2_has0,
        "f1_has0": f1_has0,
        "acc2_non0": acc2_non0,
        "f1_non0": f1_non0,
    }


def measure_sims(predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """All metrics of CH-SIMS and CH-SIMS v2; predictions and labels [N], clipped to -1 to 1.

    Raises:
        ConfigError: lengths differ, there are no clips, or a value is not finite.
    """
    predictions, labels = vectors(predictions=predictions, labels=labels)
    predictions, labels = np.clip(predictions, -1, 1), np.clip(labels, -1, 1)
    p, y = _single(predictions), _single(labels)

    def binned(cuts: Sequence[float]) -> float:
        edges = np.array(cuts, dtype=np.float32)  # side "left": open below, closed above
        return _same(np.searchsorted(edges, p), np.searchsorted(edges, y))

    acc2, f1 = _two_class(p > 0, y > 0)
    weak = np.abs(y) <= np.float32(SIMS_WEAK)
    return {
        "mae": _mae(predictions, labels),
        "corr": _correlation(predictions, labels),
        "acc2": acc2,
        "f1": f1,
        "acc3": binned(SIMS_ACC3_CUTS),
        "acc5": binned(SIMS_ACC5_CUTS),
        "acc2_weak": _same(p[weak] > 0, y[weak] > 0),
        "r2": _r2(predictions, labels),
    }


def measure_meld(predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """All metrics of MELD's sentiments: negative -1, neutral 0 and positive 1; a score is of the
    class that is nearest, halves neutral. Predictions and labels [N].

    Raises:
        ConfigError: lengths differ, there are no clips, or a value is not finite.
    """
    predictions, labels = vectors(predictions=predictions, labels=labels)
    predicted, true = (
        (np.round(np.clip(_single(vector), -1, 1)) + 1).astype(np.intp)
        for vector in (predictions, labels)
    )
    f1, support = _class_f1(predicted, true, len(SENTIMENTS))
    one_by_one = {f"f1_{name}": float(value) for name, value in zip(SENTIMENTS, f1, strict=True)}
    return {
        "weighted_f1": _weighted(f1, support),
        "accuracy": _same(predicted, true),
        **one_by_one,
        "mae": _mae(predictions, labels),
        "corr": _correlation(predictions, labels),
    }


def measure_general(predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """What has one meaning whatever the range of the labels; predictions and labels [N].

    Raises:
        ConfigError: lengths differ, there are no clips, or a value is not finite.
    """
    predictions, labels = vectors(predictions=predictions, labels=labels)
    return {
        "mae": _mae(predictions, labels),
        "corr": _correlation(predictions, labels),
        "r2": _r2(predictions, labels),
    }


def _measure_emotion(
    classes: tuple[str, ...], predictions: np.ndarray, labels: np.ndarray
) -> dict[str, float]:
    predictions, labels = vectors(predictions=predictions, labels=labels)
    for name, vector in (("predictions", predictions), ("labels", labels)):
        bad = np.flatnonzero((vector < 0) | (vector >= len(classes)) | (vector % 1 != 0))
        if len(bad):
            raise ConfigError(
                f"{name} must be class indices from 0 to {len(classes) - 1} "
                f"({', '.join(classes)}), got {vector[bad[0]]:g}"
            )
    predicted, true = predictions.astype(np.intp), labels.astype(np.intp)
    f1, support = _class_f1(predicted, true, len(classes))
    one_by_one = {f"f1_{name}": float(value) for name, value in zip(classes, f1, strict=True)}
    total = {"accuracy": _same(predicted, true), "weighted_f1": _weighted(f1, support)}
    return total | one_by_one


def _family(name: str, label_range: tuple[float, float], measure: Measure, names: Names) -> Family:
    short = {key: heading for key, (heading, _) in names.items()}
    titles = {key: title for key, (_, title) in names.items()}
    return Family(name, label_range, measure, titles, short, frozenset({"mae"} & set(names)))


_MOSI_NAMES: Names = {
    "mae": (
        "MAE",
        "Mean absolute error of the predictions as given (readouts stay in the label range)",
    ),
    "corr": ("Corr", "Pearson correlation of the predictions as given; undefined for a constant"),
    "acc7": ("Acc-7", "Acc-7: both clipped to -3..3 and rounded, halves to the even number"),
    "acc5": ("Acc-5", "Acc-5: both clipped to -2..2 and rounded, halves to the even number"),
    "acc2_has0": ("Acc-2 (has0)", "Acc-2, negative/non-negative: 0 counts as non-negative"),
    "f1_has0": (
        "F1 (has0)",
        "F1, negative/non-negative: 0 counts as non-negative; classes weighted by their labels",
    ),
    "acc2_non0": (
        "Acc-2 (non0)",
        "Acc-2, negative/positive: clips labelled exactly 0 left out; a prediction of 0 counts as "
        "negative",
    ),
    "f1_non0": (
        "F1 (non0)",
        "F1, negative/positive: clips labelled exactly 0 left out; a prediction of 0 counts as "
        "negative; classes weighted by their labels",
    ),
}
_SIMS_NAMES: Names = {
    "mae": ("MAE", "Mean absolute error, both clipped to -1..1"),
    "corr": ("Corr", "Pearson correlation, both clipped to -1..1; undefined for a constant"),
    "acc2": ("Acc-2", "Acc-2, non-positive/positive: 0 counts as non-positive"),
    "f1": (
        "F1",
        "F1, non-positive/positive: 0 counts as non-positive; classes weighted by their labels",
    ),
    "acc3": ("Acc-3", "Acc-3: cut at -0.1 and 0.1; a value on a cut belongs below it"),
    "acc5": ("Acc-5", "Acc-5: cut at -0.7, -0.1, 0.1 and 0.7; a value on a cut belongs below it"),
    "acc2_weak": (
        "Acc-2 (weak)",
        "Acc-2, non-positive/positive, of clips labelled -0.4 to 0.4, ends included; 0 counts as "
        "non-positive",
    ),
    "r2": ("R2", "Share of the labels' variance explained, both clipped to -1..1"),
}

_THREE = "negative, neutral and positive: the nearest of -1, 0 and 1, halves neutral"
_MELD_NAMES: Names = {
    "weighted_f1": ("F1 (weighted)", f"F1, {_THREE}; classes weighted by their labels"),
    "accuracy": ("Accuracy", f"Accuracy, {_THREE}"),
    **{f"f1_{name}": (f"F1 ({name})", f"F1 of the sentiment {name}") for name in SENTIMENTS},
    "mae": ("MAE", "Mean absolute error, negative being -1 and positive 1"),
    "corr": ("Corr", "Pearson correlation; undefined for a constant"),
}
_GENERAL_NAMES: Names = {
    "mae": ("MAE", "Mean absolute error, in units of the labels"),
    "corr": ("Corr", "Pearson correlation; undefined for a constant"),
    "r2": ("R2", "Share of the labels' variance explained"),
}

FAMILIES = {
    "mosi": _family("mosi", (-3.0, 3.0), measure_mosi, _MOSI_NAMES),
    "sims": _family("sims", (-1.0, 1.0), measure_sims, _SIMS_NAMES),
    "meld": _family("meld", (-1.0, 1.0), measure_meld, _MELD_NAMES),
    "general": _family("general", (-inf, inf), measure_general, _GENERAL_NAMES),
}


def emotion_family(classes: Sequence[str]) -> Family:
    """The metrics of emotion recognition over named classes (MELD, IEMOCAP, CHERMA).

    Predictions and labels are indices into `classes`. A class that is labelled but never predicted
    has an F1 of 0; the F1 of one that is neither is NaN and has no part in the weighted F1.

    Raises:
        ConfigError: fewer than two classes, or one named twice.
    """
    classes = tuple(classes)
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise ConfigError(f"emotion metrics need two or more different classes, got {classes}")
    names: Names = {
        "accuracy": ("Accuracy", f"Accuracy over {len(classes)} classes"),
        "weighted_f1": (
            "F1 (weighted)",
            f"F1, mean over {len(classes)} classes weighted by their labels",
        ),
    }
    names |= {f"f1_{c}": (f"F1 ({c})", f"F1 of the class {c}") for c in classes}
    measure = partial(_measure_emotion, classes)
    return _family("emotion", (0.0, len(classes) - 1.0), measure, names)


def findings_family(presence: Sequence[Sequence[float]]) -> Family:
    """Whether the likeliest finding of a heart record is one that it is labelled with.

    Predictions are places among E findings; a label is the number of a record, whose row in
    `presence` [N, E] says which findings it has.
    """
    table = np.array(presence, dtype=np.float64)
    title = "Share of records whose likeliest finding is one of their own"
    names: Names = {"accuracy": ("Accuracy", title)}

    def measure(predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        predictions, labels = vectors(predictions=predictions, labels=labels)
        return {"accuracy": float(table[labels.astype(int), predictions.astype(int)].mean())}

    return _family("findings", (0.0, table.shape[1] - 1.0), measure, names)


def mean_and_deviation(runs: Sequence[dict[str, float]]) -> dict[str, tuple[float, float]]:
    """Mean and sample deviation (N - 1) of each metric over runs that differ by their seed.

    The deviation of a single run is NaN, and so is everything about a metric that is undefined in
    one of the runs: a mean over the seeds that went well would flatter.

    Raises:
        ConfigError: no runs, or runs with different metrics.
    """
    if not runs:
        raise ConfigError("got no runs; a mean over seeds needs at least one")
    if any(set(run) != set(runs[0]) for run in runs):
        keys = sorted(set().union(*runs) - set(runs[0]).intersection(*runs))
        raise ConfigError(f"these metrics are not in every run: {', '.join(keys)}")
    table = {key: np.array([run[key] for run in runs]) for key in runs[0]}
    return {
        key: (float(values.mean()), float(values.std(ddof=1)) if len(runs) > 1 else NAN)
        for key, values in table.items()
    }
