"""Many clips, each of which ends as exactly one row, whatever happens to the others.

The idea: other processes read clips (one that hangs can be killed), a thread prepares what they
read, and the model scores what is prepared, all at the same time; clips that are alike wait for one
another, within bounds, to share a forward pass; a row is written as soon as it is known. So a run
can be stopped at any moment, and memory stays flat.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from omni_msa.files.record import Record
from omni_msa.files.results import Results
from omni_msa.media.cache import ContentCache
from omni_msa.media.feed import FeedItem, FileFeed
from omni_msa.media.identity import clip_sha256
from omni_msa.modalities import Subset
from omni_msa.options import AblationOptions, BatchOptions, checked_modalities
from omni_msa.scoring.ahead import Ahead
from omni_msa.scoring.grouping import Grouping
from omni_msa.scoring.guarded import GuardedScorer
from omni_msa.values import Clip

if TYPE_CHECKING:
    from omni_msa.scoring.deferred import DeferredScorer
    from omni_msa.scoring.scorer import Prepared, Scorer

MAX_PREPARED = 2  # clips that wait for the model, besides those that wait for one another
RATE_SECONDS = 5.0  # of scoring, before it is said how long the rest will take

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchProgress:
    """How far a batch is: called at the start, and after every row."""

    total: int
    skipped: int  # done by an earlier run
    scored: int
    failed: int
    elapsed_seconds: float
    last: Record | None = None
    first_seconds: float = 0.0  # of those, until the first row: loading is not repeated

    @property
    def done(self) -> int:
        return self.skipped + self.scored + self.failed

    @property
    def clips_per_second(self) -> float:
        """The rate of this run; clips that an earlier run did take no time."""
        return (self.scored + self.failed) / self.elapsed_seconds if self.elapsed_seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At the rate since the first row; None until there is one to go by."""
        seconds = self.elapsed_seconds - self.first_seconds
        rows = self.scored + self.failed - (self.first_seconds > 0)
        if self.done == self.total:
            return 0.0
        if not rows or seconds < RATE_SECONDS * (self.first_seconds > 0):
            return None
        return (self.total - self.done) * seconds / rows


@dataclass(frozen=True)
class BatchSummary:
    """What became of the clips. `records` has one for each, None where an earlier run did it.

    `warned` counts the clips of this run that were scored with warnings, `warnings` of what kind;
    `updated` those of an earlier run whose rows repeat other columns of the manifest now.
    """

    records: tuple[Record | None, ...]
    skipped: int
    scored: int
    failed: int
    warned: int = 0
    warnings: Mapping[str, int] = field(default_factory=dict)
    updated: int = 0


def run_batch(
    clips: Sequence[Clip],
    scorer: Scorer | DeferredScorer,
    results: Results | None = None,
    options: BatchOptions | None = None,
    ablation: AblationOptions | None = None,
    hide: Subset = frozenset(),
    progress: Callable[[BatchProgress], None] | None = None,
    keep_records: bool = True,
) -> BatchSummary:
    """Score every clip that the results do not hold yet.

    Args:
        clips: What to score; each ends as one row.
        scorer: The model; one that is deferred is loaded only if a clip has to be scored.
        results: The open output file, if there is one.
        options: How many clips are held at once.
        ablation: Which subsets are scored beside the clip itself.
        hide: Modalities that are never shown to the model.
        progress: Called with how far the batch is.
        keep_records: False leaves the records to the output file, so that memory stays flat.

    Returns:
        The counts, and the records.

    Raises:
        KeyboardInterrupt: The user stopped it; the rows known by then are written.
    """
    options = options or BatchOptions()
    ablation = ablation or AblationOptions()
    hide = checked_modalities("hide", hide)
    # with one clip there is nobody else to protect: a bug is shown
    guarded = GuardedScorer(scorer, ablation, hide, lets_bugs_through=len(clips) == 1)
    batch = _Batch(clips, guarded, results, progress, keep_records)
    todo = batch.leave_out_done()
    logger.info("batch of %d clips: %d to score, %d done", len(clips), len(todo), batch.skipped)
    if len(clips) == 1 and clips[0].path is None:  # nothing is opened, so nothing can go wrong
        for index in todo:
            _load(guarded, clips)
            batch.finish(index, guarded.score(clips[index]))
    elif todo:
        _score_in_groups(batch, todo, options)
    if results is not None:
        results.put_in_order([clip.name for clip in clips])
    seconds = time.perf_counter() - batch.started_seconds
    logger.info("batch: %d scored, %d failed in %.1f s", batch.scored, batch.failed, seconds)
    return batch.summary()


def _load(guarded: GuardedScorer, clips: Sequence[Clip]) -> None:
    """Loads the model, if a clip may need it: what is wrong with it is no clip's failure."""
    if any(_may_be_scored(clip) for clip in clips):
        guarded.scorer = guarded.scorer.loaded()


