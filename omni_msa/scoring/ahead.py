"""Work that goes on in a thread while its results are used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
_END = object()


def ahead(items: Iterator[T], size: int, stop: Callable[[], None]) -> Iterator[T]:
    """The same items, made by a thread while the caller works on those before.

    Args:
        items: made in that thread; an exception that ends them ends these too.
        size: how many may be made and wait.
        stop: called when no more are wanted; ends what making one may be waiting for.
    """
    with ThreadPoolExecutor(1) as thread:
        waiting = deque(thread.submit(next, items, _END) for _ in range(size))
        try:
            while (item := waiting.popleft().result()) is not _END:
                waiting.append(thread.submit(next, items, _END))
                yield item  # type: ignore[misc]
        finally:
            thread.shutdown(wait=False, cancel_futures=True)
            stop()
