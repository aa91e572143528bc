"""Clips read in processes that can be killed, so that one clip never stops a batch.

A process that passes the deadline or crashes is replaced, and its clip becomes an error. A thread
serves each process, so reading goes on while the model computes.
"""

from __future__ import annotations

import atexit
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from multiprocessing import Pipe
from queue import SimpleQueue

from omni_msa.environment import reader_environment
from omni_msa.errors import DecodeCrash, DecodeMemory, DecodeTimeout, OmniMSAError
from omni_msa.media.denoise import require_denoiser
from omni_msa.media.reader import read_clip
from omni_msa.modalities import Subset
from omni_msa.options import MediaOptions
from omni_msa.values import Clip, ClipContent

CLIPS_A_PROCESS = 100  # then the process is replaced: decoders leak memory
GRACE_SECONDS = 5.0  # after the deadline, at which a reader stops by itself, it is killed
MAX_WAITING_RESULTS = 2  # besides one that each reader works on

Result = tuple[int, ClipContent | OmniMSAError]
# After these, a process may be gone, or hold memory that it has not given back.
LAST_WORDS = (DecodeTimeout, DecodeCrash, DecodeMemory)


class ClipReaders:
    """A context manager: `for index, result in readers.read(clips): ...`, as they are read."""

    def __init__(self, options: MediaOptions, workers: int = 1) -> None:
        require_denoiser(options.denoise)
        self.options = options
        self.workers = workers
        self._taking = threading.Lock()
        self._killing = threading.Lock()
        self._room = threading.Semaphore(0)
        self._closing = False
        self._threads: list[threading.Thread] = []
        self._readers: set[_Reader] = set()

    def __enter__(self) -> ClipReaders:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends every process, whatever it is doing, and every thread."""
        self._kill()
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        atexit.unregister(self._abandon)

    def _abandon(self) -> None:
        """At exit, waits for no thread: the source of its next clip may never give one."""
        self._threads.clear()
        self._kill()

    def _kill(self) -> None:
        with self._killing:
            self._closing = True
            for reader in self._readers:
                reader.process.kill()
        self._room.release(self.workers)

    def read(self, clips: Iterable[Clip], hide: Subset = frozenset()) -> Iterator[Result]:
        """Reads every clip; yields (its place in `clips`, content or error) in order of completion.

        Only a few clips are in memory at a time, however slowly the caller takes the results.
        """
        results: SimpleQueue[Result | BaseException | None] = SimpleQueue()
        work = enumerate(clips), hide, results
        self._closing = False
        self._room = threading.Semaphore(self.workers + MAX_WAITING_RESULTS)
        atexit.register(self._abandon)
        for _ in range(self.workers):
            self._threads.append(threading.Thread(target=self._serve, args=work, daemon=True))
            self._threads[-1].start()
        try:
            for _ in range(self.workers):
                while (result := results.get()) is not None:
                    if isinstance(result, BaseException):
                        raise result
                    self._room.release()
                    yield result
        finally:
            self.close()

    def _serve(
        self,
        clips: Iterator[tuple[int, Clip]],
        hide: Subset,
        results: SimpleQueue[Result | BaseException | None],
    ) -> None:
        """A thread: one clip after another, in one process as long as that lasts."""
        reader: _Reader | None = None
        try:
            while (numbered_clip := self._next(clips)) is not None:
                place, clip = numbered_clip
                reader = reader or self._start()
                content = self._read(reader, clip, hide)
                results.put((place, content))
                if isinstance(content, LAST_WORDS) or reader.num_read == CLIPS_A_PROCESS:
                    self._end(reader)
                    reader = None
        finally:
            if reader is not None:
                self._end(reader)
            results.put(sys.exc_info()[1])  # what ended it, which the caller gets; or None

    def _next(self, clips: Iterator[tuple[int, Clip]]) -> tuple[int, Clip] | None:
        """The next clip, not before it can be read: it may be long in coming."""
        self._room.acquire()
        with self._taking:
            return None if self._closing else next(clips, None)

    def _read(self, reader: _Reader, clip: Clip, hide: Subset) -> ClipContent | OmniMSAError:
        limit = self.options.deadline_seconds + GRACE_SECONDS
        reason = f"gave no result within {limit:.0f} s"
        try:
            reader.connection.send((read_clip, clip, self.options, hide))
            if reader.connection.poll(limit):
                reader.num_read += 1
                return reader.connection.recv()
            kind: type[OmniMSAError] = DecodeTimeout
        except (EOFError, OSError):
            kind, reason = DecodeCrash, f"crashed the reader ({reader.exit_reason()})"
        return kind(f"{clip.name}: {reason}; the clip is skipped, check the file")

    def _start(self) -> _Reader:
        with self._killing:
            reader = _Reader(reader_environment(self.workers))
            self._readers.add(reader)
            if self._closing:
                reader.process.kill()
        return reader

    def _end(self, reader: _Reader) -> None:
        with self._killing:
            self._readers.discard(reader)
        reader.process.kill()
        reader.process.wait()
        reader.connection.close()


class _Reader:
    """A process of `worker.py`, which ends when the other end of its pipe closes."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.num_read = 0
        self.connection, child_end = Pipe()
        with child_end:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "omni_msa.media.worker", str(child_end.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[child_end.fileno()],
                env=environment,
                process_group=0,  # Ctrl-C is for the parent alone, also while this one starts
            )

    def exit_reason(self) -> str:
        """How the process ended: its signal or exit code."""
        try:
            code = self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "no exit code"
        return signal.Signals(-code).name if code < 0 else f"exit {code}"
