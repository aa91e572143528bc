"""Clips read in processes that can be killed, so that one clip never stops a batch.

A process that passes the deadline or crashes is replaced, and its clip becomes an error. A thread
serves each process, so reading goes on while the model computes.
"""

from __future__ import annotations

import atexit
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from queue import SimpleQueue
from typing import Any, cast

from pebble import ProcessExpired, ProcessPool, concurrent

from omni_msa.environment import reader_environment
from omni_msa.errors import DecodeCrash, DecodeMemory, DecodeTimeout, OmniMSAError
from omni_msa.media.denoise import require_denoiser
from omni_msa.media.reader import read_clip
from omni_msa.media.worker import CleanContext, prepare
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
        self._taking_threads = threading.Lock()
        self._room = threading.Semaphore(0)
        self._closing: Future[None] = Future()
        self._threads: list[Future[None]] = []
        self._pools: set[ProcessPool] = set()

    def __enter__(self) -> ClipReaders:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends every thread and process, whatever they are doing."""
        with self._taking_threads:
            threads, self._threads = self._threads, []
        if threads:
            self._closing.set_result(None)
            self._room.release(self.workers)
            wait(threads)
            atexit.unregister(self._abandon)

    def _abandon(self) -> None:
        """At exit, ends the processes alone: a thread may wait for a clip that never comes."""
        self._threads.clear()
        for pool in self._pools.copy():
            self._end(pool)

    def read(self, clips: Iterable[Clip], hide: Subset = frozenset()) -> Iterator[Result]:
        """Reads every clip; yields (its place in `clips`, content or error) in order of completion.

        Only a few clips are in memory at a time, however slowly the caller takes the results.
        """
        results: SimpleQueue[Result | None] = SimpleQueue()
        numbered_clips = enumerate(clips)
        self._closing = Future()
        self._room = threading.Semaphore(self.workers + MAX_WAITING_RESULTS)
        atexit.register(self._abandon)
        serve = concurrent.thread(self._serve)
        threads = [serve(numbered_clips, hide, results) for _ in range(self.workers)]
        self._threads = threads
        try:
            for _ in range(self.workers):
                while (result := results.get()) is not None:
                    self._room.release()
                    yield result
            for thread in threads:
                thread.result()  # raises what ended it
        finally:
            self.close()

    def _serve(
        self,
        numbered_clips: Iterator[tuple[int, Clip]],
        hide: Subset,
        results: SimpleQueue[Result | None],
    ) -> None:
        """A thread: one clip after another, in one process as long as that lasts."""
        pool = self._start_pool()
        try:
            while (numbered_clip := self._next(numbered_clips)) is not None:
                place, clip = numbered_clip
                if not pool.active:  # its process has ended while it had nothing to do
                    pool = self._replace(pool)
                content = self._read(pool, clip, hide)
                results.put((place, content))
                if isinstance(content, LAST_WORDS):
                    pool = self._replace(pool)
        finally:
            self._end(pool)
            results.put(None)

    def _next(self, numbered_clips: Iterator[tuple[int, Clip]]) -> tuple[int, Clip] | None:
        """The next clip, not before it can be read: it may be long in coming."""
        self._room.acquire()
        with self._taking:
            return None if self._closing.done() else next(numbered_clips, None)

    def _read(self, pool: ProcessPool, clip: Clip, hide: Subset) -> ClipContent | OmniMSAError:
        limit = self.options.deadline_seconds + GRACE_SECONDS
        future = pool.schedule(read_clip, (clip, self.options, hide))
        futures: list[Future[Any]] = [future, self._closing]
        wait(futures, limit, FIRST_COMPLETED)
        if not future.done():
            return DecodeTimeout(_skipped(clip, f"gave no result within {limit:.0f} s"))
        error = future.exception()
        if error is None:
            return future.result()
        if isinstance(error, OmniMSAError):
            return error
        return DecodeCrash(_skipped(clip, f"crashed the reader ({_exit_reason(error)})"))

    def _start_pool(self) -> ProcessPool:
        """A pool of one process: what a crash leaves in a pool's pipe is then nobody else's."""
        context = cast(Any, CleanContext(reader_environment(self.workers)))
        pool = ProcessPool(1, CLIPS_A_PROCESS, prepare, context=context)
        self._pools.add(pool)
        return pool

    def _end(self, pool: ProcessPool) -> None:
        if pool in self._pools:  # at exit, two threads may be here
            self._pools.discard(pool)
            pool.stop()
            pool.join()

    def _replace(self, pool: ProcessPool) -> ProcessPool:
        self._end(pool)
        return self._start_pool()


def _skipped(clip: Clip, reason: str) -> str:
    return f"{clip.name}: {reason}; the clip is skipped, check the file"


def _exit_reason(error: BaseException) -> str:
    """How a process ended: its signal or exit code."""
    if not isinstance(error, ProcessExpired):
        return f"{type(error).__name__}: {error}"
    code = error.exitcode
    return signal.Signals(-code).name if code < 0 else f"exit {code}"
