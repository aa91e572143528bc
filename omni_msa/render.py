"""Records as people read them in a terminal: one clip as a card, many as lines, and progress.

Results go to stdout; progress, notices and errors go to stderr. File names and error messages are
shown as they are: nothing in them is taken for markup.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from omni_msa.values import MODALITIES, Ablation, Record

if TYPE_CHECKING:
    from pathlib import Path

    from omni_msa.batch import BatchProgress
    from omni_msa.checkpoint import CheckpointInfo
    from omni_msa.train import TrainProgress

BAR_CELLS = 8  # each way
PLAIN_SECONDS = 10.0  # between progress lines when stderr is no terminal


def print_json(document: Any) -> None:
    """Exactly one JSON document on stdout."""
    text = json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # a file name that the terminal's encoding cannot say
        text = json.dumps(document, indent=2, allow_nan=False)
    with _until_reader_leaves():
        print(text, flush=True)


def print_card(record: Record) -> None:
    """One clip: its score, what each modality was and did, and what to know about it."""
    with _until_reader_leaves():
        _stdout().print(card(record))


def print_lines(records: Sequence[Record]) -> None:
    """Several clips, a line each."""
    with _until_reader_leaves():
        _stdout().print(lines(records))


def say(message: str) -> None:
    """One line for people, on stderr."""
    print(f"omni-msa: {message}", file=sys.stderr)


def failure(record: Record) -> str:
    """`clip.mp4: why it could not be scored`."""
    message = record.error["message"] if record.error else ""
    return message if record.clip in message else f"{record.clip}: {message}"


def card(record: Record) -> Group:
    """The picture of one scored clip."""
    score = Text("  ").append(f"score {signed(record.score)}", style="bold")
    if record.range:
        low, high = record.range
        meant = f"from {low:+g} (negative) to {high:+g} (positive)"
        score.append(f"   {record.emotion or meant}", style="" if record.emotion else "dim")
    parts: list[Any] = [Text(record.clip), score, Text(), _modalities(record)]
    if record.ablation and record.ablation.contribution:
        parts.append(_sum_line(record.ablation))
    parts += [Text(f"  warning: {warning}", style="yellow") for warning in record.warnings]
    return Group(*parts)


def lines(records: Sequence[Record]) -> Table:
    """A compact table: a line each clip."""
    table = Table(box=None, pad_edge=False)
    table.add_column("clip", overflow="fold")
    table.add_column("score", justify="right", no_wrap=True)
    shown = [m for m in MODALITIES if any(_contribution(r, m) is not None for r in records)]
    for modality in shown:
        table.add_column(modality, justify="right", no_wrap=True)
    if any(record.error for record in records):
        table.add_column("error", overflow="fold")
    for record in records:
        cells = [Text(record.clip), Text(signed(record.score))]
        cells += [Text(signed(_contribution(record, modality))) for modality in shown]
        table.add_row(*cells, *([Text(record.error["message"])] if record.error else []))
    return table


def signed(value: float | None) -> str:
    """`1.42` -> `+1.42`; what is not known is left empty."""
    return "" if value is None else f"{value:+.2f}"


def bar(value: float, full: float) -> Text:
    """A signed bar around a middle line; `full` is the value that fills one side."""
    cells = min(BAR_CELLS, round(abs(value) / full * BAR_CELLS)) if full else 0
    blocks = "█" * cells
    if value < 0:
        return Text(" " * (BAR_CELLS - cells)).append(blocks, "red").append("│" + " " * BAR_CELLS)
    return Text(" " * BAR_CELLS + "│").append(blocks, "green").append(" " * (BAR_CELLS - cells))


def _modalities(record: Record) -> Padding:
    """A line each modality: where it came from, what it contributed, the score without it."""
    contribution = record.ablation.contribution if record.ablation else {}
    drop = record.ablation.drop if record.ablation else {}
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("modality", no_wrap=True)
    table.add_column("from", overflow="fold")
    if contribution:
        table.add_column("contribution", justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)
    if drop:
        table.add_column("without it", justify="right", no_wrap=True)
        table.add_column("change", justify="right", no_wrap=True)
    full = max((abs(value) for value in contribution.values()), default=0.0)
    for name in dict.fromkeys((*MODALITIES, *drop)):  # several at once: `text+audio`
        source = record.modalities.get(name) if name in MODALITIES else ""
        cells = [Text(name), Text("none" if source is None else source)]
        if contribution:
            value = contribution.get(name)
            cells += [Text(signed(value)), Text() if value is None else bar(value, full)]
        if drop:
            change = drop.get(name, {})
            cells += [Text(signed(change.get("score"))), Text(signed(change.get("delta")))]
        table.add_row(*cells)
    return Padding(table, (0, 0, 0, 2), expand=False)


def _sum_line(ablation: Ablation) -> Text:
    nothing, total = ablation.subsets[""], sum(ablation.contribution.values())
    words = f"  {signed(nothing)} with nothing shown, {signed(total)} from the clip"
    return Text(words, style="dim")


def _contribution(record: Record, modality: str) -> float | None:
    return record.ablation.contribution.get(modality) if record.ablation else None


def _stdout() -> Console:
    # A pipe has no width: the next program wants each clip on one line, however long its name.
    return Console(width=None if sys.stdout.isatty() else 10_000, highlight=False)


@contextmanager
def _until_reader_leaves() -> Iterator[None]:
    """Let `omni-msa ... | head` end quietly."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered must not raise again when the program ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def working(message: str, quiet: bool) -> Iterator[None]:
    """Show on a terminal that something takes its time."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    with Console(stderr=True).status(message):
        yield


@contextmanager
def batch_progress(quiet: bool) -> Iterator[Callable[[BatchProgress], None]]:
    """How a batch is shown while it runs: a bar on a terminal, else a line now and then.

    Failures are shown as they happen, quiet or not.
    """
    if quiet:
        yield _say_failure
    elif sys.stderr.isatty():
        with _bar() as progress:
            task = progress.add_task("scoring", total=None, detail="")
            yield lambda now: _move(progress, task, now)
    else:
        yield _Lines()


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
        console=Console(stderr=True),
        transient=True,
    )


def _move(progress: Progress, task: Any, now: BatchProgress) -> None:
    progress.update(
        task, completed=now.done, total=now.total, detail=_pace(now), visible=now.total > 1
    )
    if now.last is not None and now.last.error:
        progress.console.print(Text(f"omni-msa: {failure(now.last)}"))


def _say_failure(now: BatchProgress) -> None:
    if now.last is not None and now.last.error:
        say(failure(now.last))


class _Lines:
    """Progress for a log file: a line at most every ten seconds, and failures as they happen."""

    def __init__(self) -> None:
        self._last_seconds = 0.0
        self._last_done = 0

    def __call__(self, now: BatchProgress) -> None:
        _say_failure(now)
        due = now.elapsed_seconds - self._last_seconds >= PLAIN_SECONDS
        if now.total > 1 and now.done > self._last_done and (due or now.done == now.total):
            self._last_seconds, self._last_done = now.elapsed_seconds, now.done
            say(", ".join(filter(None, (f"{now.done} of {now.total} clips", _pace(now)))))


def _clock(seconds: float) -> str:
    """`3725.0` -> `1:02:05`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _pace(now: BatchProgress) -> str:
    """`2.1 clips/s, 0:03:10 left, 2 failed`; nothing when an earlier run did everything."""
    rate = now.clips_per_second
    words = [f"{rate:.1f} clips/s"] if rate else []
    left = now.seconds_left
    if left:
        words.append(f"{_clock(left)} left")
    if now.failed:
        words.append(f"{now.failed} failed")
    return ", ".join(words)


