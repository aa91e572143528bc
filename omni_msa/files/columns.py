"""One record as one flat row: what a line of a table can hold.

`columns` is the header of every CSV and Parquet file of results; a modality, subset or number that
a clip lacks is None.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from omni_msa.errors import code_of_class
from omni_msa.files.record import Ablation, Answer, Record
from omni_msa.foreign import parse_json
from omni_msa.media.identity import json_sha256
from omni_msa.modalities import MODALITIES, all_subsets, subset_name

Row = dict[str, Any]  # one flat row: columns to values, None where there is none

SEPARATOR = " | "  # of warnings in one cell
MANIFEST_COLUMNS = (
    "id",
    "label",
    "extra",
)  # of the manifest's row, which may change without the clip
_SAME = (  # columns that are fields of the record
    "id", "clip", "path", "start_seconds", "end_seconds", "sha256", "score", "emotion", "label",
    "text", "interval_absent",
)  # fmt: skip
_BOUNDS = ("range", "interval")  # fields of two numbers, in a column each
_OF_NAMES = ("emotions", "findings")  # fields of numbers by name, as JSON in a cell
_OF_MODEL = ("base", "readout", "quantize")
UNKNOWN = "unknown"  # what tables of older versions do not say of the model
_OF_ANSWER = {"answer": "text", "answer_parsable": "parsable", "answer_in_range": "in_range"}
_OF_ERROR = {"error_type": "type", "error_code": "code", "error_message": "message"}
_SIGNS = "=+\\-@\uff1d\uff0b\uff0d\uff20"  # what begins a formula, full-width forms too
_FORMULA = re.compile(rf"'*\s*[{_SIGNS}]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")
# What XML, and so a spreadsheet, cannot hold, as a string of Python writes it.
_CONTROLS = {n: f"\\x{n:02x}" for n in [*range(1, 32), 127] if chr(n) not in "\t\n\r"}
_CONTROLS |= {0: "", 10: "\\n", 13: "\\r", 0xFFFE: "\\ufffe", 0xFFFF: "\\uffff"}


def subset_columns() -> dict[str, str]:
    """Column of each subset of the modalities, and the subset's name."""
    names = [subset_name(subset) for subset in all_subsets(MODALITIES)]
    return {f"subset_{name or 'none'}": name for name in names}


def columns() -> dict[str, type]:
    """The header of every table of results, and what each column holds."""
    return {
        **{"id": str, "clip": str, "path": str, "start_seconds": float, "end_seconds": float},
        **{"sha256": str, "score": float, "range_low": float, "range_high": float},
        **{"interval_low": float, "interval_high": float, "interval_absent": str},
        **{"emotion": str, "emotions": str, "findings": str, "label": float, "text": str},
        **{f"{m}_source": str for m in MODALITIES},
        **dict.fromkeys(subset_columns(), float),
        **{f"drop_{m}_{part}": float for m in MODALITIES for part in ("score", "delta")},
        **{f"contribution_{m}": float for m in MODALITIES},
        **{"duration_seconds": float, "num_frames": int},
        **{"tokens_total": int, "seconds_total": float},
        **{"base": str, "checkpoint": str, "readout": str, "quantize": str, "fingerprint": str},
        **{"answer": str, "answer_parsable": int, "answer_in_range": int, "warnings": str},
        **{"error_type": str, "error_code": str, "error_message": str, "extra": str},
    }


def holds_results(names: Sequence[str]) -> bool:
    """True for the columns of a table of results, of this version or of one that had fewer."""
    is_whole = {"clip", "sha256", "score", "fingerprint", "error_type"} <= set(names)
    return is_whole and set(names) <= columns().keys() and len(set(names)) == len(names)


def empty_row() -> Row:
    """A row that holds nothing yet."""
    return dict.fromkeys(columns())


def flatten(record: Mapping[str, Any]) -> Row:
    """A record as JSON values (`Record.to_json`) -> one flat row with every one of `columns`."""
    ablation, answer = record.get("ablation") or {}, record.get("answer") or {}
    error = record.get("error") or {}
    seconds = record["seconds"].values()
    flat: Row = {name: record.get(name) for name in _SAME}
    for bounds in _BOUNDS:
        low, high = record.get(bounds) or (None, None)
        flat |= {f"{bounds}_low": low, f"{bounds}_high": high}
    flat |= {f"{m}_source": record["modalities"].get(m) for m in MODALITIES}
    flat |= {c: ablation.get("subsets", {}).get(name) for c, name in subset_columns().items()}
    for modality in MODALITIES:
        drop = ablation.get("drop", {}).get(modality, {})
        flat |= {f"drop_{modality}_{part}": drop.get(part) for part in ("score", "delta")}
        flat[f"contribution_{modality}"] = ablation.get("contribution", {}).get(modality)
    flat |= {name: record["media"].get(name) for name in ("duration_seconds", "num_frames")}
    flat |= {"tokens_total": record["tokens"].get("total")}
    flat |= {"seconds_total": sum(seconds) if seconds else None}
    flat |= {"fingerprint": record["model"]["fingerprint"]}
    flat |= {name: record["model"].get(name) for name in ("checkpoint", *_OF_MODEL)}
    flat |= manifest_cells(record)
    flat |= {name: _json_cell(record.get(name)) for name in _OF_NAMES}
    flat |= {"warnings": SEPARATOR.join(record["warnings"])}
    flat |= {column: answer.get(name) for column, name in _OF_ANSWER.items()}
    flat |= {column: error.get(name) for column, name in _OF_ERROR.items()}
    return {name: cell(flat[name], kind) for name, kind in columns().items()}


