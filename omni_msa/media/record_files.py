"""Heart records as files: WFDB (.hea), EDF (.edf), tables (.csv, .parquet) and MATLAB (.mat).

Each reader gives `RawRecord`s: channels in millivolts at the file's own rate, with what the file
calls them. Only the named file is opened, and of a WFDB record the signal files beside its header.
A table has a column of time in seconds (`time`, or `time_s`) and a column a lead, in millivolts or,
where its name ends so, in others: `II`, `V1_uV`, `V2 (mV)`.

Shapes: S samples.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from omni_msa.errors import MediaError, first_line
from omni_msa.foreign import printable
from omni_msa.media.container import check_regular, explain
from omni_msa.media.mat_file import read_matrix
from omni_msa.media.wfdb_header import WfdbHeader, read_header

MILLIVOLTS = {"mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "nv": 1e-6, "v": 1e3}  # of a unit
RATES = (50.0, 10_000.0)  # Hz: what a heart is recorded at
MAX_SAMPLES = 100_000_000  # of all channels of a file, before anything is read
MAX_SIGNALS = 512  # of an EDF file
MAX_TABLE_BYTES = 512 * 1024**2
MAT_RATE = 500.0  # Hz: a .mat file does not say it
UNEVEN = 0.3  # steps that a table's time may be off an even grid
TABLES = (".csv", ".parquet")
TIME_NAMES = ("time", "time_s", "seconds", "t")
EXTRA = "pip install 'omni-msa[ecg]'"
# What libraries raise on a file that was cut short or damaged, wherever the damage is.
DAMAGE = (
    OSError, ValueError, LookupError, TypeError, ArithmeticError, AttributeError, EOFError,
    RuntimeError, AssertionError,
)  # fmt: skip


LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
_LEADS = {lead.lower(): lead for lead in LEADS}


def lead_of(label: str) -> str | None:
    """The lead that a file's label means (`ECG II`, `MLII`, `avr`, `V1-Ref`), if it is one."""
    words = re.sub(r"^((ecg|ekg|lead)[\s:_-]*)+|[\s:_-]+(ref|le|lead)$", "", label.strip().lower())
    return _LEADS.get(re.sub(r"^ml(?=i)", "", words))


@dataclass(frozen=True)
class Channel:
    """One signal: float64 [S] in millivolts, NaN where there is none."""

    name: str
    millivolts: np.ndarray


@dataclass(frozen=True)
class RawRecord:
    """A file's channels that are voltages, at their own rate in Hz."""

    rate: float
    channels: tuple[Channel, ...]
    format: str
    warnings: tuple[str, ...] = ()


Window = tuple[float | None, float | None]
T = TypeVar("T")


def read_file(path: Path, window: Window = (None, None)) -> RawRecord:
    """The channels of a record within a time window [start, end) in seconds.

    Raises:
        MediaError: there is no such file, it is damaged, of another kind, too large, or at a rate
            that no heart is recorded at, or its format needs a package that is not installed.
    """
    record = _guarded(path, lambda: _reader(path)(path, window))
    if not record.channels:
        raise _error(path, "has no channel that is a voltage")
    return record


def check_file(path: Path) -> None:
    """Opens a record as far as shows whether it is whole: of WFDB, which comes in tens of
    thousands of files, the header and the sizes of its signal files; of others, all of it.

    Raises:
        MediaError: as `read_file` does.
    """
    if _reader(path) is read_wfdb:
        _guarded(path, lambda: _header(path))
    else:
        read_file(path)


def _reader(path: Path) -> Callable[[Path, Window], RawRecord]:
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise _error(
            path, f"is no heart record; those end in {', '.join(READERS)}", code="unsupported"
        )
    return reader


def _guarded(path: Path, read: Callable[[], T]) -> T:
    """What is read of a file; whatever is wrong with it is a `MediaError`."""
    check_regular(path)
    try:
        return read()
    except (MediaError, MemoryError):
        raise
    except (FileNotFoundError, PermissionError) as error:
        missing = Path(error.filename) if error.filename else path
        raise MediaError(explain(missing, error), code="missing") from error
    except DAMAGE as error:
        raise _error(path, f"is damaged or cut short ({printable(first_line(error))})") from error


def _error(path: Path, message: str, code: str = "damaged") -> MediaError:
    return MediaError(f"{path}: {message}", code=code)


def _check_rate(path: Path, rate: float) -> float:
    low, high = RATES
    if not low <= rate <= high:
        raise _error(
            path, f"has {rate:g} samples a second; hearts are recorded at {low:g} to {high:g} Hz"
        )
    return float(rate)


