"""Four readouts over one Thinker: each equals a plain computation of what it says it reads."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict

import pytest
import torch
from conftest import MEDIA, make_content
from torch.nn.functional import cross_entropy

from omni_msa.errors import ConfigError
from omni_msa.files.labels import LabelSpace, label_text, label_texts
from omni_msa.methods import METHODS, Labels, make_method
from omni_msa.methods.feature_method import FeatureMethod
from omni_msa.methods.generative import MAX_NEW_TOKENS, greedy
from omni_msa.methods.verbalizer import label_trie
from omni_msa.modalities import all_subsets
from omni_msa.model.identity import base_sha256
from omni_msa.model.loading import load_thinker
from omni_msa.model.lora import LoraSettings, add_lora
from omni_msa.model.packing import Continuation, collate, grow, pack
from omni_msa.model.prompt import question
from omni_msa.options import AblationOptions, MediaOptions, ModelOptions
from omni_msa.scoring.checkpoint import Checkpoint, CheckpointInfo, save_checkpoint
from omni_msa.scoring.scorer import Scorer

TOLERANCE = 1e-4  # fp32: sums are taken in another order
SCALE = LabelSpace(-3.0, 3.0, mean=0.1, deviation=1.5)
NEVER = 359  # a control token, which these bases do not say: nothing ends early


# those that read the Thinker; the others have tests of their own
READOUTS = [name for name, method in METHODS.items() if not issubclass(method, FeatureMethod)]
QUESTION = question()


@pytest.fixture(scope="module")
def asked(base_folder):
    """The bare base, asked for a number in words. It never says a control token: the library's
    own rope index would take that for the start of a picture or a sound."""
    thinker = load_thinker(str(base_folder))
    assert not thinker.config.text_config.tie_word_embeddings
    first = min(thinker.processor.tokenizer.all_special_ids)
    thinker.core.lm_head.weight.data[first:] = 0.0
    return thinker


@pytest.fixture(scope="module")
def clip(asked):
    return build(asked)


@pytest.fixture(scope="module")
def mixed(asked):
    """Clips of unequal length that do not all have the same modalities."""
    return [
        build(asked, text="A much longer sentence about the film we saw.", seconds=4.0, seed=1),
        build(asked, seconds=None, num_frames=None, seed=2),
        build(asked, text=None, num_frames=2, seconds=1.0, seed=3),
    ]


def build(thinker, words=QUESTION, **changes):
    return thinker.builder(words).build(make_content(**changes), MediaOptions(**MEDIA))


def make(name, thinker, scale=SCALE, **settings):
    torch.manual_seed(4)
    return make_method(name, thinker, scale, settings).eval()


def plain_logits(thinker, inputs, subset, said=()) -> torch.Tensor:
    """The library's own Thinker, without tree or cache, on a subset and what was said: [L, V]."""
    prompt = pack(inputs, [subset]).token_ids
    token_ids = torch.cat([prompt, torch.tensor(said, dtype=torch.long)])[None]
    given = {"input_ids": token_ids, "attention_mask": torch.ones_like(token_ids)}
    if "video" in subset:
        given["pixel_values_videos"] = inputs.features["video"].pixels
        given["video_grid_thw"] = torch.tensor([inputs.features["video"].grid_thw])
        given["video_second_per_grid"] = torch.tensor([1.0])
    if "audio" in subset:
        given["input_features"] = inputs.features["audio"][None]
        given["feature_attention_mask"] = torch.ones(
            1, inputs.features["audio"].shape[1], dtype=torch.long
        )
    return thinker.core(**given, use_cache=False).logits[0].float()


def plain_greedy(thinker, inputs, subset, end) -> list[int]:
    """The likeliest token, appended, and everything run again."""
    said: list[int] = []
    while len(said) < MAX_NEW_TOKENS and end not in said:
        said.append(int(plain_logits(thinker, inputs, subset, said)[-1].argmax()))
    return said


