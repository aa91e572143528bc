"""What the simplest system always answers: the figures of all others stand beside its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from omni_msa.values import Clip

if TYPE_CHECKING:
    from omni_msa.evaluation.evaluate import ScoredClip


def constant_answer(
    clips: Sequence[Clip], scored: Sequence[ScoredClip], classes: Sequence[str]
) -> tuple[float, str]:
    """What the simplest system always answers, and in words: the mean of the training labels, or
    their most frequent class; of the measured labels where there are none to train on."""
    train = [c for c in clips if c.split == "train" and c.label is not None]
    of = "the training labels" if train else "these labels"
    labels = [c.label for c in train if c.label is not None] or [c.label for c in scored]
    if findings := [name for c in train or clips for name in c.findings or () if name in classes]:
        labels = [float(classes.index(name)) for name in findings]
    if classes:
        most = max(sorted(set(labels)), key=labels.count)
        return most, f"always {classes[round(most)]} (most frequent of {of})"
    mean = sum(labels) / len(labels)
    return mean, f"always {mean:+.2f} (mean of {of})"
