"""The state vectors of scored clips, kept while a batch runs: what a head sees of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from omni_msa.modalities import Subset

if TYPE_CHECKING:
    from omni_msa.methods import Reading
    from omni_msa.scoring.scorer import Prepared


class StateCollector:
    """Final-layer hidden states at the last token, of clips with all that they are shown.

    A scorer whose `state_collector` it is gives it each clip's; 4 H bytes a clip are held.
    """

    def __init__(self) -> None:
        self._rows: dict[str, tuple[np.ndarray, float]] = {}

    def add(
        self, prepared: Sequence[Prepared], subsets: Sequence[tuple[Subset, ...]], reading: Reading
    ) -> None:
        """The clips of a forward pass; nothing of a method that does not read one state a clip."""
        if reading.states is None:
            return
        for i, (item, shown) in enumerate(zip(prepared, subsets, strict=True)):
            whole = shown.index(item.inputs.present)
            state = reading.states[i, whole].float().cpu().numpy().copy()
            self._rows[item.content.clip.name] = state, float(reading.scores[i, whole])

    def table(self, names: Sequence[str]) -> tuple[list[str], np.ndarray, list[float]]:
        """Clips, states float32 [N, H] and scores of those that were scored, in this order."""
        clips = [name for name in dict.fromkeys(names) if name in self._rows]
        states = [self._rows[name][0] for name in clips]
        stacked = np.stack(states) if states else np.zeros((0, 0), dtype=np.float32)
        return clips, stacked, [self._rows[name][1] for name in clips]
