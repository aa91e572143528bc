"""What a run is trained and validated on: labels, their scale, and the order of the clips."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from omni_msa.config import (
    DEFAULT_RANGE,
    TASKS,
    AblationOptions,
    TrainOptions,
    check_label_range,
)
from omni_msa.datasets import DATASETS
from omni_msa.errors import ConfigError, ManifestError
from omni_msa.feed import Feed
from omni_msa.inputs import ThinkerInputs
from omni_msa.readouts import LabelScale
from omni_msa.scorer import subsets_to_score
from omni_msa.values import Clip, Subset, subset_name

BUCKET = 16  # steps whose clips are sorted by length together


@dataclass(frozen=True)
class TrainingData:
    """Labelled clips, and how they are labelled.

    Raises:
        ManifestError: a split is empty, or a label is missing or outside the range.
        ConfigError: all training labels are equal.
    """

    train: Feed
    valid: Feed
    label_range: tuple[float, float] = (-3.0, 3.0)
    hide: Subset = frozenset()  # modalities that are never shown
    classes: tuple[str, ...] = ()  # labels are places in this list
    scale: LabelScale = field(init=False)

    def __post_init__(self) -> None:
        if not self.train.clips or not self.valid.clips:
            raise ManifestError(
                f"{len(self.train.clips)} training and {len(self.valid.clips)} validation clips; "
                'both are needed: mark rows with split "train" and "valid"'
            )
        check_labels([*self.train.clips, *self.valid.clips], self.label_range)
        scale = label_scale(self.train.clips, self.label_range, self.classes)
        object.__setattr__(self, "scale", scale)


@dataclass(frozen=True)
class LabelledInputs:
    """A clip as tensors, with a label for each subset that is trained on."""

    inputs: ThinkerInputs
    subsets: tuple[Subset, ...]
    labels: tuple[float, ...]


def data_sha256(**feeds: Feed) -> str:
    """Names, windows, words and labels of all clips, in their order; wherever the files are."""
    rows = [
        (name, clip.path.name if clip.path else clip.id, clip.start_seconds, clip.end_seconds,
         clip.label, sorted(clip.subset_labels.items()), clip.transcript)
        for name, feed in feeds.items()
        for clip in feed.clips
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def labels_of(
    clips: Sequence[Clip], task: str, asked: tuple[float, float] | None
) -> tuple[tuple[float, float], tuple[str, ...]]:
    """The range of a manifest's labels, and the classes if they are classes.

    Args:
        asked: the range that the user names; else it is the data set's own, or that of MOSI.

    Raises:
        ConfigError: no such task, or a range that is none.
        ManifestError: data sets of several ranges, or fewer than two classes.
    """
    if task not in TASKS:
        raise ConfigError(f"task {task!r} is not known; choose one of: {', '.join(TASKS)}")
    facts = [
        DATASETS[name].facts for name in sorted({c.dataset or "" for c in clips} & {*DATASETS})
    ]
    if task == "sentiment":
        if asked is not None:
            check_label_range(asked)
            return asked, ()
        ranges = {f.label_range for f in facts}
        if len(ranges) > 1:
            raise ManifestError(
                f"the manifest mixes data sets with label ranges {sorted(ranges)}; bring the "
                "labels to one scale, remove the column dataset, and give --label-range"
            )
        return ranges.pop() if ranges else DEFAULT_RANGE, ()
    if asked is not None:
        raise ConfigError("--label-range is about numbers; emotions are classes")
    known = {f.classes for f in facts} - {()}
    named = tuple(sorted({c.emotion for c in clips if c.emotion}))
    classes = known.pop() if len(known) == 1 else named
    if len(classes) < 2:
        raise ManifestError(
            f"the column emotion names {len(classes)} classes ({', '.join(classes) or 'none'}); "
            "two or more are needed"
        )
    return (0.0, len(classes) - 1.0), classes


def check_labels(clips: Sequence[Clip], label_range: tuple[float, float]) -> None:
    """Every clip needs a label in the range.

    Raises:
        ManifestError: how many have none, and the first of them.
    """
    low, high = label_range
    bad = [c for c in clips if c.label is None or not low <= c.label <= high]
    if bad:
        raise ManifestError(
            f"{len(bad)} clips have no label in [{low:g}, {high:g}], such as {bad[0].name} "
            f"({bad[0].label}); fix the manifest's label column, or give --label-range LOW HIGH"
        )


def with_classes(clips: Sequence[Clip], classes: Sequence[str]) -> list[Clip]:
    """The same clips, labelled with the place of their emotion in a list of classes.

    Raises:
        ManifestError: clips without an emotion, or with one that is not in the list.
    """
    bad = [clip for clip in clips if clip.emotion not in classes]
    if bad:
        raise ManifestError(
            f"{len(bad)} clips have no emotion among {', '.join(classes)}, such as {bad[0].name} "
            f"({bad[0].emotion}); fix the manifest's emotion column"
        )
    place = {name: float(i) for i, name in enumerate(classes)}
    return [replace(clip, label=place[clip.emotion or ""], subset_labels={}) for clip in clips]


def label_scale(
    clips: Sequence[Clip], label_range: tuple[float, float], classes: tuple[str, ...] = ()
) -> LabelScale:
    """Mean and (population) deviation of the training labels; classes have neither."""
    if classes:
        return LabelScale.of_classes(classes)
    labels = torch.tensor([float(c.label or 0.0) for c in clips], dtype=torch.float64)
    deviation = float(labels.std(correction=0))
    if deviation == 0:
        raise ConfigError("all training labels are equal; there is nothing to learn")
    return LabelScale(float(labels.mean()), deviation, *label_range)


def with_labels(clip: Clip, inputs: ThinkerInputs, packed: bool) -> LabelledInputs:
    """The subsets that are trained on, the whole clip last, each with its label.

    A smaller subset has its own label where the data has one, else the clip's.
    """
    subsets = subsets_to_score(inputs.present, AblationOptions(enabled=packed))
    assert clip.label is not None  # checked with the data
    labels = [float(clip.subset_labels.get(subset_name(s), clip.label)) for s in subsets]
    return LabelledInputs(inputs, subsets, (*labels[:-1], clip.label))


def label_matrix(batch: Sequence[LabelledInputs]) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels and weights [B, K]: the whole clip counts as much as its smaller subsets together,
    and every clip counts 1. Rows of clips with fewer subsets end in weight 0."""
    most = max(len(item.labels) for item in batch)
    labels, weights = torch.zeros(len(batch), most), torch.zeros(len(batch), most)
    for row, item in enumerate(batch):
        k = len(item.labels)
        labels[row, :k] = torch.tensor(item.labels)
        weights[row, :k] = 0.5 / (k - 1) if k > 1 else 1.0
        weights[row, k - 1] = 0.5 if k > 1 else 1.0
    return labels, weights


def plan_epoch(sizes: Sequence[int], epoch: int, options: TrainOptions) -> list[list[int]]:
    """The clips of every step of an epoch: alike in size within a step, steps in random order.

    It follows from the seed and the epoch alone.
    """
    rng = random.Random(f"{options.seed} {epoch}")
    order = list(range(len(sizes)))
    rng.shuffle(order)
    count = options.clips_a_step
    steps = []
    for start in range(0, len(order), count * BUCKET):
        bucket = sorted(order[start : start + count * BUCKET], key=lambda i: sizes[i])
        steps += [bucket[i : i + count] for i in range(0, len(bucket), count)]
    rng.shuffle(steps)
    return steps


def step_seed(*parts: int) -> int:
    """A seed that is the same in every run, on every machine."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def learning_rate_factor(step: int, total: int, warmup: float) -> float:
    """Linear warm-up over a share of all steps, then a cosine to zero."""
    rising = max(1, round(total * warmup))
    if step < rising:
        return (step + 1) / rising
    return 0.5 + 0.5 * math.cos(math.pi * (step - rising) / max(1, total - rising))
