"""A process that reads clips: `python -m omni_msa.media.worker FD`, started by `pool.py`.

It imports no torch, so it starts at once and stays small: frame sizes are asked of the parent.
"""

from __future__ import annotations

import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

from omni_msa.config import MediaOptions
from omni_msa.errors import OmniMSAError
from omni_msa.media.reader import read_clip
from omni_msa.values import ClipContent, FramePlan, VideoTrack


def serve(connection: Connection) -> None:
    """Answers jobs until the parent goes away."""

    def ask_parent(
        track: VideoTrack, options: MediaOptions, start: float | None, end: float | None
    ) -> FramePlan:
        connection.send(("plan", (track, options, start, end)))
        answer: Any = connection.recv()
        if isinstance(answer, OmniMSAError):
            raise answer
        return answer

    while True:
        try:
            clip, options, hide = connection.recv()
        except EOFError:
            return
        result: ClipContent | OmniMSAError
        try:
            result = read_clip(clip, options, ask_parent, hide)
        except OmniMSAError as error:
            result = error
        connection.send(("done", result))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    serve(Connection(int(sys.argv[1])))
