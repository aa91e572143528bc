"""Which clips a checkpoint was made with: short hashes of them, kept in the checkpoint.

A clip that is measured later counts as one of them whatever it is called, wherever its file lies,
whatever words stand beside it and whatever split it is in: it is known by the bytes of its file and
its window (`415e22824d50`, `415e22824d50[1.0-3.5]`), and words alone by these words. Twelve
hexadecimal digits: beside a million recorded clips, the chance that another one is taken for one of
them is 1 in 280 million.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from omni_msa.media.identity import content_sha256, window_of, words_sha256
from omni_msa.media.transcripts import sidecar_paths
from omni_msa.values import Clip

KEY = "clips_sha256"  # in the training record of `omni_msa.json`
DIGITS = 12
THREADS = 4


@dataclass(frozen=True)
class TrainedClips:
    """Names by content of the clips that a checkpoint was trained on, and validated on."""

    train: frozenset[str] = frozenset()
    valid: frozenset[str] = frozenset()

    @classmethod
    def of(cls, train: Sequence[Clip], valid: Sequence[Clip] = ()) -> TrainedClips:
        """Reads every file once; one that cannot be read is left out, as it is in training."""
        return cls(*(frozenset(k.name for k in clip_keys(c) if k) for c in (train, valid)))

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
        """One string a split: sorted names, separated by blanks."""
        return {name: " ".join(sorted(getattr(self, name))) for name in ("train", "valid")}

    def overlap(self, keys: Sequence[ClipKeys | None]) -> dict[str, int]:
        """How many of these clips it was trained on, how many only validated on, and how many of
        the others are of a file that it has seen (another window of it)."""
        files = {name.partition("[")[0] for name in self.train | self.valid}
        counts = {"train": 0, "valid": 0, "same_file": 0}
        for clip in filter(None, keys):
            if clip.names & self.train:
                counts["train"] += 1
            elif clip.names & self.valid:
                counts["valid"] += 1
            elif clip.file in files:
                counts["same_file"] += 1
        return counts


@dataclass(frozen=True)
class ClipKeys:
    """What a clip is recorded as."""

    name: str  # its file and window
    older: str  # as checkpoints recorded it whose hashes covered the words

    @property
    def file(self) -> str:
        return self.name.partition("[")[0]

    @property
    def names(self) -> frozenset[str]:
        return frozenset({self.name, self.older})


def clip_keys(clips: Sequence[Clip]) -> list[ClipKeys | None]:
    """What each clip is recorded as; None where a file cannot be read."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(_keys, clips))


def _keys(clip: Clip) -> ClipKeys | None:
    if clip.path is None:
        return ClipKeys(words_sha256(clip.transcript or "")[:DIGITS], _older_hash(clip, None))
    media = content_sha256(clip.path)
    if media is None:
        return None
    return ClipKeys(media[:DIGITS] + window_of(clip), _older_hash(clip, media))


def _older_hash(clip: Clip, media: str | None) -> str:
    """Of the file, its words as they were spelled or the file that held them, and the window."""
    words = None if clip.transcript is None else clip.transcript.encode("utf-8", "replace")
    if clip.path is not None and words is None and (sidecars := sidecar_paths(clip.path)):
        words = (content_sha256(sidecars[0]) or "").encode()
    if media is None:
        return hashlib.sha256(words or b"").hexdigest()[:DIGITS]
    content = media if words is None else _sha256(f"{media}\n".encode() + words)
    if clip.is_window:
        content = _sha256(f"{content}\n{clip.window_suffix}".encode())
        content = _sha256(f"{content} {(clip.start_seconds, clip.end_seconds)}".encode())
    return content[:DIGITS]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
