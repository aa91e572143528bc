"""How long a program takes from its start: its help, and the score of one clip.

    python -m scripts.bench.startup [CLIP] [--runs 7] [--write]

Jobs, in turn, each in a fresh process: `help` = `omni-msa --help`; `cold_score` = `omni-msa score
CLIP`, ablation and printing included; and as the peer `import`, a process that only imports what
anybody needs for this model: torch, and transformers' Thinker and processor. Nothing is kept from
one run to the next but the system's own cache of files. Medians; what a score costs beyond the
imports is the median over rounds. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from scripts.bench.report import interleaved, machine, write_section

ROOT = Path(__file__).parents[2]
CLIP = ROOT / "sample_media" / "glad.mp4"
IMPORTS = (
    "import torch, transformers\n"
    "from transformers import Qwen2_5OmniThinkerForConditionalGeneration, Qwen2_5OmniProcessor"
)


def process(*arguments: str) -> Callable[[], object]:
    """A job that runs Python with these arguments until it ends."""
    command = [sys.executable, *arguments]
    return lambda: subprocess.run(command, check=True, capture_output=True, cwd=ROOT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", nargs="?", default=str(CLIP))
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="into docs/measurements.md")
    arguments = parser.parse_args()
    jobs = {
        "help": process("-m", "omni_msa", "--help"),
        "import": process("-c", IMPORTS),
        "cold_score": process("-m", "omni_msa", "score", arguments.clip, "--quiet"),
    }
    seconds = interleaved(jobs, arguments.runs)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    pairs = zip(seconds["cold_score"], seconds["import"], strict=True)
    beyond = statistics.median(score - imports for score, imports in pairs)
    result = {f"{name}_seconds": round(value, 3) for name, value in median.items()}
    result["cold_score_beyond_imports_seconds"] = round(beyond, 3)
    lines = ["| | seconds |", "|---|---|"]
    lines += [f"| {name.removesuffix('_seconds')} | {value} |" for name, value in result.items()]
    print("\n".join(lines))
    if arguments.write:
        caption = f"`python -m scripts.bench.startup` on {machine()}, {arguments.runs} rounds:"
        write_section("startup", [caption, "", *lines])
    print(json.dumps({"machine": machine(), "runs": arguments.runs, **result}))


if __name__ == "__main__":
    main()
