"""The network of MMoLRE: its sizes, its equations computed plainly, and padding left unseen."""

from __future__ import annotations

from dataclasses import replace

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
from torch import nn
from torch.nn.functional import conv1d, gelu, layer_norm

from omni_msa.errors import ConfigError
from omni_msa.methods.layers.mmolre import (
    SHARING,
    ExpertBlock,
    LowRankExpert,
    Mmolre,
    MmolreShape,
    RouterName,
    TaskFusion,
    UniTse,
    load_balance,
)

WIDTHS = {"text": 12, "audio": 5, "video": 3}
OUTPUTS = {"sentiment": 1, "emotions": 6}
TASKS = list(OUTPUTS)
SHAPE = MmolreShape(width=12, experts=2, rank=3)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def make(sharing="mixed", modalities=("text", "audio", "video"), outputs=OUTPUTS):
    widths = {name: WIDTHS[name] for name in modalities}
    return randomise(Mmolre(widths, outputs, replace(SHAPE, sharing=sharing))), make_rows(widths)


def outputs_of(model, values, masks):
    """Of each task [R, O]."""
    encoding = model.encode(values, masks)
    return {
        task: model.fuse(task, features, encoding.masks)
        for task, features in encoding.features.items()
    }


def joined(model):
    """The outputs of all tasks side by side."""
    return lambda values, masks: torch.cat([*outputs_of(model, values, masks).values()], dim=-1)


def valid_rows(length=6):
    """Two rows of which one is padded: values [2, L, D], zero in the padding, and the mask."""
    mask = torch.ones(2, length, dtype=torch.bool)
    mask[1, length - 2 :] = False
    return torch.randn(2, length, SHAPE.width) * mask[..., None], mask


def plain_expert(expert, values):
    """An expert over one row [L, D] without padding."""
    hidden = gelu(conv1d(values.T, expert.inner.weight, expert.inner.bias, padding=1))
    return conv1d(hidden, expert.outer.weight, expert.outer.bias).T


def plain_branch(branch, shared, values):
    """What a task makes of one row [L, D] without padding, and its router's weights [K]."""
    weights = (branch.router.weight @ values.mean(dim=0)).softmax(dim=0)
    experts = [*shared, *branch.specific]
    total = values + sum(w * plain_expert(e, values) for w, e in zip(weights, experts, strict=True))
    return layer_norm(total, [len(total[0])], branch.norm.weight, branch.norm.bias), weights


def test_an_expert_has_a_twelfth_of_the_parameters_of_the_full_pair():
    with torch.device("meta"):
        assert count(LowRankExpert(768, 64)) == 4 * 768 * 64 + 64 + 768 == 197_440
        full = MmolreShape(full_rank=True)
        pair = LowRankExpert(768, full.expert_rank)
    assert count(pair) == 4 * 768**2 + 2 * 768 == 2_360_832


@pytest.mark.parametrize("full_rank", [False, True])
@pytest.mark.parametrize("sharing", SHARING)
def test_parameters_are_counted(sharing, full_rank):
    shape = MmolreShape(sharing=sharing, full_rank=full_rank)
    d, n, t, m = 768, 4, 2, 2
    expert = 2_360_832 if full_rank else 197_440
    num_experts, num_routed, num_branches = {
        "mixed": (n + t, n + 1, t),
        "hard": (n + 1, n + 1, 1),
        "shared": (n, n, t),
        "specific": (t, 1, t),
    }[sharing]
    encoder = 2 * (num_experts * expert + num_branches * (num_routed * d + 2 * d))
    fusion = m * (4 * d**2 + 4 * d) + (m * d) ** 2
    heads = (d + 1) + 6 * (d + 1)
    with torch.device("meta"):
        model = Mmolre({"text": d, "audio": d}, OUTPUTS, shape)
    assert count(model.encoders["text"]) == encoder
    assert count(model) == m * encoder + t * fusion + heads
    experts = [part for part in model.modules() if isinstance(part, LowRankExpert)]
    assert sum(map(count, experts)) == m * num_experts * 2 * expert


