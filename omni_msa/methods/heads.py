"""What a trained head gives for each state, as scores and probabilities, and its losses.

Shapes: B clips, K subsets, O outputs of the head (`LabelSpace.num_outputs`), E emotions.
"""

from __future__ import annotations

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from omni_msa.files.labels import LabelSpace
from omni_msa.methods.method import Labels, Reading


def reading_of(
    space: LabelSpace, outputs: torch.Tensor, states: torch.Tensor | None = None
) -> Reading:
    """Outputs [B, K, O] as what they say of the clips."""
    return Reading(space.restore(outputs), space.probabilities(outputs), states=states)


def head_losses(space: LabelSpace, outputs: torch.Tensor, labels: Labels) -> torch.Tensor:
    """Losses [B, K] of outputs [B, K, O]: the absolute error in z-scores, or the cross-entropy of
    classes; and the mean cross-entropy of the emotions whose presence is known, or of findings."""
    if space.findings:
        assert labels.emotions is not None  # with_labels gives them
        return emotion_losses(outputs, labels.emotions)
    if space.classes:
        return cross_entropy(outputs.movedim(-1, 1), labels.scores.long(), reduction="none")
    losses = (outputs[..., 0] - space.normalise(labels.scores)).abs()
    if labels.emotions is None:
        return losses
    return losses + emotion_losses(outputs[..., 1:], labels.emotions)


def emotion_losses(logits: torch.Tensor, presence: torch.Tensor) -> torch.Tensor:
    """Mean binary cross-entropy [B, K] of logits [B, K, E] over the emotions whose presence [B, E]
    is known; zero where none is."""
    is_known = ~presence.isnan()
    targets = presence.nan_to_num(0.0)[:, None].expand_as(logits)
    each = binary_cross_entropy_with_logits(logits, targets, reduction="none")
    counts = is_known.sum(-1).clamp(min=1)[:, None]  # [B, 1]
    return (each * is_known[:, None]).sum(-1) / counts
