"""What is written down of a run before it begins: its checkpoint's record, and its fingerprint."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from omni_msa.media.identity import json_sha256
from omni_msa.model.identity import base_sha256
from omni_msa.model.thinker import Thinker
from omni_msa.options import MediaOptions, TrainOptions
from omni_msa.scoring.checkpoint import CheckpointInfo, read_info
from omni_msa.scoring.trained_clips import KEY, TrainedClips
from omni_msa.training.data import TrainingData, data_sha256


def first_info(
    thinker: Thinker,
    lora: dict[str, Any],
    options: TrainOptions,
    media: MediaOptions,
    data: TrainingData,
    start: Path | None = None,
) -> CheckpointInfo:
    """What is known of the checkpoint before it is trained.

    Args:
        lora: the adapter's settings and size, as `add_lora` returns them.
        start: the checkpoint whose weights the run begins with.
    """
    return CheckpointInfo(
        base=thinker.base.lasting_name,
        base_sha256=base_sha256(thinker.base.folder),
        method=options.method,
        label_space=data.label_space,
        media=media.to_json(),
        quantize=thinker.base.quantize,
        encoders=thinker.named_parts(),
        lora=lora,
        seed=options.seed,
        hide=sorted(data.hide),
        training=asdict(options)
        | {
            "train_clips": len(data.train.clips),
            "valid_clips": len(data.valid.clips),
            "data_sha256": data_sha256(train=data.train, valid=data.valid),
            "start": _weights_sha256(start) if start is not None else None,
        },
    )


def run_fingerprint(info: CheckpointInfo, processes: int) -> str:
    """What must be the same for a run to go on: all that its weights follow from."""
    parts: list[Any] = [info.base_sha256, info.quantize, info.training, info.media, info.hide]
    parts += [info.label_space.to_json(), processes]
    identities = sorted((name, row["identity"]) for name, row in info.encoders.items())
    parts += [identities] if identities else []
    return json_sha256(parts)


def clips_record(data: TrainingData, start: Path | None) -> dict[str, Any]:
    """Hashes of the clips that the weights have seen, for the checkpoint's training record.

    Nothing where a run goes on from a checkpoint that does not say what it was trained on.
    """
    clips = TrainedClips.of(data.train.clips, data.valid.clips)
    if start is not None:
        before = TrainedClips.recorded(read_info(start).training)
        if before is None:
            return {}
        clips |= before
    return {KEY: clips.to_json()}


def _weights_sha256(folder: Path) -> str:
    info = read_info(folder)
    return info.adapter_sha256 + info.readout_sha256
