"""Whether clips whose states are near have labels that are near: a look below the head.

For each clip, the mean |label - label of neighbour| over its k nearest neighbours by the last state
(of the whole clip, at the last non-padding token, before the head), beside the same for permuted
labels. A third-party transcription of arXiv 2606.05713, section 4.7, has it for k = 5, 10 and 20,
without the distance: ours is the euclidean one. Of classes, a difference is 1 where they are not
the same. Shapes: N clips, H width, P permutations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from omni_msa.errors import ConfigError

NEIGHBOURS = (5, 10, 20)
PERMUTATIONS = 100
DISTANCE = "euclidean"
ROWS = 512  # of the matrix of distances, at a time


@dataclass(frozen=True, eq=False)
class Gaps:
    """Of one k: each clip's mean difference to its neighbours' labels."""

    k: int
    by_state: np.ndarray  # [N]
    permuted: np.ndarray  # [P, N]: the same neighbours, labels in random order

    @property
    def gap(self) -> float:
        return float(self.by_state.mean())

    @property
    def permuted_gap(self) -> float:
        return float(self.permuted.mean())

    @property
    def ratio(self) -> float:
        """Below 1 the states are ordered by label; NaN where all labels are the same."""
        return self.gap / self.permuted_gap if self.permuted_gap else math.nan

    def to_json(self) -> dict[str, Any]:
        return {
            "k": self.k,
            "gap": round(self.gap, 6),
            "permuted": round(self.permuted_gap, 6),
            "permuted_deviation": round(float(self.permuted.mean(1).std(ddof=1)), 6),
            "ratio": None if math.isnan(self.ratio) else round(self.ratio, 6),
        }


@dataclass(frozen=True, eq=False)
class LabelGap:
    """Of every k that there are clips enough for."""

    num_clips: int
    gaps: tuple[Gaps, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "clips": self.num_clips,
            "distance": DISTANCE,
            "permutations": PERMUTATIONS,
            "neighbours": [gaps.to_json() for gaps in self.gaps],
        }


def check_enough(num_clips: int) -> None:
    """There are clips enough for the smallest k.

    Raises:
        ConfigError: there are not.
    """
    if num_clips <= NEIGHBOURS[0]:
        raise ConfigError(
            f"--diagnose compares a clip with its {NEIGHBOURS[0]} nearest and needs "
            f"{NEIGHBOURS[0] + 1} clips or more, got {num_clips}"
        )


def label_gap(
    states: np.ndarray,
    labels: np.ndarray,
    is_class: bool = False,
    neighbours: Sequence[int] = NEIGHBOURS,
    seed: int = 0,
) -> LabelGap:
    """How far apart the labels of near states are.

    Args:
        states: [N, H].
        labels: [N], numbers or, with `is_class`, class indices.
        neighbours: the values of k; those that are not below N are left out.
        seed: of the permutations.
    """
    sizes = [k for k in neighbours if k < len(labels)]
    if not sizes:
        return LabelGap(len(labels), ())
    nearest = nearest_states(states, max(sizes))
    generator = np.random.default_rng(seed)
    orders = [generator.permutation(len(labels)) for _ in range(PERMUTATIONS)]

    def differences(values: np.ndarray) -> np.ndarray:
        of_neighbours = values[nearest]  # [N, k]
        if is_class:
            return (of_neighbours != values[:, None]).astype(np.float64)
        return np.abs(of_neighbours - values[:, None])

    def means(values: np.ndarray) -> list[np.ndarray]:
        rows = differences(values)
        return [rows[:, :k].mean(1) for k in sizes]

    labels = np.asarray(labels, dtype=np.float64)
    by_state = means(labels)
    permuted = [np.stack(rows) for rows in zip(*(means(labels[o]) for o in orders), strict=True)]
    return LabelGap(len(labels), tuple(map(Gaps, sizes, by_state, permuted)))


def nearest_states(states: np.ndarray, k: int) -> np.ndarray:
    """Places of the k other states that are nearest, the nearest first: [N, H] -> [N, k]."""
    states = np.asarray(states, dtype=np.float64)
    states = states - states.mean(0)  # less is lost to rounding
    squares = (states**2).sum(1)
    rows = []
    for start in range(0, len(states), ROWS):
        block = states[start : start + ROWS]
        distances = squares[None] - 2 * block @ states.T  # and each row's own square
        places = np.arange(len(block))
        distances[places, start + places] = np.inf
        rows.append(np.argsort(distances, axis=1, kind="stable")[:, :k])
    return np.concatenate(rows)
