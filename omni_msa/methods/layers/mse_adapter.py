"""The neural modules of MSE-Adapter (arXiv 2502.12478, AAAI 2025): features become pseudo tokens.

Audio and video features are summed up by an LSTM each, weighted by the text (Text-Guide-Mixer),
passed through bottlenecks of three sizes (multi-scale fusion) and projected to pseudo tokens, which
stand among the input embeddings of a frozen language model. Shapes, order and names of the parts
are those of the official implementation; its trainable parameters are counted to the last
digit. What is ours says so: rows with missing modalities, `text_mean="masked"`,
`pseudo_tokens_rank="full"`, the narrowest width, and that autocast is off inside.

Shapes: R rows, L positions, D width of a modality's features, S width of its sequence model,
C common width, H width of the language model, P pseudo tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from omni_msa.errors import ConfigError, check_choice
from omni_msa.methods.layers.bissm import MeanBiSsmState

BOTTLENECKS = (8, 32, 16)  # H is divided by these, in the order of the official implementation
TEXT_MEANS = ("padded", "masked")


class LastLstmState(nn.Module):
    """The last hidden state of a single-layer, unidirectional LSTM (official implementation)."""

    def __init__(self, input_width: int, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(input_width, width, batch_first=True)

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Features [R, L, D] padded on the right, lengths [R] of 1 or more, on a CPU -> [R, S]."""
        packed = pack_padded_sequence(features, lengths, batch_first=True, enforce_sorted=False)
        _, (hidden, _) = self.lstm(packed)  # [1, R, S], rows in their own order
        return hidden.squeeze(0)


# What sums a sequence up: made of (D, S); features and lengths -> [R, S]. "bissm" is ours.
SEQUENCE_MODELS: dict[str, type[nn.Module]] = {"lstm": LastLstmState, "bissm": MeanBiSsmState}


