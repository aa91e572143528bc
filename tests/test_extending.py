"""A new modality and a new method are a row each: here both are made up, and go the whole way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
from conftest import MEDIA
from sounds import write_wav
from torch import nn

from omni_msa.files.results import open_results, read_records
from omni_msa.media.cache import ContentCache
from omni_msa.media.feed import FileFeed
from omni_msa.media.reader import READERS, OpenClip, PartReader, read_clip
from omni_msa.methods import READOUTS
from omni_msa.methods.method import Reading, Readout
from omni_msa.modalities import MODALITIES, Modality, all_subsets, subset_name
from omni_msa.model.encoders import ENCODERS, Encoded, Encoder
from omni_msa.model.inputs import InputBuilder
from omni_msa.options import AblationOptions, MediaOptions, ModelOptions
from omni_msa.scoring.batch import run_batch
from omni_msa.scoring.checkpoint import CheckpointInfo, save_checkpoint
from omni_msa.scoring.scorer import Scorer
from omni_msa.values import Clip, Part


@dataclass(frozen=True)
class Posture(Part):
    """How a speaker sits, one number a second, from a file beside the clip."""

    lean: np.ndarray  # float32 [seconds]
    source: str

    @property
    def size(self) -> int:
        return len(self.lean)

    def store(self) -> tuple[dict[str, np.ndarray], Any]:
        return {"lean": self.lean}, self.source

    @classmethod
    def restore(cls, arrays: Mapping[str, np.ndarray], about: Any) -> Self:
        return cls(arrays["lean"], about)


def read_posture(source: OpenClip) -> Posture | None:
    path = source.clip.path and source.clip.path.with_suffix(".posture")
    if not path or not path.exists():
        return None
    lean = np.array(json.loads(path.read_text()), dtype=np.float32)
    source.media["posture_seconds"] = len(lean)
    return Posture(lean, path.name)


def encode_posture(builder: InputBuilder, part: Posture, options: MediaOptions) -> Encoded:
    words = " ".join("forward" if lean > 0 else "back" for lean in part.lean)
    segment, _ = builder.text_segment(words, options.max_text_tokens)
    return Encoded(segment)


class Halved(Readout):
    """Half of what one linear map of the last hidden state says."""

    name = "halved"

    def __init__(self, thinker, scale, gain: float = 1.0) -> None:
        super().__init__(thinker, scale)
        self.gain = gain
        self.line = nn.Linear(thinker.width, 1)

    def read(self, thinker, clips, subsets) -> Reading:
        hidden = thinker.forward(thinker.batch(clips, subsets)).float()
        return Reading(self.scale.clip(0.5 * self.gain * self.line(hidden).squeeze(-1)))

    def settings(self) -> dict[str, Any]:
        return {"gain": self.gain}


@pytest.fixture
def posture(monkeypatch):
    """One row in each table that a modality has."""
    monkeypatch.setitem(MODALITIES, "posture", Modality("posture", "P", "posture"))
    monkeypatch.setitem(READERS, "posture", PartReader(Posture, read_posture))
    monkeypatch.setitem(ENCODERS, "posture", Encoder(encode_posture))


@pytest.fixture
def halved(monkeypatch):
    """One row in the table of methods."""
    monkeypatch.setitem(READOUTS, Halved.name, Halved)


@pytest.fixture
def clip(tmp_path) -> Clip:
    path = write_wav(tmp_path / "a.wav")
    path.with_suffix(".txt").write_text("I love this film.")
    path.with_suffix(".posture").write_text("[0.5, -0.5, 1.0]")
    return Clip(path, label=1.0)


def test_a_modality_is_read_cached_and_fed(posture, clip, tmp_path):
    content = read_clip(clip, MediaOptions())
    assert content.present == {"text", "audio", "posture"}
    assert content.media["posture_seconds"] == 3
    cache = ContentCache(tmp_path / "cache", 10**9)
    key = cache.key(clip, MediaOptions())
    assert key is not None
    cache.put(key, content)
    # processes of its own would not know a modality that only this test has: from the cache
    (fed,) = FileFeed([clip], MediaOptions(), cache=cache).read([0])
    assert not isinstance(fed, Exception) and fed.present == content.present
    stored = fed.parts["posture"]
    assert isinstance(stored, Posture) and stored.source == "a.posture"
    np.testing.assert_array_equal(stored.lean, [0.5, -0.5, 1.0])
    assert fed.size == content.size > 3


def test_a_modality_is_scored_in_every_subset_with_its_contribution(posture, scorer, clip):
    record = scorer.score(clip)
    assert record.modalities["posture"] == "a.posture" and record.modalities["video"] is None
    assert record.ablation is not None and len(record.ablation.subsets) == 8
    assert set(record.ablation.contribution) == {"text", "audio", "posture"}
    total = sum(record.ablation.contribution.values())
    assert total == pytest.approx(record.score - record.ablation.subsets[""], abs=1e-5)
    # in one pass as in separate ones
    inputs = scorer.prepare(read_clip(clip, scorer.media)).inputs
    subsets = all_subsets(inputs.present)
    packed = scorer.read([inputs], [subsets]).scores[0]
    for subset, score in zip(subsets, packed, strict=True):
        alone = scorer.read([inputs], [[subset]]).scores[0, 0]
        assert float(alone) == pytest.approx(float(score), abs=1e-4), subset_name(subset)


def test_four_modalities_have_sixteen_subsets(posture, scorer):
    from conftest import make_content

    content = make_content()
    content.parts["posture"] = Posture(np.ones(2, np.float32), "made")
    (record,) = scorer.score_prepared([scorer.prepare(content)], AblationOptions())
    assert record.ablation is not None
    assert len(record.ablation.subsets) == 16 and "TAVP" in record.ablation.subsets
    assert len(record.ablation.contribution) == 4 and "posture" in record.ablation.drop


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_modality_has_its_columns(posture, scorer, clip, tmp_path, suffix):
    path = tmp_path / f"r.{suffix}"
    with open_results(path, scorer.fingerprint(AblationOptions())) as results:
        (record,) = run_batch([clip], scorer, results).records
    (stored,) = read_records(path)
    assert record is not None and stored.ablation is not None and record.ablation is not None
    assert stored.modalities["posture"] == "a.posture"
    assert stored.ablation.subsets == pytest.approx(record.ablation.subsets)
    assert "posture" in stored.ablation.contribution


def test_a_method_is_saved_loaded_and_scores(halved, thinker, base_folder, clip, tmp_path):
    from omni_msa.files.labels import LabelScale
    from omni_msa.model.identity import base_sha256

    torch.manual_seed(0)
    scale = LabelScale(0.0, 1.0, -3.0, 3.0)
    info = CheckpointInfo(str(base_folder), base_sha256(base_folder), "halved", scale, MEDIA)
    made = Halved(thinker, scale, gain=2.0)
    folder: Path = tmp_path / "checkpoint"
    save_checkpoint(folder, thinker, made, info)
    scorer = Scorer.load(ModelOptions(model=str(base_folder), checkpoint=str(folder)))
    record = scorer.score(clip)
    assert scorer.name == "halved" and scorer.readout.settings() == {"gain": 2.0}
    assert record.score is not None and record.model["readout"] == "halved"
    inputs = [scorer.prepare(read_clip(clip, scorer.media)).inputs]
    expected = made.read(thinker, inputs, [[inputs[0].present]]).scores[0, 0]
    assert record.score == pytest.approx(expected.item(), abs=1e-4)
