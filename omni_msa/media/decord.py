"""Frames through decord, in a process of its own, because decord can loop for ever.

    python -m omni_msa.media.decord    (a pickled request on stdin, raw frames on stdout)

decord holds the interpreter's lock while it loops, so no thread could stop it; a child process can
be killed.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import dataclass, replace

import numpy as np

from omni_msa.errors import MediaError
from omni_msa.media.container import Deadline
from omni_msa.media.probe import Media
from omni_msa.media.pyav import FrameReading, read_frames
from omni_msa.media.sampling import frame_indices_at
from omni_msa.values import FramePlan

DEADLINE_SHARE = 0.25  # of the clip's deadline: then PyAV still has time to read it


@dataclass(frozen=True)
class Request:
    """Which frames the child process reads, and their size."""

    path: str
    indices: tuple[int, ...]
    width: int
    height: int


def read_frames_decord(media: Media, plan: FramePlan, deadline: Deadline) -> FrameReading:
    """Like `pyav.read_frames`; falls back to it with a warning when decord fails or is slow."""
    track = media.facts.video
    assert track is not None
    indices = frame_indices_at(track.pts_seconds, np.array(plan.times_seconds))
    # decord turns frames upright by itself, and then scales them.
    request = Request(str(media.facts.path), tuple(indices.tolist()), plan.width, plan.height)
    try:
        frames = _run_child(request, DEADLINE_SHARE * deadline.seconds)
    except MediaError as error:
        reading = read_frames(media, plan, deadline)
        fallback = f"decoder replaced: PyAV read the frames, decord {error}"
        return replace(reading, warnings=(fallback, *reading.warnings))
    return FrameReading(frames, tuple(track.pts_seconds[indices].tolist()), "decord")


def _run_child(request: Request, timeout_seconds: float) -> np.ndarray:
    """Runs the child; raises MediaError when it fails, is killed, or writes something else."""
    command = [sys.executable, "-m", "omni_msa.media.decord"]
    try:
        child = subprocess.run(
            command, input=pickle.dumps(request), capture_output=True, timeout=timeout_seconds
        )
    except subprocess.TimeoutExpired as error:
        raise MediaError(f"gave no result within {timeout_seconds:g} s") from error
    shape = (len(request.indices), request.height, request.width, 3)
    if child.returncode != 0 or len(child.stdout) != np.prod(shape):
        stderr_lines = child.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = stderr_lines[-1][:200] if stderr_lines else f"exit {child.returncode}"
        raise MediaError(f"could not read it ({reason})")
    return np.frombuffer(child.stdout, np.uint8).reshape(shape)


def _answer_request() -> None:
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

    importable._answer_request()
