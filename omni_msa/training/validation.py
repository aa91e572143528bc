"""How far a method is off on labelled clips, while it is being trained."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from omni_msa.errors import ManifestError, TrainingError
from omni_msa.files.record import Answer
from omni_msa.methods import Method
from omni_msa.model.thinker import Thinker
from omni_msa.training.data import LabelledInputs


@dataclass(frozen=True)
class Miss:
    """One clip's score and label, how far they are apart (of classes: 1 or 0), and the answer in
    words."""

    error: float
    score: float
    label: float
    answer: Answer | None = None


def clip_misses(thinker: Thinker, method: Method, batch: Sequence[LabelledInputs]) -> list[Miss]:
    """Absolute errors of whole clips (of classes: 1 for a wrong one), in one pass."""
    if not batch:
        return []
    reading = method.read(thinker, [b.inputs for b in batch], [b.subsets for b in batch])
    answers = [row[0] for row in reading.answers] if reading.answers else [None] * len(batch)
    scores = reading.scores[:, 0].tolist()
    misses = []
    for score, item, answer in zip(scores, batch, answers, strict=True):
        error = abs(score - item.labels[0])
        if method.label_space.classes:
            error = float(error > 0)
        misses.append(Miss(error, score, item.labels[0], answer))
    return misses


def validation_metrics(misses: Sequence[Miss], method: Method) -> dict[str, float]:
    """The figure that counts first (MAE or error rate); then the correlation, where scores and
    labels both vary, and which answers could not be read.

    Raises:
        ManifestError: not one clip could be read.
        TrainingError: the scores are no numbers.
    """
    if not misses:
        raise ManifestError("no validation clip could be read; check the files it names")
    name = "error_rate" if method.label_space.classes else "mae"
    metrics = {name: math.fsum(miss.error for miss in misses) / len(misses)}
    if not math.isfinite(metrics[name]):
        raise TrainingError("the scores of the validation clips are no numbers (NaN)")
    if name == "mae":
        with suppress(statistics.StatisticsError):  # undefined for a constant
            scores, labels = [m.score for m in misses], [m.label for m in misses]
            metrics["corr"] = statistics.correlation(scores, labels)
    answers = [miss.answer for miss in misses if miss.answer is not None]
    if answers:
        metrics["unparsable"] = sum(not a.parsable for a in answers) / len(answers)
        metrics["out_of_range"] = sum(not a.in_range for a in answers) / len(answers)
    return metrics | {"clips": float(len(misses))}
