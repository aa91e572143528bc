"""What every readout is: it reads scores off the Thinker, and may be trained to.

Shapes: B clips, K subsets of each, H width of the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from omni_msa.files.labels import LabelScale
from omni_msa.modalities import Subset
from omni_msa.model.inputs import ThinkerInputs
from omni_msa.model.thinker import Thinker
from omni_msa.values import Answer


@dataclass(frozen=True)
class Reading:
    """Scores of several clips' subsets, and what was said where the readout is a sentence."""

    scores: torch.Tensor  # [B, K], in label units, within the label range; or class numbers
    answers: list[list[Answer]] | None = None  # B x K


class Readout(nn.Module):
    """A way to read a score: `READOUTS` in this package lists them all.

    Its own parameters are fp32 and outside the quantizer. The question that it needs the prompt to
    ask depends on whether the model answers in words (`speaks`).
    """

    name: ClassVar[str]
    speaks: ClassVar[bool] = False

    def __init__(self, thinker: Thinker, scale: LabelScale) -> None:
        super().__init__()
        self.scale = scale

    def read(
        self,
        thinker: Thinker,
        clips: Sequence[ThinkerInputs],
        subsets: Sequence[Sequence[Subset]],
    ) -> Reading:
        """Scores of each clip's subsets. Rows of clips with fewer of them end in nothing of use."""
        raise NotImplementedError

    def losses(
        self,
        thinker: Thinker,
        clips: Sequence[ThinkerInputs],
        subsets: Sequence[Sequence[Subset]],
        labels: torch.Tensor,
    ) -> torch.Tensor:
        """What training makes small, for labels [B, K] in label units: [B, K]."""
        raise NotImplementedError

    @classmethod
    def num_parameters(cls, width: int) -> int:
        """How many parameters it adds to a Thinker of this width, for estimates of memory."""
        return 0

    def settings(self) -> dict[str, Any]:
        """What its maker was given beside the scale, for `omni_msa.json`."""
        return {}
