"""A checkpoint scores the same after a round trip, and refuses everything that is not its own."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace

import pytest
import torch
from conftest import make_checkpoint, make_content
from safetensors.torch import load_file, save_file

from omni_msa.errors import ConfigError, ModelError
from omni_msa.model.identity import file_sha256
from omni_msa.options import AblationOptions, ModelOptions
from omni_msa.scoring.checkpoint import media_options, read_info, save_checkpoint
from omni_msa.scoring.scorer import Scorer


def scores(scorer) -> list[float]:
    prepared = scorer.prepare(make_content())
    record = scorer.score_prepared([prepared], AblationOptions())[0]
    return list(record.ablation.subsets.values())


def load(base_folder, folder, beside=None) -> Scorer:
    model = ModelOptions(model=str(base_folder), checkpoint=str(folder))
    return Scorer.load(model, beside=beside)


@pytest.fixture()
def copy(checkpoint_folder, tmp_path):
    return shutil.copytree(checkpoint_folder, tmp_path / "copy")


def test_a_copy_of_the_folder_scores_the_same(base_folder, scorer, copy):
    assert scores(load(base_folder, copy)) == scores(scorer)


def test_the_adapter_matters(base_folder, scorer, tmp_path):
    """Another adapter gives other scores, so a lost one would be noticed."""
    folder = make_checkpoint(base_folder, tmp_path / "c")
    path = folder / "adapter_model.safetensors"
    save_file({k: v * 0 for k, v in load_file(path).items()}, path, metadata={"format": "pt"})
    info = json.loads((folder / "omni_msa.json").read_text())
    info["adapter_sha256"] = file_sha256(path)
    (folder / "omni_msa.json").write_text(json.dumps(info))
    changed = torch.tensor(scores(load(base_folder, folder)))
    assert (changed - torch.tensor(scores(scorer))).abs().max() > 1e-3


def test_the_head_is_fp32_and_outside_the_quantizer(base_folder, checkpoint_folder):
    options = ModelOptions(str(base_folder), str(checkpoint_folder), quantize="4bit")
    head = Scorer.load(options).method
    assert {p.dtype for p in head.parameters()} == {torch.float32}
    assert all(type(m).__module__.startswith("torch.") for m in head.layers)


def test_the_head_has_the_size_that_was_derived():
    from omni_msa.methods.regression import mlp_head

    assert sum(p.numel() for p in mlp_head(3584).parameters()) == 918_529


def test_another_base_is_refused_by_name(copy, base_folder, tmp_path):
    other = shutil.copytree(base_folder, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["note"] = "retrained"
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="made for base .* not for .*other"):
        load(other, copy)


@pytest.mark.parametrize(
    ("file", "what"),
    [
        ("readout.safetensors", "missing"),
        ("adapter_model.safetensors", "missing"),
        ("readout.safetensors", "truncated"),
        ("adapter_model.safetensors", "truncated"),
        ("omni_msa.json", "missing"),
        ("omni_msa.json", "truncated"),
        ("adapter_config.json", "missing"),
    ],
)
def test_damage_is_one_clear_line(copy, base_folder, file, what):
    path = copy / file
    if what == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ModelError, match="^checkpoint .*copy: ") as caught:
        load(base_folder, copy)
    assert "\n" not in str(caught.value)


def test_a_foreign_adapter_key_is_refused(copy, base_folder):
    path = copy / "adapter_model.safetensors"
    tensors = load_file(path)
    key = next(iter(tensors))
    tensors["base_model.model.elsewhere.lora_A.weight"] = tensors.pop(key)
    save_file(tensors, path, metadata={"format": "pt"})
    info = json.loads((copy / "omni_msa.json").read_text())
    info["adapter_sha256"] = file_sha256(path)
    (copy / "omni_msa.json").write_text(json.dumps(info))
    with pytest.raises(ModelError, match="adapter tensors are missing or foreign"):
        load(base_folder, copy)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("format_version", 99, "format 99, this version reads 1"),
        ("prompt_version", "0", "trained with prompt 0"),
        ("surprise", 1, "damaged"),
        ("media", None, r"damaged \(media is None\)"),
        ("hide", "audio", r"damaged \(hide is 'audio'\)"),
        ("training", [], r"damaged \(training is \[\]\)"),
    ],
)
def test_other_formats_are_refused(copy, field, value, message):
    info = json.loads((copy / "omni_msa.json").read_text())
    info[field] = value
    (copy / "omni_msa.json").write_text(json.dumps(info))
    with pytest.raises(ModelError, match=message):
        read_info(copy)


def test_users_media_choices_replace_the_checkpoints_and_are_checked(checkpoint_folder):
    info = read_info(checkpoint_folder)
    options = media_options(info, {"fps": 4.0, "max_frames": None, "max_pixels": 784})
    assert (options.fps, options.max_frames, options.min_pixels) == (4.0, 8, 784)
    assert media_options(info, {"max_frames": 2}).min_frames == 2
    with pytest.raises(ConfigError, match=r"min \(9\) <= max \(8\)"):
        media_options(info, {"min_frames": 9})
    with pytest.raises(ConfigError, match="fps"):
        media_options(info, {"fps": 0.0})
    with pytest.raises(ConfigError, match="not known"):
        media_options(info, {"colour": "red"})


def test_a_readout_that_the_checkpoint_does_not_hold(base_folder, checkpoint_folder):
    for readout, message in (("probe", "holds a regression readout"), ("poetry", "choose one of")):
        with pytest.raises(ConfigError, match=message):
            Scorer.load(ModelOptions(str(base_folder), str(checkpoint_folder), readout=readout))


def test_a_base_that_does_not_exist_is_said_before_a_missing_checkpoint():
    with pytest.raises(ModelError, match="no such folder"):
        Scorer.load(ModelOptions(model="/not/here"))


def test_checkpoints_of_one_base_share_it_in_memory(base_folder, checkpoint_folder, tmp_path):
    """Each computes with its own adapter in whatever order, and the bare base with none."""
    other = make_checkpoint(base_folder, tmp_path / "other", seed=3)
    alone = {
        "first": load(base_folder, checkpoint_folder),
        "second": load(base_folder, other),
        "none": Scorer.load(ModelOptions(str(base_folder))),
    }
    first = load(base_folder, checkpoint_folder)
    shared = {
        "first": first,
        "second": load(base_folder, other, beside=first),
        "none": Scorer.load(ModelOptions(str(base_folder)), beside=first),
    }
    expected = {name: scores(scorer) for name, scorer in alone.items()}
    assert len({row[-1] for row in expected.values()}) == 3
    for name in ("second", "first", "none", "first", "second", "none", "second"):
        assert scores(shared[name]) == pytest.approx(expected[name], abs=1e-5)
    weights = {id(scorer.thinker.core.lm_head.weight) for scorer in shared.values()}
    assert len(weights) == 1 and not shared["none"].thinker.adapted
    # an adapter that shares its base is saved under the names it came with
    again = tmp_path / "again"
    save_checkpoint(
        again, shared["second"].thinker, shared["second"].method, shared["second"].checkpoint.info
    )
    assert sorted(p.name for p in again.iterdir()) == sorted(p.name for p in other.iterdir())
    tensors = load_file(other / "adapter_model.safetensors")
    for name, tensor in load_file(again / "adapter_model.safetensors").items():
        torch.testing.assert_close(tensor, tensors[name])
    assert scores(load(base_folder, again)) == pytest.approx(expected["second"])


def test_another_base_or_precision_is_not_shared(base_folder, checkpoint_folder, tiny):
    first = load(base_folder, checkpoint_folder, beside=tiny)
    packed = Scorer.load(
        ModelOptions(str(base_folder), str(checkpoint_folder), quantize="8bit"), beside=first
    )
    assert first.thinker.shared is not tiny.thinker.shared
    assert packed.thinker.shared is not first.thinker.shared
    assert packed.thinker.base.quantize == "8bit"


def test_an_adapter_that_does_not_load_leaves_its_neighbours_alone(
    base_folder, checkpoint_folder, tmp_path
):
    first = load(base_folder, checkpoint_folder)
    expected = scores(first)
    folder = make_checkpoint(base_folder, tmp_path / "c")
    path = folder / "adapter_model.safetensors"
    save_file(dict(list(load_file(path).items())[1:]), path, metadata={"format": "pt"})
    info = json.loads((folder / "omni_msa.json").read_text())
    info["adapter_sha256"] = file_sha256(path)
    (folder / "omni_msa.json").write_text(json.dumps(info))
    with pytest.raises(
        ModelError, match=r"1 adapter tensors are missing.*lora_A\.weight"
    ) as raised:
        load(base_folder, folder, beside=first)
    assert str(raised.value).count("checkpoint") == 1
    assert list(first.thinker.model.peft_config) == ["default"]
    assert scores(first) == pytest.approx(expected, abs=1e-6)


def test_a_base_is_shared_where_it_is_the_same(base_folder, checkpoint_folder, tiny):
    first = load(base_folder, checkpoint_folder)
    options = ModelOptions(str(base_folder), str(checkpoint_folder))
    assert first.has_base_of(options) and first.has_base_of(ModelOptions(str(base_folder)))
    assert not first.has_base_of(replace(options, quantize="8bit"))
    assert not first.has_base_of(ModelOptions()) and tiny.has_base_of(ModelOptions())


def test_training_is_recorded_as_it_is_now(checkpoint_folder, tmp_path):
    """Version 0.1.0 wrote the head's options among those of training."""
    folder = shutil.copytree(checkpoint_folder, tmp_path / "copy")
    info = json.loads((folder / "omni_msa.json").read_text())
    now = read_info(folder)
    for record, expected in (
        (
            {"readout": "regression", "head": "mlp", "head_dropout": 0.2, "epochs": 3},
            {
                "method": "regression",
                "method_options": {"head": "mlp", "dropout": 0.2},
                "epochs": 3,
            },
        ),
        ({"penalty": 10.0, "clips": 8}, {"method_options": {"penalty": None}, "clips": 8}),
    ):
        (folder / "omni_msa.json").write_text(json.dumps(info | {"training": record}))
        assert read_info(folder) == replace(now, training=expected)


@pytest.mark.parametrize("settings", [{"dropout": None}, {"dropout": [1]}, {"heads": "mlp"}])
def test_options_that_the_method_does_not_take(base_folder, copy, settings):
    info = json.loads((copy / "omni_msa.json").read_text())
    info["readout_settings"] = settings
    (copy / "omni_msa.json").write_text(json.dumps(info))
    with pytest.raises(ModelError, match="readout does not fit"):
        load(base_folder, copy)


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_files_have_the_permissions_of_ordinary_ones(base_folder, tmp_path, mask):
    before = os.umask(mask)
    try:
        folder = make_checkpoint(base_folder, tmp_path / "checkpoint")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert len(modes) == 4 and set(modes.values()) == {0o666 & ~mask}
