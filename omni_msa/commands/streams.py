"""stdin and stdout as lists: paths come in one a line, rows go out one a line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from omni_msa.errors import ConfigError
from omni_msa.foreign import MAX_TABLE_BYTES, printable_json

if TYPE_CHECKING:
    from omni_msa.files.record import Record
    from omni_msa.scoring.batch import BatchProgress

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
    text = _text_of_stdin()
    paths = [line.rstrip("\r") for line in text.split("\n") if line.strip()]
    if list(arguments).count(DASH) > 1 or not paths:
        raise ConfigError("- takes paths from stdin, one a line: give it once, and a path at least")
    place = list(arguments).index(DASH)
    return [*arguments[:place], *paths, *arguments[place + 1 :]]


def _text_of_stdin() -> str:
    """All of it; a name that is no UTF-8 is kept as it is.

    Raises:
        ConfigError: it is too long.
    """
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="surrogateescape")
    text = sys.stdin.read(MAX_TABLE_BYTES + 1)
    if len(text) > MAX_TABLE_BYTES:
        raise ConfigError(
            f"- takes at most {MAX_TABLE_BYTES // 10**6} MB of paths from stdin, one a line; give "
            "them in parts"
        )
    return text


def also_printing_rows(
    progress: Callable[[BatchProgress], None], keeps_words: bool
) -> Callable[[BatchProgress], None]:
    """A progress that also writes each new row to stdout, with or without the words scored."""

    def print_and_show(now: BatchProgress) -> None:
        if now.last is not None:
            print_row(now.last if keeps_words else replace(now.last, text=None))
        progress(now)

    return print_and_show


def print_row(record: Record) -> None:
    """One line of JSON, written at once; the program ends when nobody reads it."""
    from omni_msa.display.output import until_reader_leaves
    from omni_msa.files.columns import plain

    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    line = json.dumps(plain(record.to_json()), ensure_ascii=not is_utf8, allow_nan=False)
    with until_reader_leaves(ends_program=True):
        print(printable_json(line), flush=True)
