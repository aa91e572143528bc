"""The command `train`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

from omni_msa.commands.flags import (
    BaseFlags,
    MediaFlags,
    Settings,
    ShowFlags,
    option,
    parse_settings,
    takes_flags,
)
from omni_msa.commands.labelled import (
    Fresh,
    Manifest,
    Out,
    ReadFlags,
    file_feed,
    note_left_out,
    note_splits,
)
from omni_msa.environment import world_rank
from omni_msa.errors import ConfigError
from omni_msa.options import (
    CHECKPOINTING,
    LORA_SCOPES,
    MediaOptions,
    TrainOptions,
)

EXAMPLES = "Example:\n\nomni-msa train mosi.jsonl -o mosi-checkpoint --cache cache"


_TRAIN = "Training (where each default comes from: docs/provenance.md)"


def _rate(name: str, help: str) -> Any:
    return option(name, metavar="RATE", panel=_TRAIN, help=help)


def _number(name: str, help: str) -> Any:
    return option(name, metavar="N", panel=_TRAIN, help=help)


def _choice(name: str, choices: Sequence[str], help: str) -> Any:
    return option(name, metavar="|".join(choices), panel=_TRAIN, help=help)


@dataclass(frozen=True)
class TrainFlags:
    """How a run is trained."""

    method: Annotated[
        str,
        option(
            "--readout",
            "--method",
            metavar="NAME",
            panel=_TRAIN,
            help="regression: a head on the last token; generative: the score as text.",
        ),
    ] = TrainOptions.method
    head: Annotated[
        str | None,
        option(
            "--head",
            metavar="mlp|linear",
            panel=_TRAIN,
            help="Of regression; default: mlp. The same as --set head=...",
        ),
    ] = None
    settings: Settings = None
    epochs: Annotated[int, _number("--epochs", "At most; --patience ends it before.")] = (
        TrainOptions.epochs
    )
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
    head_dropout: Annotated[
        float | None,
        _rate("--head-dropout", "Of regression; default: 0.2. The same as --set dropout=..."),
    ] = None
    lora_learning_rate: Annotated[
        float, _rate("--lora-learning-rate", "AdamW, after warm-up; then a cosine to zero.")
    ] = TrainOptions.lora_learning_rate
    head_learning_rate: Annotated[
        float, _rate("--head-learning-rate", "The same for the method's own parameters.")
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
            help="Train on from this checkpoint's adapter and method.",
        ),
    ] = None
    tensorboard: Annotated[
        bool,
        option(
            "--tensorboard",
            panel=_TRAIN,
            help="Write the log's figures to event files in DIR too (the extra tensorboard).",
        ),
    ] = False
    seed: Annotated[int, _number("--seed", "Order, dropout, fresh weights.")] = TrainOptions.seed

    def options(self) -> TrainOptions:
        """The checked options that the library takes; what else is needed is installed."""
        if self.tensorboard:
            from omni_msa.training.event_files import require_tensorboard

            require_tensorboard()
        names = {field.name for field in fields(TrainOptions)} & {f.name for f in fields(self)}
        own = {"head": self.head, "dropout": self.head_dropout}
        own = {name: value for name, value in own.items() if value is not None}
        settings = parse_settings(self.settings or [])
        if twice := sorted(own.keys() & settings.keys()):
            raise ConfigError(f"{' and '.join(twice)}: by a flag and by --set; give one of them")
        return TrainOptions(
            method_options=own | settings, **{name: getattr(self, name) for name in names}
        )


@takes_flags
def train(
    *,
    data: Manifest,
    output: Out,
    fresh: Fresh = False,
    base: BaseFlags,
    train: TrainFlags,
    read: ReadFlags,
    media: MediaFlags,
    show: ShowFlags,
) -> None:
    """Train a LoRA adapter and a method; the epoch with the best validation MAE is kept."""
    from omni_msa.files.manifest import read_manifest

    options, model = train.options(), base.options()
    chosen = MediaOptions.over({}, media.overrides())
    clips = read_manifest(data, columns=read.names())
    show = replace(show, quiet=show.quiet or world_rank() > 0)
    note_splits(clips, {"train": "to train on", "valid": "to validate on"}, show)
    from omni_msa.display.progress import train_progress, working
    from omni_msa.display.tables import print_trained

    with working("loading the model ...", show.quiet):
        from omni_msa.files.labels import label_space_of
        from omni_msa.methods import method_named
        from omni_msa.training.data import TrainingData
        from omni_msa.training.trainer import Trainer

        inherited: list[str] = []
        if train.start is not None:
            if train.start.resolve() == output.resolve():
                raise ConfigError(f"-o {output}: is what --start goes on from; give another folder")
            inherited, chosen = _as_started(train.start, read, media)
            read = replace(read, drop=inherited or read.drop)
        space = label_space_of(clips, read.task, read.label_range)
        note_left_out(clips, space, show)
        splits = [[c for c in clips if c.split == name] for name in ("train", "valid")]
        unused = method_named(options.method).unused_modalities()
        feeds = [file_feed(space.labelled(split), chosen, read, unused) for split in splits]
        labelled = TrainingData(feeds[0], feeds[1], space, read.hide)
        trainer = Trainer(model, options, chosen)
    if inherited:
        show.note(f"{train.start}: trained without {' and '.join(inherited)}, and so is this")
    lora = trainer.lora
    show.note(f"LoRA {lora['scope']}: {lora['parameters']:,} parameters ({lora['percent']:.4f} %)")
    with train_progress(show.quiet) as progress:
        try:
            info = trainer.run(labelled, output, fresh=fresh, start=train.start, progress=progress,
                               tensorboard=train.tensorboard)  # fmt: skip
        except KeyboardInterrupt:
            show.note(f"interrupted; the same command goes on from {output}")
            raise
    if world_rank() == 0:
        print_trained(output, info, show.json)


def _as_started(start: Path, read: ReadFlags, media: MediaFlags) -> tuple[list[str], MediaOptions]:
    """The modalities that the checkpoint was trained without, unless --drop says which, and its
    way of reading clips, with the choices that are given on top."""
    from omni_msa.scoring.checkpoint import media_options, read_info

    info = read_info(start)
    return [] if read.drop else list(info.hide), media_options(info, media.overrides())
