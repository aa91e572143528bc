"""One run of a study: a checkpoint that is made once, and gone on with where it was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omni_msa.errors import TrainingError
from omni_msa.files.labels import LabelSpace
from omni_msa.media.feed import Feed
from omni_msa.modalities import Subset
from omni_msa.options import MediaOptions, ModelOptions, TrainOptions
from omni_msa.training.data import TrainingData
from omni_msa.training.fit import calibrate, load_frozen
from omni_msa.training.run_folder import CHECKPOINT, STATE
from omni_msa.training.trainer import Trainer


def is_made(folder: Path) -> bool:
    """Whether a folder holds a checkpoint whose training, or fit, has ended."""
    return (folder / CHECKPOINT).exists() and not (folder / STATE).exists()


def train_once(
    folder: Path,
    model: ModelOptions,
    options: TrainOptions,
    media: MediaOptions,
    data: TrainingData,
    **how: Any,
) -> None:
    """Trains into the folder unless that has ended.

    Args:
        how: further arguments of `Trainer.run`.

    Raises:
        TrainingError: it cannot go on; then its best epoch so far does not stand for the run.
    """
    if is_made(folder):
        return
    try:
        Trainer(model, options, media).run(data, folder, **how)
    except TrainingError:
        (folder / CHECKPOINT).unlink(missing_ok=True)
        raise


def fit_once(
    folder: Path,
    model: ModelOptions,
    media: MediaOptions,
    feed: Feed,
    label_space: LabelSpace,
    hide: Subset = frozenset(),
    **how: Any,
) -> None:
    """Fits a method on the frozen base into the folder unless that was done.

    Args:
        how: further arguments of `calibrate`.
    """
    if not is_made(folder):
        calibrate(load_frozen(model, media), feed, folder, label_space, hide, **how)
