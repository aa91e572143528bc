"""Sequences of unequal length side by side: padded on the right, with a mask of the valid steps.

A modality that a row lacks is a row of the mask without any valid step; what is computed from it
is zero, never NaN. Shapes: R rows, L steps, Q steps that ask, D width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn
from torch.nn.functional import pad

LONGEST_WAVE = 10_000.0  # of sinusoidal positions, over 2 pi: that of the original transformer


def zero_padding(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Values [R, L, D] with zeros where the mask [R, L] is false, even where they are NaN."""
    return values.masked_fill(~mask[..., None], 0.0)


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of the valid steps of values [R, L, D], by the mask [R, L]: [R, D], zero without any."""
    num_steps = mask.sum(dim=-1, keepdim=True).clamp(min=1)
    return zero_padding(values, mask).sum(dim=-2) / num_steps


def clean_inputs(
    values: Mapping[str, torch.Tensor],
    masks: Mapping[str, torch.Tensor],
    names: Iterable[str],
    dtype: torch.dtype,
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Values [R, L, D] and masks [R, L] of these modalities, as the layers take them.

    Padding holds zeros. There is at least one step, also of a modality that comes with none because
    no row has it: neither convolutions nor attention take sequences of no step.
    """
    clean_values, clean_masks = {}, {}
    for name in names:
        extra = 0 if masks[name].shape[1] else 1
        mask = pad(masks[name], (0, extra))
        clean_values[name] = zero_padding(pad(values[name].to(dtype), (0, 0, 0, extra)), mask)
        clean_masks[name] = mask
    return clean_values, clean_masks


def sinusoidal_positions(length: int, width: int) -> torch.Tensor:
    """Sines and cosines of falling frequency in turn, in fp64: [length, width]."""
    pairs = torch.arange(0, width, 2, dtype=torch.float64)
    steps = torch.arange(length, dtype=torch.float64)
    angles = steps[:, None] * LONGEST_WAVE ** (-pairs / width)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :width]


class CrossAttention(nn.Module):
    """Multi-head attention of one sequence over another; 4 D^2 + 4 D parameters."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(
        self, queries: torch.Tensor, keys: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """What queries [R, Q, D] read of keys [R, L, D]: [R, Q, D], zero in rows without a key.

        Args:
            mask: of the keys [R, L].
        """
        has_keys = mask.any(dim=-1, keepdim=True)
        # Not every kernel has a softmax over no key: rows without one read their padding instead.
        answers, _ = self.attention(
            queries, keys, keys, key_padding_mask=~mask & has_keys, need_weights=False
        )
        return answers.masked_fill(~has_keys[..., None], 0.0)
