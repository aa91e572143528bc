"""What may be measured side by side: systems that answer with the same labels, by the same metrics;
and what is called a seed differs from the first by nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omni_msa.errors import ConfigError
from omni_msa.evaluation.evaluate import family_of
from omni_msa.files.labels import labels_of
from omni_msa.model.loading import TINY
from omni_msa.options import ModelOptions
from omni_msa.scoring.checkpoint import CheckpointInfo, read_info
from omni_msa.values import Clip

# Of a run's record: what may differ between two seeds of the same training.
OF_A_SEED = ("seed", "left_out", "penalty", "save_every", "checkpointing")


@dataclass(frozen=True)
class System:
    """What scores, and the labels that it answers with."""

    model: ModelOptions
    label_range: tuple[float, float]
    classes: tuple[str, ...]


def systems(
    asked: ModelOptions,
    also: Sequence[str],
    against: str | None,
    clips: Sequence[Clip],
    chosen: Sequence[Clip],
    family: str,
) -> list[System]:
    """The first system, its other seeds, and the one that it is compared with, in this order.

    Args:
        asked: the first; a base without a checkpoint answers as the clips are labelled.
        also, against: folders of checkpoints.
        clips: the whole manifest, whose labels a bare base answers with.
        chosen: the clips that are measured.
        family: of the metrics, as asked for.

    Raises:
        ConfigError: they cannot be measured side by side, and why.
        ModelError: a folder holds no checkpoint.
    """
    folders = [*also, *([against] if against is not None else [])]
    others = [replace(asked, checkpoint=folder, label_range=None) for folder in folders]
    if against is not None:
        others[-1] = replace(others[-1], readout=None)
    found = [_system(model, clips, family) for model in (asked, *others)]
    names = [_name(system.model) for system in found]
    if family == "emotion" and not found[0].classes:
        raise ConfigError(f"--metrics emotion: {names[0]} gives scores, not emotions")
    if len({system.classes for system in found}) > 1:
        raise ConfigError(f"{', '.join(names)} do not give the same labels; evaluate them apart")
    families = {family_of(chosen, family, s.label_range, s.classes)[0].name for s in found}
    if len(families) > 1:
        raise ConfigError(
            f"{', '.join(names)} have label ranges of several metric families "
            f"({', '.join(sorted(families))}); choose one with --metrics"
        )
    if also:
        _check_seeds(asked.checkpoint, also)
    return found


def _system(model: ModelOptions, clips: Sequence[Clip], family: str) -> System:
    folder = Path(model.checkpoint) if model.checkpoint is not None else TINY / "checkpoint"
    emotions = family == "emotion"
    if model.checkpoint is not None or (model.embedded and not emotions):
        scale = read_info(folder).scale
        return System(model, (scale.low, scale.high), scale.classes)
    asked = model.label_range
    label_range, classes = labels_of(clips, "emotion" if emotions else "sentiment", asked)
    labelled = {"classes": classes} if classes else {"label_range": label_range}
    return System(replace(model, **labelled), label_range, classes)


def _name(model: ModelOptions) -> str:
    return model.checkpoint or model.model or "tiny"


def _check_seeds(first: str | None, also: Sequence[str]) -> None:
    """Each counts once, and all were made in the same way."""
    if first is None:
        raise ConfigError("--also DIR is another seed of a checkpoint: name that with --checkpoint")
    infos = {folder: read_info(Path(folder)) for folder in (first, *also)}
    weights = {(info.adapter_sha256, info.readout_sha256) for info in infos.values()}
    if len(weights) < 1 + len(also):
        raise ConfigError("--also names a checkpoint twice; each seed counts once")
    made = _made(infos[first])
    for folder in also:
        other = _made(infos[folder])
        unlike = sorted(key for key in made | other if made.get(key) != other.get(key))
        if unlike:
            told = ", ".join(f"{key} ({made.get(key)}, {other.get(key)})" for key in unlike)
            raise ConfigError(
                f"--also {folder} differs from {first} by more than its seed: {told}; compare two "
                "systems with --against"
            )


def _made(info: CheckpointInfo) -> dict[str, Any]:
    """All that a checkpoint was made with, but its seed and what followed from that."""
    return _but_the_seed(info.training) | {
        "base": info.base_sha256,
        "readout": info.readout,
        "readout settings": _but_the_seed(info.readout_settings),
        "label range": (info.scale.low, info.scale.high),
        "never shown": info.hide,
        "media": info.media,
        "quantize": info.quantize,
        "LoRA": info.lora,
    }


def _but_the_seed(record: dict[str, Any]) -> dict[str, Any]:
    """Each seed may have gone on from a checkpoint of its own; all of them did, or none."""
    kept = {
        key: _but_the_seed(value) if isinstance(value, dict) else value
        for key, value in record.items()
        if key not in OF_A_SEED
    }
    return kept | ({"start": kept["start"] is not None} if "start" in kept else {})
