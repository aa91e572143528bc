"""The options of the commands that train and measure; see `flags.py` for how they become flags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from omni_msa.config import (
    CHECKPOINTING,
    HEADS,
    LORA_SCOPES,
    METRIC_FAMILIES,
    QUANTIZE,
    TASKS,
    TRAINED_READOUTS,
    BatchOptions,
    EvaluateOptions,
    ModelOptions,
    TrainOptions,
)
from omni_msa.flags import option, parse_drop
from omni_msa.values import Subset

_TRAIN = "Training (default: as published, ours where that is silent)"
_READ = "Reading many clips"


def _rate(name: str, help: str) -> Any:
    return option(name, metavar="RATE", panel=_TRAIN, help=help)


def _number(name: str, help: str) -> Any:
    return option(name, metavar="N", panel=_TRAIN, help=help)


def _choice(name: str, choices: Sequence[str], help: str) -> Any:
    return option(name, metavar="|".join(choices), panel=_TRAIN, help=help)


@dataclass(frozen=True)
class TrainFlags:
    """How a run is trained."""

    readout: Annotated[
        str,
        _choice("--readout", TRAINED_READOUTS, "A head on the last token, or the score as text."),
    ] = TrainOptions.readout
    head: Annotated[str, _choice("--head", HEADS, "Of the regression readout.")] = TrainOptions.head
    epochs: Annotated[int, _number("--epochs", "At most.")] = TrainOptions.epochs
    batch_size: Annotated[
        int,
        _number("--batch-size", "Clips a forward pass; halved when memory runs out."),
    ] = TrainOptions.batch_size
    accumulate: Annotated[int, _number("--accumulate", "Forward passes an optimizer step.")] = (
        TrainOptions.accumulate
    )
    subsets: Annotated[
        str,
        _choice(
            "--subsets",
            ("packed", "full"),
            "Train on all modality subsets in the same pass, or not.",
        ),
    ] = TrainOptions.subsets
    lora_rank: Annotated[int, _number("--lora-rank", "Of the adapter.")] = TrainOptions.lora_rank
    lora_alpha: Annotated[int, _number("--lora-alpha", "Its scale, times the rank.")] = (
        TrainOptions.lora_alpha
    )
    lora_dropout: Annotated[float, _rate("--lora-dropout", "Of its input.")] = (
        TrainOptions.lora_dropout
    )
    lora_scope: Annotated[
        str,
        _choice("--lora-scope", LORA_SCOPES, "The whole Thinker, or its language model."),
    ] = TrainOptions.lora_scope
    head_dropout: Annotated[float, _rate("--head-dropout", "Of the regression readout.")] = (
        TrainOptions.head_dropout
    )
    lora_learning_rate: Annotated[
        float, _rate("--lora-learning-rate", "AdamW, after warm-up; then a cosine to zero.")
    ] = TrainOptions.lora_learning_rate
    head_learning_rate: Annotated[
        float, _rate("--head-learning-rate", "The same for the readout.")
    ] = TrainOptions.head_learning_rate
    patience: Annotated[
        int, _number("--patience", "Epochs without a better validation MAE before it stops.")
    ] = TrainOptions.patience
    checkpointing: Annotated[
        str,
        _choice(
            "--checkpointing",
            CHECKPOINTING,
            "Recompute activations to save memory; auto: above a billion parameters.",
        ),
    ] = TrainOptions.checkpointing
    bf16: Annotated[
        bool, option("--bf16", panel=_TRAIN, help="bfloat16 on a CPU too: faster, less exact.")
    ] = TrainOptions.bf16
    save_every: Annotated[
        int, _number("--save-every", "Steps between the states that a killed run goes on from.")
    ] = TrainOptions.save_every
    start: Annotated[
        Path | None,
        option(
            "--start",
            metavar="DIR",
            panel=_TRAIN,
            help="Train on from this checkpoint's adapter and readout.",
        ),
    ] = None
    seed: Annotated[int, _number("--seed", "Order, dropout, fresh weights.")] = TrainOptions.seed

    def options(self) -> TrainOptions:
        """The checked options that the library takes."""
        names = {field.name for field in fields(TrainOptions)} & {f.name for f in fields(self)}
        return TrainOptions(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class ReadFlags:
    """How labelled clips are read, again and again."""

    task: Annotated[
        str,
        option(
            "--task",
            metavar="|".join(TASKS),
            panel=_READ,
            help="Labels are numbers, or the classes of the column emotion.",
        ),
    ] = TASKS[0]
    drop: Annotated[
        list[str] | None,
        option(
            "--drop",
            metavar="MODALITY",
            panel=_READ,
            help="Never show text, audio or video; none: show all, whatever --start was shown.",
        ),
    ] = None
    workers: Annotated[
        int, option("--workers", metavar="N", panel=_READ, help="Processes that read clips.")
    ] = BatchOptions.workers
    cache: Annotated[
        Path | None,
        option(
            "--cache",
            metavar="DIR",
            panel=_READ,
            help="Keep what was read: later epochs and runs do not decode again.",
        ),
    ] = None
    cache_gb: Annotated[
        float, option("--cache-gb", metavar="GB", panel=_READ, help="Size of the cache at most.")
    ] = 20.0
    label_range: Annotated[
        tuple[float, float] | None,
        option(
            "--label-range",
            metavar="LOW HIGH",
            panel=_READ,
            help="Of the labels. Default: the data set's, else -3 3.",
        ),
    ] = None

    @property
    def hide(self) -> Subset:
        """The modalities that are dropped."""
        return parse_drop([name for name in self.drop or [] if name != "none"])


_EVALUATE = "Evaluation"


@dataclass(frozen=True)
class EvaluateFlags:
    """What is measured, and what it is compared with."""

    ablate: Annotated[
        bool,
        option(
            "--ablate", panel=_EVALUATE, help="The seven-row table: test-time drop of modalities."
        ),
    ] = EvaluateOptions.ablate
    also: Annotated[
        list[str] | None,
        option(
            "--also",
            metavar="DIR",
            panel=_EVALUATE,
            help="The same training with another seed: mean and deviation are given.",
        ),
    ] = None
    against: Annotated[
        str | None,
        option(
            "--against",
            metavar="DIR",
            panel=_EVALUATE,
            help="Compare with this checkpoint, on the same clips.",
        ),
    ] = None
    drop: Annotated[
        list[str] | None,
        option(
            "--drop", metavar="MODALITY", panel=_EVALUATE, help="Never show text, audio or video."
        ),
    ] = None
    split: Annotated[
        str | None,
        option(
            "--split",
            metavar="NAME",
            panel=_EVALUATE,
            help="Default: test, where there are splits.",
        ),
    ] = EvaluateOptions.split
    metrics: Annotated[
        str,
        option(
            "--metrics",
            metavar="|".join(METRIC_FAMILIES),
            panel=_EVALUATE,
            help="Whose conventions; auto: the data set's.",
        ),
    ] = EvaluateOptions.family
    resamples: Annotated[
        int,
        option(
            "--resamples",
            metavar="N",
            panel=_EVALUATE,
            help="Of the bootstrap that gives the intervals.",
        ),
    ] = EvaluateOptions.resamples

    def options(self) -> EvaluateOptions:
        """The checked options that the library takes."""
        return EvaluateOptions(self.split, self.metrics, self.ablate, self.resamples)


_PLAN = "Workload"


@dataclass(frozen=True)
class PlanFlags:
    """What is to be done, and on what."""

    model: Annotated[
        str,
        option("--model", metavar="7b|3b|tiny|DIR", panel=_PLAN, help="Published size or folder."),
    ] = "7b"
    task: Annotated[
        str, option("--task", metavar="score|train", panel=_PLAN, help="What memory is for.")
    ] = "score"
    seconds: Annotated[
        float, option("--seconds", metavar="S", panel=_PLAN, help="Length of a clip.")
    ] = 8.0
    subsets: Annotated[
        str,
        option(
            "--subsets",
            metavar="packed|full",
            panel=_PLAN,
            help="All modality subsets in a pass, or not.",
        ),
    ] = "packed"
    batch_size: Annotated[
        int,
        option("--batch-size", metavar="N", panel=_PLAN, help="Clips a pass; the most tried."),
    ] = BatchOptions.batch_size
    vram_budget: Annotated[
        float | None,
        option(
            "--vram-budget",
            metavar="GIB",
            panel=_PLAN,
            help="Pick frames, pixels and batch that fit this.",
        ),
    ] = None
    quantize: Annotated[
        str, option("--quantize", metavar="|".join(QUANTIZE), panel=_PLAN, help="Weights.")
    ] = ModelOptions.quantize
    device: Annotated[
        str, option("--device", metavar="cuda|cpu", panel=_PLAN, help="Where it is to run.")
    ] = "cuda"
    lora_scope: Annotated[
        str,
        option("--lora-scope", metavar="|".join(LORA_SCOPES), panel=_PLAN, help="What is adapted."),
    ] = TrainOptions.lora_scope
