"""Clips that come one after another, without an end in sight: a record each, in their order.

A process of its own reads them, so that one that hangs or crashes it costs one record and no more.
Those of a batch that are alike share a forward pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from omni_msa.errors import ConfigError, OmniMSAError
from omni_msa.files.record import Record
from omni_msa.media.readers import ClipReaders
from omni_msa.scoring.grouping import Grouping
from omni_msa.scoring.guarded import GuardedScorer
from omni_msa.values import Clip, ClipContent

if TYPE_CHECKING:
    from omni_msa.scoring.scorer import Prepared


def as_clip(source: Clip | str | Path) -> Clip:
    """A path as the clip that it names.

    Raises:
        ConfigError: it is neither a path nor a clip.
    """
    if isinstance(source, Clip):
        return source
    if not isinstance(source, str | Path):
        raise ConfigError(f"a clip is a path or a Clip, got {type(source).__name__}")
    return Clip(path=Path(source))


def score_stream(
    guarded: GuardedScorer, sources: Iterable[Clip | str | Path], batch_size: int
) -> Iterator[Record]:
    """A record for each clip, a batch at a time; the next batch is taken when one is yielded."""
    scorer = guarded.scorer
    queue: SimpleQueue[Clip | None] = SimpleQueue()  # to the thread that serves the reader
    remaining = iter(sources)
    with ClipReaders(scorer.media, workers=1) as readers:  # one reader keeps the order
        results = readers.read(iter(queue.get, None), guarded.hide | scorer.hidden)
        try:
            while clips := [as_clip(source) for source in islice(remaining, batch_size)]:
                for clip in clips:
                    queue.put(clip)
                contents = [content for _, content in islice(results, len(clips))]
                yield from _score_batch(guarded, clips, contents)
        finally:
            queue.put(None)  # the thread would wait for ever, and closing waits for the thread


def _score_batch(
    guarded: GuardedScorer, clips: Sequence[Clip], contents: Sequence[ClipContent | OmniMSAError]
) -> list[Record]:
    """The records of a batch, in its order."""
    records: dict[int, Record] = {}
    grouping: Grouping[Prepared] = Grouping(len(clips))
    for place, (clip, content) in enumerate(zip(clips, contents, strict=True)):
        outcome = guarded.prepare(clip, content)
        if isinstance(outcome, Record):
            records[place] = outcome
        else:
            grouping.add(place, outcome)
    while group := grouping.oldest():
        scored = guarded.score_prepared([prepared for _, prepared in group])
        records |= zip((place for place, _ in group), scored, strict=True)
    return [records[place] for place in range(len(clips))]
