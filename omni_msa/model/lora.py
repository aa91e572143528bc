"""LoRA on the Thinker: where it goes, how a fresh adapter is put on, and how a saved one is."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from omni_msa.errors import ModelError, first_line
from omni_msa.model.identity import ADAPTER_FILES
from omni_msa.model.limits import MAX_RANK, read_settings
from omni_msa.model.loading import UNLOADABLE, quiet_loading
from omni_msa.model.thinker import Thinker

# Plain suffixes over the whole Thinker: at rank 32 the 1.14 % of the 7B model that the abstract of
# arXiv 2606.05713 gives; the names are those of a third-party transcription.
LORA_SUFFIXES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


# The same in the language model alone (0.90 %), by its published name and the one in memory.
LORA_TARGETS: dict[str, list[str] | str] = {
    "all": list(LORA_SUFFIXES),
    "language": r"(.*\.)?(model|language_model)\.layers\.\d+\..*(" + "|".join(LORA_SUFFIXES) + ")",
}


# In an encoder that stands in the Thinker's place: its attention, by the names that it has there.
ENCODER_TARGETS = (
    r".*(attention|attn).*\."
    r"(query|key|value|dense|(query|key|value|[qkvo]|out)_proj|[qkv]_lin|out_lin)"
)


def import_peft() -> Any:
    """PEFT, without the compiler that it would load.

    It imports bitsandbytes, which hands four of its functions to `torch.compile` at once, and that
    alone imports a compiler for seconds. Here they stay as they are written, unless weights were
    quantized before: then bitsandbytes is there already.
    """
    compile_function = torch.compile
    torch.compile = _leave_as_it_is  # type: ignore[assignment]
    try:
        import peft
    finally:
        torch.compile = compile_function
    return peft


def _leave_as_it_is(function: Any = None, **_: Any) -> Any:
    """In the place of `torch.compile`, called or as a decorator with options."""
    return function if function is not None else _leave_as_it_is


@dataclass(frozen=True)
class LoraSettings:
    """Of a fresh adapter; `scope` is a key of `LORA_TARGETS`."""

    rank: int
    alpha: int
    dropout: float
    scope: str = "all"

    def config(self, targets: list[str] | str) -> Any:
        """As PEFT takes them."""
        return import_peft().LoraConfig(
            r=self.rank, lora_alpha=self.alpha, lora_dropout=self.dropout, target_modules=targets
        )


def add_lora(thinker: Thinker, settings: LoraSettings) -> dict[str, Any]:
    """Puts a fresh adapter on the Thinker, or on the text encoder that stands in its place (in
    place), and says how large it is.

    Raises:
        ModelError: the encoder has no attention layers of a known name.
    """
    encoder = thinker.encoders.get("text")
    with quiet_loading():
        if encoder is None:
            _put_on(thinker, settings.config(LORA_TARGETS[settings.scope]))
            trainable, total = thinker.model.get_nb_trainable_parameters()
        else:
            trainable, total = encoder.adapt(settings.config(ENCODER_TARGETS))
    return asdict(settings) | {
        "parameters": trainable,
        "percent": round(100 * trainable / total, 4),
    }


def load_adapter(folder: Path, thinker: Thinker) -> None:
    """Puts a saved adapter on the Thinker (in place), ready to score.

    Raises:
        ModelError: it is damaged, or made for another model.
    """
    try:
        with quiet_loading():
            config = import_peft().LoraConfig(**_adapter_settings(folder), inference_mode=True)
            _put_on(thinker, config)
            set_adapter(folder, thinker)
    except UNLOADABLE as error:
        _take_off(thinker)
        if isinstance(error, ModelError):
            raise
        raise ModelError(
            f"checkpoint {folder}: the adapter does not load ({first_line(error)})"
        ) from error
    thinker.model.eval().requires_grad_(False)


def _adapter_settings(folder: Path) -> dict[str, Any]:
    """Of a saved adapter, what this package chooses; all else has to be as PEFT has it by default,
    since some of its settings import modules by name or work for hours.

    Raises:
        ModelError: a setting cannot be, or is not of an adapter that training writes.
    """
    name, path = f"checkpoint {folder}", folder / ADAPTER_FILES[1]
    settings = read_settings(name, path)
    own = {key: settings.get(key) for key in ("r", "lora_alpha", "lora_dropout", "target_modules")}
    plain = import_peft().LoraConfig().to_dict()
    free = {*own, "base_model_name_or_path", "auto_mapping", "inference_mode", "megatron_core"}
    odd = [k for k in plain if k in settings and k not in free and settings[k] != plain[k]]
    targets = own["target_modules"]
    if isinstance(targets, list):
        targets = own["target_modules"] = sorted(map(str, targets))
    if targets not in (sorted(LORA_SUFFIXES), LORA_TARGETS["language"]):
        odd.append("target_modules")
    if not (isinstance(own["r"], int) and 1 <= own["r"] <= MAX_RANK):
        odd.append("r")
    for key, most in (("lora_alpha", 1e6), ("lora_dropout", 1.0)):
        value = own[key]
        if not isinstance(value, (int, float)) or not 0 <= value <= most:
            odd.append(key)
    if odd:
        raise ModelError(
            f"{name}: {path.name}: {odd[0]} is {settings.get(odd[0])!r:.60}, which training never "
            "writes; give a folder that training wrote"
        )
    with safe_open(folder / ADAPTER_FILES[0], "pt") as tensors:
        shapes = (tensors.get_slice(key).get_shape() for key in tensors.keys() if ".lora_A." in key)
        ranks = {shape[0] for shape in shapes}
    if ranks != {own["r"]}:
        raise ModelError(f"{name}: the adapter's tensors are not of rank {own['r']}")
    return own


def save_adapter(folder: Path, thinker: Thinker, base: str) -> None:
    """Writes the Thinker's own adapter into an empty folder, under PEFT's names.

    Args:
        base: how the folder names it; PEFT would write its path on this machine.
    """
    name = thinker.adapter or "default"
    thinker.model.save_pretrained(folder, safe_serialization=True, selected_adapters=[name])
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
    if (folder / name).is_dir():  # where PEFT puts all but the first adapter of a base
        for file in ADAPTER_FILES:
            (folder / name / file).replace(folder / file)
        (folder / name).rmdir()
    path = folder / ADAPTER_FILES[1]
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()  # a set in memory: the same bytes in every process
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def set_adapter(folder: Path, thinker: Thinker) -> None:
    """Every adapter tensor of the folder goes to its place, and every place gets one."""
    tensors = load_file(folder / ADAPTER_FILES[0])
    result: Any = import_peft().set_peft_model_state_dict(
        thinker.model, tensors, thinker.adapter or "default"
    )
    # the other adapters of a base that is shared are not in this folder
    own = [k for k in result.missing_keys if "lora_" in k and f".{thinker.adapter}." in k]
    wrong = own + list(result.unexpected_keys)
    if wrong:
        raise ModelError(
            f"checkpoint {folder}: {len(wrong)} adapter tensors are missing or foreign, "
            f"such as {wrong[0].replace(f'.{thinker.adapter}.', '.')}"
        )


def _take_off(thinker: Thinker) -> None:
    """Removes an adapter that did not load, if other Thinkers have theirs on the same base."""
    name, thinker.adapter = thinker.adapter, None
    others = [other for other in getattr(thinker.model, "peft_config", ()) if other != name]
    if name is not None and others:
        thinker.shared.activate(others[0])
        thinker.model.delete_adapter(name)


def _put_on(thinker: Thinker, config: Any) -> None:
    """A fresh adapter, beside those that other Thinkers have on the same base.

    The first is called as PEFT calls it, so that a folder holds it under PEFT's own names.
    """
    shared = thinker.shared
    if hasattr(shared.model, "peft_config"):
        shared.unmerge()
        name = f"adapter{len(shared.model.peft_config)}"
        shared.model.add_adapter(name, config)
        shared.activate(name)
    else:
        name = "default"
        shared.model = import_peft().get_peft_model(shared.model, config, name)
        shared.active = name
    thinker.adapter = name
