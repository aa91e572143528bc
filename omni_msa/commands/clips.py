"""Scoring clips from the command line: what was named, the output file, progress, and the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omni_msa.commands.flags import BatchFlags, ShowFlags
from omni_msa.commands.streams import also_printing_rows, is_stdout, with_lines_of_stdin
from omni_msa.environment import cache_home, quiet_notice
from omni_msa.errors import ConfigError
from omni_msa.foreign import printable
from omni_msa.modalities import Subset
from omni_msa.options import AblationOptions, ModelOptions

if TYPE_CHECKING:
    from omni_msa.files.record import Record
    from omni_msa.files.results import Results
    from omni_msa.scoring.batch import BatchSummary
    from omni_msa.scoring.deferred import DeferredScorer
    from omni_msa.scoring.scorer import Scorer
    from omni_msa.values import Clip


@dataclass(frozen=True)
class ClipFlags:
    """Which clips are scored."""

    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH...",
            help="Clips, folders, globs, or a manifest (.jsonl, .csv); - takes paths from stdin, "
            "one a line.",
        ),
    ] = None
    transcript: Annotated[
        str | None,
        typer.Option(
            "--transcript",
            metavar="TEXT|FILE",
            help="The words of the one clip; without a PATH they are scored alone.",
        ),
    ] = None
    id: Annotated[
        str | None,
        typer.Option(
            "--id",
            metavar="COLUMN",
            help="Of a manifest: comes back in each row as its id. Default: id.",
        ),
    ] = None
    split: Annotated[
        str | None,
        typer.Option("--split", metavar="NAME", help="Only rows of a manifest that are of it."),
    ] = None


@dataclass(frozen=True)
class Inputs:
    """The clips of one call; `single` when one file, or words alone, was named: one object."""

    clips: list[Clip]
    single: bool

    def are_shown(self, batch: BatchFlags, show: ShowFlags) -> bool:
        """Whether their records are printed, beside the output file that they are written to."""
        if is_stdout(batch.output):
            return False  # each is printed as it is known
        return batch.output is None or show.json or len(self.clips) == 1


def gather_inputs(flags: ClipFlags, batch: BatchFlags, show: ShowFlags) -> Inputs:
    """Find the clips that the arguments name, and give the one clip its words; the output file is
    none of what is read."""
    from omni_msa.files.sources import expand_inputs

    arguments, words = with_lines_of_stdin(flags.paths or []), flags.transcript
    if not arguments and words is None:
        raise ConfigError(
            "nothing to score: give clips, folders, globs or a manifest, or words alone "
            "with --transcript"
        )
    clips: list[Clip] = []
    notices: list[str] = []
    if arguments:
        clips, notices = expand_inputs(arguments, flags.id, batch.file, batch.fresh)
    if flags.split is not None:
        clips = _of_split(clips, flags.split)
    if words is not None:
        clips, more = _with_words(clips, words)
        notices = [*notices, *more]
    for notice in notices:
        show.note(notice)
    files = [Path(argument) for argument in flags.paths or []]
    single = len(clips) == 1 and [clip.path for clip in clips if clip.path] == files
    return Inputs(clips, single=single)


def _of_split(clips: Sequence[Clip], name: str) -> list[Clip]:
    from omni_msa.files.manifest import split_name

    chosen = [clip for clip in clips if clip.split is not None and clip.split == split_name(name)]
    if not chosen:
        splits = sorted({clip.split for clip in clips if clip.split})
        choices = f"choose one of: {', '.join(splits)}" if splits else "no clip here has a split"
        raise ConfigError(f"--split {name}: no clip is of it; {choices}")
    return chosen


def _with_words(clips: list[Clip], words: str) -> tuple[list[Clip], Sequence[str]]:
    """The one clip with its words, or the words alone; and what is wrong with them."""
    from omni_msa.media.transcripts import option_transcript, same_words
    from omni_msa.values import Clip

    if len(clips) > 1:
        raise ConfigError(
            f"--transcript gives the words of one clip, and here are {len(clips)}; put a .txt or "
            ".srt file beside each clip, or use a manifest"
        )
    clip = clips[0] if clips else None
    window = (clip.start_seconds, clip.end_seconds) if clip else (None, None)
    transcript = option_transcript(words, *window)
    notices = list(transcript.warnings)
    if clip and clip.transcript and not same_words(transcript.text, clip.transcript):
        notices.append("--transcript used; the manifest's text differs")
    clip = replace(clip or Clip(transcript=""), transcript=transcript.text)
    return [replace(clip, transcript_source=transcript.source)], notices


def for_records(options: ModelOptions, inputs: Inputs, show: ShowFlags) -> ModelOptions:
    """The embedded checkpoint of heart records, where they are all there is and no model is named.
    Beside clips, a record is scored as one of which only the heart is known."""
    from omni_msa.media.record_files import is_record

    if not options.embedded or options.model is not None:
        return options
    are_records = [clip.path is not None and is_record(clip.path) for clip in inputs.clips]
    if all(are_records):
        return replace(options, checkpoint="tiny-ecg")
    if any(are_records):
        show.note(
            f"heart records beside clips ({sum(are_records)}) are scored as clips are; give them "
            "alone, or --checkpoint tiny-ecg, for findings"
        )
    return options


def load_scorer(
    options: ModelOptions, media: dict[str, Any], show: ShowFlags, beside: Scorer | None = None
) -> Scorer:
    """The model; torch is imported from here on.

    Args:
        beside: a scorer whose base is shared, if it is the same.
    """
    from omni_msa.display.progress import working

    with working("loading the model ...", show.quiet):
        from omni_msa.scoring.scorer import Scorer

        scorer = Scorer.load(options, media, beside)
    if not show.quiet and not quiet_notice():
        _say_notice(scorer)
    return scorer


def defer_scorer(
    options: ModelOptions,
    media: dict[str, Any],
    show: ShowFlags,
    load: Callable[[], Scorer] | None = None,
) -> Scorer | DeferredScorer:
    """The scorer, loaded only when a clip needs it, where what it will be is known before.

    Args:
        load: in place of `load_scorer` alone.
    """
    from omni_msa.media.denoise import require_denoiser
    from omni_msa.scoring.deferred import DeferredScorer
    from omni_msa.scoring.identity import identity_before_loading

    load = load or (lambda: load_scorer(options, media, show))
    identity = identity_before_loading(options, media)
    scorer = load() if identity is None else DeferredScorer(identity, load)
    require_denoiser(scorer.media.denoise)
    return scorer


def _say_notice(scorer: Scorer) -> None:
    """What the checkpoint says of itself; of the embedded one, what to use in its place."""
    from omni_msa.display.notice import DEMONSTRATION, due_today
    from omni_msa.display.output import say
    from omni_msa.model.folders import EMBEDDED

    folder, own = scorer.checkpoint.folder, scorer.checkpoint.info.notice
    if folder == EMBEDDED["tiny"]:
        own = DEMONSTRATION if due_today(cache_home()) else None
    notice = "; ".join(filter(None, (own, *scorer.remarks)))
    if notice:
        say(notice)


@dataclass(frozen=True)
class Done:
    """A batch that has ended; `failed_in_all` counts its clips' failed rows of earlier runs too."""

    summary: BatchSummary
    failed_in_all: int


