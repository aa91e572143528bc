"""A training loop of a fixed number of steps, which goes on where it was killed.

What a step sees depends on its number and the seed alone, so a run that was killed ends with the
weights of one that was not, on the same machine and with as many threads.
"""

from __future__ import annotations

import math
import os
import random
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

KEPT_EVERY = 100  # steps
CHECK_SECONDS = 300


@dataclass(frozen=True)
class Schedule:
    """AdamW over `steps` steps: linear warm-up, then a cosine down to `floor` times the rate."""

    steps: int
    learning_rate: float
    seed: int = 0
    warm_up: int = 100
    floor: float = 0.03
    betas: tuple[float, float] = (0.9, 0.98)

    def rate(self, step: int) -> float:
        """The learning rate of a step (from 0)."""
        cosine = 0.5 + 0.5 * math.cos(math.pi * step / self.steps)
        return (
            self.learning_rate
            * min(1.0, (step + 1) / self.warm_up)
            * (self.floor + (1 - self.floor) * cosine)
        )


@dataclass
class Loop:
    """One stage of training: what is trained, and the file that keeps it between kills.

    `memory` holds numbers that a stage carries from step to step; they are kept as well.
    """

    name: str
    schedule: Schedule
    trained: Mapping[str, torch.nn.Module]
    kept: Path
    memory: dict[str, float] = field(default_factory=dict)

    def run(
        self, groups: list, step_loss: Callable[[int, random.Random], float],
        check: Callable[[], str] = lambda: "",
    ) -> None:  # fmt: skip
        """Trains; `step_loss(step, rng)` runs forward and backward and returns the loss."""
        optimizer = torch.optim.AdamW(groups, lr=0.0, betas=self.schedule.betas)
        first = self._restore(optimizer)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        running, began = None, time.perf_counter()
        last = began
        for step in range(first, self.schedule.steps):
            rng = random.Random(f"{self.schedule.seed} {step}")
            torch.manual_seed(rng.randrange(2**63))
            for group in optimizer.param_groups:
                group["lr"] = self.schedule.rate(step)
            loss = step_loss(step, rng)
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            running = loss if running is None else 0.98 * running + 0.02 * loss
            if (step + 1) % KEPT_EVERY == 0 and step + 1 < self.schedule.steps:
                self._keep(optimizer, step + 1)
            if time.perf_counter() - last > CHECK_SECONDS:
                last = time.perf_counter()
                left = (last - began) / (step + 1 - first) * (self.schedule.steps - step - 1) / 60
                self._say(f"step {step + 1}, loss {running:.3f}, {left:.0f} min left | {check()}")
        if first < self.schedule.steps:
            self._keep(optimizer, self.schedule.steps)
            self._say(f"done after {self.schedule.steps} steps | {check()}")

    def end(self) -> None:
        """Forgets the kept state, once the result is written."""
        self.kept.unlink(missing_ok=True)

    def _say(self, note: str) -> None:
        print(f"{self.name}: {note}", file=sys.stderr, flush=True)

    def _keep(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        state = {
            "schedule": asdict(self.schedule),
            "step": step,
            "memory": self.memory,
            "optimizer": optimizer.state_dict(),
            "trained": {name: module.state_dict() for name, module in self.trained.items()},
        }
        partial = self.kept.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self.kept)

    def _restore(self, optimizer: torch.optim.Optimizer) -> int:
        if not self.kept.exists():
            return 0
        state = torch.load(self.kept, weights_only=True)
        if state["schedule"] != asdict(self.schedule):
            self._say("begins anew: what was kept is of another schedule")
            return 0
        for name, module in self.trained.items():
            module.load_state_dict(state["trained"][name])
        optimizer.load_state_dict(state["optimizer"])
        self.memory |= state["memory"]
        self._say(f"goes on after step {state['step']}")
        return state["step"]
