"""Manifests: a list of clips with their words and labels, one sample a row, as JSONL or CSV.

Columns, each of which may be empty, but a row needs a clip or a text:

- `clip`: path of the media file; `text`: its words; `start_seconds, end_seconds`: a window of it;
- `label`: a number; `label_T, label_A, label_V, label_TA ...`: labels of what is shown alone;
- `split`: train, valid or test; `speaker`: who speaks (a number is taken as a name);
- `emotion`: a class; `dataset`: the public data set it comes from, as `data import` calls it.

- `id`, or the column that `--id` names: your name of the row; it is copied into its record.

What is neither clip, text, window, label nor id is also copied into the row's record, as `extra`.
A manifest that calls a column otherwise is read with `columns`. A results file (JSONL or CSV) is a
manifest too: its rows name the same clips, windows, words, labels and columns; a relative path is
looked for where the command runs, then beside the file.
Every row is checked before anything runs, and one error lists everything that is wrong.
"""

from __future__ import annotations

import csv
import io
import math
import os
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

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
from omni_msa.modalities import MODALITIES, all_subsets, subset_name
from omni_msa.values import Clip

SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv")
MAX_PROBLEMS_SHOWN = 20
NOT_EXTRA = frozenset({"clip", "text", "start_seconds", "end_seconds", "label", ""})
SPLIT_SYNONYMS = {"val": "valid", "dev": "valid", "validation": "valid", "training": "train"}


def read_manifest(
    path: Path, id_column: str = "id", columns: Mapping[str, str] | None = None
) -> list[Clip]:
    """Read and check a manifest; relative clip paths start at its folder.

    A media file that does not exist is no error here: it becomes a failed row when it is read, so
    that one missing clip never stops a batch.

    Args:
        path: The manifest.
        id_column: The column with the user's own names of rows; it may be absent.
        columns: Our columns by the names that the manifest has for them (`{"label": "rating"}`);
            its own column of our name, if there is one, is then not read.

    Raises:
        ManifestError: The file cannot be read, or has bad rows; the message lists them.
    """
    clips: list[Clip] = []
    problems: list[str] = []
    for line_number, cells in _rows(path, columns or {}):
        row = _Row(path, line_number, cells, id_column.strip().lower())
        row.unpack_result()
        clip = row.to_clip()
        problems += row.problems
        if clip is not None:
            clips.append(clip)
    if problems:
        raise ManifestError(list_problems(path, problems, "nothing was run"))
    if not clips:
        raise ManifestError(f"{path}: holds no rows; give one sample a row, for example {_EXAMPLE}")
    return distinct_names(clips)


