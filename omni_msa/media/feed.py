"""Clips in the order that training asks for them: from memory, or read ahead from their files.

A clip that cannot be read arrives as its error, in its place: who asks decides what that means, and
no other clip ever stands in for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from omni_msa.errors import OmniMSAError
from omni_msa.media import read_clip
from omni_msa.media.cache import ContentCache
from omni_msa.media.readers import ClipReaders
from omni_msa.modalities import Subset
from omni_msa.options import MediaOptions
from omni_msa.values import Clip, ClipContent

Fed = ClipContent | OmniMSAError
HASHING_THREADS = 4
BYTES_PER_SECOND = 100_000  # of a usual file: what a window of one weighs


class Feed(Protocol):
    """A list of clips, read in any order, any number of times."""

    clips: Sequence[Clip]

    def sizes(self) -> list[int]:
        """Roughly how long each clip is: clips of similar size share a batch."""
        ...

    def read(self, order: Sequence[int]) -> Iterator[Fed]:
        """The clips at these places of the list, in this order."""
        ...


class MemoryFeed:
    """Clips that were read already."""

    def __init__(self, contents: Sequence[ClipContent]) -> None:
        self.contents = contents
        self.clips = [content.clip for content in contents]

    def sizes(self) -> list[int]:
        return [content.size for content in self.contents]

    def read(self, order: Sequence[int]) -> Iterator[Fed]:
        return (self.contents[i] for i in order)


class FileFeed:
    """Clips read from their files by processes of their own, or from a cache.

    Args:
        workers: how many processes read ahead.
        cache: what was read before; what is read now is added.
        hide: modalities that are not read at all.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        options: MediaOptions,
        workers: int = 1,
        cache: ContentCache | None = None,
        hide: Subset = frozenset(),
    ) -> None:
        self.clips = clips
        self.options = options
        self.workers = workers
        self.cache = cache
        self.hide = hide
        self._keys: dict[int, str | None] = {}

    def sizes(self) -> list[int]:
        """Bytes of the file, or a share of them for a window; words weigh little."""
        return [_file_size(clip) for clip in self.clips]

    def read(self, order: Sequence[int]) -> Iterator[Fed]:
        keys = self._keys_of(order)
        stored = [key is not None and self.cache is not None and self.cache.has(key)
                  for key in keys]  # fmt: skip
        wanted = [place for place, there in enumerate(stored) if not there]
        arrived: dict[int, Fed] = {}
        with ClipReaders(self.options, self.workers) as readers:
            stream = readers.read([self.clips[order[place]] for place in wanted], self.hide)
            for place, index in enumerate(order):
                if stored[place]:
                    yield self._stored(keys[place], self.clips[index])
                    continue
                while place not in arrived:
                    position, fed = next(stream)
                    arrived[wanted[position]] = fed
                    self._keep(keys[wanted[position]], fed)
                yield arrived.pop(place)

    def _keys_of(self, order: Sequence[int]) -> list[str | None]:
        """The clips' names in the cache; hashing a file costs as much as reading it, once."""
        if self.cache is None:
            return [None] * len(order)
        new = [i for i in dict.fromkeys(order) if i not in self._keys]
        with ThreadPoolExecutor(HASHING_THREADS) as pool:
            cache = self.cache
            made = pool.map(lambda i: cache.key(self.clips[i], self.options, self.hide), new)
            self._keys |= zip(new, made, strict=True)
        return [self._keys[i] for i in order]

    def _stored(self, key: str | None, clip: Clip) -> Fed:
        """From the cache, or, where another process has just removed it, from the file."""
        assert self.cache is not None and key is not None
        content = self.cache.get(key, clip)
        if content is not None:
            return content
        try:
            content = read_clip(clip, self.options, hide=self.hide)
        except OmniMSAError as error:
            return error
        self._keep(key, content)
        return content

    def _keep(self, key: str | None, fed: Fed) -> None:
        if self.cache is not None and key is not None and isinstance(fed, ClipContent):
            self.cache.put(key, fed)


def _file_size(clip: Clip) -> int:
    if clip.path is None:
        return len(clip.transcript or "")
    if clip.end_seconds is not None:
        return round(BYTES_PER_SECOND * (clip.end_seconds - (clip.start_seconds or 0.0)))
    try:
        return clip.path.stat().st_size
    except OSError:
        return 0
