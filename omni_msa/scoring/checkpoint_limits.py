"""What a checkpoint may say of itself: every value of `omni_msa.json`, checked by its name."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from omni_msa.modalities import MODALITIES
from omni_msa.options import LANGUAGE, QUANTIZE, MediaOptions
from omni_msa.scoring.intervals import is_record

if TYPE_CHECKING:
    from omni_msa.scoring.checkpoint import CheckpointInfo

MAX_LABEL = 10_000  # of a label's size: the readout's list of labels grows with the range
MAX_CLASSES = 1_000
MAX_RANK = 1_024
MAX_NOTICE = 1_000  # characters


def check_info(info: CheckpointInfo) -> None:
    """Types and sizes of its values, before anything is made of them.

    Raises:
        ValueError: the first that cannot be, by name.
    """
    space = info.label_space
    numbers = {f"scale.{n}": getattr(space, n) for n in ("low", "high", "mean", "deviation")}
    for name, value in numbers.items():
        _require(_is_number(value) and abs(value) <= MAX_LABEL, name, value)
    _require(space.low < space.high, "scale.high", space.high)
    _require(space.deviation > 0, "scale.deviation", space.deviation)
    _require(_are_names(space.classes, MAX_CLASSES), "scale.classes", space.classes)
    _require(_are_names(space.emotions, MAX_CLASSES), "scale.emotions", space.emotions)
    _require(_are_names(space.findings, MAX_CLASSES), "scale.findings", space.findings)
    for name, row in info.encoders.items():
        is_row = isinstance(row, dict) and row.keys() == {"name", "identity"}
        is_ours = name in (*MODALITIES, LANGUAGE) and is_row and _are_names(row.values(), 2)
        _require(is_ours, f"encoders.{name}", row)
    names, keys = [*MODALITIES], ("unused", "uses")
    lists = {"hide": info.hide, **{f"scoring.{key}": info.scoring.get(key, []) for key in keys}}
    for name, modalities in lists.items():
        are_ours = isinstance(modalities, (list, tuple)) and all(m in names for m in modalities)
        _require(are_ours, name, modalities)
    for media_field in fields(MediaOptions):
        if (name := media_field.name) in info.media:
            value, default = info.media[name], media_field.default
            is_kind = isinstance(value, str) if isinstance(default, str) else _is_number(value)
            is_whole = not isinstance(default, int) or isinstance(value, int)
            _require(is_kind and is_whole, f"media.{name}", value)
    _require(info.quantize in QUANTIZE, "quantize", info.quantize)
    _check_lora(info.lora)
    for name, figures in (("metrics", info.metrics), ("self_check", info.self_check)):
        scores = figures.get("scores", {}) if name == "self_check" else figures
        is_table = isinstance(scores, dict) and all(map(_is_number, scores.values()))
        _require(is_table, name, figures)
    _require(is_record(info.intervals), "intervals", info.intervals)
    is_whole = isinstance(info.seed, int) and not isinstance(info.seed, bool)
    _require(is_whole and 0 <= info.seed < 2**63, "seed", info.seed)
    is_text = info.notice is None or (
        isinstance(info.notice, str) and len(info.notice) <= MAX_NOTICE
    )
    _require(is_text, "notice", info.notice)
    _require(_are_names(info.languages, MAX_CLASSES), "languages", info.languages)
    _require(isinstance(info.versions, dict), "versions", info.versions)


def _check_lora(lora: dict[str, Any]) -> None:
    if "rank" in lora:
        rank = lora["rank"]
        _require(isinstance(rank, int) and 1 <= rank <= MAX_RANK, "lora.rank", rank)
    for name in ("alpha", "dropout", "parameters", "percent"):
        if lora.get(name) is not None:
            value = lora[name]
            _require(_is_number(value) and 0 <= value <= 10**12, f"lora.{name}", value)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < 2**63 and math.isfinite(value)


def _are_names(names: Iterable[Any], most: int) -> bool:
    texts = list(names)
    return len(texts) <= most and all(isinstance(text, str) and text for text in texts)


def _require(condition: bool, name: str, value: Any) -> None:
    if not condition:
        raise ValueError(f"{name} cannot be {value!r:.60}")
