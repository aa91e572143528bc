"""How much memory the process has needed, how to need less, and which errors mean too little."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")
M_MMAP_THRESHOLD = -3  # mallopt(3)
LARGE_BLOCK = 4 * 2**20


def peak_gib() -> float:
    """Peak so far: of the GPU where there is one in use, else the process's resident memory."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**30
    try:
        import resource
    except ImportError:  # not a POSIX system
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def return_large_blocks() -> None:
    """Has the C library give back every freed block of 4 MB or more at once.

    By itself glibc comes to keep blocks of up to 32 MB, and the holes between them: a training step
    of the 7B model on a CPU then needs 15.7 GiB instead of 11.0. Costs a small model some speed.
    Has no effect where the C library is another.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a failed allocation is what is behind it; torch's CPU allocator has no own class."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def in_passes(work: Callable[[Sequence[T]], R], items: Sequence[T], size: int) -> Iterator[R]:
    """Does the work on at most `size` items at a time, on fewer when memory runs out.

    Raises:
        RuntimeError, MemoryError: what the work raises; memory does not hold one item.
    """
    start = 0
    while start < len(items):
        try:
            done = work(items[start : start + size])
        except (RuntimeError, MemoryError) as error:
            if size == 1 or not is_out_of_memory(error):
                raise
            size = (size + 1) // 2
            continue
        yield done
        start += size
