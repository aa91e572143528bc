"""The bidirectional selective state-space block of ECGMamba (arXiv 2406.10098).

Its abstract names the bidirectional block; a third-party summary adds residual connections,
LayerNorm and a feed-forward part of two Conv1d. OURS, because nothing about it was found: that the
directions share projections and gate but not their convolution, step sizes and decays; widths,
kernel sizes and the number of blocks; the norm before each part; the mean at the end. Each
direction is the inside of a block of Mamba (arXiv 2312.00752), with that code's initial values.

What is padding takes no step and is zero wherever neighbours are looked at, so that it changes
nothing, in either direction. Shapes: R rows, L steps, D width, E inner channels, N numbers of state
a channel.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.functional import gelu, pad, silu, softplus

from omni_msa.methods.layers.masking import masked_mean, zero_padding
from omni_msa.methods.layers.selective_scan import selective_scan

STATE = 16  # N
EXPAND = 2  # E / D
KERNEL = 4  # of the convolution in a direction
STEP_SIZES = (1e-3, 1e-1)  # initial ones, evenly in their logarithm


class Direction(nn.Module):
    """One direction: depth-wise convolution, what the input says of its steps, and the scan."""

    def __init__(self, channels: int, rank: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(channels, channels, KERNEL, groups=channels)
        self.selection = nn.Linear(channels, rank + 2 * STATE, bias=False)
        self.step_size = nn.Linear(rank, channels)
        rates = torch.arange(1, STATE + 1, dtype=torch.float32)
        self.log_rates = nn.Parameter(rates.log().repeat(channels, 1))  # [E, N]
        self.skip = nn.Parameter(torch.ones(channels))
        nn.init.uniform_(self.step_size.weight, -(rank**-0.5), rank**-0.5)
        low, high = map(math.log, STEP_SIZES)
        steps = torch.empty(channels).uniform_(low, high).exp()
        with torch.no_grad():  # softplus of the bias is the step size
            self.step_size.bias.copy_(steps.expm1().log())

    def forward(self, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Values [R, L, E], zero in the padding, and the mask [R, L] -> [R, L, E]."""
        before = pad(values.transpose(1, 2), (KERNEL - 1, 0))
        inputs = silu(self.convolution(before)).transpose(1, 2)
        rank = self.step_size.in_features
        step, into, out = self.selection(inputs).split([rank, STATE, STATE], dim=-1)
        delta = zero_padding(softplus(self.step_size(step)), mask)
        scanned = selective_scan(inputs, delta, -self.log_rates.exp(), into, out)
        return scanned.to(values.dtype) + self.skip * inputs


class BiSsm(nn.Module):
    """Both directions between shared projections, under a shared gate."""

    def __init__(self, width: int) -> None:
        super().__init__()
        channels, rank = EXPAND * width, math.ceil(width / 16)
        self.into = nn.Linear(width, 2 * channels, bias=False)
        self.ahead, self.back = (Direction(channels, rank) for _ in range(2))
        self.out = nn.Linear(channels, width, bias=False)

    def forward(self, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Values [R, L, D] and the mask [R, L] -> [R, L, D]."""
        inner, gate = zero_padding(self.into(values), mask).chunk(2, dim=-1)
        back = self.back(inner.flip(1), mask.flip(1)).flip(1)
        return self.out((self.ahead(inner, mask) + back) * silu(gate))


class BiSsmBlock(nn.Module):
    """BiSSM and two convolutions over time of kernel 3, D -> 2 D -> D, each behind a LayerNorm and
    added to what it was given."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.bissm = BiSsm(width)
        self.wide = nn.Conv1d(width, EXPAND * width, 3, padding=1)
        self.narrow = nn.Conv1d(EXPAND * width, width, 3, padding=1)

    def forward(self, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Values [R, L, D] and the mask [R, L] -> [R, L, D], zero in the padding."""
        values = values + self.bissm(self.norms[0](values), mask)
        inner = zero_padding(self.norms[1](values), mask)
        inner = zero_padding(gelu(self.wide(inner.transpose(1, 2))).transpose(1, 2), mask)
        output = self.narrow(inner.transpose(1, 2)).transpose(1, 2)
        return zero_padding(values + output, mask)


class MeanBiSsmState(nn.Module):
    """A linear layer, a block, and the mean over the steps: a sequence as one vector."""

    def __init__(self, input_width: int, width: int) -> None:
        super().__init__()
        self.into = nn.Linear(input_width, width)
        self.block = BiSsmBlock(width)

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Features [R, L, D] padded on the right, lengths [R] of 1 or more -> [R, width]."""
        steps = torch.arange(features.shape[1], device=features.device)
        mask = steps < lengths.to(features.device)[:, None]
        return masked_mean(self.block(zero_padding(self.into(features), mask), mask), mask)
