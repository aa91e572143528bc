"""Results files of lines: what spreadsheets make of them, and what older versions wrote."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from result_rows import FP, failed, good, scores, write

from omni_msa.files.columns import columns, flatten, guarded, unguarded
from omni_msa.files.record import Record
from omni_msa.files.result_formats import read_records
from omni_msa.files.results import open_results

every_old_format = pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])

# --- spreadsheets ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["=1+1", "+cmd", "-x", "@sum", " =a", "'=a", "''+b", "\uff1dA1", "-", "- yes", "--1"]
)
def test_what_begins_a_formula_is_made_text_and_reads_back(text):
    assert guarded(text) == f"'{text}" and unguarded(guarded(text)) == text


@pytest.mark.parametrize("text", ["", "a", "-1", "+2.5", "-1e-05", "'tis", "1-1", "a=b", "'"])
def test_other_cells_stay_as_they_are(text):
    assert guarded(text) == unguarded(text) == text


def test_no_cell_of_a_csv_file_is_a_formula(tmp_path):
    path = tmp_path / "r.csv"
    record = replace(good("=1+1.mp4", score=-1.5), text="-well, @you", extra={"note": "=x"})
    write(path, record)
    data = path.read_bytes()
    assert data.startswith(b"\xef\xbb\xbfid,clip,path")  # the mark by which Excel knows UTF-8
    (row,) = csv.DictReader(data.decode("utf-8-sig").splitlines())
    assert (row["clip"], row["text"], row["score"]) == ("'=1+1.mp4", "'-well, @you", "-1.5")
    (stored,) = read_records(path)
    assert (stored.clip, stored.text, stored.extra) == (record.clip, record.text, record.extra)


def test_a_csv_file_keeps_the_mark_that_it_has_or_has_not(tmp_path):
    path = tmp_path / "r.csv"
    write(path, good("a.mp4"))
    path.write_bytes(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    with open_results(path, FP) as results:
        results.write(good("b.mp4"))
        results.put_in_order(["b.mp4", "a.mp4"])
    assert path.read_bytes().startswith(b"id,clip") and list(scores(path)) == ["b.mp4", "a.mp4"]


@pytest.mark.parametrize("length", [1, 2, 3, 4, 20])
def test_a_header_that_was_cut_is_written_again(tmp_path, length):
    path = tmp_path / "r.csv"
    write(path, good("a.mp4"))
    whole = path.read_bytes()
    path.write_bytes(whole[:length])
    write(path, good("a.mp4"))
    assert path.read_bytes() == whole


# --- files of version 0.1 --------------------------------------------------------------------

NEW_FIELDS = ("path", "start_seconds", "end_seconds", "text", "extra")
NEW_COLUMNS = (*NEW_FIELDS, "base", "checkpoint", "readout")


def write_old(path: Path, *records: Record) -> None:
    """A results file as version 0.1 wrote it: fewer columns, and no mark before them."""
    rows = [record.to_json() for record in records]
    if path.suffix == ".jsonl":
        old = [{k: v for k, v in row.items() if k not in NEW_FIELDS} for row in rows]
        path.write_text("".join(json.dumps(row) + "\n" for row in old))
        return
    names = [name for name in columns() if name not in NEW_COLUMNS]
    cells = [[flatten(row)[name] for name in names] for row in rows]
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = [dict(zip(names, row, strict=True)) for row in cells]
        pq.write_table(pa.Table.from_pylist(table), path)
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([names, *cells])


@every_old_format
def test_a_file_of_an_older_version_goes_on_and_stays_as_it_is_when_nothing_is_new(
    tmp_path, suffix
):
    path = tmp_path / f"r.{suffix}"
    write_old(path, good("größe.mp4"), failed())
    before = path.read_bytes()
    with open_results(path, FP) as results:
        assert results.has("größe.mp4", "s1") and results.has("bad.mp4", None)
        results.put_in_order(["größe.mp4", "bad.mp4"])
        about_age = [notice for notice in results.notices if "an older version" in notice]
        assert len(about_age) == (suffix == "csv")
    assert path.read_bytes() == before
    write(path, replace(good("b.mp4"), text="words", path="b.mp4"))
    assert scores(path) == {"größe.mp4": 1.25, "bad.mp4": None, "b.mp4": 1.25}
    last = read_records(path)[-1]
    assert last.text == (None if suffix == "csv" else "words")
    if suffix != "parquet":
        assert path.read_bytes().startswith(before)


def test_windows_of_an_older_version_are_scored_again_and_it_says_so(tmp_path):
    path = tmp_path / "r.jsonl"
    write_old(path, good("a.mp4"), good("a.mp4[1.0-end]"), good("a.mp4[0.0-2.5]#2"))
    with open_results(path, FP) as results:
        (notice,) = results.notices
        assert "2 rows of time windows" in notice and "scored again" in notice
