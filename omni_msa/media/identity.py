"""What identifies a clip, by its content; and the hash of plain values."""

from __future__ import annotations

import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from omni_msa.media.transcripts import sidecar_paths
from omni_msa.media.versions import FileVersion
from omni_msa.values import Clip

MAX_HASHED_BYTES = 10 * 10**9  # hashed in some ten seconds, however large the file
HASH_BLOCK_BYTES = 2**20


def json_sha256(value: Any) -> str:
    """SHA-256 of a value as JSON, in hexadecimal; the order of an object's keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def content_sha256(path: Path) -> str | None:
    """SHA-256 of a file's bytes, in hexadecimal; None when it cannot be read. Of a file of more
    than 10 GB, its first 10 GB and its size are hashed.

    The last files are remembered, as long as their size and time stay the same: the windows of a
    long recording are hashed once.
    """
    try:
        # opening a pipe would wait for ever
        return _file_sha256(FileVersion.of(path)) if os.path.isfile(path) else None
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=256)
def _file_sha256(version: FileVersion) -> str:
    digest = hashlib.sha256()
    left = MAX_HASHED_BYTES
    with open(version.path, "rb") as file:
        while block := file.read(min(HASH_BLOCK_BYTES, left)):
            digest.update(block)
            left -= len(block)
    if version.size > MAX_HASHED_BYTES:
        digest.update(f"\n{version.size}".encode())
    return digest.hexdigest()


def clip_sha256(clip: Clip) -> str | None:
    """What identifies the content of a clip; None when its file cannot be read.

    For a file alone, `content_sha256`. Words that were given, or that lie beside the file, are
    hashed with it: a clip whose transcript was corrected is not the clip that was scored. So is a
    time window: two windows of one file are two clips.
    """
    if clip.path is None:
        return hashlib.sha256((clip.transcript or "").encode("utf-8", "replace")).hexdigest()
    media = content_sha256(clip.path)
    if media is None:
        return None
    if clip.transcript is not None:
        words: bytes | None = clip.transcript.encode("utf-8", "replace")
    else:
        sidecars = sidecar_paths(clip.path)
        words = (content_sha256(sidecars[0]) or "").encode() if sidecars else None
    content = media if words is None else _both_sha256(media, words)
    return _both_sha256(content, clip.window_suffix.encode()) if clip.is_window else content


def _both_sha256(digest: str, more: bytes) -> str:
    return hashlib.sha256(digest.encode() + b"\n" + more).hexdigest()
