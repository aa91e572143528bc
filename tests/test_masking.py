"""Padded sequences: what is computed from them is what the valid steps alone would give."""

from __future__ import annotations

import pytest
import torch
from padded_rows import assert_close, randomise

from omni_msa.methods.layers.masking import (
    CrossAttention,
    clean_inputs,
    masked_mean,
    sinusoidal_positions,
    zero_padding,
)

MASK = torch.tensor([[True, True, True], [True, False, False], [False, False, False]])


def test_the_mean_is_of_valid_steps_alone():
    values = torch.randn(3, 3, 4)
    values[~MASK] = torch.nan
    mean = masked_mean(values, MASK)
    assert_close(mean[0], values[0].mean(dim=0))
    assert torch.equal(mean[1], values[1, 0])
    assert torch.equal(mean[2], torch.zeros(4))


def test_padding_becomes_zero_whatever_it_held():
    values = torch.ones(3, 3, 2)
    values[~MASK] = torch.inf
    assert torch.equal(zero_padding(values, MASK), MASK[..., None].float().expand(3, 3, 2))


def test_inputs_have_the_precision_of_the_layers_and_a_step_at_least():
    values = {"text": torch.full((3, 3, 2), torch.nan).half(), "audio": torch.zeros(3, 0, 5)}
    masks = {"text": torch.zeros(3, 3, dtype=torch.bool), "audio": torch.zeros(3, 0).bool()}
    clean_values, clean_masks = clean_inputs(values, masks, ["text", "audio"], torch.float64)
    assert torch.equal(clean_values["text"], torch.zeros(3, 3, 2, dtype=torch.float64))
    assert torch.equal(clean_values["audio"], torch.zeros(3, 1, 5, dtype=torch.float64))
    assert clean_masks["text"].shape == (3, 3) and not clean_masks["audio"].any()
    assert clean_masks["audio"].shape == (3, 1)
    assert list(clean_inputs(values, masks, ["text"], torch.float32)[0]) == ["text"]


@pytest.mark.parametrize("width", [1, 7, 8])
def test_positions_are_the_published_sines_and_cosines(width):
    positions = sinusoidal_positions(5, width)
    for step in range(5):
        for place in range(width):
            angle = torch.tensor(step / 10_000 ** ((place - place % 2) / width)).double()
            expected = angle.cos() if place % 2 else angle.sin()
            assert positions[step, place].item() == pytest.approx(expected.item(), abs=1e-6)


def test_attention_is_that_over_the_valid_keys():
    attention = randomise(CrossAttention(8, heads=2))
    queries, keys = torch.randn(3, 5, 8), torch.randn(3, 3, 8)
    answers = attention(queries, keys, MASK)
    layer = attention.attention
    for row, num_keys in enumerate((3, 1)):
        q, k, v = (
            (tensor @ weight.T + bias).unflatten(-1, (2, 4)).transpose(0, 1)  # [heads, steps, 4]
            for tensor, weight, bias in zip(
                (queries[row], keys[row, :num_keys], keys[row, :num_keys]),
                layer.in_proj_weight.chunk(3),
                layer.in_proj_bias.chunk(3),
                strict=True,
            )
        )
        heads = (q @ k.transpose(1, 2) / 2).softmax(dim=-1) @ v
        expected = layer.out_proj(heads.transpose(0, 1).flatten(1))
        assert_close(answers[row], expected)
    assert torch.equal(answers[2], torch.zeros(5, 8))


def test_attention_without_a_key_is_zero_and_has_finite_gradients():
    attention = randomise(CrossAttention(8, heads=4)).train()
    queries, keys = torch.randn(2, 5, 8, requires_grad=True), torch.zeros(2, 1, 8)
    answers = attention(queries, keys.requires_grad_(), torch.zeros(2, 1, dtype=torch.bool))
    assert torch.equal(answers, torch.zeros(2, 5, 8))
    answers.sum().backward()
    tensors = (queries, keys, *attention.parameters())
    assert all((tensor.grad == 0).all() for tensor in tensors)
    assert sum(p.numel() for p in attention.parameters()) == 4 * 8**2 + 4 * 8
