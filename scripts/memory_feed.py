"""Clips in memory as a feed for training: what the scripts and the tests train on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from omni_msa.media.feed import FeedItem
from omni_msa.values import ClipContent


class MemoryFeed:
    """A `Feed` of clips that were read already."""

    cache = None

    def __init__(self, contents: Sequence[ClipContent]) -> None:
        self.contents = contents
        self.clips = [content.clip for content in contents]

    def sizes(self) -> list[int]:
        """Roughly how many tokens each clip has."""
        return [content.size for content in self.contents]

    def read(self, order: Sequence[int]) -> Iterator[FeedItem]:
        """The clips at these places of the list, in this order."""
        return (self.contents[i] for i in order)
