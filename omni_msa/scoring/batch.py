"""Many clips, each of which ends as exactly one row, whatever happens to the others.

The idea: other processes read clips (one that hangs can be killed), this one prepares and scores
them; clips that are alike wait for one another, within bounds, to share a forward pass; a row is
written as soon as it is known. So a run can be stopped at any moment, and memory stays flat.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from omni_msa.errors import OmniMSAError
from omni_msa.files.results import Results
from omni_msa.media.identity import clip_sha256
from omni_msa.media.readers import ClipReaders
from omni_msa.modalities import Subset
from omni_msa.options import AblationOptions, BatchOptions
from omni_msa.values import Clip, ClipContent, Record

if TYPE_CHECKING:
    from omni_msa.scoring.scorer import Prepared, Scorer

LOOKAHEAD = 2  # clips held while waiting for ones alike, in multiples of the batch size
ALIKE = 1.3  # token counts that share a pass differ by this factor at most: the rest is padding

T = TypeVar("T")


@dataclass(frozen=True)
class BatchProgress:
    """How far a batch is: called at the start, and after every row."""

    total: int
    skipped: int  # done by an earlier run
    scored: int
    failed: int
    elapsed_seconds: float
    last: Record | None = None

    @property
    def done(self) -> int:
        return self.skipped + self.scored + self.failed

    @property
    def clips_per_second(self) -> float:
        """The rate of this run; clips that an earlier run did take no time."""
        return (self.scored + self.failed) / self.elapsed_seconds if self.elapsed_seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """None until there is a rate to go by."""
        rate = self.clips_per_second
        return (self.total - self.done) / rate if rate else None


@dataclass(frozen=True)
class BatchSummary:
    """What became of the clips. `records` has one for each, None where an earlier run did it."""

    records: tuple[Record | None, ...]
    skipped: int
    scored: int
    failed: int


def run_batch(
    clips: Sequence[Clip],
    scorer: Scorer,
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
        scorer: The model.
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
    batch = _Batch(clips, scorer, ablation, hide, results, progress, keep_records)
    todo = batch.leave_out_done()
    # one clip is not worth a process, unless its decoder has to be killable
    if len(clips) == 1 and scorer.media.decoder != "decord":
        for index in todo:
            batch.score_here(index)
    elif todo:
        _score_in_groups(batch, todo, options)
    if results is not None:
        results.put_in_order([clip.name for clip in clips])
    return batch.summary()


def _score_in_groups(batch: _Batch, todo: Sequence[int], options: BatchOptions) -> None:
    """Read clips in other processes, and score those that are alike in one pass."""
    waiting = _Waiting(options.batch_size)
    workers = min(options.workers, len(todo))
    with ClipReaders(batch.scorer.media, workers) as readers:
        for position, content in readers.read(
            [batch.clips[i] for i in todo], batch.hide | batch.scorer.hidden
        ):
            item = batch.prepare(todo[position], content)
            if item is not None:
                waiting.add(item)
                batch.score(waiting.ready())
    # the last clips wait for nobody
    while group := waiting.oldest():
        batch.score(group)


@dataclass(frozen=True)
class _Item:
    index: int
    prepared: Prepared


class _Waiting:
    """Prepared clips, until enough of them are alike to share a forward pass.

    Alike: the same modalities, and lengths that need little padding. When too many are held, the
    one that has waited longest goes, with those like it: so none waits for ever.
    """

    def __init__(self, batch_size: int) -> None:
        self._size = batch_size
        self._items: list[_Item] = []  # oldest first

    def add(self, item: _Item) -> None:
        """Hold one more clip."""
        self._items.append(item)

    def ready(self) -> list[_Item]:
        """A group that should be scored now, or an empty list."""
        newest = self._alike(self._items[-1])
        if len(newest) == self._size:
            return self._take(newest)
        if len(self._items) >= LOOKAHEAD * self._size:
            return self.oldest()
        return []

    def oldest(self) -> list[_Item]:
        """The clip that has waited longest and those like it; empty when none is left."""
        return self._take(self._alike(self._items[0])) if self._items else []

    def _alike(self, item: _Item) -> list[_Item]:
        length = item.prepared.num_tokens
        alike = [
            other
            for other in self._items
            if other.prepared.pattern == item.prepared.pattern
            and length / ALIKE <= other.prepared.num_tokens <= length * ALIKE
        ]
        nearest = sorted(alike, key=lambda other: abs(other.prepared.num_tokens - length))
        return nearest[: self._size]

    def _take(self, group: list[_Item]) -> list[_Item]:
        taken = {item.index for item in group}
        self._items = [item for item in self._items if item.index not in taken]
        return group


@dataclass
class _Batch:
    """One run: what is asked, and what is known so far."""

    clips: Sequence[Clip]
    scorer: Scorer
    ablation: AblationOptions
    hide: Subset
    results: Results | None
    progress: Callable[[BatchProgress], None] | None
    keep_records: bool
    records: list[Record | None] = field(default_factory=list)
    skipped: int = 0
    scored: int = 0
    failed: int = 0
    started_seconds: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.records = [None] * len(self.clips)

    def leave_out_done(self) -> list[int]:
        """The indices of the clips that the results file has no row for."""
        todo = []
        self._tell(None)
        for index, clip in enumerate(self.clips):
            if self._is_done(clip):
                self.skipped += 1
                self._tell(None)
            else:
                todo.append(index)
        self.started_seconds = time.perf_counter()  # finding them took no scoring
        return todo

    def score_here(self, index: int) -> None:
        """Read and score one clip in this process."""
        outcome = self._attempt(self.scorer.score, self.clips[index], self.ablation, self.hide)
        self._finish(index, outcome)

    def prepare(self, index: int, content: ClipContent | OmniMSAError) -> _Item | None:
        """Turn what was read into model inputs; when that is impossible, the clip ends here."""
        outcome: Prepared | Exception
        if isinstance(content, OmniMSAError):
            outcome = content
        else:
            outcome = self._attempt(self.scorer.prepare, content, self.hide)
        if isinstance(outcome, Exception):
            self._finish(index, outcome)
            return None
        return _Item(index, outcome)

    def score(self, group: Sequence[_Item]) -> None:
        """Score clips in one forward pass, or one by one when they fail together."""
        if not group:
            return
        prepared = [item.prepared for item in group]
        outcome = self._attempt(self.scorer.score_prepared, prepared, self.ablation, self.hide)
        if not isinstance(outcome, Exception):
            for item, record in zip(group, outcome, strict=True):
                self._finish(item.index, record)
        elif len(group) == 1:
            self._finish(group[0].index, outcome)
        else:
            # One bad clip, or too many for the memory: alone, only a bad one fails.
            for item in group:
                self.score([item])

    def summary(self) -> BatchSummary:
        """What became of the clips."""
        return BatchSummary(tuple(self.records), self.skipped, self.scored, self.failed)

    def _attempt(self, work: Callable[..., T], *arguments: object) -> T | Exception:
        """Do the work of some clips; what goes wrong with them must not end the others."""
        try:
            return work(*arguments)
        except OmniMSAError as error:
            return error
        except Exception as error:
            if len(self.clips) == 1:
                raise  # nobody else to protect: show the bug
            return error

    def _is_done(self, clip: Clip) -> bool:
        if self.results is None or not self.results.num_rows:
            return False  # nothing to compare with: do not read every file
        return self.results.has(clip.name, clip_sha256(clip))

    def _finish(self, index: int, outcome: Record | Exception) -> None:
        if isinstance(outcome, Exception):
            outcome = self._failure(self.clips[index], outcome)
        if self.results is not None:
            self.results.write(outcome)
        if self.keep_records:
            self.records[index] = outcome
        self.failed += outcome.error is not None
        self.scored += outcome.error is None
        self._tell(outcome)

    def _failure(self, clip: Clip, error: Exception) -> Record:
        fingerprint = self.scorer.fingerprint(self.ablation, self.hide)
        return Record(
            clip.name,
            clip_sha256(clip),
            score=None,
            model=self.scorer.describe() | {"fingerprint": fingerprint},
            error={"type": type(error).__name__, "message": _message(error)},
            label=clip.label,
            id=clip.row_id,
        )

    def _tell(self, last: Record | None) -> None:
        elapsed = time.perf_counter() - self.started_seconds
        counts = (len(self.clips), self.skipped, self.scored, self.failed)
        if self.progress is not None:
            self.progress(BatchProgress(*counts, elapsed_seconds=elapsed, last=last))


def _message(error: Exception) -> str:
    """What to tell the user; an error that we did not foresee also says where it comes from."""
    if isinstance(error, OmniMSAError):
        return str(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{error} ({Path(frame.filename).name}, line {frame.lineno})".strip()
