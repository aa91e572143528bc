"""Scores as the model writes them, and as they are read back: sign and one decimal, "+1.4"."""

from __future__ import annotations

import re

from omni_msa.values import Answer

_NUMBER = re.compile(r"[+\-\N{MINUS SIGN}\N{EN DASH}]?(?:\d+(?:\.\d+)?|\.\d+)")
_MINUS = str.maketrans("\N{MINUS SIGN}\N{EN DASH}", "--")
_SHARE_OF_RANGE = {"negative": 0.25, "neutral": 0.5, "positive": 0.75}


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
