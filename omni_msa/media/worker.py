"""A process that reads clips: `python -m omni_msa.media.worker FD`, started by `readers.py`.

It runs nothing of the caller's program and imports no torch, so that it starts quickly and uses
little memory.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection

from omni_msa.errors import OmniMSAError

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
    # of the data alone: the address space counts libraries, and what threads reserve and never use
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = MAX_BYTES if most == resource.RLIM_INFINITY else min(MAX_BYTES, most)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (limit, most))


def serve(connection: Connection) -> None:
    """Does what the parent sends, a function and its arguments, until the parent ends."""
    while True:
        function, *arguments = connection.recv()
        try:
            result = function(*arguments)
        except OmniMSAError as error:
            result = error
        connection.send(result)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # they are the parent's, which ends this process
        signal.signal(number, signal.SIG_IGN)
    limit_memory()
    with suppress(EOFError, ConnectionError):
        serve(Connection(int(sys.argv[1])))
