"""What a model makes of whole clips before a method reads a number off it: their last states."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from omni_msa.errors import OmniMSAError
from omni_msa.media.feed import Feed
from omni_msa.modalities import Subset
from omni_msa.model.inputs import ThinkerInputs
from omni_msa.model.memory import in_passes
from omni_msa.scoring.scorer import Scorer

BATCH = 8


@torch.inference_mode()
def last_states(
    model: Scorer,
    feed: Feed,
    hide: Subset = frozenset(),
    progress: Callable[[int, str | None], None] = lambda *_: None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states [N, H] at the last token of whole clips, and labels [N], on the CPU in fp32."""
    states: list[torch.Tensor] = []
    labels: list[float] = []
    batch: list[ThinkerInputs] = []

    def states_of(part: Sequence[ThinkerInputs]) -> torch.Tensor:
        subsets = [(inputs.present,) for inputs in part]
        return model.thinker.forward(model.thinker.batch(part, subsets))[:, 0].float().cpu()

    order: Sequence[int] = range(len(feed.clips))
    for i, content in zip(order, feed.read(order), strict=True):
        try:
            if isinstance(content, OmniMSAError):
                raise content
            batch.append(model.prepare(content, hide).inputs)
            labels.append(float(feed.clips[i].label or 0.0))
            progress(i + 1, None)
        except OmniMSAError as error:
            progress(i + 1, str(error))
        if len(batch) == BATCH or (batch and i + 1 == len(order)):
            states += in_passes(states_of, batch, BATCH)
            batch = []
    width = model.thinker.width
    return torch.cat(states) if states else torch.zeros(0, width), torch.tensor(labels)
