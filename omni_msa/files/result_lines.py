"""Results files of lines, JSONL and CSV: one row a line, written whole, read back and checked.

A JSONL line is a whole record; a CSV line is one flat row (`columns.columns`) below a header. A CSV
file begins with the mark by which Excel knows UTF-8. One that an older version began, without the
mark or with fewer columns, keeps them.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from omni_msa.errors import ResultsError
from omni_msa.files.atomic import replacing
from omni_msa.files.columns import (
    MANIFEST_COLUMNS,
    Row,
    cell,
    columns,
    empty_row,
    flatten,
    guarded,
    holds_results,
    manifest_cells,
    unguarded,
)

UTF8_MARK = b"\xef\xbb\xbf"
MAX_HEADER_BYTES = 100_000


class _NotAResult(ValueError):
    """A line is complete, but not a row of a results file."""


class LineFormat(ABC):
    """How a record is written as one line, and a line read as one flat row.

    Attributes:
        header: The first line of a file, without its end; "" for none.
        mark: What is before it.
        shows_its_end: Whether a line that lacks its end can be told from one that was cut short.
        manifest_columns: What its rows repeat of the manifest's.
    """

    header: str = ""
    mark: bytes = b""
    shows_its_end: bool = True
    manifest_columns: Collection[str] = MANIFEST_COLUMNS

    @property
    def beginning(self) -> bytes:
        """What a file has before its first row."""
        return self.mark + (f"{self.header}\n".encode() if self.header else b"")

    @abstractmethod
    def dump(self, record: Mapping[str, Any]) -> str:
        """A record (`Record.to_json`) as one line, without its end."""

    @abstractmethod
    def update(self, line: str, values: Mapping[str, Any]) -> str:
        """A line that repeats these values of the manifest's row, and is otherwise as it was."""

    def is_empty(self, line: str) -> bool:
        """Whether a line holds no row at all."""
        return not line.strip()

    @abstractmethod
    def load(self, line: str) -> Row:
        """The flat row that a line holds.

        Raises:
            _NotAResult: It is a complete line of something else.
            ValueError: It was cut short.
        """


class JsonLines(LineFormat):
    """A line is a whole record."""

    def dump(self, record: Mapping[str, Any]) -> str:
        return json.dumps(record, ensure_ascii=False, allow_nan=False)

    def update(self, line: str, values: Mapping[str, Any]) -> str:
        return self.dump(json.loads(line) | values)

    def load(self, line: str) -> Row:
        record = json.loads(line)
        try:
            row = flatten(record)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise _NotAResult from error
        if row["clip"] is None or row["fingerprint"] is None:
            raise _NotAResult
        return row


class CsvLines(LineFormat):
    """A line is a flat row; its columns are those of the header, all of them in a new file."""

    shows_its_end = False  # a line that was cut short may have lost digits

    def __init__(self, names: Sequence[str] = (), mark: bytes = UTF8_MARK) -> None:
        self.names = list(names) or list(columns())
        self.header, self.mark = _csv_line(self.names), mark
        self.manifest_columns = [name for name in MANIFEST_COLUMNS if name in self.names]

    def dump(self, record: Mapping[str, Any]) -> str:
        return self._line(flatten(record))

    def update(self, line: str, values: Mapping[str, Any]) -> str:
        return self._line(self.load(line) | manifest_cells(values))

    def is_empty(self, line: str) -> bool:
        return not line.strip(' \t,"')  # a row of a spreadsheet, all of whose cells are empty

    def _line(self, row: Row) -> str:
        values = [row[name] for name in self.names]
        texts = [guarded(v) if isinstance(v, str) else v for v in values]
        return _csv_line(["" if v is None else str(v) for v in texts])

    def load(self, line: str) -> Row:
        cells = next(csv.reader([line]))
        if len(cells) != len(self.names):
            raise _NotAResult
        kinds, row = columns(), empty_row()
        try:
            pairs = zip(self.names, cells, strict=True)
            row |= {name: cell(unguarded(text), kinds[name]) for name, text in pairs}
        except ValueError as error:
            raise _NotAResult from error
        if row["clip"] is None or row["fingerprint"] is None:
            raise _NotAResult
        return row


