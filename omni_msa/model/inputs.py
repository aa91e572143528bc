"""A clip that was read -> what the Thinker is given: token ids, positions, patches, log-mel.

Every modality becomes one `Segment` whose positions start at zero; `packing.py` strings segments
together. Shapes: l tokens of a segment, P patches, M mel frames (100 a second), t x h x w patches.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from omni_msa.errors import MediaError, ModelError
from omni_msa.modalities import MODALITIES, Subset, in_order
from omni_msa.model.encoders import ENCODERS, HOP, Patches, num_audio_tokens
from omni_msa.model.prompt import QUESTION, WORDS, render_frame, safe_transcript
from omni_msa.model.traces import lead_columns
from omni_msa.options import MediaOptions
from omni_msa.values import SAMPLE_RATE, ClipContent, FeatureSequence, Frames, Waveform

FFT = 400  # audio samples a window
MERGE = 2  # patches merged into one visual token, each way


@dataclass(frozen=True)
class Segment:
    """A run of tokens and their (time, height, width) positions, counted from its own start."""

    token_ids: torch.Tensor  # [l]
    positions: torch.Tensor  # [3, l]

    @property
    def span(self) -> int:
        """Where the next segment starts: one past the largest position (TMRoPE)."""
        return int(self.positions.max()) + 1 if self.positions.numel() else 0


@dataclass(frozen=True)
class ThinkerInputs:
    """One clip, ready for the model. `parts` holds a segment for each modality that is shown as
    tokens, `features` what its tower is given, and what a method is given of other modalities."""

    prefix: Segment
    parts: dict[str, Segment]
    suffix: Segment
    features: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def present(self) -> Subset:
        return frozenset(self.parts) | frozenset(self.features)

    @property
    def num_tokens(self) -> dict[str, int]:
        """Tokens a modality, and in all when everything is shown."""
        counts = {name: len(segment.token_ids) for name, segment in self.parts.items()}
        around = len(self.prefix.token_ids) + len(self.suffix.token_ids)
        return counts | {"total": around + sum(counts.values())}


class InputBuilder:
    """Turns clips into `ThinkerInputs` with the model's own tokenizer, template and extractors."""

    def __init__(self, processor: Any, thinker_config: Any, question: str = QUESTION) -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.ticks_per_second = thinker_config.position_id_per_seconds
        self._words = self._encode(WORDS)
        frame = render_frame(processor, question)
        self.prefix = _text_segment(self._encode(frame.prefix))
        self.suffix = _text_segment(self._encode(frame.suffix))
        names = ("vision_bos", "video", "vision_eos", "audio_bos", "audio", "audio_eos")
        self._ids = {name: self._special(getattr(processor, f"{name}_token")) for name in names}

    def build(
        self, content: ClipContent, options: MediaOptions, hide: Subset = frozenset()
    ) -> ThinkerInputs:
        """The inputs of one clip, without the modalities in `hide`.

        Raises:
            MediaError: nothing is left to show, or features stand in place of media.
        """
        _require_media(content, hide)
        parts: dict[str, Segment] = {}
        features: dict[str, Any] = {}
        warnings: list[str] = []
        for modality, encoder in ENCODERS.items():
            if modality in content.parts and modality not in hide:
                encoded = encoder.encode(self, content.parts[modality], options)
                parts[modality] = encoded.segment
                if encoded.features is not None:
                    features[modality] = encoded.features
                warnings += encoded.warnings
        if "ecg" in content.parts and "ecg" not in hide:
            features["ecg"] = lead_columns(content.parts["ecg"])
        check_something_left(content.clip.name, {*parts, *features}, hide)
        return ThinkerInputs(self.prefix, parts, self.suffix, features, tuple(warnings))

    def patches(self, frames: Frames) -> Patches:
        """Frames [F, H, W, 3] -> normalised patches and their grid, by the processor."""
        video = torch.from_numpy(frames.rgb).permute(0, 3, 1, 2)  # [F, 3, H, W]
        out = self.processor.video_processor(
            videos=[video],
            do_resize=False,
            do_sample_frames=False,
            cap_pixels_per_frame=False,
            return_tensors="pt",
        )
        t, h, w = (int(n) for n in out["video_grid_thw"][0])
        return Patches(out["pixel_values_videos"], (t, h, w))

    def log_mel(self, waveform: Waveform) -> torch.Tensor:
        """Whisper's log-mel at the true length: [128, M], M = ceil(S / 160).

        The reference pads to 300 s before it transforms; one window of zeros gives the same
        numbers in every frame that it keeps, without transforming the silence.
        """
        samples = waveform.samples
        num_frames = -(-len(samples) // HOP)
        padded = np.pad(samples, (0, num_frames * HOP + FFT - len(samples)))
        out = self.processor.feature_extractor(
            padded,
            sampling_rate=SAMPLE_RATE,
            padding="do_not_pad",
            truncation=False,
            return_tensors="pt",
        )
        return out["input_features"][0][:, :num_frames]

    def video_segment(self, grid_thw: tuple[int, int, int], seconds_per_grid: float) -> Segment:
        """Tokens and 3-D positions of the frames; time advances 25 ticks a second of this clip."""
        t, h, w = grid_thw[0], grid_thw[1] // MERGE, grid_thw[2] // MERGE
        # In float32 and truncated, as Qwen2.5-Omni's own rope index does it.
        ticks = torch.arange(t) * torch.tensor(seconds_per_grid).float() * self.ticks_per_second
        grid = torch.stack(
            [
                ticks.long().view(t, 1, 1).expand(t, h, w),
                torch.arange(h).view(1, h, 1).expand(t, h, w),
                torch.arange(w).view(1, 1, w).expand(t, h, w),
            ]
        ).flatten(1)  # [3, t*h*w]
        return self._between("vision_bos", "video", "vision_eos", grid)

    def audio_segment(self, num_mel_frames: int) -> Segment:
        """Tokens and positions of the sound: 25 tokens a second, one tick each."""
        num_tokens = num_audio_tokens(num_mel_frames)
        if num_tokens < 1:
            raise MediaError(f"sound of {num_mel_frames} mel frames is too short to be heard")
        return self._between(
            "audio_bos", "audio", "audio_eos", torch.arange(num_tokens).expand(3, -1)
        )

    def text_segment(self, transcript: str, max_tokens: int) -> tuple[Segment, list[str]]:
        """Tokens of the words, cut at `max_tokens` with a warning."""
        safe, warning = safe_transcript(transcript)
        warnings = [warning] if warning else []
        # Encoded with the lead-in, because that is how the reference would see them.
        ids = self._encode(WORDS + safe)
        limit = max_tokens + len(self._words)
        if len(ids) > limit:
            warnings.append(
                f"transcript truncated: {max_tokens} of {len(ids) - len(self._words)} tokens shown"
            )
            ids = ids[:limit]
        return _text_segment(ids), warnings

    def _between(self, bos: str, token: str, eos: str, positions: torch.Tensor) -> Segment:
        """`positions` [3, l] of placeholders, put between their begin and end tokens."""
        start = torch.zeros(3, 1, dtype=torch.long)
        end = positions.max().add(2).expand(3, 1)
        ids = [self._ids[bos], *[self._ids[token]] * positions.shape[1], self._ids[eos]]
        return Segment(torch.tensor(ids), torch.cat([start, positions + 1, end], dim=1))

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    def _special(self, token: str) -> int:
        ids = self._encode(token)
        if len(ids) != 1:
            raise ModelError(
                f"the tokenizer splits {token!r} into {len(ids)}: not a Qwen2.5-Omni one"
            )
        return ids[0]


def check_something_left(name: str, parts: Collection[str], hide: Subset) -> None:
    """A clip has to show something.

    Raises:
        MediaError: it does not, without the modalities in `hide`.
    """
    if not parts:
        hidden = " and ".join(m for m in MODALITIES if m in hide) or "nothing"
        raise MediaError(
            f"{name}: nothing is left to score when {hidden} is not shown; drop less",
            code="nothing_to_score",
        )


def _require_media(content: ClipContent, hide: Subset) -> None:
    shown = {name: part for name, part in content.parts.items() if name not in hide}
    features = [m for m, part in shown.items() if isinstance(part, FeatureSequence)]
    if features:
        raise MediaError(
            f"{content.clip.name}: holds features of {', '.join(in_order(features))}, and this "
            "readout looks at media; give the clip itself, or a checkpoint trained on features",
            code="features",
        )


def _text_segment(ids: list[int]) -> Segment:
    return Segment(torch.tensor(ids, dtype=torch.long), torch.arange(len(ids)).expand(3, -1))
