"""A score with its doubt: intervals that hold nine of ten labels of clips like the validation ones.

Split conformal prediction: of n absolute residuals on clips that were not trained on, the
ceil(0.9 (n + 1))-th smallest is the half width of every interval (Lei et al., 2018). What is shown
decides how far a score is off, so that residuals are kept by subset of the modalities.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from omni_msa.modalities import Subset, all_subsets, in_order, subset_name

if TYPE_CHECKING:
    from omni_msa.scoring.checkpoint import Checkpoint

LEVEL_PERCENT = 90
FEWEST = 9  # residuals; of fewer, no quantile is finite
HALF_WIDTH = f"half_width_{LEVEL_PERCENT}"


@dataclass(frozen=True)
class Interval:
    """Where the label is with a probability of 90 %, or why that cannot be said."""

    bounds: tuple[float, float] | None = None
    absent: str | None = None


@dataclass(frozen=True)
class Residuals:
    """How far one clip's scores are from its labels, by what is shown; `whole` is all it has."""

    whole: Subset
    by_subset: Mapping[Subset, float]


def half_width(residuals: Sequence[float]) -> float | None:
    """The conformal quantile of absolute residuals; None where there are too few."""
    place = -(-(len(residuals) + 1) * LEVEL_PERCENT // 100)
    return sorted(residuals)[place - 1] if place <= len(residuals) else None


def intervals_record(clips: Sequence[Residuals]) -> dict[str, dict[str, Any]]:
    """What a checkpoint keeps, by subset of the modalities: how many clips, and the half width.

    A subset is that of clips that have no more than it. Where these are too few, larger clips of
    which only the subset is shown count too.
    """
    record = {}
    for subset in all_subsets(frozenset().union(*(clip.whole for clip in clips))):
        residuals = [clip.by_subset[subset] for clip in clips if clip.whole == subset]
        if len(residuals) < FEWEST:
            residuals = [clip.by_subset[subset] for clip in clips if subset in clip.by_subset]
        if subset and residuals:
            record[subset_name(subset)] = {
                "clips": len(residuals),
                HALF_WIDTH: half_width(residuals),
            }
    return record


def interval_of(score: float, shown: Subset, checkpoint: Checkpoint) -> Interval:
    """The interval of a score that the checkpoint gives a clip of which `shown` is shown."""
    info, method = checkpoint.info, checkpoint.method.name
    space = info.label_space
    if space.names:
        return Interval(absent="a class has none")
    if checkpoint.folder is None:
        return Interval(absent="zero-shot: no checkpoint, so nothing was validated")
    if method != info.method:  # of two that need no weights, the other one
        return Interval(absent=f"read by {method}, validated with {info.method}")
    if not info.intervals:
        return Interval(absent="the checkpoint keeps no validation residuals")
    row = info.intervals.get(subset_name(shown), {"clips": 0, HALF_WIDTH: None})
    if (width := row[HALF_WIDTH]) is None:
        names = " and ".join(in_order(shown))
        clips = f"{row['clips']} validation clips with {names} alone"
        return Interval(absent=f"{clips}; {FEWEST} are needed")
    return Interval((max(score - width, space.low), min(score + width, space.high)))


def is_record(record: Any) -> bool:
    """Whether this is what `intervals_record` gives."""
    return isinstance(record, dict) and all(
        isinstance(row, dict)
        and row.keys() == {"clips", HALF_WIDTH}
        and type(row["clips"]) is int
        and row["clips"] > 0
        and _is_width(row[HALF_WIDTH])
        for row in record.values()
    )


def _is_width(width: Any) -> bool:
    if width is None:
        return True
    is_number = isinstance(width, (int, float)) and not isinstance(width, bool)
    return is_number and math.isfinite(width) and width >= 0
