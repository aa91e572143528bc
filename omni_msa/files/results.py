"""The output file of a batch: one row a clip, written as soon as it is known, resumable any time.

JSONL holds whole records; CSV and Parquet hold the same flat columns (`columns.columns`). JSONL and
CSV grow by lines. Parquet cannot, so its rows are kept as JSONL in `PATH.partial` until the file is
closed. In every format a clip has one row: the last that was written. While a batch runs, rows are
in the order in which they were known; a finished file is in the order of the input.

A rerun reads what is there, drops a last line that a kill cut short, and goes on. With `fresh` the
old file stays until the first new row is known; then the new file takes its place in one step.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

from omni_msa.errors import ResultsError
from omni_msa.files.columns import (
    Row,
    cell,
    columns,
    flatten,
    is_failed,
    last_of_each,
    one_line,
    plain,
    unflatten,
)
from omni_msa.files.locks import OutputLock
from omni_msa.values import Record

SUFFIXES = (".jsonl", ".csv", ".parquet")


# --- the open file ---------------------------------------------------------------------------


def open_results(
    path: Path, fingerprint: str, fresh: bool = False, retry_failed: bool = False
) -> Results:
    """Open an output file for adding rows; its folder is made when it is missing.

    Args:
        path: A .jsonl, .csv or .parquet file.
        fingerprint: What the rows of one file share: everything but the clip that changes a score.
        fresh: Start anew instead of going on.
        retry_failed: Count failed rows as not done; new rows take their place.

    Raises:
        ResultsError: The file cannot be written, is in use, is not ours, or was written under
            another fingerprint.
    """
    path = Path(os.path.realpath(path))
    if path.suffix.lower() not in SUFFIXES:
        raise ResultsError(f"{path}: results end in one of {', '.join(SUFFIXES)}")
    if path.is_dir():
        raise ResultsError(f"{path}: is a folder; name a file")
    with ExitStack() as undo:
        lock = OutputLock(path)
        undo.callback(lock.release)
        results = Results(path, fingerprint, fresh, retry_failed, lock)
        undo.pop_all()  # from here on, closing the results gives the lock back
    return results


class _Done(NamedTuple):
    """What a rerun must know about a row."""

    sha256: str | None
    failed: bool


class Results:
    """An open output file. Made by `open_results`; close it, or use it in a `with` statement.

    Attributes:
        path: The file, links resolved.
        notices: What the user should know about the file, such as a repaired last line.
        num_written: Rows that this run has written.
    """

    def __init__(
        self, path: Path, fingerprint: str, fresh: bool, retry_failed: bool, lock: OutputLock
    ) -> None:
        self.path = path
        self.notices: list[str] = list(lock.notices)
        self.num_written = 0
        self._retry_failed = retry_failed
        self._lock = lock
        self._is_parquet = path.suffix.lower() == ".parquet"
        self._lines = _CSV if path.suffix.lower() == ".csv" else _JSONL
        self._journal = Path(f"{path}.partial") if self._is_parquet else path
        self._file: IO[bytes] | None = None
        self._replaces_old = fresh
        self._has_stale_lines = False
        self._fingerprint = fingerprint
        self._is_open = True
        self._done: dict[str, _Done] = {}  # in the order of the file
        self._order: list[str] | None = None
        if not fresh:
            self._resume()
        _check_writable(self._journal)

    @property
    def num_rows(self) -> int:
        """Rows in the file, those of earlier runs included."""
        return len(self._done)

    @property
    def num_failed(self) -> int:
        """Rows in the file whose clip could not be scored."""
        return sum(row.failed for row in self._done.values())

    def has(self, name: str, sha256: str | None) -> bool:
        """True when the file holds a row for this content, so that it need not be scored again."""
        row = self._done.get(one_line(name))
        if row is None or row.sha256 != sha256:
            return False
        return not (self._retry_failed and row.failed)

    def write(self, record: Record) -> None:
        """Add a row, or replace the row of the same clip; it is in the file when this returns."""
        if record.model.get("fingerprint") != self._fingerprint:
            raise ValueError(
                f"a row with fingerprint {record.model.get('fingerprint')!r} does not belong in a "
                f"file of {self._fingerprint!r}"
            )
        row = plain(record.to_json())
        line = (self._lines.dump(row) + "\n").encode()
        with _explained(self._journal):
            if self._file is None:
                self._file = self._begin(line)
            else:
                _append(self._file, line)
        self._has_stale_lines |= self._note(flatten(row))
        self.num_written += 1

    def put_in_order(self, names: Sequence[str]) -> None:
        """Has the rows of these clips stand in this order, once the file is closed.

        Rows of other clips keep their places, so that a rerun on some of them moves nothing.
        """
        rank = {one_line(name): place for place, name in enumerate(names)}
        named = iter(sorted((n for n in self._done if n in rank), key=rank.__getitem__))
        order = [next(named) if name in rank else name for name in self._done]
        self._order = order if order != list(self._done) else None

    def close(self) -> None:
        """Leave one row a clip, complete a Parquet file, and give the file free."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            if self._file is not None:
                self._file.close()
            with _explained(self._journal):
                if self._is_parquet:
                    self._complete_parquet()
                elif self._has_stale_lines or self._order is not None:
                    lines = _read_lines(self._journal, self._lines)
                    _rewrite(self._journal, self._lines, lines, self._order)
        finally:
            self._lock.release()

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _resume(self) -> None:
        """Read what is there: check that it is ours, and mend what a kill left behind."""
        with _explained(self.path, "read"):
            rows = _read_parquet(self.path) if self._is_parquet and self.path.exists() else []
            exists = self._journal.exists()
            found = _read_lines(self._journal, self._lines) if exists else _Lines()
        rows += found.rows
        _check_fingerprint(self.path, rows, self._fingerprint)
        _check_writable(self._journal)
        if found.is_damaged or len(last_of_each(found.rows)) < len(found.rows):
            with _explained(self._journal):
                _rewrite(self._journal, self._lines, found)
        self.notices += found.notices
        for row in rows:
            self._note(row)

    def _note(self, row: Row) -> bool:
        """Remember that a clip has a row; True when it had one before."""
        known = row["clip"] in self._done
        self._done[row["clip"]] = _Done(row["sha256"], is_failed(row))
        return known

    def _begin(self, line: bytes) -> IO[bytes]:
        """Open the journal with its first new line."""
        header = f"{self._lines.header}\n".encode() if self._lines.header else b""
        if not self._replaces_old:
            file = open(self._journal, "ab", buffering=0)
            _append(file, line if file.seek(0, os.SEEK_END) else header + line)
            return file
        temporary = Path(f"{self._journal}.tmp")
        file = open(temporary, "wb", buffering=0)
        _append(file, header + line)
        os.replace(temporary, self._journal)  # the open file goes with its new name
        if self._is_parquet:
            self.path.unlink(missing_ok=True)
        self._replaces_old = False
        return file

    def _complete_parquet(self) -> None:
        """Write the rows that the journal holds into the file."""
        journal = self._journal.exists() and not self._replaces_old
        if not journal and self._order is None:
            return
        rows = _read_parquet(self.path) if self.path.exists() else []
        if journal:
            rows = last_of_each(rows + _read_lines(self._journal, self._lines).rows)
        if self._order is not None:
            by_clip = {row["clip"]: row for row in rows}
            rows = [by_clip[name] for name in self._order]
        _write_parquet(self.path, rows)
        self._journal.unlink(missing_ok=True)


