"""A scorer that is known and not loaded yet: much can be answered without the model."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from omni_msa.files.record import Record
from omni_msa.media import read_clip
from omni_msa.modalities import Subset
from omni_msa.options import AblationOptions, MediaOptions
from omni_msa.scoring.identity import ScorerIdentity
from omni_msa.values import Clip, ClipContent

if TYPE_CHECKING:
    from omni_msa.scoring.scorer import Prepared, Scorer


class DeferredScorer:
    """What a batch asks of a scorer; the model is loaded when the first clip needs it.

    Args:
        identity: what the scorer will be.
        load: loads it.
    """

    def __init__(self, identity: ScorerIdentity, load: Callable[[], Scorer]) -> None:
        self.identity = identity
        self._load = load
        self._scorer: Scorer | None = None

    def loaded(self) -> Scorer:
        """The scorer itself.

        Raises:
            ModelError: it cannot be loaded.
        """
        if self._scorer is None:
            self._scorer = self._load()
        return self._scorer

    @property
    def media(self) -> MediaOptions:
        """How clips are read."""
        return self.identity.media

    @property
    def hidden(self) -> Subset:
        """Modalities that are never shown."""
        return self.identity.hidden

    def describe(self) -> dict[str, Any]:
        """The `model` object of a record, without its fingerprint."""
        return self.identity.describe()

    def fingerprint(self, ablation: AblationOptions, hide: Subset = frozenset()) -> str:
        """That of the rows that it will give."""
        return self.identity.fingerprint(ablation, hide)

    def score(self, clip: Clip, ablation: AblationOptions, hide: Subset) -> Record:
        """Reads and scores one clip; reading alone says of a missing file what is wrong."""
        if clip.path is not None and not os.path.exists(clip.path):
            read_clip(clip, self.media, hide | self.hidden)
        return self.loaded().score(clip, ablation, hide)

    def prepare(self, content: ClipContent, hide: Subset = frozenset()) -> Prepared:
        """The CPU work before the forward pass."""
        return self.loaded().prepare(content, hide)

    def score_prepared(self, group: Any, ablation: AblationOptions, hide: Subset) -> list[Record]:
        """One forward pass over all clips of a group."""
        return self.loaded().score_prepared(group, ablation, hide)
