"""The door: every command parses, builds options, calls the library and prints.

stdout carries results only; progress, notices and errors go to stderr. What needs torch is imported
inside the functions that use it, so that `--help` is instant.
"""

from __future__ import annotations

from typing import Annotated

import typer

from omni_msa import __version__, study
from omni_msa.config import AblationOptions
from omni_msa.flags import (
    BatchFlags,
    MediaFlags,
    ModelFlags,
    ShowFlags,
    parse_drop,
    takes_flags,
)
from omni_msa.scoring import answer, gather_inputs

app = typer.Typer(
    help="A raw clip in, a sentiment score out, and what words, voice and face contributed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Paths = Annotated[
    list[str] | None,
    typer.Argument(metavar="PATH...", help="Clips, folders, globs, or a manifest (.jsonl, .csv)."),
]
Words = Annotated[
    str | None,
    typer.Option(
        "--transcript",
        metavar="TEXT|FILE",
        help="The words of the one clip; without a PATH they are scored alone.",
    ),
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"omni-msa {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


@app.command(
    epilog="Examples:\n\n"
    "omni-msa score clip.mp4\n\n"
    'omni-msa score clip.mp4 --transcript "I loved it" --json\n\n'
    "omni-msa score clips/ -o scores.jsonl --batch-size 16 --workers 4"
)
@takes_flags
def score(
    *,
    paths: Paths = None,
    transcript: Words = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(metavar="MODALITY", help="Never show text, audio or video to the model."),
    ] = None,
    ablate: Annotated[
        bool, typer.Option(help="Also say what each modality contributed, in the same pass.")
    ] = True,
    model: ModelFlags,
    media: MediaFlags,
    batch: BatchFlags,
    show: ShowFlags,
) -> None:
    """Score clips: how negative or positive they are, and what each modality contributed."""
    hide = parse_drop(drop or [])
    inputs = gather_inputs(paths or [], transcript, show)
    answer(AblationOptions(enabled=ablate), hide, inputs, model, media, batch, show)


@app.command(
    epilog="Examples:\n\n"
    "omni-msa ablate clip.mp4\n\n"
    "omni-msa ablate clip.mp4 --drop audio\n\n"
    "omni-msa ablate manifest.jsonl -o ablation.csv"
)
@takes_flags
def ablate(
    *,
    paths: Paths = None,
    transcript: Words = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(metavar="MODALITY", help="Score also without text, audio or video."),
    ] = None,
    model: ModelFlags,
    media: MediaFlags,
    batch: BatchFlags,
    show: ShowFlags,
) -> None:
    """Score clips with and without modalities; with no --drop, every subset of them."""
    ablation = AblationOptions(drop=parse_drop(drop or []))
    inputs = gather_inputs(paths or [], transcript, show)
    answer(ablation, frozenset(), inputs, model, media, batch, show)


study.register(app)