def read_records(path: Path) -> list[Record]:
    """The records of a results file of any format, one a clip, in the order of the file.

    JSONL holds whole records; CSV and Parquet give what their columns hold.

    Raises:
        ResultsError: The file is missing, unreadable or not ours.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ResultsError(f"{path}: results end in one of {', '.join(SUFFIXES)}")
    with _explained(path, "read"):
        if suffix == ".parquet":
            return [unflatten(row) for row in last_of_each(_read_parquet(path))]
        lines = _read_lines(path, _CSV if suffix == ".csv" else _JSONL)
    if suffix == ".csv":
        return [unflatten(row) for row in last_of_each(lines.rows)]
    by_clip = {row["clip"]: text for row, text in zip(lines.rows, lines.texts, strict=True)}
    return [Record.from_json(json.loads(text)) for text in by_clip.values()]


# --- files of lines: JSONL and CSV -----------------------------------------------------------


class _NotOurs(ValueError):
    """A line is whole, but no row of a results file."""


@dataclass(frozen=True)
class _LineFormat:
    """How one record becomes one line, and a line one flat row."""

    columns: Callable[[], Iterable[str]] | None  # None: lines name their own
    dump: Callable[[Mapping[str, Any]], str]
    load: Callable[[str], Row]  # raises _NotOurs, or another ValueError for a line cut short

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
        raise _NotOurs from error
    if row["clip"] is None or row["fingerprint"] is None:
        raise _NotOurs
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
        raise _NotOurs
    try:
        pairs = zip(columns().items(), cells, strict=True)
        return {name: cell(text, kind) for (name, kind), text in pairs}
    except ValueError as error:
        raise _NotOurs from error


_JSONL = _LineFormat(None, _dump_json, _load_json)
_CSV = _LineFormat(columns, _dump_csv, _load_csv)


@dataclass
class _Lines:
    """The good lines of a file, and the flat rows that they hold."""

    texts: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    is_damaged: bool = False  # the last line lacks its end
    is_torn: bool = False  # and is no row
    notices: list[str] = field(default_factory=list)

    def add(self, line: bytes, form: _LineFormat) -> None:
        """Add a whole line; empty ones hold nothing."""
        text = line.decode().rstrip("\r")
        if text.strip():
            self.rows.append(form.load(text))
            self.texts.append(text)

    def add_tail(self, line: bytes, form: _LineFormat) -> None:
        """Add a last line that has no end: it may have been cut short."""
        # Only a JSON object shows that it is whole; a CSV line may have lost digits.
        self.is_torn = form is _CSV
        if self.is_torn:
            return
        try:
            self.add(line, form)
        except _NotOurs:
            raise
        except (ValueError, RecursionError) as error:
            if not self.rows and not line.startswith(b'{"clip": '):
                raise _NotOurs from error  # nothing here says that we wrote it
            self.is_torn = True


def _read_lines(path: Path, form: _LineFormat) -> _Lines:
    """Read and check a file of lines; only a last line without its end may be damaged."""
    *lines, tail = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    found = _Lines(is_damaged=bool(tail))
    if form.header and not _begins_with_header(lines, tail, form.header.encode()):
        raise _not_ours(path, 1)
    first = 1 if form.header else 0
    for number, line in enumerate(lines[first:], start=first + 1):
        try:
            found.add(line, form)
        except (ValueError, RecursionError) as error:
            raise _not_ours(path, number) from error
    if tail and len(lines) >= first:
        try:
            found.add_tail(tail, form)
        except _NotOurs as error:
            raise _not_ours(path, len(lines) + 1) from error
        found.notices += [f"{path}: the last line was cut short and is dropped"] * found.is_torn
    return found


def _begins_with_header(lines: list[bytes], tail: bytes, header: bytes) -> bool:
    """True for our header, for a part of it that a kill left, and for an empty file."""
    return lines[0].rstrip(b"\r") == header if lines else header.startswith(tail)


def _not_ours(path: Path, line_number: int) -> ResultsError:
    return ResultsError(
        f"{path}: line {line_number} is no row of a results file; the file is left as it is: "
        "choose another -o, or replace it with --fresh"
    )


def _check_fingerprint(path: Path, rows: Iterable[Row], fingerprint: str) -> None:
    others = {row["fingerprint"] for row in rows} - {fingerprint}
    if others:
        raise ResultsError(
            f"{path}: holds rows written under other settings ({min(others)}, now {fingerprint}), "
            "which do not compare; choose another -o, or start it anew with --fresh"
        )


def _append(file: IO[bytes], data: bytes) -> None:
    """Write a whole line or nothing of it, so that a full disk leaves no torn line."""
    size = file.seek(0, os.SEEK_END)
    try:
        if file.write(data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        with suppress(OSError):
            file.truncate(size)
        raise


def _rewrite(
    path: Path, form: _LineFormat, found: _Lines, order: Sequence[str] | None = None
) -> None:
    """Replace a file of lines, in one step, by its good lines: the last of each clip, in order."""
    by_clip = {row["clip"]: text for row, text in zip(found.rows, found.texts, strict=True)}
    texts = [by_clip[name] for name in (by_clip if order is None else order)]
    lines = [form.header] * bool(form.header) + texts
    temporary = Path(f"{path}.tmp")
    temporary.write_text("".join(line + "\n" for line in lines), encoding="utf-8", newline="\n")
    os.replace(temporary, path)


def _check_writable(path: Path) -> None:
    if path.exists() and not os.access(path, os.W_OK):
        raise ResultsError(f"{path}: may not be written; check its rights or choose another -o")


@contextmanager
def _explained(path: Path, verb: str = "written") -> Iterator[None]:
    """What the file system refuses, as one line."""
    try:
        yield
    except OSError as error:
        raise ResultsError(f"{path}: cannot be {verb} ({error.strerror or error})") from error


# --- Parquet ---------------------------------------------------------------------------------


def _read_parquet(path: Path) -> list[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, partitioning=None)  # `a=b/` in a path is no column
    except pa.ArrowInvalid as error:
        raise ResultsError(
            f"{path}: is no Parquet file; choose another -o, or replace it with --fresh"
        ) from error
    if table.column_names != list(columns()):
        raise ResultsError(
            f"{path}: has other columns than a results file; choose another -o, or replace it "
            "with --fresh"
        )
    return table.to_pylist()


def _write_parquet(path: Path, rows: list[Row]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {str: pa.string(), float: pa.float64(), int: pa.int64()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in columns().items()])
    temporary = Path(f"{path}.tmp")
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary)
    os.replace(temporary, path)
