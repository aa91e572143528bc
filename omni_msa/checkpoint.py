"""A checkpoint explains itself: LoRA adapter, readout weights, and one JSON that describes them.

Folder: `adapter_model.safetensors` + `adapter_config.json` (PEFT's own), `readout.safetensors`,
`omni_msa.json`. Loading uses only that folder and the base, and refuses what is missing or foreign.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from omni_msa.config import PROMPT_VERSION, MediaOptions
from omni_msa.errors import ConfigError, ModelError
from omni_msa.readouts.regression import LabelScale, RegressionHead
from omni_msa.thinker import UNLOADABLE, Thinker, quiet_loading

FORMAT_VERSION = 1
# Plain suffixes over the whole Thinker, as published: 1.14 % of the 7B model at rank 32.
LORA_SUFFIXES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
FULL_HASH_BYTES = 256 * 1024**2  # weight files up to this size are hashed whole
SAMPLE_BYTES = 64 * 1024


@dataclass(frozen=True)
class CheckpointInfo:
    """What `omni_msa.json` holds. `media` is how clips are read unless the user says otherwise."""

    base: str
    base_sha256: str
    readout: str
    scale: LabelScale
    media: dict[str, Any]
    quantize: str = "none"
    prompt_version: str = PROMPT_VERSION
    lora: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    notice: str | None = None  # one line for stderr when this checkpoint is used
    readout_sha256: str = ""
    adapter_sha256: str = ""
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint: its folder, what it says of itself, and its head (fp32)."""

    folder: Path
    info: CheckpointInfo
    head: RegressionHead


def add_lora(thinker: Thinker, rank: int, alpha: int, dropout: float) -> None:
    """Wraps the Thinker with a fresh LoRA adapter on every published suffix (in place)."""
    with quiet_loading():
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(LORA_SUFFIXES)
        )
        thinker.model = get_peft_model(thinker.model, config)


