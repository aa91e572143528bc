"""One row a modality: how its part becomes tokens, and which tower fills them in.

The order of the table is the order of the prompt: general to specific, because each modality is a
branch of the token tree (see `packing.py`). Shapes: P patches, M mel frames, H width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from omni_msa.media.sampling import plan_frames
from omni_msa.options import PATCH_SIDE, MediaOptions
from omni_msa.values import SAMPLE_RATE, Frames, Transcript, VideoTrack, Waveform

if TYPE_CHECKING:
    from omni_msa.model.inputs import InputBuilder, Segment
    from omni_msa.model.thinker import Thinker

HOP = 160  # audio samples a mel frame


@dataclass(frozen=True)
class Encoded:
    """A part as the model is given it: its tokens, what its tower is given, and warnings."""

    segment: Segment
    features: Any = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Extent:
    """How large a clip is, where only that is known of it."""

    seconds: float
    width: int  # pixels of the picture, as displayed
    height: int
    text_tokens: int  # of the transcript
    lead_in: int  # tokens before it

    def picture_track(self) -> VideoTrack:
        """A picture track of that length at 30 frames a second."""
        pts_seconds = np.arange(0, max(self.seconds, 1 / 30) - 1e-9, 1 / 30)
        size = self.width, self.height
        return VideoTrack(0, "", *size, 0, pts_seconds, end_seconds=self.seconds)


@dataclass(frozen=True)
class EncodedSize:
    """What a part becomes: tokens (with markers), and units that its tower is given."""

    tokens: int
    tower: int = 0  # patches, or sound frames (50 a second)


@dataclass(frozen=True)
class Encoder:
    """How a modality is shown to the Thinker.

    `measure` counts what `encode` would give for a clip of some extent, without one. `embed` turns
    the features of several clips into embeddings [tokens, H] a clip, in one call of its tower; they
    take the places of the tokens that the configuration calls `placeholder`. A modality without a
    tower is its tokens alone.
    """

    encode: Callable[[InputBuilder, Any, MediaOptions], Encoded]
    measure: Callable[[Extent, MediaOptions], EncodedSize]
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


def measure_video(extent: Extent, options: MediaOptions) -> EncodedSize:
    """By the reader's own frame plan; four patches are merged into one token."""
    frames = plan_frames(extent.picture_track(), options)
    visual = len(frames.times_seconds) // 2 * frames.height * frames.width // PATCH_SIDE**2
    return EncodedSize(visual + 2, 4 * visual)


def measure_audio(extent: Extent, options: MediaOptions) -> EncodedSize:
    """25 tokens a second."""
    seconds = min(extent.seconds, options.max_audio_seconds)
    num_mel_frames = -(-int(seconds * SAMPLE_RATE) // HOP)
    return EncodedSize(num_audio_tokens(num_mel_frames) + 2, (num_mel_frames + 1) // 2)


def measure_text(extent: Extent, options: MediaOptions) -> EncodedSize:
    """The lead-in and the words."""
    return EncodedSize(extent.lead_in + min(extent.text_tokens, options.max_text_tokens))


def num_audio_tokens(num_mel_frames: int) -> int:
    """Audio tokens of M mel frames: two strides of two (Qwen2.5-Omni's audio encoder)."""
    return max(((num_mel_frames - 1) // 2 + 1 - 2) // 2 + 1, 0)


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
    embeddings = tower(
        torch.cat(list(mels), dim=1).to(thinker.device),
        feature_lens=lengths,
        aftercnn_lens=after_conv,
    ).last_hidden_state
    return embeddings.split(num_tokens.tolist())


ENCODERS: dict[str, Encoder] = {
    "video": Encoder(encode_video, measure_video, see, "video_token_id"),
    "audio": Encoder(encode_audio, measure_audio, hear, "audio_token_id"),
    "text": Encoder(encode_text, measure_text),
}
