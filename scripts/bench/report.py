"""What every program of this folder says in the same way: the machine, times, and where they stand.

A program that is told to (`--write`) puts its table into docs/measurements.md, between the lines
`<!-- bench NAME -->` and `<!-- /bench NAME -->`, in the place of what stood there.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

MEASUREMENTS = Path(__file__).parents[2] / "docs" / "measurements.md"
PACKAGES = ("torch", "transformers", "av")  # whose version a time depends on


def machine() -> str:
    """Processor (and GPU), threads and versions: what a time depends on, and not whose it is."""
    parts = [f"{processor()}, {torch.get_num_threads()} threads"]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    parts.append(f"Python {platform.python_version()}")
    for package in PACKAGES:
        try:
            parts.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(parts)


def processor() -> str:
    """The processor's name, where the system tells it; else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def interleaved(
    jobs: Mapping[str, Callable[[], object]], runs: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Seconds of each run of each job, in turn, so that a busy moment hits all of them.

    Args:
        runs: that are counted.
        warm_up: rounds before these that are not.
    """
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for round_number in range(warm_up + runs):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if round_number >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: Mapping[str, Sequence[float]], name: str, base: str) -> tuple[float, ...]:
    """How many times as long as another job one takes, round by round: lower quartile, median and
    upper quartile. A busy moment lengthens both."""
    rounds = zip(seconds[name], seconds[base], strict=True)
    return tuple(float(x) for x in np.quantile([a / b for a, b in rounds], (0.25, 0.5, 0.75)))


def write_section(name: str, lines: Sequence[str], page: Path = MEASUREMENTS) -> None:
    """Replaces what stands between the two lines that bear a program's name.

    Raises:
        ValueError: the page has no such two lines, or has them twice.
    """
    text, first, last = page.read_text(), f"<!-- bench {name} -->\n", f"<!-- /bench {name} -->\n"
    if text.count(first) != 1 or text.count(last) != 1 or text.index(first) > text.index(last):
        raise ValueError(
            f"{page}: it must hold the lines {first.strip()} and {last.strip()} once each, in this "
            "order; put them where the table shall stand"
        )
    before, rest = text.split(first)
    _, after = rest.split(last)
    body = "".join(f"{line}\n" for line in lines)
    page.write_text(f"{before}{first}{body}{last}{after}")
