"""Results files of lines, JSONL and CSV: one row a line, written whole, read back and checked.

A JSONL line is a whole record; a CSV line is one flat row (`columns.columns`) below a header.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from omni_msa.errors import ResultsError
from omni_msa.files.columns import Row, cell, columns, flatten


class _NotAResult(ValueError):
    """A line is whole, but no row of a results file."""


@dataclass(frozen=True)
class LineFormat:
    """How one record becomes one line, and a line one flat row."""

    columns: Callable[[], Iterable[str]] | None  # None: lines name their own
    dump: Callable[[Mapping[str, Any]], str]
    load: Callable[[str], Row]  # raises _NotAResult, or another ValueError for a line cut short

    @property
    def header(self) -> str:
        """The first line of a file; "" for none."""
        return "" if self.columns is None else _csv_line(self.columns())


def _dump_json(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False, allow_nan=False)


def _load_json(line: str) -> Row:
    record = json.loads(line)
    try:
        row = flatten(record)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise _NotAResult from error
    if row["clip"] is None or row["fingerprint"] is None:
        raise _NotAResult
    return row


def _dump_csv(record: Mapping[str, Any]) -> str:
    return _csv_line(["" if v is None else str(v) for v in flatten(record).values()])


def _csv_line(cells: Iterable[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()


def _load_csv(line: str) -> Row:
    cells = next(csv.reader([line]))
    if len(cells) != len(columns()):
        raise _NotAResult
    try:
        pairs = zip(columns().items(), cells, strict=True)
        return {name: cell(text, kind) for (name, kind), text in pairs}
    except ValueError as error:
        raise _NotAResult from error


JSONL = LineFormat(None, _dump_json, _load_json)
CSV = LineFormat(columns, _dump_csv, _load_csv)


@dataclass
class ResultLines:
    """The good lines of a file, and the flat rows that they hold."""

    texts: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    is_damaged: bool = False  # the last line lacks its end
    is_torn: bool = False  # and is no row
    notices: list[str] = field(default_factory=list)

    def add(self, line: bytes, form: LineFormat) -> None:
        """Add a whole line; empty ones hold nothing."""
        text = line.decode().rstrip("\r")
        if text.strip():
            self.rows.append(form.load(text))
            self.texts.append(text)

    def add_tail(self, line: bytes, form: LineFormat) -> None:
        """Add a last line that has no end: it may have been cut short."""
        # Only a JSON object shows that it is whole; a CSV line may have lost digits.
        self.is_torn = form is CSV
        if self.is_torn:
            return
        try:
            self.add(line, form)
        except _NotAResult:
            raise
        except (ValueError, RecursionError) as error:
            if not self.rows and not line.startswith(b'{"clip": '):
                raise _NotAResult from error  # nothing here says that we wrote it
            self.is_torn = True


def read_lines(path: Path, form: LineFormat) -> ResultLines:
    """Read and check a file of lines; only a last line without its end may be damaged."""
    *lines, tail = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    found = ResultLines(is_damaged=bool(tail))
    if form.header and not _begins_with_header(lines, tail, form.header.encode()):
        raise _not_a_results_file(path, 1)
    first = 1 if form.header else 0
    for number, line in enumerate(lines[first:], start=first + 1):
        try:
            found.add(line, form)
        except (ValueError, RecursionError) as error:
            raise _not_a_results_file(path, number) from error
    if tail and len(lines) >= first:
        try:
            found.add_tail(tail, form)
        except _NotAResult as error:
            raise _not_a_results_file(path, len(lines) + 1) from error
        found.notices += [f"{path}: the last line was cut short and is dropped"] * found.is_torn
    return found


def _begins_with_header(lines: list[bytes], tail: bytes, header: bytes) -> bool:
    """True for our header, for a part of it that a kill left, and for an empty file."""
    return lines[0].rstrip(b"\r") == header if lines else header.startswith(tail)


def _not_a_results_file(path: Path, line_number: int) -> ResultsError:
    return ResultsError(
        f"{path}: line {line_number} is no row of a results file; the file is left as it is: "
        "choose another -o, or replace it with --fresh"
    )


def append_line(file: IO[bytes], data: bytes) -> None:
    """Write a whole line or nothing of it, so that a full disk leaves no torn line."""
    size = file.seek(0, os.SEEK_END)
    try:
        if file.write(data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        with suppress(OSError):
            file.truncate(size)
        raise


def rewrite(
    path: Path, form: LineFormat, found: ResultLines, order: Sequence[str] | None = None
) -> None:
    """Replace a file of lines, in one step, by its good lines: the last of each clip, in order."""
    by_clip = {row["clip"]: text for row, text in zip(found.rows, found.texts, strict=True)}
    texts = [by_clip[name] for name in (by_clip if order is None else order)]
    lines = [form.header] * bool(form.header) + texts
    temporary = Path(f"{path}.tmp")
    temporary.write_text("".join(line + "\n" for line in lines), encoding="utf-8", newline="\n")
    os.replace(temporary, path)
