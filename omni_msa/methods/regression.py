"""A regression head on the last hidden state, as arXiv 2606.05713 has one: one pass, no decoding.

Its shape and the loss, L1 on z-scored labels, are those of a third-party transcription of the paper
(docs/provenance.md). `linear` is our own, plainer head. Over classes the last layer has an output a
class, and the loss is the cross-entropy; emotions beside the score have one each (ours).

With `ecg`, what an encoder makes of a heart record is added to the state before the head (ours): a
clip is read by the language model once, and a clip without a record is scored as if there were no
encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from omni_msa.errors import ConfigError, check_choice
from omni_msa.files.labels import LabelSpace
from omni_msa.media.record_files import LEADS
from omni_msa.methods.heads import head_losses, reading_of
from omni_msa.methods.layers.ecg import EcgEncoder
from omni_msa.methods.method import Labels, Method, Reading, TrainedBy, in_weights
from omni_msa.modalities import Subset, tokens
from omni_msa.model.inputs import ThinkerInputs
from omni_msa.model.thinker import Thinker

HEAD_WIDTH = 256
HEAD_DROPOUT = 0.2
ECG_WIDTH, ECG_BLOCKS = 32, 2  # of the encoder of heart records


def mlp_head(width: int, dropout: float = HEAD_DROPOUT, outputs: int = 1) -> nn.Sequential:
    """Linear H -> 256, LayerNorm, ReLU, Dropout 0.2, Linear 256 -> 1 (by the transcription)."""
    return nn.Sequential(
        nn.Linear(width, HEAD_WIDTH),
        nn.LayerNorm(HEAD_WIDTH),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(HEAD_WIDTH, outputs),
    )


def linear_head(width: int, dropout: float = HEAD_DROPOUT, outputs: int = 1) -> nn.Module:
    """Dropout, Linear H -> 1 (ours)."""
    return nn.Sequential(nn.Dropout(dropout), nn.Linear(width, outputs))


HEADS: dict[str, Callable[[int, float, int], nn.Module]] = {"mlp": mlp_head, "linear": linear_head}


@dataclass(frozen=True)
class RegressionOptions:
    """Of the head."""

    head: str = in_weights("mlp")  # a key of HEADS
    dropout: float = in_weights(HEAD_DROPOUT)
    ecg: bool = in_weights(False)  # whether heart records are looked at

    def __post_init__(self) -> None:
        check_choice("head", self.head, HEADS)
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout of the head must lie in [0, 1), got {self.dropout}")


class HeartState(nn.Module):
    """Heart records as vectors in the space of the Thinker's states; at first they are zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder = EcgEncoder(ECG_WIDTH, ECG_BLOCKS)
        self.out = nn.Linear(ECG_WIDTH, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, records: Sequence[torch.Tensor | None]) -> torch.Tensor:
        """Leads [S, 12] of B clips, None of one without -> [B, H]."""
        device = self.out.weight.device
        rows = [leads if leads is not None else torch.zeros(0, len(LEADS)) for leads in records]
        lengths = torch.tensor([len(leads) for leads in rows], device=device)
        values = pad_sequence(rows, batch_first=True).to(device)
        mask = torch.arange(values.shape[1], device=device) < lengths[:, None]
        return self.out(self.encoder(values, mask))


class Regression(Method):
    """Head outputs are z-scores of the training labels, or logits of classes or emotions."""

    name = "regression"
    Options = RegressionOptions
    trained_by = TrainedBy.GRADIENTS

    def __init__(
        self, thinker: Thinker, label_space: LabelSpace, options: RegressionOptions
    ) -> None:
        super().__init__(thinker, label_space, options)
        make_head = HEADS[options.head]
        self.layers = make_head(thinker.width, options.dropout, label_space.num_outputs)
        self.heart = HeartState(thinker.width) if options.ecg else None

    @classmethod
    def modalities(cls, options: RegressionOptions) -> Subset:
        return tokens() | ({"ecg"} if options.ecg else frozenset())

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden states [..., H] -> outputs [..., O] (`LabelSpace.num_outputs`), in fp32."""
        with torch.autocast(hidden.device.type, enabled=False):
            outputs: torch.Tensor = self.layers(hidden.float())
        return outputs

    def add_heart(
        self,
        hidden: torch.Tensor,
        clips: Sequence[ThinkerInputs],
        subsets: Sequence[Sequence[Subset]],
    ) -> torch.Tensor:
        """Last states [B, K, H], and what the heart adds where it is shown: what the head reads."""
        if self.heart is None or not any("ecg" in clip.features for clip in clips):
            return hidden
        shown = [torch.tensor(["ecg" in subset for subset in row]) for row in subsets]
        is_shown = pad_sequence(shown, batch_first=True).to(hidden.device)  # [B, K]
        with torch.autocast(hidden.device.type, enabled=False):
            added = self.heart([clip.features.get("ecg") for clip in clips])  # [B, H]
        return hidden.float() + added[:, None].where(is_shown[..., None], 0.0)

    def read(
        self,
        thinker: Thinker,
        clips: Sequence[ThinkerInputs],
        subsets: Sequence[Sequence[Subset]],
    ) -> Reading:
        hidden = thinker.forward(thinker.batch(clips, subsets))  # [B, K, H]
        hidden = self.add_heart(hidden, clips, subsets)
        return reading_of(self.label_space, self(hidden), hidden)

    def losses(
        self,
        thinker: Thinker,
        clips: Sequence[ThinkerInputs],
        subsets: Sequence[Sequence[Subset]],
        labels: Labels,
    ) -> torch.Tensor:
        hidden = thinker.forward(thinker.batch(clips, subsets))  # [B, K, H]
        hidden = self.add_heart(hidden, clips, subsets)
        return head_losses(self.label_space, self(hidden), labels)

    @classmethod
    def num_parameters(cls, width: int, options: RegressionOptions, label_space: LabelSpace) -> int:
        with torch.device("meta"):
            parts = [HEADS[options.head](width, options.dropout, label_space.num_outputs)]
            parts += [HeartState(width)] if options.ecg else []
        return sum(parameter.numel() for part in parts for parameter in part.parameters())
