"""What resampling the clips says of a metric, and of the difference between two systems.

The bootstrap draws clips with replacement; both systems of a comparison see the same draws. What
is undefined in a draw (a correlation of constants) is left out for that metric. Shapes: N clips,
R runs of a system.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from omni_msa.errors import ConfigError
from omni_msa.evaluation.metrics import NAN, Measure, vectors

CENTRAL_95 = (2.5, 97.5)  # percentiles


@dataclass(frozen=True)
class Difference:
    """A metric's change from one system to another, with its 95 % interval [low, high].

    `p` is twice the share of draws on the far side of no change (two-sided, with one draw added).
    """

    value: float
    low: float
    high: float
    p: float = NAN


def _resampled_indices(num_clips: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Clips drawn with replacement [N], `resamples` times; the same ones for the same seed."""
    if resamples < 1:
        raise ConfigError(f"resamples must be 1 or more, got {resamples}")
    generator = np.random.default_rng(seed)
    for _ in range(resamples):
        yield generator.integers(num_clips, size=num_clips)


def _interval(values: list[float]) -> tuple[float, float]:
    """Where the central 95 % lie; what is undefined is left out, and nothing left gives NaN."""
    defined = np.array([value for value in values if not np.isnan(value)])
    if not len(defined):
        return NAN, NAN
    low, high = np.percentile(defined, CENTRAL_95)
    return float(low), float(high)


def bootstrap_intervals(
    measure: Measure,
    predictions: np.ndarray,
    labels: np.ndarray,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """95 % percentile interval of each metric over resampled clips, taken as independent.

    A resample in which a metric is undefined is left out for that metric.

    Args:
        predictions: [N], on the scale of the labels.
        labels: [N].

    Raises:
        ConfigError: lengths differ, there are no clips, a value is not finite, or `resamples` < 1.
    """
    predictions, labels = vectors(predictions=predictions, labels=labels)
    rows = [
        measure(predictions[drawn], labels[drawn])
        for drawn in _resampled_indices(len(labels), resamples, seed)
    ]
    return {key: _interval([row[key] for row in rows]) for key in rows[0]}


def paired_differences(
    measure: Measure,
    first: np.ndarray,
    second: np.ndarray,
    labels: np.ndarray,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Difference]:
    """`measure(second) - measure(first)` with 95 % intervals: both see the same resampled clips.

    Args:
        first: predictions [N] of the system compared with, or [R, N] of its runs under several
            seeds: the mean of their figures is what is compared.
        second: the same of the system in question, for the same clips.
        labels: [N].

    Raises:
        ConfigError: lengths differ, there are no clips, a value is not finite, or `resamples` < 1.
    """
    labels = np.asarray(labels, dtype=np.float64)
    before = [vectors(first=run, labels=labels)[0] for run in np.atleast_2d(first)]
    after = [vectors(second=run, labels=labels)[0] for run in np.atleast_2d(second)]

    def figures(runs: list[np.ndarray], drawn: np.ndarray) -> dict[str, float]:
        rows = [measure(run[drawn], labels[drawn]) for run in runs]
        return {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}

    def change(drawn: np.ndarray) -> dict[str, float]:
        old, new = figures(before, drawn), figures(after, drawn)
        return {key: new[key] - old[key] for key in old}

    whole = change(np.arange(len(labels)))
    rows = [change(drawn) for drawn in _resampled_indices(len(labels), resamples, seed)]
    return {key: _difference(value, [row[key] for row in rows]) for key, value in whole.items()}


def holm(p_values: Mapping[str, float], planned: int) -> dict[str, float]:
    """Holm's step-down correction of the p values of several comparisons, by name.

    Args:
        p_values: of the comparisons that were made; NaN where one says nothing.
        planned: how many were to be made: those without a p value count as not significant.
    """
    order = sorted((p, name) for name, p in p_values.items() if not np.isnan(p))
    adjusted, least = dict.fromkeys(p_values, NAN), 0.0
    for rank, (p, name) in enumerate(order):
        least = max(least, min(1.0, (planned - rank) * p))
        adjusted[name] = least
    return adjusted


def _difference(value: float, draws: list[float]) -> Difference:
    defined = np.array([draw for draw in draws if not np.isnan(draw)])
    if not len(defined):
        return Difference(value, NAN, NAN)
    fewer = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    p = min(1.0, 2 * (fewer + 1) / (len(defined) + 1))
    return Difference(value, *_interval(draws), p)
