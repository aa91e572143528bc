"""Training a LoRA adapter and a regression head on labelled clips.

The same packed pass that scores a clip's subsets trains on them, so a missing modality is not a
surprise. The checkpoint with the lowest validation MAE is kept.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_

from omni_msa.checkpoint import CheckpointInfo, add_lora, base_sha256, save_checkpoint
from omni_msa.config import AblationOptions, MediaOptions, ModelOptions, TrainOptions
from omni_msa.errors import ConfigError, ManifestError
from omni_msa.inputs import ThinkerInputs
from omni_msa.readouts.regression import LabelScale, RegressionHead
from omni_msa.scorer import subsets_to_score
from omni_msa.thinker import Thinker, load_thinker
from omni_msa.values import ClipContent, Subset, subset_name

BUCKET = 16  # batches whose clips are sorted by length together


@dataclass(frozen=True)
class TrainProgress:
    """One optimizer step's figures, or an epoch's validation."""

    epoch: int
    step: int
    total_steps: int
    loss: float
    clips_per_second: float
    seconds_left: float
    metrics: dict[str, float] | None = None  # at the end of an epoch


@dataclass(frozen=True)
class LabelledInputs:
    """A clip as tensors, with a label for each subset that is trained on."""

    inputs: ThinkerInputs
    subsets: tuple[Subset, ...]
    labels: tuple[float, ...]


class Trainer:
    """One run: `Trainer(...).run(train, valid, out)`.

    Contents come from a callable, so that clips are read when they are needed, from wherever the
    caller keeps them.
    """

    def __init__(
        self,
        model: ModelOptions,
        options: TrainOptions,
        media: MediaOptions,
        label_range: tuple[float, float],
        progress: Callable[[TrainProgress], None] = lambda _: None,
    ) -> None:
        self.options = options
        self.media = media
        self.label_range = label_range
        self.progress = progress
        self.thinker: Thinker = load_thinker(model.model or "tiny", model.quantize, model.device)
        self.rng = random.Random(options.seed)
        torch.manual_seed(options.seed)
        add_lora(self.thinker, options.lora_rank, options.lora_alpha, options.lora_dropout)
        self.head = RegressionHead(self.thinker.width).to(self.thinker.device)

    def run(
        self,
        train: Sequence[ClipContent],
        valid: Sequence[ClipContent],
        out: Path,
        base_name: str | None = None,
        notice: str | None = None,
    ) -> CheckpointInfo:
        """Trains, keeps the best epoch in `out`, and returns what its `omni_msa.json` says.

        Args:
            train, valid: read clips whose `clip.label` is set.
            out: the checkpoint folder.
            base_name: how the checkpoint calls its base, if not by the name it was loaded with.
            notice: a line that is shown whenever the checkpoint is used.

        Raises:
            ManifestError: a clip without a label, or nothing to train or validate on.
        """
        scale = label_scale(train, valid, self.label_range)
        info = CheckpointInfo(
            base=base_name or self.thinker.base.name,
            base_sha256=base_sha256(self.thinker.base.folder),
            readout="regression",
            scale=scale,
            media=self.media.to_json(),
            quantize=self.thinker.base.quantize,
            lora=self._lora_json(),
            seed=self.options.seed,
            notice=notice,
        )
        optimizer, schedule, total = self._optimizer(len(train))
        best, waited, step = math.inf, 0, 0
        for epoch in range(1, self.options.epochs + 1):
            step = self._epoch(epoch, train, scale, optimizer, schedule, step, total)
            metrics = self.validate(valid, scale)
            self.progress(TrainProgress(epoch, step, total, metrics["loss"], 0.0, 0.0, metrics))
            if metrics["mae"] < best:
                best, waited = metrics["mae"], 0
                info = save_checkpoint(out, self.thinker, self.head, replace(info, metrics=metrics))
            elif (waited := waited + 1) >= self.options.patience:
                break
        return info

    @torch.inference_mode()
    def validate(self, contents: Sequence[ClipContent], scale: LabelScale) -> dict[str, float]:
        """MAE and loss on whole clips, in label units."""
        self.thinker.model.eval()
        self.head.eval()
        errors: list[float] = []
        for batch in self._batches(contents, shuffle=False):
            whole = [LabelledInputs(b.inputs, b.subsets[-1:], b.labels[-1:]) for b in batch]
            outputs, labels, _ = self._outputs(whole)
            errors += (scale.restore(outputs) - labels)[:, 0].abs().tolist()
        mae = sum(errors) / len(errors)
        return {"mae": mae, "loss": mae / scale.deviation, "clips": float(len(errors))}

    def _epoch(
        self,
        epoch: int,
        contents: Sequence[ClipContent],
        scale: LabelScale,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LambdaLR,
        step: int,
        total: int,
    ) -> int:
        self.thinker.model.train()
        self.head.train()
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        began, seen, losses = time.perf_counter(), 0, []
        batches = list(self._index_batches(contents, shuffle=True))
        for i, indices in enumerate(batches):
            batch = [self._labelled(contents[j]) for j in indices]
            loss = self._loss(batch, scale)
            (loss / self.options.accumulate).backward()
            losses.append(float(loss.detach()))
            seen += len(batch)
            if (i + 1) % self.options.accumulate and i + 1 < len(batches):
                continue
            clip_grad_norm_(parameters, self.options.max_grad_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            rate = seen / (time.perf_counter() - began)
            left = (total - step) * self.options.batch_size * self.options.accumulate / rate
            recent = losses[-50:]
            mean = sum(recent) / len(recent)
            self.progress(TrainProgress(epoch, step, total, mean, rate, left))
        return step

    def _loss(self, batch: Sequence[LabelledInputs], scale: LabelScale) -> torch.Tensor:
        """L1 on z-scored labels. The whole clip counts as much as its smaller subsets together."""
        kind = self.thinker.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda" or self.options.bf16):
            outputs, labels, known = self._outputs(batch)
        errors = (outputs - scale.normalise(labels)).abs() * known  # [B, K]
        weights = known / (known.sum(1, keepdim=True) - 1).clamp(min=1)
        last = known.sum(1).long() - 1
        weights = weights.scatter(1, last[:, None], 1.0)
        return (errors * weights).sum() / weights.sum()

    def _outputs(
        self, batch: Sequence[LabelledInputs]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Head outputs [B, K], labels [B, K] and which of them are real."""
        packed = self.thinker.batch([b.inputs for b in batch], [b.subsets for b in batch])
        outputs = self.head(self.thinker.forward(packed))
        labels = torch.zeros_like(outputs)
        known = torch.zeros_like(outputs)
        for row, item in enumerate(batch):
            labels[row, : len(item.labels)] = torch.tensor(item.labels)
            known[row, : len(item.labels)] = 1.0
        return outputs, labels, known

    def _labelled(self, content: ClipContent) -> LabelledInputs:
        """Inputs and labels of one clip; the whole clip is the last subset.

        A smaller subset has its own label where the data has one, else the clip's.
        """
        inputs = self.thinker.builder.build(content, self.media)
        packed = self.options.subsets == "packed"
        subsets = subsets_to_score(inputs.present, AblationOptions(enabled=packed))
        label = content.clip.label
        assert label is not None  # label_scale has checked
        own = content.clip.subset_labels
        labels = [float(own.get(subset_name(s), label)) for s in subsets]
        labels[-1] = label
        return LabelledInputs(inputs, subsets, tuple(labels))

    def _batches(
        self, contents: Sequence[ClipContent], shuffle: bool
    ) -> Iterator[list[LabelledInputs]]:
        for indices in self._index_batches(contents, shuffle):
            yield [self._labelled(contents[i]) for i in indices]

    def _index_batches(self, contents: Sequence[ClipContent], shuffle: bool) -> Iterator[list[int]]:
        """Batches of clips of similar size, in random order when training."""
        order = list(range(len(contents)))
        if shuffle:
            self.rng.shuffle(order)
        size = self.options.batch_size
        batches = []
        for start in range(0, len(order), size * BUCKET):
            bucket = sorted(order[start : start + size * BUCKET], key=lambda i: _size(contents[i]))
            batches += [bucket[i : i + size] for i in range(0, len(bucket), size)]
        if shuffle:
            self.rng.shuffle(batches)
        return iter(batches)

    def _optimizer(self, num_clips: int) -> tuple[Any, Any, int]:
        """AdamW with two learning rates, linear warm-up and cosine; and the number of steps."""
        options = self.options
        lora = [p for p in self.thinker.model.parameters() if p.requires_grad]
        groups = [
            {"params": lora, "lr": options.lora_learning_rate},
            {"params": list(self.head.parameters()), "lr": options.head_learning_rate},
        ]
        optimizer = torch.optim.AdamW(groups, weight_decay=options.weight_decay)
        batches = math.ceil(num_clips / options.batch_size)
        total = options.epochs * math.ceil(batches / options.accumulate)
        warmup = max(1, round(total * options.warmup))

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            return 0.5 + 0.5 * math.cos(math.pi * (step - warmup) / max(1, total - warmup))

        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor), total

    def _lora_json(self) -> dict[str, Any]:
        trainable = sum(p.numel() for p in self.thinker.model.parameters() if p.requires_grad)
        options = self.options
        return {
            "rank": options.lora_rank,
            "alpha": options.lora_alpha,
            "dropout": options.lora_dropout,
            "scope": "all",
            "parameters": trainable,
        }


