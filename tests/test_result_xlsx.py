"""Spreadsheets of results: three sheets, nothing that runs, and everything reads back."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from result_rows import FP, failed, good, scores, write

from omni_msa.__main__ import main
from omni_msa.errors import ResultsError
from omni_msa.files import result_xlsx
from omni_msa.files.columns import columns
from omni_msa.files.record import Ablation
from omni_msa.files.result_formats import read_records
from omni_msa.files.results import open_results


def sheets(path: Path) -> dict[str, list[list]]:
    """The cells of every sheet, and that none of them is a formula."""
    openpyxl = pytest.importorskip("openpyxl")
    workbook = openpyxl.load_workbook(path)
    assert not [c for sheet in workbook for row in sheet for c in row if c.data_type == "f"]
    return {s.title: [list(row) for row in s.iter_rows(values_only=True)] for s in workbook}


def test_three_sheets_rounded_whole_and_explained(tmp_path):
    pytest.importorskip("openpyxl")
    path = tmp_path / "r.xlsx"
    record = replace(good("größe.mp4", score=1 / 3), text="=SUM(A1)", extra={"speaker": "ann"})
    write(path, record, failed())
    read = sheets(path)
    assert list(read) == list(result_xlsx.SHEETS)
    key, everything = (dict(zip(*read[name][:2], strict=True)) for name in ("scores", "all"))
    assert (key["clip"], key["score"], key["text"]) == ("größe.mp4", 0.33, "'=SUM(A1)")
    assert list(everything) == list(columns()) and everything["score"] == 1 / 3
    assert everything["base"] == "tiny" and everything["extra"] == '{"speaker": "ann"}'
    about = [text for name, text in read["legend"][1:] if name == "about"]
    assert about[0] == "Scores run from -3 (negative) to 3 (positive)."
    assert "DEMONSTRATION" in about[-1]
    legend = {name: text for name, text in read["legend"][1:] if name != "about"}
    assert list(legend) == list(columns()) and all(legend.values())
    stored, bad = read_records(path)
    assert (stored.score, stored.text, stored.extra) == (1 / 3, "=SUM(A1)", record.extra)
    assert bad.error == {"type": "MediaError", "code": "missing", "message": "no, such file"}


def test_the_first_sheet_has_what_tells_something(tmp_path):
    pytest.importorskip("openpyxl")
    ablation = Ablation({"TAV": 1.0, "TV": 0.5}, {"audio": {"score": 0.5, "delta": -0.5}})
    write(tmp_path / "drop.xlsx", replace(good(), ablation=ablation, label=None))
    header, row = sheets(tmp_path / "drop.xlsx")["scores"]
    assert header == ["clip", "score", "drop_audio_score", "warnings"] and row[1:3] == [1.25, 0.5]


def test_names_that_a_sheet_cannot_hold_are_found_again(tmp_path):
    pytest.importorskip("openpyxl")
    path = tmp_path / "r.xlsx"
    names = ["a\x01b.mp4", "a\ufffeb.mp4", "007", "=1+1.mp4", "'-x", "_x0041_.mp4", "1e5", "TRUE"]
    write(path, *(good(name) for name in names))
    with open_results(path, FP) as results:
        assert [results.has(name, "s1") for name in names] == [True] * len(names)
    assert sheets(path)


def test_a_long_text_is_cut_and_too_many_rows_stay_in_the_journal(tmp_path, monkeypatch):
    pytest.importorskip("openpyxl")
    path = tmp_path / "r.xlsx"
    write(path, replace(good(), text="x" * 40_000))
    text = read_records(path)[0].text
    assert text is not None and len(text) == result_xlsx.MAX_CHARACTERS and text[-1] == "\u2026"
    monkeypatch.setattr(result_xlsx, "MAX_ROWS", 1)
    with pytest.raises(ResultsError, match=r"2 rows are more than a sheet holds .*\.partial"):
        write(path, good("b.mp4"))
    monkeypatch.undo()
    open_results(path, FP).close()
    assert list(scores(path)) == ["a.mp4", "b.mp4"]


def test_a_spreadsheet_of_something_else_stays_as_it_is(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    path = tmp_path / "r.xlsx"
    workbook = openpyxl.Workbook()
    workbook.active.append(["clip", "text"])
    workbook.save(path)
    before = path.read_bytes()
    with pytest.raises(ResultsError, match="is no spreadsheet of results; .*--fresh"):
        open_results(path, FP)
    assert path.read_bytes() == before


def test_without_openpyxl_one_line_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    assert main(["score", "a.wav", "-o", str(tmp_path / "r.xlsx")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and 'pip install "omni-msa[xlsx]"' in err
