"""ECGMamba (arXiv 2406.10098): heart records classified by a bidirectional state-space model.

Its text was not available beyond the abstract: layers, sizes, loss and recipe are ours
(`layers/ecg.py`), and none of its figures are. Findings are told apart each for itself, by binary
cross-entropy. The base is not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from omni_msa.errors import ConfigError
from omni_msa.files.labels import LabelSpace
from omni_msa.methods.feature_method import FeatureMethod, Rows
from omni_msa.methods.layers.ecg import EcgEncoder
from omni_msa.methods.method import in_weights
from omni_msa.modalities import Subset
from omni_msa.model.features import Sequences
from omni_msa.model.thinker import Thinker
from omni_msa.options import TASKS

ECG = frozenset({"ecg"})


@dataclass(frozen=True)
class EcgMambaOptions:
    """Of the layers."""

    width: int = in_weights(128)
    blocks: int = in_weights(4)
    dropout: float = in_weights(0.2)  # before the last layer

    def __post_init__(self) -> None:
        if self.width < 2 or self.width % 2 or self.blocks < 1:
            raise ConfigError(
                f"width is even and blocks are 1 or more, got {self.width} and {self.blocks}"
            )
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must lie in [0, 1), got {self.dropout}")


class EcgMamba(FeatureMethod):
    """The mean of the encoder's states, and a linear layer."""

    name = "ecg-mamba"
    Options = EcgMambaOptions
    tasks = frozenset(TASKS)
    recipe = {
        "epochs": 40,
        "patience": 8,
        "batch_size": 32,
        "head_learning_rate": 1e-3,
        "subsets": "full",
    }

    def __init__(self, thinker: Thinker, label_space: LabelSpace, options: EcgMambaOptions) -> None:
        super().__init__(thinker, label_space, options)
        self.encoder = EcgEncoder(options.width, options.blocks)
        self.dropout = nn.Dropout(options.dropout)
        self.head = nn.Linear(options.width, label_space.num_outputs)

    @classmethod
    def modalities(cls, options: EcgMambaOptions) -> Subset:
        return ECG

    @classmethod
    def replaceable(cls, options: EcgMambaOptions) -> Subset:
        return frozenset()

    @classmethod
    def num_parameters(cls, width: int, options: EcgMambaOptions, label_space: LabelSpace) -> int:
        with torch.device("meta"):
            encoder = EcgEncoder(options.width, options.blocks)
        head = (options.width + 1) * label_space.num_outputs
        return sum(p.numel() for p in encoder.parameters()) + head

    def forward(self, clips: Sequences, rows: Rows) -> torch.Tensor:
        shown = rows.show(clips)
        state = self.encoder(shown.values["ecg"], shown.masks["ecg"])
        return self.head(self.dropout(state))
