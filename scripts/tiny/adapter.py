"""Trains the tiny model's LoRA adapter and regression head, with the code users train with.

    python -m scripts.tiny.adapter OUT --base BASE --corpus TRAIN --valid VALID --sentences FOLDER

Clips come from the synthetic corpus with the stated sentiment of every subset as its label;
sentences are transcript-only clips with human ratings (and, for variations, the teacher's).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from omni_msa.modalities import all_subsets, subset_name
from omni_msa.options import ModelOptions, TrainOptions
from omni_msa.training.data import TrainingData
from omni_msa.training.trainer import Trainer, TrainProgress
from omni_msa.values import Clip, ClipContent, Transcript
from scripts.memory_feed import MemoryFeed
from scripts.tiny.clip_store import StoredClip, load_store
from scripts.tiny.examples import augment
from scripts.tiny.pretrain import media_options
from scripts.tiny.sentences import RatedSentence, Teacher, load_sentences, restyle, vary
from scripts.tiny.words import sentence

NOTICE = (
    "tiny is a small demonstration model made from synthetic clips; for real work use "
    "Qwen2.5-Omni-7B: --model Qwen/Qwen2.5-Omni-7B --checkpoint DIR"
)


def labelled(clip: StoredClip, rng: random.Random | None = None) -> ClipContent:
    """A synthetic clip with its stated sentiment, and that of each of its subsets."""
    content = augment(clip.content, rng) if rng else clip.content
    present = content.present
    own = {subset_name(s): clip.sentiment(s) for s in all_subsets(present)}
    whole = clip.sentiment(present)
    return replace(content, clip=replace(content.clip, label=whole, subset_labels=own))


def words_alone(text: str, rating: float) -> ClipContent:
    """A rated sentence as a clip without picture and sound; nothing shown means nothing said."""
    clip = Clip(transcript=text, label=rating, subset_labels={"": 0.0})
    return ClipContent(clip, "", {"text": Transcript(text, "option")})


def rated_contents(
    rated: list[RatedSentence], shown: int, varied: int, spoken: int, rng: random.Random
) -> list[ClipContent]:
    """People's ratings, the teacher's ratings of variations, and the grammar's own values."""
    contents = [words_alone(restyle(s.text, rng), s.rating) for s in rated[:shown]]
    texts = [vary(rated, rng) for _ in range(varied)]
    for text, rating in zip(texts, Teacher(rated).rate(texts), strict=True):
        contents.append(words_alone(text, float(rating)))
    draw = np.random.default_rng(rng.randrange(2**32))
    for _ in range(spoken):
        drawn = sentence(draw, split="train")
        contents.append(words_alone(restyle(drawn.text, rng), drawn.value))
    return contents


class Progress:
    """A line every half minute, and one an epoch."""

    def __init__(self) -> None:
        self.last = time.perf_counter()

    def __call__(self, now: TrainProgress) -> None:
        if now.metrics is None and time.perf_counter() - self.last < 30:
            return
        self.last = time.perf_counter()
        state = f"loss {now.loss:.3f}, {now.clips_per_second:.1f} clips/s, {now.seconds_left:.0f} s"
        line = f"epoch {now.epoch} step {now.step}/{now.total_steps}: {now.metrics or state}"
        print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--valid", type=Path, required=True)
    parser.add_argument("--sentences", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rated", type=int, default=20000, help="sentences that people rated")
    parser.add_argument("--varied", type=int, default=12000, help="variations, by the teacher")
    parser.add_argument("--spoken", type=int, default=4000, help="sentences of the grammar")
    parser.add_argument("--clips", type=int, default=10**6, help="of the corpus, at most")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    rng = random.Random(arguments.seed)
    media = media_options()
    rated = [s for s in load_sentences(arguments.sentences) if not s.held_out]
    rng.shuffle(rated)
    checked, rated = rated[:600], rated[600:]
    clips = load_store(arguments.corpus, media)[: arguments.clips]
    train = [labelled(clip, rng) for clip in clips]
    train += rated_contents(rated, arguments.rated, arguments.varied, arguments.spoken, rng)
    valid = [labelled(clip) for clip in load_store(arguments.valid, media)]
    valid += [words_alone(s.text, s.rating) for s in checked]
    options = TrainOptions(
        epochs=arguments.epochs,
        batch_size=16,
        lora_learning_rate=arguments.learning_rate,
        head_learning_rate=1e-3,
        seed=arguments.seed,
    )
    torch.set_num_threads(2)
    model = ModelOptions(model=str(arguments.base))
    trainer = Trainer(model, options, media, Progress())
    data = TrainingData(MemoryFeed(train), MemoryFeed(valid))
    info = trainer.run(
        data,
        arguments.out,
        about={"base": "tiny", "notice": NOTICE, "languages": ["en"]},
        fresh=(arguments.out / "omni_msa.json").exists(),  # an unfinished run goes on
    )
    print(json.dumps(info.metrics), file=sys.stderr)


if __name__ == "__main__":
    main()
