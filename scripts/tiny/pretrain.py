"""Pretrains the tiny base by next-token prediction: rate what is shown, describe face and voice.

    python -m scripts.tiny.pretrain OUT --corpus CORPUS --sentences FOLDER [--minutes 40]

Every clip is a token tree of several subsets of its modalities (the same packed pass that scoring
uses). Behind each leaf stands the answer that a chat model would give, "+1.4", and behind the
face-only and voice-only leaves a second turn that asks for a description. Sentences with human
ratings are trees of one leaf, and their own words are predicted too.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy, linear, pad

from omni_msa.files.labels import LabelSpace
from omni_msa.methods import make_method
from omni_msa.modalities import Subset, all_subsets
from omni_msa.model.inputs import ThinkerInputs
from omni_msa.model.loading import load_thinker
from omni_msa.model.packing import TokenTree, collate, last_attended, pack
from omni_msa.model.prompt import QUESTION, SYSTEM, WORDS
from omni_msa.model.thinker import Thinker
from omni_msa.options import MediaOptions
from omni_msa.values import Clip, ClipContent, Frames, Transcript
from scripts.tiny import base
from scripts.tiny.clip_store import StoredClip, load_store
from scripts.tiny.sentences import RatedSentence, Teacher, load_sentences, restyle, vary
from scripts.tiny.words import sentence

DESCRIBED = ("mouth", "brow", "eyes", "pitch", "pitch_range", "pace", "loudness")
WORDS_WEIGHT = 0.15  # of predicting a sentence's own words
DESCRIPTION_WEIGHT = 0.5
CHECKED = 64  # held-out examples of each kind, for the progress line
CHECK_SECONDS = 300


Grown = tuple[TokenTree, torch.Tensor, torch.Tensor]  # tree, targets [L], weights [L]


@dataclass(frozen=True)
class Answer:
    """What should be said behind the leaf of one subset, and how much it counts."""

    text: str
    weight: float


@dataclass(frozen=True)
class Example:
    """A clip with an answer for each subset that is shown."""

    content: ClipContent
    answers: dict[Subset, list[Answer]]


def number(value: float) -> str:
    """A score as the model writes it: sign and one decimal."""
    return f"{value:+.1f}".replace("-0.0", "+0.0")


def clip_example(clip: StoredClip, rng: random.Random) -> Example:
    """Some subsets of a synthetic clip, each with the sentiment of what it shows."""
    content = augment(clip.content, rng)
    answers = {}
    chosen = {frozenset({"video"}), frozenset({"audio"}), content.present}
    chosen = {s for s in chosen if s <= content.present}
    chosen.add(rng.choice(all_subsets(content.present)))
    for subset in all_subsets(content.present):
        if subset not in chosen:
            continue
        turns = [Answer(number(clip.sentiment(subset)) + "<|im_end|>", 1.0)]
        if subset == {"video"}:
            turns.append(describe("face", clip.face))
        if subset == {"audio"}:
            turns.append(describe("voice", clip.voice))
        answers[subset] = turns
    return Example(content, answers)


def describe(what: str, values: dict[str, float]) -> Answer:
    """A second turn that asks for the face or the voice, in tenths."""
    words = ", ".join(f"{name} {number(round(value * 5) / 5)}" for name, value in values.items())
    question = f"\n<|im_start|>user\nDescribe the {what}.<|im_end|>\n<|im_start|>assistant\n"
    return Answer(f"{question}{words}<|im_end|>", DESCRIPTION_WEIGHT)


def sentence_example(text: str, rating: float) -> Example:
    """A rated sentence, shown as the transcript of a clip without picture and sound."""
    content = ClipContent(Clip(transcript=text), "", {"text": Transcript(text, "option")})
    return Example(content, {frozenset({"text"}): [Answer(number(rating) + "<|im_end|>", 1.0)]})


def augment(content: ClipContent, rng: random.Random) -> ClipContent:
    """The same face, mirrored, lighter or darker, or shifted; the same words, restyled."""
    parts = dict(content.parts)
    if isinstance(frames := parts.get("video"), Frames):
        rgb = frames.rgb
        if rng.random() < 0.5:
            rgb = rgb[:, :, ::-1]
        dy, dx = rng.randint(-8, 8), rng.randint(-8, 8)
        rgb = np.roll(rgb, (dy, dx), axis=(1, 2))
        gain, lift = rng.uniform(0.8, 1.2), rng.uniform(-15, 15)
        table = (np.arange(256) * gain + lift).clip(0, 255).astype(np.uint8)
        parts["video"] = replace(frames, rgb=table[rgb])
    if isinstance(words := parts.get("text"), Transcript):
        parts["text"] = replace(words, text=restyle(words.text, rng))
    return replace(content, parts=parts)


class Sentences:
    """An endless mix of rated sentences, variations rated by the teacher, and the grammar's own."""

    def __init__(self, rated: Sequence[RatedSentence], rng: random.Random) -> None:
        self.rated = [s for s in rated if not s.held_out]
        self.teacher = Teacher(self.rated)
        self.rng = rng
        self.draw = np.random.default_rng(rng.randrange(2**32))  # of the grammar's sentences

    def stream(self) -> Iterator[Example]:
        while True:
            varied = [vary(self.rated, self.rng) for _ in range(512)]
            ratings = self.teacher.rate(varied)
            block = [sentence_example(t, float(r)) for t, r in zip(varied, ratings, strict=True)]
            for s in self.rng.sample(self.rated, 512):
                # Between people's opinion and the teacher's: single ratings are noisy.
                block.append(sentence_example(restyle(s.text, self.rng), s.rating))
            for _ in range(256):
                spoken = sentence(self.draw)
                block.append(sentence_example(restyle(spoken.text, self.rng), spoken.value))
            self.rng.shuffle(block)
            yield from block


