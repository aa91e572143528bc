"""Numbers of a record as they are printed: rounded so that what is printed adds up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from omni_msa.files.record import Record

DIGITS = 2
STEP = 10**-DIGITS  # what the last printed digit counts


@dataclass(frozen=True)
class RoundedScore:
    """`baseline` (the score with nothing shown) and the contributions sum to `score`.

    `adds` holds, for a modality (or several, `text+audio`), the score less the score `without` it.
    """

    score: float | None
    baseline: float | None = None
    contribution: dict[str, float] = field(default_factory=dict)
    without: dict[str, float] = field(default_factory=dict)

    @property
    def adds(self) -> dict[str, float]:
        if self.score is None:
            return {}
        return {name: _printed(self.score - score) for name, score in self.without.items()}


def rounded(record: Record) -> RoundedScore:
    """The numbers of a record that people read."""
    if record.score is None or record.ablation is None:
        return RoundedScore(None if record.score is None else _printed(record.score))
    ablation = record.ablation
    baseline, contribution = ablation.subsets.get(""), ablation.contribution
    if baseline is not None and contribution:
        parts = rounded_parts([baseline, *contribution.values()], record.score)
        baseline, contribution = parts[0], dict(zip(contribution, parts[1:], strict=True))
    without = {name: _printed(change["score"]) for name, change in ablation.drop.items()}
    return RoundedScore(_printed(record.score), baseline, contribution, without)


def rounded_parts(parts: Sequence[float], total: float) -> list[float]:
    """Parts rounded up or down so that they sum to the rounded total; the nearest such choice.

    Parts that do not sum to the total in the first place are each rounded to the nearest.
    """
    lower = [math.floor(part / STEP) for part in parts]
    num_up = round(total / STEP) - sum(lower)
    if not 0 <= num_up <= len(parts):
        return [_printed(part) for part in parts]
    by_remainder = sorted(range(len(parts)), key=lambda i: lower[i] - parts[i] / STEP)
    up = set(by_remainder[:num_up])
    return [_printed((steps + (i in up)) * STEP) for i, steps in enumerate(lower)]


def _printed(value: float) -> float:
    return round(value, DIGITS) + 0.0  # a zero has no minus sign
