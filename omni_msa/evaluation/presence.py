"""Which emotions are present, several or none at once: probabilities against labels.

The conventions are the community's for CMU-MOSEI: an emotion is present if its intensity is above
zero, and said to be if its probability is above a half; its weighted accuracy is the mean of the
shares of present and of absent clips that are told right, its weighted F1 that of the two classes,
each weighted by its labels. Shapes: N clips, E emotions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from omni_msa.evaluation.resampling import bootstrap_intervals, units_of

if TYPE_CHECKING:
    from omni_msa.evaluation.evaluate import ScoredClip
    from omni_msa.options import EvaluateOptions

PRESENT = 0.5  # a probability above it says so
TITLES = {
    "accuracy": "Weighted accuracy: mean of the shares of present and of absent that are right",
    "f1": "F1 of present and absent, weighted by their labels",
}


@dataclass(frozen=True)
class EmotionFigures:
    """By emotion, and their `mean`: the figures of `TITLES`, each with its 95 % interval."""

    num_clips: int
    values: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, tuple[float, float]]]

    def to_json(self) -> dict[str, Any]:
        return {
            "clips": self.num_clips,
            "metrics": _rounded(self.values),
            "intervals_95": _rounded(self.intervals),
            "titles": TITLES,
        }


def measure_presence(
    probabilities: np.ndarray, presence: np.ndarray, names: Sequence[str]
) -> dict[str, float]:
    """`accuracy happiness`, `f1 happiness` and so on, and the means over the emotions.

    Args:
        probabilities, presence: [N, E]; a presence that is not known is NaN and does not count.
    """
    figures: dict[str, float] = {}
    for name, scores, labels in zip(names, probabilities.T, presence.T, strict=True):
        is_known = ~np.isnan(labels)
        figures |= _figures(name, scores[is_known] > PRESENT, labels[is_known] > 0)
    for key in TITLES:
        figures[f"{key} mean"] = float(np.mean([figures[f"{key} {name}"] for name in names]))
    return figures


def emotion_figures(
    scored: Sequence[ScoredClip], names: Sequence[str], options: EvaluateOptions
) -> EmotionFigures | None:
    """Of the clips whose emotions are labelled and scored; None where there is none."""
    clips = [c for c in scored if c.emotions is not None and not np.isnan(c.presence).all()]
    if not clips or not names:
        return None
    probabilities = np.array([[(c.emotions or {})[name] for name in names] for c in clips])
    presence = np.array([c.presence for c in clips], dtype=np.float64)

    def measure(places: np.ndarray, _: np.ndarray) -> dict[str, float]:
        rows = places.astype(int)
        return measure_presence(probabilities[rows], presence[rows], names)

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
    rows = [*names, "mean"]
    return EmotionFigures(
        len(clips),
        {name: {key: values[f"{key} {name}"] for key in TITLES} for name in rows},
        {name: {key: intervals[f"{key} {name}"] for key in TITLES} for name in rows},
    )


def _figures(name: str, scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Of booleans; an accuracy without clips of one kind is NaN, as is all without any."""
    shares, f1, weights = [], [], []
    for kind in (True, False):
        hits = float(np.sum((scores == kind) & (labels == kind)))
        count, num_positive = float(np.sum(labels == kind)), float(np.sum(scores == kind))
        shares.append(hits / count if count else np.nan)
        f1.append(2 * hits / (count + num_positive) if count + num_positive else 0.0)
        weights.append(count)
    total = sum(weights)
    weighted = sum(f * w for f, w in zip(f1, weights, strict=True)) / total if total else np.nan
    return {f"accuracy {name}": float(np.mean(shares)), f"f1 {name}": float(weighted)}


def _rounded(value: Any) -> Any:
    """Six digits; what is undefined is null."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_rounded(item) for item in value]
    return None if np.isnan(value) else round(float(value), 6)
