"""Emotions beside the score: read from manifests, learnt, shown, measured."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from omni_msa.display.card import card
from omni_msa.display.output import to_stdout
from omni_msa.errors import ManifestError
from omni_msa.evaluation.evaluate import ScoredClip
from omni_msa.evaluation.presence import measure_presence, presence_figures
from omni_msa.files.columns import columns, flatten, unflatten
from omni_msa.files.labels import LabelSpace, label_space_of
from omni_msa.files.manifest import read_manifest
from omni_msa.files.record import Ablation, Record
from omni_msa.methods.heads import emotion_losses, head_losses, reading_of
from omni_msa.methods.method import Labels
from omni_msa.options import EvaluateOptions
from omni_msa.values import Clip

SPACE = LabelSpace(emotions=("happiness", "fear"))


def read(tmp_path, text, suffix="jsonl"):
    path = tmp_path / f"m.{suffix}"
    path.write_text(text)
    return [clip.emotions for clip in read_manifest(path)]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ('["happiness", "Fear"]', {"happiness": 1.0, "fear": 1.0}),
        ('{"happiness": 0.66, "fear": 0}', {"happiness": 0.66, "fear": 0.0}),
        ('"happiness; fear"', {"happiness": 1.0, "fear": 1.0}),
        ('"none"', {}),
        ("[]", {}),
        ("null", None),
        ('""', None),
    ],
)
def test_emotions_of_a_row(tmp_path, cell, expected):
    assert read(tmp_path, f'{{"text": "a", "emotions": {cell}}}') == [expected]


def test_emotions_in_a_csv(tmp_path):
    rows = 'text,emotions\na,happiness;fear\nb,\nc,none\nd,"{""fear"": 2}"\n'
    expected = [{"happiness": 1.0, "fear": 1.0}, None, {}, {"fear": 2.0}]
    assert read(tmp_path, rows, "csv") == expected


@pytest.mark.parametrize("cell", ["7", '{"fear": -1}', '{"fear": "much"}', '["", "fear"]', "[1]"])
def test_emotions_that_cannot_be(tmp_path, cell):
    with pytest.raises(ManifestError, match="neither a list of names nor how strong"):
        read(tmp_path, f'{{"text": "a", "emotions": {cell}}}')


def test_the_space_has_the_emotions_that_are_named():
    clips = [
        Clip(transcript="a", label=1.0, emotions={"joy": 1.0, "fear": 0.0}),
        Clip(transcript="b", label=0.0, emotions={"happiness": 1.0}),
        Clip(transcript="c", label=0.0),
    ]
    space = label_space_of(clips, "sentiment+emotions", None)
    assert space.emotions == ("happiness", "fear", "joy") and space.task == "sentiment+emotions"
    assert space.num_outputs == 4
    assert space.presence(clips[0]) == (0.0, 0.0, 1.0)
    assert all(math.isnan(value) for value in space.presence(clips[2]))
    with pytest.raises(ManifestError, match="no clip has emotions; the column emotions names"):
        label_space_of(clips[2:], "sentiment+emotions", None)
    assert "emotions" not in LabelSpace().to_json()  # fingerprints of older versions hold


def test_heads_give_scores_and_probabilities():
    outputs = torch.tensor([[[0.5, 2.0, -2.0]]])  # [B, K, O]
    reading = reading_of(SPACE, outputs)
    assert reading.scores.tolist() == [[0.5]]
    torch.testing.assert_close(reading.emotions, torch.tensor([[[0.8808, 0.1192]]]), atol=1e-4,
                               rtol=0)  # fmt: skip
    classes = reading_of(LabelSpace.of_classes(("joy", "anger")), outputs[..., :2])
    assert classes.scores.tolist() == [[1.0]]
    assert classes.emotions.sum(-1).tolist() == [[pytest.approx(1.0)]]
    assert reading_of(LabelSpace(), outputs[..., :1]).emotions is None


def test_emotions_that_are_not_known_are_no_loss():
    logits = torch.zeros(2, 3, 2)
    presence = torch.tensor([[1.0, math.nan], [math.nan, math.nan]])
    losses = emotion_losses(logits, presence)
    torch.testing.assert_close(losses[0], torch.full((3,), math.log(2)))
    assert losses[1].tolist() == [0.0, 0.0, 0.0]
    outputs = torch.zeros(2, 3, 3, requires_grad=True)
    total = head_losses(SPACE, outputs, Labels(torch.ones(2, 3), presence))
    total.sum().backward()
    assert outputs.grad.isfinite().all() and outputs.grad[1, :, 1:].abs().sum() == 0


def test_presence_is_measured_by_the_communitys_conventions():
    """By hand: happiness has 2 present of 4, of which 1 is told, and 1 absent of 2 told so."""
    probabilities = np.array([[0.9, 0.1], [0.2, 0.1], [0.7, 0.6], [0.4, 0.2]])
    presence = np.array([[1, 0], [1, 1], [0, 1], [0, np.nan]], dtype=float)
    figures = measure_presence(probabilities, presence, SPACE.emotions)
    assert figures["accuracy happiness"] == pytest.approx(0.5)
    assert figures["f1 happiness"] == pytest.approx(0.5)
    # fear, of three clips: 1 of 2 present, 1 of 1 absent
    assert figures["accuracy fear"] == pytest.approx(0.75)
    assert figures["f1 fear"] == pytest.approx((2 * (2 / 3) + 1 * (2 / 3)) / 3)
    assert figures["accuracy mean"] == pytest.approx(0.625)


def test_an_emotion_that_no_clip_has_gives_no_number():
    presence = np.zeros((3, 2))
    figures = measure_presence(np.zeros((3, 2)), presence, SPACE.emotions)
    assert math.isnan(figures["accuracy fear"]) and figures["f1 fear"] == 1.0


def test_figures_are_of_the_clips_with_labels():
    def clip(name, probability, present):
        return ScoredClip(
            name, 0.0, 0.0, shares={"happiness": probability, "fear": 0.0},
            presence=(present, 0.0 if not math.isnan(present) else math.nan),
        )  # fmt: skip

    clips = [clip("a", 0.9, 1.0), clip("b", 0.2, 0.0), clip("c", 0.9, math.nan)]
    figures = presence_figures(clips, SPACE, EvaluateOptions(resamples=20))
    assert figures.num_clips == 2
    assert figures.values["happiness"]["accuracy"] == 1.0
    row = json.loads(json.dumps(figures.to_json()))
    assert row["metrics"]["fear"]["accuracy"] is None  # no clip has it
    assert set(row["intervals_95"]) == {"happiness", "fear", "mean"}
    assert presence_figures(clips[2:], SPACE, EvaluateOptions()) is None
    assert presence_figures(clips, LabelSpace(), EvaluateOptions()) is None


RECORD = Record(
    "a.mp4", "0" * 64, 1.5, (-3.0, 3.0),
    emotions={"happiness": 0.81, "fear": 0.04},
    ablation=Ablation(
        {"": 0.0, "T": 1.5}, {"text": {"score": 0.0, "delta": -1.5}}, {"text": 1.5},
        {"happiness": {"text": 0.4}, "fear": {"text": -0.02}},
    ),
    model={"base": "b", "checkpoint": None, "readout": "mmolre", "quantize": "none",
           "fingerprint": "f"},
)  # fmt: skip


def test_a_record_keeps_them_as_json_and_in_tables():
    again = Record.from_json(json.loads(json.dumps(RECORD.to_json())))
    assert again == RECORD
    row = flatten(RECORD.to_json())
    assert row.keys() == columns().keys()
    assert json.loads(row["emotions"]) == RECORD.emotions
    assert unflatten(row).emotions == RECORD.emotions


def test_records_of_older_versions_have_none():
    row = RECORD.to_json()
    del row["emotions"], row["ablation"]["emotions"]
    old = Record.from_json(row)
    assert old.emotions is None and old.ablation.emotions == {}


def test_the_card_shows_them():
    console = to_stdout()
    with console.capture() as capture:
        console.print(card(RECORD))
    text = capture.get()
    assert "happiness 81 %, fear 4 %" in text
    assert "81 %" in text and "+40" in text and "-2" in text
