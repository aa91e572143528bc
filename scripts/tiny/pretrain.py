"""Pretrains the tiny base by next-token prediction: rate what is shown, describe face and voice.

    python -m scripts.tiny.pretrain OUT --start BASE --sentences FOLDER --steps 3000

Every clip is a token tree of several subsets of its modalities (the same packed pass that scoring
uses), with the answers of `examples.py` behind each leaf. Sentences are trees of one leaf, and
their own words are predicted too. A run that was killed goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy, linear, pad

from omni_msa.files.labels import LabelSpace
from omni_msa.methods import make_method
from omni_msa.modalities import Subset
from omni_msa.model.inputs import ThinkerInputs
from omni_msa.model.loading import load_thinker
from omni_msa.model.packing import Continuation, TokenTree, collate, grow, pack
from omni_msa.model.thinker import Thinker
from omni_msa.options import MediaOptions
from omni_msa.values import ClipContent
from scripts.tiny import base
from scripts.tiny.clip_store import load_store
from scripts.tiny.examples import (
    Answer,
    Clips,
    Example,
    Sentences,
    described_clip,
    rated_clip,
    sentence_example,
)
from scripts.tiny.loop import Loop, Schedule
from scripts.tiny.sentences import RatedSentence, load_sentences

WORDS_WEIGHT = {"ratings": 0.15, "descriptions": 1.0}  # of predicting a sentence's own words
TOGETHER = 16  # sentences in one token tree
CHECKED = 64  # held-out examples of each kind, for the progress line


Grown = tuple[TokenTree, torch.Tensor, torch.Tensor]  # tree, targets [L], weights [L]


def with_answers(tree: TokenTree, answers: Sequence[Sequence[Answer]], thinker: Thinker) -> Grown:
    """Appends each subset's answer behind its leaf; returns (tree, targets [L], weights [L]).

    `targets[i]` is what token i should predict next; weight 0 where nothing is asked.
    """
    targets: dict[int, int] = {}
    weights: dict[int, float] = {}
    lines: list[Continuation] = []
    length = len(tree.token_ids)
    for leaf, turns in zip(tree.leaves.tolist(), answers, strict=True):
        previous, line = leaf, []
        for turn in turns:
            tokens = thinker.processor.tokenizer(turn.text, add_special_tokens=False)["input_ids"]
            place = turn.text.rfind("assistant\n")
            skip = 0
            if place >= 0:  # the question of a second turn is given, not predicted
                lead = turn.text[: place + len("assistant\n")]
                skip = len(thinker.processor.tokenizer(lead, add_special_tokens=False)["input_ids"])
            for j, token in enumerate(tokens):
                if j >= skip:
                    targets[previous] = token
                    weights[previous] = turn.weight / (len(tokens) - skip)
                previous = length + j
            line += tokens
            length += len(tokens)
        lines.append(Continuation.chain(line))
    grown, _ = grow(tree, lines)
    target = torch.zeros(length, dtype=torch.long)
    weight = torch.zeros(length)
    for i, token in targets.items():
        target[i], weight[i] = token, weights[i]
    return grown, target, weight


def batch_loss(
    thinker: Thinker, examples: Sequence[Example], options: MediaOptions, words_weight: float = 0.0
) -> torch.Tensor:
    """Weighted next-token loss of a batch: answers, descriptions, and sentences' own words."""
    built = [(thinker.builder().build(e.content, options), e) for e in examples]
    alone = [(i, e) for i, e in built if e.content.present == {"text"}]
    whole = [(i, e) for i, e in built if e.content.present != {"text"}]
    grown = [clip_tree(i, e, thinker) for i, e in whole]
    clips = [i for i, _ in whole]
    for start in range(0, len(alone), TOGETHER):
        part = alone[start : start + TOGETHER]
        grown.append(sentence_tree(part, thinker, words_weight))
        clips.append(part[0][0])
    batch = collate(clips, [tree for tree, _, _ in grown], thinker.pad_token_id)
    hidden = thinker.states(batch)
    length = hidden.shape[1]
    target = torch.stack([pad(t, (0, length - len(t))) for _, t, _ in grown])
    weight = torch.stack([pad(w, (0, length - len(w))) for _, _, w in grown])
    is_answer = weight > 0
    logits = thinker.core.lm_head(hidden[is_answer])
    losses = cross_entropy(logits.float(), target[is_answer], reduction="none")
    return (losses * weight[is_answer]).sum() / len(examples)


def clip_tree(inputs: ThinkerInputs, example: Example, thinker: Thinker) -> Grown:
    """All subsets of one clip, with their answers."""
    tree = pack(inputs, list(example.answers))
    tree, target, weight = with_answers(tree, list(example.answers.values()), thinker)
    return tree, target, weight * 2 / len(example.answers)


def sentence_tree(
    part: Sequence[tuple[ThinkerInputs, Example]], thinker: Thinker, words_weight: float
) -> Grown:
    """Several sentences in one tree: they share the question, each is a path of its own."""
    start = len(part[0][0].prefix.token_ids)
    shared, spans = pack(part[0][0], [frozenset()]), []
    ids, positions = [shared.token_ids[:start]], [shared.positions[:, :start]]
    for inputs, _ in part:
        alone = pack(inputs, [frozenset({"text"})])
        ids.append(alone.token_ids[start:])
        positions.append(alone.positions[:, start:])
        spans.append(len(ids[-1]))
    ends = start - 1 + torch.tensor(spans).cumsum(0)  # place of each sentence's last token
    tree = TokenTree(
        token_ids=torch.cat(ids),
        positions=torch.cat(positions, 1),
        enter=torch.arange(start + sum(spans)),
        exit=torch.cat([ends[-1:].expand(start), ends.repeat_interleave(torch.tensor(spans))]),
        leaves=ends,
        subsets=(frozenset({"text"}),) * len(part),
    )
    answers = [next(iter(example.answers.values())) for _, example in part]
    grown, target, weight = with_answers(tree, answers, thinker)
    at = start
    for (inputs, _), span in zip(part, spans, strict=True):
        words = len(inputs.parts["text"].token_ids)
        target[at : at + words - 1] = tree.token_ids[at + 1 : at + words]
        weight[at : at + words - 1] = words_weight / max(words - 1, 1)
        at += span
    return grown, target, weight


