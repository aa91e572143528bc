"""What a run is trained and validated on: labels, their scale, and the order of the clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from omni_msa.errors import ManifestError
from omni_msa.files.labels import LabelSpace
from omni_msa.media.feed import Feed
from omni_msa.media.identity import json_sha256
from omni_msa.methods import Inputs, Labels
from omni_msa.modalities import Subset, subset_name
from omni_msa.options import AblationOptions
from omni_msa.scoring.ablation import subsets_to_score
from omni_msa.values import Clip


@dataclass(frozen=True)
class TrainingData:
    """Labelled clips, and how they are labelled.

    Raises:
        ManifestError: a split is empty, or a label is missing or outside the range.
        ConfigError: all training labels are equal.
    """

    train: Feed
    valid: Feed
    label_space: LabelSpace = field(default_factory=LabelSpace)  # fitted to the training labels
    hide: Subset = frozenset()  # modalities that are never shown

    def __post_init__(self) -> None:
        if not self.train.clips or not self.valid.clips:
            raise ManifestError(
                f"{len(self.train.clips)} training and {len(self.valid.clips)} validation clips; "
                'both are needed: mark rows with split "train" and "valid"'
            )
        self.label_space.check([*self.train.clips, *self.valid.clips])
        object.__setattr__(self, "label_space", self.label_space.fitted(self.train.clips))


@dataclass(frozen=True)
class LabelledInputs:
    """A clip as tensors, with a label for each subset that is trained on."""

    inputs: Inputs
    subsets: tuple[Subset, ...]
    labels: tuple[float, ...]
    emotions: tuple[float, ...] = ()  # see `LabelSpace.presence`


def data_sha256(**feeds: Feed) -> str:
    """Names, windows, words and labels of all clips, in their order; wherever the files are."""
    rows = [
        (name, clip.path.name if clip.path else clip.id, clip.start_seconds, clip.end_seconds,
         clip.label, sorted(clip.subset_labels.items()), clip.transcript,
         *([] if clip.emotions is None else [sorted(clip.emotions.items())]),
         *([clip.context] if clip.context else []),
         *([] if clip.findings is None else [clip.findings]),
         *([clip.ecg.name, clip.ecg_start_seconds] if clip.ecg else []))
        for name, feed in feeds.items()
        for clip in feed.clips
    ]  # fmt: skip
    return json_sha256(rows)


def with_labels(clip: Clip, inputs: Inputs, packed: bool, space: LabelSpace) -> LabelledInputs:
    """The subsets that are trained on, the whole clip last, each with its label.

    A smaller subset has its own label where the data has one, else the clip's.
    """
    subsets = subsets_to_score(inputs.present, AblationOptions(enabled=packed))
    assert clip.label is not None  # checked with the data
    labels = [float(clip.subset_labels.get(subset_name(s), clip.label)) for s in subsets]
    return LabelledInputs(inputs, subsets, (*labels[:-1], clip.label), space.presence(clip))


def label_matrix(
    batch: Sequence[LabelledInputs], device: torch.device
) -> tuple[Labels, torch.Tensor]:
    """Labels, and weights [B, K]: the whole clip counts as much as its smaller subsets together,
    and every clip counts 1. Rows of clips with fewer subsets end in weight 0."""
    most = max(len(item.labels) for item in batch)
    labels, weights = torch.zeros(len(batch), most), torch.zeros(len(batch), most)
    for row, item in enumerate(batch):
        k = len(item.labels)
        labels[row, :k] = torch.tensor(item.labels)
        weights[row, :k] = 0.5 / (k - 1) if k > 1 else 1.0
        weights[row, k - 1] = 0.5 if k > 1 else 1.0
    emotions = None
    if batch[0].emotions:
        emotions = torch.tensor([item.emotions for item in batch], device=device)
    return Labels(labels.to(device), emotions), weights.to(device)