@contextmanager
def count_progress(
    what: str, total: int | None, quiet: bool
) -> Iterator[Callable[[int, Any], None]]:
    """Progress of something that is counted: a bar on a terminal, nothing in a log file.

    The callable takes the number done and either the total or why one is left out.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda _, why: say(f"left out: {why}") if isinstance(why, str) and not quiet else None
        return
    with _bar() as progress:
        task = progress.add_task(what, total=total, detail="")

        def move(done: int, more: Any) -> None:
            whole = more if isinstance(more, int) else total
            progress.update(task, completed=done, total=whole)
            if isinstance(more, str):
                progress.console.print(Text(f"omni-msa: left out: {more}"))

        yield move


@contextmanager
def train_progress(quiet: bool) -> Iterator[Callable[[TrainProgress], None]]:
    """Training while it runs: a bar on a terminal, else a line now and then; every epoch a line."""
    if quiet:
        yield lambda now: say(now.notice) if now.notice else None
    elif sys.stderr.isatty():
        with _bar() as progress:
            task = progress.add_task("training", total=None, detail="")

            def move(now: TrainProgress) -> None:
                if now.notice or now.metrics:
                    progress.console.print(Text(f"omni-msa: {now.notice or _epoch(now)}"))
                else:
                    progress.update(
                        task, completed=now.step, total=now.total_steps, detail=_training(now)
                    )

            yield move
    else:
        yield _TrainLines()


class _TrainLines:
    """Training in a log file: a line at most every ten seconds, and one an epoch."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, now: TrainProgress) -> None:
        if now.notice or now.metrics:
            say(now.notice or _epoch(now))
        elif time.monotonic() - self._last >= PLAIN_SECONDS:
            self._last = time.monotonic()
            say(f"step {now.step} of {now.total_steps}, {_training(now)}")


def _training(now: TrainProgress) -> str:
    """`epoch 1, loss 0.412, 3.1 clips/s, 10.2 GiB, 0:12:01 left`."""
    return (
        f"epoch {now.epoch}, loss {now.loss:.3f}, {now.clips_per_second:.1f} clips/s, "
        f"{now.memory_gib:.1f} GiB, {_clock(now.seconds_left)} left"
    )


def _epoch(now: TrainProgress) -> str:
    """`epoch 1: validation MAE 0.412`, and of a readout that speaks, what went wrong."""
    metrics = now.metrics or {}
    name, error = next(iter(metrics.items()))
    words = f"epoch {now.epoch}: validation {'MAE' if name == 'mae' else 'error'} {error:.4f}"
    if "unparsable" in metrics:
        words += f", {metrics['unparsable']:.1%} unparsable"
        words += f", {metrics['out_of_range']:.1%} out of range"
    return words


def print_trained(folder: Path, info: CheckpointInfo, as_json: bool) -> None:
    """Where the checkpoint is, and how good it was on validation clips."""
    figures = {name: round(value, 4) for name, value in info.metrics.items()}
    left_out = info.training.get("left_out", [])
    if as_json:
        document = {"checkpoint": str(folder), "readout": info.readout, "metrics": figures}
        print_json(document | {"left_out": left_out})
        return
    told = ", ".join(f"{name} {value:g}" for name, value in figures.items())
    told += f", {len(left_out)} clips left out" if left_out else ""
    with _until_reader_leaves():
        _stdout().print(Text(f"{folder}: {info.readout}, {told}"))


def show_parts(*parts: Any) -> None:
    """Tables and lines on stdout."""
    with _until_reader_leaves():
        for part in parts:
            _stdout().print(part)
