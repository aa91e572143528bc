"""A checkpoint is verified by what it does: its built-in clip gets the scores it got when saved."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import MEDIA, SENTENCES, make_checkpoint
from safetensors.torch import load_file, save_file

from omni_msa.errors import ModelError
from omni_msa.files.labels import LabelSpace
from omni_msa.methods import make_method
from omni_msa.modalities import tokens
from omni_msa.model.identity import base_sha256, file_sha256
from omni_msa.model.loading import TINY, load_thinker
from omni_msa.model.lora import LORA_SUFFIXES, LoraSettings, add_lora
from omni_msa.options import AblationOptions, MediaOptions, ModelOptions
from omni_msa.scoring.checkpoint import CheckpointInfo, save_checkpoint
from omni_msa.scoring.inspection import TOLERANCE, inspect_checkpoint
from omni_msa.scoring.scorer import Scorer
from omni_msa.scoring.self_check import check_scores, self_check_content

SUBSETS = ["", "T", "A", "V", "TA", "TV", "AV", "TAV"]
LORA = {"rank": 4, "alpha": 8, "dropout": 0.0, "scope": "all", "parameters": 1234}


def change_info(folder, change):
    """Edits `omni_msa.json`; the hashes in it follow the files."""
    path = folder / "omni_msa.json"
    info = json.loads(path.read_text())
    for name in ("readout", "adapter_model"):
        file = folder / f"{name}.safetensors"
        info[f"{name.partition('_')[0]}_sha256"] = file_sha256(file) if file.exists() else ""
    change(info)
    path.write_text(json.dumps(info))


def change_tensors(path, change):
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def inspect(folder, base=None):
    model = ModelOptions(model=base and str(base), checkpoint=str(folder))
    return inspect_checkpoint(model)


@pytest.fixture(scope="module")
def saved(base_folder, tmp_path_factory):
    """A checkpoint with an adapter, saved as training saves it: with its scores."""
    out = make_checkpoint(base_folder, tmp_path_factory.mktemp("saved") / "checkpoint", lora=LORA)
    scorer = Scorer.load(ModelOptions(checkpoint=str(out)))
    info = scorer.checkpoint.info
    scores = check_scores(
        scorer.thinker, scorer.method, scorer.builder, MediaOptions(**MEDIA), frozenset()
    )
    save_checkpoint(out, scorer.thinker, scorer.method, replace(info, self_check=scores))
    return out


@pytest.fixture
def checkpoint(saved, tmp_path):
    """The same in a folder that a test may damage."""
    return shutil.copytree(saved, tmp_path / "checkpoint")


# --- the built-in clip ------------------------------------------------------------------------


def test_the_built_in_clip_never_changes():
    """Its scores are stored in checkpoints for good, so its numbers are facts."""
    first, second = self_check_content(), self_check_content()
    assert first.present == tokens()
    np.testing.assert_array_equal(first.parts["video"].rgb, second.parts["video"].rgb)
    assert first.parts["video"].rgb.shape == (4, 112, 112, 3)
    assert first.parts["video"].seconds_per_frame == 0.5
    assert first.parts["video"].rgb[1, 3, 5].tolist() == [2 * 3 + 20, 2 * 5, 3 + 5]
    assert int(first.parts["video"].rgb.astype(np.int64).sum()) == 17_697_792
    samples = first.parts["audio"].samples
    assert len(samples) == 32_000 and np.abs(samples).max() <= 0.4
    assert float(np.square(samples, dtype=np.float64).mean()) == pytest.approx(0.03, abs=1e-4)
    assert first.parts["text"].text == "I did not expect to like it, but it was wonderful."


def test_check_scores_are_those_of_the_clip_scored_alone(scorer):
    options = MediaOptions(**MEDIA)
    found = check_scores(scorer.thinker, scorer.method, scorer.builder, options, frozenset())
    assert list(found["scores"]) == SUBSETS
    assert (found["quantize"], found["device"]) == ("none", "cpu")
    record = scorer.score_prepared([scorer.prepare(self_check_content())], AblationOptions())[0]
    assert found["scores"] == pytest.approx(record.ablation.subsets, abs=1e-4)
    assert len(set(found["scores"].values())) > 4  # it tells the subsets apart


def test_checking_leaves_a_model_in_training_in_training(base_folder, tmp_path):
    thinker = load_thinker(str(base_folder))
    add_lora(thinker, LoraSettings(4, 8, 0.5))
    readout = make_method("regression", thinker, LabelSpace())
    thinker.model.train()
    readout.train()
    first, second = (
        check_scores(thinker, readout, thinker.builder(), MediaOptions(**MEDIA), frozenset())
        for _ in range(2)
    )
    assert first["scores"] == pytest.approx(second["scores"], abs=1e-4)  # no dropout in it
    assert thinker.model.training and readout.training


# --- the verdict ------------------------------------------------------------------------------


def test_a_fresh_checkpoint_is_verified(saved):
    found = inspect(saved)
    assert found.check == "passed" and found.sound
    assert found.largest_difference <= 1e-3
    assert list(found.scores) == SUBSETS


@pytest.mark.parametrize("subset", ["", "TAV"])
def test_another_score_than_the_recorded_one_fails(checkpoint, subset):
    def change(info):
        info["self_check"]["scores"][subset] += 0.01

    change_info(checkpoint, change)
    found = inspect(checkpoint)
    assert found.check == "failed" and not found.sound
    assert found.largest_difference == pytest.approx(0.01, abs=1e-4)


def test_a_difference_within_the_tolerance_is_none(checkpoint):
    def change(info):
        info["self_check"]["scores"]["TAV"] += 0.5 * TOLERANCE

    change_info(checkpoint, change)
    assert inspect(checkpoint).check == "passed"


def test_weights_that_were_changed_together_with_their_hash_are_found_out(checkpoint):
    def shift(tensors):
        name = max(tensors, key=lambda n: n.endswith("4.bias"))
        tensors[name] += 0.1

    change_tensors(checkpoint / "readout.safetensors", shift)
    with pytest.raises(ModelError, match="readout.safetensors differs from what was saved"):
        inspect(checkpoint)
    change_info(checkpoint, lambda info: None)
    assert inspect(checkpoint).check == "failed"


@pytest.mark.parametrize("changed", [{"quantize": "4bit"}, {"device": "cuda"}])
def test_other_conditions_are_no_failure(checkpoint, changed):
    def change(info):
        info["self_check"]["scores"]["TAV"] += 0.1
        info["self_check"] |= changed

    change_info(checkpoint, change)
    found = inspect(checkpoint)
    assert found.check == "other conditions" and found.sound


def test_without_recorded_scores_there_is_no_verdict(checkpoint_folder):
    found = inspect(checkpoint_folder)
    assert found.check == "none" and found.sound and found.largest_difference is None
    assert list(found.scores) == SUBSETS


def test_what_a_checkpoint_never_shows_is_not_checked(checkpoint):
    def change(info):
        info["hide"] = ["audio"]
        info["self_check"] = {}

    change_info(checkpoint, change)
    assert list(inspect(checkpoint).scores) == ["", "T", "V", "TV"]


# --- what is counted --------------------------------------------------------------------------


def linears(model):
    return [n for n, module in model.named_modules() if isinstance(module, torch.nn.Linear)]


def test_every_linear_with_a_published_suffix_is_wrapped(saved, thinker):
    names = [name for name in linears(thinker.model) if name.endswith(LORA_SUFFIXES)]
    parts = {"language model": "language_model", "audio tower": "audio_tower",
             "vision tower": "visual"}  # fmt: skip
    expected = {title: sum(f".{key}." in n for n in names) for title, key in parts.items()}
    assert inspect(saved).wrapped == {k: v for k, v in expected.items() if v}
    assert sum(expected.values()) == len(names)


def test_the_adapters_own_layers_are_not_counted_as_the_bases(saved, thinker):
    """Wrapped or not: what stands there is a linear that was not quantized, or one that was."""
    assert inspect(saved).quantized == {"Linear": len(linears(thinker.model))}


def test_a_language_only_adapter_leaves_the_towers_alone(base_folder, tmp_path):
    thinker = load_thinker(str(base_folder))
    lora = add_lora(thinker, LoraSettings(4, 8, 0.0, "language"))
    scale = LabelSpace()
    info = CheckpointInfo(
        str(base_folder), base_sha256(base_folder), "regression", scale, MEDIA, lora=lora
    )
    save_checkpoint(tmp_path / "c", thinker, make_method("regression", thinker, scale), info)
    found = inspect(tmp_path / "c")
    assert set(found.wrapped) == {"language model"}
    assert found.wrapped["language model"] == 2 * len(LORA_SUFFIXES)  # two layers


def test_the_readouts_parameters_are_counted(saved):
    weights = load_file(saved / "readout.safetensors")
    assert inspect(saved).readout_parameters == sum(t.numel() for t in weights.values())


def test_json_holds_what_was_found(checkpoint):
    found = inspect(checkpoint)
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert told["checkpoint"] == str(checkpoint) and told["lora"] == LORA
    assert told["label_range"] == [-3.0, 3.0] and told["wrapped"] == found.wrapped
    assert told["check"]["result"] == "passed"
    assert told["check"]["recorded"] == pytest.approx(told["check"]["now"], abs=1e-3)


def test_the_embedded_checkpoint_can_be_inspected():
    found = inspect(TINY / "checkpoint")
    assert found.sound and found.info.base == "tiny"
    assert found.info.lora["rank"] == 32 and sum(found.wrapped.values()) > 0


# --- what cannot be loaded --------------------------------------------------------------------


def test_another_base_is_refused(checkpoint, base_folder, tmp_path):
    from scripts.tiny import base

    other = tmp_path / "other"
    base.build(other, SENTENCES, seed=9, vocab_size=400, width=64, layers=2, tower_width=64,
               tower_layers=2, spread=0.1)  # fmt: skip
    message = f"made for base .* not for .*other .*; give --model {base_folder}"
    with pytest.raises(ModelError, match=message):
        inspect(checkpoint, other)


def test_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no omni_msa.json in it"):
        inspect(tmp_path)


@pytest.mark.parametrize("rehash", [False, True])
def test_a_truncated_adapter_is_refused(checkpoint, rehash):
    path = checkpoint / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    if rehash:
        change_info(checkpoint, lambda info: None)
    message = "the adapter does not load" if rehash else "differs from what was saved"
    with pytest.raises(ModelError, match=message):
        inspect(checkpoint)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "readout.safetensors"])
def test_a_missing_file_is_refused(checkpoint, name):
    (checkpoint / name).unlink()
    with pytest.raises(ModelError, match=f"{name} is missing; copy the whole folder again"):
        inspect(checkpoint)


def test_a_missing_adapter_description_is_refused(checkpoint):
    (checkpoint / "adapter_config.json").unlink()
    with pytest.raises(ModelError, match="adapter_config.json is missing"):
        inspect(checkpoint)


def foreign(tensors):
    name = next(iter(tensors))
    tensors[name.replace("layers.0", "layers.7")] = tensors[name].clone()


def lacking(tensors):
    del tensors[next(iter(tensors))]


@pytest.mark.parametrize("change", [foreign, lacking])
def test_a_foreign_or_missing_adapter_tensor_is_refused(checkpoint, change):
    change_tensors(checkpoint / "adapter_model.safetensors", change)
    change_info(checkpoint, lambda info: None)
    with pytest.raises(ModelError, match="1 adapter tensors are missing or foreign, such as"):
        inspect(checkpoint)


@pytest.mark.parametrize("change", [lambda t: t.update(foreign=torch.zeros(2)), lacking])
def test_a_readout_that_does_not_fit_is_refused(checkpoint, change):
    change_tensors(checkpoint / "readout.safetensors", change)
    change_info(checkpoint, lambda info: None)
    with pytest.raises(ModelError, match="readout does not fit"):
        inspect(checkpoint)
