"""A method that is fitted to some fifty labelled clips: one forward pass each, no gradients.

The base, and the adapter of a checkpoint if one is given, stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from omni_msa.errors import ManifestError
from omni_msa.files.labels import LabelSpace
from omni_msa.media.feed import Feed
from omni_msa.methods import TrainedBy, make_method, method_trained_by, parse_options
from omni_msa.modalities import Subset
from omni_msa.options import FitOptions, MediaOptions, ModelOptions
from omni_msa.scoring.checkpoint import CheckpointInfo, save_checkpoint
from omni_msa.scoring.intervals import Residuals, intervals_record
from omni_msa.scoring.last_states import last_states
from omni_msa.scoring.scorer import ZERO_SHOT, Scorer
from omni_msa.scoring.self_check import check_scores
from omni_msa.scoring.trained_clips import KEY, TrainedClips
from omni_msa.training.data import data_sha256
from omni_msa.training.run_folder import RunFolder

FEWEST = 8  # clips, below which leaving one out says little


def load_frozen(model: ModelOptions, media: MediaOptions | dict[str, Any] | None = None) -> Scorer:
    """The model whose states are read: a base alone, or with a checkpoint's adapter."""
    return Scorer.load(model if model.checkpoint else replace(model, readout=ZERO_SHOT), media)


def check_fit(options: FitOptions) -> None:
    """What can be said before anything is loaded.

    Raises:
        ConfigError: the method is not fitted, or does not take these options.
    """
    parse_options(method_trained_by(TrainedBy.FIT, options.method), options.method_options)


def calibrate(
    scorer: Scorer,
    feed: Feed,
    out: Path,
    label_space: LabelSpace,
    hide: Subset = frozenset(),
    progress: Callable[[int, str | None], None] = lambda *_: None,
    fresh: bool = False,
    options: FitOptions | None = None,
) -> CheckpointInfo:
    """Fits a method on the whole clips' last-token states and writes a checkpoint with it.

    Args:
        scorer: the model (see `load_frozen`).
        progress: called after each clip with how many are read, and why one is left out.
        fresh: replace the checkpoint that is in the folder.
        options: which method, and its own options.

    Raises:
        ManifestError: too few clips, or labels missing or outside the range.
        ConfigError: the folder holds a checkpoint already, or the method is not fitted.
    """
    options = options or FitOptions()
    check_fit(options)
    if len(feed.clips) < FEWEST:
        raise ManifestError(f"{len(feed.clips)} clips to fit on; a probe needs {FEWEST} or more")
    label_space.check(feed.clips)
    label_space = label_space.fitted(feed.clips)
    fitted = make_method(options.method, scorer.thinker, label_space, options.method_options)
    info = replace(scorer.checkpoint.info, method=fitted.name, label_space=label_space)
    checkpoint = replace(scorer.checkpoint, info=info, method=fitted)
    model = Scorer(scorer.thinker, checkpoint, scorer.media)  # it asks for these labels
    with RunFolder(out, "calibrate", fresh, clears=False):  # nobody else writes here meanwhile
        states, labels, shown = last_states(model, feed, hide, progress)
        if len(states) < FEWEST:
            raise ManifestError(
                f"{len(states)} clips could be read; a probe needs {FEWEST} or more"
            )
        scores = fitted.fit(states, labels)
        info = replace(
            info,
            media=scorer.media.to_json(),
            quantize=scorer.thinker.base.quantize,
            notice=None,
            hide=sorted(hide | model.untrained),
            training={
                "clips": len(states),
                "method_options": asdict(parse_options(type(fitted), options.method_options)),
                "data_sha256": data_sha256(train=feed),
                KEY: TrainedClips.of(feed.clips).to_json(),
                "adapter": info.training,  # how it was trained, where there is one
            },
            metrics=_leave_one_out(scores, labels, bool(label_space.classes)),
            intervals={} if label_space.classes else _intervals(scores, labels, shown),
            self_check=check_scores(
                model.thinker, fitted, model.builder, scorer.media, hide | model.hidden
            ),
        )
        return save_checkpoint(out, scorer.thinker, fitted, info)


def _leave_one_out(scores: torch.Tensor, labels: torch.Tensor, classify: bool) -> dict[str, float]:
    """MAE of each clip's score by a probe without that clip, or the share of wrong classes."""
    errors = (scores - labels).abs()
    if classify:
        return {"leave_one_out_error_rate": float((errors > 0).float().mean())}
    return {"leave_one_out_mae": float(errors.mean())}


def _intervals(
    scores: torch.Tensor, labels: torch.Tensor, shown: Sequence[Subset]
) -> dict[str, dict[str, Any]]:
    """Of whole clips alone: leaving one out says nothing of their subsets, which were not shown."""
    errors = (scores - labels).abs().tolist()
    return intervals_record(
        [Residuals(whole, {whole: error}) for whole, error in zip(shown, errors, strict=True)]
    )
