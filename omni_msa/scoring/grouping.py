"""Which prepared clips share a forward pass: those that are alike in modalities and in length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

LOOKAHEAD = 2  # clips held while waiting for ones alike, in multiples of the group size
ALIKE = 1.3  # token counts that share a pass differ by this factor at most: the rest is padding


class Groupable(Protocol):
    """What grouping goes by."""

    @property
    def pattern(self) -> str:
        """Which modalities are shown."""
        ...

    @property
    def num_tokens(self) -> int:
        """How long the clip is for the language model."""
        ...


G = TypeVar("G", bound=Groupable)


@dataclass(frozen=True)
class _Waiting(Generic[G]):
    index: int
    clip: G


class Grouping(Generic[G]):
    """Clips, until enough of them are alike to share a forward pass.

    Alike: the same modalities, and lengths that need little padding. When too many are held, the
    one that has waited longest goes, with those like it: so none waits for ever.

    Args:
        size: clips of a full group.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._waiting: list[_Waiting[G]] = []  # oldest first

    def __len__(self) -> int:
        """How many clips wait."""
        return len(self._waiting)

    def add(self, index: int, clip: G) -> None:
        """Holds one more clip; `index` comes back with it."""
        self._waiting.append(_Waiting(index, clip))

    def ready(self) -> list[tuple[int, G]]:
        """A group that should be scored now, or an empty list."""
        if not self._waiting:
            return []
        newest = self._alike(self._waiting[-1])
        if len(newest) == self._size:
            return self._take(newest)
        if len(self._waiting) >= LOOKAHEAD * self._size:
            return self.oldest()
        return []

    def oldest(self) -> list[tuple[int, G]]:
        """The clip that has waited longest and those like it; empty when none is left."""
        return self._take(self._alike(self._waiting[0])) if self._waiting else []

    def _alike(self, item: _Waiting[G]) -> list[_Waiting[G]]:
        length = item.clip.num_tokens
        alike = [
            other
            for other in self._waiting
            if other.clip.pattern == item.clip.pattern
            and length / ALIKE <= other.clip.num_tokens <= length * ALIKE
        ]
        nearest = sorted(alike, key=lambda other: abs(other.clip.num_tokens - length))
        return nearest[: self._size]

    def _take(self, group: Sequence[_Waiting[G]]) -> list[tuple[int, G]]:
        indices = {item.index for item in group}
        self._waiting = [item for item in self._waiting if item.index not in indices]
        return [(item.index, item.clip) for item in group]
