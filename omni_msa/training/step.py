"""One optimizer step: passes of as many clips as memory holds, their gradients, and the update."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.utils import clip_grad_norm_

from omni_msa.errors import TrainingError
from omni_msa.model.memory import is_out_of_memory
from omni_msa.options import TrainOptions
from omni_msa.training.data import LabelledInputs, label_matrix
from omni_msa.training.model import TrainedModel
from omni_msa.training.order import learning_rate_factor, step_seed
from omni_msa.training.processes import Processes
from omni_msa.training.progress import Reporter
from omni_msa.training.state import Position


@dataclass(frozen=True)
class StepFigures:
    """What a step did, over the clips of all processes."""

    loss: float = 0.0
    gradient_norm: float = 0.0
    clips: int = 0


class Stepper:
    """Takes optimizer steps at the run's position.

    Args:
        position: of the run. Its `micro` is halved here when memory runs out; counting steps is
            left to the run.
        reporter: gets a notice of that.
    """

    def __init__(
        self,
        model: TrainedModel,
        optimizer: torch.optim.Optimizer,
        options: TrainOptions,
        processes: Processes,
        position: Position,
        reporter: Reporter,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.options = options
        self.processes = processes
        self.position = position
        self.reporter = reporter

    def take(self, batch: Sequence[LabelledInputs]) -> StepFigures:
        """One optimizer step on this process's clips.

        Raises:
            TrainingError: the loss is no number, or memory does not hold one clip.
        """
        position, total_steps = self.position, self.reporter.total_steps
        factor = learning_rate_factor(position.step, total_steps, self.options.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        count = sum(self.processes.gather([len(batch)]))
        if not count:
            return StepFigures()
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        while True:
            for parameter in parameters:
                parameter.grad = torch.zeros_like(parameter)
            try:
                loss = self._accumulate(batch, count)
                break
            except (RuntimeError, MemoryError) as error:
                self._halve(error)
        loss = sum(self.processes.gather([loss]))
        self.processes.sum_gradients(parameters)
        norm = float(clip_grad_norm_(parameters, self.options.max_grad_norm))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingError(
                f"step {position.step + 1}: the loss is {loss:g} and its gradient {norm:g}; lower "
                "the learning rates (--lora-learning-rate, --head-learning-rate) or check the "
                "base with --quantize none"
            )
        self.optimizer.step()
        return StepFigures(loss, norm, count)

    def _accumulate(self, batch: Sequence[LabelledInputs], count: int) -> float:
        """Gradients of the mean loss over `count` clips, in passes of at most `micro` clips."""
        position, total = self.position, 0.0
        order = sorted(batch, key=lambda item: item.inputs.num_tokens["total"])
        for start in range(0, len(order), position.micro):
            part = order[start : start + position.micro]
            torch.manual_seed(
                step_seed(self.options.seed, position.step, self.processes.rank, start)
            )
            loss = batch_loss(self.model, part, self.options.bf16) / count
            loss.backward()
            total += float(loss.detach())
        return total

    def _halve(self, error: Exception) -> None:
        """After an allocation failed: half as many clips a pass, or, with one, the end."""
        if not is_out_of_memory(error):
            raise error
        if self.position.micro == 1:
            method = self.model.method
            advice = "--checkpointing on, " if method.adapts_base(method.options) else ""
            raise TrainingError(
                f"memory does not hold one clip's training step; use --subsets full, {advice}"
                "--max-pixels or --max-frames lower, or --quantize 4bit"
            ) from error
        self.position.micro = math.ceil(self.position.micro / 2)
        if self.model.thinker.device.type == "cuda":
            torch.cuda.empty_cache()
        self.reporter.notice(
            f"out of memory: from now on {self.position.micro} clips a pass, as many a step"
        )


def batch_loss(model: TrainedModel, batch: Sequence[LabelledInputs], bf16: bool) -> torch.Tensor:
    """Sum over clips. The whole clip counts as much as its smaller subsets together.

    Args:
        bf16: compute in bfloat16 on a CPU too; a GPU does so always.
    """
    device = model.thinker.device
    labels, weights = label_matrix(batch, device)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda" or bf16):
        losses = model.method.losses(
            model.thinker, [b.inputs for b in batch], [b.subsets for b in batch], labels
        )
    return (losses.where(weights > 0, 0.0) * weights).sum()