def _check_size(path: Path, samples: int) -> None:
    if not 0 < samples <= MAX_SAMPLES:
        raise _error(
            path,
            f"claims {samples:,} samples; 1 to {MAX_SAMPLES:,} are read: give it in parts",
            code="too_large",
        )


def _samples(window: Window, rate: float, length: int, path: Path) -> tuple[int, int]:
    """The window as sample numbers."""
    start, end = window
    first = max(0, round((start or 0.0) * rate))
    last = length if end is None else min(length, round(end * rate))
    if first >= last:
        raise _error(
            path,
            f"the window starts at {start or 0:g} s, but the record ends at {length / rate:.2f} s",
            code="window",
        )
    return first, last


def _package(name: str, path: Path) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        message = f"is read by the package {name}; {EXTRA} installs it"
        raise _error(path, message, code="unsupported") from error


# --- WFDB --------------------------------------------------------------------------------------


def read_wfdb(path: Path, window: Window) -> RawRecord:
    """A record of PhysioNet's WFDB library: the header, and its signal files in the same folder."""
    wfdb = _package("wfdb", path)
    header = _header(path)
    first, last = _samples(window, header.rate, header.length, path)
    record = wfdb.rdrecord(str(path.with_suffix("")), sampfrom=first, sampto=last)
    names = [name or f"channel {i}" for i, name in enumerate(record.sig_name)]
    rows = list(zip(names, record.units, record.p_signal.T, strict=True))
    channels, warnings = _voltages(rows)
    return RawRecord(header.rate, channels, "wfdb", warnings)


def _header(path: Path) -> WfdbHeader:
    """The header of a record that is whole, of a size and at a rate that are read."""
    header = read_header(path)
    _check_rate(path, header.rate)
    _check_size(path, header.length * header.num_signals)
    header.check_files()
    return header


def _voltages(rows: list[tuple[str, str, np.ndarray]]) -> tuple[tuple[Channel, ...], Any]:
    """Those in a unit of voltage, as millivolts; what else there is, is said."""
    channels, other = [], []
    for name, unit, values in rows:
        factor = MILLIVOLTS.get((unit or "mV").strip().lower())
        if factor is None:
            other.append(f"{printable(name)} ({printable(unit)})")
        else:
            with np.errstate(all="ignore"):  # numbers that are no voltage are left to the reader
                channels.append(Channel(name, np.asarray(values, dtype=np.float64) * factor))
    remark = f"channels that are no voltage were left out: {', '.join(other)}"
    return tuple(channels), (remark,) if other else ()


# --- EDF ---------------------------------------------------------------------------------------


def read_edf(path: Path, window: Window) -> RawRecord:
    """European Data Format; of signals at several rates, those at the highest that leads have."""
    pyedflib = _package("pyedflib", path)
    _check_edf_size(path)
    with pyedflib.EdfReader(str(path), pyedflib.DO_NOT_READ_ANNOTATIONS) as file:
        lengths, labels = file.getNSamples(), file.getSignalLabels()
        rates = [float(file.getSampleFrequency(i)) for i in range(len(labels))]
        _check_size(path, int(sum(lengths)))
        leads = _hearts(labels)
        rate = max(rates[i] for i in leads)
        at_rate = [i for i in leads if rates[i] == rate]
        first, last = _samples(window, _check_rate(path, rate), int(lengths[at_rate[0]]), path)
        rows = [
            (labels[i], file.getPhysicalDimension(i), file.readSignal(i, first, last - first))
            for i in at_rate
        ]
    channels, warnings = _voltages(rows)
    left_out = [printable(label) for i, label in enumerate(labels) if i not in at_rate]
    if left_out:
        remark = "channels at lower rates, or of no heart, were left out"
        warnings += (f"{remark}: {', '.join(left_out)}",)
    return RawRecord(rate, channels, "edf", warnings)


def _hearts(labels: list[str]) -> list[int]:
    """Which channels are leads; else those that are called ECG; else all."""
    leads = [i for i, label in enumerate(labels) if lead_of(label)]
    candidates = [i for i, label in enumerate(labels) if re.match("e[ck]g", label.strip().lower())]
    return leads or candidates or list(range(len(labels)))


def _check_edf_size(path: Path) -> None:
    """The file is as long as its header says: of others, the library writes to the terminal."""
    with open(path, "rb") as file:
        fixed = file.read(256)
        num_signals = int(fixed[252:256])
        if not 0 < num_signals <= MAX_SIGNALS:
            raise ValueError(f"{num_signals} signals")
        file.seek(256 + 216 * num_signals)
        samples = [int(file.read(8)) for _ in range(num_signals)]
    length = int(fixed[184:192]) + 2 * int(fixed[236:244]) * sum(samples)
    if path.stat().st_size != length:
        raise ValueError(f"{path.stat().st_size:,} bytes, where its header says {length:,}")