def read_rows(path: Path, columns: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """The rows of a manifest that was checked, with all their columns, under our names."""
    return [dict(cells) for _, cells in _rows(path, columns or {}) if not isinstance(cells, str)]


def distinct_names(clips: Sequence[Clip]) -> list[Clip]:
    """The same clips; a name that occurs again gets `#2`, `#3` ... behind it."""
    last_numbers: dict[str, int] = {}
    names = {clip.name for clip in clips}
    distinct = []
    for clip in clips:
        number = last_numbers.get(clip.name, 0) + 1
        name = clip.name
        while number > 1 and (name := f"{clip.name}#{number}") in names:
            number += 1
        last_numbers[clip.name] = number
        names.add(name)
        distinct.append(clip if name == clip.name else replace(clip, id=name))
    return distinct


def split_name(text: str) -> str | None:
    """A split as this package calls it: `Dev` is `valid`; nothing is None."""
    name = text.strip().lower()
    return SPLIT_SYNONYMS.get(name, name) or None


def list_problems(path: Path, problems: Sequence[str], outcome: str) -> str:
    """All that is wrong with a file, one line each; a long list is cut and counted."""
    lines = list(problems[:MAX_PROBLEMS_SHOWN])
    if len(problems) > len(lines):
        lines.append(f"and {len(problems) - len(lines)} more")
    return "\n  ".join([f"{path}: {len(problems)} problem(s), {outcome}", *lines])


# --- rows ------------------------------------------------------------------------------------

_EXAMPLE = '{"clip": "a.mp4", "text": "good", "label": 1.2}'
_Columns = Mapping[str, Any] | str  # a string: why the line is not a row


@dataclass
class _Row:
    """One row being checked: `problems` grows while its columns are read."""

    path: Path
    line_number: int
    columns: _Columns
    id_column: str = "id"
    problems: list[str] = field(default_factory=list)
    result_name: str | None = None  # of a row of a results file: its clip's name

    def unpack_result(self) -> None:
        """Turn the row of a results file into the manifest's row that it came from."""
        if isinstance(self.columns, str) or not is_result(self.columns):
            return
        is_flat = "fingerprint" in self.columns  # JSON needs no guard against spreadsheets
        row = {n: unguarded(v) if is_flat else v for n, v in self.columns.items()}
        extra = row.get("extra") or {}
        try:
            extra = parse_json(extra, MAX_ROW_BYTES) if isinstance(extra, str) else dict(extra)
        except (TypeError, ValueError):
            self._problem("extra", f"{reprlib.repr(extra)} is no JSON object")
        self.result_name = row["clip"]
        own = {
            name: row.get(name) for name in (*NOT_EXTRA, "id") if row.get(name) not in (None, "")
        }
        own["clip"] = row.get("path", row["clip"])
        self.columns = (extra if isinstance(extra, dict) else {}) | own

    def to_clip(self) -> Clip | None:
        """The row as a clip; None when anything in it is wrong."""
        if isinstance(self.columns, str):
            self.problems.append(f"line {self.line_number}: {self.columns}")
            return None
        media, words = self._media_path(), self._text("text")
        start, end = self._window(media)
        label, split = self._number("label"), self._text("split") or ""
        labels_by_subset = {
            name: self._number(f"label_{name.lower()}")
            for name in map(subset_name, all_subsets(MODALITIES))
            if name
        }
        names = {column: self._name(column) for column in ("speaker", "emotion", "dataset")}
        if media is None and words is None and not self.problems:
            self._problem("clip", "is empty, and so is text; a row needs one of them")
        if self.problems:
            return None
        return Clip(
            path=media,
            transcript=words,
            transcript_source="manifest",
            start_seconds=start,
            end_seconds=end,
            id=self._id(media),
            label=label,
            subset_labels={
                name: value for name, value in labels_by_subset.items() if value is not None
            },
            split=split_name(split),
            row_id=self._name(self.id_column),
            extra=self._extra(),
            **names,
        )

    def _id(self, media: Path | None) -> str | None:
        """The name of words alone; a file and its window have their own."""
        if media is not None:
            return None
        return self.result_name or f"{self.path}:{self.line_number}"

    def _extra(self) -> dict[str, Any]:
        assert not isinstance(self.columns, str)
        names = [name for name in self.columns if name not in NOT_EXTRA | {self.id_column}]
        return {name: value for name in names if (value := self._value(name)) is not None}

    def _problem(self, column: str, message: str) -> None:
        self.problems.append(f"line {self.line_number}, {column}: {message}")

    def _value(self, column: str) -> Any:
        assert not isinstance(self.columns, str)
        value = self.columns.get(column)
        return None if isinstance(value, str) and not value.strip() else value

    def _text(self, column: str) -> str | None:
        value = self._value(column)
        if value is None or isinstance(value, str):
            return value
        self._problem(column, f"{reprlib.repr(value)} is not a string")
        return None

    def _name(self, column: str) -> str | None:
        """A short string; a number, as a speaker may be in JSON, becomes a string."""
        value = self._value(column)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return str(value)
        text = self._text(column)
        return None if text is None else text.strip()

    def _number(self, column: str) -> float | None:
        value = self._value(column)
        if value is None:
            return None
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            return number
        self._problem(column, f"{reprlib.repr(value)} is not a finite number")
        return None

    def _media_path(self) -> Path | None:
        value = self._text("clip")
        if value is None:
            return None
        if "://" in value:
            self._problem("clip", f"{reprlib.repr(value)} is a URL; download it and give its path")
        elif "\0" in value:
            self._problem("clip", f"{reprlib.repr(value)} is not a path")
        path, beside = Path(value.strip()), self.path.parent / value.strip()
        # of a results file: as the command that wrote it was given it
        is_here = self.result_name is not None and (
            os.path.exists(path) or not os.path.exists(beside)
        )
        return path if is_here else beside

    def _window(self, media: Path | None) -> tuple[float | None, float | None]:
        start, end = self._number("start_seconds"), self._number("end_seconds")
        if media is None and (start is not None or end is not None):
            self._problem("start_seconds", "a window needs a clip, and the row has none")
        if start is not None and start < 0:
            self._problem("start_seconds", f"{start} is negative; times start at 0")
        elif end is not None and end <= (start or 0.0):
            self._problem("end_seconds", f"{end} does not lie after the start, {start or 0.0}")
        return start, end


# --- files -----------------------------------------------------------------------------------


def _rows(path: Path, columns: Mapping[str, str]) -> list[tuple[int, _Columns]]:
    """Line numbers and cells, or why a line is no row; the user's names of columns become ours.

    Raises:
        ManifestError: the file cannot be read, or lacks a column that the user names.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ManifestError(f"{path}: a manifest ends in one of {', '.join(SUFFIXES)}")
    ours = {theirs.strip().lower(): name for name, theirs in columns.items()}
    text = _read_text(path)
    all_rows = _json_rows(text) if suffix in (".jsonl", ".ndjson") else _csv_rows(text, path, ours)
    rows = list(islice(all_rows, MAX_ROWS + 1))
    if len(rows) > MAX_ROWS:
        raise ManifestError(f"{path}: holds more than {MAX_ROWS:,} rows; give it in parts")
    names = {name for _, cells in rows if not isinstance(cells, str) for name in cells}
    absent = sorted(ours.keys() - names)
    if absent and names:
        raise ManifestError(
            f"{path}: has no column {absent[0]!r}; it has: {', '.join(sorted(names))}"
        )
    return [(n, c if isinstance(c, str) else _renamed(c, ours)) for n, c in rows]


def _renamed(cells: Mapping[str, Any], ours: Mapping[str, str]) -> Mapping[str, Any]:
    """A row under our names; a column that one of ours replaces is left out."""
    if not ours:
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


def _json_rows(text: str) -> Iterator[tuple[int, _Columns]]:
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
            yield line_number, f"is no JSON object, expected {_EXAMPLE}"


def _csv_rows(text: str, path: Path, ours: Mapping[str, str]) -> Iterator[tuple[int, _Columns]]:
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


def _cells_by_column(header: list[str], cells: list[str]) -> _Columns:
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
