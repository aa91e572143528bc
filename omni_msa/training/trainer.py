"""Training a LoRA adapter and a method on labelled clips: one loop for every method.

The same packed pass that scores a clip's subsets trains on them, so a missing modality is not a
surprise. The checkpoint with the lowest validation MAE is kept. Nothing random outlives a step:
order and dropout follow from the seed and the step's number, so a run that was killed and goes on
ends with the same weights, bit for bit on a CPU.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from omni_msa.errors import ConfigError
from omni_msa.foreign import printable
from omni_msa.methods import (
    TrainedBy,
    check_encoders,
    has_parameters,
    method_named,
    method_trained_by,
    parse_options,
)
from omni_msa.model.folder_features import load_encoders
from omni_msa.model.loading import count_parameters, is_large, load_thinker
from omni_msa.model.lora import LoraSettings, add_lora
from omni_msa.model.memory import return_large_blocks
from omni_msa.model.thinker import Thinker
from omni_msa.options import MediaOptions, ModelOptions, TrainOptions
from omni_msa.scoring.checkpoint import CheckpointInfo, load_weights
from omni_msa.training.data import TrainingData
from omni_msa.training.model import TrainedModel, fresh_method
from omni_msa.training.processes import Processes
from omni_msa.training.progress import TrainProgress
from omni_msa.training.record import clips_record, first_info, run_fingerprint
from omni_msa.training.run import Run
from omni_msa.training.run_folder import RunFolder

logger = logging.getLogger(__name__)


class Trainer:
    """What is loaded once for training: `Trainer(...).run(data, out)`.

    Args:
        model: the base that an adapter is put on.
        options: how it is trained.
        media: how clips are read.
        progress: gets every step, every epoch and every notice of its runs.

    Raises:
        ConfigError: the method is not trained by gradients, or does not take its options.
        ModelError: the base cannot be loaded.
    """

    def __init__(
        self,
        model: ModelOptions,
        options: TrainOptions,
        media: MediaOptions,
        progress: Callable[[TrainProgress], None] = lambda _: None,
    ) -> None:
        self.options = _with_method_options(options)
        method = method_named(options.method)
        own = parse_options(method, options.method_options)
        check_encoders(method, own, model.encoders)
        if options.checkpointing == "on" and not method.adapts_base(own):
            raise ConfigError(
                f"--checkpointing on: {method.name} trains nothing inside the model, whose "
                "activations are not computed again; leave it out"
            )
        self.media = media
        self.progress = progress
        self.processes = Processes(model.device)
        self.thinker: Thinker = load_thinker(model.model or "tiny", model.quantize, model.device)
        load_encoders(self.thinker, model.encoders)
        torch.manual_seed(options.seed)
        self.lora: dict[str, Any] = {}
        if method.adapts_base(own):
            lora = LoraSettings(
                options.lora_rank, options.lora_alpha, options.lora_dropout, options.lora_scope
            )
            self.lora = add_lora(self.thinker, lora)
        if large := is_large(count_parameters(self.thinker.config)):
            return_large_blocks()
        if options.checkpointing == "on" or (options.checkpointing == "auto" and large):
            self.thinker.core.gradient_checkpointing_enable(
                gradient_checkpointing_kwargs={"use_reentrant": False}
            )

    def run(
        self,
        data: TrainingData,
        out: Path,
        about: Mapping[str, Any] | None = None,
        fresh: bool = False,
        start: Path | None = None,
        progress: Callable[[TrainProgress], None] | None = None,
        tensorboard: bool = False,
    ) -> CheckpointInfo:
        """Trains, keeps the best epoch in `out`, and returns what its `omni_msa.json` says.

        Args:
            data: what is trained and validated on.
            out: the checkpoint folder; an unfinished run in it goes on.
            about: fields of the `CheckpointInfo` that the run does not know by itself: `notice`,
                `languages`, another name of the `base`.
            fresh: start anew, whatever is in the folder.
            start: a checkpoint whose adapter and method are trained on.
            progress: for this run, in place of the trainer's.
            tensorboard: also write the log's figures to event files, for TensorBoard.

        Raises:
            TrainingError: the loss is no number, or memory does not hold one clip.
            ConfigError: the folder holds something else.
        """
        model = self._model(data, start)
        progress = progress or self.progress
        info = first_info(self.thinker, self.lora, self.options, self.media, data, start)
        info = replace(info, **(about or {}))
        fingerprint = run_fingerprint(info, self.processes.count)
        leads = self.processes.leads
        with RunFolder(out, fingerprint, fresh, leads, tensorboard=tensorboard) as folder:
            if leads:  # after the fingerprint, which does not depend on it
                info = replace(info, training=info.training | clips_record(data, start))
            run = Run(model, self.options, data, folder, info, self.processes, progress)
            logger.info("training on %d clips into %s", len(data.train.clips), printable(str(out)))
            trained = run.train()
        logger.info("training ended: %s", trained.metrics)
        return trained

    def _model(self, data: TrainingData, start: Path | None) -> TrainedModel:
        """The Thinker with a fresh method for these labels, or with the weights to start from."""
        method = fresh_method(self.options, self.thinker, data.label_space)
        builder = method.builder(self.thinker)
        if start is not None:
            load_weights(start, self.thinker, method, self.lora)
        hide = data.hide | method.unused_modalities(method.options)
        return TrainedModel(self.thinker, method, builder, self.media, hide)


def _with_method_options(options: TrainOptions) -> TrainOptions:
    """All of the method's own options, the defaults too; checked before anything is loaded."""
    method = method_trained_by(TrainedBy.GRADIENTS, options.method)
    own = parse_options(method, options.method_options)
    chose_rate = options.head_learning_rate != TrainOptions.head_learning_rate
    if chose_rate and not has_parameters(method, own):
        raise ConfigError(
            f"head_learning_rate: {options.method} has no parameters of its own; leave it out"
        )
    return replace(options, method_options=asdict(own))