# --- tables ------------------------------------------------------------------------------------


def read_table(path: Path, window: Window) -> RawRecord:
    """A table with a column of time in seconds and a column a lead."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    if path.stat().st_size > MAX_TABLE_BYTES:
        raise _error(
            path, f"has more than {MAX_TABLE_BYTES:,} bytes; give it in parts", "too_large"
        )
    is_csv = path.suffix.lower() == ".csv"
    try:
        if not is_csv:
            about = parquet.read_metadata(path)
            _check_size(path, about.num_rows * about.num_columns)
        table = csv.read_csv(path) if is_csv else parquet.read_table(path)
    except pa.ArrowException as error:
        raise _error(path, f"is no table ({printable(first_line(error))})") from error
    _check_size(path, table.num_rows * table.num_columns)
    time_name = next((n for n in table.column_names if n.strip().lower() in TIME_NAMES), None)
    if time_name is None:
        raise _error(path, "has no column of time in seconds; name one 'time'")
    time = _numbers(path, time_name, table.column(time_name))
    rate = _check_rate(path, _rate_of(path, time))
    first, last = _samples(window, rate, len(time), path)
    rows = []
    for name in table.column_names:
        if name != time_name:
            lead, unit = _with_unit(name)
            rows.append((lead, unit, _numbers(path, name, table.column(name))[first:last]))
    channels, warnings = _voltages(rows)
    return RawRecord(rate, channels, "csv" if is_csv else "parquet", warnings)


def _numbers(path: Path, name: str, column: Any) -> np.ndarray:
    """As float64; missing ones are NaN."""
    import pyarrow as pa

    kind = column.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
        raise _error(path, f"column {printable(name)!r} is {kind}; leads are numbers")
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)


def _rate_of(path: Path, time: np.ndarray) -> float:
    steps = np.diff(time)
    if len(steps) < 1 or not np.isfinite(steps).all() or steps.min() <= 0:
        raise _error(path, "its time does not rise from row to row, in seconds")
    step = (time[-1] - time[0]) / len(steps)
    grid = time[0] + step * np.arange(len(time))
    if np.abs(time - grid).max() > UNEVEN * step:  # times are rounded, often to milliseconds
        raise _error(path, "its time is not even; resample it to one rate")
    return round(1 / step, 3)


def _with_unit(name: str) -> tuple[str, str]:
    """`V1_uV` -> V1 and uV; millivolts where no unit is named."""
    match = re.match(r"^(.+?)(?:_|\s+|\s*[(\[])([mnuµμ]?[Vv])[)\]]?$", name.strip())
    return (match[1], match[2]) if match else (name.strip(), "mV")


# --- MATLAB ------------------------------------------------------------------------------------


def read_mat(path: Path, window: Window) -> RawRecord:
    """A record of the China Physiological Signal Challenge 2018: a struct `ECG`, whose `data` are
    the twelve leads in millivolts at 500 Hz, a row each. PhysioNet gives the same records a header,
    and then the file is that header's.
    """
    header = path.with_suffix(".hea")
    if header.is_file():
        raise _error(path, f"holds the samples of {header.name}; give that", code="unsupported")
    data = read_matrix(path, "ECG", "data")
    if data.ndim != 2 or len(data) != len(LEADS):
        shape = " x ".join(map(str, data.shape))
        raise _error(path, f"ECG.data is {shape}; it has {len(LEADS)} rows, the leads in order")
    _check_size(path, data.size)
    first, last = _samples(window, MAT_RATE, data.shape[1], path)
    rows = [(lead, "mV", row[first:last]) for lead, row in zip(LEADS, data, strict=True)]
    return RawRecord(MAT_RATE, _voltages(rows)[0], "mat")


READERS: dict[str, Callable[[Path, Window], RawRecord]] = {
    ".hea": read_wfdb,
    ".edf": read_edf,
    ".csv": read_table,
    ".parquet": read_table,
    ".mat": read_mat,
}


def is_record(path: Path) -> bool:
    """Whether a name is a heart record's: a table is one where it is called so (`clip.ecg.csv`),
    a .mat file where no header stands beside it, which is the record then."""
    suffix = path.suffix.lower()
    if suffix == ".mat":
        return not os.path.isfile(path.with_suffix(".hea"))
    return suffix in READERS and (suffix not in TABLES or path.stem.lower().endswith(".ecg"))