def plain_probabilities(thinker, inputs, subset, spelled) -> torch.Tensor:
    """Each string's product of next-token probabilities, among these strings: [strings]."""
    after = {}
    for tokens in spelled:
        for end in range(len(tokens)):
            prefix = tuple(tokens[:end])
            if prefix not in after:
                after[prefix] = plain_logits(thinker, inputs, subset, prefix)[-1].softmax(-1)
    products = [
        torch.stack([after[tuple(t[:i])][t[i]] for i in range(len(t))]).prod() for t in spelled
    ]
    return torch.stack(products) / torch.stack(products).sum()


def spelled_labels(thinker, labels) -> list[list[int]]:
    return [thinker.processor.tokenizer(t, add_special_tokens=False)["input_ids"] for t in labels]


@contextmanager
def language_calls(thinker):
    calls: list[None] = []
    model = thinker.core.model.language_model
    handle = model.register_forward_hook(lambda *_: calls.append(None))
    try:
        yield calls
    finally:
        handle.remove()


# The Thinker: states, logits, step, ask


@torch.inference_mode()
def test_states_and_logits_equal_the_librarys_own_on_every_path(asked, clip):
    subsets = all_subsets(clip.present)
    batch = asked.batch([clip], [subsets])
    hidden = asked.states(batch)[0]
    for subset, path in zip(subsets, batch.paths[0], strict=True):
        theirs = plain_logits(asked, clip, subset)
        torch.testing.assert_close(asked.logits(hidden[path]), theirs, atol=TOLERANCE, rtol=0)


@torch.inference_mode()
def test_steps_with_a_cache_equal_one_pass_over_the_grown_tree(asked, clip):
    from transformers import DynamicCache

    subsets = all_subsets(clip.present)
    said = torch.arange(2 * len(subsets)).view(-1, 2) + 100  # [K, 2]
    tree, nodes = grow(pack(clip, subsets), [Continuation.chain(row) for row in said.tolist()])
    grown = asked.states(collate([clip], [tree], asked.pad_token_id))[0]

    cache = DynamicCache(config=asked.config.text_config)
    batch = asked.batch([clip], [subsets])
    first = asked.states(batch, cache)
    torch.testing.assert_close(first, asked.states(batch), atol=TOLERANCE, rtol=0)
    start = batch.positions[:, :, batch.leaves[0]]
    seen = batch.paths
    for depth in (1, 2):
        seen = torch.cat([seen, torch.eye(len(subsets), dtype=torch.bool)[None]], dim=-1)
        hidden = asked.step(said[None, :, depth - 1], start + depth, seen[:, None], cache)
        torch.testing.assert_close(hidden[0], grown[nodes[:, depth]], atol=TOLERANCE, rtol=0)


def test_asking_changes_the_prefix_of_the_clips_that_follow_and_nothing_else(base_folder):
    thinker = load_thinker(str(base_folder))
    before = build(thinker)
    after = build(thinker, question(-1.0, 1.0))
    assert not torch.equal(before.prefix.token_ids, after.prefix.token_ids)
    assert "from -1 to +1" in thinker.processor.tokenizer.decode(after.prefix.token_ids)
    assert torch.equal(before.suffix.token_ids, after.suffix.token_ids)
    for modality, part in before.parts.items():
        assert torch.equal(part.token_ids, after.parts[modality].token_ids)


# What all of them share


@torch.inference_mode()
@pytest.mark.parametrize("name", READOUTS)
def test_a_batch_of_unequal_clips_is_read_as_each_alone(asked, mixed, name):
    readout = make(name, asked)
    subsets = [all_subsets(c.present) for c in mixed]
    together = readout.read(asked, mixed, subsets)
    assert together.scores.shape == (3, 8)
    assert (together.answers is not None) == (name == "generative")
    for row, (inputs, wanted) in enumerate(zip(mixed, subsets, strict=True)):
        alone = readout.read(asked, [inputs], [wanted])
        torch.testing.assert_close(
            together.scores[row, : len(wanted)], alone.scores[0], atol=TOLERANCE, rtol=0
        )
        assert alone.scores.min() >= -3 and alone.scores.max() <= 3
        if together.answers is not None:
            assert together.answers[row][: len(wanted)] == alone.answers[0]


