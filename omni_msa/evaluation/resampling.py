"""What resampling the clips says of a metric, and of the difference between two systems.

The bootstrap draws with replacement: all clips of a speaker or of a video together where these are
known, since what one person says in one recording is alike, else single clips. Both systems of a
comparison see the same draws. What is undefined in a draw (a correlation of constants) is left out
for that metric. Shapes: N clips, R runs of a system.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from omni_msa.errors import ConfigError
from omni_msa.evaluation.metrics import NAN, Measure, vectors

CENTRAL_95 = (2.5, 97.5)  # percentiles
CLIPS = "clips"
GROUPS = {"speakers": "speaker", "videos": "video"}  # units of several clips: a clip's own one
FEWEST_GROUPS = 10  # fewer say little of the spread between groups


class Grouped(Protocol):
    """A clip, as far as it is drawn together with others."""

    @property
    def speaker(self) -> str | None: ...

    @property
    def video(self) -> str | None: ...


@dataclass(frozen=True)
class Basis:
    """What an interval rests on: N clips, drawn in `number` units (clips, videos or speakers)."""

    num_clips: int
    unit: str
    number: int

    def __str__(self) -> str:
        return f"{self.number} {self.unit}"

    def to_json(self) -> dict[str, Any]:
        return {"unit": self.unit, "number": self.number}


@dataclass(frozen=True)
class Units:
    """What is drawn: the places of the clips of each unit."""

    unit: str
    members: tuple[np.ndarray, ...]
    remark: str = ""  # why it is not a larger unit, or of how many clips it is not known

    @classmethod
    def single(cls, num_clips: int, remark: str = "") -> Units:
        """Every clip alone."""
        return cls(CLIPS, tuple(np.arange(num_clips)[:, None]), remark)

    @property
    def basis(self) -> Basis:
        """What an interval over them rests on."""
        return Basis(sum(map(len, self.members)), self.unit, len(self.members))

    def draws(self, resamples: int, seed: int) -> Iterator[np.ndarray]:
        """Places of clips, as many units drawn with replacement as there are, `resamples` times;
        the same ones for the same seed. Of a single unit nothing can be drawn.

        Raises:
            ConfigError: `resamples` < 1.
        """
        if resamples < 1:
            raise ConfigError(f"resamples must be 1 or more, got {resamples}")
        generator, number = np.random.default_rng(seed), len(self.members)
        places = np.concatenate(self.members)
        for _ in range(resamples if number > 1 else 0):
            chosen = generator.integers(number, size=number)
            if number == len(places):  # clips that all stand alone
                yield places[chosen]
            else:
                yield np.concatenate([self.members[i] for i in chosen])


def units_of(clips: Sequence[Grouped], unit: str = "auto") -> Units:
    """What is drawn of these clips; a clip without a speaker (or video) is a unit of its own.

    Args:
        unit: clips, videos or speakers; `auto`: speakers where they are known, else videos, if
            ten or more are named, else clips.
    """
    passed_over = []
    for name in GROUPS if unit == "auto" else [unit] if unit in GROUPS else []:
        groups: dict[Any, list[int]] = {}  # by name, or by place where there is none
        for place, clip in enumerate(clips):
            groups.setdefault(getattr(clip, GROUPS[name]) or place, []).append(place)
        if not (num_names := sum(isinstance(key, str) for key in groups)):
            continue
        if unit != "auto" or num_names >= FEWEST_GROUPS:
            members = tuple(np.array(places) for places in groups.values())
            return Units(name, members, _unnamed_remark(name, len(groups) - num_names, len(clips)))
        if len(groups) < len(clips):  # some have several clips
            passed_over.append(f"{num_names} {name if num_names > 1 else GROUPS[name]}")
    if not passed_over:
        return Units.single(len(clips))
    remark = (
        f"intervals are over clips, since {' and '.join(passed_over)} would be too few to draw "
        "from; they take the clips of one speaker or video as independent, and are too narrow"
    )
    return Units.single(len(clips), remark)


def _unnamed_remark(name: str, number: int, num_clips: int) -> str:
    """On the clips without a speaker (or video), which are counted as one each."""
    if not number:
        return ""
    return (
        f"{number} of {num_clips} clips name no {GROUPS[name]}; each counts as one of the {name} "
        "that the intervals are over, which are too narrow if some are of the same"
    )


def check_units(clips: Sequence[Grouped], unit: str) -> None:
    """The unit that was chosen can be drawn.

    Raises:
        ConfigError: no clip says what it is of, or all that do are of one.
    """
    if unit in GROUPS:
        names = {getattr(clip, GROUPS[unit]) for clip in clips} - {None, ""}
        if len(names) < 2:
            number = "one" if names else "no"
            raise ConfigError(
                f"--intervals-over {unit}: {number} {GROUPS[unit]} is named of the {len(clips)} "
                f"clips; the manifest's column {GROUPS[unit]} says it, and two or more are needed"
            )


@dataclass(frozen=True)
class Difference:
    """A metric's change from one system to another, with its 95 % interval [low, high].

    `p` is twice the share of draws on the far side of no change (two-sided, with one draw added).
    """

    value: float
    low: float
    high: float
    p: float = NAN


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
    units: Units | None = None,
) -> dict[str, tuple[float, float]]:
    """95 % percentile interval of each metric over resampled units, taken as independent.

    A resample in which a metric is undefined is left out for that metric.

    Args:
        predictions: [N], on the scale of the labels.
        labels: [N].
        units: of these clips; None for single clips.

    Raises:
        ConfigError: lengths differ, there are no clips, a value is not finite, or `resamples` < 1.
    """
    predictions, labels = vectors(predictions=predictions, labels=labels)
    draws = (units or Units.single(len(labels))).draws(resamples, seed)
    rows = [measure(predictions[places], labels[places]) for places in draws]
    keys = rows[0] if rows else measure(predictions, labels)
    return {key: _interval([row[key] for row in rows]) for key in keys}


def paired_differences(
    measure: Measure,
    first: np.ndarray,
    second: np.ndarray,
    labels: np.ndarray,
    resamples: int = 1000,
    seed: int = 0,
    units: Units | None = None,
) -> dict[str, Difference]:
    """`measure(second) - measure(first)` with 95 % intervals: both see the same resampled units.

    Args:
        first: predictions [N] of the system compared with, or [R, N] of its runs under several
            seeds: the mean of their figures is what is compared.
        second: the same of the system in question, for the same clips.
        labels: [N].
        units: of these clips; None for single clips.

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
    draws = (units or Units.single(len(labels))).draws(resamples, seed)
    rows = [change(places) for places in draws]
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
