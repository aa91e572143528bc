"""What a reading process can do instead of reading, by the name of the clip's file."""

from __future__ import annotations

import os
import signal
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from omni_msa.errors import MediaError
from omni_msa.media import read_clip
from omni_msa.media import readers as pool
from omni_msa.modalities import Subset
from omni_msa.options import MediaOptions
from omni_msa.values import Clip, ClipContent, Waveform


def install(monkeypatch) -> None:
    """Has the readers call `fail_or_read`, and lets their processes import it."""
    monkeypatch.setattr(pool, "read_clip", fail_or_read)
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


def fail_or_read(clip: Clip, options: MediaOptions, hide: Subset = frozenset()) -> ClipContent:
    assert clip.path is not None
    failure = FAILURES.get(clip.path.stem)
    return read_clip(clip, options, hide) if failure is None else failure(clip)


def stops(clip: Clip) -> ClipContent:
    os.kill(os.getpid(), signal.SIGSTOP)
    raise AssertionError("it goes on")


def is_deaf(clip: Clip) -> ClipContent:
    """As native code that hangs: no signal but SIGKILL ends it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time.sleep(1000)
    raise AssertionError("it ends")


def crashes(clip: Clip) -> ClipContent:
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError("it goes on")


def is_killed_while_it_sends(clip: Clip) -> ClipContent:
    def send_half(self: Connection, data: bytes) -> None:
        os.write(self.fileno(), data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    Connection._send = send_half  # type: ignore[attr-defined]
    return large(clip)


def large(clip: Clip) -> ClipContent:
    """24 MB of sound."""
    return ClipContent(
        clip, "0" * 64, {"audio": Waveform(np.zeros(6_000_000, np.float32), "track 0")}
    )


def tells(clip: Clip) -> ClipContent:
    facts = f"torch {'torch' in sys.modules}, threads {os.environ['OMP_NUM_THREADS']}"
    raise MediaError(facts)


FAILURES = {
    "stops": stops,
    "deaf": is_deaf,
    "crashes": crashes,
    "half": is_killed_while_it_sends,
    "large": large,
    "tells": tells,
}
