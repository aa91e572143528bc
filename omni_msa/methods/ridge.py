"""A ridge probe: a linear map of frozen last-token states, fitted in closed form.

The penalty with the smallest leave-one-out error is taken, so that some fifty labelled clips are
enough to calibrate a model to labels of one's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

import torch
from torch import nn
from torch.nn.functional import one_hot

from omni_msa.errors import ConfigError
from omni_msa.files.labels import LabelSpace
from omni_msa.methods.method import ONE_LABEL, Method, Reading, TrainedBy, in_weights
from omni_msa.modalities import Subset
from omni_msa.model.inputs import ThinkerInputs
from omni_msa.model.thinker import Thinker

PENALTIES = tuple(10.0**power for power in range(-3, 7))


@dataclass(frozen=True)
class RidgeFit:
    """Fitted lines: targets = states . weight + bias, and what they say of clips left out."""

    weight: torch.Tensor  # [T, H], a line a target
    bias: torch.Tensor  # [T]
    penalty: float
    left_out: torch.Tensor  # [N, T] predictions of each clip by a fit without it


@dataclass(frozen=True)
class RidgeOptions:
    """Of the fit."""

    penalty: float | None = in_weights(None)  # None: that with the smallest leave-one-out error

    def __post_init__(self) -> None:
        if self.penalty is not None and not 0 < self.penalty < inf:
            raise ConfigError(f"penalty must be positive and finite, got {self.penalty}")


class Ridge(Method):
    """Linear H -> 1 in label units, or H -> C, a line a class, of which the highest is taken.

    Users call it the probe.
    """

    name = "probe"
    Options = RidgeOptions
    trained_by = TrainedBy.FIT
    tasks = ONE_LABEL

    def __init__(self, thinker: Thinker, label_space: LabelSpace, options: RidgeOptions) -> None:
        super().__init__(thinker, label_space, options)
        self.line = nn.Linear(thinker.width, label_space.num_outputs)

    @classmethod
    def num_parameters(cls, width: int, options: RidgeOptions, label_space: LabelSpace) -> int:
        return (width + 1) * label_space.num_outputs

    def fit(self, states: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        classes = len(self.label_space.classes)
        targets = one_hot(labels.long(), classes).double() if classes else labels[:, None]
        penalties = (self.options.penalty,) if self.options.penalty else PENALTIES
        fitted = fit_ridge(states, targets, penalties)
        self.options = replace(self.options, penalty=fitted.penalty)
        with torch.no_grad():
            self.line.weight.copy_(fitted.weight)
            self.line.bias.copy_(fitted.bias)
        return self._scores(fitted.left_out)

    def _scores(self, outputs: torch.Tensor) -> torch.Tensor:
        """Lines [..., T] -> labels [...]."""
        if self.label_space.classes:
            return outputs.argmax(-1).float()
        return self.label_space.clip(outputs.squeeze(-1))

    def read(
        self,
        thinker: Thinker,
        clips: Sequence[ThinkerInputs],
        subsets: Sequence[Sequence[Subset]],
    ) -> Reading:
        hidden = thinker.forward(thinker.batch(clips, subsets)).float()
        return Reading(self._scores(self.line(hidden)), states=hidden)


def fit_ridge(
    states: torch.Tensor, targets: torch.Tensor, penalties: Sequence[float] = PENALTIES
) -> RidgeFit:
    """Ridge regression on standardised states [N, H], with targets [N, T], N >= 2.

    Every penalty is tried by its leave-one-out residuals, (y - fit) / (1 - h), h the
    diagonal of the hat matrix (Golub, Heath and Wahba, 1979): exact, but that the standardisation
    has seen all clips. A clip that is left out gets the penalty that is best for the others; these
    were fitted with it, so that its label has a small say in it.
    """
    x, y = states.double(), targets.double()
    mean, deviation = x.mean(0), x.std(0, correction=0).clamp(min=1e-12)
    # a state that never varies says nothing, however its rounding is blown up
    varies = deviation > 1e-6
    x = (x - mean) / deviation * varies
    level = y.mean(0)  # [T]
    u, s, vt = torch.linalg.svd(x, full_matrices=False)  # [N, R], [R], [R, H]
    along = u.T @ (y - level)  # [R, T]
    tried = []
    for penalty in penalties:
        shrink = s**2 / (s**2 + penalty)
        hat = (u**2 @ shrink) + 1 / len(y)  # [N]
        residual = y - level - u @ (shrink[:, None] * along)
        tried.append(residual / (1 - hat).clamp(min=1e-9)[:, None])
    residuals = torch.stack(tried)  # [P, N, T]
    errors = residuals.abs().mean(2)  # [P, N]
    penalty = penalties[int(errors.mean(1).argmin())]
    without = (errors.sum(1, keepdim=True) - errors).argmin(0)  # [N], chosen by all other clips
    left_out = y - residuals[without, torch.arange(len(y))]
    weight = vt.T @ ((s / (s**2 + penalty))[:, None] * along)  # [H, T]
    weight = weight / deviation[:, None] * varies[:, None]
    return RidgeFit(weight.T.float(), (level - mean @ weight).float(), penalty, left_out.float())
