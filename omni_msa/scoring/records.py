"""What was read of clips becomes their records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING

from omni_msa.errors import MediaError, ModelError
from omni_msa.files.record import Ablation, Record
from omni_msa.methods import Reading
from omni_msa.modalities import MODALITIES, Subset, in_order, subset_name
from omni_msa.options import AblationOptions
from omni_msa.scoring.ablation import subsets_to_score, summarise
from omni_msa.scoring.intervals import interval_of
from omni_msa.scoring.languages import other_language
from omni_msa.values import Transcript

if TYPE_CHECKING:
    from omni_msa.scoring.scorer import Prepared, Scorer


def subsets_of(prepared: Sequence[Prepared], ablation: AblationOptions) -> list[tuple[Subset, ...]]:
    """What is scored of each clip; nothing would be left of one whose modalities are all dropped.

    Raises:
        MediaError: there is such a clip.
    """
    for item in prepared:
        if ablation.drop and item.inputs.present <= ablation.drop:
            present = " and ".join(in_order(item.inputs.present))
            message = (
                f"{item.content.clip.name}: it has {present} only, and all of it is dropped; "
                "drop less"
            )
            raise MediaError(message, code="nothing_to_score")
    return [subsets_to_score(item.inputs.present, ablation) for item in prepared]


def records_of(
    scorer: Scorer,
    prepared: Sequence[Prepared],
    subsets: Sequence[tuple[Subset, ...]],
    reading: Reading,
    seconds: float,
    ablation: AblationOptions,
    hide: Subset,
) -> list[Record]:
    """A record each clip; `seconds` is its share of the forward pass."""
    rows = [row[: len(k)] for row, k in zip(reading.scores.tolist(), subsets, strict=True)]
    for item, row in zip(prepared, rows, strict=True):
        if not all(map(isfinite, row)):
            raise ModelError(
                f"{item.content.clip.name}: the model gave no number (NaN); its weights or the "
                "precision do not fit (try --quantize none)"
            )
    if scorer.state_collector is not None:
        scorer.state_collector.add(prepared, subsets, reading)
    fingerprint = scorer.fingerprint(ablation, hide)
    records = [
        _record(scorer, p, dict(zip(k, row, strict=True)), ablation, seconds, fingerprint, hide)
        for p, k, row in zip(prepared, subsets, rows, strict=True)
    ]
    if reading.answers is None:
        return records
    whole_clips = [row[len(k) - 1] for row, k in zip(reading.answers, subsets, strict=True)]
    return [
        replace(record, answer=answer) for record, answer in zip(records, whole_clips, strict=True)
    ]


def _record(
    scorer: Scorer,
    prepared: Prepared,
    scores: dict[Subset, float],
    ablation: AblationOptions,
    forward_seconds: float,
    fingerprint: str,
    hide: Subset,
) -> Record:
    content, inputs = prepared.content, prepared.inputs
    shown, classes = inputs.present, scorer.label_space.classes
    seconds = {
        "decode": round(content.decode_seconds, 4),
        "inputs": round(prepared.input_seconds, 4),
        "forward": round(forward_seconds, 4),
    }
    # what the checkpoint is never shown is said by its own remark
    dropped = tuple(f"dropped on request: {m}" for m in MODALITIES if m in hide - scorer.hidden)
    words = content.parts["text"] if "text" in shown else None
    text = words.text if isinstance(words, Transcript) else None
    language = other_language(text, scorer.checkpoint.info.languages) if text else ()
    interval = interval_of(scores[shown], shown, scorer.checkpoint)
    return Record.of(
        content.clip,
        content.sha256,
        scores[shown],
        text=text,
        range=scorer.label_space.range,
        interval=interval.bounds,
        interval_absent=interval.absent,
        modalities={m: content.parts[m].source if m in shown else None for m in MODALITIES},
        ablation=_ablation(scorer, scores, shown, ablation) if ablation.enabled else None,
        media=content.media,
        tokens=inputs.num_tokens,
        seconds=seconds,
        model=scorer.describe() | {"fingerprint": fingerprint},
        warnings=content.warnings + inputs.warnings + language + dropped + scorer.remarks,
        emotion=classes[round(scores[shown])] if classes else None,
    )


def _ablation(
    scorer: Scorer, scores: dict[Subset, float], shown: Subset, options: AblationOptions
) -> Ablation:
    """What each subset gives; numbers of classes have no differences."""
    if scorer.label_space.classes:
        return Ablation({subset_name(s): score for s, score in scores.items()})
    return summarise(scores, shown, options)
