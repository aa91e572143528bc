"""The options of the command line, grouped by concern, so that commands share one wording.

A command takes whole groups: `takes_flags` shows Typer each field of a group as a flat option, and
hands the command the filled groups. What the words mean is checked by the option dataclasses of
`options.py`, which the groups turn into.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from omni_msa.commands.streams import is_stdout
from omni_msa.errors import ConfigError, check_choice
from omni_msa.modalities import MODALITIES, Subset
from omni_msa.options import (
    DECODERS,
    DENOISERS,
    DETAILS,
    DEVICES,
    QUANTIZE,
    BatchOptions,
    ModelOptions,
)


def takes_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Let Typer see the fields of a command's dataclass parameters as options of their own."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters = []
    for parameter in inspect.signature(command).parameters.values():
        group = groups.get(parameter.name)
        if group is None:
            parameters.append(parameter.replace(annotation=hints[parameter.name]))
            continue
        field_hints = get_type_hints(group, include_extras=True)
        for option in fields(group):
            hint = field_hints[option.name]
            parameters.append(
                inspect.Parameter(
                    option.name, parameter.kind, default=option.default, annotation=hint
                )
            )

    @wraps(command)
    def flat(**values: Any) -> None:
        filled = {
            name: group(**{option.name: values.pop(option.name) for option in fields(group)})
            for name, group in groups.items()
        }
        command(**values, **filled)

    flat.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    flat.__annotations__ = {p.name: p.annotation for p in parameters}
    return flat


def parse_modalities(values: Sequence[str]) -> Subset:
    """`["audio", "text,video"]` -> the set of those modalities; all of them leave nothing."""
    names = [name.strip() for value in values for name in value.split(",")]
    for name in names:
        check_choice("--drop", name, MODALITIES)
    if len(set(names)) == len(MODALITIES):
        everything = ",".join(MODALITIES)
        raise ConfigError(f"--drop {everything} leaves nothing to score; leave one of them out")
    return frozenset(names)


def parse_pairs(flag: str, values: Sequence[str], example: str) -> dict[str, str]:
    """`["head=linear"]` -> `{"head": "linear"}`; what the names mean, others know."""
    pairs = {}
    for value in values:
        name, equals, setting = value.partition("=")
        if not (name.strip() and equals and setting.strip()):
            raise ConfigError(f"{flag} {value}: give NAME=VALUE, such as {flag} {example}")
        if name.strip() in pairs:
            raise ConfigError(f"{flag} {name.strip()} is given twice; give it once")
        pairs[name.strip()] = setting.strip()
    return pairs


def option(*names: str, help: str, metavar: str | None = None, panel: str) -> Any:
    """A flag, under the heading of its group."""
    return typer.Option(*names, help=help, metavar=metavar, rich_help_panel=panel)


_MODEL = "Model"
_MEDIA = "Reading clips (default: the checkpoint's way; without one, 2 fps, 4 to 16 frames)"
_BATCH = "Many clips"
_SHOW = "Output"


MODALITY_NAMES = " or ".join(", ".join(MODALITIES).rsplit(", ", 1))  # for help texts

Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="An option of the method; a name that it does not have lists those it has.",
    ),
]

Model = Annotated[
    str | None,
    option(
        "--model",
        metavar="tiny|DIR|HUB_ID",
        panel=_MODEL,
        help="The Thinker: the embedded demonstration model, a folder, or a hub id. "
        "Default: what the checkpoint was trained on, else tiny.",
    ),
]
CheckpointFolder = Annotated[
    str | None,
    option(
        "--checkpoint",
        metavar="DIR",
        panel=_MODEL,
        help="A trained adapter and readout for that Thinker; tiny-ecg: the embedded one of heart "
        "records.",
    ),
]
Quantize = Annotated[
    str,
    option(
        "--quantize",
        metavar="|".join(QUANTIZE),
        panel=_MODEL,
        help="Weights in memory; auto is 4-bit above a billion parameters.",
    ),
]
Device = Annotated[
    str,
    option(
        "--device",
        metavar="|".join(DEVICES),
        panel=_MODEL,
        help="Where it runs; auto takes the GPU when there is one.",
    ),
]


Encoders = Annotated[
    list[str] | None,
    option(
        "--encoder",
        metavar="NAME=DIR",
        panel=_MODEL,
        help=f"Of methods on features: a Hugging Face folder for {MODALITY_NAMES}, or the causal "
        "language model of mse-adapter (language=DIR), in place of the Thinker's own; or "
        "audio=stored:74, for features that come with the clips.",
    ),
]


@dataclass(frozen=True)
class ModelFlags:
    """Which model scores."""

    model: Model = ModelOptions.model
    checkpoint: CheckpointFolder = ModelOptions.checkpoint
    readout: Annotated[
        str | None,
        option(
            "--readout",
            "--method",
            metavar="NAME",
            panel=_MODEL,
            help="How the number is read off the Thinker. Default: what the checkpoint says; "
            "without one, verbalizer.",
        ),
    ] = ModelOptions.readout
    label_range: Annotated[
        tuple[float, float] | None,
        option(
            "--label-range",
            metavar="LOW HIGH",
            panel=_MODEL,
            help="Of the scores, without a checkpoint. Default: -3 3; evaluate: the data set's.",
        ),
    ] = ModelOptions.label_range
    quantize: Quantize = ModelOptions.quantize
    device: Device = ModelOptions.device
    encoder: Encoders = None

    def options(self) -> ModelOptions:
        """The checked options that the library takes."""
        return ModelOptions(
            self.model,
            self.checkpoint,
            self.readout,
            self.quantize,
            self.device,
            self.label_range,
            encoders=parse_pairs("--encoder", self.encoder or [], "text=DIR"),
        )


@dataclass(frozen=True)
class BaseFlags:
    """Which Thinker is trained or calibrated."""

    model: Model = ModelOptions.model
    quantize: Quantize = ModelOptions.quantize
    device: Device = ModelOptions.device
    encoder: Encoders = None

    def options(self) -> ModelOptions:
        """The checked options that the library takes."""
        encoders = parse_pairs("--encoder", self.encoder or [], "text=DIR")
        return ModelOptions(
            self.model, quantize=self.quantize, device=self.device, encoders=encoders
        )


@dataclass(frozen=True)
class MediaFlags:
    """How clips are read; what is not given stays as the checkpoint has it."""

    decoder: Annotated[
        str | None,
        option(
            "--decoder",
            metavar="|".join(DECODERS),
            panel=_MEDIA,
            help="Library that reads the frames.",
        ),
    ] = None
    fps: Annotated[
        float | None,
        option("--fps", metavar="RATE", panel=_MEDIA, help="Frames sampled a second."),
    ] = None
    max_frames: Annotated[
        int | None,
        option("--max-frames", metavar="N", panel=_MEDIA, help="Most frames sampled from a clip."),
    ] = None
    max_pixels: Annotated[
        int | None,
        option(
            "--max-pixels", metavar="N", panel=_MEDIA, help="Most pixels a frame is shown with."
        ),
    ] = None
    detail: Annotated[
        str | None,
        option(
            "--detail",
            metavar="|".join(DETAILS),
            panel=_MEDIA,
            help="Pixels of a frame. 16 frames of 1280x720 are 480, 960 or 5760 tokens: 280x168, "
            "420x224 or, as in qwen-omni-utils, 1008x560 pixels each.",
        ),
    ] = None
    denoise: Annotated[
        str | None,
        option(
            "--denoise",
            metavar="|".join(DENOISERS),
            panel=_MEDIA,
            help="Take noise out of the sound: by its spectrum, or by DeepFilterNet3 (the extra "
            "deepfilternet), with which a third-party transcription of arXiv 2606.05713 has its "
            "headline: an MAE of .551 on MOSI against .598 without.",
        ),
    ] = None

    deadline_seconds: Annotated[
        float | None,
        option(
            "--timeout",
            metavar="SECONDS",
            panel=_MEDIA,
            help="Longest time that reading one clip may take; then it fails. Default: 120.",
        ),
    ] = None

    def overrides(self) -> dict[str, Any]:
        """The media options that were given, by their names in `MediaOptions`.

        Raises:
            ConfigError: the detail is not known, or stands beside pixels.
        """
        values = {option.name: getattr(self, option.name) for option in fields(self)}
        values = {name: value for name, value in values.items() if value is not None}
        if (detail := values.pop("detail", None)) is None:
            return values
        check_choice("--detail", detail, DETAILS)
        if self.max_pixels is not None:
            raise ConfigError("--detail and --max-pixels both set the pixels; give one of them")
        values["min_pixels"], values["max_pixels"] = DETAILS[detail]
        return values


@dataclass(frozen=True)
class BatchFlags:
    """Where rows go, and how many clips are worked on at once."""

    output: Annotated[
        Path | None,
        option(
            "--output",
            "-o",
            metavar="FILE",
            panel=_BATCH,
            help="Write rows to a .jsonl, .csv, .parquet or .xlsx file. A rerun continues it. "
            "With -, rows go to stdout as lines of JSON.",
        ),
    ] = None
    batch_size: Annotated[
        int,
        option("--batch-size", metavar="N", panel=_BATCH, help="Clips in one forward pass."),
    ] = BatchOptions.batch_size
    workers: Annotated[
        int | None,
        option(
            "--workers",
            metavar="N",
            panel=_BATCH,
            help="Processes that read clips. Default: one a core.",
        ),
    ] = BatchOptions.workers
    retry_failed: Annotated[
        bool,
        option("--retry-failed", panel=_BATCH, help="A rerun tries failed clips again."),
    ] = BatchOptions.retry_failed
    fresh: Annotated[
        bool,
        option("--fresh", panel=_BATCH, help="Start the output file anew."),
    ] = BatchOptions.fresh

    prune: Annotated[
        bool,
        option("--prune", panel=_BATCH, help="Remove rows of clips that are not among the inputs."),
    ] = False
    words: Annotated[
        bool,
        option("--words/--no-words", panel=_BATCH, help="Rows and records hold the words scored."),
    ] = True

    @property
    def file(self) -> Path | None:
        """The output file; None where rows go to stdout, or nowhere."""
        return None if is_stdout(self.output) else self.output

    def options(self) -> BatchOptions:
        """The checked options that the library takes."""
        if self.file is None and (self.retry_failed or self.fresh or self.prune):
            raise ConfigError(
                "--retry-failed, --fresh and --prune are about an output file: add -o FILE"
            )
        if self.file is not None:
            from omni_msa.files.result_formats import check_output

            check_output(self.file)  # also when it is opened, but the model is loaded before that
        return BatchOptions(self.batch_size, self.workers, self.retry_failed, self.fresh)

    def check(self, show: ShowFlags) -> None:
        """That the options fit together.

        Raises:
            ConfigError: they do not.
        """
        if show.json and is_stdout(self.output):
            raise ConfigError("--json and -o - both write to stdout; leave --json out")
        self.options()


@dataclass(frozen=True)
class ShowFlags:
    """What is printed."""

    json: Annotated[
        bool,
        option(
            "--json",
            panel=_SHOW,
            help="One JSON document on stdout: an object for one clip, an array for several.",
        ),
    ] = False
    quiet: Annotated[
        bool,
        option("--quiet", "-q", panel=_SHOW, help="No progress and no notices on stderr."),
    ] = False

    def note(self, message: str) -> None:
        """A line for people, on stderr, unless they want none."""
        from omni_msa.display.output import say

        if not self.quiet:
            say(message)
