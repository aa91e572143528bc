"""How far a method is off on labelled clips, while it is being trained."""

from __future__ import annotations

import math
from collections.abc import Sequence

from omni_msa.errors import ManifestError, TrainingError
from omni_msa.methods import Method
from omni_msa.model.thinker import Thinker
from omni_msa.training.data import LabelledInputs
from omni_msa.values import Answer

Miss = tuple[float, Answer | None]  # how far one clip's score is off, and the answer in words


def clip_misses(thinker: Thinker, method: Method, batch: Sequence[LabelledInputs]) -> list[Miss]:
    """Absolute errors of whole clips (of classes: 1 for a wrong one), in one pass."""
    if not batch:
        return []
    reading = method.read(thinker, [b.inputs for b in batch], [b.subsets for b in batch])
    answers = [row[0] for row in reading.answers] if reading.answers else [None] * len(batch)
    scores = reading.scores[:, 0].tolist()
    errors = [abs(score - b.labels[0]) for score, b in zip(scores, batch, strict=True)]
    if method.label_space.classes:
        errors = [float(error > 0) for error in errors]
    return list(zip(errors, answers, strict=True))


def validation_metrics(misses: Sequence[Miss], method: Method) -> dict[str, float]:
    """The figure that counts first (MAE or error rate), then which answers could not be read.

    Raises:
        ManifestError: not one clip could be read.
        TrainingError: the scores are no numbers.
    """
    if not misses:
        raise ManifestError("no validation clip could be read; check the files it names")
    name = "error_rate" if method.label_space.classes else "mae"
    metrics = {name: math.fsum(error for error, _ in misses) / len(misses)}
    if not math.isfinite(metrics[name]):
        raise TrainingError("the scores of the validation clips are no numbers (NaN)")
    answers = [answer for _, answer in misses if answer is not None]
    if answers:
        metrics["unparsable"] = sum(not a.parsable for a in answers) / len(answers)
        metrics["out_of_range"] = sum(not a.in_range for a in answers) / len(answers)
    return metrics | {"clips": float(len(misses))}
