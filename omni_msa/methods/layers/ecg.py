"""A heart's leads as one vector: convolutions, then blocks of the bidirectional state-space model.

After ECGMamba (arXiv 2406.10098), of which only the abstract and a third-party summary were
available: an encoder in front, blocks of BiSSM (`bissm.py`), residual connections, LayerNorm. OURS,
because nothing about it was found: 100 samples a second, three convolutions (kernels 7, 5 and 5,
each halving the rate), LayerNorm and GELU behind each, the mean over time, and leads that are left
out at random in training, so that a record may lack some.

Shapes: R rows, S samples, L = S / 8 steps, D width.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import gelu, pad

from omni_msa.media.record_files import LEADS
from omni_msa.methods.layers.bissm import BiSsmBlock
from omni_msa.methods.layers.masking import masked_mean, zero_padding

KERNELS = (7, 5, 5)
LEADS_DROPPED = 0.5  # share of rows that lose some, in training
LEAST_MILLIVOLTS = 0.02  # what is smaller is not enlarged to the size of a heart's


class EcgEncoder(nn.Module):
    """Leads [R, S, 12] in millivolts -> their states over time, and the mean of these."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        widths = (len(LEADS), width // 2, width, width)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(before, after, kernel, stride=2, padding=kernel // 2)
            for before, after, kernel in zip(widths, widths[1:], KERNELS, strict=False)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(after) for after in widths[1:])
        self.blocks = nn.ModuleList(BiSsmBlock(width) for _ in range(blocks))
        self.last_norm = nn.LayerNorm(width)

    def forward(self, leads: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Leads [R, S, 12], zero where one is missing, and the mask [R, S] -> [R, D]."""
        extra = 0 if mask.shape[1] else 1  # where no row has any, one step of nothing
        leads, mask = pad(leads, (0, 0, 0, extra)), pad(mask, (0, extra))
        values = _of_one_size(drop_leads(leads) if self.training else leads, mask)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            mask = mask[:, ::2]
            values = norm(convolution(values.transpose(1, 2)).transpose(1, 2))
            values = zero_padding(gelu(values), mask)
        for block in self.blocks:
            values = block(values, mask)
        return masked_mean(self.last_norm(values), mask)


def drop_leads(leads: torch.Tensor) -> torch.Tensor:
    """Half of the rows with some of their leads, one at least, and the rest as they are."""
    rows, device = len(leads), leads.device
    is_kept = torch.rand(rows, len(LEADS), device=device) < torch.rand(rows, 1, device=device)
    one = torch.randint(len(LEADS), (rows,), device=device)
    is_kept[torch.arange(rows, device=device), one] = True
    is_kept |= torch.rand(rows, 1, device=device) >= LEADS_DROPPED
    return leads * is_kept[:, None]


def _of_one_size(leads: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Divided by their deviation over all leads, whose proportions stay: [R, S, 12]."""
    leads = zero_padding(leads.float(), mask)
    is_there = (leads != 0).any(dim=1)  # [R, 12]
    count = mask.sum(dim=1).clamp(min=1) * is_there.sum(dim=1).clamp(min=1)
    deviation = (leads.square().sum(dim=(1, 2)) / count).sqrt()
    return leads / deviation.clamp(min=LEAST_MILLIVOLTS)[:, None, None]
