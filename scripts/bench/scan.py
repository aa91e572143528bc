"""The selective scan beside its peers: the published recurrence in a plain loop, and attention.

    python -m scripts.bench.scan [--steps 8192] [--longest 32768] [--runs 3]

`loop` is the recurrence as `selective_scan_ref` of state-spaces/mamba writes it, here step by step
over E channels with N numbers of state; with gradients, in the form that autograd takes in linear
time. `attention` is torch's multi-head attention of the same width as the bidirectional block.
Medians; memory is the peak beside what was there before. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.functional import softplus

from omni_msa.methods.layers.bissm import EXPAND, STATE, BiSsm
from omni_msa.methods.layers.selective_scan import selective_scan
from omni_msa.model.memory import return_large_blocks
from scripts.bench.memory import PeakMeter

WIDTH = 128  # D; E is twice that
HEADS = 4
MIB = 1024**2


def loop(
    u: torch.Tensor, delta: torch.Tensor, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor
) -> torch.Tensor:
    """As published: decays and inputs of all steps first, then a step at a time."""
    decays = torch.exp(torch.einsum("ble,en->blen", delta, a))
    entering = torch.einsum("ble,bln,ble->blen", delta, b, u)
    x, outputs = u.new_zeros(len(u), *a.shape), []
    for decay, enters, read in zip(decays.unbind(1), entering.unbind(1), c.unbind(1), strict=True):
        x = decay * x + enters
        outputs.append(torch.einsum("ben,bn->be", x, read))
    return torch.stack(outputs, dim=1)


def problem(steps: int) -> list[torch.Tensor]:
    """One row of that many steps."""
    torch.manual_seed(0)
    channels = EXPAND * WIDTH
    u, delta = (torch.randn(1, steps, channels) for _ in range(2))
    b, c = (torch.randn(1, steps, STATE) for _ in range(2))
    a = -torch.arange(1.0, STATE + 1).repeat(channels, 1)
    return [u, softplus(delta - 3), a, b, c]


def median(job: Callable[[], object], runs: int) -> float:
    """Seconds; the first run is warm-up."""
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        job()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def compare(steps: int, runs: int) -> dict[str, float]:
    """Seconds of the loop and the scan, without and with gradients, and how far they differ."""
    tensors = problem(steps)
    scans = {"loop": loop, "scan": selective_scan}
    with torch.no_grad():
        forward = {name: median(lambda f=f: f(*tensors), runs) for name, f in scans.items()}
        difference = float((loop(*tensors) - selective_scan(*tensors)).abs().max())
    leaves = [tensor.requires_grad_() for tensor in tensors]
    both = {
        name: median(lambda f=f: torch.autograd.grad(f(*leaves).square().sum(), leaves), runs)
        for name, f in scans.items()
    }
    return {
        "steps": steps,
        "largest_difference": difference,
        **{f"{name}_forward": value for name, value in forward.items()},
        **{f"{name}_gradients": value for name, value in both.items()},
        "ratio_forward": forward["loop"] / forward["scan"],
        "ratio_gradients": both["loop"] / both["scan"],
    }


def grow(lengths: list[int], runs: int) -> dict[str, list[dict[str, float]]]:
    """Seconds and peak of each module's forward pass over one row, by length."""
    block, attention = BiSsm(WIDTH), nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    meter = PeakMeter("cpu")
    rows: dict[str, list[dict[str, float]]] = {"bissm": [], "attention": []}
    for steps in lengths:
        values, mask = torch.randn(1, steps, WIDTH), torch.ones(1, steps, dtype=torch.bool)
        jobs: dict[str, Callable[[], object]] = {
            "bissm": lambda v=values, m=mask: block(v, m),
            "attention": lambda v=values: attention(v, v, v, need_weights=False),
        }
        for name, job in jobs.items():
            meter.reset()
            before = meter.peak()
            with torch.no_grad():
                seconds = median(job, runs)
            peak = (meter.peak() - before) / MIB
            rows[name].append({"steps": steps, "seconds": seconds, "peak_mib": peak})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=8192)
    parser.add_argument("--longest", type=int, default=32768)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    return_large_blocks()  # so that memory is that of the work at hand
    lengths = [n for n in (1024, 2048, 4096, 8192, 16384, 32768) if n <= arguments.longest]
    rows = grow(lengths, arguments.runs)
    against = compare(arguments.steps, arguments.runs)
    crossing = next(
        (b["steps"] for b, a in zip(*rows.values(), strict=True) if b["seconds"] < a["seconds"]),
        None,
    )
    for name in ("forward", "gradients"):
        print(
            f"{arguments.steps} steps, {name}: loop {against[f'loop_{name}']:.3f} s, scan "
            f"{against[f'scan_{name}']:.3f} s, {against[f'ratio_{name}']:.1f} times faster"
        )
    for name, of_module in rows.items():
        for row in of_module:
            print(
                f"{name:9} {row['steps']:6} steps {1000 * row['seconds']:9.1f} ms "
                f"{row['peak_mib']:8.1f} MiB"
            )
    print(f"bissm is faster than attention from {crossing} steps" if crossing else "no crossing")
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads"
    print(json.dumps({"machine": machine, "scan": against, "grow": rows, "crossing": crossing}))


if __name__ == "__main__":
    main()
