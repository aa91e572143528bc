"""A process that reads clips: `python -m omni_msa.media.worker FD`, started by `readers.py`.

It imports no torch, so that it starts quickly and uses little memory.
"""

from __future__ import annotations

import signal
import sys
from multiprocessing.connection import Connection

from omni_msa.errors import OmniMSAError
from omni_msa.media.reader import read_clip
from omni_msa.values import ClipContent


def serve(connection: Connection) -> None:
    """Reads the clips that the parent sends, until it closes the connection."""
    while True:
        try:
            clip, options, hide = connection.recv()
        except EOFError:
            return
        result: ClipContent | OmniMSAError
        try:
            result = read_clip(clip, options, hide)
        except OmniMSAError as error:
            result = error
        connection.send(result)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # they are the parent's, which ends this process
        signal.signal(number, signal.SIG_IGN)
    serve(Connection(int(sys.argv[1])))
