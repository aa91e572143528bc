"""Guarded scoring: whatever goes wrong with a clip, it ends as exactly one record.

The one place where an exception becomes a failed row; local batches stand on it, and so can
anything else that must go on after a bad clip.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from omni_msa.errors import OmniMSAError
from omni_msa.files.record import Record
from omni_msa.foreign import printable
from omni_msa.media.identity import clip_sha256
from omni_msa.modalities import Subset
from omni_msa.options import AblationOptions
from omni_msa.values import Clip, ClipContent

if TYPE_CHECKING:
    from omni_msa.scoring.deferred import DeferredScorer
    from omni_msa.scoring.scorer import Prepared, Scorer

logger = logging.getLogger(__name__)


class GuardedScorer:
    """A scorer that answers with records alone.

    Args:
        scorer: the model.
        ablation: which subsets are scored beside the clip itself.
        hide: modalities that are never shown to the model.
        lets_bugs_through: an error that nobody foresaw is raised, where there is no other clip to
            protect from it.
    """

    def __init__(
        self,
        scorer: Scorer | DeferredScorer,
        ablation: AblationOptions,
        hide: Subset = frozenset(),
        lets_bugs_through: bool = False,
    ) -> None:
        self.scorer = scorer
        self.ablation = ablation
        self.hide = hide
        self._lets_bugs_through = lets_bugs_through

    def score(self, clip: Clip) -> Record:
        """Reads and scores one clip in this process."""
        with self._catching() as errors:
            return self.scorer.score(clip, self.ablation, self.hide)
        return self.failed_record(clip, errors[0])

    def prepare(self, clip: Clip, content: ClipContent | OmniMSAError) -> Prepared | Record:
        """What was read as model inputs; a failed record where that is impossible."""
        if isinstance(content, OmniMSAError):
            return self.failed_record(clip, content)
        with self._catching() as errors:
            return self.scorer.prepare(content, self.hide)
        return self.failed_record(clip, errors[0])

    def score_prepared(self, group: Sequence[Prepared]) -> list[Record]:
        """One forward pass for all; where that fails, one each, so that only a bad clip fails."""
        with self._catching() as errors:
            return self.scorer.score_prepared(group, self.ablation, self.hide)
        if len(group) == 1:
            return [self.failed_record(group[0].content.clip, errors[0])]
        return [record for prepared in group for record in self.score_prepared([prepared])]

    def failed_record(self, clip: Clip, error: Exception) -> Record:
        """The row of a clip that could not be scored, and why."""
        reason = printable(f"{clip.name}: {_message(error)}")
        logger.warning("clip failed (%s): %s", _code(error), reason)
        fingerprint = self.scorer.fingerprint(self.ablation, self.hide)
        return Record.of(
            clip,
            clip_sha256(clip),
            score=None,
            model=self.scorer.describe() | {"fingerprint": fingerprint},
            error={
                "type": type(error).__name__,
                "code": _code(error),
                "message": _message(error),
            },
        )

    @contextmanager
    def _catching(self) -> Iterator[list[Exception]]:
        """Keeps the error of what is done inside, which then ends there."""
        errors: list[Exception] = []
        try:
            yield errors
        except OmniMSAError as error:
            errors.append(error)
        except Exception as error:
            if self._lets_bugs_through:
                raise
            errors.append(error)


def _code(error: Exception) -> str:
    """A key of `ERROR_CODES`."""
    if isinstance(error, OmniMSAError):
        return error.code
    from omni_msa.model.memory import is_out_of_memory

    return "memory" if is_out_of_memory(error) else OmniMSAError.code


def _message(error: Exception) -> str:
    """What to tell the user; an error that nobody foresaw also says where it comes from."""
    if isinstance(error, OmniMSAError):
        return str(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{error} ({Path(frame.filename).name}, line {frame.lineno})".strip()
