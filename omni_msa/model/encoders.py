"""One row a modality: how its part becomes tokens, and which tower fills them in.

The order of the table is the order of the prompt: general to specific, because each modality is a
branch of the token tree (see `packing.py`). Shapes: P patches, M mel frames, H width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from omni_msa.options import MediaOptions
from omni_msa.values import Frames, Transcript, Waveform

if TYPE_CHECKING:
    from omni_msa.model.inputs import InputBuilder, Segment
    from omni_msa.model.thinker import Thinker


@dataclass(frozen=True)
class Encoded:
    """A part as the model is given it: its tokens, what its tower is given, and warnings."""

    segment: Segment
    features: Any = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Encoder:
    """How a modality is shown to the Thinker.

    `embed` turns the features of several clips into embeddings [tokens, H] a clip, in one call of
    its tower; they take the places of the tokens that the configuration calls `placeholder`. A
    modality without a tower is its tokens alone.
    """

    encode: Callable[[InputBuilder, Any, MediaOptions], Encoded]
    embed: Callable[[Thinker, Sequence[Any]], Sequence[torch.Tensor]] | None = None
    placeholder: str = ""


@dataclass(frozen=True)
class Patches:
    """Normalised patches [P, 1176] and their grid (time, height, width)."""

    pixels: torch.Tensor
    grid_thw: tuple[int, int, int]


def encode_video(builder: InputBuilder, frames: Frames, options: MediaOptions) -> Encoded:
    """Frames -> two of them a grid step, placed by this clip's own seconds."""
    patches = builder.patches(frames)
    segment = builder.video_segment(patches.grid_thw, 2 * frames.seconds_per_frame)
    return Encoded(segment, patches)


def encode_audio(builder: InputBuilder, sound: Waveform, options: MediaOptions) -> Encoded:
    """Sound -> log-mel [128, M] at its true length."""
    mel = builder.log_mel(sound)
    return Encoded(builder.audio_segment(mel.shape[1]), mel)


def encode_text(builder: InputBuilder, words: Transcript, options: MediaOptions) -> Encoded:
    """Words -> tokens, cut at `max_text_tokens` with a warning."""
    segment, warnings = builder.text_segment(words.text, options.max_text_tokens)
    return Encoded(segment, warnings=tuple(warnings))


def see(thinker: Thinker, patches: Sequence[Patches]) -> Sequence[torch.Tensor]:
    """Vision tower, all clips in one call: [tokens, H] a clip."""
    pixels = torch.cat([p.pixels for p in patches]).to(thinker.device)
    grids = torch.tensor([p.grid_thw for p in patches], device=thinker.device)
    return thinker.core.model.get_video_features(pixels, grids, return_dict=True).pooler_output


def hear(thinker: Thinker, mels: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
    """Audio tower, all clips in one call: [tokens, H] a clip."""
    lengths = torch.tensor([m.shape[1] for m in mels], device=thinker.device)
    tower = thinker.core.model.audio_tower
    after_conv, num_tokens = tower._get_feat_extract_output_lengths(lengths)
    heard = tower(
        torch.cat(list(mels), dim=1).to(thinker.device),
        feature_lens=lengths,
        aftercnn_lens=after_conv,
    ).last_hidden_state
    return heard.split(num_tokens.tolist())


ENCODERS: dict[str, Encoder] = {
    "video": Encoder(encode_video, see, "video_token_id"),
    "audio": Encoder(encode_audio, hear, "audio_token_id"),
    "text": Encoder(encode_text),
}
