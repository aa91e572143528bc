"""What a model answers in words is read right or counted as unparsable: no sign is ever flipped."""

from __future__ import annotations

import pytest

from omni_msa.files.answers import parse_answer, parse_class
from omni_msa.files.record import Answer

NONE = None  # unparsable
READ = {  # on a range of -3 to 3
    # plain numbers
    "+1.4": 1.4, "-2": -2.0, "2.75": 2.75, "-.5": -0.5, ".5": 0.5, "0": 0.0, "-0.0": 0.0,
    "+0.0": 0.0, "1,5": 1.5, "-1,5": -1.5, " -1.0 ": -1.0, "-2.": -2.0, "+3": 3.0, "-3": -3.0,
    "\u22122.1": -2.1, "\u20132.1": -2.1, "\u20142": -2.0, "\uff0d1.5": -1.5, "\uff0b1.5": 1.5,
    "\uff11.\uff15": 1.5,
    # a sign apart, or in words
    "- 1.5": -1.5, "+ 1.5": 1.5, "minus 2": -2.0, "Minus 0.5": -0.5, "plus 1": 1.0,
    "negative 2.0": -2.0, "positive 2.0": 2.0, "Negative: 1.5": -1.5, "Positive: 1.5": 1.5,
    # in a sentence
    "The score is 1.5.": 1.5, "The score is -1.5.": -1.5, "Score: -2.0": -2.0, "score=-1": -1.0,
    "I would say minus 1.5": -1.5, "(-1.0)": -1.0, "**-1.0**": -1.0, '"-1.0"': -1.0,
    "-1.5 (negative)": -1.5, "Negative (-1.5)": -1.5, "very positive, +2.5": 2.5,
    "+1.0, slightly positive": 1.0, "neutral, 0.0": 0.0, "slightly negative: -0.4": -0.4,
    "neutral to slightly positive: 0.3": 0.3, "-1.0 -1.0": -1.0, "+1.4\n+1.4": 1.4,
    # a scale that is repeated is no answer
    "from -3 to +3, it is +2": 2.0, "From -3 to 3: -1": -1.0, "on -3..3: 1.5": 1.5,
    "[-3, 3]: -2": -2.0, "between -3 and +3 I say -0.5": -0.5, "2 out of 3": 2.0, "-1.5/3": -1.5,
    "1.5 on a scale of 3": 1.5, "+3 to -3: 1": 1.0, "\u4ece-3\u5230+3: -1.5": -1.5,
    # beyond the range: the nearer end
    "5": 3.0, "-9.5 or so": -3.0, "+100": 3.0,
    # a lone word
    "Positive.": 1.5, "NEGATIVE, very negative": -1.5, "It is neutral": 0.0,
    "The speaker sounds positive": 1.5, "negatively": -1.5, "positivity": 1.5,
    # Chinese
    "\u8d1f1.5": -1.5, "\u6b631.5": 1.5, "\u8d1f 2 \u5206": -2.0, "\u5f97\u5206\uff1a-1.5": -1.5,
    "\u79ef\u6781": 1.5, "\u6d88\u6781": -1.5, "\u8d1f\u9762": -1.5, "\u6b63\u9762": 1.5,
    "\u4e2d\u6027": 0.0, "\u6d88\u6781\uff0c-1.0": -1.0, "\u79ef\u6781 +2": 2.0,
    # the sign, or what is meant, is in doubt
    "not positive": NONE, "not negative": NONE, "isn't positive": NONE, "neither": NONE,
    "not positive, 1.5": NONE, "not -2": NONE, "no 2": NONE, "Rather negative: +0.3": NONE,
    "positive: -1.0": NONE, "negative, about 2": NONE, "score-2": NONE, "score - 2": NONE,
    "2-3": NONE, "\u00b11": NONE, "+/-1": NONE, "Between -0.5 and +1": NONE, "1 or 2": NONE,
    "-1 or +1": NONE, "80%": NONE, "-50 %": NONE, "from -3 to +3": NONE, "-3 to 3": NONE,
    "positive and negative": NONE, "\u4e0d\u79ef\u6781": NONE, "\u8d1f\u4e00\u70b9\u4e94": NONE,
    "\u6ca1\u6709\u6d88\u6781": NONE, "I cannot say": NONE, "": NONE, "minus": NONE, "+": NONE,
    "one and a half": NONE, "?": NONE,
}  # fmt: skip
BEYOND = ("5", "-9.5 or so", "+100")


def test_the_table_is_long():
    assert len(READ) >= 100 and sum(value is NONE for value in READ.values()) >= 30


@pytest.mark.parametrize("text", READ)
def test_an_answer_is_read_right_or_not_at_all(text):
    answer, value = parse_answer(text, -3.0, 3.0), READ[text]
    assert answer.text == text
    assert (answer.value, answer.parsable) == (value or 0.0, value is not NONE)
    assert answer.in_range == (text not in BEYOND)


@pytest.mark.parametrize(
    ("text", "low", "high", "value", "parsable"),
    [
        ("positive", -1.0, 1.0, 0.5, True),
        ("negative", 0.0, 10.0, 2.5, True),
        ("what?", 1.0, 5.0, 1.0, False),
        ("from 0 to 10: 7", 0.0, 10.0, 7.0, True),
        ("negative 2.0", 0.0, 10.0, 2.0, True),
        ("rather negative, 2", 1.0, 5.0, 2.0, True),
        ("from -1 to 1 it is -0.4", -1.0, 1.0, -0.4, True),
    ],
)
def test_words_and_scales_follow_the_range(text, low, high, value, parsable):
    answer = parse_answer(text, low, high)
    assert (answer.value, answer.parsable) == (value, parsable)


CLASSES = ("neutral", "sad", "sadness", "joy")


@pytest.mark.parametrize(
    ("text", "value", "parsable"),
    [
        ("joy", 3.0, True),
        ("Sadness.", 2.0, True),
        ("I think sad, not joy", 1.0, True),
        ("joyful", 0.0, False),
        ("", 0.0, False),
    ],
)
def test_a_class_is_the_first_that_is_named(text, value, parsable):
    assert parse_class(text, CLASSES) == Answer(text, value, parsable, True)
