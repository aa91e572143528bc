"""Frames through decord, in a process of its own, because decord can spin for ever.

    python -m omni_msa.media.decord    (a pickled request on stdin, raw frames on stdout)

decord holds the interpreter's lock while it spins: no thread could stop it, a child can be killed.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from omni_msa.errors import MediaError
from omni_msa.media.pyav import Deadline, FrameReading, read_frames
from omni_msa.media.sampling import shown_at
from omni_msa.values import FramePlan, VideoTrack

PATIENCE = 0.25  # of the clip's deadline: then PyAV still has time to read it


@dataclass(frozen=True)
class Request:
    """Which frames the child should read, and how large."""

    path: str
    indices: tuple[int, ...]
    width: int
    height: int


def read_frames_decord(
    path: Path, track: VideoTrack, plan: FramePlan, deadline: Deadline
) -> FrameReading:
    """Like `pyav.read_frames`; falls back to it, with a warning, when decord fails or hangs."""
    indices = shown_at(track.pts_seconds, np.array(plan.times_seconds))
    # decord turns frames upright by itself, and then scales them.
    request = Request(str(path), tuple(indices.tolist()), plan.width, plan.height)
    try:
        frames = _ask(request, PATIENCE * deadline.seconds)
    except MediaError as error:
        reading = read_frames(path, track, plan, deadline)
        fallback = f"decord {error}: PyAV read the frames"
        return replace(reading, warnings=(fallback, *reading.warnings))
    return FrameReading(frames, tuple(track.pts_seconds[indices].tolist()), "decord")


def _ask(request: Request, patience_seconds: float) -> np.ndarray:
    """Runs the child; raises MediaError when it fails, is killed, or answers something else."""
    command = [sys.executable, "-m", "omni_msa.media.decord"]
    try:
        done = subprocess.run(
            command, input=pickle.dumps(request), capture_output=True, timeout=patience_seconds
        )
    except subprocess.TimeoutExpired as error:
        raise MediaError(f"gave no result within {patience_seconds:.0f} s") from error
    shape = (len(request.indices), request.height, request.width, 3)
    if done.returncode != 0 or len(done.stdout) != np.prod(shape):
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = said[-1][:200] if said else f"exit {done.returncode}"
        raise MediaError(f"could not read it ({reason})")
    return np.frombuffer(done.stdout, np.uint8).reshape(shape)


def _child() -> None:
    """Reads one request from stdin and writes its frames, and nothing else, to stdout."""
    import decord

    request: Request = pickle.loads(sys.stdin.buffer.read())
    reader = decord.VideoReader(
        request.path, ctx=decord.cpu(0), width=request.width, height=request.height, num_threads=1
    )
    last = len(reader) - 1
    frames = reader.get_batch([min(i, last) for i in request.indices]).asnumpy()
    sys.stdout.buffer.write(frames.tobytes())


if __name__ == "__main__":
    # The class is pickled under its importable name, not as part of __main__.
    from omni_msa.media import decord as importable

    importable._child()
