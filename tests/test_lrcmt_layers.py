"""The network of LRCMT: its sizes, its stages composed plainly, and padding left unseen."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from padded_rows import (
    assert_close,
    assert_gradients_are_finite,
    assert_precision,
    assert_rows_stand_alone,
    collate,
    make_rows,
    randomise,
)
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn.functional import layer_norm
from transformers import BertConfig, BertModel

from omni_msa.errors import ConfigError
from omni_msa.methods.layers.lrcmt import (
    ORDERS,
    SUMMARIES,
    CrossBlock,
    Lrcmt,
    LrcmtShape,
)
from omni_msa.methods.layers.masking import sinusoidal_positions

WIDTHS = {"text": 10, "audio": 5, "video": 3}
VARIANTS = list(product(ORDERS, SUMMARIES))


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def make(order="voice-face-first", summary="first", outputs=2):
    shape = LrcmtShape(width=8, heads=2, order=order, summary=summary)
    return randomise(Lrcmt(WIDTHS, outputs, shape)), make_rows(WIDTHS)


def test_the_layers_have_the_parameters_that_were_counted():
    with torch.device("meta"):
        model = Lrcmt({"text": 768, "audio": 74, "video": 35}, 1)
    block = (4 * 64**2 + 4 * 64) + 2 * (2 * 64) + (64 * 256 + 256 + 256 * 64 + 64)
    assert count(model.first) == count(model.second) == 2 * block == 99_968
    assert count(model.projections) == 64 * (768 + 74 + 35 + 3) == 56_320
    assert count(model.head) == (128 * 64 + 64) + (64 + 1) == 8_321
    assert count(model) == 264_577


@pytest.mark.parametrize(
    ("order", "parameters"),
    [("voice-face-first", 264_577), ("none", 164_609), ("text-first", 264_577)],
)
def test_orders_with_two_stages_are_of_one_size(order, parameters):
    with torch.device("meta"):
        model = Lrcmt({"text": 768, "audio": 74, "video": 35}, 1, LrcmtShape(order=order))
    assert count(model) == parameters


def test_with_lora_0_77_percent_are_trained():
    """Near the abstract's 0.76 %, which does not say what it counts, nor of which model."""
    with torch.device("meta"):
        bert = BertModel(BertConfig())
        base = count(bert)
        targets = ["query", "key", "value", "attention.output.dense"]
        adapter = get_peft_model(bert, LoraConfig(r=8, lora_alpha=16, target_modules=targets))
        layers = Lrcmt({"text": 768, "audio": 74, "video": 35}, 1)
    lora = adapter.get_nb_trainable_parameters()[0]
    assert (base, lora) == (109_482_240, 589_824)
    trainable = lora + count(layers)
    assert trainable == 854_401
    assert 100 * trainable / (base + trainable) == pytest.approx(0.774359, abs=1e-6)


def test_a_cross_block_is_its_two_equations():
    block = randomise(CrossBlock(8, heads=2))
    queries, keys = torch.randn(2, 5, 8), torch.randn(2, 3, 8)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    answers = block(queries, keys, mask)

    def norm(layer, values):
        return layer_norm(values, [8], layer.weight, layer.bias)

    attended = torch.zeros_like(queries)  # the second row has nothing to read
    attended[0] = block.attention.attention(queries[:1], keys[:1, :2], keys[:1, :2])[0][0]
    values = norm(block.attention_norm, queries + attended)
    inner, _, outer = block.feed_forward
    hidden = (values @ inner.weight.T + inner.bias).clamp(min=0)
    expected = norm(block.norm, values + hidden @ outer.weight.T + outer.bias)
    assert_close(answers, expected)


@pytest.mark.parametrize(("order", "summary"), VARIANTS)
@torch.no_grad()
def test_stages_follow_the_order(order, summary):
    """One row without padding, its stages written out as `ORDERS` has them."""
    model, rows = make(order, summary)
    values, masks = collate(rows[-1:])
    text, audio, video = (
        model.projections[name](values[name])
        + sinusoidal_positions(values[name].shape[1], 8).float()
        for name in WIDTHS
    )

    def cross(block, queries, keys):
        return block(queries, keys, torch.ones(keys.shape[:2]).bool())

    if order == "text-first":
        audio, video = cross(model.first[0], audio, text), cross(model.first[1], video, text)
        parts = [cross(model.second[0], audio, video), cross(model.second[1], video, audio)]
        joint = torch.cat(parts, dim=1)
    else:
        if order == "voice-face-first":
            audio, video = cross(model.first[0], audio, video), cross(model.first[1], video, audio)
        both = torch.cat([audio, video], dim=1)
        text, joint = cross(model.second[0], text, both), cross(model.second[1], both, text)
    summary_step = text[:, 0 if summary == "first" else -1]
    inner, _, outer = model.head
    expected = outer(inner(torch.cat([summary_step, joint.mean(dim=1)], dim=1)).clamp(min=0))
    assert_close(model(values, masks), expected)


@pytest.mark.parametrize("summary", SUMMARIES)
def test_the_summary_is_of_a_valid_step(summary):
    model, _ = make(summary=summary)
    text = torch.randn(3, 4, 8)
    mask = torch.tensor([[True] * 4, [True, True, False, False], [False] * 4])
    step = {"first": (0, 0), "last": (3, 1)}[summary]
    expected = torch.stack([text[0, step[0]], text[1, step[1]], torch.zeros(8)])
    assert torch.equal(model._summary(text, mask), expected)


@pytest.mark.parametrize(("order", "summary"), VARIANTS)
@torch.no_grad()
def test_neither_padding_nor_other_rows_change_an_output(order, summary):
    model, rows = make(order, summary)
    assert_rows_stand_alone(model, rows)


@pytest.mark.parametrize("order", ORDERS)
def test_gradients_are_finite_with_any_modality_missing(order):
    model, rows = make(order)
    assert_gradients_are_finite(model, model, rows)


@torch.no_grad()
def test_with_nothing_shown_one_number_comes_out():
    model, rows = make()
    outputs = model(*collate(rows[:1]))
    assert_close(outputs, model.head(torch.zeros(1, 16)))


@torch.no_grad()
def test_it_keeps_its_own_precision():
    model, rows = make()
    assert_precision(model, model, rows)


@pytest.mark.parametrize("order", ORDERS)
def test_every_parameter_learns(order):
    model, rows = make(order)
    model(*collate(rows)).square().sum().backward()
    assert all((parameter.grad != 0).any() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"order": "audio-first"}, "voice-face-first, none, text-first"),
        ({"summary": "mean"}, "first, last"),
        ({"heads": 5}, "width must be a multiple of heads, got 64 and 5"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        LrcmtShape(**options)


def test_other_modalities_are_refused():
    with pytest.raises(ConfigError, match="takes text, audio and video, got text, audio"):
        Lrcmt({"text": 4, "audio": 4}, 1)
