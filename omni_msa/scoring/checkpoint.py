"""A checkpoint explains itself: LoRA adapter, readout weights, and one JSON that describes them.

Folder: `adapter_model.safetensors` + `adapter_config.json` (PEFT's own; absent where the base stays
as it is), `readout.safetensors`, `omni_msa.json`. Loading uses only that folder and the base, and
refuses what is missing or foreign.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omni_msa.errors import ConfigError, ModelError
from omni_msa.files.labels import LabelSpace
from omni_msa.foreign import read_json
from omni_msa.modalities import others, tokens
from omni_msa.model.identity import ADAPTER_FILES, base_sha256, file_sha256, is_base
from omni_msa.model.prompt import VERSIONS
from omni_msa.options import PROMPT_VERSION, MediaOptions
from omni_msa.scoring.checkpoint_limits import check_info

# Not imported before they are needed: what a checkpoint says of itself is read without torch.
if TYPE_CHECKING:
    from omni_msa.methods import Method
    from omni_msa.model.thinker import Thinker

FORMAT_VERSION = 1
STATE = "training_state.pt"  # beside a checkpoint whose training has not ended: it goes on from it


@dataclass(frozen=True)
class CheckpointInfo:
    """What `omni_msa.json` holds. `media` is how clips are read unless the user says otherwise.

    `hide` names modalities that it was trained without and is never shown; `self_check` holds the
    scores of the built-in clip as they were when it was saved.
    """

    base: str
    base_sha256: str
    method: str
    label_space: LabelSpace
    media: dict[str, Any]
    quantize: str = "none"
    prompt_version: str = PROMPT_VERSION
    lora: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    method_options: dict[str, Any] = field(default_factory=dict)
    # what stands in place of the Thinker's own parts, by modality: a name and an identity
    encoders: dict[str, dict[str, str]] = field(default_factory=dict)
    hide: list[str] = field(default_factory=list)
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    self_check: dict[str, Any] = field(default_factory=dict)
    # by what is shown, see `scoring.intervals`; {} in older checkpoints and of classes
    intervals: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    # what of the method is in no weight: options that change a score, modalities it cannot use
    scoring: dict[str, Any] = field(default_factory=dict)
    languages: list[str] = field(default_factory=list)  # of its words, ISO 639-1; [] is unknown
    notice: str | None = None  # one line for stderr when this checkpoint is used
    readout_sha256: str = ""
    adapter_sha256: str = ""
    adapter_config_sha256: str = ""  # its rank and scale are in there; "" in older checkpoints
    format_version: int = FORMAT_VERSION

    def to_json(self) -> dict[str, Any]:
        """As `omni_msa.json` holds it."""
        return {_JSON_NAMES.get(name, name): value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> CheckpointInfo:
        """From what `to_json` gives.

        Raises:
            TypeError, KeyError: a field is missing, unknown or of another type.
        """
        values = {name: row[key] for name, key in _JSON_NAMES.items() if key in row}
        values |= {key: value for key, value in row.items() if key not in _JSON_NAMES.values()}
        values["label_space"] = LabelSpace(**row[_JSON_NAMES["label_space"]])
        if isinstance(values.get("training"), dict):
            values["training"] = _training_record(values["training"])
        for name, kind in _KINDS.items():
            if name in values and not isinstance(values[name], kind):
                raise TypeError(f"{_JSON_NAMES.get(name, name)} is {values[name]!r}")
        return cls(**values)


def _training_record(record: dict[str, Any]) -> dict[str, Any]:
    """How training is recorded now; 0.1.0 wrote a method's options among the others, and a fitted
    penalty where a chosen one would stand."""
    record = dict(record)
    if "method_options" in record:
        return record
    if "readout" in record:
        record["method"] = record.pop("readout")
        own = {"head": record.pop("head", None), "dropout": record.pop("head_dropout", None)}
        record["method_options"] = own if record["method"] == "regression" else {}
    elif "penalty" in record:
        del record["penalty"]
        record["method_options"] = {"penalty": None}
    return record


# Format 1 has these names for three of the fields.
_JSON_NAMES = {"method": "readout", "method_options": "readout_settings", "label_space": "scale"}
_KINDS: dict[str, type] = {
    "base": str, "base_sha256": str, "method": str, "media": dict, "quantize": str, "lora": dict,
    "method_options": dict, "encoders": dict, "hide": list, "training": dict, "metrics": dict,
    "self_check": dict, "intervals": dict, "scoring": dict, "languages": list,
    "readout_sha256": str, "adapter_sha256": str, "adapter_config_sha256": str,
}  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint: what it says of itself, and its method. Zero-shot has no folder."""

    folder: Path | None
    info: CheckpointInfo
    method: Method


