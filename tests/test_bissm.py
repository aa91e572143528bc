"""The selective scan is the published recurrence, and the block around it sees no padding."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import softplus

from omni_msa.methods.layers.bissm import STATE, STEP_SIZES, BiSsm, BiSsmBlock, MeanBiSsmState
from omni_msa.methods.layers.selective_scan import BLOCK, CHUNK, selective_scan


def recurrence(u, delta, a, b, c):
    """A step at a time."""
    x, outputs = u.new_zeros(len(u), *a.shape), []
    for u_l, delta_l, b_l, c_l in zip(*(t.unbind(1) for t in (u, delta, b, c)), strict=True):
        x = (delta_l[..., None] * a).exp() * x + (delta_l * u_l)[..., None] * b_l[:, None]
        outputs.append((x * c_l[:, None]).sum(-1))
    return torch.stack(outputs, dim=1)


def problem(length, rows=2, channels=6, state=5, device="cpu", shift=-2.0):
    torch.manual_seed(length)
    u, delta = (torch.randn(rows, length, channels) for _ in range(2))
    b, c = (torch.randn(rows, length, state) for _ in range(2))
    a = -torch.rand(channels, state) * 8
    tensors = (u, softplus(delta + shift), a, b, c)
    return [t.to(device).requires_grad_() for t in tensors]


LENGTHS = [1, 2, CHUNK - 1, CHUNK, CHUNK + 1, BLOCK, BLOCK + CHUNK + 3]


@pytest.mark.parametrize("length", LENGTHS)
def test_the_scan_is_the_recurrence_and_so_are_its_gradients(length):
    tensors = problem(length)
    weights = torch.randn(2, length, 6)
    expected, outputs = recurrence(*tensors), selective_scan(*tensors)
    torch.testing.assert_close(outputs, expected, atol=1e-5, rtol=1e-5)
    wanted = torch.autograd.grad((expected * weights).sum() / length, tensors)
    gradients = torch.autograd.grad((outputs * weights).sum() / length, tensors)
    for gradient, want in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(gradient, want, atol=1e-5, rtol=1e-5)


def test_large_steps_forget_and_small_ones_keep():
    """Where chunked forms that divide by decays overflow."""
    tensors = problem(200, shift=40.0)
    assert (selective_scan(*tensors) - recurrence(*tensors)).abs().max() < 1e-4
    u, delta, a, b, c = problem(200)
    delta = delta.detach().clone()
    delta[:, 100:] = 0
    outputs, expected = (f(u, delta, a, b, c) for f in (selective_scan, recurrence))
    torch.testing.assert_close(outputs, expected, atol=1e-5, rtol=1e-5)
    assert (outputs[:, 100:].abs() > 1e-3).any()  # what came before is still there


@pytest.mark.skipif(not torch.cuda.is_available(), reason="mamba-ssm's kernel needs a GPU")
def test_the_kernel_of_mamba_ssm_is_the_same():
    pytest.importorskip("mamba_ssm", reason="mamba-ssm is not installed")
    tensors = problem(300, channels=8, state=16, device="cuda")
    expected = recurrence(*tensors)
    torch.testing.assert_close(selective_scan(*tensors), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("module", [BiSsm, BiSsmBlock])
def test_padding_changes_nothing_in_either_direction(module):
    torch.manual_seed(0)
    block = module(12)
    rows = [torch.randn(length, 12) for length in (1, 7, 40)]
    values = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=3.0)
    mask = torch.arange(40) < torch.tensor([len(row) for row in rows])[:, None]
    together = block(values, mask)
    for row, output in zip(rows, together, strict=True):
        alone = block(row[None], torch.ones(1, len(row), dtype=torch.bool))[0]
        torch.testing.assert_close(output[: len(row)], alone, atol=1e-5, rtol=1e-5)


def test_both_directions_are_looked_at():
    torch.manual_seed(0)
    block, mask = BiSsm(12), torch.ones(1, 20, dtype=torch.bool)
    values = torch.randn(1, 20, 12, requires_grad=True)
    (gradient,) = torch.autograd.grad(block(values, mask)[0, 10].sum(), values)
    assert (gradient[0].abs().sum(-1) > 0).all()


def test_a_sequence_is_summed_up_whatever_it_is_batched_with():
    torch.manual_seed(0)
    model = MeanBiSsmState(5, 16)
    features = torch.randn(2, 9, 5)
    together = model(features, torch.tensor([9, 4]))
    alone = model(features[1:, :4], torch.tensor([4]))
    torch.testing.assert_close(together[1:], alone, atol=1e-5, rtol=1e-5)
    assert all(p.grad is None for p in model.parameters())
    together.square().sum().backward()
    assert all((p.grad != 0).any() for p in model.parameters())


def test_initial_steps_and_decays_are_those_of_mamba():
    block = BiSsm(48)
    for direction in (block.ahead, block.back):
        steps = softplus(direction.step_size.bias)
        assert STEP_SIZES[0] * 0.999 < steps.min() and steps.max() < STEP_SIZES[1] * 1.001
        assert direction.step_size.weight.abs().max() <= 3**-0.5  # 48 / 16 of them
        rates = direction.log_rates.exp()
        torch.testing.assert_close(rates, torch.arange(1.0, STATE + 1).expand(96, -1))
        assert (direction.skip == 1).all()
