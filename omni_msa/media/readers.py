"""Clips read in processes that can be killed, so that one clip never stops a batch.

A reader that hangs past the deadline or crashes is replaced, and its clip becomes an error. A
thread of the parent serves the readers, so they go on while the model is busy.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait

from omni_msa.errors import MediaError, OmniMSAError
from omni_msa.modalities import Subset
from omni_msa.options import MediaOptions
from omni_msa.values import Clip, ClipContent

CLIPS_A_PROCESS = 100  # then it is replaced: decoders leak
GRACE_SECONDS = 5.0  # a reader gives up by itself at the deadline; this long after, it is killed
READY = 2  # results that wait for the caller, beyond one a reader

Result = tuple[int, ClipContent | OmniMSAError]


@dataclass
class _Reader:
    """One process and the clip it has in hand."""

    process: subprocess.Popen[bytes]
    connection: Connection
    num_read: int = 0
    index: int | None = None
    clip: Clip | None = None
    until: float = field(default=float("inf"))


class ClipReaders:
    """A context manager: `for index, result in readers.read(clips): ...`, as they are done."""

    def __init__(self, options: MediaOptions, workers: int = 1) -> None:
        self.options = options
        self.workers = workers
        self._readers: list[_Reader] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._complete = False

    def __enter__(self) -> ClipReaders:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the thread and every process, whatever they are doing."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        for reader in self._readers:
            _end(reader)
        self._readers.clear()

    def read(self, clips: Iterable[Clip], hide: Subset = frozenset()) -> Iterator[Result]:
        """Reads every clip; yields (its place in `clips`, content or error) in order of completion.

        Only a few clips are in memory at a time, however slowly the results are taken.
        """
        done: queue.Queue[Result | None] = queue.Queue(READY)
        self._stop.clear()
        self._thread = threading.Thread(
            target=self._serve_safely, args=(iter(clips), hide, done), daemon=True
        )
        self._thread.start()
        try:
            while (item := done.get()) is not None:
                yield item
            if not self._complete:
                raise RuntimeError("the thread that serves the readers failed; see its traceback")
        finally:
            self.close()

    def _serve_safely(
        self,
        clips: Iterator[Clip],
        hide: Subset,
        done: queue.Queue[Result | None],
    ) -> None:
        """The thread: the caller is told of its end, whatever ended it."""
        self._complete = False
        try:
            self._serve(clips, hide, done)
            self._complete = True
        finally:
            self._put(done, None)

    def _serve(
        self,
        clips: Iterator[Clip],
        hide: Subset,
        done: queue.Queue[Result | None],
    ) -> None:
        waiting = enumerate(clips)
        upcoming = next(waiting, None)
        while not self._stop.is_set():
            while upcoming is not None and (reader := self._idle()) is not None:
                self._give(reader, *upcoming, hide)
                upcoming = next(waiting, None)
            busy = [r for r in self._readers if r.index is not None]
            if not busy:
                return
            heard = wait([r.connection for r in busy], timeout=0.2)
            for reader in busy:
                if reader.connection in heard:
                    result = self._hear(reader)
                elif time.monotonic() > reader.until:
                    result = self._lost(reader, f"gave no result within {self._patience():.0f} s")
                else:
                    continue
                self._put(done, result)

    def _put(
        self,
        done: queue.Queue[Result | None],
        item: Result | None,
    ) -> None:
        while not self._stop.is_set():
            try:
                return done.put(item, timeout=0.2)
            except queue.Full:
                continue

    def _patience(self) -> float:
        return self.options.deadline_seconds + GRACE_SECONDS

    def _idle(self) -> _Reader | None:
        for reader in self._readers:
            if reader.index is None:
                return reader
        if len(self._readers) < self.workers:
            self._readers.append(_start())
            return self._readers[-1]
        return None

    def _give(self, reader: _Reader, index: int, clip: Clip, hide: Subset) -> None:
        reader.index, reader.clip = index, clip
        reader.until = time.monotonic() + self._patience()
        try:
            reader.connection.send((clip, self.options, hide))
        except OSError:
            pass  # it has died: the next wait finds its connection closed

    def _hear(self, reader: _Reader) -> Result:
        """Takes a result; a closed connection is a crash."""
        assert reader.index is not None
        try:
            result = reader.connection.recv()
        except (EOFError, OSError):
            return self._lost(reader, f"crashed the reader ({_cause(reader.process)})")
        index, reader.index = reader.index, None
        reader.num_read += 1
        if reader.num_read >= CLIPS_A_PROCESS:
            self._readers.remove(reader)
            _end(reader)
        return index, result

    def _lost(self, reader: _Reader, what: str) -> Result:
        """Kills a reader; its clip becomes an error."""
        assert reader.index is not None and reader.clip is not None
        self._readers.remove(reader)
        _end(reader)
        error = MediaError(f"{reader.clip.name}: {what}; the clip is skipped, check the file")
        return reader.index, error


def _start() -> _Reader:
    """Starts a process that talks through one end of a pipe and dies when the other closes."""
    ours, theirs = Pipe()
    command = [sys.executable, "-m", "omni_msa.media.worker", str(theirs.fileno())]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment)
    theirs.close()
    return _Reader(process, ours)


def _end(reader: _Reader) -> None:
    reader.connection.close()
    reader.process.kill()
    reader.process.wait()


def _cause(process: subprocess.Popen[bytes]) -> str:
    """How a process ended, in words."""
    try:
        code = process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        return "no exit code"
    if code < 0:
        return signal.Signals(-code).name
    return f"exit {code}"
