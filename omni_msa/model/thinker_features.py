"""Features from the Thinker itself: what its towers hear and see, and what its language model makes
of the words; and the one table of what stands for a modality where no encoder was named.

Shapes: L steps, H width of the language model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from omni_msa.errors import MediaError
from omni_msa.media.identity import json_sha256
from omni_msa.model.encoders import Patches, hear, see
from omni_msa.model.features import FeatureEncoder, TraceFeatures
from omni_msa.model.identity import base_sha256
from omni_msa.model.inputs import InputBuilder, Segment, ThinkerInputs
from omni_msa.model.packing import collate, pack
from omni_msa.options import MediaOptions
from omni_msa.values import FeatureSequence, Frames, Part, Transcript, Waveform

if TYPE_CHECKING:
    from omni_msa.model.thinker import Thinker

WORDS_ALONE = frozenset({"text"})


class ThinkerFeatures(FeatureEncoder):
    """Of one modality, by a Thinker; what its builder prepares is what the Thinker is shown."""

    kind: type[Part]

    def __init__(self, thinker: Thinker, builder: InputBuilder) -> None:
        self.thinker = thinker
        self.builder = builder
        self.width = thinker.width
        base, dtype = thinker.base, thinker.core.dtype
        name = type(self).__name__
        self.identity = f"{name} {base_sha256(base.folder)} {base.quantize} {dtype}"

    def require(self, part: Any) -> None:
        """What was read is there; features that somebody else extracted are not these."""
        if not isinstance(part, self.kind):
            raise MediaError(
                "holds features that were extracted elsewhere, and the checkpoint looks at media; "
                "give the clip itself",
                code="features",
            )


class VoiceFeatures(ThinkerFeatures):
    """The audio tower's output, 25 steps a second."""

    kind = Waveform

    def prepare(self, part: Waveform, options: MediaOptions) -> tuple[Any, tuple[str, ...]]:
        self.require(part)
        mel = self.builder.log_mel(part)
        self.builder.audio_segment(mel.shape[1])  # long enough to be heard
        return mel, ()

    def encode(self, items: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        return hear(self.thinker, items)


class FaceFeatures(ThinkerFeatures):
    """The vision tower's output, averaged over each pair of frames: a step a pair."""

    kind = Frames

    def prepare(self, part: Frames, options: MediaOptions) -> tuple[Any, tuple[str, ...]]:
        self.require(part)
        return self.builder.patches(part), ()

    def encode(self, items: Sequence[Patches]) -> Sequence[torch.Tensor]:
        tokens = see(self.thinker, items)  # [t * h * w, H] a clip
        return [
            rows.view(item.grid_thw[0], -1, self.width).mean(1)
            for rows, item in zip(tokens, items, strict=True)
        ]


class WordFeatures(ThinkerFeatures):
    """The language model's last states at the words, read behind the question, and at the prompt
    that follows them, where it gathers what it has read.

    With the adapter that is on the Thinker, if there is one; then they are not frozen.
    """

    kind = Transcript

    def __init__(self, thinker: Thinker, builder: InputBuilder) -> None:
        super().__init__(thinker, builder)
        around = [part.token_ids.tolist() for part in (builder.prefix, builder.suffix)]
        self.identity += f" {json_sha256(around)}"  # the question is read too
        self.is_frozen = not thinker.adapted

    def prepare(self, part: Part, options: MediaOptions) -> tuple[Any, tuple[str, ...]]:
        if isinstance(part, FeatureSequence):  # a feature file that has the words too
            part = words_of(part)
        self.require(part)
        assert isinstance(part, Transcript)
        segment, warnings = self.builder.text_segment(part.text, options.max_text_tokens)
        return segment, tuple(warnings)

    def encode(self, items: Sequence[Segment]) -> Sequence[torch.Tensor]:
        builder = self.builder
        clips = [ThinkerInputs(builder.prefix, {"text": s}, builder.suffix) for s in items]
        trees = [pack(clip, [WORDS_ALONE]) for clip in clips]
        hidden = self.thinker.states(collate(clips, trees, self.thinker.pad_token_id))
        start = len(builder.prefix.token_ids)
        return [row[start : len(tree.token_ids)] for row, tree in zip(hidden, trees, strict=True)]


def words_of(part: FeatureSequence) -> Transcript:
    """The words that stand in a feature file beside the features of the text.

    Raises:
        MediaError: there are none.
    """
    if not part.text:
        raise MediaError(
            "its feature file has no words, and the checkpoint reads words; add the array 'words'",
            code="features",
        )
    return Transcript(part.text, part.source)


OWN_FEATURES: dict[str, Callable[[Thinker, InputBuilder], FeatureEncoder]] = {
    "text": WordFeatures,
    "audio": VoiceFeatures,
    "video": FaceFeatures,
    "ecg": lambda thinker, builder: TraceFeatures(),
}


def feature_encoder(thinker: Thinker, modality: str, builder: InputBuilder) -> FeatureEncoder:
    """The encoder that was named for a modality, else the Thinker itself."""
    return thinker.encoders.get(modality) or OWN_FEATURES[modality](thinker, builder)
