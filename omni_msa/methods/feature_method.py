"""What methods share that look at feature sequences and not at the Thinker's states.

The features of a clip are made once for all its subsets; a subset is a row of the method's own
network, in which what is not shown has an empty mask.
Shapes: B clips, K subsets of each, R rows (the subsets of all clips), L steps, D width of features,
O outputs of the head.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from omni_msa.files.labels import LabelSpace
from omni_msa.methods.heads import head_losses, reading_of
from omni_msa.methods.method import Builder, Labels, Method, Reading, TrainedBy
from omni_msa.modalities import Subset, in_order
from omni_msa.model.features import FeatureBuilder, FeatureInputs, Sequences
from omni_msa.model.thinker import Thinker
from omni_msa.model.thinker_features import feature_encoder
from omni_msa.options import PROMPT_VERSION


@dataclass(frozen=True)
class Rows:
    """Which clip each row is of, and which modalities it shows."""

    clips: torch.Tensor  # [R]
    places: torch.Tensor  # [R]: of the subset among its clip's
    shown: Mapping[str, torch.Tensor]  # by modality: [R] bool
    num_clips: int

    @classmethod
    def of(cls, subsets: Sequence[Sequence[Subset]], modalities: Sequence[str]) -> Rows:
        """A row for every subset of every clip."""
        rows = [(b, k, subset) for b, row in enumerate(subsets) for k, subset in enumerate(row)]
        clips, places = (torch.tensor([row[i] for row in rows]) for i in (0, 1))
        shown = {m: torch.tensor([m in subset for _, _, subset in rows]) for m in modalities}
        return cls(clips, places, shown, len(subsets))

    def show(self, sequences: Sequences) -> Sequences:
        """Each row's features [R, L, D], with an empty mask where a modality is not shown."""
        values, masks = {}, {}
        for modality, shown in self.shown.items():
            mask = sequences.masks[modality]
            clips = self.clips.to(mask.device)
            masks[modality] = mask[clips] & shown.to(mask.device)[:, None]
            rows = sequences.values[modality][clips]
            values[modality] = rows.masked_fill(~masks[modality][..., None], 0.0)
        return Sequences(values, masks)

    def arrange(self, outputs: torch.Tensor) -> torch.Tensor:
        """Rows' outputs [R, O] by clip and subset: [B, K, O]; zero where a clip has fewer."""
        most = int(self.places.max()) + 1
        arranged = outputs.new_zeros(self.num_clips, most, outputs.shape[-1])
        places = self.clips.to(outputs.device), self.places.to(outputs.device)
        return arranged.index_put(places, outputs)


class FeatureMethod(Method):
    """A network over feature sequences, with a head; the base stays as it is.

    A subclass says which modalities it looks at, and is a network: `forward` takes the features of
    clips and gives the outputs [R, O] of their rows (`LabelSpace.num_outputs`).
    """

    trained_by = TrainedBy.GRADIENTS
    features: FeatureBuilder

    def __init__(self, thinker: Thinker, label_space: LabelSpace, options: Any) -> None:
        super().__init__(thinker, label_space, options)
        prompt = thinker.builder(self.question())
        names = in_order(self.modalities(options))
        self.features = FeatureBuilder({m: feature_encoder(thinker, m, prompt) for m in names})

    @classmethod
    def adapts_base(cls, options: Any) -> bool:
        return False

    @classmethod
    def replaceable(cls, options: Any) -> frozenset[str]:
        return cls.modalities(options)

    @property
    def feature_widths(self) -> dict[str, int]:
        """D of each modality that it looks at."""
        return {name: encoder.width for name, encoder in self.features.encoders.items()}

    def builder(self, thinker: Thinker, version: str = PROMPT_VERSION) -> Builder:
        return self.features

    @abstractmethod
    def forward(self, clips: Sequences, rows: Rows) -> torch.Tensor:
        """Features of clips -> outputs [R, O] of the rows."""

    def rows(
        self,
        thinker: Thinker,
        clips: Sequence[FeatureInputs],
        subsets: Sequence[Sequence[Subset]],
    ) -> tuple[Rows, Sequences]:
        """A row for each subset, and the clips' features."""
        names = list(self.features.encoders)
        return Rows.of(subsets, names), self.features.sequences(clips, names, thinker.device)

    def outputs(
        self, thinker: Thinker, clips: Sequence[Any], subsets: Sequence[Sequence[Subset]]
    ) -> torch.Tensor:
        """Of each clip's subsets [B, K, O], in fp32."""
        rows, sequences = self.rows(thinker, clips, subsets)
        with torch.autocast(thinker.device.type, enabled=False):
            return rows.arrange(self(sequences, rows))

    def read(
        self, thinker: Thinker, clips: Sequence[Any], subsets: Sequence[Sequence[Subset]]
    ) -> Reading:
        return reading_of(self.label_space, self.outputs(thinker, clips, subsets))

    def losses(
        self,
        thinker: Thinker,
        clips: Sequence[Any],
        subsets: Sequence[Sequence[Subset]],
        labels: Labels,
    ) -> torch.Tensor:
        return head_losses(self.label_space, self.outputs(thinker, clips, subsets), labels)