def test_the_whole_default_network_is_mostly_fusion():
    with torch.device("meta"):
        model = Mmolre({"text": 768, "audio": 768}, OUTPUTS)
        other = Mmolre({"text": 768, "audio": 74, "video": 35}, OUTPUTS)
    assert count(model) == 18_955_015
    assert count(model.encoders) == 4_781_568 and count(model.fusions) == 14_168_064
    assert count(model.projections) == 0  # both have the common width
    assert count(other.projections) == (74 + 1) * 768 + (35 + 1) * 768


def test_a_block_adds_routed_experts_and_normalises():
    block = randomise(ExpertBlock(TASKS, SHAPE))
    values, mask = valid_rows()
    of_tasks = [values, values.flip(2)]
    for inputs in ([values], of_tasks):
        features, weights = block(inputs, mask)
        for task, branch in enumerate(block.branches.values()):
            for row, length in enumerate((6, 4)):
                own = inputs[task % len(inputs)][row, :length]
                expected, expected_weights = plain_branch(branch, block.shared, own)
                assert_close(features[task][row, :length], expected)
                assert_close(weights[task][row], expected_weights)
            assert (features[task][1, 4:] == 0).all()


def test_two_blocks_see_no_padding_at_the_border():
    encoder = randomise(UniTse(TASKS, SHAPE))
    values, mask = valid_rows()
    features, routing = encoder(values, mask)
    first, second = encoder.blocks
    for row, length in enumerate((6, 4)):
        for task in TASKS:
            step, weights = plain_branch(first.branches[task], first.shared, values[row, :length])
            assert_close(routing[0][task][row], weights)
            step, weights = plain_branch(second.branches[task], second.shared, step)
            assert_close(routing[1][task][row], weights)
            assert_close(features[task][row, :length], step)


def test_what_tasks_share_is_what_the_option_says():
    values, mask = valid_rows()
    encoders = {
        sharing: randomise(UniTse(TASKS, replace(SHAPE, sharing=sharing))) for sharing in SHARING
    }
    features = {sharing: encoder(values, mask)[0] for sharing, encoder in encoders.items()}
    for sharing in SHARING:
        same = torch.equal(features[sharing]["sentiment"], features[sharing]["emotions"])
        assert same == (sharing == "hard")
        encoders[sharing].zero_grad()
        features[sharing]["emotions"].sum().backward()
    touched = {
        sharing: {
            name for name, parameter in encoder.named_parameters() if parameter.grad is not None
        }
        for sharing, encoder in encoders.items()
    }
    assert not any("sentiment" in name for names in touched.values() for name in names)
    assert not any("shared" in name for name in touched["specific"])
    assert not any("specific" in name for name in touched["shared"])
    assert all("all" in name or "shared" in name for name in touched["hard"])
    routing = encoders["specific"](values, mask)[1]
    assert torch.equal(routing[0]["sentiment"], torch.ones(2, 1))


def test_two_modalities_are_gated_by_a_sigmoid():
    fusion = randomise(TaskFusion(["text", "audio"], SHAPE))
    values = {"text": torch.randn(2, 4, 12), "audio": torch.randn(2, 7, 12)}
    masks = {name: torch.ones(tensor.shape[:2]).bool() for name, tensor in values.items()}
    vector = fusion(values, masks)
    attention = fusion.attention
    text = values["text"] + attention["text"](values["text"], values["audio"], masks["audio"])
    audio = values["audio"] + attention["audio"](values["audio"], values["text"], masks["text"])
    text, audio = text.mean(dim=1), audio.mean(dim=1)
    of_text, of_audio = (torch.cat([text, audio], dim=1) @ fusion.gate.weight.T).chunk(2, dim=1)
    share = (of_text - of_audio).sigmoid()
    assert_close(vector, share * text + (1 - share) * audio)


def test_a_missing_modality_has_no_weight():
    fusion = randomise(TaskFusion(list(WIDTHS), SHAPE))
    values = {name: torch.randn(2, 4, 12) for name in WIDTHS}
    masks = {name: torch.ones(2, 4).bool() for name in WIDTHS}
    masks["audio"][:], masks["video"][:], masks["text"][1] = False, False, False
    vector = fusion(values, masks)
    assert_close(vector[0], values["text"][0].mean(dim=0))
    assert torch.equal(vector[1], torch.zeros(12))


