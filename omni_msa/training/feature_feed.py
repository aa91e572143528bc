"""A feed of features that are made once: an epoch then costs neither decoding nor an encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from omni_msa.errors import MediaError
from omni_msa.media.feed import Feed, FeedItem
from omni_msa.media.identity import json_sha256
from omni_msa.modalities import Subset
from omni_msa.model.features import FeatureBuilder
from omni_msa.options import MediaOptions
from omni_msa.values import Clip, ClipContent

TOGETHER = 8  # clips in one call of an encoder
KEPT_BYTES = 2 * 1024**3  # of features in memory


class FeatureFeed:
    """The clips of another feed, with features in the place of what was read.

    Features are kept in memory, up to 2 GiB, and in the other feed's cache, if it has one; what is
    in neither is made again each time.

    Args:
        feed: what is read.
        builder: whose features they are.
        options, hide: of reading, as the builder is given them.
        notice: is told, once, that memory does not hold all of them.
    """

    def __init__(
        self,
        feed: Feed,
        builder: FeatureBuilder,
        options: MediaOptions,
        hide: Subset,
        notice: Callable[[str], None],
    ) -> None:
        self.clips: Sequence[Clip] = feed.clips
        self.feed = feed
        self.builder = builder
        self.options = options
        self.hide = hide
        self.cache = feed.cache
        self.notice = notice
        self._items: dict[int, FeedItem] = {}
        self._free_bytes = KEPT_BYTES
        self._is_full = False
        self._keys: dict[int, str | None] = {}

    def sizes(self) -> list[int]:
        return self.feed.sizes()

    def read(self, order: Sequence[int]) -> Iterator[FeedItem]:
        absent = [place for place in order if not self._has(place)]
        stream = self.feed.read(absent)
        to_make = set(absent)
        for start in range(0, len(order), TOGETHER):
            places = order[start : start + TOGETHER]
            new = [place for place in places if place in to_make]
            items = dict(zip(new, self._make([next(stream) for _ in new]), strict=True))
            for place in places:
                if place in items:
                    self._store(place, items[place])
                yield items[place] if place in items else self._stored(place)

    def _has(self, place: int) -> bool:
        key = self._key(place)
        return place in self._items or (key is not None and self._cache_has(key))

    def _cache_has(self, key: str) -> bool:
        return self.cache is not None and self.cache.has(key)

    def _stored(self, place: int) -> FeedItem:
        """From memory or the cache; made again where another process has just removed it."""
        if place in self._items:
            return self._items[place]
        key, content = self._key(place), None
        if self.cache is not None and key is not None:
            content = self.cache.get(key, self.clips[place])
        item = content or self._make(list(self.feed.read([place])))[0]
        self._keep(place, item)
        return item

    def _store(self, place: int, item: FeedItem) -> None:
        """In memory, and in the cache."""
        self._keep(place, item)
        key = self._key(place)
        if self.cache is not None and key is not None and isinstance(item, ClipContent):
            self.cache.put(key, item)

    def _keep(self, place: int, item: FeedItem) -> None:
        """In memory, as long as there is room."""
        size = _num_bytes(item)
        if size <= self._free_bytes:
            self._items[place] = item
            self._free_bytes -= size
        elif not self._is_full:
            self._is_full = True
            if self.cache is None:
                self.notice(
                    f"features of more than {KEPT_BYTES / 1024**3:g} GiB: the rest is made again "
                    "in every epoch; --cache DIR keeps them"
                )

    def _make(self, items: Sequence[FeedItem]) -> list[FeedItem]:
        """Features of the clips that could be read; of each for itself if one cannot be built."""
        contents = [item for item in items if isinstance(item, ClipContent)]
        try:
            features = iter(self.builder.made_once(contents, self.options, self.hide))
            return [next(features) if isinstance(item, ClipContent) else item for item in items]
        except MediaError as error:
            if len(items) == 1:
                return [error]
        return [result for item in items for result in self._make([item])]

    def _key(self, place: int) -> str | None:
        """The name of a clip's features in the cache."""
        if self.cache is not None and place not in self._keys:
            read = self.cache.key(self.clips[place], self.options, self.hide)
            self._keys[place] = read and json_sha256([read, self.builder.identity])
        return self._keys.get(place)


def _num_bytes(item: FeedItem) -> int:
    """Of the arrays; an error has none."""
    if not isinstance(item, ClipContent):
        return 0
    arrays = (part.store()[0] for part in item.parts.values())
    return sum(array.nbytes for arrays_of_part in arrays for array in arrays_of_part.values())
