"""A heart record as `Traces`: leads by their names, in millivolts, cleaned, at 100 Hz.

In this order: gaps of up to a fifth of a second are bridged and longer ones are zero, both said;
each lead is brought to 100 Hz (soxr) and band-passed at 0.5 to 40 Hz (Butterworth, second order,
forwards and back). The band and the rate are ours. Flat leads and voltages that no heart has are
said, and left as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soxr

from omni_msa.errors import MediaError
from omni_msa.foreign import printable
from omni_msa.media.record_files import LEADS, Channel, RawRecord, Window, lead_of, read_file
from omni_msa.values import TRACE_RATE, Traces

BAND = (0.5, 40.0)  # Hz
BRIDGED_SECONDS = 0.2
EDGE_SECONDS = 3  # mirrored before the filter, which rings for so long
FLAT_SECONDS = 2.0  # a lead that stays at one voltage for so long has no electrode
LEAST_SECONDS = 2.0
MOST_MILLIVOLTS = 20.0  # a heart gives a few
NO_VOLTAGE = 1e6  # mV: beyond it, a number is none, and missing


class RecordReading(NamedTuple):
    """What was read of a record: its leads, facts for the record's `media`, and warnings."""

    traces: Traces
    facts: dict[str, Any]
    warnings: tuple[str, ...]


def read_record(path: Path, window: Window = (None, None)) -> RecordReading:
    """The leads of a heart record within a time window [start, end) in seconds.

    Raises:
        MediaError: it cannot be read, has no lead of a known name, or none that shows anything.
    """
    return clean_record(path, read_file(path, window))


def clean_record(path: Path, raw: RawRecord) -> RecordReading:
    """The leads of what was read of a file.

    Raises:
        MediaError: it has no lead of a known name, or none that shows anything.
    """
    leads, warnings = _leads(path, raw)
    length = len(next(iter(leads.values())))
    if length < LEAST_SECONDS * raw.rate:
        raise MediaError(
            f"{path}: {length / raw.rate:.2f} s are too short; {LEAST_SECONDS:g} s or more are "
            "needed",
            code="nothing_to_score",
        )
    if raw.rate < TRACE_RATE:
        warnings.append(f"upscaled from {raw.rate:g} to {TRACE_RATE} samples a second")
    columns = {}
    for lead, values in leads.items():
        warnings += _remarks(lead, values, raw.rate)
        columns[lead] = _clean(values, raw.rate)
    values = np.stack([columns[lead] for lead in columns], axis=1)
    if not values.any():
        raise MediaError(f"{path}: no lead shows anything", code="nothing_to_score")
    facts = {
        "ecg_format": raw.format,
        "ecg_leads": list(columns),
        "ecg_rate_in_file": raw.rate,
        "ecg_seconds": round(length / raw.rate, 3),
    }
    return RecordReading(Traces(values, tuple(columns), str(path.name)), facts, tuple(warnings))


def _leads(path: Path, raw: RawRecord) -> tuple[dict[str, np.ndarray], list[str]]:
    """The channels by lead, in the order of the twelve; a single one of another name is lead II."""
    warnings = list(raw.warnings)
    by_lead: dict[str, Channel] = {}
    unknown: list[str] = []
    for channel in raw.channels:
        lead = lead_of(channel.name)
        if lead is None:
            unknown.append(printable(channel.name))
        elif lead in by_lead:
            warnings.append(f"lead {lead} is there twice: the first was taken")
        else:
            by_lead[lead] = channel
    if not by_lead and len(raw.channels) == 1:
        warnings.append(f"channel {unknown.pop()!r} is no known lead: taken for lead II")
        by_lead["II"] = raw.channels[0]
    if not by_lead:
        raise MediaError(
            f"{path}: has no lead of a known name ({', '.join(unknown)}); they are "
            f"{', '.join(LEADS)}"
        )
    if unknown:
        warnings.append(f"channels that are no known lead were left out: {', '.join(unknown)}")
    values = {lead: by_lead[lead].millivolts for lead in LEADS if lead in by_lead}
    return {
        lead: np.where(np.abs(v) > NO_VOLTAGE, np.nan, v) for lead, v in values.items()
    }, warnings


def _remarks(lead: str, values: np.ndarray, rate: float) -> list[str]:
    """What is wrong with a lead, before it is cleaned."""
    remarks = []
    holes = ~np.isfinite(values)
    long_holes = [run for run in _runs(holes) if len(run) > BRIDGED_SECONDS * rate]
    if missing := sum(map(len, long_holes)):
        remarks.append(f"lead {lead}: {missing / rate:.1f} s are missing, and zero")
    still = np.append(np.diff(values) == 0, False)
    if flat := sum(len(run) for run in _runs(still) if len(run) >= FLAT_SECONDS * rate):
        remarks.append(f"lead {lead}: flat for {flat / rate:.1f} s")
    if not holes.all() and np.nanmax(np.abs(values - np.nanmedian(values))) > MOST_MILLIVOLTS:
        remarks.append(f"lead {lead}: beyond {MOST_MILLIVOLTS:g} mV; is its unit right?")
    return remarks


def _runs(marks: np.ndarray) -> list[range]:
    """Where marks [S] stand in a row."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marks, [False]]).astype(np.int8)))
    return [range(start, end) for start, end in edges.reshape(-1, 2)]


def _clean(values: np.ndarray, rate: float) -> np.ndarray:
    """One lead [S], at the rate and in the band of `Traces`: float32."""
    from scipy.signal import butter, sosfiltfilt

    holes = ~np.isfinite(values)
    if holes.all():
        return soxr.resample(np.zeros(len(values), dtype=np.float32), rate, TRACE_RATE)
    places = np.arange(len(values))
    whole = np.interp(places, places[~holes], values[~holes])
    even = soxr.resample(whole - np.median(whole), rate, TRACE_RATE)
    band = butter(2, BAND, "bandpass", fs=TRACE_RATE, output="sos")
    cleaned = sosfiltfilt(band, even, padlen=min(len(even) - 1, EDGE_SECONDS * TRACE_RATE))
    for run in _runs(holes):
        if len(run) > BRIDGED_SECONDS * rate:
            first, last = (round(edge * TRACE_RATE / rate) for edge in (run.start, run.stop))
            cleaned[first:last] = 0.0
    return cleaned.astype(np.float32)
