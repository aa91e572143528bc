"""What goes to stdout (results alone) and to stderr (lines for people)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from omni_msa.errors import ResultsError
from omni_msa.foreign import printable, printable_json, printable_message


def line(text: str = "", style: str = "") -> Text:
    """One line as a terminal shows it: nothing in it is read as markup, or obeyed as an escape.

    Every text that the display shows is made here.
    """
    return Text(printable(text), style)


def print_json(document: Any) -> None:
    """Exactly one JSON document on stdout."""
    text = json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # a file name that the terminal's encoding lacks
        text = json.dumps(document, indent=2, allow_nan=False)
    with until_reader_leaves():
        print(printable_json(text), flush=True)


def say(message: str) -> None:
    """One line for people, on stderr; a terminal that is too narrow breaks it between words."""
    text = printable_message(f"omni-msa: {message}")
    if sys.stderr.isatty():
        Console(stderr=True, highlight=False).print(Text(text))
    else:
        print(text, file=sys.stderr)


def signed(value: float | None) -> str:
    """`1.42` -> `+1.42`; None is the empty string, and zero has no minus sign."""
    return "" if value is None else f"{round(value, 2) + 0.0:+.2f}"


def to_stdout() -> Console:
    """Where results are printed."""
    # A pipe has no width: a program that reads it expects one line a clip.
    return Console(width=None if sys.stdout.isatty() else 10_000, highlight=False)


@contextmanager
def until_reader_leaves(ends_program: bool = False) -> Iterator[None]:
    """End without an error when the reader of stdout closes it, as `omni-msa ... | head` does.

    Args:
        ends_program: then the program ends too, since nobody reads what it would go on to write.

    Raises:
        ResultsError: stdout cannot be written for another reason.
    """
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        # What is still buffered must not raise again when the program ends.
        with suppress(OSError):  # a stream that was closed has no number
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise ResultsError(f"stdout cannot be written ({error.strerror})") from error
        if ends_program:
            raise typer.Exit from None


def show_parts(*parts: Any) -> None:
    """Tables and lines on stdout."""
    with until_reader_leaves():
        for part in parts:
            to_stdout().print(part)