def score_clips(
    scorer: Scorer | DeferredScorer,
    clips: Sequence[Clip],
    ablation: AblationOptions,
    hide: Subset,
    batch: BatchFlags,
    show: ShowFlags,
    keep: bool = True,
) -> Done:
    """Score clips with progress, into the output file if one is named."""
    from omni_msa.display.progress import batch_progress
    from omni_msa.scoring.batch import run_batch

    fingerprint = scorer.fingerprint(ablation, hide)
    try:
        with _opened(batch, fingerprint, show) as results, batch_progress(show.quiet) as progress:
            if is_stdout(batch.output):
                progress = also_printing_rows(progress, batch.words)
            summary = run_batch(
                clips, scorer, results, batch.options(), ablation, hide, progress, keep
            )
            names = [clip.name for clip in clips]
            # a rerun that leaves failed rows as they are has not scored everything either
            failed = results.num_failed(names) if results is not None else summary.failed
            stale = _stale_notice(results, names, batch.prune)
    except KeyboardInterrupt:
        _say_interrupted(batch.output)
        raise
    if failed > summary.failed:
        show.note(f"{failed} failed in all; --retry-failed tries them again")
    if stale:
        show.note(f"{batch.output}: {stale}")
    if not batch.words:
        records = [record and replace(record, text=None) for record in summary.records]
        summary = replace(summary, records=tuple(records))
    return Done(summary, failed)


