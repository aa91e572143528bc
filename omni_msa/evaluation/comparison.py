"""What may be measured side by side: systems that answer with the same labels, by the same metrics;
and what is called a seed differs from the first by nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omni_msa.errors import ConfigError
from omni_msa.evaluation.evaluate import family_of
from omni_msa.files.labels import LabelSpace, label_space_of
from omni_msa.options import ModelOptions
from omni_msa.scoring.checkpoint import CheckpointInfo, read_info
from omni_msa.scoring.identity import named_checkpoint
from omni_msa.values import Clip

# Of a run's record: what may differ between two seeds of the same training.
OF_A_SEED = ("seed", "left_out", "save_every", "checkpointing", "clips_sha256", "best_epoch")


@dataclass(frozen=True)
class System:
    """What scores, and the labels that it answers with."""

    model: ModelOptions
    label_space: LabelSpace

    @property
    def name(self) -> str:
        return self.model.checkpoint or self.model.model or "tiny"


def systems(
    model: ModelOptions,
    also: Sequence[str],
    against: Sequence[str],
    clips: Sequence[Clip],
    chosen: Sequence[Clip],
    family: str,
) -> list[System]:
    """The first system, its other seeds, and those that it is compared with, in this order.

    Args:
        model: the first; a base without a checkpoint answers as the clips are labelled.
        also, against: folders of checkpoints.
        clips: the whole manifest, whose labels a bare base answers with.
        chosen: the clips that are measured.
        family: of the metrics, as the user names it.

    Raises:
        ConfigError: they cannot be measured side by side, and why.
        ModelError: a folder holds no checkpoint.
    """
    seeds = [replace(model, checkpoint=folder, label_range=None) for folder in also]
    rivals = [
        replace(model, checkpoint=folder, label_range=None, readout=None) for folder in against
    ]
    compared = [_system(options, clips, family) for options in (model, *seeds, *rivals)]
    names = ", ".join(system.name for system in compared)
    if family == "emotion" and not compared[0].label_space.classes:
        raise ConfigError(f"--metrics emotion: {compared[0].name} gives scores, not emotions")
    if len({system.label_space.names for system in compared}) > 1:
        raise ConfigError(f"{names} do not give the same labels; evaluate them apart")
    families = {family_of(chosen, family, system.label_space)[0].name for system in compared}
    if len(families) > 1:
        raise ConfigError(
            f"{names} have label ranges of several metric families "
            f"({', '.join(sorted(families))}); choose one with --metrics"
        )
    if also:
        _check_seeds(model.checkpoint, also)
    return compared


def _system(model: ModelOptions, clips: Sequence[Clip], family: str) -> System:
    emotions, folder = family == "emotion", named_checkpoint(model)
    if folder is not None and not (model.embedded and emotions):
        return System(model, read_info(folder).label_space)
    task = "emotion" if emotions else "sentiment"
    space = label_space_of(clips, task, model.label_range)
    if space.classes:
        return System(replace(model, classes=space.classes), space)
    return System(replace(model, label_range=space.range), space)


def _check_seeds(first: str | None, also: Sequence[str]) -> None:
    """Each counts once, and all were made in the same way."""
    if first is None:
        raise ConfigError("--also DIR is another seed of a checkpoint: name that with --checkpoint")
    infos = {folder: read_info(Path(folder)) for folder in (first, *also)}
    weights = {(info.adapter_sha256, info.readout_sha256) for info in infos.values()}
    if len(weights) < 1 + len(also):
        raise ConfigError("--also names a checkpoint twice; each seed counts once")
    recipe = _recipe(infos[first])
    for folder in also:
        other = _recipe(infos[folder])
        unlike = sorted(key for key in recipe | other if recipe.get(key) != other.get(key))
        if unlike:
            differences = ", ".join(f"{k} ({recipe.get(k)}, {other.get(k)})" for k in unlike)
            raise ConfigError(
                f"--also {folder} differs from {first} by more than its seed: {differences}; "
                "compare two systems with --against"
            )


def _recipe(info: CheckpointInfo) -> dict[str, Any]:
    """All that a checkpoint was made with, but its seed and what followed from that."""
    return _but_the_seed(info.training) | {
        "base": info.base_sha256,
        "readout": info.method,
        # as they were chosen: what a fit has found follows from its clips
        "readout settings": info.training.get("method_options", info.method_options),
        "label range": info.label_space.range,
        "never shown": info.hide,
        "media": info.media,
        "quantize": info.quantize,
        "LoRA": info.lora,
    }


def _but_the_seed(record: dict[str, Any]) -> dict[str, Any]:
    """Each seed may have gone on from a checkpoint of its own; all of them did, or none."""
    recipe = {
        key: _but_the_seed(value) if isinstance(value, dict) else value
        for key, value in record.items()
        if key not in OF_A_SEED
    }
    return recipe | ({"start": recipe["start"] is not None} if "start" in recipe else {})
