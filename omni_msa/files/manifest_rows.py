"""The rows of a manifest, JSONL or CSV, or of a results file that is one; unchecked."""

from __future__ import annotations

import csv
import io
import reprlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from omni_msa.errors import ManifestError
from omni_msa.files.columns import is_result, unguarded
from omni_msa.foreign import (
    MAX_COLUMNS,
    MAX_ROW_BYTES,
    MAX_ROWS,
    MAX_TABLE_BYTES,
    parse_json,
    read_limited,
)

SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv")
NOT_EXTRA = frozenset({"clip", "text", "start_seconds", "end_seconds", "label", ""})
EXAMPLE = '{"clip": "a.mp4", "text": "good", "label": 1.2}'

Columns = Mapping[str, Any] | str  # a string: why the line is not a row


class ManifestRow(NamedTuple):
    """One row as it stands in the file."""

    line_number: int
    columns: Columns
    result_name: str | None = None  # of a row of a results file: its clip's name


def manifest_rows(path: Path, columns: Mapping[str, str]) -> list[ManifestRow]:
    """All rows of a manifest; rows of a results file become the manifest's rows that they came
    from, and the user's names of columns ours.

    Raises:
        ManifestError: the file cannot be read, or lacks a column that the user names.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ManifestError(f"{path}: a manifest ends in one of {', '.join(SUFFIXES)}")
    ours = {theirs.strip().lower(): name for name, theirs in columns.items()}
    text = _read_text(path)
    all_rows = _json_rows(text) if suffix in (".jsonl", ".ndjson") else _csv_rows(text, path, ours)
    lines = list(islice(all_rows, MAX_ROWS + 1))
    if len(lines) > MAX_ROWS:
        raise ManifestError(f"{path}: holds more than {MAX_ROWS:,} rows; give it in parts")
    rows = [_unpacked(number, cells, ours) for number, cells in lines]
    names = column_names(rows)
    absent = sorted(ours.keys() - names)
    if absent and names:
        raise ManifestError(
            f"{path}: has no column {absent[0]!r}; it has: {', '.join(sorted(names))}"
        )
    return [row._replace(columns=_renamed(row.columns, ours)) for row in rows]


def column_names(rows: Iterable[ManifestRow]) -> set[str]:
    """The columns that any of the rows has."""
    return {name for row in rows if not isinstance(row.columns, str) for name in row.columns}


def _unpacked(line_number: int, cells: Columns, names: Collection[str]) -> ManifestRow:
    """A row; that of a results file as the manifest's row that it came from.

    Args:
        names: columns of a results file itself that are wanted too.
    """
    if isinstance(cells, str) or not is_result(cells):
        return ManifestRow(line_number, cells)
    is_flat = "fingerprint" in cells  # JSON needs no guard against spreadsheets
    row = {n: unguarded(v) if is_flat else v for n, v in cells.items()}
    extra = row.get("extra") or {}
    try:
        extra = parse_json(extra, MAX_ROW_BYTES) if isinstance(extra, str) else dict(extra)
    except (TypeError, ValueError):
        extra = None
    if not isinstance(extra, dict):
        return ManifestRow(line_number, f"extra: {reprlib.repr(row['extra'])} is no JSON object")
    own = {n: row.get(n) for n in (*NOT_EXTRA, "id", *names) if row.get(n) not in (None, "")}
    own["clip"] = row.get("path", row["clip"])
    return ManifestRow(line_number, extra | own, row["clip"])


def _renamed(cells: Columns, ours: Mapping[str, str]) -> Columns:
    """A row under our names; a column that one of ours replaces is left out."""
    if not ours or isinstance(cells, str):
        return cells
    replaced = {*ours, *ours.values()}
    others = {name: value for name, value in cells.items() if name not in replaced}
    return others | {ours[name]: value for name, value in cells.items() if name in ours}


def _read_text(path: Path) -> str:
    try:
        data = read_limited(path, MAX_TABLE_BYTES, ManifestError)
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ManifestError(f"{path}: line {line} is not UTF-8; save the file as UTF-8") from error


def _json_rows(text: str) -> Iterator[tuple[int, Columns]]:
    # Not splitlines(): JSON strings may hold characters that Python counts as line ends.
    for line_number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line, MAX_ROW_BYTES)
        except ValueError as error:
            yield line_number, f"is no JSON ({error})"
            continue
        if isinstance(row, dict):
            yield line_number, {name.strip().lower(): value for name, value in row.items()}
        else:
            yield line_number, f"is no JSON object, expected {EXAMPLE}"


def _csv_rows(text: str, path: Path, ours: Mapping[str, str]) -> Iterator[tuple[int, Columns]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text, path))
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        _check_header(header, path, ours)
        line_number = reader.line_num + 1  # of the row's first line: quoted cells may span several
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield line_number, _cells_by_column(header, cells)
            line_number = reader.line_num + 1
    except csv.Error as error:
        raise ManifestError(f"{path}: line {reader.line_num} is no CSV ({error})") from error


def _cells_by_column(header: list[str], cells: list[str]) -> Columns:
    if len(cells) != len(header):
        return (
            f"has {len(cells)} cells where the header has {len(header)}; "
            "a text with commas needs double quotes"
        )
    return dict(zip(header, cells, strict=True))


def _delimiter(text: str, path: Path) -> str:
    """Tab for .tsv; spreadsheets of many countries write semicolons into .csv."""
    header = text.partition("\n")[0]
    if path.suffix.lower() == ".tsv":
        return "\t"
    return ";" if ";" in header and "," not in header else ","


def _check_header(header: list[str], path: Path, ours: Mapping[str, str]) -> None:
    if len(header) > MAX_COLUMNS:
        raise ManifestError(
            f"{path}: has {len(header):,} columns; at most {MAX_COLUMNS:,} are read"
        )
    duplicates = sorted({name for name in header if name and header.count(name) > 1})
    if duplicates:
        raise ManifestError(f"{path}: the header names a column twice: {', '.join(duplicates)}")
    if not {"clip", "text"} & {ours.get(name, name) for name in header}:
        raise ManifestError(
            f"{path}: the first line must name the columns, clip or text among them; "
            f"it reads {reprlib.repr(','.join(header))}"
        )
