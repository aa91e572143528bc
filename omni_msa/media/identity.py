"""What identifies a clip, by its content; and the hash of plain values."""

from __future__ import annotations

import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from omni_msa.errors import TranscriptError
from omni_msa.media.ecg import ecg_of, files_of
from omni_msa.media.transcripts import clean_words, sidecar_paths, sidecar_transcript
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
    hashed with it, as the model is shown them: a clip whose transcript was corrected is not the
    clip that was scored, and one whose same words come from elsewhere is. So is a time window: two
    windows of one file are two clips, and one that begins at 0 and has no end is the whole file.
    And so are the turns of a dialogue before it, and its heart record.
    """
    content = _content_of(clip)
    if content is not None and clip.context:
        content = _both_sha256(content, json_sha256(clip.context).encode())
    record = ecg_of(clip)
    if content is None or record is None:
        return content
    files = [content_sha256(path) for path in files_of(record[0])]
    return _both_sha256(content, json_sha256([files, clip.ecg_start_seconds]).encode())


def _content_of(clip: Clip) -> str | None:
    """Of the media with its words, or of the words alone."""
    if clip.path is None:
        return words_sha256(clip.transcript or "")
    media = content_sha256(clip.path)
    if media is None:
        return None
    words = _words_of(clip)
    content = media if words is None else _both_sha256(media, _bytes_of(words))
    window = window_of(clip)
    return _both_sha256(content, window.encode()) if window else content


def words_sha256(words: str) -> str:
    """SHA-256 of words as the model is shown them, in hexadecimal."""
    return hashlib.sha256(_bytes_of(clean_words(words))).hexdigest()


def window_of(clip: Clip) -> str:
    """The window of a clip as results name it; "" for a whole file, however it is spelled."""
    return clip.window_suffix if clip.start_seconds or clip.end_seconds is not None else ""


def _words_of(clip: Clip) -> str | None:
    """The words that were given or lie beside the file; of a transcript file that cannot be read,
    the hash."""
    assert clip.path is not None
    if clip.transcript is not None:
        return clean_words(clip.transcript)
    try:
        sidecar = sidecar_transcript(clip.path, clip.start_seconds, clip.end_seconds)
    except TranscriptError:
        return content_sha256(sidecar_paths(clip.path)[0])
    return None if sidecar is None else sidecar.text


def _bytes_of(words: str) -> bytes:
    return words.encode("utf-8", "replace")


def _both_sha256(digest: str, more: bytes) -> str:
    return hashlib.sha256(digest.encode() + b"\n" + more).hexdigest()
