"""The published discriminative head (arXiv 2606.05713, eq. 3): an MLP on the last hidden state.

It is fp32 whatever the Thinker is held in, and it is made outside the quantizer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

HEAD_WIDTH = 256
HEAD_DROPOUT = 0.2


@dataclass(frozen=True)
class LabelScale:
    """Training labels' mean and deviation, and the range that predictions are clipped to."""

    mean: float
    deviation: float
    low: float
    high: float

    def normalise(self, labels: torch.Tensor) -> torch.Tensor:
        return (labels - self.mean) / self.deviation

    def restore(self, outputs: torch.Tensor) -> torch.Tensor:
        """Head outputs -> scores in label units, clipped to the label range."""
        return (outputs * self.deviation + self.mean).clamp(self.low, self.high)


class RegressionHead(nn.Module):
    """Linear H -> 256, LayerNorm, ReLU, Dropout 0.2, Linear 256 -> 1: hidden [..., H] -> [...]."""

    def __init__(self, width: int, hidden: int = HEAD_WIDTH, dropout: float = HEAD_DROPOUT) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, hidden),
            nn.LayerNorm(hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, 1),
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.layers(hidden.float()).squeeze(-1)