def _csv_line(cells: Iterable[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()


def line_format(path: Path, is_new: bool = False) -> LineFormat:
    """How the lines of a file are written: a CSV file that exists goes on as it began."""
    if path.suffix.lower() != ".csv":
        return JsonLines()
    if is_new or not path.exists():
        return CsvLines()
    with open(path, "rb") as file:
        line = file.readline(MAX_HEADER_BYTES)
    mark = UTF8_MARK if line.startswith(UTF8_MARK) else b""
    text = line.decode("utf-8-sig", "replace")
    names = next(csv.reader([text.rstrip("\r\n")]), []) if text.endswith("\n") else []
    return CsvLines(names, mark) if holds_results(names) else CsvLines()


@dataclass
class ResultLines:
    """The valid lines of a file, and the flat rows that they hold."""

    texts: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    is_unfinished: bool = False  # the last line has no line end
    is_cut_short: bool = False  # and is not a whole row
    notices: list[str] = field(default_factory=list)

    def add(self, line: bytes, line_format: LineFormat) -> None:
        """Add a complete line; an empty one is ignored."""
        text = line.decode().rstrip("\r")
        if not line_format.is_empty(text):
            self.rows.append(line_format.load(text))
            self.texts.append(text)

    def add_tail(self, line: bytes, line_format: LineFormat) -> None:
        """Add a last line that has no end: it may have been cut short."""
        self.is_cut_short = not line_format.shows_its_end
        if self.is_cut_short:
            return
        try:
            self.add(line, line_format)
        except _NotAResult:
            raise
        except (ValueError, RecursionError) as error:
            if not self.rows and not line.startswith(b'{"clip": '):
                raise _NotAResult from error  # not recognizable as a results file
            self.is_cut_short = True


def read_lines(path: Path, line_format: LineFormat) -> ResultLines:
    """Read and check a file of lines; only a last line without its end may be damaged."""
    data = path.read_bytes()
    *lines, tail = data.removeprefix(UTF8_MARK).split(b"\n")
    result = ResultLines(is_unfinished=bool(tail) or data == UTF8_MARK)
    if line_format.header and not _begins_with_header(data, line_format):
        raise _not_a_results_file(path, 1)
    first = 1 if line_format.header else 0
    for number, line in enumerate(lines[first:], start=first + 1):
        try:
            result.add(line, line_format)
        except (ValueError, RecursionError) as error:
            raise _not_a_results_file(path, number) from error
    if tail and len(lines) >= first:
        try:
            result.add_tail(tail, line_format)
        except _NotAResult as error:
            raise _not_a_results_file(path, len(lines) + 1) from error
        if result.is_cut_short:
            result.notices.append(f"{path}: the last line was cut short and is dropped")
    return result


def _begins_with_header(data: bytes, line_format: LineFormat) -> bool:
    """True for the header, for a part of it that a kill left, and for an empty file."""
    first, end, _ = data.removeprefix(UTF8_MARK).partition(b"\n")
    header = line_format.header.encode()
    if end:
        return first.rstrip(b"\r") == header
    return header.startswith(data) or (UTF8_MARK + header).startswith(data)


def _not_a_results_file(path: Path, line_number: int) -> ResultsError:
    return ResultsError(
        f"{path}: line {line_number} is no row of a results file; the file is left as it is: "
        "choose another -o, or replace it with --fresh"
    )


def append_line(file: IO[bytes], data: bytes) -> None:
    """Write a whole line or nothing, so that a full disk leaves no line cut short."""
    size = file.seek(0, os.SEEK_END)
    try:
        if file.write(data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        with suppress(OSError):
            file.truncate(size)
        raise


def rewrite(
    path: Path,
    line_format: LineFormat,
    content: ResultLines,
    order: Sequence[str] | None = None,
    updates: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Replace a file of lines, in one step, by its valid ones: the last of each clip, in order.

    Args:
        updates: what the rows of these clips repeat of the manifest's from now on.
    """
    by_clip = {row["clip"]: text for row, text in zip(content.rows, content.texts, strict=True)}
    for clip, values in (updates or {}).items():
        by_clip[clip] = line_format.update(by_clip[clip], values)
    texts = [by_clip[name] for name in (by_clip if order is None else order)]
    text = "".join(line + "\n" for line in texts)
    with replacing(path) as temporary:
        temporary.write_bytes(line_format.beginning + text.encode())