@torch.inference_mode()
@pytest.mark.parametrize("name", READOUTS)
def test_one_pass_reads_all_clips_and_subsets(asked, mixed, name):
    """Only decoding needs more: one call a token, however many clips and subsets there are."""
    readout = make(name, asked)
    with language_calls(asked) as calls:
        readout.read(asked, mixed, [all_subsets(c.present) for c in mixed])
    assert len(calls) == (MAX_NEW_TOKENS if name == "generative" else 1)


@torch.inference_mode()
def test_readouts_are_interchangeable_over_one_base(asked, mixed):
    subsets = [all_subsets(c.present) for c in mixed]
    readouts = [make(name, asked) for name in READOUTS]
    first = [r.read(asked, mixed, subsets) for r in readouts]
    for readout, before in reversed(list(zip(readouts, first, strict=True))):
        again = readout.read(asked, mixed, subsets)
        torch.testing.assert_close(again.scores, before.scores, atol=TOLERANCE, rtol=0)
        assert again.answers == before.answers
    assert len({tuple(f.scores[0].tolist()) for f in first}) == len(READOUTS)


def test_a_scale_restores_what_it_normalises_and_clips():
    labels = torch.tensor([-3.0, 0.1, 2.5])
    torch.testing.assert_close(SCALE.normalise(labels)[1], torch.tensor(0.0))
    torch.testing.assert_close(SCALE.restore(SCALE.normalise(labels)[..., None]), labels)
    assert SCALE.restore(torch.tensor([[-9.0], [9.0]])).tolist() == [-3.0, 3.0]
    assert LabelSpace(**SCALE.to_json()) == SCALE


def test_unknown_readouts_heads_and_settings_are_refused(asked):
    with pytest.raises(ConfigError, match="choose one of: regression, verbalizer, probe, generat"):
        make_method("poetry", asked, SCALE)
    with pytest.raises(ConfigError, match="head 'deep' is not known; choose one of: mlp, linear"):
        make_method("regression", asked, SCALE, {"head": "deep"})
    with pytest.raises(ConfigError, match="verbalizer has no options; leave out head"):
        make_method("verbalizer", asked, SCALE, {"head": "mlp"})


# Verbalizer


@pytest.mark.slow
@torch.inference_mode()
def test_label_probabilities_are_products_of_next_token_probabilities(asked, clip):
    readout = make("verbalizer", asked)
    subsets = all_subsets(clip.present)
    spelled = spelled_labels(asked, label_texts(-3.0, 3.0))
    scores = readout.read(asked, [clip], [subsets]).scores[0]
    tree, nodes = grow(pack(clip, subsets), [readout.trie] * len(subsets))
    hidden = asked.states(collate([clip], [tree], asked.pad_token_id))[0]
    ours = readout.probabilities(asked.logits(hidden[nodes]))
    torch.testing.assert_close(ours.sum(-1), torch.ones(8), atol=TOLERANCE, rtol=0)
    for k, subset in enumerate(subsets):
        plain = plain_probabilities(asked, clip, subset, spelled)
        torch.testing.assert_close(ours[k], plain, atol=TOLERANCE, rtol=1e-3)
        expected = float(plain @ torch.tensor(list(label_texts(-3.0, 3.0).values())))
        assert float(scores[k]) == pytest.approx(expected, abs=TOLERANCE)
    assert torch.pdist(scores[:, None]).max() > 100 * TOLERANCE  # the comparison says something


SPELLINGS = {
    "one token each": [[20], [21], [22]],
    "of different lengths": [[20], [21, 30], [21, 31, 40], [21, 31, 41], [22, 30], [22, 31]],
}


@torch.inference_mode()
@pytest.mark.parametrize("spelled", SPELLINGS.values(), ids=SPELLINGS)
def test_labels_may_be_spelled_in_any_number_of_tokens(asked, mixed, spelled):
    readout = make("verbalizer", asked)
    readout.values = torch.linspace(-3, 3, len(spelled))
    readout.trie, readout.choices, readout.steps = label_trie(spelled)
    subsets = [all_subsets(c.present) for c in mixed]
    with language_calls(asked) as calls:
        scores = readout.read(asked, mixed, subsets).scores
    assert len(calls) == 1
    for row, (inputs, wanted) in enumerate(zip(mixed, subsets, strict=True)):
        for k, subset in enumerate(wanted):
            plain = plain_probabilities(asked, inputs, subset, spelled) @ readout.values
            assert float(scores[row, k]) == pytest.approx(float(plain), abs=TOLERANCE)


