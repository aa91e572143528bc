"""A ridge probe from some fifty labelled clips: one forward pass each, nothing is trained.

The base, and the adapter of a checkpoint if one is given, stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from omni_msa.errors import ManifestError, OmniMSAError
from omni_msa.files.labels import check_labels, label_scale
from omni_msa.media.feed import Feed
from omni_msa.methods.ridge import Probe
from omni_msa.modalities import Subset
from omni_msa.model.inputs import ThinkerInputs
from omni_msa.model.memory import in_passes
from omni_msa.options import ModelOptions
from omni_msa.scoring.checkpoint import CheckpointInfo, save_checkpoint
from omni_msa.scoring.scorer import Scorer
from omni_msa.scoring.self_check import check_scores
from omni_msa.training.data import data_sha256
from omni_msa.training.run_folder import RunFolder

FEWEST = 8  # clips, below which leaving one out says little
BATCH = 8


def load_frozen(
    model: ModelOptions, label_range: tuple[float, float], media: dict[str, Any] | None = None
) -> Scorer:
    """The model whose states are read: a base alone, or with a checkpoint's adapter."""
    if not model.checkpoint:
        model = replace(model, label_range=label_range, readout="verbalizer")
    return Scorer.load(model, media)


def calibrate(
    frozen: Scorer,
    feed: Feed,
    out: Path,
    label_range: tuple[float, float],
    hide: Subset = frozenset(),
    progress: Callable[[int, str | None], None] = lambda *_: None,
    classes: tuple[str, ...] = (),
    fresh: bool = False,
) -> CheckpointInfo:
    """Fits a probe on the whole clips' last-token states and writes a checkpoint with it.

    Args:
        frozen: the model (see `load_frozen`).
        classes: labels are places in this list.
        progress: called after each clip with how many are read, and why one is left out.
        fresh: replace the checkpoint that is in the folder.

    Raises:
        ManifestError: too few clips, or labels missing or outside the range.
        ConfigError: the folder holds a checkpoint already.
    """
    if len(feed.clips) < FEWEST:
        raise ManifestError(f"{len(feed.clips)} clips to fit on; a probe needs {FEWEST} or more")
    check_labels(feed.clips, label_range)
    scale = label_scale(feed.clips, label_range, classes)
    probe = Probe(frozen.thinker, scale).to(frozen.thinker.device)
    info = replace(frozen.checkpoint.info, readout=probe.name, scale=scale)
    checkpoint = replace(frozen.checkpoint, info=info, readout=probe)
    model = Scorer(frozen.thinker, checkpoint, frozen.media)  # it asks for this label range
    with RunFolder(out, "calibrate", fresh, clears=False):  # nobody else writes here meanwhile
        states, labels = last_states(model, feed, hide, progress)
        if len(states) < FEWEST:
            raise ManifestError(
                f"{len(states)} clips could be read; a probe needs {FEWEST} or more"
            )
        errors = (probe.fit(states, labels) - labels).abs()
        name, error = "mae", errors.mean()
        if classes:
            name, error = "error_rate", (errors > 0).float().mean()
        info = replace(
            info,
            media=frozen.media.to_json(),
            quantize=frozen.thinker.base.quantize,
            notice=None,
            hide=sorted(hide | model.hidden),
            training={
                "clips": len(states),
                "penalty": probe.penalty,
                "data_sha256": data_sha256(train=feed),
                "adapter": info.training,  # how it was trained, where there is one
            },
            metrics={f"leave_one_out_{name}": float(error)},
            self_check=check_scores(
                model.thinker, probe, model.builder, frozen.media, hide | model.hidden
            ),
        )
        return save_checkpoint(out, frozen.thinker, probe, info)


@torch.inference_mode()
def last_states(
    model: Scorer,
    feed: Feed,
    hide: Subset = frozenset(),
    progress: Callable[[int, str | None], None] = lambda *_: None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states [N, H] at the last token of whole clips, and labels [N], on the CPU in fp32."""
    states: list[torch.Tensor] = []
    labels: list[float] = []
    waiting: list[ThinkerInputs] = []

    def hidden(part: Sequence[ThinkerInputs]) -> torch.Tensor:
        subsets = [(inputs.present,) for inputs in part]
        return model.thinker.forward(model.thinker.batch(part, subsets))[:, 0].float().cpu()

    order: Sequence[int] = range(len(feed.clips))
    for i, fed in zip(order, feed.read(order), strict=True):
        try:
            if isinstance(fed, OmniMSAError):
                raise fed
            waiting.append(model.prepare(fed, hide).inputs)
            labels.append(float(feed.clips[i].label or 0.0))
            progress(i + 1, None)
        except OmniMSAError as error:
            progress(i + 1, str(error))
        if len(waiting) == BATCH or (waiting and i + 1 == len(order)):
            states += in_passes(hidden, waiting, BATCH)
            waiting = []
    width = model.thinker.width
    return torch.cat(states) if states else torch.zeros(0, width), torch.tensor(labels)
