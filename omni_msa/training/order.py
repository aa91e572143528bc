"""The order of a run: which clips a step holds, its seed, and its learning rate."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence

from omni_msa.options import TrainOptions

BUCKET = 16  # steps whose clips are sorted by length together


def plan_epoch(sizes: Sequence[int], epoch: int, options: TrainOptions) -> list[list[int]]:
    """The clips of every step of an epoch: alike in size within a step, steps in random order.

    It follows from the seed and the epoch alone.
    """
    rng = random.Random(f"{options.seed} {epoch}")
    order = list(range(len(sizes)))
    rng.shuffle(order)
    count = options.clips_a_step
    steps = []
    for start in range(0, len(order), count * BUCKET):
        bucket = sorted(order[start : start + count * BUCKET], key=lambda i: sizes[i])
        steps += [bucket[i : i + count] for i in range(0, len(bucket), count)]
    rng.shuffle(steps)
    return steps


def step_seed(*parts: int) -> int:
    """A seed that is the same in every run, on every machine."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def learning_rate_factor(step: int, total: int, warmup: float) -> float:
    """Linear warm-up over a share of all steps, then a cosine to zero."""
    warmup_steps = max(1, round(total * warmup))
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return 0.5 + 0.5 * math.cos(math.pi * (step - warmup_steps) / max(1, total - warmup_steps))
