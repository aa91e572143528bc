"""Writes the heart records among the sample clips: one in WFDB's form, one as EDF, and one beside a
clip that says nothing else.

    python -m scripts.tiny.heart_samples sample_media

`hearts.json` holds what the generator meant. Run after `scripts.tiny.samples`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyedflib
from pyarrow import csv

from omni_msa.media.record_files import LEADS
from scripts.tiny.clip_hearts import heart_term
from scripts.tiny.heart import RATE, draw_heart, record
from scripts.tiny.hearts import FINDINGS, SECONDS, write_record

EVERY = 2  # sample of the generator's: 250 a second are small enough to ship
SEED = 3_000_000  # of no split
RACING = ("racing.mp4", 0.97)  # the clip, and the arousal of its heart
MILLIVOLTS = 8.0  # of an EDF file's scale


def write_edf(path: Path, leads: np.ndarray, rate: int) -> None:
    """Leads [S, 12] in mV."""
    about = {"dimension": "mV", "sample_frequency": rate, "physical_min": -MILLIVOLTS,
             "physical_max": MILLIVOLTS, "digital_min": -32768, "digital_max": 32767,
             "transducer": "", "prefilter": ""}  # fmt: skip
    with pyedflib.EdfWriter(str(path), len(LEADS), pyedflib.FILETYPE_EDF) as file:
        file.setSignalHeaders([about | {"label": f"ECG {lead}"} for lead in LEADS])
        file.writeSamples([np.ascontiguousarray(column, np.float64) for column in leads.T])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    folder, rate = parser.parse_args().out, RATE // EVERY
    leads = {
        kind: record(draw_heart(kind, 0.4, SEED), SECONDS)[::EVERY]
        for kind in ("fibrillation", "left block")
    }
    write_record(folder, "record", leads["fibrillation"], list(LEADS), rate)
    write_edf(folder / "record.edf", leads["left block"], rate)
    name, arousal = RACING
    heart = record(draw_heart("sinus", arousal, SEED), 5.0)[::EVERY]
    columns = {lead: np.round(heart[:, LEADS.index(lead)], 3) for lead in ("I", "II")}
    table = pa.table({"time": np.arange(len(heart)) / rate, **columns})
    csv.write_csv(table, folder / f"{Path(name).stem}.ecg.csv")
    facts = {
        "record.hea": {"seed": SEED, "findings": [FINDINGS["fibrillation"]]},
        "record.edf": {"seed": SEED, "findings": [FINDINGS["left block"]]},
        name: {"seed": SEED, "arousal": arousal, "term": round(heart_term(arousal), 4)},
    }
    (folder / "hearts.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
