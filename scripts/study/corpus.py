"""The synthetic clips of the studies, and arms over one base on them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Protocol

from omni_msa.commands.flags import ShowFlags
from omni_msa.commands.labelled import ReadFlags
from omni_msa.files.labels import LabelSpace
from omni_msa.files.manifest import read_manifest
from omni_msa.modalities import tokens
from omni_msa.options import EvaluateOptions, ModelOptions
from scripts.study.arms import Arm
from scripts.study.plan import Study
from scripts.study.running import Workshop
from scripts.tiny.pretrain import media_options

ROOT = Path(__file__).parents[2]
SHOWN = tokens()


class Splits(Protocol):
    """How many clips each split has, and from which seed of the generator on."""

    @property
    def first_seeds(self) -> tuple[tuple[str, int], ...]:
        """By split."""
        ...

    @property
    def resamples(self) -> int:
        """Of the bootstrap."""
        ...

    def count(self, split: str) -> int:
        """Clips of a split."""
        ...


def make_corpus(work: Path, design: Splits) -> None:
    """Draws, speaks and encodes the clips; those that are there already are kept."""
    for split, first in design.first_seeds:
        command = [sys.executable, "-m", "scripts.tiny.corpus", str(work / split)]
        command += ["--first-seed", str(first), "--count", str(design.count(split))]
        subprocess.run(command, cwd=ROOT, check=True)


def study_of(work: Path, base: str, quantize: str, design: Splits, arms: tuple[Arm, ...]) -> Study:
    """Arms over one base, on the corpus."""
    clips = {
        split: read_manifest(work / split / "manifest.jsonl")[: design.count(split)]
        for split, _ in design.first_seeds
    }
    options = EvaluateOptions("test", "mosi", resamples=design.resamples)
    model = ModelOptions(base, quantize=quantize)
    return Study(arms, clips, LabelSpace(), model, media_options(), options)


def workshop(study: Study, folder: Path) -> Workshop:
    """Where a study's runs are made; clips are read once for all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    return Workshop(study, folder, ReadFlags(cache=folder.parent / "cache"), ShowFlags(quiet=True))
