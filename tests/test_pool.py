"""Readers in processes: every clip gets an answer, however its reader ends."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest
from media_files import tone, write_media

from omni_msa.errors import MediaError
from omni_msa.media import read_clip
from omni_msa.media import readers as pool
from omni_msa.media.readers import ClipReaders
from omni_msa.options import MediaOptions
from omni_msa.values import Clip, ClipContent

OPTIONS = MediaOptions()


def test_processes_read_what_this_process_reads(tmp_path):
    paths = [write_media(tmp_path / f"{i}.mp4", 16, 8, sound=tone(2.0)) for i in range(5)]
    paths.insert(2, tmp_path / "missing.mp4")
    clips = [Clip(path=p) for p in paths]
    with ClipReaders(OPTIONS, workers=2) as readers:
        found = dict(readers.read(clips))
    assert sorted(found) == [0, 1, 2, 3, 4, 5]
    assert isinstance(found[2], MediaError) and "no such file" in str(found[2])
    here = read_clip(clips[0], OPTIONS)
    assert isinstance(found[0], ClipContent)
    np.testing.assert_array_equal(found[0].parts["video"].rgb, here.parts["video"].rgb)
    np.testing.assert_array_equal(found[0].parts["audio"].samples, here.parts["audio"].samples)


def test_what_is_hidden_is_not_read(tmp_path):
    path = write_media(tmp_path / "a.mp4", 16, 8, sound=tone(2.0))
    with ClipReaders(OPTIONS) as readers:
        [(_, content)] = readers.read([Clip(path=path)], frozenset({"video"}))
    assert content.parts.keys() == {"audio"}


@pytest.mark.slow
def test_a_reader_that_hangs_is_killed_and_the_others_go_on(tmp_path, monkeypatch):
    """A process that is stopped stands for one that hangs where no check can run."""
    monkeypatch.setattr(pool, "GRACE_SECONDS", 0.5)
    stuck = write_media(tmp_path / "stuck.mp4", 8, 8)
    good = write_media(tmp_path / "good.mp4", 8, 8)
    begun = time.monotonic()
    with ClipReaders(MediaOptions(deadline_seconds=2.0)) as readers:
        signal_first_reader(readers, signal.SIGSTOP, monkeypatch)
        found = dict(readers.read([Clip(path=stuck), Clip(path=good)]))
    assert isinstance(found[0], MediaError) and "gave no result" in str(found[0])
    assert isinstance(found[1], ClipContent)
    assert time.monotonic() - begun < 30


@pytest.mark.slow
def test_a_result_that_waits_for_a_slow_caller_is_no_timeout(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "GRACE_SECONDS", 0.5)
    path = write_media(tmp_path / "a.mp4", 8, 8)
    results = []
    with ClipReaders(MediaOptions(deadline_seconds=2.0), workers=2) as readers:
        for _, result in readers.read([Clip(path=path)] * 8):
            results.append(result)
            if len(results) == 1:
                time.sleep(8.0)  # the queue is full, and a result waits in each reader's pipe
    assert [type(result) for result in results] == [ClipContent] * 8


def test_a_reader_that_crashes_is_replaced(tmp_path, monkeypatch):
    stuck = write_media(tmp_path / "stuck.mp4", 8, 8)
    good = write_media(tmp_path / "good.mp4", 8, 8)
    with ClipReaders(OPTIONS) as readers:
        signal_first_reader(readers, signal.SIGSEGV, monkeypatch)
        found = dict(readers.read([Clip(path=stuck), Clip(path=good)]))
    assert isinstance(found[0], MediaError) and "SIGSEGV" in str(found[0])
    assert isinstance(found[1], ClipContent)


def signal_first_reader(readers: ClipReaders, number: int, monkeypatch) -> None:
    """Sends a signal to the first reader, just before it is given its clip."""
    send = readers._send
    signalled = []

    def send_after_signal(reader, *work):
        if not signalled:
            signalled.append(reader)
            os.kill(reader.process.pid, number)
        return send(reader, *work)

    monkeypatch.setattr(readers, "_send", send_after_signal)


def test_leaving_early_leaves_no_process_behind(tmp_path):
    paths = [write_media(tmp_path / f"{i}.mp4", 8, 8) for i in range(6)]
    with ClipReaders(OPTIONS, workers=2) as readers:
        results = readers.read([Clip(path=p) for p in paths])
        next(results)
        processes = [r.process for r in readers._readers]
        assert processes
    assert all(p.poll() is not None for p in processes)


@pytest.mark.slow
def test_readers_are_replaced_before_they_grow(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "CLIPS_A_PROCESS", 2)
    path = write_media(tmp_path / "a.mp4", 8, 8)
    seen = set()
    with ClipReaders(OPTIONS) as readers:
        for _, content in readers.read([Clip(path=path)] * 5):
            assert isinstance(content, ClipContent)
            seen |= {r.process.pid for r in readers._readers}
    assert len(seen) >= 2