class SequenceEncoder(nn.Module):
    """Sequence model, dropout, Linear S -> C: a vector for a modality (official implementation).

    A modality that a row lacks has a zero vector, not the bias of the output map (ours: there,
    every row has every modality).
    """

    def __init__(self, input_width: int, width: int, shape: AdapterShape) -> None:
        super().__init__()
        self.sequence_model = SEQUENCE_MODELS[shape.sequence_model](input_width, width)
        self.dropout = nn.Dropout(shape.dropout)
        self.output_map = nn.Linear(width, shape.common_width)

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Features [R, L, D], mask [R, L] of what is no padding -> [R, C].

        Raises:
            ValueError: a row is padded elsewhere than on the right.
        """
        mask = mask.cpu()
        if (mask[:, 1:] & ~mask[:, :-1]).any():
            raise ValueError("features must be padded on the right; a mask has padding before them")
        lengths = mask.sum(1)
        present = lengths.nonzero().squeeze(1)
        vectors = features.new_zeros(len(features), self.output_map.out_features)
        if len(present) == 0:
            return vectors
        rows = present.to(features.device)
        states = self.sequence_model(features[rows], lengths[present])
        return vectors.index_copy(0, rows, self.output_map(self.dropout(states)))


class TextGuideMixer(nn.Module):
    """Each modality's vector times that of the text, and their sum: f = a * k + v * k.

    One text map, k = W t + b of the mean embedding t, serves all modalities; there is no LayerNorm
    and no softmax (official implementation). That counts the padding among the text, which
    `text_mean="masked"` leaves out (ours). A row without text has t = 0, so that k is the bias and
    the other modalities still count (ours).
    """

    def __init__(self, width: int, shape: AdapterShape) -> None:
        super().__init__()
        self.counts_padding = shape.text_mean == "padded"
        self.text_map = nn.Linear(width, shape.common_width)

    def forward(
        self, text: torch.Tensor, text_mask: torch.Tensor, vectors: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """Text [R, L, H], its mask [R, L], a vector [R, C] for each other modality -> [R, C]."""
        key = self.text_map(self.mean(text, text_mask))
        return (torch.stack(list(vectors)) * key).sum(0)

    def mean(self, text: torch.Tensor, text_mask: torch.Tensor) -> torch.Tensor:
        """The mean embedding t: [R, L, H], [R, L] -> [R, H]."""
        is_counted = text_mask
        if self.counts_padding:
            is_counted = text_mask.any(1, keepdim=True).expand_as(text_mask)
        total = text.masked_fill(~is_counted[..., None], 0.0).sum(1)
        return total / is_counted.sum(1, keepdim=True).clamp(min=1)


class MultiScaleFusion(nn.Module):
    """Three bottlenecks C -> H/8, H/32, H/16 -> C with GELU, weighted by one convolution over them.

    Its kernel (1, 3) is three weights and a bias for all C numbers (official implementation).
    """

    def __init__(self, width: int, common_width: int) -> None:
        super().__init__()
        self.bottlenecks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(common_width, width // divisor),
                nn.GELU(),
                nn.Linear(width // divisor, common_width),
            )
            for divisor in BOTTLENECKS
        )
        self.convolution = nn.Conv2d(1, 1, (1, len(BOTTLENECKS)))

    def forward(self, mixture: torch.Tensor) -> torch.Tensor:
        """[R, C] -> [R, C]."""
        scales = torch.stack([bottleneck(mixture) for bottleneck in self.bottlenecks], dim=2)
        return self.convolution(scales[:, None]).squeeze(3).squeeze(1)  # [R, 1, C, 3] before


class RankTwoProjector(nn.Module):
    """Linear C -> H, then Linear 1 -> P on each number: token p = w_p * u + c_p.

    So all tokens of a row are one vector, scaled and shifted (official implementation).
    """

    def __init__(self, common_width: int, width: int, pseudo_tokens: int) -> None:
        super().__init__()
        self.vector = nn.Linear(common_width, width)
        self.scale_and_shift = nn.Linear(1, pseudo_tokens)

    def forward(self, fusion: torch.Tensor) -> torch.Tensor:
        """[R, C] -> [R, P, H]."""
        return self.scale_and_shift(self.vector(fusion)[..., None]).transpose(1, 2)


class FullProjector(nn.Module):
    """Linear C -> H for each token, so that they need not be alike (ours)."""

    def __init__(self, common_width: int, width: int, pseudo_tokens: int) -> None:
        super().__init__()
        self.vectors = nn.Linear(common_width, pseudo_tokens * width)
        self.pseudo_tokens = pseudo_tokens

    def forward(self, fusion: torch.Tensor) -> torch.Tensor:
        """[R, C] -> [R, P, H]."""
        return self.vectors(fusion).unflatten(1, (self.pseudo_tokens, -1))


# By the rank of a row's pseudo tokens; made of (C, H, P).
PROJECTORS: dict[str, type[nn.Module]] = {"two": RankTwoProjector, "full": FullProjector}


@dataclass(frozen=True)
class AdapterShape:
    """What may be chosen of the modules. The defaults are the official implementation's, as it is
    set for MOSEI; P and the sequence models' widths differ from data set to data set there."""

    pseudo_tokens: int = 4  # P
    sequence_model: str = "lstm"  # a key of SEQUENCE_MODELS
    # S of each modality that is not text
    sequence_widths: Mapping[str, int] = field(default_factory=lambda: {"audio": 64, "video": 32})
    common_width: int = 256  # C
    text_mean: str = "padded"  # padding counts in the mean; "masked" (ours): it does not
    pseudo_tokens_rank: str = "two"  # a key of PROJECTORS; "full" is ours
    dropout: float = 0.0  # between sequence model and output map

    def __post_init__(self) -> None:
        check_choice("sequence_model", self.sequence_model, SEQUENCE_MODELS)
        check_choice("text_mean", self.text_mean, TEXT_MEANS)
        check_choice("pseudo_tokens_rank", self.pseudo_tokens_rank, PROJECTORS)
        sizes = {"pseudo_tokens": self.pseudo_tokens, "common_width": self.common_width}
        sizes |= {f"sequence width of {name}": size for name, size in self.sequence_widths.items()}
        for name, size in sizes.items():
            if size < 1:
                raise ConfigError(f"{name} must be 1 or more, got {size}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout of the adapter must lie in [0, 1), got {self.dropout}")


