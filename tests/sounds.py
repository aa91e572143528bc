"""Sound files for tests: noise, written with the standard library alone."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np


def write_wav(path: Path, seconds: float = 0.5, seed: int = 0) -> Path:
    """Mono 16 kHz noise; another seed is another sound."""
    samples = np.random.default_rng(seed).normal(0, 3000, int(seconds * 16_000)).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.tobytes())
    return path
