"""Trains the embedded checkpoint of heart records, with the code users train with.

    python -m scripts.tiny.ecg OUT --base BASE --hearts FOLDER

FOLDER is what `scripts.tiny.hearts` wrote. The sizes are half or less of the method's own, so that
it fits into the package.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

from omni_msa.files.labels import label_space_of
from omni_msa.files.manifest import read_manifest
from omni_msa.media.feed import FileFeed
from omni_msa.methods import method_named
from omni_msa.modalities import tokens
from omni_msa.options import MediaOptions, ModelOptions, TrainOptions
from omni_msa.training.data import TrainingData
from omni_msa.training.trainer import Trainer
from scripts.tiny.adapter import Progress

NOTICE = "tiny-ecg is a small demonstration made from synthetic heart records"
SIZES = {"width": 32, "blocks": 2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--base", required=True)
    parser.add_argument("--hearts", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    clips = read_manifest(arguments.hearts / "manifest.jsonl")
    space, media = label_space_of(clips, "ecg", None), MediaOptions()
    splits = [[clip for clip in clips if clip.split == name] for name in ("train", "valid")]
    feeds = [FileFeed(space.labelled(split), media, hide=tokens()) for split in splits]
    options = TrainOptions.of(
        method_named("ecg-mamba").recipe,
        {"method": "ecg-mamba", "method_options": SIZES, "epochs": arguments.epochs,
         "head_learning_rate": 2e-3, "seed": arguments.seed},
    )  # fmt: skip
    trainer = Trainer(ModelOptions(model=arguments.base), options, media, Progress())
    info = trainer.run(
        TrainingData(feeds[0], feeds[1], space),
        arguments.out,
        about={"base": "tiny", "notice": NOTICE},
        fresh=(arguments.out / "omni_msa.json").exists(),  # an unfinished run goes on
    )
    print(json.dumps(info.metrics), file=sys.stderr)


if __name__ == "__main__":
    main()