class MseAdapter(nn.Module):
    """Text embeddings and the other modalities' features -> pseudo tokens for the language model.

    It reckons in the type of its parameters (fp32 unless it is converted), whatever type the inputs
    have and whether autocast is on or not (ours; the official implementation is left to autocast).
    On a GPU, torch by default lets cuDNN round the inputs of the LSTM and the convolution to TF32
    (`torch.backends.cudnn.allow_tf32`); this is left as it is set.
    """

    def __init__(
        self, width: int, feature_widths: Mapping[str, int], shape: AdapterShape | None = None
    ) -> None:
        """
        Args:
            width: H of the language model.
            feature_widths: D of each modality that is not text.
            shape: what else may be chosen.

        Raises:
            ConfigError: the language model is too narrow for the bottlenecks, there are no
                features, or a modality has no width in the shape.
        """
        super().__init__()
        shape = shape or AdapterShape()
        if width < max(BOTTLENECKS):
            raise ConfigError(
                f"the language model is {width} wide; MSE-Adapter needs {max(BOTTLENECKS)} or more"
            )
        if not feature_widths:
            raise ConfigError("MSE-Adapter needs features of one modality or more beside the text")
        for name in feature_widths:
            check_choice("sequence_widths: modality", name, shape.sequence_widths)
        self.encoders = nn.ModuleDict(
            {
                name: SequenceEncoder(feature_width, shape.sequence_widths[name], shape)
                for name, feature_width in feature_widths.items()
            }
        )
        self.mixer = TextGuideMixer(width, shape)
        self.fusion = MultiScaleFusion(width, shape.common_width)
        project = PROJECTORS[shape.pseudo_tokens_rank]
        self.projector = project(shape.common_width, width, shape.pseudo_tokens)

    def forward(
        self,
        text: torch.Tensor,
        text_mask: torch.Tensor,
        features: Mapping[str, torch.Tensor],
        masks: Mapping[str, torch.Tensor],
        clips: torch.Tensor | None = None,
        shown: Mapping[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Pseudo tokens of each row, [R, P, H].

        A modality whose mask is empty in a row is missing there and adds nothing. What stands in
        padded features, and how many there are, does not matter. The padding of the text does, as
        in the official implementation, unless `text_mean` is "masked": rows that are to be compared
        need the same padded length and the same embedding in it.

        Args:
            text: embeddings [R, L, H], those of padding included.
            text_mask: [R, L] bool, true where there is no padding, on whichever side that is.
            features: [R, L, D] of each modality that is not text, padded on the right.
            masks: [R, L] bool of each of these.
            clips: where rows share clips: the clip of each row [R], of B whose features and masks
                are given; each of these is encoded once.
            shown: with `clips`, whether a row shows a modality: [R] bool of each.
        """
        dtype = self.mixer.text_map.weight.dtype
        with torch.autocast(text.device.type, enabled=False):
            vectors = [
                encoder(features[name].to(dtype), masks[name])
                for name, encoder in self.encoders.items()
            ]
            if clips is not None and shown is not None:
                rows = clips.to(text.device)
                is_shown = [shown[name].to(text.device)[:, None] for name in self.encoders]
                vectors = [v[rows] * flag for v, flag in zip(vectors, is_shown, strict=True)]
            return self.projector(self.fusion(self.mixer(text.to(dtype), text_mask, vectors)))