def test_with_nothing_shown_a_head_says_its_bias():
    model, rows = make()
    outputs = outputs_of(model, *collate(rows[:1]))
    routing = model.encode(*collate(rows[:1])).routing
    for task, head in model.heads.items():
        assert torch.equal(outputs[task][0], head.bias)
    for weights in routing.values():
        assert_close(weights[0], torch.full((3,), 1 / 3))


@pytest.mark.parametrize("modalities", [("text", "audio"), ("text", "audio", "video")])
@pytest.mark.parametrize("sharing", SHARING)
@torch.no_grad()
def test_neither_padding_nor_other_rows_change_an_output(sharing, modalities):
    model, rows = make(sharing, modalities)
    assert_rows_stand_alone(joined(model), rows)


@torch.no_grad()
def test_neither_padding_nor_other_rows_change_the_routing():
    model, rows = make()

    def routing(values, masks):
        return torch.cat([*model.encode(values, masks).routing.values()], dim=-1)

    assert_rows_stand_alone(routing, rows)


@pytest.mark.parametrize("modalities", [("text", "audio"), ("text", "audio", "video")])
def test_gradients_are_finite_with_any_modality_missing(modalities):
    model, rows = make(modalities=modalities)
    assert_gradients_are_finite(model, joined(model), rows)


@torch.no_grad()
def test_it_keeps_its_own_precision():
    model, rows = make()
    assert_precision(model, joined(model), rows)


def test_every_parameter_of_the_default_learns():
    model, rows = make()
    joined(model)(*collate(rows)).square().sum().backward()
    assert all((parameter.grad != 0).any() for parameter in model.parameters())


def test_each_router_is_named_and_each_task_has_its_outputs():
    for sharing, num_routed in (("mixed", 3), ("hard", 3), ("shared", 2), ("specific", 1)):
        model, rows = make(sharing)
        outputs = outputs_of(model, *collate(rows))
        shapes = {task: tuple(tensor.shape) for task, tensor in outputs.items()}
        assert shapes == {"sentiment": (8, 1), "emotions": (8, 6)}
        routing = model.encode(*collate(rows)).routing
        assert set(routing) == {
            RouterName(name, block, task) for name in WIDTHS for block in (0, 1) for task in TASKS
        }
        for weights in routing.values():
            assert weights.shape == (8, num_routed)
            assert_close(weights.sum(dim=1), torch.ones(8))
    single, rows = make(outputs={"sentiment": 1})
    assert list(outputs_of(single, *collate(rows))) == ["sentiment"]


def test_balance_is_one_when_experts_are_used_alike():
    router = RouterName("audio", 0, "sentiment")
    masks = {"audio": torch.tensor([[True, True], [True, False], [False, False]])}
    even = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])  # the last row has no sound
    one_sided = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert load_balance({router: even}, masks) == 1
    assert load_balance({router: one_sided}, masks) == 2
    other = router._replace(block=1)
    assert load_balance({router: even, other: one_sided}, masks) == 1.5
    assert load_balance({router: even}, {"audio": masks["audio"][2:].expand(3, 2)}) == 0


def test_the_balance_term_moves_routers():
    model, rows = make()
    values, masks = collate(rows)
    load_balance(model.encode(values, masks).routing, masks).backward()
    for encoder in model.encoders.values():
        for branch in encoder.blocks[1].branches.values():
            assert branch.router.weight.grad.isfinite().all()
            assert (branch.router.weight.grad != 0).any()


@pytest.mark.parametrize(("width", "heads"), [(768, 8), (12, 6), (7, 7), (22, 2), (11, 1)])
def test_heads_divide_the_width(width, heads):
    assert MmolreShape(width=width).num_heads == heads


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sharing": "soft"}, "mixed, hard, shared, specific"),
        ({"rank": 0}, "rank must be 1 or more, got 0"),
        ({"experts": -1}, "experts must be 1 or more"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        MmolreShape(**options)


def test_one_modality_or_no_task_is_refused():
    for widths, outputs in (({"text": 12}, OUTPUTS), (WIDTHS, {})):
        with pytest.raises(ConfigError, match="two modalities or more and one task or more"):
            Mmolre(widths, outputs, SHAPE)
