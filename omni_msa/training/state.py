"""How far a run is, and how its state is written down and read back.

A state is the position, the trained weights and the optimizer: with them a run that was killed
goes on to the same end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch


@dataclass
class Position:
    """How far a run is: with the weights and the optimizer, all that it takes to go on."""

    epoch: int = 1
    place: int = 0  # steps done in this epoch
    step: int = 0
    best: float = math.inf
    waited: int = 0
    micro: int = 1  # clips a forward pass
    left_out: dict[str, str] = field(default_factory=dict)  # clips of this epoch, and why
    unseen: dict[str, str] = field(default_factory=dict)  # the same of its validation
    # of this epoch so far, for its line in the log
    loss_sum: float = 0.0
    num_clips: int = 0
    seconds: float = 0.0


def pack_state(
    position: Position, weights: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """The state as it is saved; weights are copied to the CPU."""
    return {
        "position": asdict(position),
        "weights": {name: p.detach().cpu() for name, p in weights.items()},
        "optimizer": optimizer.state_dict(),
    }


def restore_state(
    state: Mapping[str, Any],
    weights: Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
) -> Position:
    """Copies a saved state into the weights and the optimizer, and returns its position."""
    with torch.no_grad():
        for name, parameter in weights.items():
            parameter.copy_(state["weights"][name])
    optimizer.load_state_dict(state["optimizer"])
    return Position(**state["position"])
