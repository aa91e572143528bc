"""Label files of releases: their encodings, their columns, and all errors in them."""

from __future__ import annotations

import csv
import io
import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from omni_msa.errors import ManifestError
from omni_msa.files.manifest import list_problems
from omni_msa.foreign import MAX_ROWS, MAX_TABLE_BYTES, read_limited

T = TypeVar("T")
ROUNDING = 1e-6  # labels are means of several raters, written with few digits


@dataclass(frozen=True)
class TextFile:
    """A file as text; `notice` says which encoding was guessed."""

    text: str
    notice: str | None = None


@dataclass(frozen=True)
class TableRow:
    """One row being read; what is wrong in it is added to the table's `problems`.

    `place` is what messages call it, such as "line 3".
    """

    place: str
    cells: dict[str, str]
    problems: list[str]

    def text(self, column: str) -> str:
        """The cell without blanks around it; an absent column reads as empty."""
        return self.cells.get(column, "").strip()

    def required(self, column: str) -> str:
        """The cell; an empty one is a problem."""
        if not (text := self.text(column)):
            self.problem(column, "is empty")
        return text

    def number(self, column: str, bounds: tuple[float, float]) -> float | None:
        """The cell as a number in [low, high]; None, and a problem, when it is none."""
        text, (low, high) = self.required(column), bounds
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            self.problem(column, f"{reprlib.repr(text)} is not a finite number")
        elif not low - ROUNDING <= value <= high + ROUNDING:
            self.problem(column, f"{value:g} lies outside [{low:g}, {high:g}]: another data set?")
        else:
            return value
        return None

    def choice(self, column: str, meanings: Mapping[str, T]) -> T | None:
        """What the cell means, whatever its case; None, and a problem, when it is not known."""
        if not (text := self.required(column).lower()):
            return None
        if text not in meanings:
            self.problem(column, f"{reprlib.repr(text)} is not one of {', '.join(meanings)}")
        return meanings.get(text)

    def problem(self, column: str, message: str) -> None:
        self.problems.append(f"{self.place}, {column}: {message}")


@dataclass(frozen=True)
class Table:
    """A label file: its rows, and what is wrong in them, which grows while they are read."""

    path: Path
    rows: tuple[TableRow, ...]
    problems: list[str]
    notice: str | None = None


def require_no_problems(folder: Path, tables: Sequence[Table]) -> None:
    """Call this after the rows were read.

    Raises:
        ManifestError: Something was wrong; the message lists all of it.
    """
    problems = [f"{table.path.name}, {problem}" for table in tables for problem in table.problems]
    if problems:
        raise ManifestError(list_problems(folder, problems, "nothing was imported"))


def read_text_file(path: Path, fallback: str | None = None) -> TextFile:
    """A file as text: UTF-8 with or without a mark, else the fallback encoding.

    Raises:
        ManifestError: It cannot be read, or is in neither.
    """
    try:
        data = read_limited(path, MAX_TABLE_BYTES, ManifestError)
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        return TextFile(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        if fallback is None:
            raise ManifestError(f"{path}: is not UTF-8; save the file as UTF-8") from error
    try:
        text = data.decode(fallback)
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"{path}: is neither UTF-8 nor {fallback}; save the file as UTF-8"
        ) from error
    return TextFile(text, f"{path.name}: is not UTF-8, read as {fallback}")


def read_table(path: Path, columns: Sequence[str], fallback: str | None = None) -> Table:
    """A CSV file with at least these columns; rows of another length become problems.

    Raises:
        ManifestError: It cannot be read, is no CSV, lacks columns, or holds no rows.
    """
    content = read_text_file(path, fallback)
    reader = csv.reader(io.StringIO(content.text, newline=""))
    problems: list[str] = []
    rows = []
    try:
        header = [name.strip() for name in next(reader, [])]
        if missing_columns := [name for name in columns if name not in header]:
            raise ManifestError(
                f"{path}: the first line lacks the column {', '.join(missing_columns)}"
            )
        line_number = reader.line_num + 1  # of the row's first line: quoted cells may span several
        for cells in reader:
            if len(cells) == len(header):
                columns_to_cells = dict(zip(header, cells, strict=True))
                rows.append(TableRow(f"line {line_number}", columns_to_cells, problems))
            elif cells:
                problems.append(
                    f"line {line_number}: has {len(cells)} cells where the header has {len(header)}"
                )
            line_number = reader.line_num + 1
            if max(len(rows), len(problems)) > MAX_ROWS:
                raise ManifestError(f"{path}: holds more than {MAX_ROWS:,} rows; check the file")
    except csv.Error as error:
        raise ManifestError(f"{path}: line {reader.line_num} is no CSV ({error})") from error
    if not rows and not problems:
        raise ManifestError(f"{path}: holds no rows")
    return Table(path, tuple(rows), problems, content.notice)
