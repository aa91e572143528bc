"""Work that goes on in a thread while its results are used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_END = object()


class Ahead(Generic[T]):
    """A context manager of the same items, made by a thread from now on, while the caller does
    something else or works on those before.

    Args:
        items: made in that thread; an exception that ends them ends these too.
        size: how many may be made and wait.
        stop: called at the end; ends what making one may be waiting for.
    """

    def __init__(self, items: Iterator[T], size: int, stop: Callable[[], None]) -> None:
        self._items = items
        self._stop = stop
        self._thread = ThreadPoolExecutor(1)
        self._waiting: deque[Future[Any]] = deque(self._make() for _ in range(size))

    def _make(self) -> Future[Any]:
        return self._thread.submit(next, self._items, _END)

    def __enter__(self) -> Iterator[T]:
        return self._take()

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._stop()
        self._thread.shutdown()

    def _take(self) -> Iterator[T]:
        while (item := self._waiting.popleft().result()) is not _END:
            self._waiting.append(self._make())
            yield item