def manifest_cells(record: Mapping[str, Any]) -> Row:
    """The cells of what a record repeats of its manifest's row."""
    extra = record.get("extra")
    values = {name: record.get(name) for name in MANIFEST_COLUMNS}
    values |= {"extra": _json_cell(extra)}
    kinds = {"id": str, "label": float, "extra": str}
    return {name: cell(value, kinds[name]) for name, value in values.items()}


def manifest_sha256(row: Row, names: Collection[str]) -> str:
    """A hash of these cells of a row; the order of its columns in `extra` does not matter."""
    cells = {name: row[name] for name in names}
    return json_sha256(cells | {"extra": _json_object(cells.get("extra"))})


def unflatten(row: Row) -> Record:
    """The record behind a flat row, as far as its columns hold it."""
    present = {m: row[f"{m}_source"] for m in MODALITIES}
    subsets = {name: row[c] for c, name in subset_columns().items() if row[c] is not None}
    drop = {
        m: {part: row[f"drop_{m}_{part}"] for part in ("score", "delta")}
        for m in MODALITIES
        if row[f"drop_{m}_score"] is not None
    }
    shares = {m: row[f"contribution_{m}"] for m in MODALITIES}
    contribution = {m: value for m, value in shares.items() if value is not None}
    error = {name: row[column] or "" for column, name in _OF_ERROR.items()}
    error["code"] = error["code"] or code_of_class(error["type"])
    media = {name: row[name] for name in ("duration_seconds", "num_frames")}
    model = {name: row[name] or UNKNOWN for name in _OF_MODEL}
    model |= {name: row[name] for name in ("checkpoint", "fingerprint")}
    return Record(
        **{name: row[name] for name in _SAME},
        range=_ends(row, "range"),
        interval=_ends(row, "interval"),
        modalities=present,
        ablation=Ablation(subsets, drop, contribution) if subsets else None,
        media={name: value for name, value in media.items() if value is not None},
        tokens={} if row["tokens_total"] is None else {"total": row["tokens_total"]},
        seconds={} if row["seconds_total"] is None else {"total": row["seconds_total"]},
        model=model,
        warnings=tuple(row["warnings"].split(SEPARATOR)) if row["warnings"] else (),
        error=error if is_failed(row) else None,
        answer=_answer(row),
        extra=_json_object(row["extra"]),
        emotions=_json_object(row["emotions"]) or None,
        findings=_json_object(row["findings"]) or None,
    )


def _ends(row: Row, bounds: str) -> tuple[float, float] | None:
    """A field of two numbers, from its two columns."""
    low, high = row[f"{bounds}_low"], row[f"{bounds}_high"]
    return None if low is None or high is None else (low, high)


def _answer(row: Row) -> Answer | None:
    if row["answer_parsable"] is None:
        return None
    flags = bool(row["answer_parsable"]), bool(row["answer_in_range"])
    return Answer(row["answer"] or "", row["score"], *flags)


def _json_cell(value: dict[str, Any] | None) -> str | None:
    """A JSON object in one cell; nothing of an empty one."""
    return json.dumps(value, ensure_ascii=False) if value else None


def _json_object(text: str | None) -> dict[str, Any]:
    """A JSON object, as a cell holds it; what somebody made of it by hand may be none."""
    try:
        value = parse_json(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def cell(value: Any, kind: type) -> Any:
    """A value as its column holds it; nothing, and the empty string, are None."""
    if value is None or value == "":
        return None
    return one_line(value) if kind is str else kind(value)


def one_line(text: str) -> str:
    """A cell without line ends, so that a line is a row, and without what no file can hold."""
    return text.encode("utf-8", "backslashreplace").decode().translate(_CONTROLS)


def guarded(text: str) -> str:
    """A cell that a spreadsheet takes for text: an apostrophe before what begins a formula."""
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def unguarded(value: Any) -> Any:
    """What `guarded` was given; anything but a guarded text is as it was."""
    is_guarded = isinstance(value, str) and value.startswith("'") and _FORMULA.match(value)
    return value[1:] if is_guarded else value


def is_result(row: Mapping[str, Any]) -> bool:
    """True for a row of a results file, a record or a flat one, among rows of manifests."""
    return {"clip", "sha256", "score"} <= row.keys() and bool({"fingerprint", "model"} & row.keys())


def plain(value: Any) -> Any:
    """JSON values only: numbers that JSON lacks become null, numpy's and paths become plain."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int)):
        return value
    return str(value).encode("utf-8", "backslashreplace").decode()


def is_failed(row: Row) -> bool:
    """True for the row of a clip that could not be scored."""
    return row["error_type"] is not None


def last_of_each(rows: Iterable[Row]) -> list[Row]:
    """One row a clip: the last, at the place of the first."""
    return list({row["clip"]: row for row in rows}.values())