def with_answers(tree: TokenTree, answers: Sequence[Sequence[Answer]], thinker: Thinker) -> Grown:
    """Appends each subset's answer behind its leaf; returns (tree, targets [L], weights [L]).

    `targets[i]` is what token i should predict next; weight 0 where nothing is asked.
    """
    ids, positions, paths, targets, weights = (
        [tree.token_ids],
        [tree.positions],
        [tree.paths],
        {},
        {},
    )
    leaves = last_attended(tree.paths)
    length = len(tree.token_ids)
    for k, turns in enumerate(answers):
        previous, position = int(leaves[k]), int(tree.positions[:, leaves[k]].max()) + 1
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
            ids.append(torch.tensor(tokens))
            steps = torch.arange(position, position + len(tokens))
            positions.append(steps.expand(3, -1))
            row = torch.zeros(len(tree.subsets), len(tokens), dtype=torch.bool)
            row[k] = True
            paths.append(row)
            length += len(tokens)
            position += len(tokens)
    grown = TokenTree(torch.cat(ids), torch.cat(positions, 1), torch.cat(paths, 1), tree.subsets)
    target = torch.zeros(length, dtype=torch.long)
    weight = torch.zeros(length)
    for i, token in targets.items():
        target[i], weight[i] = token, weights[i]
    return grown, target, weight


def batch_loss(
    thinker: Thinker, examples: Sequence[Example], options: MediaOptions, together: int = 16
) -> torch.Tensor:
    """Weighted next-token loss of a batch: answers, descriptions, and sentences' own words."""
    built = [(thinker.builder().build(e.content, options), e) for e in examples]
    grown = [clip_tree(i, e, thinker) for i, e in built if len(e.answers) > 1]
    clips = [i for i, e in built if len(e.answers) > 1]
    alone = [(i, e) for i, e in built if len(e.answers) == 1]
    for start in range(0, len(alone), together):
        part = alone[start : start + together]
        grown.append(sentence_tree(part, thinker))
        clips.append(part[0][0])
    batch = collate(clips, [tree for tree, _, _ in grown], thinker.pad_token_id)
    with torch.autocast("cpu", torch.bfloat16):  # not around `build`: log-mel must stay fp32
        hidden = thinker.states(batch)
    length = hidden.shape[1]
    target = torch.stack([pad(t, (0, length - len(t))) for _, t, _ in grown])
    weight = torch.stack([pad(w, (0, length - len(w))) for _, _, w in grown])
    is_answer = weight > 0
    with torch.autocast("cpu", torch.bfloat16):
        logits = thinker.core.lm_head(hidden[is_answer])
    losses = cross_entropy(logits.float(), target[is_answer], reduction="none")
    return (losses * weight[is_answer]).sum() / len(examples)


def clip_tree(inputs: ThinkerInputs, example: Example, thinker: Thinker) -> Grown:
    """All subsets of one clip, with their answers."""
    tree = pack(inputs, list(example.answers))
    tree, target, weight = with_answers(tree, list(example.answers.values()), thinker)
    return tree, target, weight * 2 / len(example.answers)


