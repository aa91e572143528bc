"""Progress of work while it runs: bars on a terminal, plain lines in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from omni_msa.display.output import line, say
from omni_msa.files.record import Record

if TYPE_CHECKING:
    from omni_msa.scoring.batch import BatchProgress
    from omni_msa.training.trainer import TrainProgress

PLAIN_SECONDS = 10.0  # between progress lines when stderr is not a terminal


def failure(record: Record) -> str:
    """`clip.mp4: why it could not be scored`."""
    message = record.error["message"] if record.error else ""
    return message if record.clip in message else f"{record.clip}: {message}"


@contextmanager
def working(message: str, quiet: bool) -> Iterator[None]:
    """Show a message with a spinner on a terminal while the block runs."""
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
        yield _BatchLines()


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
        progress.console.print(line(f"omni-msa: {failure(now.last)}"))


def _say_failure(now: BatchProgress) -> None:
    if now.last is not None and now.last.error:
        say(failure(now.last))


class _BatchLines:
    """Progress for a log file: a line at most every ten seconds, and failures as they happen."""

    def __init__(self) -> None:
        self._last_seconds = 0.0
        self._last_num_done = 0

    def __call__(self, now: BatchProgress) -> None:
        _say_failure(now)
        is_due = now.elapsed_seconds - self._last_seconds >= PLAIN_SECONDS
        if now.total > 1 and now.done > self._last_num_done and (is_due or now.done == now.total):
            self._last_seconds, self._last_num_done = now.elapsed_seconds, now.done
            say(", ".join(filter(None, (f"{now.done} of {now.total} clips", _pace(now)))))


def _clock(seconds: float) -> str:
    """`3725.0` -> `1:02:05`."""
    minutes, remainder = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{remainder:02d}"


def _pace(now: BatchProgress) -> str:
    """`2.1 clips/s, 0:03:10 left, 2 failed`; empty when an earlier run scored everything."""
    rate = now.clips_per_second
    words = [f"{rate:.1f} clips/s"] if rate else []
    seconds_left = now.seconds_left
    if seconds_left:
        words.append(f"{_clock(seconds_left)} left")
    if now.failed:
        words.append(f"{now.failed} failed")
    return ", ".join(words)


@contextmanager
def count_progress(
    title: str, total: int | None, quiet: bool
) -> Iterator[Callable[[int, Any], None]]:
    """Progress of something that is counted: a bar on a terminal, nothing in a log file.

    The callable takes the number done and either the total or the reason why one is left out.
    """
    if quiet or not sys.stderr.isatty():
        yield _ignore_count if quiet else _say_left_out
        return
    with _bar() as progress:
        task = progress.add_task(title, total=total, detail="")

        def move(num_done: int, total_or_reason: Any) -> None:
            new_total = total_or_reason if isinstance(total_or_reason, int) else total
            progress.update(task, completed=num_done, total=new_total)
            if isinstance(total_or_reason, str):
                progress.console.print(line(f"omni-msa: left out: {total_or_reason}"))

        yield move


def _ignore_count(num_done: int, total_or_reason: Any) -> None:
    pass


def _say_left_out(num_done: int, total_or_reason: Any) -> None:
    if isinstance(total_or_reason, str):
        say(f"left out: {total_or_reason}")


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
                    progress.console.print(line(f"omni-msa: {now.notice or _epoch_line(now)}"))
                else:
                    progress.update(
                        task,
                        completed=now.step,
                        total=now.total_steps,
                        detail=_training_details(now),
                    )

            yield move
    else:
        yield _TrainLines()


class _TrainLines:
    """Training in a log file: a line at most every ten seconds, and one an epoch."""

    def __init__(self) -> None:
        self._last_line_time = time.monotonic()

    def __call__(self, now: TrainProgress) -> None:
        if now.notice or now.metrics:
            say(now.notice or _epoch_line(now))
        elif time.monotonic() - self._last_line_time >= PLAIN_SECONDS:
            self._last_line_time = time.monotonic()
            say(f"step {now.step} of {now.total_steps}, {_training_details(now)}")


def _training_details(now: TrainProgress) -> str:
    """`epoch 1, loss 0.412, 3.1 clips/s, 10.2 GiB, 0:12:01 left`."""
    return (
        f"epoch {now.epoch}, loss {now.loss:.3f}, {now.clips_per_second:.1f} clips/s, "
        f"{now.memory_gib:.1f} GiB, {_clock(now.seconds_left)} left"
    )


def _epoch_line(now: TrainProgress) -> str:
    """`epoch 1: validation MAE 0.412`, and for a generative readout, shares of bad answers."""
    metrics = now.metrics or {}
    name, error = next(iter(metrics.items()))
    title = {"mae": "MAE", "log_loss": "log loss"}.get(name, "error")
    words = f"epoch {now.epoch}: validation {title} {error:.4f}"
    if "corr" in metrics:
        words += f", correlation {metrics['corr']:.3f}"
    if "unparsable" in metrics:
        words += f", {metrics['unparsable']:.1%} unparsable"
        words += f", {metrics['out_of_range']:.1%} out of range"
    return words
