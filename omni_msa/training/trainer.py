"""Training a LoRA adapter and a readout on labelled clips: one loop for every readout.

The same packed pass that scores a clip's subsets trains on them, so a missing modality is not a
surprise. The checkpoint with the lowest validation MAE is kept. Nothing random outlives a step:
order and dropout follow from the seed and the step's number, so a run that was killed and goes on
ends with the same weights, bit for bit on a CPU.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_

from omni_msa.errors import ManifestError, OmniMSAError, TrainingError
from omni_msa.files.labels import LabelScale
from omni_msa.media.feed import Fed, Feed
from omni_msa.methods import make_readout
from omni_msa.methods.method import Readout
from omni_msa.modalities import Subset
from omni_msa.model.identity import base_sha256
from omni_msa.model.loading import FOUR_BIT_ABOVE, count_parameters, load_thinker
from omni_msa.model.lora import add_lora
from omni_msa.model.memory import in_passes, is_out_of_memory, peak_gib, return_large_blocks
from omni_msa.model.prompt import question
from omni_msa.model.thinker import Thinker
from omni_msa.options import MediaOptions, ModelOptions, TrainOptions
from omni_msa.scoring.checkpoint import CheckpointInfo, load_weights, read_info, save_checkpoint
from omni_msa.scoring.self_check import check_scores
from omni_msa.training.data import (
    LabelledInputs,
    TrainingData,
    data_sha256,
    label_matrix,
    with_labels,
)
from omni_msa.training.order import learning_rate_factor, plan_epoch, step_seed
from omni_msa.training.processes import Processes
from omni_msa.training.run_folder import RunFolder, gentle_interrupt
from omni_msa.training.validation import Miss, misses, validation_metrics
from omni_msa.values import Clip

RECENT = 50  # steps that the shown loss is averaged over


@dataclass(frozen=True)
class TrainProgress:
    """One optimizer step's figures, or an epoch's validation, or something to know."""

    epoch: int
    step: int
    total_steps: int
    loss: float
    clips_per_second: float = 0.0
    seconds_left: float = 0.0
    memory_gib: float = 0.0
    metrics: dict[str, float] | None = None  # at the end of an epoch
    notice: str | None = None


@dataclass
class Position:
    """How far a run is: with the weights and the optimizer, all that it takes to go on."""

    epoch: int = 1
    place: int = 0  # steps done in this epoch
    step: int = 0
    best: float = math.inf
    waited: int = 0
    micro: int = 1  # clips a forward pass
    left_out: dict[str, str] = field(default_factory=dict)  # clips of this epoch, and why
    unseen: dict[str, str] = field(default_factory=dict)  # the same of its validation


class Trainer:
    """One run: `Trainer(...).run(data, out)`."""

    def __init__(
        self,
        model: ModelOptions,
        options: TrainOptions,
        media: MediaOptions,
        progress: Callable[[TrainProgress], None] = lambda _: None,
    ) -> None:
        self.options = options
        self.media = media
        self.progress = progress
        self.processes = Processes(model.device)
        self.thinker: Thinker = load_thinker(model.model or "tiny", model.quantize, model.device)
        torch.manual_seed(options.seed)
        self.lora = add_lora(
            self.thinker,
            options.lora_rank,
            options.lora_alpha,
            options.lora_dropout,
            options.lora_scope,
        )
        if large := count_parameters(self.thinker.config) > FOUR_BIT_ABOVE:
            return_large_blocks()
        if options.checkpointing == "on" or (options.checkpointing == "auto" and large):
            self.thinker.core.gradient_checkpointing_enable(
                gradient_checkpointing_kwargs={"use_reentrant": False}
            )
        self.readout: Readout | None = None
        self.hide: Subset = frozenset()
        self.total_steps = 0
        self.told: set[str] = set()  # clips that were said to be left out
        self.at = Position(micro=options.batch_size)

    def run(
        self,
        data: TrainingData,
        out: Path,
        base_name: str | None = None,
        notice: str | None = None,
        fresh: bool = False,
        start: Path | None = None,
    ) -> CheckpointInfo:
        """Trains, keeps the best epoch in `out`, and returns what its `omni_msa.json` says.

        Args:
            data: what is trained and validated on.
            out: the checkpoint folder; an unfinished run in it goes on.
            base_name: how the checkpoint calls its base, if not by the name it was loaded with.
            notice: a line that is shown whenever the checkpoint is used.
            fresh: start anew, whatever is in the folder.
            start: a checkpoint whose adapter and readout are trained on.

        Raises:
            TrainingError: the loss is no number, or memory does not hold one clip.
            ConfigError: the folder holds something else.
        """
        self.readout = self._make_readout(data.scale)
        self.builder = self.thinker.builder(
            question(*data.label_range, self.readout.speaks, data.classes)
        )
        if start is not None:
            load_weights(start, self.thinker, self.readout, self.lora)
        self.hide = data.hide
        steps_an_epoch = math.ceil(len(data.train.clips) / self.options.clips_a_step)
        self.total_steps = self.options.epochs * steps_an_epoch
        info = self._info(data, base_name, notice, start)
        fingerprint = _fingerprint(data, info, self.processes.count)
        with RunFolder(out, fingerprint, fresh, writes=self.processes.leads) as folder:
            optimizer = self._optimizer()
            self._restore(folder, optimizer)
            self.processes.wait()
            return self._epochs(data, folder, optimizer, info)

    @torch.inference_mode()
    def validate(self, feed: Feed) -> dict[str, float]:
        """MAE on whole clips, in label units, or the share of wrong classes; and of a readout that
        speaks, what went wrong."""
        assert self.readout is not None
        readout = self.readout.eval()
        self.thinker.model.eval()
        mine = self.processes.share(list(range(len(feed.clips))))
        self.at.unseen = {}
        found: list[Miss] = []
        waiting: list[LabelledInputs] = []
        for n, (i, fed) in enumerate(zip(mine, feed.read(mine), strict=True), start=1):
            item = self._labelled(feed.clips[i], fed, self.at.unseen, packed=False)
            waiting += [item] if item else []
            if len(waiting) >= self.at.micro or n == len(mine):
                passes = in_passes(
                    lambda part: misses(self.thinker, readout, part), waiting, self.at.micro
                )
                found += [miss for part in passes for miss in part]
                waiting = []
        self.at.unseen = self.processes.merge(self.at.unseen)
        return validation_metrics(self.processes.gather(found), readout)

    # --- the loop ------------------------------------------------------------------------------

    def _epochs(
        self,
        data: TrainingData,
        folder: RunFolder,
        optimizer: torch.optim.Optimizer,
        info: CheckpointInfo,
    ) -> CheckpointInfo:
        at, options = self.at, self.options
        while at.epoch <= options.epochs and at.waited < options.patience:
            try:
                self._epoch(data, folder, optimizer)
                metrics = self.validate(data.valid)
            except TrainingError as error:
                raise self._stopped(error, folder, info) from error
            missed = next(iter(metrics.values()))
            self._tell(missed, metrics=metrics)
            left_out = at.left_out | at.unseen
            folder.log("epoch", epoch=at.epoch, step=at.step, left_out=left_out, **metrics)
            at.waited += 1
            if missed < at.best:
                at.best, at.waited = missed, 0
                training = info.training | {"left_out": sorted(left_out)}
                self._save(folder, replace(info, metrics=metrics, training=training))
            at.epoch, at.place = at.epoch + 1, 0
            folder.save_state(self._state(optimizer))
        folder.finish()
        self.processes.wait()
        return read_info(folder.folder)

    def _epoch(
        self, data: TrainingData, folder: RunFolder, optimizer: torch.optim.Optimizer
    ) -> None:
        """The rest of the epoch that the position is in."""
        at, options = self.at, self.options
        steps = plan_epoch(data.train.sizes(), at.epoch, options)
        shares = [self.processes.share(places) for places in steps[at.place :]]
        if not at.place:
            at.left_out = {}
        feed = data.train.read([i for share in shares for i in share])
        assert self.readout is not None
        self.thinker.model.train()
        self.readout.train()
        began, seen = time.perf_counter(), 0
        losses: list[float] = []
        with gentle_interrupt(self.processes.count) as interrupted:
            for share in shares:
                batch = [
                    self._labelled(
                        data.train.clips[i], next(feed), at.left_out, options.subsets == "packed"
                    )
                    for i in share
                ]
                loss, norm, count = self._step([b for b in batch if b is not None], optimizer)
                at.step, at.place = at.step + 1, at.place + 1
                seen += count
                losses = [*losses, loss][-RECENT:]
                rate = seen / (time.perf_counter() - began)
                self._tell(sum(losses) / len(losses), rate)
                folder.log(
                    "step",
                    epoch=at.epoch,
                    step=at.step,
                    clips=count,
                    loss=round(loss, 6),
                    grad_norm=round(norm, 6),
                    learning_rate=optimizer.param_groups[0]["lr"],
                    clips_per_second=round(rate, 3),
                    memory_gib=round(peak_gib(), 3),
                )
                ends = interrupted()
                if ends or (at.step % options.save_every == 0 and at.place < len(steps)):
                    at.left_out = self.processes.merge(at.left_out)
                    folder.save_state(self._state(optimizer))
                if ends:
                    raise KeyboardInterrupt
        self._check_left_out(len(data.train.clips))
        folder.save_state(self._state(optimizer))  # whatever happens in validation

    def _check_left_out(self, num_clips: int) -> None:
        """What all processes have left out; more than half of the clips is too much."""
        at = self.at
        at.left_out = self.processes.merge(at.left_out)
        if len(at.left_out) > num_clips / 2:
            raise ManifestError(
                f"{len(at.left_out)} of {num_clips} training clips cannot be used, such as: "
                f"{next(iter(at.left_out.values()))}"
            )

    def _step(
        self, batch: Sequence[LabelledInputs], optimizer: torch.optim.Optimizer
    ) -> tuple[float, float, int]:
        """One optimizer step on this process's clips: loss, gradient norm, and all its clips."""
        factor = learning_rate_factor(self.at.step, self.total_steps, self.options.warmup)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        count = sum(self.processes.gather([len(batch)]))
        if not count:
            return 0.0, 0.0, 0
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
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
                f"step {self.at.step + 1}: the loss is {loss:g} and its gradient {norm:g}; lower "
                "the learning rates (--lora-learning-rate, --head-learning-rate) or check the "
                "base with --quantize none"
            )
        optimizer.step()
        return loss, norm, count

    def _accumulate(self, batch: Sequence[LabelledInputs], count: int) -> float:
        """Gradients of the mean loss over `count` clips, in passes of at most `micro` clips."""
        total = 0.0
        order = sorted(batch, key=lambda item: item.inputs.num_tokens["total"])
        for start in range(0, len(order), self.at.micro):
            part = order[start : start + self.at.micro]
            torch.manual_seed(
                step_seed(self.options.seed, self.at.step, self.processes.rank, start)
            )
            loss = self._loss(part) / count
            loss.backward()
            total += float(loss.detach())
        return total

    def _loss(self, batch: Sequence[LabelledInputs]) -> torch.Tensor:
        """Sum over clips. The whole clip counts as much as its smaller subsets together."""
        assert self.readout is not None
        device = self.thinker.device
        labels, weights = (m.to(device) for m in label_matrix(batch))
        with torch.autocast(
            device.type, torch.bfloat16, enabled=device.type == "cuda" or self.options.bf16
        ):
            losses = self.readout.losses(
                self.thinker, [b.inputs for b in batch], [b.subsets for b in batch], labels
            )
        return (losses.where(weights > 0, 0.0) * weights).sum()

    def _halve(self, error: Exception) -> None:
        """After an allocation failed: half as many clips a pass, or, with one, the end."""
        if not is_out_of_memory(error):
            raise error
        if self.at.micro == 1:
            raise TrainingError(
                "memory does not hold one clip's training step; use --subsets full, "
                "--checkpointing on, --max-pixels or --max-frames lower, or --quantize 4bit"
            ) from error
        self.at.micro = math.ceil(self.at.micro / 2)
        if self.thinker.device.type == "cuda":
            torch.cuda.empty_cache()
        self._tell(
            0.0, notice=f"out of memory: from now on {self.at.micro} clips a pass, as many a step"
        )

    # --- clips ---------------------------------------------------------------------------------

    def _labelled(
        self, clip: Clip, fed: Fed, left_out: dict[str, str], packed: bool
    ) -> LabelledInputs | None:
        """A clip as tensors; None, and that is said, if it cannot be shown."""
        try:
            if isinstance(fed, OmniMSAError):
                raise fed
            inputs = self.builder.build(fed, self.media, self.hide)
        except OmniMSAError as error:
            if clip.name not in self.told:
                self._tell(0.0, notice=f"left out: {error}")
            self.told.add(clip.name)
            left_out[clip.name] = str(error)
            return None
        return with_labels(clip, inputs, packed)

    # --- what a run consists of ----------------------------------------------------------------

    def _make_readout(self, scale: LabelScale) -> Readout:
        options = self.options
        regression = {"head": options.head, "dropout": options.head_dropout}
        settings = regression if options.readout == "regression" else None
        torch.manual_seed(options.seed)
        return make_readout(options.readout, self.thinker, scale, settings)

    def _optimizer(self) -> torch.optim.Optimizer:
        """AdamW with two learning rates; in 8 bits and paged on a GPU."""
        assert self.readout is not None
        options = self.options
        lora = [p for p in self.thinker.model.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [{"params": lora, "lr": options.lora_learning_rate}]
        if own := list(self.readout.parameters()):
            groups.append({"params": own, "lr": options.head_learning_rate})
        for group in groups:
            group["initial_lr"] = group["lr"]
        if self.thinker.device.type == "cuda":
            from bitsandbytes.optim import PagedAdamW8bit

            return PagedAdamW8bit(groups, weight_decay=options.weight_decay)
        return torch.optim.AdamW(groups, weight_decay=options.weight_decay)

    def _info(
        self,
        data: TrainingData,
        base_name: str | None,
        notice: str | None,
        start: Path | None,
    ) -> CheckpointInfo:
        """What is known of the checkpoint before it is trained."""
        return CheckpointInfo(
            base=base_name or self.thinker.base.lasting_name,
            base_sha256=base_sha256(self.thinker.base.folder),
            readout=self.options.readout,
            scale=data.scale,
            media=self.media.to_json(),
            quantize=self.thinker.base.quantize,
            lora=self.lora,
            seed=self.options.seed,
            notice=notice,
            hide=sorted(data.hide),
            training=asdict(self.options)
            | {
                "train_clips": len(data.train.clips),
                "valid_clips": len(data.valid.clips),
                "data_sha256": data_sha256(train=data.train, valid=data.valid),
                "start": _weights_sha256(start) if start is not None else None,
            },
        )

    def _save(self, folder: RunFolder, info: CheckpointInfo) -> bool:
        """Writes the checkpoint; False when these weights give no numbers."""
        assert self.readout is not None
        check = check_scores(self.thinker, self.readout, self.builder, self.media, self.hide)
        good = all(map(math.isfinite, check["scores"].values()))
        if good and self.processes.leads:
            save_checkpoint(
                folder.folder, self.thinker, self.readout, replace(info, self_check=check)
            )
        return good

    def _stopped(
        self, error: TrainingError, folder: RunFolder, info: CheckpointInfo
    ) -> TrainingError:
        """The error with where the last good weights are; they are saved if none were yet."""
        folder.log("stopped", step=self.at.step, why=str(error))
        if math.isfinite(self.at.best):
            kept = f"holds the best epoch so far (validation error {self.at.best:.4f})"
        elif self._save(folder, replace(info, metrics={})):
            kept = f"holds the weights of step {self.at.step}, which were never validated"
        else:
            return TrainingError(f"{error}; there were no good weights to keep")
        folder.finish()
        return TrainingError(f"{error}; {folder.folder} {kept}")

    def _weights(self) -> dict[str, torch.Tensor]:
        """Everything that is trained, by name."""
        assert self.readout is not None
        lora = {n: p for n, p in self.thinker.model.named_parameters() if p.requires_grad}
        return lora | {f"readout.{n}": p for n, p in self.readout.named_parameters()}

    def _state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        return {
            "position": asdict(self.at),
            "weights": {name: p.detach().cpu() for name, p in self._weights().items()},
            "optimizer": optimizer.state_dict(),
        }

    def _restore(self, folder: RunFolder, optimizer: torch.optim.Optimizer) -> None:
        """Goes on from the folder's state, or starts its log."""
        if folder.state is None:
            folder.log("start", lora=self.lora, **asdict(self.options))
            folder.save_state(self._state(optimizer))  # from here on the folder is unfinished
            return
        self.at = Position(**folder.state["position"])
        with torch.no_grad():
            for name, parameter in self._weights().items():
                parameter.copy_(folder.state["weights"][name])
        optimizer.load_state_dict(folder.state["optimizer"])
        self._tell(0.0, notice=f"going on after step {self.at.step} of {self.total_steps}")

    def _tell(
        self,
        loss: float,
        rate: float = 0.0,
        metrics: dict[str, float] | None = None,
        notice: str | None = None,
    ) -> None:
        left = (self.total_steps - self.at.step) * self.options.clips_a_step
        self.progress(
            TrainProgress(
                epoch=self.at.epoch,
                step=self.at.step,
                total_steps=self.total_steps,
                loss=loss,
                clips_per_second=rate,
                seconds_left=left / rate if rate else 0.0,
                memory_gib=peak_gib(),
                metrics=metrics,
                notice=notice,
            )
        )


def _weights_sha256(folder: Path) -> str:
    info = read_info(folder)
    return info.adapter_sha256 + info.readout_sha256


def _fingerprint(data: TrainingData, info: CheckpointInfo, processes: int) -> str:
    """What must be the same for a run to go on: all that its weights follow from."""
    parts: list[Any] = [info.base_sha256, info.quantize, info.training, info.media, info.hide]
    parts += [info.scale.to_json(), processes]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
