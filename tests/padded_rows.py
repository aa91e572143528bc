"""Rows of unequal length as the layers of methods take them, and rules that all of them keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from omni_msa.modalities import all_subsets

TOLERANCE = 1e-5  # fp32: sums are taken in another order
NAMES = ("text", "audio", "video")

Row = dict[str, torch.Tensor]  # [L, D_m] by modality
Forward = Callable[[Mapping[str, torch.Tensor], Mapping[str, torch.Tensor]], torch.Tensor]


def make_rows(widths: Mapping[str, int]) -> list[Row]:
    """One row for each subset of the modalities, the empty one included."""
    generator = torch.Generator().manual_seed(7)
    return [
        {
            name: torch.randn(
                (3 + 2 * place + number) if name in subset else 0, width, generator=generator
            )
            for place, (name, width) in enumerate(widths.items())
        }
        for number, subset in enumerate(all_subsets(widths))
    ]


def collate(
    rows: Sequence[Row], extra: int = 0, filler: float = 0.0
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Values [R, L, D_m] and masks [R, L], with as many more steps and that value as padding."""
    values, masks = {}, {}
    for name in rows[0]:
        length = max(len(row[name]) for row in rows) + extra
        values[name] = torch.full((len(rows), length, rows[0][name].shape[1]), filler)
        masks[name] = torch.zeros(len(rows), length, dtype=torch.bool)
        for number, row in enumerate(rows):
            values[name][number, : len(row[name])] = row[name]
            masks[name][number, : len(row[name])] = True
    return values, masks


def randomise(module: nn.Module, seed: int = 3) -> nn.Module:
    """No parameter is zero or one any more, biases and norms included."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return module


def assert_close(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=TOLERANCE, atol=TOLERANCE)


def assert_rows_stand_alone(forward: Forward, rows: Sequence[Row]) -> None:
    """Neither padding (its length, what it holds) nor other rows change a row's outputs [R, O]."""
    outputs = forward(*collate(rows))
    assert outputs.isfinite().all()
    alone = torch.cat([forward(*collate([row])) for row in rows])
    assert_close(alone, outputs)
    for extra, filler in ((1, 0.0), (1, 100.0), (6, -100.0), (2, torch.nan), (2, torch.inf)):
        assert_close(forward(*collate(rows, extra, filler)), outputs)
    assert_close(forward(*collate(rows[::-1])), outputs.flip(0))


def assert_gradients_are_finite(module: nn.Module, forward: Forward, rows: Sequence[Row]) -> None:
    """Of each row alone and of all: those of weights, and of values, which are zero in padding."""
    for batch in (*([row] for row in rows), rows):
        values, masks = collate(batch, extra=1, filler=5.0)
        for tensor in values.values():
            tensor.requires_grad_()
        module.zero_grad()
        forward(values, masks).square().sum().backward()
        for parameter in module.parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all()
        for name, tensor in values.items():
            assert tensor.grad.isfinite().all()
            assert (tensor.grad[~masks[name]] == 0).all()
            is_used = (tensor.grad != 0).flatten(1).any(dim=1)
            assert torch.equal(is_used, masks[name].any(dim=1))  # wherever a row has it


def assert_precision(module: nn.Module, forward: Forward, rows: Sequence[Row]) -> None:
    """Autocast changes nothing, inputs may be of half precision, and double works."""
    values, masks = collate(rows)
    outputs = forward(values, masks)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(forward(values, masks), outputs)
    half = {name: tensor.bfloat16() for name, tensor in values.items()}
    assert forward(half, masks).dtype == torch.float32
    module.double()
    exact = forward(values, masks)
    assert exact.dtype == torch.float64
    assert_close(exact.float(), outputs)
    module.float()
