"""A real small Thinker with random weights, in the published layout, made once a session."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from published import qwen_folder  # noqa: F401  (a fixture, for every test)
from study_files import emotions, manifest, trained  # noqa: F401  (the same)

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Two workers share the tests, with a thread each, unless the command line says otherwise.

    Not in addopts: there, `-p no:xdist` would be an error. Where files are named, or the terminal
    is wanted, starting workers costs more than it gains.
    """
    option = config.option
    if hasattr(config, "workerinput") or not hasattr(option, "numprocesses"):
        return
    if option.numprocesses is None and option.dist == "no":
        few = any(".py" in argument for argument in config.args)
        option.numprocesses = 0 if few or option.usepdb or option.capture == "no" else 2
    if option.numprocesses:
        option.dist = "worksteal" if option.dist == "no" else option.dist
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # inherited by workers and what they start


def pytest_sessionstart(session: pytest.Session) -> None:
    # A shell that starts the tests in the background has them ignore Ctrl-C, which some press.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if getattr(session.config.option, "numprocesses", 0):
        return  # it starts workers, and needs no torch itself
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


SENTENCES = [
    "I love this film, it is wonderful and warm.",
    "The service was terrible and the food was cold.",
    "We took the train to the city on Monday morning.",
    "Not bad at all, I would go again.",
] * 3
MEDIA = {"max_pixels": 16 * 784, "min_pixels": 4 * 784, "max_frames": 8}


@pytest.fixture(scope="session", autouse=True)
def cache_of_tests(tmp_path_factory) -> None:
    """Nothing is left in the user's own cache folder."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory) -> Path:
    """A base of some hundred thousand parameters: every file that a published folder has."""
    from scripts.tiny import base

    folder = tmp_path_factory.mktemp("base")
    base.build(folder, SENTENCES, seed=1, vocab_size=400, width=64, layers=2, tower_width=64,
               tower_layers=2, spread=0.1)  # fmt: skip
    return folder


def make_checkpoint(base_folder: Path, out: Path, **changes) -> Path:
    """A checkpoint for that base whose adapter and head are random, not zero."""
    import torch

    from omni_msa.files.labels import LabelSpace
    from omni_msa.methods import make_method
    from omni_msa.model.identity import base_sha256
    from omni_msa.model.loading import load_thinker
    from omni_msa.model.lora import LoraSettings, add_lora
    from omni_msa.scoring.checkpoint import CheckpointInfo, save_checkpoint

    torch.manual_seed(2 + changes.get("seed", 0))
    thinker = load_thinker(str(base_folder))
    add_lora(thinker, LoraSettings(4, 8, 0.0))
    for name, parameter in thinker.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    values = {
        "base": str(base_folder),
        "base_sha256": base_sha256(base_folder),
        "method": "regression",
        "label_space": LabelSpace(-3.0, 3.0, mean=0.1, deviation=1.5),
        "media": MEDIA,
    }
    info = CheckpointInfo(**{**values, **changes})
    save_checkpoint(out, thinker, make_method("regression", thinker, info.label_space), info)
    return out


@pytest.fixture(scope="session")
def checkpoint_folder(base_folder, tmp_path_factory) -> Path:
    return make_checkpoint(base_folder, tmp_path_factory.mktemp("made") / "checkpoint")


@pytest.fixture(scope="session")
def thinker(base_folder):
    """The bare base; tests must not change it."""
    from omni_msa.model.loading import load_thinker

    return load_thinker(str(base_folder))


@pytest.fixture(scope="session")
def scorer(base_folder, checkpoint_folder):
    """Base and checkpoint together, as `omni-msa score --model DIR --checkpoint DIR` has them."""
    from omni_msa.options import ModelOptions
    from omni_msa.scoring.scorer import Scorer

    return Scorer.load(ModelOptions(model=str(base_folder), checkpoint=str(checkpoint_folder)))


@pytest.fixture(scope="session")
def tiny():
    """The embedded model; tests must not change it."""
    from omni_msa.scoring.scorer import Scorer

    return Scorer.load()


def make_content(
    text: str | None = "I love this film.",
    seconds: float | None = 3.0,
    num_frames: int | None = 6,
    size: tuple[int, int] = (56, 84),
    seed: int = 0,
    ecg_seconds: float | None = None,
):
    """A clip as the reader would return it, with drawn pixels and noise for sound and heart."""
    from omni_msa.values import (
        SAMPLE_RATE,
        TRACE_RATE,
        Clip,
        ClipContent,
        Frames,
        Traces,
        Transcript,
        Waveform,
    )

    rng = np.random.default_rng(seed)
    parts = {}
    if num_frames is not None:
        rgb = rng.integers(0, 256, (num_frames, *size, 3), dtype=np.uint8)
        times = tuple(i * 0.5 for i in range(num_frames))
        parts["video"] = Frames(rgb, times, 0.5, "track 0")
    if seconds is not None:
        samples = rng.normal(0, 0.1, int(seconds * SAMPLE_RATE)).astype(np.float32)
        parts["audio"] = Waveform(samples, "track 0")
    if text is not None:
        parts["text"] = Transcript(text, "option")
    if ecg_seconds is not None:
        leads = rng.normal(0, 0.3, (round(ecg_seconds * TRACE_RATE), 2)).astype(np.float32)
        parts["ecg"] = Traces(leads, ("I", "II"), "made")
    clip = Clip(path=Path(f"clip{seed}.mp4"))
    return ClipContent(clip, f"{seed:064d}", parts)
