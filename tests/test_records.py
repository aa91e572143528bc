"""Heart records: what is in a file is what is read, at one rate; what is wrong with it is said."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from omni_msa.errors import MediaError
from omni_msa.media.record_files import LEADS, lead_of, read_file
from omni_msa.media.records import read_record
from omni_msa.values import TRACE_RATE, Traces

RATE = 250.0
NAMES = ["MLII", "V1"]


def wave(seconds=6.0, rate=RATE, hertz=5.0):
    """Millivolts of two leads: a tone within the band, on a slow drift and an offset."""
    time = np.arange(round(seconds * rate)) / rate
    tone = np.sin(2 * np.pi * hertz * time)
    return np.stack([tone + 2.0 + 0.01 * time, 0.5 * tone], axis=1)


def write_wfdb(folder, signals=None, rate=RATE, names=NAMES, units=("mV", "mV"), **more):
    wfdb = pytest.importorskip("wfdb", reason="the extra ecg is not installed")
    signals = wave(rate=rate) if signals is None else signals
    fmt = more.pop("fmt", ["16"] * signals.shape[1])
    wfdb.wrsamp(
        "rec", fs=rate, units=list(units), sig_name=list(names), p_signal=signals, fmt=fmt,
        write_dir=str(folder), **more,
    )  # fmt: skip
    return folder / "rec.hea"


def write_edf(folder, signals=None, rate=RATE, names=NAMES, units=("mV", "mV"), rates=None):
    pyedflib = pytest.importorskip("pyedflib", reason="the extra ecg is not installed")
    signals = wave(rate=rate) if signals is None else signals
    path = folder / "rec.edf"
    rates = rates or [rate] * len(names)
    headers = [
        {
            "label": name, "dimension": unit, "sample_frequency": hertz, "physical_min": -8.0,
            "physical_max": 8.0, "digital_min": -32768, "digital_max": 32767, "transducer": "",
            "prefilter": "",
        }
        for name, unit, hertz in zip(names, units, rates, strict=True)
    ]  # fmt: skip
    with pyedflib.EdfWriter(str(path), len(names), pyedflib.FILETYPE_EDF) as file:
        file.setSignalHeaders(headers)
        columns = [
            np.ascontiguousarray(column[:: round(rate / hertz)])
            for column, hertz in zip(signals.T, rates, strict=True)
        ]
        file.writeSamples(columns)
    return path


def write_table(folder, signals=None, rate=RATE, names=NAMES, suffix=".csv", time=None):
    signals = wave(rate=rate) if signals is None else signals
    time = np.arange(len(signals)) / rate if time is None else time
    table = pa.table({"time": time, **dict(zip(names, signals.T, strict=True))})
    path = folder / f"rec{suffix}"
    (csv.write_csv if suffix == ".csv" else parquet.write_table)(table, path)
    return path


WRITERS = {
    "wfdb": write_wfdb,
    "edf": lambda folder, **more: write_edf(folder, **more),
    "csv": write_table,
    "parquet": lambda folder, **more: write_table(folder, suffix=".parquet", **more),
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("rate", [100.0, 250.0, 500.0])
def test_each_format_gives_the_same_leads(tmp_path, kind, rate):
    path = WRITERS[kind](tmp_path, rate=rate)
    reading = read_record(path)
    assert reading.traces.leads == ("II", "V1")
    assert len(reading.traces.values) == 600 and reading.traces.duration_seconds == 6.0
    tone = np.sin(2 * np.pi * 5 * np.arange(600) / TRACE_RATE)
    inside = slice(100, 500)  # of the edges, the filter knows one side
    scale = 0.03
    np.testing.assert_allclose(reading.traces.values[inside, 0], tone[inside], atol=scale)
    np.testing.assert_allclose(reading.traces.values[inside, 1], 0.5 * tone[inside], atol=scale)
    assert reading.facts == {
        "ecg_format": kind, "ecg_leads": ["II", "V1"], "ecg_rate_in_file": rate,
        "ecg_seconds": 6.0,
    }  # fmt: skip
    assert reading.warnings == ()


@pytest.mark.parametrize("kind", WRITERS)
def test_a_window_is_a_part(tmp_path, kind):
    path = WRITERS[kind](tmp_path)
    whole, part = read_file(path), read_file(path, (1.0, 3.5))
    for a, b in zip(whole.channels, part.channels, strict=True):
        np.testing.assert_array_equal(a.millivolts[250:875], b.millivolts)
    with pytest.raises(MediaError, match="the record ends at 6.00 s") as caught:
        read_file(path, (6.0, None))
    assert caught.value.code == "window"


@pytest.mark.parametrize(
    ("label", "lead"),
    [("ii", "II"), ("MLII", "II"), ("ECG I", "I"), ("EKG-V1", "V1"), ("avr", "aVR"),
     ("ECG aVF-Ref", "aVF"), ("lead iii", "III"), ("V7", None), ("ABP", None), ("", None)],
)  # fmt: skip
def test_leads_by_their_labels(label, lead):
    assert lead_of(label) == lead


def test_leads_come_in_their_order_whatever_the_files(tmp_path):
    signals = np.repeat(wave()[:, 1:], 12, axis=1)
    path = write_table(tmp_path, signals, names=list(reversed(LEADS)))
    assert read_record(path).traces.leads == LEADS


def test_units_are_converted(tmp_path):
    names = ["II_uV", "V1 (mV)", "V2_V", "V3 [nV]"]
    millivolts = wave()[:, 1]
    signals = np.stack([millivolts * f for f in (1e3, 1.0, 1e-3, 1e6)], axis=1)
    record = read_file(write_table(tmp_path, signals, names=names))
    assert [channel.name for channel in record.channels] == ["II", "V1", "V2", "V3"]
    for channel in record.channels:
        np.testing.assert_allclose(channel.millivolts, millivolts, atol=1e-9)


def test_what_is_no_voltage_or_no_lead_is_said(tmp_path):
    signals = np.repeat(wave(), 2, axis=1)
    path = write_wfdb(
        tmp_path, signals, names=["MLII", "V1", "ABP", "EEG"], units=["mV", "uV", "mmHg", "mV"]
    )
    reading = read_record(path)
    assert reading.traces.leads == ("II", "V1")
    text = " ".join(reading.warnings)
    assert "no voltage were left out: ABP (mmHg)" in text and "no known lead were left out" in text


def test_a_single_channel_of_another_name_is_taken_for_lead_ii(tmp_path):
    reading = read_record(write_table(tmp_path, wave()[:, :1], names=["watch"]))
    assert reading.traces.leads == ("II",)
    assert "channel 'watch' is no known lead: taken for lead II" in reading.warnings
    with pytest.raises(MediaError, match="no lead of a known name"):
        read_record(write_table(tmp_path, wave(), names=["left", "right"]))


def test_gaps_flat_leads_and_strange_voltages_are_said(tmp_path):
    signals = np.repeat(wave()[:, 1:], 4, axis=1)
    signals[100:120, 0] = np.nan  # 0.08 s: bridged
    signals[500:1000, 1] = np.nan
    signals[:700, 2] = 0.25
    signals[:, 3] *= 100
    reading = read_record(write_table(tmp_path, signals, names=["I", "II", "III", "V1"]))
    assert sorted(reading.warnings) == [
        "lead II: 2.0 s are missing, and zero",
        "lead III: flat for 2.8 s",
        "lead V1: beyond 20 mV; is its unit right?",
    ]
    assert (reading.traces.values[200:400, 1] == 0).all()
    assert np.abs(reading.traces.values[40:48, 0]).max() > 0.1


def test_numbers_that_are_no_voltage_are_missing(tmp_path):
    signals = wave()
    signals[500:1000, 0], signals[1000, 0] = 1e300, np.inf
    reading = read_record(write_table(tmp_path, signals))
    assert reading.warnings == ("lead II: 2.0 s are missing, and zero",)
    assert np.abs(reading.traces.values).max() < 3


def test_a_low_rate_is_said(tmp_path):
    reading = read_record(write_table(tmp_path, rate=50.0))
    assert reading.warnings == ("upscaled from 50 to 100 samples a second",)
    assert len(reading.traces.values) == 600


def test_traces_are_stored_and_restored(tmp_path):
    traces = read_record(write_table(tmp_path)).traces
    arrays, about = traces.store()
    again = Traces.restore(arrays, about)
    assert again.leads == traces.leads and again.source == traces.source == "rec.csv"
    np.testing.assert_array_equal(again.values, traces.values)


def broken(tmp_path, kind):
    """Files with one thing wrong each, and what is said of it."""
    if kind == "no signal file":
        path = write_wfdb(tmp_path)
        (tmp_path / "rec.dat").unlink()
        return path, "signal file 'rec.dat' is not beside it"
    if kind == "another folder":
        path = write_wfdb(tmp_path)
        path.write_text(path.read_text().replace("rec.dat", "../rec.dat"))
        return path, "is not beside it|invalid syntax"
    if kind == "cut signal file":
        path = write_wfdb(tmp_path)
        data = (tmp_path / "rec.dat").read_bytes()
        (tmp_path / "rec.dat").write_bytes(data[: len(data) // 2])
        return path, "damaged or cut short"
    if kind == "header of nothing":
        path = write_wfdb(tmp_path)
        path.write_text("nothing\n")
        return path, "damaged or cut short"
    if kind == "rate":
        path = write_wfdb(tmp_path)
        path.write_text(path.read_text().replace("rec 2 250", "rec 2 1"))
        return path, "hearts are recorded at 50 to 10,?000 Hz"
    if kind == "too many samples":
        path = write_wfdb(tmp_path)
        path.write_text(path.read_text().replace("250 1500", "250 9999999999"))
        return path, "are read: give it in parts"
    if kind == "cut edf":
        path = write_edf(tmp_path)
        path.write_bytes(path.read_bytes()[:-700])
        return path, "damaged or cut short .*where its header says"
    path = tmp_path / "rec.csv"
    text, message = {
        "no time": ("I,II\n1,2\n", "no column of time"),
        "uneven": ("time,I\n0,1\n0.01,2\n0.5,3\n", "its time is not even"),
        "backwards": ("time,I\n0.02,1\n0.01,2\n", "does not rise"),
        "words": ("time,I\n0,a\n0.01,b\n", "leads are numbers"),
        "empty": ("", "no table|empty"),
        "short": ("time,I\n0,1\n0.01,2\n", "too short"),
        "still": ("time,I\n" + "".join(f"{i / 100},0\n" for i in range(300)), "shows anything"),
    }[kind]
    path.write_text(text)
    return path, message


KINDS = [
    "no signal file", "another folder", "cut signal file", "header of nothing", "rate",
    "too many samples", "cut edf", "no time", "uneven", "backwards", "words", "empty", "short",
    "still",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_read_is_one_line(tmp_path, kind):
    path, message = broken(tmp_path, kind)
    with pytest.raises(MediaError, match=message) as caught:
        read_record(path)
    assert str(caught.value).startswith(str(tmp_path)) and "\n" not in str(caught.value)


def test_a_file_of_another_kind(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(MediaError, match="is no heart record; those end in .hea, .edf, .csv"):
        read_record(tmp_path / "a.txt")
    with pytest.raises(MediaError, match="no such file"):
        read_record(tmp_path / "none.edf")


@pytest.mark.parametrize("label", ["MLII", "ECG lead II", "ekg_II", "Lead II", "II-Ref"])
def test_a_lead_has_many_names(label):
    assert lead_of(label) == "II"


def test_an_edf_file_says_what_else_it_holds(tmp_path):
    record = read_file(write_edf(tmp_path, names=["ECG II", "Resp"]))
    assert [c.name for c in record.channels] == ["ECG II"] and "Resp" in str(record.warnings)
    only = read_file(write_edf(tmp_path, names=["EEG Fpz", "ECG"], rates=[RATE, RATE / 2]))
    assert [c.name for c in only.channels] == ["ECG"] and "EEG Fpz" in str(only.warnings)


def test_a_unit_stands_behind_a_name(tmp_path):
    signals = 1000 * wave()
    path = write_table(tmp_path, signals, names=["II uV", "V1_uV"])
    record = read_file(path)
    assert [c.name for c in record.channels] == ["II", "V1"]
    assert np.abs(record.channels[0].millivolts - signals[:, 0] / 1000).max() < 1e-6


@pytest.mark.parametrize(("rate", "digits"), [(360.0, 3), (500.0, 3), (128.0, 4)])
def test_times_may_be_rounded_and_not_skip(tmp_path, rate, digits):
    time = np.round(np.arange(round(6 * rate)) / rate, digits)
    path = write_table(tmp_path, wave(rate=rate), rate, time=time)
    assert read_file(path).rate == pytest.approx(rate, rel=1e-3)
    time[100:] += 1 / rate  # a row is missing
    with pytest.raises(MediaError, match="not even"):
        read_file(write_table(tmp_path, wave(rate=rate), rate, time=time))


def test_a_lead_without_a_number_is_as_long_as_the_others(tmp_path):
    signals = wave(seconds=336 / 128, rate=128.0)
    signals[:, 0] = np.nan
    reading = read_record(write_table(tmp_path, signals, 128.0))
    assert reading.traces.values.shape[1] == 2 and not reading.traces.values[:, 0].any()
