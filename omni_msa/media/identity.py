"""What identifies a clip, by its content; and the hash of plain values."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from omni_msa.media.transcripts import sidecar_paths
from omni_msa.values import Clip


def json_sha256(value: Any) -> str:
    """SHA-256 of a value as JSON, in hexadecimal; the order of an object's keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def content_sha256(path: Path) -> str | None:
    """SHA-256 of a file's bytes, in hexadecimal; None when it cannot be read."""
    if not os.path.isfile(path):  # opening a pipe would wait for ever
        return None
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):
        return None


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
