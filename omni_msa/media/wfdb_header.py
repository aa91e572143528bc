"""The header of a WFDB record as far as shows whether the record is whole.

PhysioNet's library reads it too, in some ten milliseconds; a release has twenty thousand records.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from omni_msa.errors import MediaError
from omni_msa.foreign import printable, read_limited
from omni_msa.media.container import check_regular

MAX_BYTES = 1_000_000
USUAL_RATE = 250.0  # of a header that has none, by the format
# Of a sample in a signal file, by its format; of those that are packed, nothing is known.
SAMPLE_BYTES = {
    "8": 1.0, "16": 2.0, "24": 3.0, "32": 4.0, "61": 2.0, "80": 1.0, "160": 2.0, "212": 1.5,
    "310": 4 / 3, "311": 4 / 3,
}  # fmt: skip
_FORMAT = re.compile(r"(\d+)(?:x(\d+))?(?::\d+)?(?:\+(\d+))?")  # `16x2:1+24`


@dataclass(frozen=True)
class WfdbHeader:
    """Samples a second, samples a signal, and how many bytes each signal file has at least."""

    path: Path
    rate: float
    length: int
    num_signals: int
    file_bytes: dict[str, int]

    def check_files(self) -> None:
        """Raises:
        MediaError: a signal file is not in the header's folder.
        ValueError: one is cut short.
        """
        for name, num_bytes in self.file_bytes.items():
            path = self.path.parent / name
            if Path(name).name != name or not path.is_file():
                raise MediaError(
                    f"{self.path}: its signal file {printable(name)!r} is not beside it",
                    code="missing",
                )
            size = path.stat().st_size
            if size < num_bytes:
                raise ValueError(f"{name} has {size:,} bytes, where its header says {num_bytes:,}")


def read_header(path: Path) -> WfdbHeader:
    """Raises:
    MediaError: it is larger than any header, or of a record that is made of segments.
    ValueError, LookupError, OSError: it cannot be read.
    """
    check_regular(path)
    text = read_limited(path, MAX_BYTES, MediaError).decode("latin-1")
    lines = [line.split() for line in text.splitlines() if line.strip() and line.strip()[0] != "#"]
    name, num_signals, *rest = lines[0]
    if "/" in name:
        raise MediaError(f"{path}: is made of segments; give the header of one", code="unsupported")
    rate = float(rest[0].split("/")[0]) if rest else USUAL_RATE
    length = int(rest[1]) if len(rest) > 1 else 0
    if len(lines) - 1 != int(num_signals):
        raise ValueError(f"{len(lines) - 1} signals, where it says {num_signals}")
    file_bytes: dict[str, float] = {}
    for file, form, *_ in lines[1:]:
        match = _FORMAT.fullmatch(form)
        if match is None:
            raise ValueError(f"the format {form!r}")
        kind, per_frame, offset = match.groups()
        samples = length * int(per_frame or 1)
        file_bytes.setdefault(file, int(offset or 0))
        file_bytes[file] += samples * SAMPLE_BYTES.get(kind, 0.0)
    sizes = {file: int(size) for file, size in file_bytes.items()}
    return WfdbHeader(path, rate, length, int(num_signals), sizes)
