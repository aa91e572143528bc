"""Manifests: a list of clips with their words and labels, one sample a row, as JSONL or CSV.

Columns, each of which may be empty, but a row needs a clip or a text:

- `clip`: path of the media file; `text`: its words; `start_seconds, end_seconds`: a window of it;
- `label`: a number; `label_T, label_A, label_V, label_TA ...`: labels of what is shown alone;
- `split`: train, valid or test; `speaker`: who speaks (a number is taken as a name);
- `emotion`: a class; `emotions`: all that are present, as a list, as `happiness;surprise`, or by
  how strong each is, `{"happiness": 0.66}`; one that is not named is absent, `none` has none;
- `dataset`: the public data set it comes from, as `data import` calls it;
- `findings`: of a heart record, as a list or as `AF;LBBB`; `ecg`: path of a clip's heart record;
  `ecg_start_seconds`: where in it the clip begins.

- `id`, or the column that `--id` names: your name of the row; it is copied into its record.

What is neither clip, text, window, label nor id is also copied into the row's record, as `extra`.
A manifest that calls a column otherwise is read with `columns`. A results file (JSONL or CSV) is a
manifest too: its rows name the same clips, windows, words, labels and columns; a relative path is
looked for where the command runs, then beside the file.
Every row is checked before anything runs, and one error lists everything that is wrong.
"""

from __future__ import annotations

import math
import os
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omni_msa.errors import ManifestError
from omni_msa.files.manifest_rows import (
    EXAMPLE,
    NOT_EXTRA,
    ManifestRow,
    column_names,
    manifest_rows,
)
from omni_msa.foreign import parse_json
from omni_msa.media.record_files import is_record
from omni_msa.modalities import MODALITIES, all_subsets, subset_name
from omni_msa.values import Clip

MAX_PROBLEMS_SHOWN = 20
FILE_COLUMNS = ("clip", "ecg")
SPLIT_SYNONYMS = {"val": "valid", "dev": "valid", "validation": "valid", "training": "train"}


def read_manifest(
    path: Path, id_column: str | None = None, columns: Mapping[str, str] | None = None
) -> list[Clip]:
    """Read and check a manifest; relative clip paths start at its folder.

    A media file that does not exist is no error here: it becomes a failed row when it is read, so
    that one missing clip never stops a batch.

    Args:
        path: The manifest.
        id_column: The column with the user's own names of rows; else `id`, if there is one.
        columns: Our columns by the names that the manifest has for them (`{"label": "rating"}`);
            its own column of our name, if there is one, is then not read.

    Raises:
        ManifestError: The file cannot be read, has no such column, or has bad rows; the message
            lists them.
    """
    clips: list[Clip] = []
    problems: list[str] = []
    rows = manifest_rows(path, columns or {})
    ids = _id_column(path, rows, id_column)
    for line in rows:
        row = _Row(path, line, ids)
        clip = row.to_clip()
        problems += row.problems
        if clip is not None:
            clips.append(clip)
    if problems:
        raise ManifestError(list_problems(path, problems, "nothing was run"))
    if not clips:
        raise ManifestError(f"{path}: holds no rows; give one sample a row, for example {EXAMPLE}")
    return distinct_names(clips)