def label_scale(
    train: Sequence[ClipContent], valid: Sequence[ClipContent], label_range: tuple[float, float]
) -> LabelScale:
    """Mean and deviation of the training labels.

    Raises:
        ManifestError: a split is empty, or a label is missing or outside the range.
    """
    low, high = label_range
    if not train or not valid:
        raise ManifestError(
            f"{len(train)} training and {len(valid)} validation clips; both are needed: mark rows "
            'with split "train" and "valid"'
        )
    bad = [
        c.clip for c in (*train, *valid) if c.clip.label is None or not low <= c.clip.label <= high
    ]
    if bad:
        raise ManifestError(
            f"{len(bad)} clips have no label in [{low}, {high}], such as {bad[0].name} "
            f"({bad[0].label}); fix the manifest's label column"
        )
    labels = torch.tensor([float(c.clip.label or 0.0) for c in train], dtype=torch.float64)
    deviation = float(labels.std(correction=0))
    if deviation == 0:
        raise ConfigError("all training labels are equal; there is nothing to learn")
    return LabelScale(float(labels.mean()), deviation, low, high)


def _size(content: ClipContent) -> int:
    """Roughly how long a clip's token tree is, without building it."""
    size = len(content.transcript.text) if content.transcript else 0
    if content.frames is not None:
        size += content.frames.rgb.size // 4704
    if content.waveform is not None:
        size += 2 * len(content.waveform.samples) // 640
    return size
