"""The modules of MSE-Adapter: equal to its equations, and as large as the published ones."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import erf, sqrt

import numpy as np
import pytest
import torch

from omni_msa.errors import ConfigError
from omni_msa.methods.layers.mse_adapter import AdapterShape, MseAdapter

WIDTH = 64  # H
FEATURE_WIDTHS = {"audio": 5, "video": 3}
SHAPE = AdapterShape(sequence_widths={"audio": 6, "video": 4}, common_width=16)
TEXT_LENGTHS, AUDIO_LENGTHS, VIDEO_LENGTHS = (7, 2, 4, 1), (9, 1, 4, 6), (3, 8, 1, 5)


def widths(audio, video):
    return {"audio": audio, "video": video}


@pytest.mark.parametrize(
    ("width", "feature_widths", "lstm_widths", "pseudo_tokens", "parameters"),
    [
        (4096, widths(74, 35), widths(64, 32), 4, 2_631_692),  # MOSEI
        (4096, widths(25, 177), widths(64, 64), 4, 2_680_716),  # SIMS-V2
        (4096, widths(64, 64), widths(64, 32), 4, 2_632_844),  # MELD
        (4096, widths(1024, 2048), widths(32, 16), 4, 2_842_380),  # CHERMA
        (2048, widths(74, 35), widths(64, 32), 4, 1_351_244),
        (2048, widths(25, 177), widths(64, 64), 4, 1_400_268),
        (2048, widths(64, 64), widths(32, 16), 2, 1_312_072),
        (2048, widths(1024, 2048), widths(32, 16), 4, 1_561_932),
    ],
)
def test_parameters_are_as_many_as_published(
    width, feature_widths, lstm_widths, pseudo_tokens, parameters
):
    shape = AdapterShape(pseudo_tokens=pseudo_tokens, sequence_widths=lstm_widths)
    with torch.device("meta"):
        adapter = MseAdapter(width, feature_widths, shape)
    assert sum(p.numel() for p in adapter.parameters() if p.requires_grad) == parameters


def test_the_defaults_are_those_of_mosei():
    assert AdapterShape() == AdapterShape(4, "lstm", widths(64, 32), 256, "padded", "two", 0.0)


# --- the published equations, one row and one number at a time -----------------------------------


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def affine(weights, name, x):
    return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]


def lstm(weights, name, sequence):
    """The last hidden state; torch keeps the gates in the order input, forget, cell, output."""
    part = {key: weights[f"{name}.{key}_l0"] for key in ("weight_ih", "weight_hh")}
    bias = weights[f"{name}.bias_ih_l0"] + weights[f"{name}.bias_hh_l0"]
    size = part["weight_hh"].shape[1]
    hidden, cell = np.zeros(size), np.zeros(size)
    for x in sequence:
        gates = part["weight_ih"] @ x + part["weight_hh"] @ hidden + bias
        enter, keep, new, leave = (gates[i * size : (i + 1) * size] for i in range(4))
        cell = sigmoid(keep) * cell + sigmoid(enter) * np.tanh(new)
        hidden = sigmoid(leave) * np.tanh(cell)
    return hidden


def gelu(x):
    return np.array([0.5 * number * (1.0 + erf(number / sqrt(2.0))) for number in x])


def pseudo_tokens(weights, text, sequences, num_tokens=4):
    """Of one row, [P, H]: embeddings as they are to be averaged, features without padding."""
    total = np.zeros(len(text[0]) if len(text) else WIDTH)
    for embedding in text:
        total += embedding
    key = affine(weights, "mixer.text_map", total / max(len(text), 1))
    mixture = np.zeros_like(key)
    for name, sequence in sequences.items():
        if len(sequence):
            state = lstm(weights, f"encoders.{name}.sequence_model.lstm", sequence)
            mixture += affine(weights, f"encoders.{name}.output_map", state) * key
    scales = [
        affine(
            weights,
            f"fusion.bottlenecks.{i}.2",
            gelu(affine(weights, f"fusion.bottlenecks.{i}.0", mixture)),
        )
        for i in range(3)
    ]
    taps, shift = weights["fusion.convolution.weight"].ravel(), weights["fusion.convolution.bias"]
    fusion = np.array(
        [sum(taps[i] * scales[i][c] for i in range(3)) + shift[0] for c in range(len(mixture))]
    )
    if "projector.vectors.weight" in weights:
        return affine(weights, "projector.vectors", fusion).reshape(num_tokens, -1)
    u = affine(weights, "projector.vector", fusion)
    scale = weights["projector.scale_and_shift.weight"][:, 0]
    offset = weights["projector.scale_and_shift.bias"]
    return np.array([scale[p] * u + offset[p] for p in range(num_tokens)])


# --- inputs ---------------------------------------------------------------------------------------


def make(shape=SHAPE, seed=1):
    torch.manual_seed(seed)
    return MseAdapter(WIDTH, FEATURE_WIDTHS, shape).double().eval()


def mask_of(lengths, padded):
    return torch.arange(padded)[None] < torch.tensor(lengths)[:, None]


def make_inputs(text=TEXT_LENGTHS, audio=AUDIO_LENGTHS, video=VIDEO_LENGTHS, seed=2):
    """Rows of these lengths, with noise also where there is padding."""
    noise = torch.Generator().manual_seed(seed)

    def draw(length, width):
        return torch.randn(len(text), length, width, generator=noise, dtype=torch.float64)

    return {
        "text": draw(8, WIDTH),
        "text_mask": mask_of(text, 8),
        "features": {name: draw(10, width) for name, width in FEATURE_WIDTHS.items()},
        "masks": {"audio": mask_of(audio, 10), "video": mask_of(video, 10)},
    }


def map_inputs(change, inputs):
    """The same inputs, with every tensor changed."""
    return {
        name: {key: change(tensor) for key, tensor in value.items()}
        if isinstance(value, dict)
        else change(value)
        for name, value in inputs.items()
    }


def rows_of(inputs, rows):
    return map_inputs(lambda tensor: tensor[rows], inputs)


def weights_of(adapter):
    return {name: tensor.double().numpy() for name, tensor in adapter.state_dict().items()}


def reference(adapter, inputs, text_mean="padded"):
    """[R, P, H] by the equations."""
    rows = []
    for row in range(len(inputs["text"])):
        text = inputs["text"][row]
        if text_mean == "masked" or not inputs["text_mask"][row].any():
            text = text[inputs["text_mask"][row]]
        sequences = {
            name: features[row][inputs["masks"][name][row]].numpy()
            for name, features in inputs["features"].items()
        }
        rows.append(pseudo_tokens(weights_of(adapter), text.numpy(), sequences))
    return np.stack(rows)


def distance(a, b):
    """How far apart, relative to their size."""
    a, b = (np.asarray(torch.as_tensor(x).detach(), dtype=np.float64) for x in (a, b))
    assert a.shape == b.shape
    return np.linalg.norm(a - b) / np.linalg.norm(b)


# --- equal to the equations -----------------------------------------------------------------------


@pytest.mark.parametrize("rank", ["two", "full"])
@pytest.mark.parametrize("text_mean", ["padded", "masked"])
def test_the_adapter_equals_the_published_equations(text_mean, rank):
    adapter = make(replace(SHAPE, text_mean=text_mean, pseudo_tokens_rank=rank))
    inputs = make_inputs()
    tokens = adapter(**inputs)
    assert tokens.shape == (4, 4, WIDTH) and tokens.dtype == torch.float64
    assert distance(tokens, reference(adapter, inputs, text_mean)) < 1e-10
    single = adapter.float()(**inputs)
    assert single.dtype == torch.float32
    assert distance(single, reference(adapter, inputs, text_mean)) < 1e-5


def test_a_row_is_read_as_if_it_were_alone():
    adapter, inputs = make(), make_inputs(audio=(9, 0, 4, 6))
    together = adapter(**inputs)
    for row in range(4):
        assert distance(adapter(**rows_of(inputs, [row])), together[[row]]) < 1e-12
    assert distance(adapter(**rows_of(inputs, [2, 0, 3, 1])), together[[2, 0, 3, 1]]) < 1e-12


@pytest.mark.parametrize("text_mean", ["padded", "masked"])
@pytest.mark.parametrize("content", [0.0, 1e6, float("nan")])
def test_padding_does_not_matter(content, text_mean):
    adapter = make(replace(SHAPE, text_mean=text_mean))
    inputs = make_inputs(audio=(9, 0, 4, 6))
    tokens = adapter(**inputs)

    def pad(values, mask, extra):
        values = values.masked_fill(~mask[..., None], content)
        values = torch.nn.functional.pad(values, (0, 0, 0, extra), value=content)
        return values, torch.nn.functional.pad(mask, (0, extra))

    for name in FEATURE_WIDTHS:
        padded = pad(inputs["features"][name], inputs["masks"][name], 6)
        inputs["features"][name], inputs["masks"][name] = padded
        inputs["features"][name].requires_grad_()
    if text_mean == "masked":
        inputs["text"], inputs["text_mask"] = pad(inputs["text"], inputs["text_mask"], 3)
    after = adapter(**inputs)
    assert distance(after, tokens) < 1e-12
    after.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in adapter.parameters())
    for name, features in inputs["features"].items():
        assert (features.grad[~inputs["masks"][name]] == 0).all()
        assert (features.grad[inputs["masks"][name]] != 0).any()


def test_masked_text_may_be_padded_on_either_side():
    adapter, inputs = make(replace(SHAPE, text_mean="masked")), make_inputs()
    tokens = adapter(**inputs)
    inputs["text"], inputs["text_mask"] = inputs["text"].flip(1), inputs["text_mask"].flip(1)
    assert distance(adapter(**inputs), tokens) < 1e-12


def test_features_padded_on_the_left_are_refused():
    inputs = make_inputs()
    inputs["masks"]["video"] = inputs["masks"]["video"].flip(1)
    with pytest.raises(ValueError, match="padded on the right"):
        make()(**inputs)


# --- missing modalities ---------------------------------------------------------------------------


@pytest.mark.parametrize("text_mean", ["padded", "masked"])
@pytest.mark.parametrize("present", list(product([0, 1], repeat=3)))
def test_missing_modalities_add_nothing(present, text_mean):
    """They are missing in the first row, in two rows, then in all: text, audio, video."""
    adapter = make(replace(SHAPE, text_mean=text_mean))
    lengths = (TEXT_LENGTHS, AUDIO_LENGTHS, VIDEO_LENGTHS)
    for rows in (1, 2, 4):
        adapter.zero_grad()
        inputs = make_inputs(
            *([n * (row >= rows or p) for row, n in enumerate(each)]
              for each, p in zip(lengths, present, strict=True))
        )  # fmt: skip
        for features in inputs["features"].values():
            features.requires_grad_()
        tokens = adapter(**inputs)
        with torch.no_grad():
            detached = map_inputs(torch.Tensor.detach, inputs)
            assert distance(tokens, reference(adapter, detached, text_mean)) < 1e-10
        tokens.square().sum().backward()
        gradients = [p.grad for p in adapter.parameters() if p.grad is not None]
        assert gradients and all(gradient.isfinite().all() for gradient in gradients)
        for name, seen in zip(("audio", "video"), present[1:], strict=True):
            gradient = inputs["features"][name].grad
            assert gradient is None or (seen or (gradient[:rows] == 0).all())


def test_a_missing_modality_is_not_the_bias_of_its_output_map():
    adapter, inputs = make(), make_inputs(audio=(0, 0, 0, 0))
    tokens = adapter(**inputs)
    with torch.no_grad():
        adapter.encoders["audio"].output_map.bias.fill_(7.0)
    assert torch.equal(adapter(**inputs), tokens)


def test_sequences_of_no_positions_are_missing():
    adapter, inputs = make(), make_inputs(text=(0,) * 4, audio=(0,) * 4, video=(0,) * 4)
    tokens = adapter(**inputs)
    assert torch.equal(adapter(**map_inputs(lambda tensor: tensor[:, :0], inputs)), tokens)


def test_without_text_the_other_modalities_still_count():
    adapter = make()
    silent = adapter(**make_inputs(text=(0,) * 4, audio=(0,) * 4, video=(0,) * 4))
    heard = adapter(**make_inputs(text=(0,) * 4, video=(0,) * 4))
    assert distance(heard, silent) > 1e-6


# --- the switches ---------------------------------------------------------------------------------


def sizes(shape):
    with torch.device("meta"):
        adapter = MseAdapter(WIDTH, FEATURE_WIDTHS, shape)
    return {name: tuple(tensor.shape) for name, tensor in adapter.state_dict().items()}


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"text_mean": "masked"}, set()),
        ({"dropout": 0.5}, set()),
        ({"pseudo_tokens_rank": "full"}, {"projector"}),
        ({"pseudo_tokens": 3}, {"projector"}),
        ({"sequence_widths": {"audio": 7, "video": 9}}, {"encoders"}),
        ({"common_width": 17}, {"encoders", "mixer", "fusion", "projector"}),
    ],
)
def test_a_switch_changes_the_parameters_of_its_part_alone(change, parts):
    before, after = sizes(SHAPE).items(), sizes(replace(SHAPE, **change)).items()
    assert {name.split(".")[0] for name, _ in before ^ after} == parts


def test_the_bottlenecks_stand_in_the_published_order():
    bottlenecks = [sizes(SHAPE)[f"fusion.bottlenecks.{i}.0.weight"] for i in range(3)]
    assert bottlenecks == [(WIDTH // 8, 16), (WIDTH // 32, 16), (WIDTH // 16, 16)]


def test_the_mean_of_the_text_counts_padding_unless_it_is_masked():
    padded, masked = make(), make(replace(SHAPE, text_mean="masked"))
    inputs = make_inputs()
    assert distance(padded(**inputs), masked(**inputs)) > 1e-6
    filled = {**inputs, "text_mask": torch.ones_like(inputs["text_mask"])}
    assert torch.equal(padded(**filled), masked(**filled))
    assert torch.equal(padded(**filled), padded(**inputs))


def test_pseudo_tokens_are_one_vector_scaled_and_shifted_unless_full():
    two, full = make(), make(replace(SHAPE, pseudo_tokens_rank="full"))
    inputs = make_inputs()
    assert (torch.linalg.matrix_rank(two(**inputs)) == 2).all()
    assert (torch.linalg.matrix_rank(full(**inputs)) == 4).all()


def test_full_pseudo_tokens_can_be_what_those_of_rank_two_are():
    two, full = make(), make(replace(SHAPE, pseudo_tokens_rank="full"))
    state = {k: v for k, v in two.state_dict().items() if not k.startswith("projector")}
    assert full.load_state_dict(state, strict=False).unexpected_keys == []
    scale, shift = two.projector.scale_and_shift.weight, two.projector.scale_and_shift.bias
    vector = two.projector.vector
    with torch.no_grad():
        full.projector.vectors.weight.copy_((scale[..., None] * vector.weight).flatten(0, 1))
        full.projector.vectors.bias.copy_((scale * vector.bias + shift[:, None]).flatten())
    inputs = make_inputs()
    assert distance(full(**inputs), two(**inputs)) < 1e-12


def test_dropout_is_of_training_alone():
    plain, dropping = make(), make(replace(SHAPE, dropout=0.5))
    inputs = make_inputs()
    tokens = plain(**inputs)
    assert torch.equal(dropping(**inputs), tokens)
    assert torch.equal(plain.train()(**inputs), tokens)
    assert distance(dropping.train()(**inputs), tokens) > 1e-6


@pytest.mark.parametrize("modality", ["audio", "video"])
def test_one_modality_beside_the_text_is_enough(modality):
    adapter = MseAdapter(WIDTH, {modality: FEATURE_WIDTHS[modality]}, SHAPE).double()
    inputs = make_inputs()
    assert distance(adapter(**inputs), reference_of_one(adapter, inputs, modality)) < 1e-10


def reference_of_one(adapter, inputs, modality):
    features = {modality: inputs["features"][modality]}
    return reference(adapter, {**inputs, "features": features})


# --- precision and errors -------------------------------------------------------------------------


def test_autocast_does_not_reach_inside():
    adapter = make().float()
    inputs = map_inputs(lambda t: t if t.dtype == torch.bool else t.bfloat16(), make_inputs())
    tokens = adapter(**inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        same = adapter(**inputs)
    assert same.dtype == torch.float32 and torch.equal(same, tokens)
    wide = map_inputs(lambda t: t if t.dtype == torch.bool else t.double(), inputs)
    assert torch.equal(adapter(**wide), tokens)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"sequence_model": "gru"}, "sequence_model 'gru' is not known; choose one of: lstm"),
        ({"text_mean": "last"}, "text_mean 'last' is not known; choose one of: padded, masked"),
        ({"pseudo_tokens_rank": "2"}, "choose one of: two, full"),
        ({"pseudo_tokens": 0}, "pseudo_tokens must be 1 or more, got 0"),
        ({"common_width": 0}, "common_width must be 1 or more, got 0"),
        ({"sequence_widths": {"audio": 0}}, "sequence width of audio must be 1 or more, got 0"),
        ({"dropout": 1.0}, r"dropout of the adapter must lie in \[0, 1\), got 1.0"),
    ],
)
def test_a_shape_checks_itself(choice, message):
    with pytest.raises(ConfigError, match=message):
        AdapterShape(**choice)


@pytest.mark.parametrize(
    ("width", "feature_widths", "message"),
    [
        (31, FEATURE_WIDTHS, "31 wide; MSE-Adapter needs 32 or more"),
        (64, {}, "needs features of one modality or more"),
        (64, {"smell": 3}, "'smell' is not known; choose one of: audio, video"),
    ],
)
def test_an_adapter_that_cannot_be_made(width, feature_widths, message):
    with pytest.raises(ConfigError, match=message):
        MseAdapter(width, feature_widths)
