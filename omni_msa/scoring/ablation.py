"""Which subsets are scored, and what their scores say of each modality."""

from __future__ import annotations

from collections.abc import Mapping
from math import factorial

from omni_msa.files.record import Ablation
from omni_msa.modalities import Subset, all_subsets, in_order, subset_name
from omni_msa.options import AblationOptions


def subsets_to_score(present: Subset, ablation: AblationOptions) -> tuple[Subset, ...]:
    """The subsets that one pass must hold for this clip.

    With `drop`: the whole clip, the clip without each named modality, and without all of them.
    """
    if not ablation.enabled:
        return (present,)
    if not ablation.drop:
        return all_subsets(present)
    dropped = ablation.drop & present
    subsets = {present, present - dropped} | {present - {m} for m in dropped}
    return tuple(sorted(subsets, key=lambda s: (len(s), subset_name(s))))


def summarise(
    scores: dict[Subset, float],
    emotions: Mapping[str, dict[Subset, float]],
    present: Subset,
    ablation: AblationOptions,
) -> Ablation:
    """Subset scores -> what each drop changes, and exact contributions when all are known.

    Args:
        emotions: each one's probability by subset.
    """
    dropped = ablation.drop & present if ablation.drop else present
    drop = {
        m: {"score": scores[present - {m}], "delta": scores[present - {m}] - scores[present]}
        for m in in_order(dropped)
    }
    if len(dropped) > 1 and ablation.drop:
        rest = present - dropped
        name = "+".join(in_order(dropped))
        drop[name] = {"score": scores[rest], "delta": scores[rest] - scores[present]}
    complete = len(scores) == 2 ** len(present)
    return Ablation(
        subsets={subset_name(s): score for s, score in scores.items()},
        drop=drop,
        contribution=shapley(scores, present) if complete else {},
        emotions=emotion_shares(emotions, present),
    )


def emotion_shares(
    emotions: Mapping[str, dict[Subset, float]], present: Subset
) -> dict[str, dict[str, float]]:
    """Each modality's exact contribution to each emotion's probability, when all are known."""
    return {
        name: shapley(by_subset, present)
        for name, by_subset in emotions.items()
        if len(by_subset) == 2 ** len(present)
    }


def shapley(scores: dict[Subset, float], present: Subset) -> dict[str, float]:
    """Exact Shapley values of the modalities; they sum to score(all) - score(none).

    phi_m = sum over S without m of |S|! (n - |S| - 1)! / n! * (score(S + m) - score(S)).
    """
    n = len(present)
    values = {}
    for modality in in_order(present):
        total = 0.0
        for subset in all_subsets(present - {modality}):
            weight = factorial(len(subset)) * factorial(n - len(subset) - 1) / factorial(n)
            total += weight * (scores[subset | {modality}] - scores[subset])
        values[modality] = total
    return values
