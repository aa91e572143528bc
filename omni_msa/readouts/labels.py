"""What labels are, numbers of a range or classes, and how they are written: "+1.4", "joy"."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

import torch

from omni_msa.values import Answer

_NUMBER = re.compile(r"[+\-\N{MINUS SIGN}\N{EN DASH}]?(?:\d+(?:\.\d+)?|\.\d+)")
_MINUS = str.maketrans("\N{MINUS SIGN}\N{EN DASH}", "--")
_SHARE_OF_RANGE = {"negative": 0.25, "neutral": 0.5, "positive": 0.75}


@dataclass(frozen=True)
class LabelScale:
    """Training labels' mean and deviation, and the range that predictions are clipped to.

    With `classes`, labels are places in that list, from 0 to C - 1.
    """

    mean: float
    deviation: float
    low: float
    high: float
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))  # JSON has lists

    @classmethod
    def of_classes(cls, classes: tuple[str, ...]) -> LabelScale:
        """The scale of class labels."""
        return cls(0.0, 1.0, 0.0, len(classes) - 1.0, classes)

    @property
    def num_outputs(self) -> int:
        """Numbers that a head gives for one state: one, or one a class."""
        return len(self.classes) or 1

    def normalise(self, labels: torch.Tensor) -> torch.Tensor:
        return (labels - self.mean) / self.deviation

    def restore(self, outputs: torch.Tensor) -> torch.Tensor:
        """Head outputs -> labels: z-scores [...] in label units, or logits [..., C] to classes."""
        if self.classes:
            return outputs.argmax(-1).float()
        return self.clip(outputs * self.deviation + self.mean)

    def clip(self, scores: torch.Tensor) -> torch.Tensor:
        return scores.clamp(self.low, self.high)

    def texts(self) -> dict[str, float]:
        """Every label as the model writes it, and its value."""
        if self.classes:
            return {name: float(i) for i, name in enumerate(self.classes)}
        return label_texts(self.low, self.high)

    def text(self, value: float) -> str:
        """One label as the model writes it."""
        return self.classes[round(value)] if self.classes else label_text(value)

    def parse(self, text: str) -> Answer:
        """A label as the model has written it."""
        if self.classes:
            return parse_class(text, self.classes)
        return parse_answer(text, self.low, self.high)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def label_text(value: float) -> str:
    """`1.44` -> `"+1.4"`; zero is `"+0.0"`."""
    return f"{value:+.1f}".replace("-0.0", "+0.0")


def label_texts(low: float, high: float) -> dict[str, float]:
    """Every label of a range in steps of a tenth: its text and its value."""
    tenths = range(round(low * 10), round(high * 10) + 1)
    return {label_text(n / 10): n / 10 for n in tenths}


def parse_answer(text: str, low: float, high: float) -> Answer:
    """The first signed number of an answer, clipped to the range; else a lone polarity word.

    The words' values (a quarter, a half, three quarters of the range: -1.5, 0, +1.5 of [-3, 3]) and
    taking what cannot be read for 0 are ours: the paper states only greedy decoding and a regular
    expression.
    """
    found = _NUMBER.search(text)
    if found:
        value = float(found[0].translate(_MINUS))
        return Answer(text, min(max(value, low), high), True, low <= value <= high)
    said = {word for word in _SHARE_OF_RANGE if word in text.lower()}
    if len(said) == 1:
        value = low + _SHARE_OF_RANGE[said.pop()] * (high - low)
        return Answer(text, value, True, True)
    return Answer(text, min(max(0.0, low), high), False, True)


def parse_class(text: str, classes: tuple[str, ...]) -> Answer:
    """The class that an answer names first; class 0 when it names none (as MSE-Adapter does)."""
    said = text.lower()
    places = {
        found.start(): i
        for i, name in enumerate(classes)
        if (found := re.search(rf"\b{re.escape(name.lower())}\b", said))
    }
    if not places:
        return Answer(text, 0.0, False, True)
    return Answer(text, float(places[min(places)]), True, True)
