"""How far a method is off on labelled clips, while it is being trained."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from omni_msa.errors import ManifestError, TrainingError
from omni_msa.files.record import Answer
from omni_msa.methods import Method
from omni_msa.modalities import Subset
from omni_msa.model.thinker import Thinker
from omni_msa.scoring.intervals import Residuals
from omni_msa.training.data import LabelledInputs


@dataclass(frozen=True)
class Miss:
    """One clip's score and label, how far they are apart (of classes: 1 or 0; of findings: the mean
    cross-entropy), and the answer in words; and how far the scores of its subsets are from their
    labels, its own last."""

    error: float
    score: float
    label: float
    answer: Answer | None = None
    by_subset: Mapping[Subset, float] = field(default_factory=dict)


def clip_misses(thinker: Thinker, method: Method, batch: Sequence[LabelledInputs]) -> list[Miss]:
    """Absolute errors of clips and their subsets (of classes: 1 for a wrong one), in one pass."""
    if not batch:
        return []
    reading = method.read(thinker, [b.inputs for b in batch], [b.subsets for b in batch])
    misses = []
    for i, (item, scores) in enumerate(zip(batch, reading.scores.tolist(), strict=True)):
        whole = len(item.subsets) - 1
        errors = [abs(s - label) for s, label in zip(scores, item.labels, strict=False)]
        if method.label_space.findings and reading.emotions is not None:
            errors = [_log_loss(row, item.emotions) for row in reading.emotions[i].tolist()]
            errors = errors[: len(item.subsets)]
        elif method.label_space.classes:
            errors = [float(error > 0) for error in errors]
        answer = reading.answers[i][whole] if reading.answers else None
        by_subset = dict(zip(item.subsets, errors, strict=True))
        misses.append(Miss(errors[whole], scores[whole], item.labels[whole], answer, by_subset))
    return misses


def _log_loss(probabilities: Sequence[float], presence: Sequence[float]) -> float:
    """Mean binary cross-entropy in nats."""
    pairs = zip(probabilities, presence, strict=True)
    shares = [probability if is_there else 1 - probability for probability, is_there in pairs]
    return -statistics.fmean(math.log(max(share, 1e-7)) for share in shares)


def residuals_of(misses: Sequence[Miss]) -> list[Residuals]:
    """What intervals are made of."""
    return [Residuals(list(miss.by_subset)[-1], miss.by_subset) for miss in misses]


def validation_metrics(misses: Sequence[Miss], method: Method) -> dict[str, float]:
    """The figure that counts first (MAE, error rate, or log loss); then the correlation, where
    scores and labels both vary, and which answers could not be read.

    Raises:
        ManifestError: not one clip could be read.
        TrainingError: the scores are no numbers.
    """
    if not misses:
        raise ManifestError("no validation clip could be read; check the files it names")
    names = {"emotion": "error_rate", "ecg": "log_loss"}
    name = names.get(method.label_space.task, "mae")
    metrics = {name: math.fsum(miss.error for miss in misses) / len(misses)}
    every_error = [error for miss in misses for error in (miss.error, *miss.by_subset.values())]
    if not all(map(math.isfinite, every_error)):
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
