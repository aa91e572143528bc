"""Rows of results files, for the tests of these files."""

from __future__ import annotations

from pathlib import Path

from omni_msa.files.record import Ablation, Record
from omni_msa.files.result_formats import read_records
from omni_msa.files.results import open_results

FP = "f1"
MODEL = {"base": "tiny", "checkpoint": None, "readout": "regression", "quantize": "none"}
MODEL |= {"fingerprint": FP}


def good(name: str = "a.mp4", sha256: str = "s1", score: float = 1.25) -> Record:
    subsets = {
        "": 0.1,
        "T": 0.2,
        "A": 1 / 3,
        "V": -0.4,
        "TA": 1.0,
        "TV": 0.6,
        "AV": 0.7,
        "TAV": 1.25,
    }
    ablation = Ablation(
        subsets,
        drop={
            "audio": {"score": 0.6, "delta": -0.65},
            "text+audio": {"score": -0.4, "delta": -1.65},
        },
        contribution={"text": 0.5, "audio": 0.25, "video": 0.4},
    )
    return Record(
        name,
        sha256,
        score,
        range=(-3.0, 3.0),
        modalities={"text": "sidecar a.srt", "audio": "track 1", "video": "track 0"},
        ablation=ablation,
        media={"duration_seconds": 3.5, "num_frames": 8, "sample_rate": 16000},
        tokens={"video": 100, "audio": 88, "text": 5, "total": 193},
        seconds={"decode": 0.1, "inputs": 0.2, "forward": 0.7},
        model=MODEL,
        warnings=("a, b", 'says "c"'),
        label=2,
    )


def failed(name: str = "bad.mp4", sha256: str | None = None) -> Record:
    error = {"type": "MediaError", "code": "missing", "message": "no, such file"}
    return Record(name, sha256, None, model=MODEL, error=error)


def scores(path: Path) -> dict[str, float | None]:
    return {record.clip: record.score for record in read_records(path)}


def write(path: Path, *records: Record, **options: bool) -> None:
    with open_results(path, FP, **options) as results:
        for record in records:
            results.write(record)
