"""Clips in the order of a training epoch, read ahead from their files or from a cache.

A clip that cannot be read is returned as its error, in its place: the caller decides what to do
with it, and no other clip replaces it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from omni_msa.environment import default_readers
from omni_msa.errors import OmniMSAError
from omni_msa.media import read_clip
from omni_msa.media.cache import ContentCache
from omni_msa.media.denoise import require_denoiser
from omni_msa.media.readers import ClipReaders
from omni_msa.modalities import Subset
from omni_msa.options import MediaOptions
from omni_msa.values import Clip, ClipContent

FeedItem = ClipContent | OmniMSAError
HASHING_THREADS = 4
BYTES_PER_SECOND = 100_000  # of a usual file: estimates the size of a time window of one


class Feed(Protocol):
    """A list of clips, read in any order, any number of times."""

    clips: Sequence[Clip]
    cache: ContentCache | None  # of what was read before

    def sizes(self) -> list[int]:
        """Roughly how long each clip is: clips of similar size share a batch."""
        ...

    def read(self, order: Sequence[int]) -> Iterator[FeedItem]:
        """The clips at these places of the list, in this order."""
        ...


class FileFeed:
    """Clips read from their files by processes of their own, or from a cache.

    Args:
        workers: how many processes read ahead; None: one a core.
        cache: what was read before; what is read now is added.
        hide: modalities that are not read at all.

    Raises:
        ConfigError: what its options ask for is not installed.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        options: MediaOptions,
        workers: int | None = 1,
        cache: ContentCache | None = None,
        hide: Subset = frozenset(),
    ) -> None:
        require_denoiser(options.denoise)
        self.clips = clips
        self.options = options
        self.workers = max(1, min(workers or default_readers(), len(clips)))
        self.cache = cache
        self.hide = hide
        self._keys: dict[int, str | None] = {}
        self._readers: ClipReaders | None = None
        self._is_closed = False

    def close(self) -> None:
        """Ends what is being read, and whoever waits for it; nothing is read afterwards."""
        self._is_closed = True
        if self._readers is not None:
            self._readers.close()

    def read_any(self) -> Iterator[tuple[int, FeedItem]]:
        """Every clip with its place, as soon as it is read; with a cache, in their order."""
        if self._is_closed:
            return
        if self.cache is not None:
            yield from enumerate(self.read(range(len(self.clips))))
            return
        with self._start_readers() as readers:
            yield from readers.read(self.clips, self.hide)

    def _start_readers(self) -> ClipReaders:
        self._readers = ClipReaders(self.options, self.workers)
        return self._readers

    def sizes(self) -> list[int]:
        """Bytes of the file, or a share of them for a window; words count little."""
        return [_file_size(clip) for clip in self.clips]

    def read(self, order: Sequence[int]) -> Iterator[FeedItem]:
        keys = self._keys_of(order)
        in_cache = [self._has(key) for key in keys]
        places_to_read = [place for place, is_cached in enumerate(in_cache) if not is_cached]
        results_by_place: dict[int, FeedItem] = {}
        with self._start_readers() as readers:
            stream = readers.read([self.clips[order[place]] for place in places_to_read], self.hide)
            for place, index in enumerate(order):
                if in_cache[place]:
                    yield self._from_cache(keys[place], self.clips[index])
                    continue
                while place not in results_by_place:
                    position, result = next(stream)
                    results_by_place[places_to_read[position]] = result
                    self._add_to_cache(keys[places_to_read[position]], result)
                yield results_by_place.pop(place)

    def _keys_of(self, order: Sequence[int]) -> list[str | None]:
        """The clips' names in the cache; hashing a file costs as much as reading it, once."""
        if self.cache is None:
            return [None] * len(order)
        new_indices = [i for i in dict.fromkeys(order) if i not in self._keys]
        with ThreadPoolExecutor(HASHING_THREADS) as pool:
            cache = self.cache
            new_clips = [self.clips[i] for i in new_indices]
            new_keys = pool.map(lambda clip: cache.key(clip, self.options, self.hide), new_clips)
            self._keys |= zip(new_indices, new_keys, strict=True)
        return [self._keys[i] for i in order]

    def _has(self, key: str | None) -> bool:
        return key is not None and self.cache is not None and self.cache.has(key)

    def _from_cache(self, key: str | None, clip: Clip) -> FeedItem:
        """From the cache, or, when another process has just removed the entry, from the file."""
        assert self.cache is not None and key is not None
        content = self.cache.get(key, clip)
        if content is not None:
            return content
        try:
            content = read_clip(clip, self.options, hide=self.hide)
        except OmniMSAError as error:
            return error
        self._add_to_cache(key, content)
        return content

    def _add_to_cache(self, key: str | None, result: FeedItem) -> None:
        if self.cache is not None and key is not None and isinstance(result, ClipContent):
            self.cache.put(key, result)


def _file_size(clip: Clip) -> int:
    if clip.path is None:
        return len(clip.transcript or "")
    if clip.end_seconds is not None:
        return round(BYTES_PER_SECOND * (clip.end_seconds - (clip.start_seconds or 0.0)))
    try:
        return clip.path.stat().st_size
    except OSError:
        return 0
