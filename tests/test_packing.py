"""The packed pass gives what separate passes give, whatever the batch and the padding."""

from __future__ import annotations

import random

import pytest
import torch
from conftest import make_content

from omni_msa.modalities import all_subsets, subset_name
from omni_msa.model.inputs import Segment, ThinkerInputs
from omni_msa.model.packing import (
    Continuation,
    PackedBatch,
    TokenTree,
    chain_numbers,
    collate,
    grow,
    looks_at,
    pack,
)
from omni_msa.options import MediaOptions

TOLERANCE = 1e-4  # fp32: sums are taken in another order


def build(thinker, **changes):
    return thinker.builder().build(make_content(**changes), MediaOptions())


@torch.inference_mode()
def test_packed_subsets_equal_separate_passes(thinker):
    inputs = build(thinker)
    subsets = all_subsets(inputs.present)
    assert [subset_name(s) for s in subsets] == ["", "T", "A", "V", "TA", "TV", "AV", "TAV"]
    packed = thinker.forward(thinker.batch([inputs], [subsets]))[0]
    for row, subset in zip(packed, subsets, strict=True):
        alone = thinker.forward(thinker.batch([inputs], [[subset]]))[0, 0]
        torch.testing.assert_close(row, alone, atol=TOLERANCE, rtol=0)
    # and the subsets really differ, so the comparison says something
    assert torch.pdist(packed).min() > 10 * TOLERANCE


@torch.inference_mode()
def test_packed_subsets_equal_the_transformers_forward(thinker):
    """The library's own Thinker, with its own rope index and merging, on each subset's sequence."""
    inputs = build(thinker)
    for subset in all_subsets(inputs.present):
        batch = thinker.batch([inputs], [[subset]])
        given = {"input_ids": batch.token_ids, "attention_mask": torch.ones_like(batch.token_ids)}
        if "video" in subset:
            given["pixel_values_videos"] = inputs.features["video"].pixels
            given["video_grid_thw"] = torch.tensor([inputs.features["video"].grid_thw])
            given["video_second_per_grid"] = torch.tensor([1.0])
        if "audio" in subset:
            given["input_features"] = inputs.features["audio"][None]
            given["feature_attention_mask"] = torch.ones(
                1, inputs.features["audio"].shape[1], dtype=torch.long
            )
        theirs = thinker.model.model(**given).last_hidden_state[0, -1]
        ours = thinker.forward(thinker.batch([inputs], [all_subsets(inputs.present)]))
        row = all_subsets(inputs.present).index(subset)
        torch.testing.assert_close(ours[0, row], theirs, atol=TOLERANCE, rtol=0)


@torch.inference_mode()
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_batch_of_unequal_clips_equals_each_alone(thinker, side):
    clips = [
        build(thinker, text="Short.", seed=1),
        build(thinker, text="A much longer sentence about the film we saw.", seconds=5.0, seed=2),
        build(thinker, seconds=None, num_frames=None, seed=3),
        build(thinker, text=None, num_frames=None, seed=4),
        build(thinker, text=None, seconds=None, num_frames=2, seed=5),
    ]
    subsets = [all_subsets(c.present) for c in clips]
    together = thinker.forward(thinker.batch(clips, subsets, padding_side=side))
    for row, (clip, wanted) in enumerate(zip(clips, subsets, strict=True)):
        alone = thinker.forward(thinker.batch([clip], [wanted]))[0]
        torch.testing.assert_close(together[row, : len(wanted)], alone, atol=TOLERANCE, rtol=0)


def test_the_language_model_runs_once_and_towers_once(thinker):
    calls = {"language": 0, "vision": 0, "audio": 0}
    core = thinker.core.model
    modules = {"language": core.language_model, "vision": core.visual, "audio": core.audio_tower}

    def count(name):
        def hook(*_):
            calls[name] += 1

        return hook

    handles = [m.register_forward_hook(count(name)) for name, m in modules.items()]
    clips = [build(thinker, seed=i) for i in range(3)]
    with torch.inference_mode():
        thinker.forward(thinker.batch(clips, [all_subsets(c.present) for c in clips]))
    for handle in handles:
        handle.remove()
    assert calls == {"language": 1, "vision": 1, "audio": 1}


def test_the_tree_holds_what_is_shared_once(thinker):
    inputs = build(thinker)
    tokens = inputs.num_tokens
    tree = pack(inputs, all_subsets(inputs.present))
    suffix, prefix = len(inputs.suffix.token_ids), len(inputs.prefix.token_ids)
    expected = prefix + tokens["video"] + 2 * tokens["audio"] + 4 * tokens["text"] + 8 * suffix
    assert len(tree.token_ids) == expected
    # reading one path in order gives the sequence of a separate pass, positions included
    for k, subset in enumerate(tree.subsets):
        alone = pack(inputs, [subset])
        on_path = path_of(tree, k)
        assert torch.equal(tree.token_ids[on_path], alone.token_ids)
        assert torch.equal(tree.positions[:, on_path], alone.positions)


