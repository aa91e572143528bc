"""Loading a base in the published layout: the Thinker alone, quantized if that is wanted."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch.nn.functional import linear

from omni_msa.environment import prefer_huge_pages
from omni_msa.errors import ConfigError, ModelError, first_line
from omni_msa.model.folders import TINY, base_folder, local_folder
from omni_msa.model.limits import check_files, check_weights, read_settings
from omni_msa.model.shards import check_shards, is_of_the_thinker, loadable
from omni_msa.model.thinker import LoadedBase, Thinker

__all__ = ["TINY", "base_folder", "load_thinker", "local_folder"]

FOUR_BIT_ABOVE = 1_000_000_000  # parameters: what `--quantize auto` goes by


# What the libraries below raise on a damaged folder.
UNLOADABLE = (
    OSError, ValueError, KeyError, RuntimeError, ImportError, TypeError, SafetensorError,
    StrictDataclassError,
)  # fmt: skip


def load_thinker(
    name: str, quantize: str = "auto", device: str = "auto", loaded: Thinker | None = None
) -> Thinker:
    """Loads a base in the published layout: the embedded `tiny`, a folder, or a hub id.

    Only `thinker.*` tensors are read; the Talker never takes memory. Nothing may be missing.

    Args:
        loaded: a Thinker whose weights are shared if they are what would be loaded.

    Raises:
        ModelError: not found, not a Qwen2.5-Omni folder, damaged, or out of memory.
        ConfigError: the device or quantization is not available here.
    """
    prefer_huge_pages()
    folder = base_folder(name)
    config = thinker_config(name, folder)
    where = _device(device)
    parameters = count_parameters(config)
    check_shards(name, folder)
    check_weights(name, folder, parameters)
    how = resolve_quantize(quantize, parameters)
    if loaded is not None and loaded.base.holds(folder, how, where):
        return loaded.beside(name, folder)
    from transformers import Qwen2_5OmniThinkerForConditionalGeneration

    processor = load_processor(name, folder)
    try:
        with quiet_loading(), loadable(folder) as weights:
            result: Any = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(
                weights,
                config=config,
                trust_remote_code=False,
                use_safetensors=True,  # other formats are pickles
                dtype=torch.bfloat16 if where == "cuda" else torch.float32,
                quantization_config=quantization_config(how, where),
                device_map=where if how != "none" or where == "cuda" else None,
                output_loading_info=True,
            )
    except UNLOADABLE as error:
        raise ModelError(f"model {name}: {first_line(error)}") from error
    model, info = result
    foreign = [key for key in info["unexpected_keys"] if is_of_the_thinker(key)]
    if info["missing_keys"] or foreign or info["mismatched_keys"]:
        wrong = sorted(info["missing_keys"]) + foreign + sorted(map(str, info["mismatched_keys"]))
        raise ModelError(
            f"model {name}: {len(wrong)} tensors are missing, foreign or of another shape, "
            f"such as {wrong[0]}; the folder must hold a whole Qwen2.5-Omni Thinker"
        )
    if where == "cpu":
        keep_packing(model)
    embed_patches_by_product(model.model.visual.patch_embed)
    model.eval().requires_grad_(False)
    return Thinker(model, processor, LoadedBase(name, folder, how, where))


def embed_patches_by_product(patch_embed: Any) -> None:
    """Has a patch embedding, whose convolution sees one patch at a time, multiply matrices (in
    place): the same numbers to rounding, in a fraction of the time on a CPU."""
    proj = patch_embed.proj

    def embed(pixels: torch.Tensor) -> torch.Tensor:
        weight = proj.weight.flatten(1)  # [H, 1176]
        return linear(pixels.to(weight.dtype), weight, proj.bias)

    patch_embed.forward = embed


def load_processor(name: str, folder: Path) -> Any:
    """A base's tokenizer, template and feature extractors; code that it brings never runs.

    Raises:
        ModelError: they are not there, damaged, or cannot be.
    """
    from transformers import Qwen2_5OmniProcessor

    check_files(name, folder)
    try:
        with quiet_loading():
            return Qwen2_5OmniProcessor.from_pretrained(folder, trust_remote_code=False)
    except (*UNLOADABLE, AttributeError) as error:
        raise ModelError(f"model {name}: {first_line(error)}") from error


def is_held(loaded: Thinker, name: str, quantize: str, device: str) -> bool:
    """Whether a Thinker in memory is what `load_thinker` would load.

    Raises:
        ModelError, ConfigError: as it does, for a base or a device that is not there.
    """
    folder = base_folder(name)
    parameters = count_parameters(thinker_config(name, folder))
    return loaded.base.holds(folder, resolve_quantize(quantize, parameters), _device(device))


def keep_packing(model: Any) -> None:
    """Stops bitsandbytes from repacking 4-bit weights at their first use on a CPU (in place).

    Its packing for AVX512 refuses the published vision tower's 3420 columns, and lets no gradient
    through to the layers below, without a word.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def is_large(parameters: int) -> bool:
    """Whether a base is quantized, and its training recomputes activations, by default."""
    return parameters > FOUR_BIT_ABOVE


def resolve_quantize(quantize: str, parameters: int) -> str:
    """What `auto` means for a base of so many parameters: 4-bit above a billion, none below."""
    if quantize != "auto":
        return quantize
    return "4bit" if is_large(parameters) else "none"


def count_parameters(config: Any) -> int:
    """Parameters of a Thinker of this configuration, counted without allocating any."""
    from transformers import Qwen2_5OmniThinkerForConditionalGeneration

    try:
        with torch.device("meta"):
            model = Qwen2_5OmniThinkerForConditionalGeneration._from_config(config)
    except (*UNLOADABLE, AttributeError, ArithmeticError) as error:
        raise ModelError(f"no model is of this configuration: {first_line(error)}") from error
    return sum(p.numel() for p in model.parameters())


def quantization_config(how: str, device: str) -> Any:
    """bitsandbytes settings: NF4 with double quantization, or LLM.int8; None for none.

    The language-model head is left alone: its skip list names it, because giving any list replaces
    the library's own.
    """
    if how == "none":
        return None
    from transformers import BitsAndBytesConfig

    skip = ["lm_head"]
    if how == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skip)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if device == "cuda" else torch.float32,
        llm_int8_skip_modules=skip,
    )


def thinker_config(name: str, folder: Path) -> Any:
    """The `thinker_config` of a published folder (or of a Thinker-only one)."""
    from transformers import Qwen2_5OmniThinkerConfig

    config = read_settings(f"model {name}", folder / "config.json")
    kind = config.get("model_type")
    if kind not in ("qwen2_5_omni", "qwen2_5_omni_thinker"):
        raise ModelError(
            f"model {name}: model_type is {kind!r}; only qwen2_5_omni (7B, 3B, tiny) is supported"
        )
    thinker = config.get("thinker_config", config)
    try:
        return Qwen2_5OmniThinkerConfig(**thinker)
    except (*UNLOADABLE, AttributeError) as error:
        raise ModelError(f"model {name}: config.json: {first_line(error)}") from error


def _device(device: str) -> str:
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device cuda: no CUDA GPU is visible to torch; use --device cpu or auto")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Keeps library chatter off the user's screen: progress bars, remarks, deprecations."""
    from transformers.utils import logging as hf_logging

    # For good: it remarks on an optional kernels package when imported, and, for 8-bit layers that
    # are given fp32 (as they are on a CPU), at every matrix product.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

    bars = hf_logging.is_progress_bar_enabled()
    verbosity = hf_logging.get_verbosity()
    hf_logging.disable_progress_bar()
    hf_logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if bars:
            hf_logging.enable_progress_bar()
