"""A score is written with sign and one decimal, and read back from whatever the model says."""

from __future__ import annotations

import pytest
import torch

from omni_msa.files.labels import LabelSpace, label_text, label_texts, parse_answer, parse_class
from omni_msa.files.record import Answer


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.44, "+1.4"), (-2.0, "-2.0"), (0.0, "+0.0"), (-0.04, "+0.0"), (10.0, "+10.0"),
     (-10.0, "-10.0"), (-0.1, "-0.1")],
)  # fmt: skip
def test_label_text(value, text):
    assert label_text(value) == text


@pytest.mark.parametrize(("low", "high", "count"), [(-3.0, 3.0, 61), (-1.0, 1.0, 21), (0, 1, 11)])
def test_every_tenth_of_a_range_is_a_label_that_reads_back_as_itself(low, high, count):
    labels = label_texts(low, high)
    assert len(labels) == count and "+0.0" in labels and "-0.0" not in labels
    assert min(labels.values()) == low and max(labels.values()) == high
    for text, value in labels.items():
        answer = parse_answer(text, low, high)
        assert (answer.value, answer.parsable, answer.in_range) == (value, True, True)


@pytest.mark.parametrize(
    ("text", "value", "parsable", "in_range"),
    [
        ("+1.4", 1.4, True, True),
        ("-2", -2.0, True, True),
        ("2.75", 2.75, True, True),
        ("\N{MINUS SIGN}2.1", -2.1, True, True),
        ("-.5", -0.5, True, True),
        ("The score is 1.5.", 1.5, True, True),
        ("Between -0.5 and +1", -0.5, True, True),
        ("Rather negative: +0.3", 0.3, True, True),
        ("5", 3.0, True, False),
        ("-9.5 or so", -3.0, True, False),
        ("Positive.", 1.5, True, True),
        ("NEGATIVE, very negative", -1.5, True, True),
        ("It is neutral", 0.0, True, True),
        ("positive and negative", 0.0, False, True),
        ("I cannot say", 0.0, False, True),
        ("", 0.0, False, True),
    ],
)
def test_answers_are_read_by_their_first_number_or_lone_word(text, value, parsable, in_range):
    answer = parse_answer(text, -3.0, 3.0)
    assert answer.text == text
    assert (answer.value, answer.parsable, answer.in_range) == (value, parsable, in_range)


@pytest.mark.parametrize(
    ("text", "low", "high", "value"),
    [("positive", -1.0, 1.0, 0.5), ("negative", 0.0, 10.0, 2.5), ("what?", 1.0, 5.0, 1.0)],
)
def test_words_and_nothing_follow_the_range(text, low, high, value):
    assert parse_answer(text, low, high).value == value


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


def test_a_scale_of_classes_names_and_takes_the_likeliest():
    scale = LabelSpace.of_classes(CLASSES)
    assert scale.num_outputs == 4 and (scale.low, scale.high) == (0.0, 3.0)
    assert [scale.text(value) for value in scale.texts().values()] == list(CLASSES)
    assert scale.restore(torch.tensor([[0.0, 5.0, 1.0, 2.0], [1.0, 0, 0, 3.0]])).tolist() == [1, 3]
    assert LabelSpace(**scale.to_json()) == scale