def _stale_notice(results: Results | None, names: Sequence[str], prune: bool) -> str | None:
    """What is said of rows whose clips are not among the inputs; `prune` removes them."""
    number = len(results.stale(names)) if results is not None else 0
    if not number or results is None:
        return None
    rows = f"{number} row{'s' if number > 1 else ''} of clips that are not among the inputs"
    if not prune:
        return f"{rows}; --prune removes them"
    results.prune(names)
    return f"{rows} removed"


@contextmanager
def _opened(batch: BatchFlags, fingerprint: str, show: ShowFlags) -> Iterator[Results | None]:
    """The output file, if one was named."""
    from omni_msa.files.results import open_results

    if batch.file is None:
        yield None
        return
    rerun = {"fresh": batch.fresh, "retry_failed": batch.retry_failed}
    with open_results(batch.file, fingerprint, **rerun, keeps_words=batch.words) as results:
        for notice in results.notices:
            show.note(notice)
        yield results


def _say_interrupted(output: Path | None) -> None:
    if is_stdout(output):
        typer.echo("omni-msa: interrupted; finished rows are on stdout", err=True)
        return
    rest = (
        f"finished rows are in {output}; the same command goes on from there"
        if output
        else "nothing is kept; with -o FILE, finished rows are"
    )
    typer.echo(printable(f"omni-msa: interrupted; {rest}"), err=True)


def print_scores(
    done: Done, inputs: Inputs, batch: BatchFlags, show: ShowFlags, subsets: bool = False
) -> None:
    """Prints the records, or where they are, and ends with the exit code.

    Args:
        subsets: whether people see the score of every subset of the modalities.
    """
    from omni_msa.display.card import print_card
    from omni_msa.display.lines import print_lines
    from omni_msa.display.output import print_json

    summary, output = done.summary, batch.output
    records = [record for record in summary.records if record is not None]
    if show.json:
        rows = [r and r.to_json() for r in all_records(summary, inputs.clips, batch)]
        print_json(rows[0] if inputs.single else rows)
    elif len(records) == 1 == len(inputs.clips):
        if not records[0].error:
            print_card(records[0], subsets)
    elif output is None:
        print_lines(records, subsets)
    if output is not None:
        show.note(f"{'stdout' if is_stdout(output) else output}: {_counts(summary)}")
    if summary.warned and len(inputs.clips) > 1:
        show.note(_warnings_by_kind(summary))
    raise typer.Exit(3 if done.failed_in_all else 0)


def _counts(summary: BatchSummary) -> str:
    counts = f"{summary.scored} scored, {summary.failed} failed"
    if summary.skipped:
        counts += f", {summary.skipped} already there"
    if summary.updated:
        rows = "1 row had its" if summary.updated == 1 else f"{summary.updated} rows had their"
        counts += f", {rows} columns updated"
    return counts


def _warnings_by_kind(summary: BatchSummary) -> str:
    """`3 clips have warnings: no words (2), short audio (1)`."""
    kinds = sorted(summary.warnings.items(), key=lambda kind: (-kind[1], kind[0]))
    clips = f"{summary.warned} clip{'s have' if summary.warned > 1 else ' has'} warnings"
    return f"{clips}: {', '.join(f'{kind} ({number})' for kind, number in kinds)}"


def all_records(
    summary: BatchSummary, clips: Sequence[Clip], batch: BatchFlags
) -> list[Record | None]:
    """A record each clip; those of an earlier run are as the output file holds them."""
    from omni_msa.files.columns import one_line
    from omni_msa.files.result_formats import read_records

    stored = read_records(batch.file) if batch.file is not None and summary.skipped else []
    if not batch.words:
        stored = [replace(record, text=None) for record in stored]
    earlier = {one_line(record.clip): record for record in stored}
    return [
        record or earlier.get(one_line(clip.name))
        for clip, record in zip(clips, summary.records, strict=True)
    ]
