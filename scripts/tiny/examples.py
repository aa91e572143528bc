"""What the tiny base is pretrained on: clips and sentences with the answers that belong to them.

Two kinds of answers. `ratings` is what the embedded model learns: the sentiment of what is shown as
a chat model would write it, "+1.4", then a description of face and voice. `descriptions` is for the
base of the readout study, which never meets a number or a rating: descriptions in words, and the
words of sentences.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from omni_msa.modalities import Subset, all_subsets
from omni_msa.model.prompt import QUESTION, SYSTEM, WORDS
from omni_msa.values import Clip, ClipContent, Frames, Transcript
from scripts.tiny.clip_store import StoredClip
from scripts.tiny.sentences import RatedSentence, Teacher, restyle, vary
from scripts.tiny.words import sentence

DESCRIPTION_WEIGHT = 0.5
BLOCK = 1280  # sentences: variations, people's, and the grammar's own
GRADES = ("very low", "low", "medium", "high", "very high")
SETTINGS = {
    "face": ("mouth", "brow", "eyes"),
    "voice": ("pitch", "pitch_range", "pace", "loudness"),
}


@dataclass(frozen=True)
class Answer:
    """What should be said behind the leaf of one subset, and how much it counts."""

    text: str
    weight: float


@dataclass(frozen=True)
class Example:
    """A clip with the answers, turn after turn, for each subset that is shown."""

    content: ClipContent
    answers: dict[Subset, list[Answer]]


def number(value: float) -> str:
    """A score as the model writes it: sign and one decimal."""
    return f"{value:+.1f}".replace("-0.0", "+0.0")


def rated_clip(clip: StoredClip, rng: random.Random) -> Example:
    """Some subsets of a synthetic clip, each with the sentiment of what it shows."""
    content = augment(clip.content, rng)
    chosen = {frozenset({"video"}), frozenset({"audio"}), content.present}
    chosen = {s for s in chosen if s <= content.present}
    chosen.add(rng.choice(all_subsets(content.present)))
    answers = {}
    for subset in (s for s in all_subsets(content.present) if s in chosen):
        turns = [Answer(number(clip.sentiment(subset)) + "<|im_end|>", 1.0)]
        for what, modality in (("face", "video"), ("voice", "audio")):
            if subset == {modality}:
                turns.append(asked(what, in_tenths(clip, what)))
        answers[subset] = turns
    return Example(content, answers)


def described_clip(clip: StoredClip, rng: random.Random) -> Example:
    """Face and voice in words, behind each of them alone and behind everything; no rating."""
    content = augment(clip.content, rng)
    answers = {}
    for subset in {frozenset({"video"}), frozenset({"audio"}), content.present}:
        shown = [w for w, m in (("face", "video"), ("voice", "audio")) if m in subset]
        if subset <= content.present and shown:
            turns = [asked(what, in_words(clip, what)) for what in shown]
            first = replace(turns[0], text=f"<|im_end|>{turns[0].text}")  # the rating is left out
            answers[subset] = [first, *turns[1:]]
    return Example(content, answers)


def asked(what: str, description: str) -> Answer:
    """A turn that asks for the face or the voice, and its answer."""
    question = f"\n<|im_start|>user\nDescribe the {what}.<|im_end|>\n<|im_start|>assistant\n"
    return Answer(f"{question}{description}<|im_end|>", DESCRIPTION_WEIGHT)


def in_tenths(clip: StoredClip, what: str) -> str:
    """ "mouth +0.6, brow -0.2, eyes +0.8": to the nearest fifth."""
    values = clip.face if what == "face" else clip.voice
    return ", ".join(f"{name} {number(round(value * 5) / 5)}" for name, value in values.items())


def in_words(clip: StoredClip, what: str) -> str:
    """ "mouth high, brow medium, eyes very high": five grades from -1 to 1."""
    values = clip.face if what == "face" else clip.voice
    graded = {name: GRADES[round(2 * min(max(v, -1.0), 1.0)) + 2] for name, v in values.items()}
    return ", ".join(f"{name} {grade}" for name, grade in graded.items())


def sentence_example(text: str, rating: float | None) -> Example:
    """A sentence, shown as the transcript of a clip without picture and sound; rated or not."""
    content = ClipContent(Clip(transcript=text), "", {"text": Transcript(text, "option")})
    turns = [] if rating is None else [Answer(number(rating) + "<|im_end|>", 1.0)]
    return Example(content, {frozenset({"text"}): turns})


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
    """Rated sentences, variations rated by the teacher, and the grammar's own, mixed in blocks."""

    def __init__(self, rated: Sequence[RatedSentence], seed: int, answers: str) -> None:
        self.rated = [s for s in rated if not s.held_out]
        self.teacher = Teacher(self.rated) if answers == "ratings" else None
        self.seed = seed
        self.block = lru_cache(maxsize=1)(self._block)

    def of_step(self, step: int, count: int) -> list[Example]:
        """The sentences of one step, which depend on nothing but its number and the seed."""
        at = step * count
        return self.block(at // BLOCK)[at % BLOCK : at % BLOCK + count]

    def _block(self, index: int) -> list[Example]:
        rng = random.Random(f"{self.seed} sentences {index}")
        varied = [vary(self.rated, rng) for _ in range(512)]
        opinions = self.teacher.rate(varied) if self.teacher else [0.0] * len(varied)
        pairs = [(text, float(r)) for text, r in zip(varied, opinions, strict=True)]
        # Between people's opinion and the teacher's: single ratings are noisy.
        pairs += [(restyle(s.text, rng), s.rating) for s in rng.sample(self.rated, 512)]
        draw = np.random.default_rng(rng.randrange(2**32))
        for _ in range(BLOCK - len(pairs)):
            spoken = sentence(draw, split="train")
            pairs.append((restyle(spoken.text, rng), spoken.value))
        rng.shuffle(pairs)
        return [sentence_example(t, r if self.teacher else None) for t, r in pairs]


class Clips:
    """The corpus in a new order each time it has been gone through."""

    def __init__(self, clips: Sequence[StoredClip], seed: int) -> None:
        self.clips = clips
        self.seed = seed
        self.order = lru_cache(maxsize=2)(self._order)

    def of_step(self, step: int, count: int) -> list[StoredClip]:
        """The clips of one step."""
        places = range(step * count, (step + 1) * count)
        return [
            self.clips[self.order(at // len(self.clips))[at % len(self.clips)]] for at in places
        ]

    def _order(self, epoch: int) -> list[int]:
        return random.Random(f"{self.seed} clips {epoch}").sample(
            range(len(self.clips)), len(self.clips)
        )


def texts_to_know(rated: Sequence[RatedSentence]) -> list[str]:
    """What the tokenizer is learned from: training sentences, questions, how answers look."""
    draw = np.random.default_rng(0)
    spoken = [sentence(draw, split="train").text for _ in range(6000)]
    questions = [SYSTEM, QUESTION, WORDS, "system user assistant"]
    questions += ["Describe the face.", "Describe the voice."]
    names = [name for group in SETTINGS.values() for name in group]
    answers = [f"{name} {i / 10:+.1f}" for name in names for i in range(-30, 31)]
    answers += 10 * [f"{name} {grade}" for name in names for grade in GRADES]
    return [s.text for s in rated if not s.held_out] + spoken + 200 * questions + answers
