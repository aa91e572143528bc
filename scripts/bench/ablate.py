"""What all eight subsets cost beside one score, in model time (towers + language model).

    python -m scripts.bench.ablate [--model DIR --checkpoint DIR] [--video-tokens 1024] [--runs 9]

Peers in the same run: `score` = one forward pass of the clip alone; `separate` = eight forward
passes, one a subset, as a tool without packing does it. Medians of interleaved runs; the last line
is JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from omni_msa.modalities import all_subsets
from omni_msa.options import MediaOptions, ModelOptions
from omni_msa.scoring.scorer import Scorer
from omni_msa.values import SAMPLE_RATE, Clip, ClipContent, Frames, Transcript, Waveform


def clip_of(video_tokens: int, seconds: float = 4.0) -> ClipContent:
    """A clip of 8 temporal grids with that many visual tokens, sound and twenty words."""
    rng = np.random.default_rng(0)
    side = 28 * max(1, round((video_tokens / 8) ** 0.5 / 2))
    wide = 28 * max(1, round(video_tokens / 8 / (side // 28)))
    rgb = rng.integers(0, 256, (16, side, wide, 3), dtype=np.uint8)
    samples = rng.normal(0, 0.1, int(seconds * SAMPLE_RATE)).astype(np.float32)
    frames = Frames(rgb, tuple(i / 4 for i in range(16)), seconds / 16)
    words = Transcript("I really did not expect to like it this much. " * 2, "option")
    return ClipContent(
        Clip(path=Path("bench.mp4")),
        "",
        {"video": frames, "audio": Waveform(samples), "text": words},
    )


def medians(jobs: dict[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Seconds of each job, interleaved so that drift hits all alike; the first round is warm-up."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for i in range(runs + 1):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if i:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model")
    parser.add_argument("--checkpoint")
    parser.add_argument("--video-tokens", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=9)
    arguments = parser.parse_args()

    scorer = Scorer.load(ModelOptions(model=arguments.model, checkpoint=arguments.checkpoint))
    thinker = scorer.thinker
    inputs = thinker.builder().build(clip_of(arguments.video_tokens), MediaOptions())
    subsets = all_subsets(inputs.present)
    whole = thinker.batch([inputs], [[inputs.present]])
    packed = thinker.batch([inputs], [subsets])
    separate = [thinker.batch([_only(inputs, s)], [[s]]) for s in subsets]
    with torch.inference_mode():
        jobs = {
            "score": lambda: thinker.forward(whole),
            "ablate": lambda: thinker.forward(packed),
            "separate": lambda: [thinker.forward(batch) for batch in separate],
        }
        seconds = medians(jobs, arguments.runs)
    result = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "device": str(thinker.device),
        "video_tokens": int((whole.token_ids == thinker.config.video_token_id).sum()),
        "tokens_score": whole.token_ids.shape[1],
        "tokens_ablate": packed.token_ids.shape[1],
        "seconds": {name: round(value, 5) for name, value in seconds.items()},
        "ablate_to_score_ratio": round(seconds["ablate"] / seconds["score"], 3),
        "separate_to_score_ratio": round(seconds["separate"] / seconds["score"], 3),
    }
    for name, value in seconds.items():
        print(f"{name:9} {1000 * value:9.1f} ms   {value / seconds['score']:.2f} x score")
    print(json.dumps(result))


def _only(inputs, subset):
    """The same inputs with only the towers' work that a separate pass would do."""
    from dataclasses import replace

    return replace(
        inputs,
        parts={name: part for name, part in inputs.parts.items() if name in subset},
        features={name: part for name, part in inputs.features.items() if name in subset},
    )


if __name__ == "__main__":
    main()