@torch.no_grad()
def rate(thinker: Thinker, contents: Sequence[ClipContent], options: MediaOptions) -> np.ndarray:
    """Scores by the zero-shot readout: [N]. For progress."""
    verbalizer = make_method("verbalizer", thinker, LabelSpace())
    scores = []
    for start in range(0, len(contents), 32):
        part = contents[start : start + 32]
        clips = [thinker.builder().build(c, options) for c in part]
        scores.append(verbalizer.read(thinker, clips, [[c.present] for c in part]).scores[:, 0])
    return torch.cat(scores).numpy()


def report(thinker: Thinker, sentences: Sequence[RatedSentence], clips, options) -> str:
    """Correlations on held-out sentences by genre, and on validation clips."""
    thinker.model.eval()
    line = []
    for genre in sorted({s.genre for s in sentences}):
        part = [s for s in sentences if s.genre == genre][:CHECKED]
        contents = [sentence_example(s.text, None).content for s in part]
        r = np.corrcoef(rate(thinker, contents, options), [s.rating for s in part])[0, 1]
        line.append(f"{genre[:6]} r {r:.3f}")
    for name in ("TAV", "A", "V") if clips else ():
        shown = frozenset(
            m for m, c in (("text", "T"), ("audio", "A"), ("video", "V")) if c in name
        )
        part = [c for c in clips if shown <= c.content.present][:CHECKED]
        contents = [keep(c.content, shown) for c in part]
        truth = np.array([c.sentiment(shown) for c in part])
        guess = rate(thinker, contents, options)
        r, mae = np.corrcoef(guess, truth)[0, 1], np.abs(guess - truth).mean()
        line.append(f"{name} r {r:.3f} mae {mae:.2f}")
    thinker.model.train()
    return " | ".join(line)


def keep(content: ClipContent, shown: Subset) -> ClipContent:
    """The clip with only some of its modalities."""
    return replace(content, parts={m: part for m, part in content.parts.items() if m in shown})


def quick_patches(thinker: Thinker) -> None:
    """Trains the patch embedding as the matrix product that it is: its Conv3d is slow backwards."""
    embed = thinker.core.model.visual.patch_embed
    width = embed.proj.weight.shape[0]
    embed.forward = lambda x: linear(x.float(), embed.proj.weight.view(width, -1))


def train(
    thinker: Thinker, loop: Loop, sentences: Sentences, clips: Clips | None, arguments
) -> None:
    """Sentences and clips of each step, their losses added."""
    options = media_options()
    words_weight = WORDS_WEIGHT[arguments.answers]
    as_example = rated_clip if arguments.answers == "ratings" else described_clip

    def step_loss(step: int, rng: random.Random) -> float:
        parts = [sentences.of_step(step, arguments.rated)]
        if clips is not None:
            parts.append([as_example(c, rng) for c in clips.of_step(step, arguments.clips)])
        total = 0.0
        for part in parts:
            loss = batch_loss(thinker, part, options, words_weight)
            loss.backward()
            total += float(loss.detach())
        return total

    def check() -> str:
        return report(thinker, held_out, valid, options) if arguments.answers == "ratings" else ""

    held_out = [s for s in load_sentences(arguments.sentences) if s.held_out]
    valid = load_store(arguments.valid, options) if arguments.valid else []
    model = thinker.core
    model.train().requires_grad_(True)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    loop.run(groups, step_loss, check)
    model.eval().requires_grad_(False)


def media_options() -> MediaOptions:
    """The options that the embedded model reads clips with."""
    return MediaOptions(**json.loads((Path(__file__).parent / "media.json").read_text()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--start", type=Path, required=True, help="the base to go on from")
    parser.add_argument("--towers", type=Path, nargs="*", default=[], help="from towers.py")
    parser.add_argument("--sentences", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, help="a folder that corpus.py wrote")
    parser.add_argument("--valid", type=Path, help="likewise, for progress")
    parser.add_argument("--answers", choices=list(WORDS_WEIGHT), default="ratings")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
    parser.add_argument("--clips", type=int, default=12, help="clips a step")
    parser.add_argument("--rated", type=int, default=64, help="sentences a step")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    thinker = load_thinker(str(arguments.start))
    config = json.loads((arguments.start / "config.json").read_text())["thinker_config"]
    for file in arguments.towers:
        name = "visual" if "vision" in file.name else "audio_tower"
        getattr(thinker.core.model, name).load_state_dict(load_file(file))
    quick_patches(thinker)
    schedule = Schedule(arguments.steps, arguments.learning_rate, arguments.seed, warm_up=200)
    kept = arguments.out / "training.state"
    loop = Loop(arguments.out.name, schedule, {"thinker": thinker.core}, kept)
    sentences = Sentences(load_sentences(arguments.sentences), arguments.seed, arguments.answers)
    clips = None
    if arguments.corpus:
        clips = Clips(load_store(arguments.corpus, media_options()), arguments.seed)
    train(thinker, loop, sentences, clips, arguments)
    for file in arguments.start.glob("*"):
        if file.suffix in (".json", ".txt"):
            (arguments.out / file.name).write_bytes(file.read_bytes())
    base.save_published(thinker.core, config, arguments.out)
    loop.end()


if __name__ == "__main__":
    main()
