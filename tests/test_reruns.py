"""A rerun over an output file: what is known again, what is brought up to date, what is refused."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from importlib.util import find_spec

import pytest
from result_rows import FP, good, write
from sounds import write_wav
from test_cli import folder, model, run  # noqa: F401  (fixtures)

from omni_msa.errors import ConfigError, ResultsError
from omni_msa.files.columns import columns, flatten
from omni_msa.files.result_formats import check_is_no_input, read_records
from omni_msa.files.results import open_results

FORMATS = ["jsonl", "csv", "parquet", *(["xlsx"] if find_spec("openpyxl") else [])]
every_format = pytest.mark.parametrize("suffix", FORMATS)


@pytest.mark.slow
def test_words_are_the_same_wherever_they_come_from(run, tmp_path):  # noqa: F811
    clips, rows = tmp_path / "d", tmp_path / "rr.jsonl"
    clips.mkdir()
    for name in ("a", "b"):
        write_wav(clips / f"{name}.wav")
    (clips / "a.txt").write_text("so  good\n")
    assert run("score", clips, "-o", rows, "--no-ablate")[0] == 0
    before = rows.read_bytes()
    err = run("score", rows, "-o", rows, "--no-ablate")[2]
    assert "rr.jsonl: 0 scored, 0 failed, 2 already there\n" in err
    assert rows.read_bytes() == before


def test_a_corrected_manifest_changes_rows_without_a_new_score(run, tmp_path):  # noqa: F811
    manifest, rows = tmp_path / "m.csv", tmp_path / "r.jsonl"
    for name in ("a", "b"):
        write_wav(tmp_path / f"{name}.wav")
    manifest.write_text("clip,label,speaker,id\na.wav,1,ann,1\nb.wav,-1,bob,2\n")
    assert run("score", manifest, "-o", rows, "--no-ablate")[0] == 0
    first = read_records(rows)
    manifest.write_text("clip,label,speaker,id\na.wav,2.5,cid,77\nb.wav,-1,bob,2\n")
    code, out, err = run("score", manifest, "-o", rows, "--no-ablate", "--json")
    assert code == 0 and "0 scored, 0 failed, 2 already there, 1 row had its columns updated" in err
    corrected = replace(first[0], label=2.5, id="77", extra={"speaker": "cid"})
    assert read_records(rows) == [corrected, first[1]]
    assert json.loads(out) == [record.to_json() for record in read_records(rows)]
    err = run("score", rows, "-o", rows, "--no-ablate")[2]
    assert "2 already there\n" in err
    # a clip that no manifest describes leaves them
    assert "1 already there\n" in run("score", tmp_path / "a.wav", "-o", rows, "--no-ablate")[2]


@every_format
def test_columns_of_every_format_are_updated(tmp_path, suffix):
    path = tmp_path / f"r.{suffix}"
    write(path, replace(good("a"), extra={"x": 1, "y": None}), replace(good("b"), id="=1"))
    values = {"id": None, "label": 2, "extra": {"y": None, "x": 1}}
    with open_results(path, FP) as results:
        assert not results.update("a", values)
        assert not results.update("b", {"id": "=1", "label": 2.0, "extra": {}})
        assert results.update("b", values | {"id": "two\nlines"})
        results.write(good("c"))
    first, second, third = read_records(path)
    assert second.extra == first.extra and second.label == 2 and third.clip == "c"
    assert second.id == ("two\nlines" if suffix == "jsonl" else "two\\nlines")
    assert (second.score, second.sha256, second.warnings) == (1.25, "s1", first.warnings)
    with open_results(path, FP) as results:
        assert results.update("c", {"id": "x", "label": None, "extra": {}})
        results.prune(["a", "c"])
    assert [(r.clip, r.id) for r in read_records(path)] == [("a", None), ("c", "x")]


@every_format
def test_names_that_differ_by_a_line_end_are_two_clips(tmp_path, suffix):
    path = tmp_path / f"r.{suffix}"
    names = ["a b.mp3", "a\nb.mp3", "a\rb.mp3"]
    write(path, *map(good, names))
    with open_results(path, FP) as results:
        assert results.num_rows == 3 and all(results.has(name, "s1") for name in names)


def test_empty_rows_of_a_spreadsheet_are_passed_over(tmp_path):
    path = tmp_path / "r.csv"
    write(path, good("a"))
    path.write_bytes(path.read_bytes() + b"," * (len(columns()) - 1) + b"\r\n")
    write(path, good("b"))
    assert [record.clip for record in read_records(path)] == ["a", "b"]
    with pytest.raises(ResultsError, match="other settings"):
        open_results(path, "f2")
    nameless = flatten(good("c").to_json()) | {"fingerprint": None}
    with path.open("a", newline="") as file:
        csv.writer(file).writerow(nameless.values())
    with pytest.raises(ResultsError, match="line 5 is no row"):
        open_results(path, FP)


@pytest.mark.skipif("xlsx" not in FORMATS, reason="openpyxl is not installed")
def test_empty_rows_of_a_sheet_are_passed_over(tmp_path):
    from openpyxl import load_workbook

    path = tmp_path / "r.xlsx"
    write(path, good("a"))
    workbook = load_workbook(path)
    workbook["all"].append(["", " "])
    workbook.save(path)
    write(path, good("b"))
    assert [record.clip for record in read_records(path)] == ["a", "b"]
    workbook = load_workbook(path)
    workbook["all"].append(["an id alone"])
    workbook.save(path)
    with pytest.raises(ResultsError, match="no spreadsheet of results"):
        read_records(path)


@pytest.mark.parametrize("fresh", [[], ["--fresh"]])
@pytest.mark.parametrize("command", ["score", "ablate", "evaluate"])
def test_the_input_is_not_replaced(run, tmp_path, command, fresh):  # noqa: F811
    manifest, link = tmp_path / "m.jsonl", tmp_path / "link.jsonl"
    manifest.write_text('{"text": "good", "label": 1}\n{"text": "bad", "label": -1}\n')
    link.symlink_to(manifest)
    before = manifest.read_bytes()
    for name in ["m.jsonl", *(["*.jsonl"] if command != "evaluate" else [])]:
        code, _, err = run(command, tmp_path / name, "-o", link, *fresh)
        assert code == 2 and "is an input, which would be replaced; name another file" in err
    assert manifest.read_bytes() == before


def test_results_go_on_in_their_own_file_but_do_not_start_anew_there(tmp_path):
    path = tmp_path / "r.csv"
    write(path, good())
    check_is_no_input(path, path)
    check_is_no_input(path, tmp_path / "other.csv", fresh=True)
    with pytest.raises(ConfigError):
        check_is_no_input(path, path, fresh=True)


def test_a_column_of_ids_that_is_named_is_there(run, tmp_path):  # noqa: F811
    manifest = tmp_path / "m.csv"
    manifest.write_text("text,label\ngood,1\n")
    code, _, err = run("score", manifest, "--id", "nosuch")
    assert code == 2 and "has no column 'nosuch', as --id says; it has: label, text" in err
    code, _, err = run("score", write_wav(tmp_path / "a.wav"), "--id", "nosuch")
    assert code == 2 and "is a column of a manifest, and none is given" in err


@pytest.mark.slow
def test_words_that_are_left_out_are_in_no_output(run, tmp_path):  # noqa: F811
    manifest, rows = tmp_path / "m.jsonl", tmp_path / "r.jsonl"
    manifest.write_text('{"text": "secret one"}\n{"text": "secret two"}\n')
    for output in ("-", rows):
        code, out, _ = run("score", manifest, "--no-words", "-o", output, "--no-ablate")
        assert code == 0 and "secret" not in out
    assert run("score", manifest, "-o", rows, "--no-ablate", "--fresh")[0] == 0
    out = run("score", manifest, "-o", rows, "--no-ablate", "--no-words", "--json")[1]
    assert len(json.loads(out)) == 2 and "secret" not in out