def test_a_trie_shows_every_shared_beginning_once():
    trie, choices, steps = label_trie(SPELLINGS["of different lengths"])
    assert trie == Continuation((21, 31, 22), (-1, 0, -1))
    # node 0 is the leaf, node i the i-th token shown
    assert choices.tolist() == [
        [0, 20], [0, 21], [0, 22], [1, 30], [1, 31], [2, 40], [2, 41], [3, 30], [3, 31]
    ]  # fmt: skip
    assert steps.sum(-1).tolist() == [1, 2, 3, 3, 2, 2]
    taken = [choices[row.bool()].tolist() for row in steps]
    assert taken[2] == [[0, 21], [1, 31], [2, 40]] and taken[4] == [[0, 22], [3, 30]]


# Generative


@torch.inference_mode()
def test_greedy_in_the_tree_says_what_a_plain_loop_says(asked, clip):
    subsets = all_subsets(clip.present)
    said = greedy(asked, asked.batch([clip], [subsets]), NEVER)[0][0]
    for row, subset in zip(said.tolist(), subsets, strict=True):
        assert row == plain_greedy(asked, clip, subset, NEVER)
    assert len({tuple(row) for row in said.tolist()}) > 4  # they do not all say the same


@torch.inference_mode()
@pytest.mark.parametrize("side", ["left", pytest.param("right", marks=pytest.mark.slow)])
def test_what_has_ended_stays_silent_while_others_go_on(asked, mixed, side):
    """Any token may be taken for the end: until then, nothing that is said changes."""
    subsets = [all_subsets(c.present) for c in mixed]
    batch = asked.batch(mixed, subsets, padding_side=side)
    end = plain_greedy(asked, mixed[0], subsets[0][0], NEVER)[1]
    said, _ = greedy(asked, batch, end)
    lengths = set()
    for b, wanted in enumerate(subsets):
        for k in range(said.shape[1]):
            row = said[b, k].tolist()
            plain = plain_greedy(asked, mixed[b], wanted[k], end) if k < len(wanted) else []
            assert row == plain + [end] * (len(row) - len(plain))
            lengths.add(len(plain))
    assert {0, 2} < lengths  # rows of no subset, an early end, and longer ones


@torch.inference_mode()
def test_decoding_stops_once_all_have_ended(asked, clip):
    batch = asked.batch([clip], [[clip.present]])
    end = plain_greedy(asked, clip, clip.present, NEVER)[0]
    with language_calls(asked) as calls:
        assert greedy(asked, batch, end)[0].tolist() == [[[end]]]
    assert len(calls) == 1


def plain_loss(thinker, inputs, subset, value) -> float:
    """Cross-entropy of the label's tokens and the end, in a causal pass over one sequence."""
    tokenizer = thinker.processor.tokenizer
    answer = tokenizer(label_text(value) + tokenizer.eos_token)["input_ids"]
    logits = plain_logits(thinker, inputs, subset, answer)[-len(answer) - 1 : -1]
    return float(cross_entropy(logits, torch.tensor(answer)))


@torch.inference_mode()
def test_the_taught_loss_is_a_plain_causal_cross_entropy(asked, mixed):
    subsets = [all_subsets(c.present) for c in mixed]
    most = max(map(len, subsets))
    labels = torch.linspace(-12.0, 12.0, 3 * most).view(3, most)  # of three and of four characters
    losses = make("generative", asked).losses(asked, mixed, subsets, Labels(labels))
    for b, (inputs, wanted) in enumerate(zip(mixed, subsets, strict=True)):
        for k, subset in enumerate(wanted):
            expected = plain_loss(asked, inputs, subset, float(labels[b, k]))
            assert float(losses[b, k]) == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.slow
