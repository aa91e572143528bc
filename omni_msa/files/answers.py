"""What a model has answered in words -> a number of the range, or a class.

A third-party transcription of arXiv 2606.05713 has greedy decoding and a regular expression;
everything else here is ours: the values of lone words, what counts as unparsable, and that it is
scored as 0. The rule that matters: an answer whose sign is in doubt is unparsable, never read the
wrong way round.
"""

from __future__ import annotations

import re
import unicodedata

from omni_msa.files.record import Answer

_DASHES = str.maketrans(dict.fromkeys("\N{MINUS SIGN}\N{EN DASH}\N{EM DASH}\N{HYPHEN}", "-"))
_NUMBER = re.compile(
    r"(?P<sign>[+-]|\b(?:minus|negative|plus|positive)\b\s*:?|[负正])?\s*"
    r"(?P<digits>\d+(?:[.,]\d+)?|\.\d+)"
)
_NEGATIVE_SIGNS = ("-", "minus", "negative", "负")
# `out of 3`, `/3`, `of 3 points`: how large the scale is, not where the answer lies
_OUT_OF = re.compile(r"(?<=\d)\s*(?:/|out of|on a scale of|分之)\s*[+-]?\d+(?:\.\d+)?")
_SCALE = r"{low}\s*(?:to|and|through|\.\.+|,|-|~|到|至)\s*\+?{high}"
_WORDS = {
    "negative": re.compile(r"\bnegativ\w*|[消负][极面]"),
    "neutral": re.compile(r"\bneutral\w*|中[性立]"),
    "positive": re.compile(r"\bpositiv\w*|积极|正面"),
}
_SHARE_OF_RANGE = {"negative": 0.25, "neutral": 0.5, "positive": 0.75}
_NEGATION = re.compile(r"\b(?:not|no|never|neither|nor|hardly|cannot|without)\b|n't\b|[不没非]")
_DENIED = re.compile(rf"(?:{_NEGATION.pattern})\s*$")


def parse_answer(text: str, low: float, high: float) -> Answer:
    """The number of an answer, clipped to the range; without one, a lone polarity word.

    A scale that is repeated (`from -3 to +3`, `/3`) is no answer. Unparsable are two different
    numbers, a sign against the words, a dash that may be a hyphen, and a word under a negation.

    Args:
        text: what the model said.
        low, high: of the label range; lone words are a quarter, a half, three quarters of it.
    """
    line = unicodedata.normalize("NFKC", text).translate(_DASHES).lower()
    for scale in _scales(low, high):
        line = scale.sub(" ", line)
    line = _OUT_OF.sub(" ", line)
    values = {_value(match, line, low) for match in _NUMBER.finditer(line)}
    words = {word for word, pattern in _WORDS.items() if pattern.search(line)}
    if len(values) == 1:
        value = values.pop()
        if value is not None and not _contradicts(value, low, high, words, line):
            return Answer(text, min(max(value, low), high), True, low <= value <= high)
    elif not values and len(words) == 1 and not _NEGATION.search(line):
        share = _SHARE_OF_RANGE[words.pop()]
        return Answer(text, low + share * (high - low), True, True)
    return Answer(text, min(max(0.0, low), high), False, True)


def _scales(low: float, high: float) -> list[re.Pattern[str]]:
    """The label range, as an answer may repeat it, from either end."""
    ends = [rf"[+]?{re.escape(f'{end:g}')}(?:\.0+)?" for end in (low, high)]
    return [
        re.compile(rf"(?<![\d.]){_SCALE.format(low=a, high=b)}(?![\d.])")
        for a, b in (ends, ends[::-1])
    ]


def _value(match: re.Match[str], line: str, low: float) -> float | None:
    """A number with its sign; None where it is in doubt: `score-2`, `score - 2`, `not 2`, `±1`."""
    sign = (match["sign"] or "").rstrip(" :")
    before, behind = line[: match.start()], line[match.end() :]
    is_apart = before[-1:].isspace() and match[0][1:2].isspace()
    joins = before[-1:].isalnum() or (is_apart and before.rstrip()[-1:].isalnum())
    if sign in ("-", "+") and (joins or before.endswith("/")):
        return None
    if before.endswith("±") or _DENIED.search(before) or behind.lstrip().startswith("%"):
        return None
    number = float(match["digits"].replace(",", "."))
    if low >= 0 and len(sign) > 1:  # there, `negative 2` is a word and a number
        sign = ""
    return -number if sign in _NEGATIVE_SIGNS else number + 0.0


def _contradicts(value: float, low: float, high: float, words: set[str], line: str) -> bool:
    """Whether the words speak of the other side, where the range has two; or are denied."""
    if low >= 0 or not words:
        return False
    if _NEGATION.search(line):
        return True
    side = "negative" if value < 0 else "positive" if value > 0 else "neutral"
    return side != "neutral" and side not in words and words != {"neutral"}


def parse_class(text: str, classes: tuple[str, ...]) -> Answer:
    """The class that an answer names first; class 0 when it names none (as MSE-Adapter does)."""
    places = {
        match.start(): i
        for i, name in enumerate(classes)
        if (match := re.search(rf"\b{re.escape(name.lower())}\b", text.lower()))
    }
    if not places:
        return Answer(text, 0.0, False, True)
    return Answer(text, float(places[min(places)]), True, True)
