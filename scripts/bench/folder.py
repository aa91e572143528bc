"""Scoring a folder of short clips with all subsets: clips a second, use of the cores, memory.

    python -m scripts.bench.folder [--clips FOLDER] [--count 200] [--loop 30] [--rounds 3] [--write]

The clips (talking heads, 3 to 5 s, 360p) are made first. Ours is `omni-msa score FOLDER -o FILE` as
it comes, in a process of its own, timed from its first row to its last: eight subsets a clip. The
peer, in the same run: a plain loop over the reference path in a process of its own, one clip at a
time, one bare score each. Then ours again beside another process that keeps a core busy. Rounds of
the three in turn; medians. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from scripts.bench.clips import make_short_films
from scripts.bench.report import machine, write_section

MIB = 1024**2
BUSY = "while True: pass"


def cpu_seconds() -> float:
    """Of this process and all that it started, whether they still run or have ended."""
    here = psutil.Process()
    times = here.cpu_times()
    running = [child.cpu_times() for child in here.children()]
    ended = times.children_user + times.children_system
    return ended + sum(t.user + t.system for t in (times, *running))


def score_folder(folder: Path, arguments: Sequence[str]) -> dict[str, Any]:
    """Ours, in this process: what was measured between its first and its last row."""
    from omni_msa.__main__ import main
    from omni_msa.files.results import Results

    moments: list[tuple[float, float]] = []
    memory: list[float] = []
    write = Results.write

    def noted(results: Results, record: Any) -> None:
        write(results, record)
        moments.append((time.perf_counter(), cpu_seconds()))
        memory.append(psutil.Process().memory_info().rss / MIB)

    Results.write = noted  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as outputs:
        output = str(Path(outputs) / "out.jsonl")
        if code := main(["score", str(folder), "-o", output, "--quiet", *arguments]):
            raise SystemExit(f"omni-msa score ended with {code}")
    (start, cpu_start), (end, cpu_end) = moments[0], moments[-1]
    return {
        "clips_per_second": (len(moments) - 1) / (end - start),
        "cpu_use": (cpu_end - cpu_start) / (end - start) / len(psutil.Process().cpu_affinity()),
        "mib_after_20": memory[19],
        "mib_at_the_end": memory[-1],
    }


def loop(folder: Path, count: int) -> dict[str, Any]:
    """The peer, in this process; the first clip is not timed."""
    from omni_msa.scoring.scorer import Scorer
    from scripts.bench.reference import Reference

    reference = Reference(Scorer.load())
    paths = sorted(folder.glob("*.mp4"))[: count + 1]
    reference.score(paths[0])
    start = time.perf_counter()
    for path in paths[1:]:
        reference.score(path)
    return {"clips_per_second": (len(paths) - 1) / (time.perf_counter() - start)}


def in_a_process(*arguments: str) -> dict[str, Any]:
    """The last line of this program with other arguments."""
    command = [sys.executable, "-m", "scripts.bench.folder", *arguments]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    return json.loads(output.splitlines()[-1])


def measure(folder: Path, rounds: int, loop_count: int, options: list[str]) -> dict[str, Any]:
    """Medians over rounds of ours, the loop, and ours beside a busy process."""
    ours, loops, busy = [], [], []
    for number in range(rounds):
        ours.append(in_a_process("--ours", str(folder), *options))
        if loop_count:
            loops.append(in_a_process("--peer", str(folder), "--loop", str(loop_count)))
        neighbour = subprocess.Popen([sys.executable, "-c", BUSY])
        try:
            busy.append(in_a_process("--ours", str(folder), *options))
        finally:
            neighbour.kill()
            neighbour.wait()
        rates = [run[-1]["clips_per_second"] for run in (ours, loops, busy) if run]
        print(f"round {number + 1}: {' '.join(f'{rate:.2f}' for rate in rates)} clips/s")

    def median(runs: list[dict[str, Any]], key: str = "clips_per_second") -> float:
        return statistics.median(run[key] for run in runs)

    result = {key: round(median(ours, key), 3) for key in ours[0]}
    result["busy_clips_per_second"] = round(median(busy), 2)
    result["busy_neighbour_ratio"] = round(median(busy) / median(ours), 3)
    if loops:
        result["loop_clips_per_second"] = round(median(loops), 3)
        result["folder_speedup_vs_loop"] = round(median(ours) / median(loops), 2)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clips", type=Path, help="folder that the clips are kept in")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--loop", type=int, default=30, help="clips of the peer; 0 for none")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="into docs/measurements.md")
    parser.add_argument("--ours", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    arguments, options = parser.parse_known_args()
    if arguments.ours:
        print(json.dumps(score_folder(arguments.ours, options)))
        return
    if arguments.peer:
        print(json.dumps(loop(arguments.peer, arguments.loop)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.clips or Path(temporary)
        make_short_films(folder, arguments.count)
        result = measure(folder, arguments.rounds, arguments.loop, options)
    lines = [f"On {machine()}, {arguments.count} clips, medians of {arguments.rounds} rounds:", ""]
    lines += [
        "| | |",
        "|---|---|",
        *(f"| {k.replace('_', ' ')} | {v} |" for k, v in result.items()),
    ]
    print("\n".join(lines))
    if arguments.write:
        write_section("folder", lines)
    print(json.dumps({"machine": machine()} | result))


if __name__ == "__main__":
    main()