def test_what_is_taught_is_what_is_said(base_folder):
    thinker = load_thinker(str(base_folder))
    clips = [build(thinker, seed=1), build(thinker, text="It was terrible.", seed=2)]
    subsets, labels = [[c.present] for c in clips], torch.tensor([[1.4], [-2.0]])
    readout = make("generative", thinker)
    weights = thinker.core.model.language_model.requires_grad_(True).parameters()
    optimizer = torch.optim.Adam(weights, lr=3e-3)
    for _ in range(50):
        loss = readout.losses(thinker, clips, subsets, Labels(labels)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.inference_mode():
        reading = readout.read(thinker, clips, subsets)
        weighed = make("verbalizer", thinker).read(thinker, clips, subsets).scores
    assert [row[0].text for row in reading.answers] == ["+1.4", "-2.0"]  # and then the end token
    torch.testing.assert_close(reading.scores, labels)
    assert weighed[0, 0] > 0.3 > -0.3 > weighed[1, 0]  # the expectation leans the same way


# Regression


@torch.inference_mode()
@pytest.mark.parametrize("head", ["mlp", "linear"])
def test_regression_reads_z_scores_and_is_taught_in_them(asked, clip, head):
    readout = make("regression", asked, head=head)
    subsets = all_subsets(clip.present)
    outputs = readout.layers(asked.forward(asked.batch([clip], [subsets])))[..., 0]  # [1, 8]
    scores = readout.read(asked, [clip], [subsets]).scores
    expected = (outputs * 1.5 + 0.1).clamp(-3, 3)
    torch.testing.assert_close(scores, expected, atol=TOLERANCE, rtol=0)
    labels = torch.linspace(-3.0, 3.0, 8)[None]
    losses = readout.losses(asked, [clip], [subsets], Labels(labels))
    expected = (outputs - (labels - 0.1) / 1.5).abs()
    torch.testing.assert_close(losses, expected, atol=TOLERANCE, rtol=0)
    assert asdict(readout.options) == {"head": head, "dropout": 0.2, "ecg": False}
    assert sum(p.numel() for p in readout.parameters()) == {"mlp": 17_409, "linear": 65}[head]


# Checkpoints, and which readout a scorer takes


def save(folder, base_folder, name, adapted=False, **settings):
    """A checkpoint of this readout, and the scorer that it was saved from."""
    torch.manual_seed(6)
    thinker = load_thinker(str(base_folder))
    if adapted:
        add_lora(thinker, LoraSettings(2, 4, 0.0))
        for key, parameter in thinker.model.named_parameters():
            if "lora_B" in key:
                torch.nn.init.normal_(parameter, std=0.2)
    readout = make(name, thinker, **settings)
    info = CheckpointInfo(str(base_folder), base_sha256(base_folder), name, SCALE, MEDIA)
    info = save_checkpoint(folder, thinker, readout, info)
    return Scorer(thinker, Checkpoint(folder, info, readout), MediaOptions(**MEDIA))


def load(model=None, checkpoint=None, **changes) -> Scorer:
    paths = [None if path is None else str(path) for path in (model, checkpoint)]
    return Scorer.load(ModelOptions(*paths, **changes))


def one(scorer):
    return scorer.score_prepared([scorer.prepare(make_content())], AblationOptions())[0]


@pytest.mark.parametrize(
    "adapted",
    [pytest.param(False, id="bare"), pytest.param(True, id="adapted", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize(
    ("name", "settings"),
    [("regression", {"head": "mlp"}), ("regression", {"head": "linear", "dropout": 0.0}),
     ("verbalizer", {}), ("probe", {"penalty": 10.0}), ("generative", {})],
    ids=["mlp", "linear", "verbalizer", "probe", "generative"],
)  # fmt: skip
def test_every_readout_scores_the_same_after_a_round_trip(
    base_folder, tmp_path, name, settings, adapted
):
    saved = one(save(tmp_path, base_folder, name, adapted, **settings))
    scorer = load(checkpoint=tmp_path)
    loaded = one(scorer)
    assert loaded.ablation.subsets == pytest.approx(saved.ablation.subsets, abs=TOLERANCE)
    assert loaded.answer == saved.answer
    assert scorer.thinker.adapted == adapted == (tmp_path / "adapter_config.json").exists()
    assert settings.items() <= asdict(scorer.method.options).items()
    assert not loaded.warnings and not scorer.remarks
    assert loaded.model["checkpoint"] == str(tmp_path) and loaded.model["readout"] == name


def test_a_bare_base_is_read_by_the_verbalizer_and_says_so(base_folder):
    scorer = load(base_folder)
    record = one(scorer)
    row = record.to_json()
    assert row["model"]["readout"] == "verbalizer" and row["model"]["checkpoint"] is None
    (remark,) = scorer.remarks
    assert remark.startswith("zero-shot: no checkpoint") and "verbalizer" in remark
    assert row["warnings"] == [remark]
    assert row["range"] == [-3.0, 3.0] and row["answer"] is None


def test_a_bare_base_may_be_read_by_what_it_says_on_another_range(base_folder):
    scorer = load(base_folder, readout="generative", label_range=(-1.0, 1.0))
    row = one(scorer).to_json()
    prompt = scorer.thinker.processor.tokenizer.decode(scorer.builder.prefix.token_ids)
    assert "from -1 to +1" in prompt and "answer with one number" in prompt
    assert row["range"] == [-1.0, 1.0] and -1 <= row["score"] <= 1
    # the answer is the whole clip's, the last of the subsets
    inputs = scorer.prepare(make_content()).inputs
    said = scorer.method.read(scorer.thinker, [inputs], [[inputs.present]]).answers[0][0]
    assert row["answer"] == said.to_json() and row["score"] == said.value
    others = [load(base_folder, readout="generative"), load(base_folder, label_range=(-1.0, 1.0))]
    assert len({s.fingerprint(AblationOptions()) for s in (scorer, *others)}) == 3


@pytest.mark.parametrize("stored", ["generative", "verbalizer"])
def test_two_readouts_without_weights_may_stand_in_for_each_other(base_folder, tmp_path, stored):
    other = {"generative": "verbalizer", "verbalizer": "generative"}[stored]
    owner = save(tmp_path, base_folder, stored, adapted=True)
    scorer = load(checkpoint=tmp_path, readout=other)
    assert (scorer.name, scorer.thinker.adapted) == (other, True)
    assert scorer.describe()["checkpoint"] == str(tmp_path) and not scorer.remarks
    assert scorer.fingerprint(AblationOptions()) != owner.fingerprint(AblationOptions())
    inputs = scorer.prepare(make_content()).inputs
    with torch.inference_mode():
        direct = make(other, owner.thinker).read(owner.thinker, [inputs], [[inputs.present]])
    assert one(scorer).score == pytest.approx(float(direct.scores[0, 0]), abs=TOLERANCE)
    for wrong in ("regression", "probe"):
        with pytest.raises(ConfigError, match=f"'{wrong}': this checkpoint holds a {stored}"):
            load(checkpoint=tmp_path, readout=wrong)


def test_a_readout_with_weights_is_not_swapped_or_made_up(base_folder, checkpoint_folder):
    for wrong in ("probe", "verbalizer", "generative"):
        with pytest.raises(ConfigError, match=f"'{wrong}': this checkpoint holds a regression"):
            load(base_folder, checkpoint_folder, readout=wrong)
    for wrong in ("regression", "probe"):
        with pytest.raises(ConfigError, match=f"readout {wrong}: it needs weights.* --checkpoint"):
            load(base_folder, readout=wrong)
    with pytest.raises(ConfigError, match="needs weights"):
        load("tiny", readout="probe")
    with pytest.raises(ConfigError, match="'poetry' is not known; choose one of: regression, "):
        load(base_folder, readout="poetry")


def test_tiny_has_its_checkpoint_unless_another_readout_is_asked_for():
    assert load(readout="regression").describe()["checkpoint"] == "tiny"
    bare = load(readout="verbalizer")
    assert bare.describe()["checkpoint"] is None and not bare.thinker.adapted
