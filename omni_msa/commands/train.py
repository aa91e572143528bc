"""The command `train`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from omni_msa.commands.flags import (
    BaseFlags,
    MediaFlags,
    Settings,
    ShowFlags,
    option,
    parse_pairs,
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
from omni_msa.errors import ConfigError, MediaError
from omni_msa.modalities import Subset, in_order, tokens
from omni_msa.options import (
    CHECKPOINTING,
    LANGUAGE,
    LORA_SCOPES,
    MediaOptions,
    ModelOptions,
    TrainOptions,
)

if TYPE_CHECKING:
    from omni_msa.methods import Method
    from omni_msa.values import Clip

LOOKED_AT = 100  # feature files, for how wide they are

EXAMPLES = "Example:\n\nomni-msa train mosi.jsonl -o mosi-checkpoint --cache cache"


_TRAIN = "Training (where each default comes from: docs/provenance.md)"


def _default(name: str) -> str:
    """Of an option that methods have recipes for, as help shows it."""
    field = name.removeprefix("--").replace("-", "_")
    return f" Default: {getattr(TrainOptions, field)}, or the method's own."


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
            help="regression: a head on the last token; generative: the score as text; other "
            "published systems: docs/methods.md.",
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
    epochs: Annotated[
        int | None, _number("--epochs", "At most; --patience ends it before." + _default("epochs"))
    ] = None
    batch_size: Annotated[
        int | None,
        _number(
            "--batch-size",
            "Clips a forward pass; halved when memory runs out." + _default("batch-size"),
        ),
    ] = None
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
    lora_rank: Annotated[
        int | None, _number("--lora-rank", "Of the adapter." + _default("lora-rank"))
    ] = None
    lora_alpha: Annotated[
        int | None, _number("--lora-alpha", "Its scale, times the rank." + _default("lora-alpha"))
    ] = None
    lora_dropout: Annotated[
        float | None, _rate("--lora-dropout", "Of its input." + _default("lora-dropout"))
    ] = None
    lora_scope: Annotated[
        str | None,
        _choice(
            "--lora-scope",
            LORA_SCOPES,
            "The whole Thinker, or its language model." + _default("lora-scope"),
        ),
    ] = None
    head_dropout: Annotated[
        float | None,
        _rate("--head-dropout", "Of regression; default: 0.2. The same as --set dropout=..."),
    ] = None
    lora_learning_rate: Annotated[
        float | None,
        _rate(
            "--lora-learning-rate",
            "AdamW, after warm-up; then a cosine to zero." + _default("lora-learning-rate"),
        ),
    ] = None
    head_learning_rate: Annotated[
        float | None,
        _rate(
            "--head-learning-rate",
            "The same for the method's own parameters." + _default("head-learning-rate"),
        ),
    ] = None
    patience: Annotated[
        int | None,
        _number(
            "--patience",
            "Epochs without a better validation MAE before it stops." + _default("patience"),
        ),
    ] = None
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

    def choices(self) -> dict[str, Any]:
        """The fields of `TrainOptions` that were chosen, checked; what else is needed is
        installed."""
        if self.tensorboard:
            from omni_msa.training.event_files import require_tensorboard

            require_tensorboard()
        names = {field.name for field in fields(TrainOptions)} & {f.name for f in fields(self)}
        own = {"head": self.head, "dropout": self.head_dropout}
        own = {name: value for name, value in own.items() if value is not None}
        settings = parse_pairs("--set", self.settings or [], "head=linear")
        if twice := sorted(own.keys() & settings.keys()):
            raise ConfigError(f"{' and '.join(twice)}: by a flag and by --set; give one of them")
        values = {name: getattr(self, name) for name in names}
        choices = {name: value for name, value in values.items() if value is not None}
        choices["method_options"] = own | settings
        TrainOptions(**choices)
        return choices


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

    choices, model = train.choices(), base.options()
    chosen = MediaOptions.over({}, media.overrides())
    clips = read_manifest(data, columns=read.names())
    show = replace(show, quiet=show.quiet or world_rank() > 0)
    note_splits(clips, {"train": "to train on", "valid": "to validate on"}, show)
    from omni_msa.display.progress import train_progress, working
    from omni_msa.display.tables import print_trained

    with working("loading the model ...", show.quiet):
        from omni_msa.files.labels import label_space_of
        from omni_msa.methods import method_named, parse_options
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
        method = method_named(train.method)
        options = TrainOptions.of(method.recipe, choices)
        own = parse_options(method, options.method_options)
        unused = _unused(method, own, clips, read.hide, show)
        model = _with_stored_encoders(model, clips, method, own, read.hide, show)
        feeds = [file_feed(space.labelled(split), chosen, read, unused) for split in splits]
        labelled = TrainingData(feeds[0], feeds[1], space, read.hide)
        trainer = Trainer(model, options, chosen)
    if inherited:
        show.note(f"{train.start}: trained without {' and '.join(inherited)}, and so is this")
    if lora := trainer.lora:
        share = f"{lora['parameters']:,} parameters ({lora['percent']:.4f} %)"
        show.note(f"LoRA {lora['scope']}: {share}")
    with train_progress(show.quiet) as progress:
        try:
            info = trainer.run(labelled, output, fresh=fresh, start=train.start, progress=progress,
                               tensorboard=train.tensorboard)  # fmt: skip
        except KeyboardInterrupt:
            show.note(f"interrupted; the same command goes on from {output}")
            raise
    if world_rank() == 0:
        print_trained(output, info, show.json)


def _unused(
    method: type[Method], options: Any, clips: Sequence[Clip], hide: Subset, show: ShowFlags
) -> Subset:
    """The modalities that the method cannot use; hearts that it leaves alone are counted.

    Raises:
        ConfigError: all that it can use is dropped.
    """
    from omni_msa.media.ecg import ecg_of

    if method.modalities(options) <= hide:
        names = ",".join(in_order(method.modalities(options)))
        raise ConfigError(f"--drop {names} leaves nothing to score; leave one of them out")
    unused = method.unused_modalities(options)
    hearts = sum(ecg_of(clip) is not None for clip in clips) if "ecg" in unused else 0
    if hearts:
        show.note(
            f"{hearts} clips have a heart record, which {method.name} does not look at; regression "
            "does with --set ecg=true"
        )
    return unused


def _with_stored_encoders(
    model: ModelOptions,
    clips: Sequence[Clip],
    method: type[Method],
    options: Any,
    hide: Subset,
    show: ShowFlags,
) -> ModelOptions:
    """With encoders as wide as the features that come with the first clip that has them, among the
    first `LOOKED_AT` feature files, of those modalities for which none is named; words that an
    adapter is trained to read are read."""
    from omni_msa.media.features import is_feature_file, read_features
    from omni_msa.model.features import STORED

    absent = set(method.replaceable(options) - {LANGUAGE} - hide - model.encoders.keys())
    absent -= {"text"} if method.adapts_base(options) else set()
    paths = [clip.path for clip in clips if clip.path is not None and is_feature_file(clip.path)]
    widths: dict[str, int] = {}
    for path in paths[:LOOKED_AT]:
        if not absent:
            break
        with suppress(MediaError):  # said when its clip is read
            values = read_features(path, tokens() - absent).values
            widths |= {name: value.shape[1] for name, value in values.items()}
            absent -= widths.keys()
    if widths:
        shown = ", ".join(f"{name} {widths[name]}" for name in in_order(widths))
        show.note(f"features that come with the clips: {shown} wide")
    stored = {name: f"{STORED}{widths[name]}" for name in in_order(widths)}
    return replace(model, encoders={**model.encoders, **stored})


def _as_started(start: Path, read: ReadFlags, media: MediaFlags) -> tuple[list[str], MediaOptions]:
    """The modalities that the checkpoint was trained without, unless --drop says which, and its
    way of reading clips, with the choices that are given on top."""
    from omni_msa.scoring.checkpoint import media_options, read_info

    info = read_info(start)
    return [] if read.drop else list(info.hide), media_options(info, media.overrides())
