"""The output file of a batch: one row a clip, written as soon as it is scored, resumable any time.

JSONL holds whole records; the others hold the same flat columns (`columns.columns`). JSONL and CSV
grow by lines. Parquet and spreadsheets cannot, so their rows are kept as JSONL in `PATH.partial`
until the file is closed. In every format a clip has one row: the last that was written. While a
batch runs, rows are in the order in which they were scored; a finished file is in the order of the
input.

A rerun reads the existing rows, drops a last line that a kill cut short, and adds the others. With
`fresh` the old file stays until the first new row is written; then the new file replaces it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, NamedTuple

from omni_msa.errors import ResultsError
from omni_msa.files.atomic import replacing
from omni_msa.files.columns import (
    Row,
    columns,
    flatten,
    is_failed,
    last_of_each,
    manifest_cells,
    manifest_sha256,
    one_line,
    plain,
)
from omni_msa.files.locks import OutputLock
from omni_msa.files.record import Record
from omni_msa.files.result_formats import TABLES, check_output, check_writable, explain_errors
from omni_msa.files.result_lines import (
    CsvLines,
    ResultLines,
    append_line,
    line_format,
    read_lines,
    rewrite,
)

_OLD_WINDOW = re.compile(r"\[[\d.]+-([\d.]+|end)\](#\d+)?$")  # a name of version 0.1


def open_results(
    path: Path,
    fingerprint: str,
    fresh: bool = False,
    retry_failed: bool = False,
    keeps_words: bool = True,
) -> Results:
    """Open an output file for adding rows; its folder, but none above it, is made when missing.

    Args:
        path: A .jsonl, .csv, .parquet or .xlsx file.
        fingerprint: What the rows of one file share: everything but the clip that changes a score.
        fresh: Start anew instead of going on.
        retry_failed: Count failed rows as not done; new rows take their place.
        keeps_words: False leaves the words that were scored out of the rows.

    Raises:
        ResultsError: The file cannot be written, is in use, is no results file, or was
            written under another fingerprint.
    """
    path = Path(os.path.realpath(path))
    check_output(path)
    with ExitStack() as undo:
        lock = OutputLock(path)
        undo.callback(lock.release)
        results = Results(path, fingerprint, fresh, retry_failed, lock, keeps_words)
        undo.pop_all()  # from here on, closing the results releases the lock
    return results


class _RowStatus(NamedTuple):
    """What decides whether a rerun scores a clip again."""

    sha256: str | None
    is_failed: bool
    manifest_sha256: str  # of what the row repeats of the manifest's


class Results:
    """An open output file. Made by `open_results`; close it, or use it in a `with` statement.

    Attributes:
        path: The file, links resolved.
        notices: What the user should know about the file, such as a repaired last line.
        num_written: Rows that this run has written.
    """

    def __init__(
        self,
        path: Path,
        fingerprint: str,
        fresh: bool,
        retry_failed: bool,
        lock: OutputLock,
        keeps_words: bool,
    ) -> None:
        self.path = path
        self.notices: list[str] = list(lock.notices)
        self.num_written = 0
        self._retry_failed = retry_failed
        self._keeps_words = keeps_words
        self._lock = lock
        self._table = TABLES.get(path.suffix.lower())
        with explain_errors(path, "read"):
            self._format = line_format(path, is_new=fresh)
        self._journal = Path(f"{path}.partial") if self._table else path
        self._file: IO[bytes] | None = None
        self._starts_anew = fresh
        self._has_stale_lines = False
        self._fingerprint = fingerprint
        self._is_open = True
        self._status_by_clip: dict[str, _RowStatus] = {}  # in the order of the file
        self._updates: dict[str, dict[str, Any]] = {}  # of rows that are not scored again
        self._order: list[str] | None = None
        if not fresh:
            self._resume()
        check_writable(self._journal)

    @property
    def num_rows(self) -> int:
        """Rows in the file, those of earlier runs included."""
        return len(self._status_by_clip)

    def num_failed(self, names: Iterable[str] | None = None) -> int:
        """Rows whose clip could not be scored: in the file, or of these clips only."""
        rows = self._status_by_clip
        clips = rows if names is None else {one_line(name) for name in names} & rows.keys()
        return sum(rows[clip].is_failed for clip in clips)

    def stale(self, names: Iterable[str]) -> list[str]:
        """The clips that have a row and are none of these: deleted, renamed or left out."""
        inputs = {one_line(name) for name in names}
        return [clip for clip in self._status_by_clip if clip not in inputs]

    def prune(self, names: Iterable[str]) -> int:
        """Remove the rows of all clips but these when the file is closed; returns how many."""
        stale = self.stale(names)
        for clip in stale:
            del self._status_by_clip[clip]
        order = self._order if self._order is not None else [*self._status_by_clip, *stale]
        if stale:
            self._order = [clip for clip in order if clip in self._status_by_clip]
        return len(stale)

    def has(self, name: str, sha256: str | None) -> bool:
        """True when the file holds a row for this content, so that it need not be scored again."""
        row = self._status_by_clip.get(one_line(name))
        if row is None or row.sha256 != sha256:
            return False
        return not (self._retry_failed and row.is_failed)

    def update(self, name: str, values: Mapping[str, Any]) -> bool:
        """Have the row of a clip repeat these values of the manifest's, without a new score; the
        row changes when the file is closed.

        Args:
            name: of a clip that has a row.
            values: one for each of `columns.MANIFEST_COLUMNS`.

        Returns:
            Whether the row had others.
        """
        clip, plain_values = one_line(name), plain(dict(values))
        sha256 = manifest_sha256(manifest_cells(plain_values), self._format.manifest_columns)
        if sha256 == self._status_by_clip[clip].manifest_sha256:
            return False
        self._updates[clip] = plain_values
        return True

    def write(self, record: Record) -> None:
        """Add a row, or replace the row of the same clip; it is in the file when this returns."""
        if record.model.get("fingerprint") != self._fingerprint:
            raise ValueError(
                f"a row with fingerprint {record.model.get('fingerprint')!r} does not belong in a "
                f"file of {self._fingerprint!r}"
            )
        row = plain(record.to_json())
        row["text"] = row["text"] if self._keeps_words else None
        line = (self._format.dump(row) + "\n").encode()
        with explain_errors(self._journal):
            if self._file is None:
                self._file = self._begin(line)
            else:
                append_line(self._file, line)
        self._has_stale_lines |= self._remember(flatten(row))
        self.num_written += 1

    def put_in_order(self, names: Sequence[str]) -> None:
        """Put the rows of these clips into this order when the file is closed.

        Rows of other clips keep their places, so that a rerun on some of them moves nothing.
        """
        rank = {one_line(name): place for place, name in enumerate(names)}
        clips = list(self._status_by_clip)
        sorted_clips = iter(sorted((c for c in clips if c in rank), key=rank.__getitem__))
        order = [next(sorted_clips) if clip in rank else clip for clip in clips]
        self._order = order if order != clips else None

    def close(self) -> None:
        """Reduce the file to one row a clip, complete a table, and release the lock."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            if self._file is not None:
                self._file.close()
            with explain_errors(self._journal):
                if self._table:
                    self._complete_table()
                elif self._has_stale_lines or self._updates or self._order is not None:
                    lines = read_lines(self._journal, self._format)
                    rewrite(self._journal, self._format, lines, self._order, self._updates)
        finally:
            self._lock.release()

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _resume(self) -> None:
        """Read and check an existing file, and repair what a kill left behind."""
        with explain_errors(self.path, "read"):
            rows = self._table.read(self.path) if self._table and self.path.exists() else []
            exists = self._journal.exists()
            content = read_lines(self._journal, self._format) if exists else ResultLines()
        rows += content.rows
        _check_fingerprint(self.path, rows, self._fingerprint)
        check_writable(self._journal)
        if content.is_unfinished or len(last_of_each(content.rows)) < len(content.rows):
            with explain_errors(self._journal):
                rewrite(self._journal, self._format, content)
        self.notices += content.notices
        self.notices += self._age_notices(rows)
        for row in rows:
            self._remember(row)

    def _age_notices(self, rows: Sequence[Row]) -> Iterator[str]:
        """What a file that an older version wrote has not, or has otherwise."""
        if isinstance(self._format, CsvLines) and set(self._format.names) != columns().keys():
            lacks = [name for name in columns() if name not in self._format.names]
            yield (
                f"{self.path}: an older version began it; it goes on without the columns "
                f"{', '.join(lacks)} (--fresh starts anew, with all)"
            )
            return
        windows = [row for row in rows if row["path"] is None and _OLD_WINDOW.search(row["clip"])]
        if windows:
            yield (
                f"{self.path}: the hashes of {len(windows)} rows of time windows are of an older "
                "version, which did not tell windows apart: these are scored again"
            )

    def _remember(self, row: Row) -> bool:
        """Note that a clip has a row; True when it had one before."""
        had_row = row["clip"] in self._status_by_clip
        columns_sha256 = manifest_sha256(row, self._format.manifest_columns)
        status = _RowStatus(row["sha256"], is_failed(row), columns_sha256)
        self._status_by_clip[row["clip"]] = status
        return had_row

    def _begin(self, line: bytes) -> IO[bytes]:
        """Open the journal with its first new line."""
        header = self._format.beginning
        if not self._starts_anew:
            file = open(self._journal, "ab", buffering=0)
            append_line(file, line if file.seek(0, os.SEEK_END) else header + line)
            return file
        with replacing(self._journal) as temporary:
            file = open(temporary, "wb", buffering=0)
            append_line(file, header + line)  # the file stays open while it is renamed
        if self._table:
            self.path.unlink(missing_ok=True)
        self._starts_anew = False
        return file

    def _complete_table(self) -> None:
        """Write the rows that the journal holds into the file."""
        journal = self._journal.exists() and not self._starts_anew
        if not journal and self._order is None and not self._updates:
            return
        assert self._table is not None  # of the other formats, the journal is the file
        rows = self._table.read(self.path) if self.path.exists() else []
        if journal:
            rows = last_of_each(rows + read_lines(self._journal, self._format).rows)
        updates = {clip: manifest_cells(values) for clip, values in self._updates.items()}
        rows = [row | updates.get(row["clip"], {}) for row in rows]
        if self._order is not None:
            by_clip = {row["clip"]: row for row in rows}
            rows = [by_clip[name] for name in self._order]
        self._table.write(self.path, rows)
        self._journal.unlink(missing_ok=True)


def _check_fingerprint(path: Path, rows: Iterable[Row], fingerprint: str) -> None:
    others = {row["fingerprint"] for row in rows} - {fingerprint}
    if others:
        other = min(map(str, others))
        raise ResultsError(
            f"{path}: holds rows written under other settings ({other}, now {fingerprint}), "
            "which do not compare; choose another -o, or start it anew with --fresh"
        )
