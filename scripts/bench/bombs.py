"""Files that are small and cost much: seconds and memory of the process that reads each of them.

    python -m scripts.bench.bombs [--only NAME] [--keep FOLDER]

Each file is made in a temporary folder and read as a batch reads it, by `ClipReaders`, in a process
of its own. Reported: its size, the seconds, and the peak resident memory of the largest process.
The last line is JSON. How the files are made is in `bomb_files.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from omni_msa.errors import OmniMSAError
from omni_msa.media.readers import ClipReaders
from omni_msa.options import MediaOptions
from omni_msa.values import Clip
from scripts.bench.bomb_files import BOMBS

ROOT = Path(__file__).parents[2]
MOST_SECONDS, MOST_GIB = 15.0, 1.5


@dataclass(frozen=True)
class Reading:
    """What reading one file cost, and how it ended."""

    name: str
    megabytes: float
    seconds: float
    cpu_seconds: float
    peak_gib: float
    outcome: str

    @property
    def is_within(self) -> bool:
        return self.seconds <= MOST_SECONDS and self.peak_gib <= MOST_GIB


def measure(name: str, path: Path) -> Reading:
    """Reads one file in a process of its own, which starts the reader as a batch does."""
    command = [sys.executable, "-m", "scripts.bench.bombs", "--read", str(path)]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        outcome = process.stdout.read().strip()
        # of the largest of it and of the processes that it has waited for
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0
    seconds = time.perf_counter() - start
    megabytes = os.stat(path).st_size / 1e6
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return Reading(name, round(megabytes, 2), round(seconds, 1), round(cpu_seconds, 1),
                   round(usage.ru_maxrss / 1024**2, 2), outcome)  # fmt: skip


def make(name: str, path: Path) -> None:
    """In a process of its own: a child begins with its parent's peak of memory."""
    command = [sys.executable, "-m", "scripts.bench.bombs", "--make", name, str(path)]
    subprocess.run(command, check=True, cwd=ROOT)


def read(path: Path) -> str:
    """How reading a file ends: what its clip holds, or the error's code."""
    with ClipReaders(MediaOptions()) as readers:
        _, content = next(iter(readers.read([Clip(path=path)])))
    if isinstance(content, OmniMSAError):
        return f"{content.code}: {content}".replace(str(path), path.name)
    return f"read: {', '.join(content.parts)}; {'; '.join(content.warnings)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=[*BOMBS], help="files to measure")
    parser.add_argument("--keep", type=Path, help="a folder for the files, made once")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--make", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make is not None:
        BOMBS[arguments.make[0]](Path(arguments.make[1]))
        return
    if arguments.read is not None:
        print(read(arguments.read))
        return
    readings = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in arguments.only or BOMBS:
            folder = (arguments.keep or Path(temporary)).resolve()
            path = folder / name
            if not path.exists():
                make(name, path)
            reading = measure(name, path)
            print(
                f"{name:28} {reading.megabytes:9.2f} MB {reading.seconds:6.1f} s "
                f"({reading.cpu_seconds:.1f} of CPU) {reading.peak_gib:5.2f} GiB  "
                f"{reading.outcome[:160]}",
                flush=True,
            )
            readings.append(reading)
            if arguments.keep is None:
                path.unlink()
    over = [reading.name for reading in readings if not reading.is_within]
    print(json.dumps({"over": over, "readings": [asdict(reading) for reading in readings]}))


if __name__ == "__main__":
    main()
