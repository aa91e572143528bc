"""Loading: the published layout as it is, the Talker left alone, and every way it can go wrong."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from conftest import make_content

from omni_msa.errors import ConfigError, ModelError
from omni_msa.modalities import all_subsets
from omni_msa.model.loading import count_parameters, keep_packing, load_thinker, resolve_quantize
from omni_msa.model.lora import LoraSettings, add_lora
from omni_msa.model.published import published_thinker_config
from omni_msa.model.thinker import SharedModel, Thinker
from omni_msa.options import MediaOptions


def hidden(thinker) -> torch.Tensor:
    inputs = thinker.builder().build(make_content(), MediaOptions())
    with torch.inference_mode():
        return thinker.forward(thinker.batch([inputs], [all_subsets(inputs.present)])).float()


@pytest.fixture()
def sharded(base_folder, tmp_path):
    """The base again as a full release: three shards, and a Talker beside the Thinker."""
    from scripts.tiny import base

    config = json.loads((base_folder / "config.json").read_text())["thinker_config"]
    for file in base_folder.iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, tmp_path)
    model = load_thinker(str(base_folder)).core
    talker = {"talker.model.embed.weight": torch.ones(50, 50), "token2wav.dit.w": torch.ones(9)}
    base.save_published(model, config, tmp_path, shards=3, extra=talker)
    return tmp_path


def test_a_full_release_in_shards_loads_the_same_thinker_and_no_talker(sharded, thinker):
    loaded = load_thinker(str(sharded))
    assert len(list(sharded.glob("model-*-of-00003.safetensors"))) == 3
    assert not [n for n, _ in loaded.model.named_parameters() if "talker" in n or "token2wav" in n]
    theirs, ours = thinker.model.state_dict(), loaded.model.state_dict()
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)
    torch.testing.assert_close(hidden(loaded), hidden(thinker), atol=1e-4, rtol=0)


def test_missing_tensors_are_refused_not_drawn_at_random(sharded):
    index = json.loads((sharded / "model.safetensors.index.json").read_text())
    gone = "thinker.model.layers.1.mlp.up_proj.weight"
    file = index["weight_map"].pop(gone)
    from safetensors.torch import load_file, save_file

    tensors = load_file(sharded / file)
    del tensors[gone]
    save_file(tensors, sharded / file, metadata={"format": "pt"})
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="1 tensors are missing.*up_proj"):
        load_thinker(str(sharded))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no/such/folder", "no such folder; give 'tiny'"),
        ("/not/here", "no such folder"),
        ("nonsense", "no such folder"),
    ],
)
def test_names_that_are_no_model(name, message):
    with pytest.raises(ModelError, match=message):
        load_thinker(name)


def test_a_hub_id_that_cannot_be_reached(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="nobody/nothing: not in the local cache"):
        load_thinker("nobody/nothing")


@pytest.mark.parametrize("damage", ["empty", "config", "kind", "weights", "truncated"])
def test_damaged_folders(sharded, damage, tmp_path_factory):
    folder = sharded
    first = sorted(folder.glob("*.safetensors"))[0]
    if damage == "empty":
        folder = tmp_path_factory.mktemp("empty")
    elif damage == "config":
        (folder / "config.json").write_text("{")
    elif damage == "kind":
        (folder / "config.json").write_text('{"model_type": "llama"}')
    elif damage == "weights":
        first.unlink()
    else:
        first.write_bytes(first.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"^model "):
        load_thinker(str(folder))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_cuda_without_a_gpu_says_what_to_do(base_folder):
    with pytest.raises(ConfigError, match="--device cpu or auto"):
        load_thinker(str(base_folder), device="cuda")


@pytest.mark.parametrize(("how", "most"), [("4bit", 0.8), ("8bit", 0.2)])
def test_quantized_on_a_cpu_stays_close_and_leaves_the_head_alone(base_folder, thinker, how, most):
    loaded = load_thinker(str(base_folder), quantize=how)
    exact = hidden(thinker)
    moved = (hidden(loaded) - exact).norm() / exact.norm()
    assert 0 < moved < most
    names = {type(m).__name__ for m in loaded.core.model.language_model.modules()}
    assert {"4bit": "Linear4bit", "8bit": "Linear8bitLt"}[how] in names
    assert type(loaded.core.lm_head) is torch.nn.Linear
    assert loaded.base.quantize == how


def test_the_published_thinker_is_counted_to_the_parameter_and_quantized_by_default(thinker):
    config = published_thinker_config("7b")
    assert count_parameters(config) == 8_931_813_888
    assert resolve_quantize("auto", count_parameters(config)) == "4bit"
    assert resolve_quantize("auto", count_parameters(thinker.config)) == "none"
    assert resolve_quantize("none", count_parameters(config)) == "none"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scope", "parameters", "percent"),
    [("all", 103_043_072, 1.1405), ("language", 80_740_352, 0.8959)],
)
def test_lora_is_the_published_share_of_the_7b_model(scope, parameters, percent):
    """Rank 32 by plain suffix on the whole Thinker is the abstract's 1.14 %; counted on meta."""
    from transformers import Qwen2_5OmniThinkerForConditionalGeneration

    with torch.device("meta"):
        model = Qwen2_5OmniThinkerForConditionalGeneration._from_config(
            published_thinker_config("7b")
        )
        holder = Thinker.__new__(Thinker)  # its tokenizer has no part in this
        holder.shared = SharedModel(model)
        holder.encoders = {}
        lora = add_lora(holder, LoraSettings(32, 32, 0.1, scope))
    assert (lora["parameters"], lora["percent"]) == (parameters, percent)


def test_gradients_pass_through_4_bit_layers_after_an_evaluation(base_folder):
    thinker = load_thinker(str(base_folder), "4bit", "cpu")
    add_lora(thinker, LoraSettings(4, 4, 0.0))
    inputs = thinker.builder().build(make_content(), MediaOptions())
    batch = thinker.batch([inputs], [[inputs.present]])
    with torch.inference_mode():
        thinker.model.eval()
        thinker.forward(batch)
    thinker.model.train()
    thinker.forward(batch).sum().backward()
    parts = {"language_model": 0.0, "audio_tower": 0.0, "visual": 0.0}
    for name, parameter in thinker.model.named_parameters():
        if "lora_B" in name:
            assert parameter.grad is not None, name
            part = next(p for p in parts if f".{p}." in name)
            parts[part] += float(parameter.grad.abs().sum())
    assert all(parts.values()), parts


def test_the_published_vision_widths_run_in_4_bit_on_a_cpu():
    from bitsandbytes.nn import Linear4bit

    layers = torch.nn.Sequential(
        Linear4bit(1280, 3420, compute_dtype=torch.float32, quant_type="nf4"),
        Linear4bit(3420, 1280, compute_dtype=torch.float32, quant_type="nf4"),
    )
    keep_packing(layers)
    with torch.inference_mode():
        assert layers.to("cpu").eval()(torch.randn(3, 1280)).shape == (3, 1280)