def save_checkpoint(
    folder: Path, thinker: Thinker, method: Method, info: CheckpointInfo
) -> CheckpointInfo:
    """Writes the folder; `omni_msa.json` comes last, so a folder that has it is whole."""
    from safetensors.torch import save_file

    from omni_msa.model.lora import save_adapter

    folder.mkdir(parents=True, exist_ok=True)
    new = folder / "saving.partial"  # the old checkpoint stays whole while the new one is written
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    if thinker.adapted:
        save_adapter(new, thinker, info.base)
    state = {k: v.detach().float().cpu().contiguous() for k, v in method.state_dict().items()}
    save_file(state, new / "readout.safetensors", metadata={"format": "pt"})
    complete = replace(
        info,
        versions=package_versions(),
        method_options=asdict(method.options),
        scoring=_scoring(method),
        readout_sha256=file_sha256(new / "readout.safetensors"),
        adapter_sha256=file_sha256(new / ADAPTER_FILES[0]) if thinker.adapted else "",
        adapter_config_sha256=file_sha256(new / ADAPTER_FILES[1]) if thinker.adapted else "",
    )
    text = json.dumps(complete.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    (new / "omni_msa.json").write_text(text, encoding="utf-8")
    for name in (*ADAPTER_FILES, "readout.safetensors", "omni_msa.json"):
        if (new / name).exists():
            _set_ordinary_permissions(new / name)
            os.replace(new / name, folder / name)
        else:
            (folder / name).unlink(missing_ok=True)  # of an earlier checkpoint with an adapter
    shutil.rmtree(new)
    return complete


def _set_ordinary_permissions(path: Path) -> None:
    """Those of a file that is simply opened for writing; safetensors lets its owner alone read."""
    sibling = path.with_name("ordinary.partial")
    sibling.touch()
    path.chmod(stat.S_IMODE(sibling.stat().st_mode))
    sibling.unlink()


def _scoring(method: Method) -> dict[str, Any]:
    """What a record depends on and neither weights nor name tell; empty for most methods."""
    used = method.modalities(method.options)
    facts: dict[str, Any] = {"options": method.scoring_options()}
    facts |= {"unused": sorted(tokens() - used), "uses": sorted(used & others())}
    return {name: value for name, value in facts.items() if value}


def read_info(folder: Path) -> CheckpointInfo:
    """Reads and checks `omni_msa.json` alone.

    Raises:
        ModelError: not a checkpoint, of another format, or with fields missing or unknown.
    """
    path = folder / "omni_msa.json"
    try:
        info = CheckpointInfo.from_json(read_json(path, ModelError))
        check_info(info)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelError(
            f"checkpoint {folder}: no omni_msa.json in it; give a folder that training wrote"
        ) from error
    except ModelError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"checkpoint {folder}: omni_msa.json is damaged ({error})") from error
    if info.format_version != FORMAT_VERSION:
        raise ModelError(
            f"checkpoint {folder}: format {info.format_version}, "
            f"this version reads {FORMAT_VERSION}"
        )
    if info.prompt_version not in VERSIONS:
        raise ModelError(
            f"checkpoint {folder}: trained with prompt {info.prompt_version}, this version has "
            f"prompts {' and '.join(VERSIONS)}; use the omni-msa release that trained it"
        )
    return info


