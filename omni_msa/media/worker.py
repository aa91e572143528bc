"""A process that reads clips: `python -m omni_msa.media.worker FD`, started by `readers.py`.

It imports no torch, so that it starts quickly and uses little memory.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection

from omni_msa.errors import OmniMSAError
from omni_msa.media.reader import read_clip
from omni_msa.values import ClipContent

MAX_BYTES = 1_350 * 1024**2  # of memory, beside the libraries' own code


def limit_memory() -> None:
    """From here on, allocating more than `MAX_BYTES` fails in this process, where the system has
    such a limit."""
    # Arrow, which reads tables, would reserve a gigabyte of it for an allocator of its own.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    try:
        import resource
    except ImportError:
        return
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = MAX_BYTES if most == resource.RLIM_INFINITY else min(MAX_BYTES, most)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (limit, most))


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
    limit_memory()
    serve(Connection(int(sys.argv[1])))
