"""Writes a corpus of synthetic clips with a manifest: resumable, the same for the same seeds.

    python -m scripts.tiny.corpus OUT --first-seed 0 --count 4000

Seeds: training from 0, validation from 500000, held-out test from 1000000, samples from 2000000.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from scripts.tiny.clips import draw_spec, make


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=4000)
    arguments = parser.parse_args()
    (arguments.out / "clips").mkdir(parents=True, exist_ok=True)
    manifest = arguments.out / "manifest.jsonl"
    done = set()
    if manifest.exists():
        done = {json.loads(line)["seed"] for line in manifest.read_text().splitlines()}
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.count)
    began, count = time.perf_counter(), 0
    with manifest.open("a", encoding="utf-8") as file:
        for seed in (s for s in seeds if s not in done):
            spec = draw_spec(seed)
            path = make(spec, arguments.out / "clips" / str(seed))
            file.write(json.dumps(spec.row(f"clips/{path.name}")) + "\n")
            file.flush()
            count += 1
            if count % 100 == 0:
                rate = count / (time.perf_counter() - began)
                print(f"{count + len(done)}/{len(seeds)}, {rate:.1f} clips/s", file=sys.stderr)


if __name__ == "__main__":
    main()
