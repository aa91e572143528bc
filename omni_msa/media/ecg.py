"""The heart record of a clip: which file it is, and all files that it is made of."""

from __future__ import annotations

import os
from pathlib import Path

from omni_msa.errors import MediaError
from omni_msa.media.record_files import READERS, is_record
from omni_msa.media.wfdb_header import read_header
from omni_msa.values import Clip


def ecg_of(clip: Clip) -> tuple[Path, str] | None:
    """The record and where it was named: the clip itself, its manifest, or a file beside it
    (`clip.ecg.hea`); None where there is none."""
    if clip.ecg is not None:
        return clip.ecg, f"manifest {clip.ecg.name}"
    if clip.path is None:
        return None
    if is_record(clip.path):
        return clip.path, clip.path.name
    for suffix in READERS:
        beside = clip.path.with_name(f"{clip.path.stem}.ecg{suffix}")
        if os.path.exists(beside):  # unlike Path, False for a name that cannot be
            return beside, f"sidecar {beside.name}"
    return None


def files_of(record: Path) -> list[Path]:
    """The file, and of a WFDB header the signal files that it names."""
    if record.suffix.lower() != ".hea":
        return [record]
    try:
        names = read_header(record).file_bytes
    except (MediaError, OSError, ValueError, LookupError):  # said when it is read
        return [record]
    return [record, *(record.parent / name for name in names if Path(name).name == name)]
