"""Clips read in processes that can be killed, so that one clip never stops a batch.

A reading process that passes the deadline or crashes is replaced, and its clip becomes an error. A
thread of the parent sends clips and receives results, so reading goes on while the model computes.
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
from omni_msa.media.denoise import require_denoiser
from omni_msa.modalities import Subset
from omni_msa.options import MediaOptions
from omni_msa.values import Clip, ClipContent

CLIPS_A_PROCESS = 100  # then the process is replaced: decoders leak memory
GRACE_SECONDS = 5.0  # after the deadline, at which a reader stops by itself, it is killed
MAX_WAITING_RESULTS = 2  # in the queue, besides one that each reader holds

Result = tuple[int, ClipContent | OmniMSAError]


@dataclass
class _Reader:
    """One process and the clip that it is reading."""

    process: subprocess.Popen[bytes]
    connection: Connection
    num_read: int = 0
    index: int | None = None
    clip: Clip | None = None
    kill_time: float = field(default=float("inf"))


class ClipReaders:
    """A context manager: `for index, result in readers.read(clips): ...`, as they are read."""

    def __init__(self, options: MediaOptions, workers: int = 1) -> None:
        require_denoiser(options.denoise)
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
            _kill(reader)
        self._readers.clear()

    def read(self, clips: Iterable[Clip], hide: Subset = frozenset()) -> Iterator[Result]:
        """Reads every clip; yields (its place in `clips`, content or error) in order of completion.

        Only a few clips are in memory at a time, however slowly the caller takes the results.
        """
        results: queue.Queue[Result | None] = queue.Queue(MAX_WAITING_RESULTS)
        self._stop.clear()
        self._thread = threading.Thread(
            target=self._serve_safely, args=(iter(clips), hide, results), daemon=True
        )
        self._thread.start()
        try:
            while (result := results.get()) is not None:
                yield result
            if not self._complete:
                raise RuntimeError("the thread that serves the readers failed; see its traceback")
        finally:
            self.close()

    def _serve_safely(
        self,
        clips: Iterator[Clip],
        hide: Subset,
        results: queue.Queue[Result | None],
    ) -> None:
        """The thread: puts None last even after an error, so that the caller stops waiting."""
        self._complete = False
        try:
            self._serve(clips, hide, results)
            self._complete = True
        finally:
            self._put(results, None)

    def _serve(
        self,
        clips: Iterator[Clip],
        hide: Subset,
        results: queue.Queue[Result | None],
    ) -> None:
        numbered_clips = enumerate(clips)
        clips_left = True
        while not self._stop.is_set():
            # no clip is taken before a reader can have it: the next may be long in coming
            while clips_left and self._has_room():
                next_clip = next(numbered_clips, None)
                if next_clip is None:
                    clips_left = False
                elif (reader := self._idle_reader()) is not None:
                    self._send(reader, *next_clip, hide)
            busy = [r for r in self._readers if r.index is not None]
            if not busy:
                return
            ready_connections = wait([r.connection for r in busy], timeout=0.2)
            for reader in busy:
                if reader.connection in ready_connections:
                    result = self._receive(reader)
                elif time.monotonic() > reader.kill_time and not reader.connection.poll():
                    reason = f"gave no result within {self._limit_seconds():.0f} s"
                    result = self._discard(reader, reason, "timeout")
                else:
                    continue
                self._put(results, result)

    def _put(
        self,
        results: queue.Queue[Result | None],
        result: Result | None,
    ) -> None:
        while not self._stop.is_set():
            try:
                return results.put(result, timeout=0.2)
            except queue.Full:
                continue

    def _limit_seconds(self) -> float:
        return self.options.deadline_seconds + GRACE_SECONDS

    def _has_room(self) -> bool:
        idle = any(reader.index is None for reader in self._readers)
        return idle or len(self._readers) < self.workers

    def _idle_reader(self) -> _Reader | None:
        for reader in self._readers:
            if reader.index is None:
                return reader
        if len(self._readers) < self.workers:
            self._readers.append(_start_reader())
            return self._readers[-1]
        return None

    def _send(self, reader: _Reader, index: int, clip: Clip, hide: Subset) -> None:
        reader.index, reader.clip = index, clip
        reader.kill_time = time.monotonic() + self._limit_seconds()
        try:
            reader.connection.send((clip, self.options, hide))
        except OSError:
            pass  # the process has ended: the next wait finds its connection closed

    def _receive(self, reader: _Reader) -> Result:
        """Receives a result; a closed connection means that the reader crashed."""
        assert reader.index is not None
        try:
            result = reader.connection.recv()
        except (EOFError, OSError):
            reason = f"crashed the reader ({_exit_reason(reader.process)})"
            return self._discard(reader, reason, "crashed")
        index, reader.index = reader.index, None
        reader.num_read += 1
        # what has run out of memory may not have given all of it back
        is_full = isinstance(result, MediaError) and result.code == "memory"
        if is_full or reader.num_read >= CLIPS_A_PROCESS:
            self._readers.remove(reader)
            _kill(reader)
        return index, result

    def _discard(self, reader: _Reader, reason: str, code: str) -> Result:
        """Kills a reader; the result of its clip is an error."""
        assert reader.index is not None and reader.clip is not None
        self._readers.remove(reader)
        _kill(reader)
        message = f"{reader.clip.name}: {reason}; the clip is skipped, check the file"
        return reader.index, MediaError(message, code=code)


def _start_reader() -> _Reader:
    """Starts a process that reads one end of a pipe and ends when the other end closes."""
    parent_end, child_end = Pipe()
    command = [sys.executable, "-m", "omni_msa.media.worker", str(child_end.fileno())]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        pass_fds=[child_end.fileno()],
        env=environment,
        process_group=0,  # Ctrl-C is for the parent alone, also while this one starts
    )
    child_end.close()
    return _Reader(process, parent_end)


def _kill(reader: _Reader) -> None:
    reader.connection.close()
    reader.process.kill()
    reader.process.wait()


def _exit_reason(process: subprocess.Popen[bytes]) -> str:
    """How a process ended: its signal or exit code."""
    try:
        code = process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        return "no exit code"
    if code < 0:
        return signal.Signals(-code).name
    return f"exit {code}"
