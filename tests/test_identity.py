"""What a clip is known by: a hash of its content, its words and its window."""

from __future__ import annotations

import hashlib
import os

from omni_msa.media import identity
from omni_msa.media.identity import clip_sha256, content_sha256
from omni_msa.values import Clip


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    assert content_sha256(tmp_path / "a.mp4") is None


def test_the_hash_of_a_clip_covers_its_words(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"abc")
    hashes = {clip_sha256(Clip(path=path))}
    hashes |= {clip_sha256(Clip(path=path, transcript=words)) for words in ("good", "bad", "")}
    for words in ("one", "two"):
        (tmp_path / "a.txt").write_text(words)
        hashes.add(clip_sha256(Clip(path=path)))
    hashes |= {clip_sha256(Clip(transcript=words)) for words in ("good", "bad")}
    assert len(hashes) == 8
    for turns in (("A: no",), ("A: yes",), ("A: yes", "B: no")):
        extra = {"context": list(turns)}
        hashes |= {clip_sha256(Clip(p, "good", extra=extra)) for p in (path, None)}
    assert len(hashes) == 14


def test_the_hash_of_a_window_is_its_own_and_that_of_a_whole_file_stays(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"abc")
    windows = [(None, None), (0, 1), (1, None), (1, 2), (None, 2)]
    hashes = [clip_sha256(Clip(path, start_seconds=a, end_seconds=b)) for a, b in windows]
    assert len(set(hashes)) == len(windows)
    assert hashes[0] == hashlib.sha256(b"abc").hexdigest()
    assert hashes[3] == clip_sha256(Clip(path, start_seconds=1.0, end_seconds=2.0))
    words = {clip_sha256(Clip(path, transcript=t, start_seconds=1)) for t in ("good", "bad")}
    assert len(words) == 2


def test_of_a_huge_file_the_beginning_and_the_size_are_hashed(tmp_path, monkeypatch):
    monkeypatch.setattr(identity, "MAX_HASHED_BYTES", 10)
    hashes = []
    for size in (10, 11, 12):
        path = tmp_path / f"{size}.mp4"
        path.write_bytes(b"a" * size)
        hashes.append(content_sha256(path))
    assert hashes[0] == hashlib.sha256(b"a" * 10).hexdigest()
    assert len(set(hashes)) == 3
    path.write_bytes(b"a" * 11 + b"b")  # beyond what is hashed
    assert content_sha256(path) == hashes[2]
