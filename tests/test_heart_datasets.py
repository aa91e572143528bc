"""PTB-XL and CPSC2018: small releases in their own layouts, as the rows of a manifest."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from heart_releases import (
    PTB_XL,
    STATEMENTS,
    cpsc_record,
    cpsc_reference,
    cpsc_wfdb,
    imported_rows,
    millivolts,
    ptb_xl_release,
    ptb_xl_row,
)
from releases import notice, table

from omni_msa.errors import ManifestError
from omni_msa.files.importers.cpsc2018 import split_of
from omni_msa.media.record_files import LEADS, read_file

# --- PTB-XL ----------------------------------------------------------------------------------


def ptb_xl_rows():
    return [
        ptb_xl_row(1, fold=1),
        ptb_xl_row(2, "{'CLBBB': 100.0, 'IMI': 0.0, 'SR': 0.0}", fold=8),
        ptb_xl_row(3, "{'LAO/LAE': 50.0, 'NDT': 15.0}", fold=9),
        ptb_xl_row(4, "{'NORM': 80.0}", fold=10),
    ]


def problems_of(name, folder):
    with pytest.raises(ManifestError) as caught:
        imported_rows(name, folder)
    assert not (folder / "manifest.jsonl").exists()
    return str(caught.value)


@pytest.mark.parametrize("variant", [None, "500hz"])
def test_ptb_xl(tmp_path, variant):
    rows, report = imported_rows("ptb-xl", ptb_xl_release(tmp_path, ptb_xl_rows()), variant=variant)
    place = "records500/00000/0000{}_hr.hea" if variant else "records100/00000/0000{}_lr.hea"
    assert rows == [
        {"clip": place.format(number), "findings": findings, "split": split, "speaker": patient,
         "dataset": "ptb-xl"}
        for number, findings, split, patient in [
            (1, ["NORM"], "train", "501"),
            (2, ["MI", "CD"], "train", "502"),  # a likelihood of 0 counts too
            (3, ["STTC", "HYP"], "valid", "503"),
            (4, ["NORM"], "test", "504"),
        ]
    ]  # fmt: skip
    assert report.split_sizes == {"train": 2, "valid": 1, "test": 1}
    assert notice(report, "whatever its likelihood") and notice(report, "1 to 8 train, 9 valid")
    assert notice(report, "not the published ones: train 2 (published: 17084)")
    assert len(report.notices) == 3


def test_records_of_ptb_xl_are_read(tmp_path):
    pytest.importorskip("wfdb", reason="the extra ecg is not installed")
    rows, _ = imported_rows("ptb-xl", ptb_xl_release(tmp_path, [ptb_xl_row(1)]))
    raw = read_file(tmp_path / rows[0]["clip"])
    assert (raw.rate, [c.name for c in raw.channels]) == (100.0, list(LEADS))
    values = np.stack([c.millivolts for c in raw.channels], axis=1)
    np.testing.assert_allclose(values, millivolts(1)[::5], atol=0.0011)


def test_ptb_xl_records_without_a_superclass_are_counted(tmp_path):
    rows = [ptb_xl_row(1), ptb_xl_row(2, "{'SR': 0.0, 'LVOLT': 0.0}"), ptb_xl_row(3, "{}")]
    rows, report = imported_rows("ptb-xl", ptb_xl_release(tmp_path, rows))
    assert len(rows) == 1
    assert notice(report, "superclass are").startswith("2 records without")


@pytest.mark.parametrize(
    "code",
    [
        "__import__('pathlib').Path('{}').touch()",
        "{{'NORM': __import__('pathlib').Path('{}').touch()}}",
        "NORM",
        "['NORM']",
        "{{1: 100.0}}",
        "(" * 1_500,
        "-" * 1_900 + "1",
        "{{" * 800 + "}}" * 800,
        "{{'NORM': 1.0" + ", 'NORM': 1.0" * 1_000 + "}}",
        "{{'NORM': 1.0\x00}}",
    ],
)
def test_a_cell_that_is_no_dictionary_is_refused_and_nothing_of_it_is_run(tmp_path, code):
    trap = tmp_path / "run"
    folder = ptb_xl_release(tmp_path, [ptb_xl_row(1, code.format(trap))])
    message = problems_of("ptb-xl", folder)
    assert "line 2, scp_codes: " in message and "is not like {'NORM': 100.0" in message
    assert not trap.exists() and len(message) < 500


def test_all_bad_rows_of_ptb_xl_are_reported_at_once(tmp_path):
    rows = [
        ptb_xl_row(1, fold=11),
        ptb_xl_row(2, fold=0),
        ptb_xl_row(3, "{'XYZ': 100.0, 'NORM': 0.0}"),
        ptb_xl_row(4, patient=""),
        ptb_xl_row(5, ""),
        ptb_xl_row(6)[:-1],
        ptb_xl_row(7),
    ]
    folder = ptb_xl_release(tmp_path, [ptb_xl_row(1)])
    rows[6][-2] = "../secret_lr"
    table(folder / "ptbxl_database.csv", PTB_XL, rows)
    head, *lines = problems_of("ptb-xl", folder).split("\n  ")
    assert head == f"{folder}: 7 problem(s), nothing was imported"
    folds = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10"
    assert sorted(lines) == [
        f"ptbxl_database.csv, line 2, strat_fold: '11' is not one of {folds}",
        f"ptbxl_database.csv, line 3, strat_fold: '0' is not one of {folds}",
        "ptbxl_database.csv, line 4, scp_codes: XYZ not in scp_statements.csv",
        "ptbxl_database.csv, line 5, patient_id: is empty",
        "ptbxl_database.csv, line 6, scp_codes: is empty",
        "ptbxl_database.csv, line 7: has 27 cells where the header has 28",
        "ptbxl_database.csv, line 8, filename_lr: '../secret_lr' is not in the release's folder",
    ]


def test_a_class_that_is_no_superclass(tmp_path):
    statements = [*STATEMENTS, ["BAD", "", "1.0", "", "", "Heart", ""]]
    message = problems_of("ptb-xl", ptb_xl_release(tmp_path, [ptb_xl_row(1)], statements))
    assert "scp_statements.csv, line 9, diagnostic_class: 'heart' is not one of norm" in message


def test_records_that_are_missing_or_cut_short(tmp_path):
    folder = ptb_xl_release(tmp_path, [ptb_xl_row(number) for number in range(1, 6)])
    place = folder / "records100" / "00000"
    (place / "00001_lr.hea").unlink()
    (place / "00002_lr.dat").unlink()
    data = (place / "00003_lr.dat").read_bytes()
    (place / "00003_lr.dat").write_bytes(data[:-1])
    (place / "00004_lr.hea").write_text("nothing\n")
    rows, report = imported_rows("ptb-xl", folder)
    assert [row["clip"] for row in rows] == ["records100/00000/00005_lr.hea"]
    assert notice(report, "1 files are missing").endswith("00001_lr.hea")
    assert "signal file '00002_lr.dat' is not beside it" in notice(report, "00002_lr")
    assert "00003_lr.dat has 5,999 bytes, where its header says 6,000" in notice(report, "00003")
    assert "damaged or cut short" in notice(report, "00004_lr")
    rows, report = imported_rows("ptb-xl", folder, check_media=False)
    assert len(rows) == 4


def test_the_same_samples_in_two_splits_are_named(tmp_path):
    folder = ptb_xl_release(tmp_path, [ptb_xl_row(1), ptb_xl_row(2, fold=10), ptb_xl_row(3)])
    place = folder / "records100" / "00000"
    shutil.copyfile(place / "00001_lr.dat", place / "00002_lr.dat")  # the headers differ
    _, report = imported_rows("ptb-xl", folder)
    assert "1 (train) = 2 (test)" in notice(report, "more than one split")


def test_a_patient_in_two_folds_is_said(tmp_path):
    rows = [ptb_xl_row(1, patient="9.0"), ptb_xl_row(2, fold=9, patient="9.0"), ptb_xl_row(3)]
    _, report = imported_rows("ptb-xl", ptb_xl_release(tmp_path, rows))
    line = notice(report, "speakers occur")
    assert line == "1 of 2 speakers occur in more than one split, for example 9 in train, valid"


@pytest.mark.parametrize("missing", ["ptbxl_database.csv", "scp_statements.csv"])
def test_ptb_xl_in_another_layout(tmp_path, missing):
    (ptb_xl_release(tmp_path, [ptb_xl_row(1)]) / missing).unlink()
    message = problems_of("ptb-xl", tmp_path)
    assert (
        "is not laid out as PTB-XL is released" in message and f"{missing} (not found)" in message
    )


# --- CPSC2018 --------------------------------------------------------------------------------


def test_cpsc2018(tmp_path):
    labels = {"A0001": [5], "A0002": [1], "A0953": [6, 6], "A1236": [9, 5, 6]}
    for number, name in enumerate(labels):
        cpsc_record(tmp_path / f"TrainingSet{number % 3 + 1}" / "sub" / f"{name}.mat", seed=number)
    cpsc_reference(tmp_path / "REFERENCE.csv", labels)
    cpsc_reference(tmp_path / "TrainingSet1" / "REFERENCE.csv", {"A0001": [5]})  # counts once
    rows, report = imported_rows("cpsc2018", tmp_path)
    assert [row.pop("split") for row in rows] == [split_of(name) for name in labels]
    assert rows == [
        {"clip": f"TrainingSet{place}/sub/{name}.mat", "findings": findings, "dataset": "cpsc2018"}
        for name, place, findings in [
            ("A0001", 1, ["RBBB"]),
            ("A0002", 2, ["Normal"]),
            ("A0953", 3, ["PAC"]),
            ("A1236", 1, ["RBBB", "PAC", "STE"]),
        ]
    ]
    assert notice(report, "speakers: not known")
    assert "by a hash of the record's name" in notice(report, "the split is ours")


def test_the_split_of_cpsc2018_is_the_same_for_ever():
    assert [split_of(name) for name in ("A0001", "A0002", "A0004")] == ["train", "valid", "train"]
    parts = [split_of(f"A{number:04d}") for number in range(1, 6878)]
    assert [parts.count(part) for part in ("train", "valid", "test")] == [4859, 660, 1358]


def test_cpsc2018_as_physionet_gives_it(tmp_path):
    codes = "426783006 164889003 270492004 164909002 59118001 284470004 164884008 429622005"
    codes = [*codes.split(), "164931005"]
    for number, code in enumerate(codes):
        cpsc_wfdb(tmp_path / "g1", f"A000{number + 1}", code, seed=number)
    cpsc_wfdb(tmp_path / "g2", "A0010", "59118001,164889003", seed=10)
    cpsc_wfdb(tmp_path / "extra", "Q0001", "10370003")  # of another set
    rows, _ = imported_rows("cpsc2018", tmp_path)
    assert [row["clip"] for row in rows] == [
        *(f"g1/A000{number}.hea" for number in range(1, 10)),
        "g2/A0010.hea",
    ]
    names = ["Normal", "AF", "I-AVB", "LBBB", "RBBB", "PAC", "PVC", "STD", "STE"]
    assert [row["findings"] for row in rows] == [*([name] for name in names), ["AF", "RBBB"]]


def test_both_forms_of_a_cpsc_record_give_the_same_millivolts(tmp_path):
    pytest.importorskip("wfdb", reason="the extra ecg is not installed")
    one = read_file(cpsc_record(tmp_path / "a" / "A0001.mat"))
    two = read_file(cpsc_wfdb(tmp_path / "b", "A0001", "59118001"))
    assert (one.rate, [c.name for c in one.channels]) == (500.0, list(LEADS))
    assert (two.rate, [c.name for c in two.channels]) == (500.0, list(LEADS))
    for a, b in zip(one.channels, two.channels, strict=True):
        np.testing.assert_allclose(a.millivolts, b.millivolts, atol=0.0011)


def test_labels_of_the_table_go_with_records_under_headers(tmp_path):
    cpsc_wfdb(tmp_path, "A0001", "59118001")
    cpsc_reference(tmp_path / "REFERENCE.csv", {"A0001": [2]})
    rows, _ = imported_rows("cpsc2018", tmp_path)
    assert [(row["clip"], row["findings"]) for row in rows] == [("A0001.hea", ["AF"])]


def test_all_bad_labels_of_cpsc2018_are_reported_at_once(tmp_path):
    labels = {"A0001": [0], "A0002": [1, 10], "A0003": [""], "../x": [1], "A0004": ["AF"]}
    cpsc_reference(tmp_path / "REFERENCE.csv", labels)
    cpsc_reference(tmp_path / "z" / "REFERENCE.csv", {"A0002": [2]})
    head, *lines = problems_of("cpsc2018", tmp_path).split("\n  ")
    assert head.endswith("6 problem(s), nothing was imported")
    numbers = "1, 2, 3, 4, 5, 6, 7, 8, 9"
    assert sorted(lines) == [
        f"REFERENCE.csv, line 2, First_label: '0' is not one of {numbers}",
        "REFERENCE.csv, line 2, Recording: A0002 has other labels in a row before",
        f"REFERENCE.csv, line 3, Second_label: '10' is not one of {numbers}",
        "REFERENCE.csv, line 4, First_label: is empty",
        "REFERENCE.csv, line 5, Recording: '../x' is no record's name, such as A0001",
        f"REFERENCE.csv, line 6, First_label: 'AF' is not one of {numbers}",
    ]


def test_headers_without_diagnoses_that_are_known(tmp_path):
    cpsc_wfdb(tmp_path, "A0001", "59118001,12")
    header = cpsc_wfdb(tmp_path, "A0002", "59118001")
    header.write_text(header.read_text().replace("#Dx", "#Rx"))
    _, *lines = problems_of("cpsc2018", tmp_path).split("\n  ")
    assert lines[0].startswith("A0001.hea, #Dx: '12' is not one of 426783006, 164889003")
    assert lines[1] == "A0002.hea, #Dx: is empty"


def test_cpsc_records_that_are_missing_damaged_or_unlabelled(tmp_path):
    for number in (1, 2, 3):
        path = cpsc_record(tmp_path / f"A000{number}.mat", seed=number)
    path.write_bytes(path.read_bytes()[:-500])
    cpsc_reference(tmp_path / "REFERENCE.csv", {"A0001": [1], "A0003": [1], "A0004": [1]})
    rows, report = imported_rows("cpsc2018", tmp_path)
    assert [row["clip"] for row in rows] == ["A0001.mat"]
    assert notice(report, "have no labels").startswith("1 records")
    assert notice(report, "1 files are missing").endswith("A0004.mat")
    assert "damaged or cut short" in notice(report, "A0003.mat")


@pytest.mark.parametrize("with_record", [False, True])
def test_cpsc2018_in_another_layout(tmp_path, with_record):
    if with_record:
        cpsc_record(tmp_path / "A0001.mat")
    found = "found" if with_record else "not found"
    message = problems_of("cpsc2018", tmp_path)
    assert f"REFERENCE.csv (not found), A0001.mat ({found}), A0001.hea (not found)" in message
