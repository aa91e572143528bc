"""A ridge probe: a linear map of frozen last-token states, fitted in closed form.

The penalty with the smallest leave-one-out error is taken, so that some fifty labelled clips are
enough to calibrate a model to labels of one's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from omni_msa.inputs import ThinkerInputs
from omni_msa.readouts.interface import LabelScale, Reading, Readout
from omni_msa.thinker import Thinker
from omni_msa.values import Subset

PENALTIES = tuple(10.0**power for power in range(-3, 7))


@dataclass(frozen=True)
class RidgeFit:
    """A fitted line: score = states . weight + bias, and how well it did on clips left out."""

    weight: torch.Tensor  # [H]
    bias: float
    penalty: float
    left_out: torch.Tensor  # [N] predictions of each clip by a fit without it


class Probe(Readout):
    """Linear H -> 1 in label units."""

    name = "probe"

    def __init__(self, thinker: Thinker, scale: LabelScale, penalty: float | None = None) -> None:
        super().__init__(thinker, scale)
        self.penalty = penalty
        self.line = nn.Linear(thinker.width, 1)

    def take_fit(self, fit: RidgeFit) -> None:
        """Makes a fitted line this probe's own."""
        self.penalty = fit.penalty
        with torch.no_grad():
            self.line.weight.copy_(fit.weight[None])
            self.line.bias.fill_(fit.bias)

    def read(
        self,
        thinker: Thinker,
        clips: Sequence[ThinkerInputs],
        subsets: Sequence[Sequence[Subset]],
    ) -> Reading:
        hidden = thinker.forward(thinker.batch(clips, subsets)).float()
        return Reading(self.scale.clip(self.line(hidden).squeeze(-1)))

    def settings(self) -> dict[str, Any]:
        return {"penalty": self.penalty}


def fit_ridge(states: torch.Tensor, labels: torch.Tensor) -> RidgeFit:
    """Ridge regression on standardised states [N, H], with labels [N], N >= 2.

    Every penalty of `PENALTIES` is tried by its exact leave-one-out residuals,
    (y - fit) / (1 - h), h the diagonal of the hat matrix (Golub, Heath and Wahba, 1979).
    """
    x, y = states.double(), labels.double()
    mean, deviation = x.mean(0), x.std(0, correction=0).clamp(min=1e-12)
    # a state that never varies says nothing, however its rounding is blown up
    x = (x - mean) / deviation * (deviation > 1e-6)
    level = y.mean()
    u, s, vt = torch.linalg.svd(x, full_matrices=False)  # [N, R], [R], [R, H]
    target = u.T @ (y - level)  # [R]
    best: tuple[float, float, torch.Tensor] | None = None
    for penalty in PENALTIES:
        shrink = s**2 / (s**2 + penalty)
        hat = (u**2 @ shrink) + 1 / len(y)
        residual = (y - level - u @ (shrink * target)) / (1 - hat).clamp(min=1e-9)
        error = float(residual.abs().mean())
        if best is None or error < best[0]:
            best = (error, penalty, y - residual)
    assert best is not None
    _, penalty, left_out = best
    weight = vt.T @ (s / (s**2 + penalty) * target) / deviation * (deviation > 1e-6)
    return RidgeFit(weight.float(), float(level - mean @ weight), penalty, left_out.float())
