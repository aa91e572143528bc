"""What a model makes of whole clips before a method reads a number off it: their last states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from omni_msa.errors import ConfigError, OmniMSAError
from omni_msa.media.feed import Feed
from omni_msa.modalities import Subset
from omni_msa.model.inputs import ThinkerInputs
from omni_msa.model.memory import in_passes
from omni_msa.scoring.scorer import Scorer

BATCH = 8


class LastStates(NamedTuple):
    """Of N whole clips, on the CPU in fp32."""

    states: torch.Tensor  # [N, H] at the last token
    labels: torch.Tensor  # [N]
    shown: list[Subset]


@torch.inference_mode()
def last_states(
    model: Scorer,
    feed: Feed,
    hide: Subset = frozenset(),
    progress: Callable[[int, str | None], None] = lambda *_: None,
) -> LastStates:
    """Those of whole clips; clips that cannot be read are left out.

    Raises:
        ConfigError: the method looks at features, and not at the Thinker's states.
    """
    if model.method.features is not None:
        raise ConfigError(
            f"{model.name} looks at features: it has no states of the Thinker to read; take a "
            "readout's checkpoint (regression, verbalizer, probe, generative)"
        )
    states: list[torch.Tensor] = []
    labels: list[float] = []
    shown: list[Subset] = []
    batch: list[Any] = []  # of the Thinker

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
            shown.append(batch[-1].present)
            progress(i + 1, None)
        except OmniMSAError as error:
            progress(i + 1, str(error))
        if len(batch) == BATCH or (batch and i + 1 == len(order)):
            states += in_passes(states_of, batch, BATCH)
            batch = []
    width = model.thinker.width
    whole = torch.cat(states) if states else torch.zeros(0, width)
    return LastStates(whole, torch.tensor(labels), shown)
