"""Whether intervals keep their word: how many labels lie inside, and how wide they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from omni_msa.evaluation.evaluate import ScoredClip

ROUNDING = 1e-6  # of a score in fp32: a label that is itself an end lies inside


@dataclass(frozen=True)
class Coverage:
    """What became of the intervals of those clips that have one."""

    num_clips: int
    share: float  # of labels that lie inside: nine of ten should
    width: float  # mean

    def to_json(self) -> dict[str, Any]:
        return {
            "clips": self.num_clips,
            "coverage": round(self.share, 6),
            "interval_width": round(self.width, 6),
        }


def coverage_of(clips: Sequence[ScoredClip]) -> Coverage | None:
    """Labels against intervals; None where no clip has one."""
    rows = [(clip.label, *clip.interval) for clip in clips if clip.interval is not None]
    if not rows:
        return None
    labels, low, high = np.array(rows).T
    inside = (labels >= low - ROUNDING) & (labels <= high + ROUNDING)
    return Coverage(len(rows), float(inside.mean()), float((high - low).mean()))
