"""Readers in processes: every clip gets an answer, however its reader ends."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from itertools import count
from pathlib import Path

import failing_readers
import numpy as np
import psutil
import pytest
from media_files import tone, write_media

from omni_msa.errors import DecodeCrash, DecodeTimeout, MediaError
from omni_msa.media import read_clip
from omni_msa.media import readers as pool
from omni_msa.media.readers import ClipReaders
from omni_msa.options import MediaOptions
from omni_msa.values import Clip, ClipContent

OPTIONS = MediaOptions()
SHORT = MediaOptions(deadline_seconds=2.0)


def processes() -> list[psutil.Process]:
    """The reading processes: this one has no other children."""
    return psutil.Process().children()


@pytest.fixture
def good(tmp_path) -> Clip:
    return Clip(path=write_media(tmp_path / "good.mp4", 8, 8))


@pytest.fixture
def failing(monkeypatch):
    """Clips by name that a reader fails at."""
    monkeypatch.setattr(pool, "GRACE_SECONDS", 0.5)
    failing_readers.install(monkeypatch)
    return lambda name: Clip(path=Path(f"{name}.mp4"))


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
@pytest.mark.parametrize("name", ["stops", "deaf"])
def test_a_reader_that_hangs_is_killed_and_the_others_go_on(good, failing, name):
    begun = time.monotonic()
    with ClipReaders(SHORT) as readers:
        results = dict(readers.read([failing(name), good]))
    assert isinstance(results[0], DecodeTimeout) and "gave no result within 2" in str(results[0])
    assert isinstance(results[1], ClipContent)
    assert time.monotonic() - begun < 30


@pytest.mark.slow
def test_a_result_that_waits_for_a_slow_caller_is_no_timeout(good, monkeypatch):
    monkeypatch.setattr(pool, "GRACE_SECONDS", 0.5)
    results = []
    with ClipReaders(SHORT, workers=2) as readers:
        for _, result in readers.read([good] * 8):
            results.append(result)
            if len(results) == 1:
                time.sleep(8.0)  # as many results wait as may
    assert [type(result) for result in results] == [ClipContent] * 8


@pytest.mark.parametrize(("name", "reason"), [("crashes", "SIGSEGV"), ("half", "SIGKILL")])
def test_a_reader_that_crashes_costs_its_clip_alone(good, failing, name, reason):
    clips = [good, failing(name), good, failing("large")]
    with ClipReaders(OPTIONS, workers=2) as readers:
        results = dict(readers.read(clips))
    assert isinstance(results[1], DecodeCrash) and f"({reason})" in str(results[1])
    assert [type(results[place]) for place in (0, 2, 3)] == [ClipContent] * 3
    assert not processes()


def test_a_reader_that_ends_while_it_waits_is_replaced(good):
    def clips():
        yield good
        [process] = processes()
        process.kill()
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        time.sleep(0.5)
        yield good
        yield good

    with ClipReaders(OPTIONS) as readers:
        results = dict(readers.read(clips()))
    assert isinstance(results[0], ClipContent) and isinstance(results[2], ClipContent)
    assert isinstance(results[1], ClipContent | DecodeCrash)


@pytest.mark.parametrize("name", ["good", "stops", "deaf"])
def test_leaving_early_leaves_no_process_and_no_thread_behind(good, failing, name):
    threads = set(threading.enumerate())
    with ClipReaders(OPTIONS, workers=2) as readers:
        results = readers.read([good, *[good if name == "good" else failing(name)] * 5])
        next(results)
        assert processes()
    assert not processes()
    assert set(threading.enumerate()) <= threads


def test_no_clip_is_taken_before_it_can_be_read(good):
    taken = []

    def clips():
        for place in count():
            taken.append(place)
            yield good

    with ClipReaders(OPTIONS, workers=2) as readers:
        results = readers.read(clips())
        next(results)
        time.sleep(2.0)
        assert 1 <= len(taken) <= 1 + 2 + pool.MAX_WAITING_RESULTS
        next(results)


def test_what_the_source_raises_reaches_the_caller(good):
    def clips():
        yield good
        raise LookupError("no more")

    results = []
    with ClipReaders(OPTIONS, workers=2) as readers, pytest.raises(LookupError, match="no more"):
        results += readers.read(clips())
    assert not processes()


def test_a_reader_has_no_torch_and_one_thread(failing):
    assert "torch" in sys.modules
    with ClipReaders(OPTIONS) as readers:
        [(_, facts)] = readers.read([failing("tells")])
    assert str(facts) == "torch False, threads 1"


PROGRAM = """
from pathlib import Path
with open("runs.txt", "a") as file:
    file.write("run\\n")
from omni_msa.media.readers import ClipReaders
from omni_msa.options import MediaOptions
from omni_msa.values import Clip
readers = ClipReaders(MediaOptions(), 2)
results = readers.read([Clip(path=Path("good.mp4"))] * 3)
print(type(next(results)[1]).__name__)
"""


@pytest.mark.parametrize("way", ["file", "stdin", "-c"])
def test_a_program_without_a_guard_runs_once_and_ends(good, way):
    """Also where it leaves readers open: at its end, something waits to be read."""
    folder, root = good.path.parent, Path(__file__).parents[1]
    (folder / "program.py").write_text(PROGRAM)
    arguments = {"file": ["program.py"], "stdin": ["-"], "-c": ["-c", PROGRAM]}[way]
    ended = subprocess.run(
        [sys.executable, *arguments],
        input=PROGRAM if way == "stdin" else "",
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("ClipContent\n", "", 0)
    assert (folder / "runs.txt").read_text() == "run\n"


@pytest.mark.slow
def test_readers_are_replaced_before_they_grow(good, monkeypatch):
    monkeypatch.setattr(pool, "CLIPS_A_PROCESS", 2)
    pids = set()
    with ClipReaders(OPTIONS) as readers:
        for _, content in readers.read([good] * 7):
            assert isinstance(content, ClipContent)
            pids |= {process.pid for process in processes()}
    assert len(pids) >= 2