def by_product(batch: PackedBatch) -> torch.Tensor:
    """Who may look at whom [B, L, L], the long way: two tokens on a common path are ancestor and
    descendant, and the earlier one is the ancestor; padding looks at itself."""
    paths, length = batch.paths, batch.token_ids.shape[1]
    on_path = paths.transpose(1, 2).float() @ paths.float() > 0
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    return (on_path & causal) | torch.eye(length, dtype=torch.bool)


def random_clip(rng: random.Random) -> ThinkerInputs:
    """Parts of a few tokens each, all of them different."""
    present = [name for name in ("video", "audio", "text") if rng.random() < 0.8]
    ids = iter(torch.randperm(1000))

    def segment() -> Segment:
        length = rng.randint(1, 5)
        places = torch.arange(length)
        return Segment(torch.stack([next(ids) for _ in places]), places.expand(3, -1))

    return ThinkerInputs(segment(), {name: segment() for name in present}, segment())


def random_continuation(rng: random.Random) -> Continuation:
    """A trie whose tokens stand in any order that has parents first."""
    n = rng.randint(0, 6)
    parents = tuple(rng.randint(-1, i - 1) for i in range(n))
    return Continuation(tuple(range(2000, 2000 + n)), parents)


def lines_of(continuation: Continuation) -> list[list[int]]:
    """The tokens of each line from the leaf on."""
    lines = []
    for end in continuation.ends:
        line: list[int] = []
        while end >= 0:
            line.insert(0, continuation.token_ids[end])
            end = continuation.parents[end]
        lines.append(line)
    return lines


def path_of(tree: TokenTree, k: int) -> torch.Tensor:
    """The tokens that leaf k sees [L]."""
    return looks_at(tree.enter[tree.leaves[k]][None], tree.enter, tree.exit)[0]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("grows", [False, True])
def test_two_numbers_a_token_say_who_looks_at_whom(side, grows):
    """The same as the product of paths, which are, in order, what separate passes are given."""
    rng = random.Random(f"{side} {grows}")
    for _ in range(40):
        clips, trees = [random_clip(rng) for _ in range(3)], []
        for clip in clips:
            subsets = list(all_subsets(clip.present))
            rng.shuffle(subsets)
            subsets = subsets[: rng.randint(1, len(subsets))]
            tree, lines = pack(clip, subsets), [[[]]] * len(subsets)
            if grows:
                continuations = [random_continuation(rng) for _ in subsets]
                tree, lines = grow(tree, continuations)[0], [lines_of(c) for c in continuations]
            alone = [pack(clip, [s]).token_ids.tolist() for s in subsets]
            expected = [a + line for a, many in zip(alone, lines, strict=True) for line in many]
            read = [tree.token_ids[path_of(tree, k)].tolist() for k in range(len(tree.leaves))]
            assert read == expected
            trees.append(tree)
        batch = collate(clips, trees, pad_token_id=0, padding_side=side)
        allowed = looks_at(batch.enter, batch.enter, batch.exit)
        assert torch.equal(allowed, by_product(batch))
        # the trunk is a chain in every clip, and it could not be longer in all of them
        chain = torch.ones_like(allowed).tril()[:, : batch.trunk]
        assert torch.equal(allowed[:, : batch.trunk], chain)
        if side == "right" and (longer := batch.trunk + 1) <= allowed.shape[1]:
            assert not torch.equal(allowed[:, :longer], torch.ones_like(allowed).tril()[:, :longer])


def test_the_trunk_of_all_subsets_is_the_whole_clip(thinker):
    inputs = build(thinker)
    tree = pack(inputs, all_subsets(inputs.present))
    assert tree.trunk == inputs.num_tokens["total"] < len(tree.token_ids)
    assert thinker.batch([inputs], [[inputs.present]]).trunk == inputs.num_tokens["total"]


def test_a_chain_with_padding_anywhere_is_causal_and_its_padding_alone():
    mask = torch.tensor([[0, 1, 1, 0], [1, 0, 1, 1]]).bool()
    enter, exits = chain_numbers(mask)
    expected = [
        [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]],
        [[1, 0, 0, 0], [0, 1, 0, 0], [1, 0, 1, 0], [1, 0, 1, 1]],
    ]
    assert looks_at(enter, enter, exits).int().tolist() == expected


@torch.inference_mode()
def test_attention_with_a_trunk_equals_attention_with_one_mask(thinker):
    clips = [build(thinker, seed=1), build(thinker, text="Much longer words than these.", seed=2)]
    batch = thinker.batch(clips, [all_subsets(clip.present) for clip in clips])
    assert batch.trunk > 0
    allowed = looks_at(batch.enter, batch.enter, batch.exit)[:, None]
    masked = thinker.continue_with(thinker.embed(batch), allowed, batch.positions, None)
    torch.testing.assert_close(thinker.states(batch), masked, atol=TOLERANCE, rtol=0)