def read_rows(path: Path, columns: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """The rows of a manifest that was checked, with all their columns, under our names; paths are
    as seen from here."""
    rows = []
    for line in manifest_rows(path, columns or {}):
        row = _Row(path, line)
        paths = {name: row.file(name) for name in FILE_COLUMNS}
        texts = {name: str(path) for name, path in paths.items() if path is not None}
        rows.append(dict(row.columns) | texts)
    return rows


def _id_column(path: Path, rows: Sequence[ManifestRow], name: str | None) -> str:
    """The column of the user's own names; one that is named has to be there."""
    if name is None:
        return "id"
    name = name.strip().lower()
    present = column_names(rows)
    if name not in present:
        raise ManifestError(
            f"{path}: has no column {name!r}, as --id says; it has: {', '.join(sorted(present))}"
        )
    return name


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


@dataclass
class _Row:
    """One row being checked: `problems` grows while its columns are read."""

    path: Path
    row: ManifestRow
    id_column: str = "id"
    problems: list[str] = field(default_factory=list)

    @property
    def columns(self) -> Mapping[str, Any]:
        """Its cells; of a line that is no row there are none to ask for."""
        assert not isinstance(self.row.columns, str)
        assert not isinstance(self.row.columns, str)
        return self.row.columns

    def to_clip(self) -> Clip | None:
        """The row as a clip; None when anything in it is wrong."""
        if isinstance(self.row.columns, str):
            self.problems.append(f"line {self.row.line_number}: {self.row.columns}")
            return None
        media, words, heart = self.file("clip"), self._text("text"), self.file("ecg")
        self._check_heart(media, heart)
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
            emotions=self._emotions(),
            findings=self._findings(),
            ecg=heart,
            ecg_start_seconds=self._number("ecg_start_seconds") or 0.0,
            row_id=self._name(self.id_column),
            extra=self._extra(),
            **names,
        )

    def _id(self, media: Path | None) -> str | None:
        """The name of words alone; a file and its window have their own."""
        if media is not None:
            return None
        return self.row.result_name or f"{self.path}:{self.row.line_number}"

    def _extra(self) -> dict[str, Any]:
        """As it stands there; a path is as seen from here, since rows may be read elsewhere."""
        names = [name for name in self.columns if name not in NOT_EXTRA | {self.id_column}]
        extra = {name: value for name in names if (value := self._value(name)) is not None}
        heart = self.file("ecg")
        return extra if heart is None else extra | {"ecg": str(heart)}

    def _problem(self, column: str, message: str) -> None:
        self.problems.append(f"line {self.row.line_number}, {column}: {message}")

    def _value(self, column: str) -> Any:
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

    def _emotions(self) -> dict[str, float] | None:
        """How strong each is: 1 of those that are only named."""
        value = self._value("emotions")
        if isinstance(value, str) and value.lstrip().startswith(("{", "[")):  # a cell of a table
            value = _json_or_none(value)
        elif isinstance(value, str):
            value = [] if value.strip().lower() == "none" else value.split(";")
        if isinstance(value, list) and all(isinstance(name, str) for name in value):
            value = {name: 1.0 for name in value}
        if value is None and self._value("emotions") is None:
            return None
        if isinstance(value, dict) and all(_is_strength(strength) for strength in value.values()):
            emotions = {name.strip().lower(): float(number) for name, number in value.items()}
            if "" not in emotions:
                return emotions
        self._problem(
            "emotions",
            f"{reprlib.repr(self._value('emotions'))} is neither a list of names nor how strong "
            'each is; give ["happiness"], happiness;fear, {"happiness": 0.66} or none',
        )
        return None

    def _findings(self) -> tuple[str, ...] | None:
        value = self._value("findings")
        if isinstance(value, str):
            value = _json_or_none(value) if value.lstrip().startswith("[") else value.split(";")
        if self._value("findings") is None:
            return None
        if isinstance(value, list) and value and all(isinstance(n, str) and n for n in value):
            return tuple(dict.fromkeys(name.strip() for name in value))
        self._problem(
            "findings",
            f"{reprlib.repr(self._value('findings'))} names nothing that was found; give one or "
            'more, as ["AF", "LBBB"] or AF;LBBB (and a name for none, such as NORM)',
        )
        return None

    def _check_heart(self, media: Path | None, heart: Path | None) -> None:
        """The heart record that is named beside a clip."""
        if (start := self._number("ecg_start_seconds")) is not None and start < 0:
            self._problem("ecg_start_seconds", f"{start} is negative; a record's times start at 0")
        if heart is not None and media is not None and is_record(media):
            self._problem("ecg", "names a heart record, and the clip is one itself; leave one out")

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

    def file(self, column: str) -> Path | None:
        """A file that a column names, as seen from here."""
        value = self._text(column)
        if value is None:
            return None
        if "://" in value:
            self._problem(column, f"{reprlib.repr(value)} is a URL; download it and give its path")
        elif "\0" in value:
            self._problem(column, f"{reprlib.repr(value)} is not a path")
        path, beside = Path(value.strip()), self.path.parent / value.strip()
        # of a results file: as the command that wrote it was given it
        is_here = self.row.result_name is not None and (
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


def _json_or_none(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return None


def _is_strength(value: Any) -> bool:
    """A finite number that is not negative."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 <= value < math.inf
