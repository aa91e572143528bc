"""Results files for spreadsheets: a sheet to look at, a sheet of everything, and a legend.

`scores` has the key columns, rounded. `all` has every column of `columns.columns` as it was
computed: it is read back, so that a rerun goes on. `legend` says what the columns are.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

from omni_msa.errors import ConfigError, ResultsError
from omni_msa.files.atomic import replacing
from omni_msa.files.columns import (
    Row,
    cell,
    columns,
    empty_row,
    guarded,
    holds_results,
    unguarded,
)
from omni_msa.modalities import MODALITIES

SHEETS = ("scores", "all", "legend")
MAX_ROWS = 1_048_575  # of a sheet, below its header
MAX_CHARACTERS = 32_767  # of a cell
DECIMALS = 2  # of the first sheet
WIDTHS = {
    "clip": 40,
    "path": 40,
    "text": 60,
    "warnings": 60,
    "error_message": 60,
    "meaning": 90,
}  # characters
UNREADABLE = (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile, ParseError)

_MEANINGS = {
    "id": "what the manifest calls the row",
    "clip": "the clip's name: its path, and the time window behind it",
    "path": "the file; empty for words alone",
    "start_seconds": "start of the time window; empty for a whole file",
    "end_seconds": "end of the time window; empty for a whole file",
    "sha256": "a hash of the content, words, window and turns before",
    "score": "the sentiment, from range_low (negative) to range_high (positive)",
    "emotion": "the class whose number the score is",
    "emotions": "the probability of each, as JSON",
    "findings": "the probability of each, as JSON",
    "label": "the manifest's label",
    "text": "the words that were scored",
    "subset_": "the score with only these shown: T text, A audio, V video",
    "drop_": "the score without this modality, and (delta) that score less the whole score",
    "contribution_": "this modality's part of the score; with subset_none they sum to the score",
    "duration_seconds": "length of the file, or of the window",
    "num_frames": "pictures that were looked at",
    "tokens_total": "length of the clip for the model",
    "seconds_total": "time that it took",
    "base": "the model",
    "checkpoint": "what was trained on it; empty where it is read as it is",
    "readout": "how the number is read off the model",
    "quantize": "how its weights were held: none, 4bit or 8bit",
    "fingerprint": "hash of everything but the clip that changes a score",
    "answer": "what a generative readout said",
    "answer_": "1 where it was a number (parsable), one within the range, else 0",
    "warnings": "what was cut, repaired or replaced",
    "error_": "why there is no score",
    "extra": "the other columns of the manifest, as JSON",
    "range_low": "the lowest score there can be: most negative",
    "interval_low": "the label lies between this",
    "interval_high": "and this, for nine of ten clips like the validation ones",
    "interval_absent": "why that is not known",
    "range_high": "the highest score there can be: most positive",
}


def require_openpyxl(path: Path) -> None:
    """The library that spreadsheets need is there.

    Raises:
        ConfigError: it is not; the message says how to install it.
    """
    try:
        import openpyxl  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f'{path}: spreadsheets need openpyxl; pip install "omni-msa[xlsx]", or choose .csv'
        ) from error


def read_xlsx(path: Path) -> list[Row]:
    """The rows of the sheet `all`; columns that an older version did not know are None.

    Raises:
        ResultsError: It is no spreadsheet, or none of results.
        ConfigError: openpyxl is not installed.
    """
    require_openpyxl(path)
    from openpyxl import load_workbook

    with path.open("rb") as file:  # an OSError of opening it is the caller's
        try:
            sheet = load_workbook(file, read_only=True, data_only=True)["all"]
            header, *lines = [list(line) for line in sheet.iter_rows(values_only=True)] or [[]]
            names = ["" if name is None else str(name) for name in header]
            if not holds_results(names):
                raise ValueError("other columns")
            rows = [_row(names, line) for line in lines if any(map(_is_filled, line))]
            if any(row["clip"] is None or row["fingerprint"] is None for row in rows):
                raise ValueError("a row without a name")
            return rows
        except UNREADABLE as error:
            raise ResultsError(
                f"{path}: is no spreadsheet of results; choose another -o, or replace it with "
                "--fresh"
            ) from error


def _is_filled(value: Any) -> bool:
    return value is not None and bool(str(value).strip())


def _row(names: list[str], values: list[Any]) -> Row:
    kinds, row = columns(), empty_row()
    for name, value in zip(names, values, strict=False):  # empty cells at the end may be missing
        text = str(value) if kinds[name] is str and value is not None else value
        row[name] = cell(unguarded(text), kinds[name])
    return row


def write_xlsx(path: Path, rows: list[Row]) -> None:
    """Replace a spreadsheet, in one step, by these rows.

    Raises:
        ResultsError: There are more rows than a sheet can have.
    """
    from openpyxl import Workbook

    if len(rows) > MAX_ROWS:
        raise ResultsError(
            f"{path}: {len(rows)} rows are more than a sheet holds ({MAX_ROWS}); they stay in "
            f"{path.name}.partial, which is JSONL"
        )
    workbook = Workbook(write_only=True)
    key_names, all_names = key_columns(rows), list(columns())
    legend = [*_about(rows), *([name, meaning(name)] for name in all_names)]
    _add_sheet(workbook, "scores", key_names, ([_rounded(r[n]) for n in key_names] for r in rows))
    _add_sheet(workbook, "all", all_names, ([r[n] for n in all_names] for r in rows))
    _add_sheet(workbook, "legend", ["column", "meaning"], legend)
    with replacing(path) as temporary, temporary.open("wb") as file:
        workbook.save(file)


def key_columns(rows: list[Row]) -> list[str]:
    """The columns of the sheet that is looked at first: of those that tell something here.

    Where contributions were not asked for, the scores without a modality stand in their place.
    """
    shares = [f"contribution_{modality}" for modality in MODALITIES]
    if not any(row[name] is not None for row in rows for name in shares):
        shares = [f"drop_{modality}_score" for modality in MODALITIES]
    always = ("clip", "score")
    ends = ("interval_low", "interval_high")
    names = ["id", *always, *ends, "emotion", *shares, "label", "text", "warnings", "error_message"]
    return [n for n in names if n in always or any(row[n] is not None for row in rows)]


def _about(rows: list[Row]) -> list[list[str]]:
    """What whoever is handed the file has to know of its numbers."""
    ranges = {(r["range_low"], r["range_high"]) for r in rows if r["range_low"] is not None}
    about = [f"from {low:g} (negative) to {high:g} (positive)" for low, high in sorted(ranges)]
    lines = [f"Scores run {'; '.join(about)}." if about else ""]
    lines.append("They are a model's reading of words, voice and face, and no measure of feeling.")
    if any(row["base"] == "tiny" for row in rows):
        lines.append("The model tiny is a DEMONSTRATION made from synthetic clips: use no number.")
    return [["about", text] for text in lines if text]


def meaning(column: str) -> str:
    """What a column holds, in plain words."""
    if column.endswith("_source"):
        return f"where the {column.removesuffix('_source')} came from; empty where there was none"
    begins = (text for start, text in _MEANINGS.items() if start[-1] == "_" and start in column)
    return _MEANINGS.get(column) or next(begins)


def _add_sheet(workbook: Any, title: str, names: list[str], rows: Iterable[list[Any]]) -> None:
    from openpyxl.utils import get_column_letter

    sheet = workbook.create_sheet(title)
    sheet.freeze_panes = "A2"  # the header stays in sight
    for place, name in enumerate(names, start=1):
        width = WIDTHS.get(name, max(12, len(name) + 2))
        sheet.column_dimensions[get_column_letter(place)].width = width
    sheet.append(names)
    for row in rows:
        sheet.append([_harmless(value) for value in row])


def _rounded(value: Any) -> Any:
    return round(value, DECIMALS) if isinstance(value, float) else value


def _harmless(value: Any) -> Any:
    """A value as a sheet can hold it: no formula, and no text that is too long."""
    if not isinstance(value, str):
        return value
    text = guarded(value)
    return (
        text
        if len(text) <= MAX_CHARACTERS
        else text[: MAX_CHARACTERS - 1] + "\N{HORIZONTAL ELLIPSIS}"
    )
