"""Training learns, repeats itself bit for bit, and checks its labels before it starts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import MEDIA, make_content
from safetensors.torch import load_file

from omni_msa.config import AblationOptions, MediaOptions, ModelOptions, TrainOptions
from omni_msa.errors import ConfigError, ManifestError
from omni_msa.feed import MemoryFeed
from omni_msa.scorer import Scorer
from omni_msa.train import Trainer
from omni_msa.training_data import TrainingData, with_labels

RANGE = (-3.0, 3.0)


def clips(labels, seconds=None, num_frames=None):
    """Clips whose words tell the label; equally long, so that batches mix them."""
    contents = []
    for i, label in enumerate(labels):
        text = "good good" if label > 0 else "evil evil"
        content = make_content(text=text, seed=i, seconds=seconds, num_frames=num_frames)
        contents.append(replace(content, clip=replace(content.clip, label=label)))
    return contents


def run(base_folder, out, train, progress=lambda _: None, **changes):
    small = {"epochs": 4, "batch_size": 4, "lora_rank": 4, "lora_alpha": 4}
    options = TrainOptions(**(small | changes))
    model = ModelOptions(model=str(base_folder))
    data = TrainingData(MemoryFeed(train), MemoryFeed(train[:4]), RANGE)
    return Trainer(model, options, MediaOptions(**MEDIA), progress).run(data, out, fresh=True)


@pytest.mark.parametrize("subsets", ["packed", "full"])
def test_it_learns_and_the_saved_checkpoint_scores_what_was_validated(
    base_folder, tmp_path, subsets
):
    seen = []
    train = clips([2.0, -2.0] * 8)
    info = run(
        base_folder, tmp_path, train, seen.append, subsets=subsets, lora_learning_rate=3e-3,
        head_learning_rate=3e-3, epochs=20, patience=20,
    )  # fmt: skip
    assert info.metrics["mae"] < 0.7 < 2.0  # guessing the mean has an MAE of 2
    scorer = Scorer.load(ModelOptions(str(base_folder), str(tmp_path)))
    whole = AblationOptions(enabled=False)
    records = scorer.score_prepared([scorer.prepare(c) for c in train[:4]], whole)
    mae = sum(abs(r.score - c.clip.label) for r, c in zip(records, train, strict=False)) / 4
    assert mae == pytest.approx(info.metrics["mae"], abs=1e-4)
    epochs = [p.metrics["mae"] for p in seen if p.metrics]
    assert len(epochs) <= 20 and info.metrics["mae"] == min(epochs)


def test_the_same_seed_gives_the_same_weights(base_folder, tmp_path):
    for name in ("a", "b"):
        train = clips([1.0, -1.5, 2.0, -0.5], seconds=0.5, num_frames=2)
        run(base_folder, tmp_path / name, train, epochs=1, seed=7)
    for file in ("adapter_model.safetensors", "readout.safetensors"):
        first, second = (load_file(tmp_path / name / file) for name in ("a", "b"))
        assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_subset_is_trained_towards_its_own_label_where_there_is_one(thinker):
    content = clips([2.0], seconds=0.5, num_frames=2)[0]
    content = replace(content, clip=replace(content.clip, subset_labels={"T": -1.0, "": 0.5}))
    item = with_labels(content.clip, thinker.builder.build(content, MediaOptions(**MEDIA)), True)
    assert dict(zip(item.subsets, item.labels, strict=True)) == {
        frozenset(): 0.5,
        frozenset({"text"}): -1.0,
        **{s: 2.0 for s in item.subsets if len(s) > 1 or (s and s != {"text"})},
    }


@pytest.mark.parametrize(
    ("train", "valid", "error", "message"),
    [
        ([], [1.0], ManifestError, "both are needed"),
        ([1.0], [], ManifestError, "both are needed"),
        ([1.0, None], [1.0], ManifestError, r"1 clips have no label in \[-3, 3\]"),
        ([1.0, 4.0], [1.0], ManifestError, r"clip1.mp4 \(4.0\)"),
        ([1.0, 1.0], [0.0], ConfigError, "all training labels are equal"),
    ],
)
def test_labels_are_checked_before_anything_is_trained(train, valid, error, message):
    def contents(labels):
        made = clips([0.0 if label is None else label for label in labels])
        return [
            replace(c, clip=replace(c.clip, label=label))
            for c, label in zip(made, labels, strict=True)
        ]

    with pytest.raises(error, match=message):
        TrainingData(MemoryFeed(contents(train)), MemoryFeed(contents(valid)), RANGE)


@pytest.mark.parametrize("changes", [{"epochs": 0}, {"subsets": "some"}, {"lora_dropout": 1.0}])
def test_options_are_checked(changes):
    with pytest.raises(ConfigError):
        TrainOptions(**changes)
