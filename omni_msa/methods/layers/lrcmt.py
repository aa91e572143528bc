"""The cross-modal network of LRCMT (Sun, Che and Gao, Computer Engineering & Science 46(10), 2024).

Only its abstract was available. It says: a language model stays frozen, with low-rank
matrices in each of its layers; voice and face interact with each other first, and the result with
the text; about 0.76 % of all parameters are trained.

OURS, because nothing about it was found: everything else, that is the common width, sinusoidal
positions, the cross block and its sizes, what the two stages give to the output, the output layers,
and the other orders. No number of the paper is claimed for it. At feature widths 768, 74 and 35
these layers have 264,577 parameters; with LoRA of rank 8 on query, key, value and attention output
of BERT-base (589,824) they are 0.774 % of all. That is near the abstract's 0.76 %, which cannot
identify its configuration: nor was it found whether the figure counts the cross-modal layers.

Shapes: R rows (one clip with one subset of its modalities each), L steps, D width, O outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from omni_msa.errors import ConfigError, check_choice
from omni_msa.methods.layers.masking import (
    CrossAttention,
    clean_inputs,
    masked_mean,
    sinusoidal_positions,
    zero_padding,
)

FEED_FORWARD = 4  # times the width

# Which sequences interact first: CB(Q, K) is a cross block, [;] puts sequences one after another.
ORDERS = {
    "voice-face-first": "A' = CB(A, V), V' = CB(V, A), S = [A'; V'], T' = CB(T, S), S' = CB(S, T)",
    "none": "S = [A; V], T' = CB(T, S), S' = CB(S, T): no first stage",
    "text-first": "A' = CB(A, T), V' = CB(V, T), S' = [CB(A', V'); CB(V', A')], T' = T",
}
# What stands for the text: the token that a bidirectional encoder puts in front, or the last one,
# which alone has seen the others in a causal language model.
SUMMARIES = ("first", "last")


@dataclass(frozen=True)
class LrcmtShape:
    """Choices that fix the layers; all are ours, but for the default order."""

    width: int = 64  # D, common to the modalities
    heads: int = 4
    order: str = "voice-face-first"  # a key of ORDERS
    summary: str = "first"  # one of SUMMARIES

    def __post_init__(self) -> None:
        check_choice("order", self.order, ORDERS)
        check_choice("summary", self.summary, SUMMARIES)
        if self.width < 1 or self.heads < 1 or self.width % self.heads:
            raise ConfigError(
                f"width must be a multiple of heads, got {self.width} and {self.heads}"
            )


class CrossBlock(nn.Module):
    """CB(Q, K): LN(Q + MHA(Q, K, K)), then LN(. + FFN(.)), whose FFN is D -> 4 D, ReLU, -> D."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = CrossAttention(width, heads)
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, FEED_FORWARD * width),
            nn.ReLU(),
            nn.Linear(FEED_FORWARD * width, width),
        )
        self.norm = nn.LayerNorm(width)

    def forward(
        self, queries: torch.Tensor, keys: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Queries [R, Q, D] that have read keys [R, L, D]: [R, Q, D].

        Args:
            mask: of the keys [R, L].
        """
        values = self.attention_norm(queries + self.attention(queries, keys, mask))
        return self.norm(values + self.feed_forward(values))


class Lrcmt(nn.Module):
    """Sequences of text, audio and video become O numbers.

    Args:
        feature_widths: of "text", "audio" and "video".
        outputs: O.

    Raises:
        ConfigError: other modalities than these three.
    """

    def __init__(
        self, feature_widths: Mapping[str, int], outputs: int, shape: LrcmtShape | None = None
    ) -> None:
        super().__init__()
        self.shape = shape = shape or LrcmtShape()
        if set(feature_widths) != {"text", "audio", "video"}:
            raise ConfigError(f"LRCMT takes text, audio and video, got {', '.join(feature_widths)}")
        width = shape.width
        self.projections = nn.ModuleDict(
            {name: nn.Linear(own, width) for name, own in feature_widths.items()}
        )
        num_first = 0 if shape.order == "none" else 2
        self.first = nn.ModuleList(CrossBlock(width, shape.heads) for _ in range(num_first))
        self.second = nn.ModuleList(CrossBlock(width, shape.heads) for _ in range(2))
        self.head = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, outputs))

    def forward(
        self, values: Mapping[str, torch.Tensor], masks: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Values [R, L, D_m] and masks [R, L] by modality: [R, O], in the weights' precision."""
        device = next(self.parameters()).device
        with torch.autocast(device.type, enabled=False):
            return self._forward(values, masks)

    def _forward(
        self, values: Mapping[str, torch.Tensor], masks: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        dtype = next(self.parameters()).dtype
        values, masks = clean_inputs(values, masks, self.projections, dtype)
        text, audio, video = (self._project(name, values) for name in ("text", "audio", "video"))
        text_mask, audio_mask, video_mask = masks["text"], masks["audio"], masks["video"]
        mask = torch.cat([audio_mask, video_mask], dim=1)  # of S
        if self.shape.order == "text-first":
            audio = self.first[0](audio, text, text_mask)
            video = self.first[1](video, text, text_mask)
            audio, video = self._interact(self.second, audio, audio_mask, video, video_mask)
            joint = torch.cat([audio, video], dim=1)
        else:
            if self.shape.order == "voice-face-first":
                audio, video = self._interact(self.first, audio, audio_mask, video, video_mask)
            joint = torch.cat([audio, video], dim=1)
            text, joint = self._interact(self.second, text, text_mask, joint, mask)
        parts = [self._summary(text, text_mask), masked_mean(joint, mask)]
        return self.head(torch.cat(parts, dim=-1))

    def _project(self, name: str, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
        projection = self.projections[name](values[name])  # [R, L, D]
        return projection + sinusoidal_positions(*projection.shape[1:]).to(projection)

    @staticmethod
    def _interact(
        blocks: nn.ModuleList,
        one: torch.Tensor,
        one_mask: torch.Tensor,
        other: torch.Tensor,
        other_mask: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Each of two sequences reads the other as it was before."""
        return blocks[0](one, other, other_mask), blocks[1](other, one, one_mask)

    def _summary(self, text: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The first or the last valid step of the text [R, L, D]: [R, D], zero without any."""
        step = torch.zeros_like(mask[:, 0], dtype=torch.long)
        if self.shape.summary == "last":
            step = (mask.sum(dim=1) - 1).clamp(min=0)
        rows = torch.arange(len(text), device=text.device)
        return zero_padding(text, mask)[rows, step]
