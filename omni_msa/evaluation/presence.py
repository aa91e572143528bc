"""Which emotions or findings are present, several or none at once: probabilities against labels.

Of emotions, the conventions are the community's for CMU-MOSEI: one is present if its intensity is
above zero, and said to be if its probability is above a half; its weighted accuracy is the mean of
the shares of present and of absent clips that are told right, its weighted F1 that of the two
classes, each weighted by its labels. Of findings in heart records they are the usual ones: the area
under the ROC curve, F1 of what is present, and the share that is told right. Means are over names.
Shapes: N clips, E names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from omni_msa.evaluation.resampling import bootstrap_intervals, units_of

if TYPE_CHECKING:
    from omni_msa.evaluation.evaluate import ScoredClip
    from omni_msa.files.labels import LabelSpace
    from omni_msa.options import EvaluateOptions

PRESENT = 0.5  # a probability above it says so
TITLES = {
    "emotion": {
        "accuracy": "Weighted accuracy: mean of the shares of present and of absent that are right",
        "f1": "F1 of present and absent, weighted by their labels",
    },
    "finding": {
        "auc": "Area under the ROC curve",
        "f1": "F1 of what is present, said where the probability is above a half",
        "accuracy": "Share of records where that is right",
    },
}


@dataclass(frozen=True)
class PresenceFigures:
    """By name, and their `mean`: the figures of `TITLES`, each with its 95 % interval."""

    noun: str  # a key of `TITLES`
    num_clips: int
    values: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, tuple[float, float]]]

    def to_json(self) -> dict[str, Any]:
        return {
            "clips": self.num_clips,
            "metrics": _rounded(self.values),
            "intervals_95": _rounded(self.intervals),
            "titles": TITLES[self.noun],
        }


def measure_presence(
    probabilities: np.ndarray, presence: np.ndarray, names: Sequence[str], noun: str = "emotion"
) -> dict[str, float]:
    """`accuracy happiness`, `f1 happiness` and so on, and the means over the names.

    Args:
        probabilities, presence: [N, E]; a presence that is not known is NaN and does not count.
        noun: what they are, a key of `TITLES`.
    """
    measure = {"emotion": _emotion, "finding": _finding}[noun]
    figures: dict[str, float] = {}
    for name, scores, labels in zip(names, probabilities.T, presence.T, strict=True):
        is_known = ~np.isnan(labels)
        row = measure(scores[is_known], labels[is_known] > 0)
        figures |= {f"{key} {name}": value for key, value in row.items()}
    for key in TITLES[noun]:
        figures[f"{key} mean"] = float(np.mean([figures[f"{key} {name}"] for name in names]))
    return figures


def presence_figures(
    scored: Sequence[ScoredClip], space: LabelSpace, options: EvaluateOptions
) -> PresenceFigures | None:
    """Of the clips whose emotions or findings are labelled and scored; None where there is none."""
    noun, names = ("finding", space.findings) if space.findings else ("emotion", space.emotions)
    clips = [c for c in scored if c.shares is not None and not np.isnan(c.presence).all()]
    if not clips or not names:
        return None
    probabilities = np.array([[(c.shares or {})[name] for name in names] for c in clips])
    presence = np.array([c.presence for c in clips], dtype=np.float64)

    def measure(places: np.ndarray, _: np.ndarray) -> dict[str, float]:
        rows = places.astype(int)
        return measure_presence(probabilities[rows], presence[rows], names, noun)

    places = np.arange(len(clips))
    intervals = bootstrap_intervals(
        measure,
        places,
        places,
        options.resamples,
        options.seed,
        units_of(clips, options.intervals_over),
    )
    values = measure(places, places)
    rows, keys = [*names, "mean"], TITLES[noun]
    return PresenceFigures(
        noun,
        len(clips),
        {name: {key: values[f"{key} {name}"] for key in keys} for name in rows},
        {name: {key: intervals[f"{key} {name}"] for key in keys} for name in rows},
    )


def _emotion(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """An accuracy without clips of one kind is NaN, as is all without any."""
    is_said = probabilities > PRESENT
    shares, f1, weights = [], [], []
    for kind in (True, False):
        hits = float(np.sum((is_said == kind) & (labels == kind)))
        count, num_positive = float(np.sum(labels == kind)), float(np.sum(is_said == kind))
        shares.append(hits / count if count else np.nan)
        f1.append(2 * hits / (count + num_positive) if count + num_positive else 0.0)
        weights.append(count)
    total = sum(weights)
    weighted = sum(f * w for f, w in zip(f1, weights, strict=True)) / total if total else np.nan
    return {"accuracy": float(np.mean(shares)), "f1": float(weighted)}


def _finding(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """An AUC without records of one kind is NaN."""
    from scipy.stats import rankdata

    present, absent = int(labels.sum()), int((~labels).sum())
    above = rankdata(probabilities)[labels].sum() - present * (present + 1) / 2
    is_said = probabilities > PRESENT
    hits, both = float((is_said & labels).sum()), float(is_said.sum() + present)
    return {
        "auc": float(above / (present * absent)) if present and absent else np.nan,
        "f1": 2 * hits / both if both else 0.0,
        "accuracy": float(np.mean(is_said == labels)),
    }


def _rounded(value: Any) -> Any:
    """Six digits; what is undefined is null."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_rounded(item) for item in value]
    return None if np.isnan(value) else round(float(value), 6)
