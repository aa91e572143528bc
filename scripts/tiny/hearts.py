"""Writes a folder of synthetic heart records with a manifest, for `omni-msa train --task ecg`.

    python -m scripts.tiny.hearts FOLDER --train 1600 --valid 300 --test 600

A record is ten seconds on twelve leads at 500 Hz, in WFDB's form. The seeds of the splits are far
apart, so that no heart is in two of them.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import wfdb

from omni_msa.media.record_files import LEADS
from scripts.tiny.heart import KINDS, RATE, Heart, draw_heart, record

FINDINGS = dict(zip(KINDS, ("NORM", "AF", "LBBB", "RBBB", "PVC"), strict=True))
FIRST_SEEDS = {"train": 0, "valid": 1_000_000, "test": 2_000_000}
SECONDS = 10.0


def heart_of(seed: int, mains: float | None = None) -> Heart:
    """One seed's heart; kinds are drawn evenly. With `mains`, that much of 60 Hz hum in mV."""
    rng = np.random.default_rng([seed, 11])
    heart = draw_heart(str(rng.choice(KINDS)), float(rng.uniform(0, 1)), seed)
    return heart if mains is None else replace(heart, mains=mains, mains_hertz=60.0)


def write_record(folder: Path, name: str, leads: np.ndarray, names: list[str], rate: int) -> Path:
    """Leads [S, K] in mV as a WFDB record of 16-bit numbers; gives the path of its header."""
    units, formats = ["mV"] * len(names), ["16"] * len(names)
    folder.mkdir(parents=True, exist_ok=True)
    wfdb.wrsamp(
        name, rate, units, names, leads.astype(np.float64), fmt=formats,
        adc_gain=[1000.0] * len(names), baseline=[0] * len(names), write_dir=str(folder),
    )  # fmt: skip
    return folder / f"{name}.hea"


def write_corpus(
    folder: Path, counts: dict[str, int], mains: float | None = None, without: str = ""
) -> Path:
    """Records of each split, and `manifest.jsonl`, whose path is given.

    Args:
        mains: of 60 Hz, in mV, in place of what each record has.
        without: a lead that no record has.
    """
    kept = [lead for lead in LEADS if lead != without]
    columns = [LEADS.index(lead) for lead in kept]
    rows = []
    for split, count in counts.items():
        for seed in range(FIRST_SEEDS[split], FIRST_SEEDS[split] + count):
            heart, name = heart_of(seed, mains), f"heart{seed}"
            leads = record(heart, SECONDS)[:, columns]
            path = write_record(folder / split, name, leads, kept, RATE)
            findings = [FINDINGS[heart.kind]]
            row = {"clip": str(path.relative_to(folder)), "findings": findings, "split": split}
            rows.append(json.dumps(row) + "\n")
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(rows), encoding="utf-8")
    return manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    for split in FIRST_SEEDS:
        parser.add_argument(f"--{split}", type=int, default=0, help="records")
    parser.add_argument("--mains", type=float, help="mV of 60 Hz, in place of the records' own")
    parser.add_argument("--without", default="", choices=LEADS, help="a lead that is missing")
    arguments = parser.parse_args()
    counts = {split: count for split in FIRST_SEEDS if (count := getattr(arguments, split))}
    print(write_corpus(arguments.folder, counts, arguments.mains, arguments.without))


if __name__ == "__main__":
    main()