def sentence_tree(part: Sequence[tuple[ThinkerInputs, Example]], thinker: Thinker) -> Grown:
    """Several sentences in one tree: they share the question, each is a path of its own."""
    start = len(part[0][0].prefix.token_ids)
    shared, spans = pack(part[0][0], [frozenset()]), []
    ids, positions = [shared.token_ids[:start]], [shared.positions[:, :start]]
    for inputs, _ in part:
        alone = pack(inputs, [frozenset({"text"})])
        ids.append(alone.token_ids[start:])
        positions.append(alone.positions[:, start:])
        spans.append(len(ids[-1]))
    paths = torch.eye(len(part), dtype=torch.bool).repeat_interleave(torch.tensor(spans), dim=1)
    paths = torch.cat([torch.ones(len(part), start, dtype=torch.bool), paths], dim=1)
    tree = TokenTree(
        torch.cat(ids), torch.cat(positions, 1), paths, (frozenset({"text"}),) * len(part)
    )
    answers = [next(iter(example.answers.values())) for _, example in part]
    grown, target, weight = with_answers(tree, answers, thinker)
    at = start
    for (inputs, _), span in zip(part, spans, strict=True):
        words = len(inputs.parts["text"].token_ids)
        target[at : at + words - 1] = tree.token_ids[at + 1 : at + words]
        weight[at : at + words - 1] = WORDS_WEIGHT / max(words - 1, 1)
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
        contents = [sentence_example(s.text, s.rating).content for s in part]
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--sentences", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, help="a folder that corpus.py wrote")
    parser.add_argument("--valid", type=Path, help="likewise, for progress")
    parser.add_argument("--start", type=Path, help="continue from this base")
    parser.add_argument("--towers", type=Path, nargs="*", default=[], help="from towers.py")
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
    parser.add_argument("--clips", type=int, default=8, help="clips a step")
    parser.add_argument("--rated", type=int, default=32, help="sentences a step")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    rng = random.Random(arguments.seed)
    options = MediaOptions(**json.loads((Path(__file__).parent / "media.json").read_text()))
    rated = load_sentences(arguments.sentences)
    held_out = [s for s in rated if s.held_out]
    clips = load_store(arguments.corpus, options) if arguments.corpus else []
    valid = load_store(arguments.valid, options) if arguments.valid else []
    texts = [s.text for s in rated if not s.held_out] + base_texts()
    folder = arguments.start or arguments.out
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.start is None:
        base.build(arguments.out, texts, arguments.seed)
    thinker = load_thinker(str(folder))
    config = json.loads((folder / "config.json").read_text())["thinker_config"]
    for file in arguments.towers:
        name = "visual" if "vision" in file.name else "audio_tower"
        getattr(thinker.core.model, name).load_state_dict(load_file(file))
    quick_patches(thinker)
    train(thinker, clips, Sentences(rated, rng), arguments, options, (held_out, valid))
    if arguments.start:
        for file in folder.glob("*"):
            if file.suffix in (".json", ".txt"):
                (arguments.out / file.name).write_bytes(file.read_bytes())
    base.save_published(thinker.core, config, arguments.out)


def quick_patches(thinker: Thinker) -> None:
    """Trains the patch embedding as the matrix product that it is: its Conv3d is slow backwards."""
    embed = thinker.core.model.visual.patch_embed
    width = embed.proj.weight.shape[0]
    embed.forward = lambda x: linear(x.float(), embed.proj.weight.view(width, -1))


def base_texts() -> list[str]:
    """What else the tokenizer should know: the grammar's sentences, and how answers look."""
    draw = np.random.default_rng(0)
    spoken = [sentence(draw).text for _ in range(6000)]
    questions = [
        SYSTEM,
        QUESTION,
        WORDS,
        "system user assistant",
        "Describe the face.",
        "Describe the voice.",
    ]
    answers = [f"{name} {i / 10:+.1f}" for name in DESCRIBED for i in range(-30, 31)]
    return spoken + 200 * questions + answers


def train(thinker, clips, sentences: Sentences, arguments, options, checks) -> None:
    """AdamW with warm-up and cosine over a fixed time, so that a slow machine also finishes."""
    rng = sentences.rng
    model = thinker.core
    model.train().requires_grad_(True)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=arguments.learning_rate, betas=(0.9, 0.98))
    stream = sentences.stream()
    order: list[StoredClip] = []
    began = last = time.perf_counter()
    total, step, running = arguments.minutes * 60, 0, 0.0
    while (elapsed := time.perf_counter() - began) < total:
        share = elapsed / total
        rate_now = min(1.0, (step + 1) / 200) * (
            0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * share))
        )
        for group in optimizer.param_groups:
            group["lr"] = arguments.learning_rate * rate_now
        parts = [[next(stream) for _ in range(arguments.rated)]]
        if clips:
            if len(order) < arguments.clips:
                order = rng.sample(clips, len(clips))
            parts.append([clip_example(order.pop(), rng) for _ in range(arguments.clips)])
        loss = 0.0
        for part in parts:
            part_loss = batch_loss(thinker, part, options)
            part_loss.backward()
            loss += float(part_loss.detach())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        running = loss if step == 0 else 0.98 * running + 0.02 * loss
        step += 1
        if time.perf_counter() - last > CHECK_SECONDS:
            last = time.perf_counter()
            checked = report(thinker, *checks, options)
            note = f"{elapsed / 60:.1f} min, step {step}, loss {running:.3f} | {checked}"
            print(note, file=sys.stderr, flush=True)
    model.eval().requires_grad_(False)
    print(f"done: {step} steps | {report(thinker, *checks, options)}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
