"""What a base's and an adapter's own JSON may say: checked by name before memory is allocated."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omni_msa.errors import ModelError, first_line
from omni_msa.foreign import MAX_TABLE_BYTES, parse_json, read_limited

# Sizes of a Thinker and of its processor, wherever they stand: whole numbers from 1 to these. The
# 7B Thinker has a sixth of them at most.
MAX_SIZES = {
    "hidden_size": 32_768, "intermediate_size": 262_144, "vocab_size": 1_000_000,
    "num_hidden_layers": 512, "num_attention_heads": 1024, "num_key_value_heads": 1024,
    "max_position_embeddings": 10_000_000,
    "depth": 512, "num_heads": 1024, "in_channels": 16, "in_chans": 16, "patch_size": 128,
    "spatial_merge_size": 16, "temporal_patch_size": 16, "merge_size": 16, "window_size": 4096,
    "out_hidden_size": 32_768, "tokens_per_second": 1000,
    "d_model": 32_768, "encoder_layers": 512, "encoder_attention_heads": 1024,
    "encoder_ffn_dim": 262_144, "num_mel_bins": 1024, "max_source_positions": 1_000_000,
    "n_window": 10_000, "output_dim": 32_768, "position_id_per_seconds": 1000,
    "feature_size": 1024, "n_fft": 65_536, "hop_length": 65_536, "chunk_length": 3600,
    "sampling_rate": 768_000,
}  # fmt: skip
MAX_NUMBER = 2**53  # of any other number
MAX_PARAMETERS_A_BYTE = 4  # of the files with weights: two are stored in a byte in 4-bit
MAX_RANK = 1024


def read_settings(name: str, path: Path) -> dict[str, Any]:
    """The JSON of a base or an adapter, when it is an object of numbers that can be.

    Args:
        name: what it is of, for the message.

    Raises:
        ModelError: it cannot be read, or which of its values cannot be.
    """
    try:
        settings = parse_json(read_limited(path, MAX_TABLE_BYTES, ModelError))
    except (OSError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(
            f"{name}: {path.name} cannot be read ({first_line(error)}); "
            "a base folder holds config.json, the tokenizer files and *.safetensors"
        ) from error
    if not isinstance(settings, dict):
        raise ModelError(f"{name}: {path.name} holds no JSON object")
    for place, value in _values(settings):
        if problem := _problem(place.rpartition(".")[2], value):
            raise ModelError(f"{name}: {path.name}: {place} is {value!r:.60}; {problem}")
    return settings


def _values(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with its place: `text_config.hidden_size`."""
    for key, value in settings.items():
        place = f"{above}{key}"
        if isinstance(value, dict):
            yield from _values(value, f"{place}.")
        elif isinstance(value, list):
            yield from ((place, item) for item in value if isinstance(item, (int, float)))
        else:
            yield place, value


def _problem(key: str, value: Any) -> str:
    """Why a value cannot be; empty if it can."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if (most := MAX_SIZES.get(key)) is not None:
        is_size = is_number and isinstance(value, int) and 1 <= value <= most
        return "" if is_size else f"it must be a whole number from 1 to {most:,}"
    if is_number and not (math.isfinite(value) and abs(value) <= MAX_NUMBER):
        return "it must be a number, and no larger than can be counted"
    return ""


def check_files(name: str, folder: Path) -> None:
    """The JSON files of a base beside its config.json.

    Raises:
        ModelError: one of them is too large, or what it says cannot be.
    """
    for path in sorted(folder.glob("*")):
        if path.suffix in (".json", ".jinja", ".txt") and path.stat().st_size > MAX_TABLE_BYTES:
            limit = f"at most {MAX_TABLE_BYTES // 10**6} MB are read"
            raise ModelError(f"model {name}: {path.name} is too large; {limit}")
    for path in (folder / "preprocessor_config.json", folder / "processor_config.json"):
        if path.exists():
            read_settings(f"model {name}", path)


def check_weights(name: str, folder: Path, parameters: int) -> None:
    """The weights that the configuration describes are there.

    Raises:
        ModelError: the files are far too small for so many.
    """
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise ModelError(
            f"model {name}: no *.safetensors in {folder}; weights in other files (*.bin, *.pt) are "
            "not read, since opening them may run code: save them as safetensors"
        )
    num_bytes = sum(path.stat().st_size for path in paths)
    if parameters > MAX_PARAMETERS_A_BYTE * num_bytes:
        raise ModelError(
            f"model {name}: config.json describes {parameters:,} parameters, and the weights have "
            f"{num_bytes:,} bytes; one of them is not of this base"
        )
