"""stdin and stdout as lists: paths come in one a line, rows go out one a line."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from omni_msa.errors import ConfigError

if TYPE_CHECKING:
    from omni_msa.scoring.batch import BatchProgress
    from omni_msa.values import Record

DASH = "-"


def is_stdout(output: Path | None) -> bool:
    """Whether `-o -` was given: rows as lines of JSON on stdout."""
    return output == Path(DASH)


def with_lines_of_stdin(arguments: Sequence[str]) -> list[str]:
    """The arguments with the lines of stdin in the place of `-`.

    Raises:
        ConfigError: stdin is asked for twice, or holds no path.
    """
    if DASH not in arguments:
        return list(arguments)
    lines = [line.rstrip("\r\n") for line in sys.stdin]
    paths = [line for line in lines if line.strip()]
    if list(arguments).count(DASH) > 1 or not paths:
        raise ConfigError("- takes paths from stdin, one a line: give it once, and a path at least")
    place = list(arguments).index(DASH)
    return [*arguments[:place], *paths, *arguments[place + 1 :]]


def also_printing_rows(
    progress: Callable[[BatchProgress], None],
) -> Callable[[BatchProgress], None]:
    """A progress that also writes each new row to stdout."""

    def print_and_show(now: BatchProgress) -> None:
        if now.last is not None:
            print_row(now.last)
        progress(now)

    return print_and_show


def print_row(record: Record) -> None:
    """One line of JSON, written at once; the program ends when nobody reads it."""
    from omni_msa.files.columns import plain

    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    line = json.dumps(plain(record.to_json()), ensure_ascii=not is_utf8, allow_nan=False)
    try:
        print(line, flush=True)
    except BrokenPipeError:
        # what is still buffered must not raise again when the program ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit from None
