"""A checkpoint explains itself: LoRA adapter, readout weights, and one JSON that describes them.

Folder: `adapter_model.safetensors` + `adapter_config.json` (PEFT's own; absent where the base stays
as it is), `readout.safetensors`, `omni_msa.json`. Loading uses only that folder and the base, and
refuses what is missing or foreign.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from omni_msa.errors import ConfigError, ModelError
from omni_msa.files.labels import LabelScale
from omni_msa.methods import make_readout
from omni_msa.methods.method import Readout
from omni_msa.model.identity import base_sha256, file_sha256
from omni_msa.model.lora import ADAPTER_FILES, load_adapter, set_adapter
from omni_msa.model.thinker import Thinker
from omni_msa.options import PROMPT_VERSION, MediaOptions

FORMAT_VERSION = 1


@dataclass(frozen=True)
class CheckpointInfo:
    """What `omni_msa.json` holds. `media` is how clips are read unless the user says otherwise.

    `hide` names modalities that it was trained without and is never shown; `self_check` holds the
    scores of the built-in clip as they were when it was saved.
    """

    base: str
    base_sha256: str
    readout: str
    scale: LabelScale
    media: dict[str, Any]
    quantize: str = "none"
    prompt_version: str = PROMPT_VERSION
    lora: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    readout_settings: dict[str, Any] = field(default_factory=dict)
    hide: list[str] = field(default_factory=list)
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    self_check: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    notice: str | None = None  # one line for stderr when this checkpoint is used
    readout_sha256: str = ""
    adapter_sha256: str = ""
    adapter_config_sha256: str = ""  # its rank and scale are in there; "" in older checkpoints
    format_version: int = FORMAT_VERSION


_KINDS: dict[str, type] = {
    "base": str, "base_sha256": str, "readout": str, "media": dict, "quantize": str, "lora": dict,
    "readout_settings": dict, "hide": list, "training": dict, "metrics": dict, "self_check": dict,
    "readout_sha256": str, "adapter_sha256": str, "adapter_config_sha256": str,
}  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint: what it says of itself, and its readout. Zero-shot has no folder."""

    folder: Path | None
    info: CheckpointInfo
    readout: Readout


def save_checkpoint(
    folder: Path, thinker: Thinker, readout: Readout, info: CheckpointInfo
) -> CheckpointInfo:
    """Writes the folder; `omni_msa.json` comes last, so a folder that has it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / "saving.partial"  # the old checkpoint stays whole while the new one is written
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    if thinker.adapted:
        thinker.model.save_pretrained(new, safe_serialization=True)
        (new / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
        _portable_adapter_config(new / "adapter_config.json", info.base)
    state = {k: v.detach().float().cpu().contiguous() for k, v in readout.state_dict().items()}
    save_file(state, new / "readout.safetensors", metadata={"format": "pt"})
    complete = replace(
        info,
        versions=package_versions(),
        readout_settings=readout.settings(),
        readout_sha256=file_sha256(new / "readout.safetensors"),
        adapter_sha256=file_sha256(new / ADAPTER_FILES[0]) if thinker.adapted else "",
        adapter_config_sha256=file_sha256(new / ADAPTER_FILES[1]) if thinker.adapted else "",
    )
    text = json.dumps(asdict(complete), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    (new / "omni_msa.json").write_text(text, encoding="utf-8")
    for name in (*ADAPTER_FILES, "readout.safetensors", "omni_msa.json"):
        if (new / name).exists():
            os.replace(new / name, folder / name)
        else:
            (folder / name).unlink(missing_ok=True)  # of an earlier checkpoint with an adapter
    shutil.rmtree(new)
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
        _check_kinds(info)
    except (FileNotFoundError, NotADirectoryError) as error:
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


def _check_kinds(info: CheckpointInfo) -> None:
    for name, kind in _KINDS.items():
        if not isinstance(getattr(info, name), kind):
            raise TypeError(f"{name} is {getattr(info, name)!r}")


def load_checkpoint(folder: Path, thinker: Thinker, readout: str | None = None) -> Checkpoint:
    """Puts the adapter on the Thinker (in place) and loads the readout.

    Args:
        readout: another readout than the checkpoint's own, one that has no weights.

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
    _check_files(folder, info)
    if info.adapter_sha256:
        load_adapter(folder, thinker)
    try:
        made = make_readout(
            readout or info.readout,
            thinker,
            info.scale,
            info.readout_settings if readout in (None, info.readout) else None,
        )
        made.load_state_dict(load_file(folder / "readout.safetensors"))
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"checkpoint {folder}: readout does not fit ({error})") from error
    return Checkpoint(folder, info, made.eval().requires_grad_(False))


def load_weights(folder: Path, thinker: Thinker, readout: Readout, lora: dict[str, Any]) -> None:
    """Puts a checkpoint's weights into a fresh adapter and readout of the same kind (in place).

    Args:
        lora: what `add_lora` has said of the fresh adapter.

    Raises:
        ModelError: no checkpoint, a damaged one, or one of another base, readout or LoRA.
    """
    info = read_info(folder)
    _check_files(folder, info)
    asked: dict[str, Any] = {"base": base_sha256(thinker.base.folder), "readout": readout.name}
    asked |= {"classes": readout.scale.classes, "settings": readout.settings()}
    found: dict[str, Any] = {"base": info.base_sha256, "readout": info.readout}
    found |= {"classes": info.scale.classes, "settings": info.readout_settings}
    for name in ("rank", "alpha", "scope"):
        asked[f"LoRA {name}"], found[f"LoRA {name}"] = lora[name], info.lora.get(name)
    other = [name for name in asked if asked[name] != found[name]]
    if other:
        raise ModelError(
            f"checkpoint {folder}: it cannot be trained on with another {' and '.join(other)} "
            f"({', '.join(f'{found[n]} there, {asked[n]} here' for n in other)})"
        )
    set_adapter(folder, thinker.model)
    readout.load_state_dict(load_file(folder / "readout.safetensors"))


def _check_files(folder: Path, info: CheckpointInfo) -> None:
    """The weights are those that were saved."""
    for name, expected in (
        (ADAPTER_FILES[0], info.adapter_sha256),
        (ADAPTER_FILES[1], info.adapter_config_sha256),
        ("readout.safetensors", info.readout_sha256),
    ):
        path = folder / name
        if expected and (not path.is_file() or file_sha256(path) != expected):
            state = "differs from what was saved" if path.is_file() else "is missing"
            raise ModelError(f"checkpoint {folder}: {name} {state}; copy the whole folder again")


def media_options(info: CheckpointInfo, overrides: dict[str, Any] | None = None) -> MediaOptions:
    """How this checkpoint's clips are read, with the user's own choices on top.

    Raises:
        ConfigError: an option that this version does not know, or a value it does not allow.
    """
    given = {k: v for k, v in (overrides or {}).items() if v is not None}
    unknown = sorted({*info.media, *given} - {f.name for f in fields(MediaOptions)})
    if unknown:
        raise ConfigError(f"media options {unknown} are not known to this version")
    return MediaOptions.asked(given, info.media)


def package_versions() -> dict[str, str]:
    """Versions of the packages that numbers depend on."""
    names = ("omni-msa", "torch", "transformers", "peft", "bitsandbytes", "av", "qwen-omni-utils")
    return {name: version(name).partition("+")[0] for name in names}


def _portable_adapter_config(path: Path, base: str) -> None:
    """PEFT writes the base's path on this machine; the checkpoint names the base instead."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