def save_checkpoint(
    folder: Path, thinker: Thinker, head: RegressionHead, info: CheckpointInfo
) -> CheckpointInfo:
    """Writes the folder; `omni_msa.json` comes last, so a folder that has it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "omni_msa.json").unlink(missing_ok=True)
    thinker.model.save_pretrained(folder, safe_serialization=True)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
    _portable_adapter_config(folder / "adapter_config.json", info.base)
    state = {k: v.detach().float().cpu().contiguous() for k, v in head.state_dict().items()}
    save_file(state, folder / "readout.safetensors", metadata={"format": "pt"})
    complete = CheckpointInfo(
        **{
            **_shallow(info),
            "versions": package_versions(),
            "readout_sha256": file_sha256(folder / "readout.safetensors"),
            "adapter_sha256": file_sha256(folder / "adapter_model.safetensors"),
        }
    )
    text = json.dumps(asdict(complete), indent=2, ensure_ascii=False) + "\n"
    temporary = folder / "omni_msa.json.partial"
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, folder / "omni_msa.json")
    return complete


def read_info(folder: Path) -> CheckpointInfo:
    """Reads and checks `omni_msa.json` alone.

    Raises:
        ModelError: not a checkpoint, of another format, or with fields missing or unknown.
    """
    path = folder / "omni_msa.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        scale = LabelScale(**raw.pop("scale"))
        info = CheckpointInfo(scale=scale, **raw)
    except FileNotFoundError as error:
        raise ModelError(
            f"checkpoint {folder}: no omni_msa.json in it; give a folder that training wrote"
        ) from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"checkpoint {folder}: omni_msa.json is damaged ({error})") from error
    if info.format_version != FORMAT_VERSION:
        raise ModelError(
            f"checkpoint {folder}: format {info.format_version}, "
            f"this version reads {FORMAT_VERSION}"
        )
    if info.prompt_version != PROMPT_VERSION:
        raise ModelError(
            f"checkpoint {folder}: trained with prompt {info.prompt_version}, this version has "
            f"prompt {PROMPT_VERSION}; use the omni-msa release that trained it"
        )
    return info


def load_checkpoint(folder: Path, thinker: Thinker) -> Checkpoint:
    """Puts the adapter on the Thinker (in place) and loads the head.

    Raises:
        ModelError: made for another base, damaged, or with missing or foreign tensors.
    """
    info = read_info(folder)
    found = base_sha256(thinker.base.folder)
    if found != info.base_sha256:
        raise ModelError(
            f"checkpoint {folder}: made for base {info.base} ({info.base_sha256[:12]}), "
            f"not for {thinker.base.name} ({found[:12]}); give --model {info.base}"
        )
    for name, expected in (
        ("adapter_model.safetensors", info.adapter_sha256),
        ("readout.safetensors", info.readout_sha256),
    ):
        path = folder / name
        if not path.is_file() or file_sha256(path) != expected:
            state = "differs from what was saved" if path.is_file() else "is missing"
            raise ModelError(f"checkpoint {folder}: {name} {state}; copy the whole folder again")
    _load_adapter(folder, thinker)
    head = RegressionHead(thinker.width)
    try:
        head.load_state_dict(load_file(folder / "readout.safetensors"))
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"checkpoint {folder}: readout does not fit ({error})") from error
    return Checkpoint(folder, info, head.eval().to(thinker.device))


def _load_adapter(folder: Path, thinker: Thinker) -> None:
    try:
        with quiet_loading():
            from peft import LoraConfig, get_peft_model, set_peft_model_state_dict

            config = LoraConfig.from_pretrained(str(folder))
            config.inference_mode = True
            model = get_peft_model(thinker.model, config)
            tensors = load_file(folder / "adapter_model.safetensors")
            result: Any = set_peft_model_state_dict(model, tensors)
    except UNLOADABLE as error:
        raise ModelError(f"checkpoint {folder}: the adapter does not load ({error})") from error
    missing = [k for k in result.missing_keys if "lora_" in k]
    if missing or result.unexpected_keys:
        wrong = missing + list(result.unexpected_keys)
        raise ModelError(
            f"checkpoint {folder}: {len(wrong)} adapter tensors are missing or foreign, "
            f"such as {wrong[0]}"
        )
    model.eval().requires_grad_(False)
    thinker.model = model


def media_options(info: CheckpointInfo, overrides: dict[str, Any] | None = None) -> MediaOptions:
    """How this checkpoint's clips are read, with the user's own choices on top.

    Raises:
        ConfigError: an option that this version does not know, or a value it does not allow.
    """
    values = {**info.media, **{k: v for k, v in (overrides or {}).items() if v is not None}}
    unknown = sorted(set(values) - {f.name for f in fields(MediaOptions)})
    if unknown:
        raise ConfigError(f"media options {unknown} are not known to this version")
    if values.get("max_pixels", 0) and values["max_pixels"] < values.get("min_pixels", 0):
        values["min_pixels"] = values["max_pixels"]
    return MediaOptions(**values)


def base_sha256(folder: Path) -> str:
    """Content hash of a base: config, tokenizer and weights.

    Weight files above 256 MB are hashed by size and 64 evenly spaced blocks, so that an 18 GB base
    takes a second; any retrained or requantized base still differs.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*")):
        if path.name in ("config.json", "tokenizer.json") or path.suffix == ".safetensors":
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            _hash_into(digest, path)
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_into(digest: Any, path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= FULL_HASH_BYTES:
            while block := file.read(1 << 20):
                digest.update(block)
            return
        for i in range(64):
            file.seek(i * (size - SAMPLE_BYTES) // 63)
            digest.update(file.read(SAMPLE_BYTES))


def package_versions() -> dict[str, str]:
    """Versions of the packages that numbers depend on."""
    names = ("omni-msa", "torch", "transformers", "peft", "bitsandbytes", "av", "qwen-omni-utils")
    return {name: version(name).partition("+")[0] for name in names}


def _portable_adapter_config(path: Path, base: str) -> None:
    """PEFT writes the base's path on this machine; the checkpoint names the base instead."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _shallow(info: CheckpointInfo) -> dict[str, Any]:
    return {f.name: getattr(info, f.name) for f in fields(info)}
