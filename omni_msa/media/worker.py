"""A process that reads clips: `python -m omni_msa.media.worker`, started by a pool of `readers.py`.

It runs nothing of the caller's program and imports no torch, so that it starts quickly and uses
little memory.
"""

from __future__ import annotations

import io
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

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


def prepare() -> None:
    """What a process does before its first clip."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is the parent's, which ends this process
    limit_memory()


class CleanProcess:
    """What a pool asks of a process: one of this module, where multiprocessing's own would run
    the caller's main module again, with all that it imports."""

    daemon = True
    _process: subprocess.Popen[bytes]

    def __init__(self, environment: dict[str, str], name: str, work: tuple) -> None:
        self.name = name
        self._environment, self._work = environment, work

    def start(self) -> None:
        work = io.BytesIO()
        pickler = _ConnectionPickler(work)
        pickler.dump(self._work)
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            pass_fds=pickler.numbers,
            env=self._environment,
            process_group=0,  # Ctrl-C is for the parent alone, also while this one starts
        )
        assert self._process.stdin is not None
        with self._process.stdin as stdin:
            stdin.write(work.getbuffer())

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exitcode(self) -> int | None:
        return self._process.poll()

    def is_alive(self) -> bool:
        return self.exitcode is None

    def terminate(self) -> None:
        self._process.kill()  # a decoder that hangs handles no other signal

    def join(self, timeout: float | None = None) -> None:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)


class _ConnectionPickler(pickle.Pickler):
    """Pickles a connection as the number that it has in the process too."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.numbers: list[int] = []

    def reducer_override(self, value: object) -> Any:
        if not isinstance(value, Connection):
            return NotImplemented
        self.numbers.append(value.fileno())
        return Connection, (value.fileno(), value.readable, value.writable)


class _NoLock:
    """The lock of a pipe that one process uses; one that it holds would outlive it."""

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        return True

    def release(self) -> None:
        pass


class CleanContext:
    """What a pool of one process asks of a multiprocessing context."""

    Pipe = staticmethod(Pipe)
    RLock = _NoLock

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment

    def Process(
        self, target: Callable[..., object], name: str, args: tuple, kwargs: dict
    ) -> CleanProcess:
        """A process that is not started yet."""
        return CleanProcess(self._environment, name, (target, args, kwargs))

    def get_start_method(self) -> str:
        return "spawn"


if __name__ == "__main__":
    target, args, kwargs = pickle.load(sys.stdin.buffer)
    target(*args, **kwargs)
    os._exit(0)  # a process that has done its clips has nothing to tidy up
