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
    scorer: Scorer,
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
        scorer: the model (see `load_frozen`).
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
    probe = Probe(scorer.thinker, scale).to(scorer.thinker.device)
    info = replace(scorer.checkpoint.info, readout=probe.name, scale=scale)
    checkpoint = replace(scorer.checkpoint, info=info, readout=probe)
    probe_scorer = Scorer(scorer.thinker, checkpoint, scorer.media)  # it asks for this label range
    with RunFolder(out, "calibrate", fresh, clears=False):  # nobody else writes here meanwhile
        states, labels = last_states(probe_scorer, feed, hide, progress)
        if len(states) < FEWEST:
            raise ManifestError(
                f"{len(states)} clips could be read; a probe needs {FEWEST} or more"
            )
        metrics = _leave_one_out(probe.fit(states, labels), labels, bool(classes))
        info = replace(
            info,
            media=scorer.media.to_json(),
            quantize=scorer.thinker.base.quantize,
            notice=None,
            hide=sorted(hide | probe_scorer.hidden),
            training={
                "clips": len(states),
                "penalty": probe.penalty,
                "data_sha256": data_sha256(train=feed),
                "adapter": info.training,  # how it was trained, where there is one
            },
            metrics=metrics,
            self_check=check_scores(
                probe_scorer.thinker,
                probe,
                probe_scorer.builder,
                scorer.media,
                hide | probe_scorer.hidden,
            ),
        )
        return save_checkpoint(out, scorer.thinker, probe, info)


def _leave_one_out(scores: torch.Tensor, labels: torch.Tensor, classify: bool) -> dict[str, float]:
    """MAE of each clip's score by a probe without that clip, or the share of wrong classes."""
    errors = (scores - labels).abs()
    if classify:
        return {"leave_one_out_error_rate": float((errors > 0).float().mean())}
    return {"leave_one_out_mae": float(errors.mean())}


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
    batch: list[ThinkerInputs] = []

    def states_of(part: Sequence[ThinkerInputs]) -> torch.Tensor:
        subsets = [(inputs.present,) for inputs in part]
        return model.thinker.forward(model.thinker.batch(part, subsets))[:, 0].float().cpu()

    order: Sequence[int] = range(len(feed.clips))
    for i, content in zip(order, feed.read(order), strict=True):
        try:
            if isinstance(content, OmniMSAError):
                raise content
            batch.append(model.prepare(content, hide).inputs)
            labels.append(float(feed.clips[i].label or 0.0))
            progress(i + 1, None)
        except OmniMSAError as error:
            progress(i + 1, str(error))
        if len(batch) == BATCH or (batch and i + 1 == len(order)):
            states += in_passes(states_of, batch, BATCH)
            batch = []
    width = model.thinker.width
    return torch.cat(states) if states else torch.zeros(0, width), torch.tensor(labels)
