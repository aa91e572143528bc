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
from omni_msa.files.atomic import replacing
from omni_msa.files.columns import Row, cell, columns, flatten


class _NotAResult(ValueError):
    """A line is complete, but not a row of a results file."""


@dataclass(frozen=True)
class LineFormat:
    """How a record is written as one line, and a line read as one flat row."""

    columns: Callable[[], Iterable[str]] | None  # None: JSON lines name their own
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
    """The valid lines of a file, and the flat rows that they hold."""

    texts: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    is_unfinished: bool = False  # the last line has no line end
    is_cut_short: bool = False  # and is not a whole row
    notices: list[str] = field(default_factory=list)

    def add(self, line: bytes, line_format: LineFormat) -> None:
        """Add a complete line; an empty one is ignored."""
        text = line.decode().rstrip("\r")
        if text.strip():
            self.rows.append(line_format.load(text))
            self.texts.append(text)

    def add_tail(self, line: bytes, line_format: LineFormat) -> None:
        """Add a last line that has no end: it may have been cut short."""
        # Only a JSON object shows that it is whole; a CSV line may have lost digits.
        self.is_cut_short = line_format is CSV
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
    *lines, tail = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    result = ResultLines(is_unfinished=bool(tail))
    if line_format.header and not _begins_with_header(lines, tail, line_format.header.encode()):
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


def _begins_with_header(lines: list[bytes], tail: bytes, header: bytes) -> bool:
    """True for the header, for a part of it that a kill left, and for an empty file."""
    return lines[0].rstrip(b"\r") == header if lines else header.startswith(tail)


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
    path: Path, line_format: LineFormat, content: ResultLines, order: Sequence[str] | None = None
) -> None:
    """Replace a file of lines, in one step, by its valid ones: the last of each clip, in order."""
    by_clip = {row["clip"]: text for row, text in zip(content.rows, content.texts, strict=True)}
    texts = [by_clip[name] for name in (by_clip if order is None else order)]
    lines = [line_format.header] * bool(line_format.header) + texts
    text = "".join(line + "\n" for line in lines)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
