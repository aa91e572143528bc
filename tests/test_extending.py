"""A new modality and a new method are a row each: here both are made up, and go the whole way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pytest
import torch
from conftest import MEDIA
from sounds import write_wav
from torch import nn

from omni_msa.errors import ConfigError
from omni_msa.files.labels import LabelSpace
from omni_msa.files.result_formats import read_records
from omni_msa.files.results import open_results
from omni_msa.media.cache import ContentCache
from omni_msa.media.feed import FileFeed
from omni_msa.media.reader import READERS, OpenClip, PartReader, read_clip
from omni_msa.methods import METHODS, Method, Reading, TrainedBy, parse_options
from omni_msa.methods.method import ParameterGroup
from omni_msa.modalities import MODALITIES, Modality, all_subsets, subset_name
from omni_msa.model.encoders import ENCODERS, Encoded, EncodedSize, Encoder, Extent
from omni_msa.model.estimates import Holding, model_size
from omni_msa.model.inputs import InputBuilder
from omni_msa.model.published import published_thinker_config
from omni_msa.options import AblationOptions, MediaOptions, ModelOptions, TrainOptions
from omni_msa.scoring.planning import Workload, estimate
from omni_msa.scoring.scorer import Scorer
from omni_msa.training.data import TrainingData
from omni_msa.training.trainer import Trainer
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


def measure_posture(extent: Extent, options: MediaOptions) -> EncodedSize:
    return EncodedSize(int(extent.seconds))


@dataclass(frozen=True)
class HalvedOptions:
    """Two options of two types."""

    gain: float = 1.0
    bias: bool = True

    def __post_init__(self) -> None:
        if self.gain <= 0:
            raise ConfigError(f"gain must be positive, got {self.gain}")


class Halved(Method):
    """Half of a linear map of the last hidden state; it leaves the picture alone."""

    name = "halved"
    Options = HalvedOptions
    trained_by = TrainedBy.GRADIENTS

    def __init__(self, thinker, label_space, options) -> None:
        super().__init__(thinker, label_space, options)
        self.line = nn.Linear(thinker.width, 1, bias=options.bias)

    @classmethod
    def modalities(cls, options):
        return super().modalities(options) - {"video"}

    @classmethod
    def num_parameters(cls, width, options, label_space) -> int:
        return width + options.bias

    def parameter_groups(self, learning_rate):
        (group,) = super().parameter_groups(learning_rate)
        return [ParameterGroup(group.parameters, 2 * learning_rate)]

    def _scores(self, thinker, clips, subsets) -> torch.Tensor:
        hidden = thinker.forward(thinker.batch(clips, subsets)).float()
        return 0.5 * self.options.gain * self.line(hidden).squeeze(-1)

    def read(self, thinker, clips, subsets) -> Reading:
        return Reading(self.label_space.clip(self._scores(thinker, clips, subsets)))

    def losses(self, thinker, clips, subsets, labels) -> torch.Tensor:
        return (self._scores(thinker, clips, subsets) - labels.scores).abs()


@pytest.fixture
def posture(monkeypatch):
    """One row in each table that a modality has."""
    monkeypatch.setitem(MODALITIES, "posture", Modality("posture", "P", "posture"))
    monkeypatch.setitem(READERS, "posture", PartReader(Posture, read_posture))
    monkeypatch.setitem(ENCODERS, "posture", Encoder(encode_posture, measure_posture))


@pytest.fixture
def halved(monkeypatch):
    """One row in the table of methods."""
    monkeypatch.setitem(METHODS, Halved.name, Halved)


@pytest.fixture
def clip(tmp_path) -> Clip:
    path = write_wav(tmp_path / "a.wav")
    path.with_suffix(".txt").write_text("I love this film.")
    path.with_suffix(".posture").write_text("[0.5, -0.5, 1.0]")
    return Clip(path, label=1.0)


def test_a_modality_is_read_cached_and_fed(posture, clip, tmp_path):
    content = read_clip(clip, MediaOptions())
    assert content.parts.keys() == {"text", "audio", "posture"}
    assert content.media["posture_seconds"] == 3
    cache = ContentCache(tmp_path / "cache", 10**9)
    key = cache.key(clip, MediaOptions())
    assert key is not None
    cache.put(key, content)
    # processes of its own would not know a modality that only this test has: from the cache
    (fed,) = FileFeed([clip], MediaOptions(), cache=cache).read([0])
    assert not isinstance(fed, Exception) and fed.parts.keys() == content.parts.keys()
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
    packed = scorer.method.read(scorer.thinker, [inputs], [subsets]).scores[0]
    for subset, score in zip(subsets, packed, strict=True):
        alone = scorer.method.read(scorer.thinker, [inputs], [[subset]]).scores[0, 0]
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
        record = scorer.score(clip)
        results.write(record)
    (stored,) = read_records(path)
    assert stored.ablation is not None and record.ablation is not None
    assert stored.modalities["posture"] == "a.posture"
    assert stored.ablation.subsets == pytest.approx(record.ablation.subsets)
    assert "posture" in stored.ablation.contribution


def test_a_modality_is_planned(posture):
    size = model_size(published_thinker_config("7b"))
    shown = estimate(size, Workload(8.0), Holding()).tokens
    assert shown.to_json()["posture"] == 8
    without = frozenset({"text", "audio", "video"})
    hidden = estimate(size, Workload(8.0, modalities=without), Holding()).tokens
    assert shown.total == hidden.total + 8 and shown.packed > hidden.packed + 8


def train_halved(base_folder, folder, clips, **options):
    """A run of the made-up method, without a dropout."""
    small = {"epochs": 4, "batch_size": 4, "lora_rank": 2, "lora_alpha": 2, "lora_dropout": 0.0}
    rates = {"lora_learning_rate": 3e-3, "head_learning_rate": 3e-3}
    chosen = TrainOptions(method="halved", **small, **rates, method_options=options)
    media, cache = MediaOptions(**MEDIA), ContentCache(folder.parent / "cache", 10**9)
    feeds = [FileFeed(part, media, cache=cache) for part in (clips, clips[:2])]
    trainer = Trainer(ModelOptions(model=str(base_folder)), chosen, media)
    return trainer.run(TrainingData(*feeds), folder)


def test_a_method_is_trained_saved_loaded_and_scores(halved, base_folder, tmp_path):
    texts = ("I love this film.", "It was terrible.", "Wonderful and warm.", "The food was cold.")
    clips = [
        Clip(write_wav(tmp_path / f"{i}.wav"), transcript=text, label=2.0 * (-1) ** i)
        for i, text in enumerate(texts)
    ]
    folder = tmp_path / "checkpoint"
    info = train_halved(base_folder, folder, clips, gain="2", bias="false")
    assert info.method == "halved" and info.method_options == {"gain": 2.0, "bias": False}
    assert set(info.self_check["scores"]) == {"", "T", "A", "TA"}  # of the picture, nothing
    log = [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in log if row["event"] == "step"]
    assert losses[-1] < losses[0]

    scorer = Scorer.load(ModelOptions(checkpoint=str(folder)))
    assert scorer.name == "halved" and scorer.hidden == {"video", "ecg"}
    (weights,) = scorer.method.parameters()
    assert weights.numel() == Halved.num_parameters(64, scorer.method.options, LabelSpace())
    records = [scorer.score(clip) for clip in clips]
    errors = [abs(record.score - clip.label) for record, clip in zip(records, clips, strict=True)]
    assert sum(errors[:2]) / 2 == pytest.approx(info.metrics["mae"], abs=1e-3)
    record = records[0]
    assert record.model["readout"] == "halved" and record.modalities["video"] is None
    assert record.ablation is not None and set(record.ablation.contribution) == {"text", "audio"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gain": "-1"}, "gain must be positive"),
        ({"bias": "perhaps"}, "bias=perhaps: it takes true or false"),
        ({"loudness": "1"}, "halved: option 'loudness' is not known; choose one of: gain, bias"),
    ],
)
def test_a_methods_options_are_its_own(halved, options, message):
    with pytest.raises(ConfigError, match=message):
        parse_options(Halved, options)


@dataclass(frozen=True)
class EveryKind:
    """An option of every type that an option may have."""

    word: str = "a"
    count: int = 1
    rate: float = 1.0
    on: bool = True
    limit: int | None = None
    name: str | None = None


class Various(Halved):
    """A method with those options."""

    name = "various"
    Options = EveryKind


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"word": "none", "count": "2", "rate": "2"}, {"word": "none", "count": 2, "rate": 2.0}),
        ({"on": "false", "limit": "3"}, {"on": False, "limit": 3}),
        ({"on": False, "rate": 2, "limit": None}, {"on": False, "rate": 2.0, "limit": None}),
        ({"limit": "none"}, {"limit": None}),
        ({"name": "abc"}, {"name": "abc"}),
    ],
)
def test_options_come_as_text_or_as_json(values, expected):
    options = parse_options(Various, values)
    assert options == EveryKind(**expected)
    for name, value in expected.items():
        assert type(getattr(options, name)) is type(value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 2.7}, "count=2.7: it takes a whole number"),
        ({"count": True}, "count=True: it takes a whole number"),
        ({"rate": None}, "rate=None: it takes a number"),
        ({"rate": [1]}, r"rate=\[1\]: it takes a number"),
        ({"on": "yes"}, "on=yes: it takes true or false"),
        ({"limit": "few"}, "limit=few: it takes a whole number or none"),
        ({"word": 3}, "word=3: it takes a word"),
    ],
)
def test_options_of_another_kind_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        parse_options(Various, values)


def test_options_that_are_not_in_the_weights_are_in_the_fingerprint(halved, scorer):
    fingerprints = {scorer.fingerprint(AblationOptions())}
    for gain in (1.0, 2.0):
        method = Halved(scorer.thinker, scorer.label_space, HalvedOptions(gain=gain))
        other = Scorer(scorer.thinker, replace(scorer.checkpoint, method=method), scorer.media)
        fingerprints.add(other.fingerprint(AblationOptions()))
    assert len(fingerprints) == 3
    assert scorer.method.scoring_options() == {}  # a head's shape shows in its weights
