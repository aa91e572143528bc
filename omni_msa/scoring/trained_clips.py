"""Which clips a checkpoint was made with: short hashes of their content, kept in the checkpoint.

A clip that is measured later counts as one of them whatever it is called, wherever its file lies
and whatever split it is in. Twelve hexadecimal digits a clip: beside a million recorded clips, the
chance that another one is taken for one of them is 1 in 280 million.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from omni_msa.media.identity import clip_sha256
from omni_msa.values import Clip

KEY = "clips_sha256"  # in the training record of `omni_msa.json`
DIGITS = 12
THREADS = 4


@dataclass(frozen=True)
class TrainedClips:
    """Hashes of the clips that a checkpoint was trained on, and validated on."""

    train: frozenset[str] = frozenset()
    valid: frozenset[str] = frozenset()

    @classmethod
    def of(cls, train: Sequence[Clip], valid: Sequence[Clip] = ()) -> TrainedClips:
        """Reads every file once; one that cannot be read is left out, as it is in training."""
        return cls(*(frozenset(filter(None, clip_hashes(clips))) for clips in (train, valid)))

    @classmethod
    def recorded(cls, training: Mapping[str, Any]) -> TrainedClips | None:
        """What a checkpoint's training record says, that of an adapter below it included; None
        when any part of it was written before clips were recorded."""
        record = training.get(KEY)
        if not isinstance(record, dict):
            return None
        clips = cls(*(frozenset(str(record.get(n, "")).split()) for n in ("train", "valid")))
        adapter = training.get("adapter")
        if not adapter:
            return clips
        below = cls.recorded(adapter)
        return None if below is None else clips | below

    def __or__(self, other: TrainedClips) -> TrainedClips:
        return TrainedClips(self.train | other.train, self.valid | other.valid)

    def to_json(self) -> dict[str, str]:
        """One string a split: sorted hashes, separated by blanks."""
        return {name: " ".join(sorted(getattr(self, name))) for name in ("train", "valid")}

    def overlap(self, hashes: Sequence[str | None]) -> dict[str, int]:
        """How many of these clips it was trained on, and how many only validated on."""
        return {
            "train": sum(value in self.train for value in hashes),
            "valid": sum(value in self.valid - self.train for value in hashes),
        }


def clip_hashes(clips: Sequence[Clip]) -> list[str | None]:
    """A short hash of each clip's content and its window; None where a file cannot be read."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(_short_hash, clips))


def _short_hash(clip: Clip) -> str | None:
    content = clip_sha256(clip)
    if content is None:
        return None
    window = (clip.start_seconds, clip.end_seconds)
    if window != (None, None):
        content = hashlib.sha256(f"{content} {window}".encode()).hexdigest()
    return content[:DIGITS]