def load_checkpoint(folder: Path, thinker: Thinker, method: str | None = None) -> Checkpoint:
    """Puts the adapter on the Thinker (in place) and loads the method.

    Args:
        method: another than the checkpoint's own, one that has no weights.

    Raises:
        ModelError: made for another base, damaged, or with missing or foreign tensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from omni_msa.methods import make_method
    from omni_msa.model.lora import LoraSettings, add_lora, load_adapter

    info = read_info(folder)
    if not is_base(thinker.base.folder, info.base_sha256):
        own_sha256 = base_sha256(thinker.base.folder)
        raise ModelError(
            f"checkpoint {folder}: made for base {info.base} ({info.base_sha256[:12]}), "
            f"not for {thinker.base.name} ({own_sha256[:12]}); give --model {info.base}"
        )
    _check_files(folder, info)
    _check_encoders(folder, info, thinker)
    if info.adapter_sha256:
        load_adapter(folder, thinker)
    elif info.lora:  # on an encoder: its weights are among the method's
        add_lora(thinker, LoraSettings(**{n: info.lora[n] for n in ("rank", "alpha", "dropout")}))
    options = info.method_options if method in (None, info.method) else None
    try:
        loaded = make_method(method or info.method, thinker, info.label_space, options)
        loaded.load_state_dict(load_file(folder / "readout.safetensors"))
    except (RuntimeError, ValueError, SafetensorError) as error:
        raise ModelError(f"checkpoint {folder}: readout does not fit ({error})") from error
    return Checkpoint(folder, info, loaded.eval().requires_grad_(False))


def load_weights(folder: Path, thinker: Thinker, method: Method, lora: dict[str, Any]) -> None:
    """Puts a checkpoint's weights into a fresh adapter and method of the same kind (in place).

    Args:
        lora: the fresh adapter's settings and size, as `add_lora` returns them.

    Raises:
        ModelError: no checkpoint, a damaged one, or one of another base, method or LoRA.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from omni_msa.methods import parse_options
    from omni_msa.model.lora import set_adapter

    info = read_info(folder)
    _check_files(folder, info)
    fresh: dict[str, Any] = {
        "base": True,
        "readout": method.name,
        "classes": method.label_space.classes,
        "emotions": method.label_space.emotions,
        "findings": method.label_space.findings,
        "settings": asdict(method.options),
        "encoders": _identities(thinker.named_parts()),
    }
    stored: dict[str, Any] = {
        "base": is_base(thinker.base.folder, info.base_sha256),
        "readout": info.method,
        "classes": info.label_space.classes,
        "emotions": info.label_space.emotions,
        "findings": info.label_space.findings,
        "settings": info.method_options,
        "encoders": _identities(info.encoders),
    }
    if info.method == method.name:  # options that came later have their defaults
        stored["settings"] = asdict(parse_options(type(method), info.method_options))
    for name in ("rank", "alpha", "scope"):
        fresh[f"LoRA {name}"], stored[f"LoRA {name}"] = lora.get(name), info.lora.get(name)
    unlike = [name for name in fresh if fresh[name] != stored[name]]
    if unlike:
        raise ModelError(
            f"checkpoint {folder}: it cannot be trained on with another {' and '.join(unlike)} "
            f"({', '.join(f'{stored[n]} there, {fresh[n]} here' for n in unlike)})"
        )
    try:
        if thinker.adapted:
            set_adapter(folder, thinker)
        method.load_state_dict(load_file(folder / "readout.safetensors"))
    except SafetensorError as error:
        raise ModelError(f"checkpoint {folder}: its weights are damaged ({error})") from error


def _check_encoders(folder: Path, info: CheckpointInfo, thinker: Thinker) -> None:
    """The encoders are those that it was trained with."""
    parts = thinker.named_parts()
    if extra := sorted(parts.keys() - info.encoders.keys()):
        raise ModelError(
            f"checkpoint {folder}: trained without a {extra[0]} encoder of its own; leave "
            f"--encoder {extra[0]} out"
        )
    for name, row in info.encoders.items():
        if name not in parts or parts[name]["identity"] != row["identity"]:
            raise ModelError(
                f"checkpoint {folder}: trained with the {name} encoder {row['name']}, and what is "
                f"there now is another one; give --encoder {name}=DIR"
            )


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


def _identities(encoders: dict[str, dict[str, str]]) -> dict[str, str]:
    return {name: row["identity"] for name, row in encoders.items()}


def media_options(
    info: CheckpointInfo, overrides: MediaOptions | dict[str, Any] | None = None
) -> MediaOptions:
    """How this checkpoint's clips are read, with the user's own choices on top.

    Args:
        overrides: some of the options by name; or all of them, which leaves nothing to the
            checkpoint.

    Raises:
        ConfigError: an option that this version does not know, or a value it does not allow.
    """
    if isinstance(overrides, MediaOptions):
        return overrides
    chosen = {k: v for k, v in (overrides or {}).items() if v is not None}
    unknown = sorted({*info.media, *chosen} - {f.name for f in fields(MediaOptions)})
    if unknown:
        raise ConfigError(f"media options {unknown} are not known to this version")
    return MediaOptions.over(info.media, chosen)


def package_versions() -> dict[str, str]:
    """Versions of the packages that numbers depend on."""
    names = ("omni-msa", "torch", "transformers", "peft", "bitsandbytes", "av", "qwen-omni-utils")
    return {name: version(name).partition("+")[0] for name in names}