@torch.inference_mode()
def test_a_tower_works_only_for_clips_of_which_a_subset_shows_its_modality(thinker):
    clips = [build(thinker, seed=1), build(thinker, seed=2)]
    core, sizes = thinker.core.model, {"video": [], "audio": []}

    def note_size(name, axis):
        return lambda _, given, __: sizes[name].append(given[0].shape[axis])

    handles = [
        core.visual.register_forward_hook(note_size("video", 0)),
        core.audio_tower.register_forward_hook(note_size("audio", 1)),
    ]
    words, voice = frozenset({"text"}), frozenset({"audio"})
    thinker.forward(thinker.batch(clips, [[words], [voice, words]]))
    for handle in handles:
        handle.remove()
    assert sizes == {"video": [], "audio": [clips[1].features["audio"].shape[1]]}


@torch.inference_mode()
def test_a_pad_id_inside_the_text_changes_nothing_about_the_last_token(thinker):
    """Pooling goes by the mask: a pad token that was really said is not padding."""
    inputs = build(thinker, seconds=None, num_frames=None)
    tree = pack(inputs, [inputs.present])
    tree.token_ids[-1] = thinker.pad_token_id
    batch = collate([inputs], [tree], thinker.pad_token_id)
    assert batch.leaves.tolist() == [[len(tree.token_ids) - 1]]


def test_pack_refuses_what_the_clip_does_not_have(thinker):
    inputs = build(thinker, text=None)
    for wrong in ([], [frozenset({"text"})], [frozenset(), frozenset()]):
        with pytest.raises(ValueError, match="cannot pack"):
            pack(inputs, wrong)


TRIE = Continuation((21, 31, 22, 41), (-1, 0, -1, 1))  # 21 31 41, and 22


@pytest.mark.parametrize(
    ("continuation", "depths", "lines"),
    [
        (TRIE, (1, 2, 1, 3), [[22], [21, 31, 41]]),
        (Continuation.chain([5, 6, 5]), (1, 2, 3), [[5, 6, 5]]),
        (Continuation.chain([]), (), [[]]),
    ],
)
def test_a_continuation_knows_its_depths_and_lines(continuation, depths, lines):
    assert continuation.depths == depths
    assert lines_of(continuation) == lines


def test_each_line_of_a_grown_tree_is_the_subset_and_then_that_line(thinker):
    inputs = build(thinker)
    subsets = all_subsets(inputs.present)
    chains = [Continuation.chain(range(100, 100 + n)) for n in range(6)]
    continuations = [TRIE, *chains, TRIE]  # one of them is empty
    tree, nodes = grow(pack(inputs, subsets), continuations)
    lines = [(s, line) for s, c in zip(subsets, continuations, strict=True) for line in lines_of(c)]
    assert tree.subsets == tuple(s for s, _ in lines) and len(lines) == 8 + 2
    assert tree.positions.dtype == torch.long
    for k, (subset, said) in enumerate(lines):
        alone, path = pack(inputs, [subset]), path_of(tree, k)
        assert tree.token_ids[path].tolist() == alone.token_ids.tolist() + said
        after = alone.positions[:, -1:] + torch.arange(1, 1 + len(said))
        assert torch.equal(tree.positions[:, path], torch.cat([alone.positions, after], dim=1))
    leaves = pack(inputs, subsets).leaves
    assert nodes.shape == (8, 1 + 5) and torch.equal(nodes[:, 0], leaves)
    for row, continuation in zip(nodes, continuations, strict=True):
        n = len(continuation.token_ids)
        assert tree.token_ids[row[1 : 1 + n]].tolist() == list(continuation.token_ids)
        assert (row[1 + n :] == row[0]).all()  # shorter ones repeat their leaf


@torch.inference_mode()
def test_what_grows_behind_a_leaf_equals_separate_passes_and_disturbs_nothing(thinker):
    clips = [build(thinker, seed=1), build(thinker, seconds=None, num_frames=None, seed=2)]
    subsets = [all_subsets(c.present) for c in clips]
    grown = [grow(pack(c, s), [TRIE] * len(s)) for c, s in zip(clips, subsets, strict=True)]
    trees, nodes = zip(*grown, strict=True)
    hidden = thinker.states(collate(clips, trees, thinker.pad_token_id))
    before = thinker.forward(thinker.batch(clips, subsets))
    for b, (inputs, wanted) in enumerate(zip(clips, subsets, strict=True)):
        states = hidden[b, nodes[b]]  # [K, 1 + n, H]
        torch.testing.assert_close(states[:, 0], before[b, : len(wanted)], atol=TOLERANCE, rtol=0)
        for k, subset in enumerate(wanted):
            for places, said in (([1, 2, 4], [21, 31, 41]), ([3], [22])):
                chain, _ = grow(pack(inputs, [subset]), [Continuation.chain(said)])
                alone = thinker.states(collate([inputs], [chain], thinker.pad_token_id))[0]
                torch.testing.assert_close(
                    states[k, places], alone[-len(said) :], atol=TOLERANCE, rtol=0
                )
