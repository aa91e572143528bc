"""A clip as one sequence of features a modality, for methods that do not read the Thinker's states.

`FeatureBuilder.build` does a clip's CPU work; `FeatureBuilder.sequences` runs the encoders over
several clips at once. Where features come from is an encoder's own matter: the Thinker's towers and
states (`thinker_features.py`), a Hugging Face folder (`folder_features.py`), or a feature file.
Shapes: B clips, L steps of the longest, D width of the modality's features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from omni_msa.errors import MediaError, ModelError
from omni_msa.media.record_files import LEADS
from omni_msa.modalities import Subset
from omni_msa.model.inputs import check_something_left
from omni_msa.model.traces import lead_columns
from omni_msa.options import MediaOptions
from omni_msa.values import ClipContent, FeatureSequence, Part

STORED = "stored:"  # and the width, in place of a folder: features come with the clips


class FeatureEncoder(ABC):
    """How the features of one modality are made.

    Attributes:
        name: what it was named by; "" of the Thinker's own.
        width: D.
        identity: a text that differs whenever the features would.
        is_frozen: whether they stay the same while a method is trained: then they are made once.
        trained: its modules that do not stay as they are, if there are any.
    """

    name: str = ""
    width: int
    identity: str
    is_frozen: bool = True
    trained: nn.ModuleList | None = None

    @abstractmethod
    def prepare(self, part: Any, options: MediaOptions) -> tuple[Any, tuple[str, ...]]:
        """The CPU work on one part: what `encode` is given for it, and warnings.

        Raises:
            MediaError: the part is not of the kind that it encodes.
        """

    @abstractmethod
    def encode(self, items: Sequence[Any]) -> Sequence[torch.Tensor]:
        """What was prepared of several clips -> their features [L, D], each L >= 1, in fp32."""

    def adapt(self, config: Any) -> tuple[int, int]:
        """Puts a LoRA adapter of this PEFT configuration on its weights, which a method then trains
        and keeps (`trained`); gives how many parameters are trained, and of how many.

        Raises:
            ModelError: it has no weights that one fits on.
        """
        raise ModelError(
            f"encoder {self.name}: it has no layers to put an adapter on; with --set tuning=frozen "
            "there is none"
        )


class StoredFeatures(FeatureEncoder):
    """Features that somebody else extracted: they come with the clip, in a feature file."""

    def __init__(self, modality: str, width: int) -> None:
        self.modality = modality
        self.name = f"{STORED}{width}"
        self.width = width
        self.identity = f"stored {width}"

    def prepare(self, part: Any, options: MediaOptions) -> tuple[Any, tuple[str, ...]]:
        width = part.values.shape[1] if isinstance(part, FeatureSequence) else None
        if width != self.width:
            what = f"{self.modality} features {width} wide" if width else "media"
            raise MediaError(
                f"holds {what}, and the checkpoint takes stored {self.modality} features "
                f"{self.width} wide; give a feature file (.npz) extracted as those it was trained "
                "on",
                code="features",
            )
        return torch.from_numpy(part.values), ()

    def encode(self, items: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        return items


class TraceFeatures(FeatureEncoder):
    """The leads themselves: a method's own network encodes them."""

    width = len(LEADS)
    identity = "leads in millivolts at 100 Hz"

    def prepare(self, part: Any, options: MediaOptions) -> tuple[Any, tuple[str, ...]]:
        return lead_columns(part), ()

    def encode(self, items: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        return items


class Ready(NamedTuple):
    """Features that were made before: their encoder has nothing left to do."""

    values: torch.Tensor  # [L, D]


@dataclass(frozen=True)
class FeatureInputs:
    """One clip, ready for its encoders: `items` holds what each of them has prepared."""

    items: dict[str, Any]  # by modality
    lengths: dict[str, int]  # roughly: clips that are alike share a pass
    warnings: tuple[str, ...] = ()

    @property
    def present(self) -> Subset:
        return frozenset(self.items)

    @property
    def num_tokens(self) -> dict[str, int]:
        """Steps a modality, and in all."""
        return self.lengths | {"total": sum(self.lengths.values())}


@dataclass(frozen=True)
class Sequences:
    """Features of several clips; a modality that a clip lacks has an empty mask."""

    values: dict[str, torch.Tensor]  # by modality: [B, L, D], zero where the mask is
    masks: dict[str, torch.Tensor]  # [B, L] bool


class FeatureBuilder:
    """Turns clips into `FeatureInputs`, and these into sequences.

    Args:
        encoders: of the modalities that a method looks at.
    """

    def __init__(self, encoders: Mapping[str, FeatureEncoder]) -> None:
        self.encoders = dict(encoders)

    @property
    def identity(self) -> list[str]:
        """Of the features that may be made once and kept."""
        rows = sorted(self.encoders.items())
        return [f"{name}: {encoder.identity}" for name, encoder in rows if encoder.is_frozen]

    def build(
        self, content: ClipContent, options: MediaOptions, hide: Subset = frozenset()
    ) -> FeatureInputs:
        """The inputs of one clip, without the modalities in `hide`.

        Raises:
            MediaError: nothing is left to show, or features are of another width or kind.
        """
        items: dict[str, Any] = {}
        lengths: dict[str, int] = {}
        warnings: list[str] = []
        for modality, encoder in self.encoders.items():
            part = content.parts.get(modality)
            if part is None or modality in hide:
                continue
            try:
                items[modality], remarks = _prepare(encoder, part, options)
            except MediaError as error:
                raise MediaError(f"{content.clip.name}: {error}", code=error.code) from error
            lengths[modality] = part.size
            warnings += remarks
        if not items and not hide & self.encoders.keys():
            missing = " and no ".join(self.encoders)
            raise MediaError(
                f"{content.clip.name}: has no {missing}, and nothing else is looked at",
                code="nothing_to_score",
            )
        check_something_left(content.clip.name, items, hide)
        return FeatureInputs(items, lengths, tuple(warnings))

    def sequences(
        self, clips: Sequence[FeatureInputs], modalities: Collection[str], device: torch.device
    ) -> Sequences:
        """Features of several clips, one call of each encoder."""
        values, masks = {}, {}
        for modality in modalities:
            encoder = self.encoders[modality]
            rows = [row.to(device) for row in self._encoded(modality, clips)]
            lengths = torch.tensor([len(row) for row in rows], device=device)
            padded = pad_sequence(rows, batch_first=True)
            values[modality] = padded.view(len(rows), -1, encoder.width)
            steps = torch.arange(values[modality].shape[1], device=device)
            masks[modality] = steps < lengths[:, None]
        return Sequences(values, masks)

    @torch.no_grad()
    def made_once(
        self, contents: Sequence[ClipContent], options: MediaOptions, hide: Subset = frozenset()
    ) -> list[ClipContent]:
        """The clips with the features of frozen encoders in the place of what was read.

        Raises:
            MediaError: as `build` does, of the first that cannot be built.
        """
        clips = [self.build(content, options, hide) for content in contents]
        parts: list[dict[str, Part]] = [dict(content.parts) for content in contents]
        for modality, encoder in self.encoders.items():
            if encoder.is_frozen:
                rows = self._encoded(modality, clips)
                for row, clip, own in zip(rows, clips, parts, strict=True):
                    if modality in clip.present:
                        own[modality] = FeatureSequence(row.cpu().numpy(), encoder.identity)
        return [
            replace(content, parts=own, warnings=content.warnings + clip.warnings)
            for content, own, clip in zip(contents, parts, clips, strict=True)
        ]

    def _encoded(self, modality: str, clips: Sequence[FeatureInputs]) -> list[torch.Tensor]:
        """Features [L, D] a clip, L = 0 where it lacks the modality."""
        encoder = self.encoders[modality]
        items = [clip.items.get(modality) for clip in clips]
        fresh = [item for item in items if item is not None and not isinstance(item, Ready)]
        with torch.set_grad_enabled(torch.is_grad_enabled() and not encoder.is_frozen):
            encoded = iter(encoder.encode(fresh) if fresh else ())
        rows = []
        for item in items:
            if item is None:
                rows.append(torch.zeros(0, encoder.width))
            else:
                rows.append(item.values if isinstance(item, Ready) else next(encoded).float())
        return rows


def _prepare(
    encoder: FeatureEncoder, part: Part, options: MediaOptions
) -> tuple[Any, tuple[str, ...]]:
    """What the encoder prepares, or features that it made before."""
    if isinstance(part, FeatureSequence) and part.source == encoder.identity:
        return Ready(torch.from_numpy(part.values)), ()
    return encoder.prepare(part, options)
