"""The door: every command parses, builds options, calls the library and prints.

stdout carries results only; progress, notices and errors go to stderr. What needs torch is imported
inside the functions that use it, so that `--help` is instant.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omni_msa import __version__
from omni_msa.config import AblationOptions, quiet_notice
from omni_msa.errors import ConfigError
from omni_msa.flags import (
    BatchFlags,
    MediaFlags,
    ModelFlags,
    ShowFlags,
    parse_drop,
    takes_flags,
)
from omni_msa.values import Clip, Subset

if TYPE_CHECKING:
    from omni_msa.batch import BatchSummary
    from omni_msa.results import Results

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


@dataclass(frozen=True)
class Inputs:
    """The clips of one call; `single` when one file, or words alone, was named: one object."""

    clips: list[Clip]
    single: bool


def gather_inputs(arguments: Sequence[str], words: str | None, show: ShowFlags) -> Inputs:
    """Find the clips that the arguments name, and give the one clip its words."""
    from omni_msa.sources import expand_inputs

    if not arguments and words is None:
        raise ConfigError(
            "nothing to score: give clips, folders, globs or a manifest, or words alone "
            "with --transcript"
        )
    clips, notices = expand_inputs(arguments) if arguments else ([], [])
    if words is not None:
        clips, more = _with_words(clips, words)
        notices = [*notices, *more]
    for notice in notices:
        _note(notice, show)
    named = [Path(argument) for argument in arguments]
    alone = len(clips) == 1 and [clip.path for clip in clips if clip.path] == named
    return Inputs(clips, single=alone)


def _with_words(clips: list[Clip], words: str) -> tuple[list[Clip], Sequence[str]]:
    """The one clip with its words, or the words alone; and what is wrong with them."""
    from omni_msa.transcripts import option_transcript

    if len(clips) > 1:
        raise ConfigError(
            f"--transcript gives the words of one clip, and here are {len(clips)}; put a .txt or "
            ".srt file beside each clip, or use a manifest"
        )
    clip = clips[0] if clips else None
    window = (clip.start_seconds, clip.end_seconds) if clip else (None, None)
    given = option_transcript(words, *window)
    clip = replace(clip or Clip(transcript=""), transcript=given.text)
    return [replace(clip, transcript_source=given.source)], given.warnings


def answer(
    ablation: AblationOptions,
    hide: Subset,
    inputs: Inputs,
    model: ModelFlags,
    media: MediaFlags,
    batch: BatchFlags,
    show: ShowFlags,
) -> None:
    """Load the model, score the clips, print, and end with the exit code."""
    model_options, batch_options = model.options(), batch.options()
    # torch is imported from here on
    from omni_msa.batch import run_batch
    from omni_msa.render import batch_progress, working

    with working("loading the model ...", show.quiet):
        from omni_msa.scorer import Scorer

        scorer = Scorer.load(model_options, media.overrides())
    if scorer.notice and not quiet_notice():
        _note(scorer.notice, show)
    keep = batch.output is None or show.json or len(inputs.clips) == 1
    fingerprint = scorer.fingerprint(ablation, hide)
    try:
        with _opened(batch, fingerprint, show) as results, batch_progress(show.quiet) as progress:
            summary = run_batch(
                inputs.clips, scorer, results, batch_options, ablation, hide, progress, keep
            )
    except KeyboardInterrupt:
        _say_interrupted(batch.output)
        raise
    _print(summary, inputs, batch.output, show)
    # a rerun that leaves failed rows as they are has not scored everything either
    failed = results.num_failed if results is not None else summary.failed
    if failed > summary.failed:
        _note(f"{failed} failed in all; --retry-failed tries them again", show)
    raise typer.Exit(3 if failed else 0)


@contextmanager
def _opened(batch: BatchFlags, fingerprint: str, show: ShowFlags) -> Iterator[Results | None]:
    """The output file, if one was named."""
    from omni_msa.results import open_results

    if batch.output is None:
        yield None
        return
    again = {"fresh": batch.fresh, "retry_failed": batch.retry_failed}
    with open_results(batch.output, fingerprint, **again) as results:
        for notice in results.notices:
            _note(notice, show)
        yield results


def _note(message: str, show: ShowFlags) -> None:
    if not show.quiet:
        typer.echo(f"omni-msa: {message}", err=True)


def _say_interrupted(output: Path | None) -> None:
    kept = (
        f"finished rows are in {output}; the same command goes on from there"
        if output
        else "nothing is kept; with -o FILE, finished rows are"
    )
    typer.echo(f"omni-msa: interrupted; {kept}", err=True)


def _print(summary: BatchSummary, inputs: Inputs, output: Path | None, show: ShowFlags) -> None:
    from omni_msa import render

    records = [record for record in summary.records if record is not None]
    if show.json:
        rows = _rows(summary, inputs.clips, output)
        render.print_json(rows[0] if inputs.single else rows)
    elif len(records) == 1 == len(inputs.clips):
        if not records[0].error:
            render.print_card(records[0])
    elif output is None:
        render.print_lines(records)
    if output is not None:
        counts = f"{summary.scored} scored, {summary.failed} failed"
        if summary.skipped:
            counts += f", {summary.skipped} already there"
        _note(f"{output}: {counts}", show)


def _rows(summary: BatchSummary, clips: Sequence[Clip], output: Path | None) -> list[Any]:
    """A JSON row each clip; those of an earlier run are as the output file holds them."""
    stored = _stored_rows(output) if output is not None and summary.skipped else []
    earlier = {row["clip"]: row for row in stored}
    return [
        record.to_json() if record else earlier.get(clip.name)
        for clip, record in zip(clips, summary.records, strict=True)
    ]


def _stored_rows(output: Path) -> list[dict[str, Any]]:
    from omni_msa.results import read_results

    if output.suffix.lower() != ".jsonl":
        return read_results(output)
    return [json.loads(line) for line in output.read_text(encoding="utf-8").split("\n") if line]