def _may_be_scored(clip: Clip) -> bool:
    """Words, or a file that is there; of others it is known that they fail, without the model."""
    return clip.path is None or os.path.exists(clip.path)


def _score_in_groups(batch: _Batch, todo: Sequence[int], options: BatchOptions) -> None:
    """Read clips in other processes, and score those that are alike in one pass."""
    grouping: Grouping[Prepared] = Grouping(options.batch_size)
    clips = [batch.clips[index] for index in todo]
    feed = _feed(batch.guarded, clips, options)
    with Ahead(feed.read_any(), 1, feed.close) as contents:
        _load(batch.guarded, clips)  # meanwhile
        prepared = _prepare(batch.guarded, clips, contents)
        with Ahead(prepared, MAX_PREPARED, feed.close) as outcomes:
            for position, outcome in outcomes:
                index = todo[position]
                if isinstance(outcome, Record):
                    batch.finish(index, outcome)
                else:
                    grouping.add(index, outcome)
                    batch.score(grouping.ready())
    # the last clips wait for nobody
    while group := grouping.oldest():
        batch.score(group)


def _feed(guarded: GuardedScorer, clips: Sequence[Clip], options: BatchOptions) -> FileFeed:
    """Clips as they are read."""
    scorer = guarded.scorer
    cache = ContentCache(options.cache, options.cache_bytes) if options.cache else None
    return FileFeed(clips, scorer.media, options.workers, cache, guarded.hide | scorer.hidden)


def _prepare(
    guarded: GuardedScorer, clips: Sequence[Clip], contents: Iterator[tuple[int, FeedItem]]
) -> Iterator[tuple[int, Prepared | Record]]:
    """Clips as model inputs, or as rows where that fails, each with its place."""
    for position, content in contents:
        yield position, guarded.prepare(clips[position], content)


@dataclass
class _Batch:
    """One run: what is to be scored, and what is known so far."""

    clips: Sequence[Clip]
    guarded: GuardedScorer
    results: Results | None
    progress: Callable[[BatchProgress], None] | None
    keep_records: bool
    records: list[Record | None] = field(default_factory=list)
    skipped: int = 0
    scored: int = 0
    failed: int = 0
    warned: int = 0
    warnings: Counter[str] = field(default_factory=Counter)
    updated: int = 0
    started_seconds: float = field(default_factory=time.perf_counter)
    first_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.records = [None] * len(self.clips)

    def leave_out_done(self) -> list[int]:
        """The indices of the clips that the results file has no row for."""
        todo = []
        self._tell(None)
        for index, clip in enumerate(self.clips):
            if self._is_done(clip):
                self.skipped += 1
                self.updated += self._update_columns(clip)
                self._tell(None)
            else:
                todo.append(index)
        self.started_seconds = time.perf_counter()  # finding them took no scoring
        return todo

    def score(self, group: Sequence[tuple[int, Prepared]]) -> None:
        """Score clips in one forward pass, and keep their rows."""
        if group:
            records = self.guarded.score_prepared([prepared for _, prepared in group])
            for (index, _), record in zip(group, records, strict=True):
                self.finish(index, record)

    def finish(self, index: int, record: Record) -> None:
        """A clip's row is known: it is written, counted and shown."""
        if self.results is not None:
            self.results.write(record)
        if self.keep_records:
            self.records[index] = record
        self.failed += record.error is not None
        self.scored += record.error is None
        self.warned += bool(record.warnings)
        self.warnings.update(record.warning_kinds)
        self._tell(record)

    def summary(self) -> BatchSummary:
        """What became of the clips."""
        return BatchSummary(
            tuple(self.records),
            self.skipped,
            self.scored,
            self.failed,
            self.warned,
            self.warnings,
            self.updated,
        )

    def _is_done(self, clip: Clip) -> bool:
        if self.results is None or not self.results.num_rows:
            return False  # nothing to compare with: do not read every file
        return self.results.has(clip.name, clip_sha256(clip))

    def _update_columns(self, clip: Clip) -> bool:
        """Whether the clip's row repeats other columns of a manifest; it gets these.

        A clip that no manifest describes says nothing about them, and leaves them.
        """
        values = {"id": clip.row_id, "label": clip.label, "extra": clip.extra}
        is_described = any(value not in (None, {}) for value in values.values())
        if self.results is None or not (clip.transcript_source == "manifest" or is_described):
            return False
        return self.results.update(clip.name, values)

    def _tell(self, last: Record | None) -> None:
        elapsed = time.perf_counter() - self.started_seconds
        counts = (len(self.clips), self.skipped, self.scored, self.failed)
        if self.progress is not None:
            if last is not None:
                self.first_seconds = self.first_seconds or elapsed
            self.progress(BatchProgress(*counts, elapsed, last, self.first_seconds))
