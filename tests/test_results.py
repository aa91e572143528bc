"""Results files: rows survive kills, resume, replace and round-trip in every format."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from result_rows import FP, failed, good, scores, write

from omni_msa.errors import ResultsError
from omni_msa.files.columns import columns, flatten
from omni_msa.files.record import Answer
from omni_msa.files.result_formats import read_records
from omni_msa.files.results import open_results
from omni_msa.media.identity import clip_sha256, content_sha256
from omni_msa.values import Clip

XLSX = ("xlsx",) if find_spec("openpyxl") else ()
FORMATS = ("jsonl", "csv", "parquet", *XLSX)
every_format = pytest.mark.parametrize("suffix", FORMATS)
line_formats = pytest.mark.parametrize("suffix", ["jsonl", "csv"])


# --- rows ------------------------------------------------------------------------------------


def test_every_format_reads_back_its_records(tmp_path):
    spoken = replace(
        good("words", "s2"), ablation=None, label=None, media={}, emotion="joy",
        answer=Answer("so good", 1.25, parsable=False, in_range=True),
    )  # fmt: skip
    records = [good(), failed(), spoken]
    read = {}
    for suffix in FORMATS:
        write(tmp_path / f"r.{suffix}", *records)
        read[suffix] = read_records(tmp_path / f"r.{suffix}")
    assert [r.to_json() for r in read["jsonl"]] == [r.to_json() for r in records]
    assert all(read[suffix] == read["csv"] for suffix in ("parquet", *XLSX))
    # a table holds as much of a record as it has columns for
    for flat, record in zip(read["csv"], records, strict=True):
        assert flatten(flat.to_json()) == flatten(record.to_json())
        assert flat.to_json().keys() == record.to_json().keys()
        for name in ("answer", "emotion", "error"):
            assert getattr(flat, name) == getattr(record, name)


def test_a_flat_row_has_every_column():
    row, bad = flatten(good().to_json()), flatten(failed().to_json())
    assert list(row) == list(columns())
    assert row["subset_none"] == 0.1 and row["subset_A"] == 1 / 3 and row["subset_TAV"] == 1.25
    assert row["range_low"] == -3.0 and row["label"] == 2.0 and row["num_frames"] == 8
    assert row["drop_audio_delta"] == -0.65 and row["drop_text_score"] is None
    assert row["contribution_video"] == 0.4 and row["text_source"] == "sidecar a.srt"
    assert row["seconds_total"] == pytest.approx(1.0) and row["tokens_total"] == 193
    assert row["warnings"] == 'a, b | says "c"' and row["fingerprint"] == FP
    assert bad["error_type"] == "MediaError" and bad["error_message"] == "no, such file"
    assert bad["score"] is None and bad["sha256"] is None and bad["fingerprint"] == FP


@every_format
def test_a_finished_file_is_in_input_order_and_stays_as_it_is(tmp_path, suffix):
    path = tmp_path / f"r.{suffix}"
    names = ["c", "a", "d", "b"]
    with open_results(path, FP) as results:
        for name in ("d", "b", "c", "a"):
            results.write(good(name))
        results.put_in_order(names)
    assert [record.clip for record in read_records(path)] == names
    before = path.read_bytes()
    for order in (names, ["b"], ["d", "b"]):
        with open_results(path, FP) as results:
            results.put_in_order(order)
    assert path.read_bytes() == before
    with open_results(path, FP) as results:  # other clips come behind, in their own order
        for name in ("f", "e"):
            results.write(good(name))
        results.put_in_order(["e", "f"])
    assert [record.clip for record in read_records(path)] == [*names, "e", "f"]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_jsonl_row_is_the_whole_record(tmp_path):
    path = tmp_path / "r.jsonl"
    write(path, good("größe.mp4"))
    assert path.read_text(encoding="utf-8") == (
        json.dumps(good("größe.mp4").to_json(), ensure_ascii=False) + "\n"
    )


def test_values_that_json_lacks_do_not_stop_a_batch(tmp_path):
    media = {"duration_seconds": float("nan"), "num_frames": np.int64(8), "path": Path("x")}
    media["mean"] = np.float32(0.5)
    write(tmp_path / "r.jsonl", replace(good("caf\udce9.mp4"), media=media))
    row = json.loads((tmp_path / "r.jsonl").read_text())
    assert row["clip"] == "caf\\udce9.mp4"
    assert row["media"] == {"duration_seconds": None, "num_frames": 8, "path": "x", "mean": 0.5}


@every_format
def test_odd_names_are_found_again(tmp_path, suffix):
    path = tmp_path / f"r.{suffix}"
    names = ["caf\udce9.mp4", "two\nlines.mp4", 'q"uo,te.mp4', "  spaces  .mp4", "=1+1.mp4"]
    write(path, *(good(name) for name in names))
    with open_results(path, FP) as results:
        assert [results.has(name, "s1") for name in names] == [True] * len(names)
        assert results.num_rows == len(names)


# --- resuming --------------------------------------------------------------------------------


@line_formats
def test_a_row_is_in_the_file_as_soon_as_it_is_written(tmp_path, suffix):
    path = tmp_path / f"r.{suffix}"
    with open_results(path, FP) as results:
        results.write(good())
        assert scores(path) == {"a.mp4": 1.25}
        results.write(failed())
        assert scores(path) == {"a.mp4": 1.25, "bad.mp4": None}


def test_parquet_keeps_its_rows_beside_it_until_it_is_closed(tmp_path):
    path = tmp_path / "r.parquet"
    with open_results(path, FP) as results:
        results.write(good())
        assert not path.exists()
        assert len((tmp_path / "r.parquet.partial").read_text().splitlines()) == 1
    assert sorted(os.listdir(tmp_path)) == ["r.parquet"]


@every_format
def test_a_rerun_skips_what_is_done_and_adds_the_rest(tmp_path, suffix):
    path = tmp_path / f"r.{suffix}"
    write(path, good("a.mp4"), failed("bad.mp4"))
    with open_results(path, FP) as results:
        assert results.has("a.mp4", "s1")
        assert not results.has("a.mp4", "changed")
        assert not results.has("b.mp4", "s1")
        assert results.has("bad.mp4", None)
        assert not results.has("bad.mp4", "there now")
        assert (results.num_rows, results.num_failed(), results.num_written) == (2, 1, 0)
        results.write(good("b.mp4"))
        assert (results.num_rows, results.num_written) == (3, 1)
    assert [record.clip for record in read_records(path)] == ["a.mp4", "bad.mp4", "b.mp4"]
    assert not list(tmp_path.glob("*.lock"))


@every_format
def test_failed_rows_are_retried_on_request_and_replaced(tmp_path, suffix):
    path = tmp_path / f"r.{suffix}"
    write(path, failed("bad.mp4", "s1"), good("a.mp4"))
    with open_results(path, FP, retry_failed=True) as results:
        assert results.has("a.mp4", "s1")
        assert not results.has("bad.mp4", "s1")
        results.write(good("bad.mp4", score=0.5))
        assert (results.num_rows, results.num_failed()) == (2, 0)
    assert list(scores(path).items()) == [("bad.mp4", 0.5), ("a.mp4", 1.25)]
    if suffix in ("jsonl", "csv"):
        assert len(path.read_text().splitlines()) == (2 if suffix == "jsonl" else 3)


@every_format
def test_a_changed_clip_replaces_its_old_row(tmp_path, suffix):
    path = tmp_path / f"r.{suffix}"
    write(path, good("a.mp4", "s1", 1.0))
    write(path, good("a.mp4", "s2", 2.0))
    assert [(r.sha256, r.score) for r in read_records(path)] == [("s2", 2.0)]


@every_format
def test_rows_of_other_settings_are_not_mixed(tmp_path, suffix):
    path = tmp_path / f"r.{suffix}"
    write(path, good())
    before = path.read_bytes()
    with pytest.raises(ResultsError, match=r"other settings \(f1, now f2\).*--fresh"):
        open_results(path, "f2")
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_a_record_of_other_settings_is_a_bug(tmp_path):
    with open_results(tmp_path / "r.jsonl", "f2") as results, pytest.raises(ValueError, match="f1"):
        results.write(good())


@every_format
def test_fresh_replaces_the_old_file_with_the_first_new_row(tmp_path, suffix):
    path = tmp_path / f"r.{suffix}"
    write(path, good("old.mp4"))
    before = path.read_bytes()
    with open_results(path, "f2", fresh=True) as results:
        assert not results.has("old.mp4", "s1")
        assert path.read_bytes() == before
    assert path.read_bytes() == before  # nothing new came
    with open_results(path, "f2", fresh=True) as results:
        results.write(replace(good("new.mp4"), model={"fingerprint": "f2"}))
        assert not path.exists() or path.read_bytes() != before
    assert list(scores(path)) == ["new.mp4"]
    assert os.listdir(tmp_path) == [path.name]


# --- after a kill ----------------------------------------------------------------------------


@line_formats
def test_a_last_line_that_was_cut_anywhere_is_dropped(tmp_path, suffix):
    path = tmp_path / f"r.{suffix}"
    write(path, good("größe.mp4"))
    whole = path.read_bytes()
    write(path, good("öl.mp4"))
    both = path.read_bytes()
    for cut in range(len(whole) + 1, len(both) - 1, 7):
        path.write_bytes(both[:cut])
        with open_results(path, FP) as results:
            assert list(results.notices) == [f"{path}: the last line was cut short and is dropped"]
            assert path.read_bytes() == whole
            results.write(good("öl.mp4"))
        assert path.read_bytes() == both


def test_a_json_row_that_only_lacks_its_line_end_is_kept(tmp_path):
    path = tmp_path / "r.jsonl"
    write(path, good())
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    write(path, good("b.mp4"))
    assert list(scores(path)) == ["a.mp4", "b.mp4"]


@line_formats
def test_a_first_line_that_was_cut(tmp_path, suffix):
    path = tmp_path / f"r.{suffix}"
    write(path, good())
    path.write_bytes(path.read_bytes()[:30])
    write(path, good("b.mp4"))
    assert list(scores(path)) == ["b.mp4"]


@every_format
def test_a_killed_run_leaves_its_rows_and_no_lock_that_holds(tmp_path, suffix):
    path = tmp_path / f"r.{suffix}"
    program = (
        "import os, signal, sys\n"
        "from omni_msa.files.results import open_results\n"
        "from omni_msa.files.record import Record\n"
        f"results = open_results({str(path)!r}, {FP!r})\n"
        f"results.write(Record('a.mp4', 's1', 0.5, model={{'fingerprint': {FP!r}}}))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / f"r.{suffix}.lock").exists()
    with open_results(path, FP) as results:
        assert results.has("a.mp4", "s1")
        results.write(good("b.mp4"))
    assert scores(path) == {"a.mp4": 0.5, "b.mp4": 1.25}
    assert os.listdir(tmp_path) == [path.name]


@every_format
def test_an_interrupt_saves_what_was_finished(tmp_path, suffix):
    path = tmp_path / f"r.{suffix}"
    with pytest.raises(KeyboardInterrupt), open_results(path, FP) as results:
        results.write(good())
        raise KeyboardInterrupt
    assert list(scores(path)) == ["a.mp4"]
    results.close()  # a second time does nothing


# --- rows of clips that are no longer named --------------------------------------------------


@every_format
def test_rows_of_other_clips_are_named_and_removed_on_request(tmp_path, suffix):
    path = tmp_path / f"r.{suffix}"
    write(path, good("a.mp4"), failed("gone.mp4"), good("old.mp4"), good("b.mp4"))
    names = ["b.mp4", "new.mp4", "a.mp4"]
    with open_results(path, FP) as results:
        assert results.stale(names) == ["gone.mp4", "old.mp4"]
        assert (results.num_failed(), results.num_failed(names)) == (1, 0)
        results.write(good("new.mp4"))
        results.put_in_order(names)
        assert results.prune(names) == 2
        assert results.stale(names) == [] and results.num_rows == 3
    assert [record.clip for record in read_records(path)] == names
    before = path.read_bytes()
    with open_results(path, FP) as results:
        results.put_in_order(names)
        assert results.prune(names) == 0
    assert path.read_bytes() == before


@every_format
def test_words_are_left_out_on_request(tmp_path, suffix):
    path = tmp_path / f"r.{suffix}"
    write(path, replace(good(), text="secret"), keeps_words=False)
    assert read_records(path)[0].text is None and b"secret" not in path.read_bytes()


# --- one writer ------------------------------------------------------------------------------


def test_one_process_opens_a_file_once(tmp_path):
    with open_results(tmp_path / "r.csv", FP), pytest.raises(ResultsError, match="in use"):
        open_results(tmp_path / "sub" / ".." / "r.csv", FP)
    open_results(tmp_path / "r.csv", FP).close()


def test_another_process_does_not_get_in(tmp_path):
    path = tmp_path / "r.jsonl"
    program = (
        "import sys\n"
        "from omni_msa.errors import ResultsError\n"
        "from omni_msa.files.results import open_results\n"
        "try:\n"
        f"    open_results({str(path)!r}, {FP!r})\n"
        "except ResultsError as error:\n"
        "    sys.exit(str(error))\n"
    )
    with open_results(path, FP):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert "in use by another run" in done.stderr


# --- files that are not ours, or cannot be written -------------------------------------------


FOREIGN = [
    ("r.jsonl", b"hello\n"),
    ("r.jsonl", b"hello"),
    ("r.jsonl", b'{"clip": "a.mp4", "text": "a manifest"}\n'),
    ("r.jsonl", b'{"clip": "a.mp4", "text": "a manifest"}'),
    ("r.jsonl", b"[1]\n"),
    ("r.jsonl", b"\xff\xfe\n"),
    ("r.csv", b"clip,text\na.mp4,a manifest\n"),
    ("r.csv", b"hello"),
    ("r.parquet", b"hello"),
    *((f"r.{suffix}", b"hello") for suffix in XLSX),
]


@pytest.mark.parametrize(("name", "content"), FOREIGN)
def test_files_that_are_not_ours_stay_untouched(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ResultsError, match="--fresh"):
        open_results(path, FP)
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == [name]
    with pytest.raises(ResultsError):
        read_records(path)
    write(path, good(), fresh=True)
    assert list(scores(path)) == ["a.mp4"]


def test_a_parquet_file_with_other_columns(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"clip": ["a.mp4"]}), tmp_path / "r.parquet")
    with pytest.raises(ResultsError, match="has other columns"):
        open_results(tmp_path / "r.parquet", FP)


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
    path = tmp_path / "r.jsonl"
    write(path, good("a.mp4"), good("b.mp4"))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "garbage", lines[1]]) + "\n")
    with pytest.raises(ResultsError, match="line 2 is no row"):
        open_results(path, FP)


@every_format
def test_an_empty_file_is_a_new_file(tmp_path, suffix):
    path = tmp_path / f"r.{suffix}"
    if suffix in ("parquet", "xlsx"):
        path = tmp_path / "sub" / f"r.{suffix}"  # an empty table is damaged: see FOREIGN
    else:
        path.write_bytes(b"")
    write(path, good())
    assert list(scores(path)) == ["a.mp4"]


@pytest.mark.parametrize("name", ["r.json", "r", "r.xls"])
def test_other_formats_are_refused_with_the_allowed_ones(tmp_path, name):
    with pytest.raises(ResultsError, match=r"results end in one of \.jsonl, \.csv, \.parquet"):
        open_results(tmp_path / name, FP)
    assert os.listdir(tmp_path) == []


def test_a_folder_is_refused(tmp_path):
    (tmp_path / "r.csv").mkdir()
    with pytest.raises(ResultsError, match="is a folder"):
        open_results(tmp_path / "r.csv", FP)


def test_one_missing_folder_is_made_and_more_is_a_typing_error(tmp_path):
    write(tmp_path / "new" / "r.jsonl", good())
    with pytest.raises(ResultsError, match=rf"there is no folder {tmp_path}/nwe; correct -o"):
        open_results(tmp_path / "nwe" / "deep" / "r.jsonl", FP)
    assert os.listdir(tmp_path) == ["new"]
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ResultsError, match="cannot be written here"):
        open_results(tmp_path / "file" / "r.jsonl", FP)


@pytest.mark.skipif(os.geteuid() == 0, reason="the super-user may write everywhere")
def test_a_folder_without_rights_is_refused_before_anything_runs(tmp_path):
    os.chmod(tmp_path, 0o500)
    try:
        with pytest.raises(ResultsError, match="cannot be written here"):
            open_results(tmp_path / "r.jsonl", FP)
    finally:
        os.chmod(tmp_path, 0o700)


@line_formats
def test_a_full_disk_leaves_whole_lines(tmp_path, suffix):
    resource = pytest.importorskip("resource")
    path = tmp_path / f"r.{suffix}"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with open_results(path, FP) as results:
        results.write(good())
        whole = path.read_bytes()
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 50, limits[1]))
        try:
            with pytest.raises(ResultsError, match="cannot be written"):
                results.write(good("b.mp4"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, previous)
        assert path.read_bytes() == whole
        results.write(good("b.mp4"))
    assert list(scores(path)) == ["a.mp4", "b.mp4"]


def test_a_path_with_an_equals_sign_adds_no_column(tmp_path):
    path = tmp_path / "year=2024" / "r.parquet"
    write(path, good())
    write(path, good("b.mp4"))
    assert list(scores(path)) == ["a.mp4", "b.mp4"]


def test_a_missing_results_file(tmp_path):
    for suffix in FORMATS:
        with pytest.raises(ResultsError, match="cannot be read"):
            read_records(tmp_path / f"r.{suffix}")
    with pytest.raises(ResultsError, match="results end in"):
        read_records(tmp_path / "r.txt")


# --- what identifies a clip ------------------------------------------------------------------


def test_the_hash_of_a_file_is_the_hash_of_its_bytes(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"abc")
    expected = hashlib.sha256(b"abc").hexdigest()
    assert content_sha256(path) == clip_sha256(Clip(path=path)) == expected
    assert content_sha256(tmp_path / "gone.mp4") is None
    assert content_sha256(tmp_path) is None
    assert clip_sha256(Clip(path=tmp_path / "gone.mp4", transcript="x")) is None
