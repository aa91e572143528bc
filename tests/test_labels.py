"""A score is written with sign and one decimal, and read back from whatever the model says."""

from __future__ import annotations

import pytest
import torch

from omni_msa.errors import ManifestError
from omni_msa.files.answers import parse_answer
from omni_msa.files.labels import LabelSpace, label_text, label_texts
from omni_msa.values import Clip


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


CLASSES = ("neutral", "sad", "sadness", "joy")


def test_a_scale_of_classes_names_and_takes_the_likeliest():
    scale = LabelSpace.of_classes(CLASSES)
    assert scale.num_outputs == 4 and (scale.low, scale.high) == (0.0, 3.0)
    assert [scale.text(value) for value in scale.texts().values()] == list(CLASSES)
    assert scale.restore(torch.tensor([[0.0, 5.0, 1.0, 2.0], [1.0, 0, 0, 3.0]])).tolist() == [1, 3]
    assert LabelSpace(**scale.to_json()) == scale


def test_clips_without_an_emotion_are_left_out_of_classes():
    space = LabelSpace.of_classes(CLASSES)
    clips = [Clip(transcript=t, emotion=e) for t, e in (("a", "joy"), ("b", None), ("c", "sad"))]
    assert [(c.transcript, c.label) for c in space.labelled(clips)] == [("a", 3.0), ("c", 1.0)]
    assert space.labelled([]) == [] and LabelSpace().labelled(clips) == clips
    with pytest.raises(ManifestError, match="1 clips have no emotion among"):
        space.labelled([clips[0], Clip(transcript="d", emotion="anger")])
    with pytest.raises(ManifestError, match="1 clips have no emotion among"):
        space.labelled([clips[1]])
