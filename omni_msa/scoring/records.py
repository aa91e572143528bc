"""What was read of clips becomes their records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import TYPE_CHECKING

from omni_msa.errors import MediaError, ModelError
from omni_msa.files.labels import LabelSpace
from omni_msa.files.record import Ablation, Record
from omni_msa.media.ecg import ecg_of
from omni_msa.methods import Reading
from omni_msa.modalities import MODALITIES, Subset, in_order, subset_name, tokens
from omni_msa.options import AblationOptions
from omni_msa.scoring.ablation import emotion_shares, subsets_to_score, summarise
from omni_msa.scoring.intervals import interval_of
from omni_msa.scoring.languages import other_language
from omni_msa.values import Clip, FeatureSequence, Transcript

if TYPE_CHECKING:
    from omni_msa.scoring.scorer import Prepared, Scorer

Emotions = dict[str, list[float]]  # probabilities by the emotion's name, one a subset


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
    shares = _shares(reading, scorer.label_space, len(prepared))
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
        _record(
            scorer,
            p,
            SubsetScores.of(k, row, emotions),
            ablation,
            seconds,
            fingerprint,
            hide,
        )
        for p, k, row, emotions in zip(prepared, subsets, rows, shares, strict=True)
    ]
    if reading.answers is None:
        return records
    whole_clips = [row[len(k) - 1] for row, k in zip(reading.answers, subsets, strict=True)]
    return [
        replace(record, answer=answer) for record, answer in zip(records, whole_clips, strict=True)
    ]


@dataclass(frozen=True)
class SubsetScores:
    """What was read of one clip: its score, and each emotion's probability, by subset."""

    scores: dict[Subset, float]
    emotions: dict[str, dict[Subset, float]]

    @classmethod
    def of(
        cls, subsets: Sequence[Subset], scores: Sequence[float], emotions: Emotions
    ) -> SubsetScores:
        """Args: `emotions` holds a row a subset by the emotion's name."""
        by_name = {n: dict(zip(subsets, row, strict=False)) for n, row in emotions.items()}
        return cls(dict(zip(subsets, scores, strict=True)), by_name)


def _shares(reading: Reading, space: LabelSpace, num_clips: int) -> list[Emotions]:
    """Each clip's probabilities by the emotion's name; none without a head for them."""
    if reading.emotions is None:
        return [{} for _ in range(num_clips)]
    names = space.names or space.emotions
    by_clip = reading.emotions.float().movedim(-1, 1).tolist()  # B x E x K
    return [dict(zip(names, rows, strict=True)) for rows in by_clip]


def _record(
    scorer: Scorer,
    prepared: Prepared,
    reading: SubsetScores,
    ablation: AblationOptions,
    forward_seconds: float,
    fingerprint: str,
    hide: Subset,
) -> Record:
    content, inputs, scores = prepared.content, prepared.inputs, reading.scores
    shown, space = inputs.present, scorer.label_space
    seconds = {
        "decode": round(content.decode_seconds, 4),
        "inputs": round(prepared.input_seconds, 4),
        "forward": round(forward_seconds, 4),
    }
    # what the checkpoint is never shown is said by its own remark
    dropped = tuple(f"dropped on request: {m}" for m in MODALITIES if m in hide - scorer.hidden)
    dropped += _left_alone(content.clip, scorer.method.unused_modalities(scorer.method.options))
    words = content.parts["text"] if "text" in shown else None
    text = (words.text or None) if isinstance(words, Transcript | FeatureSequence) else None
    language = other_language(text, scorer.checkpoint.info.languages) if text else ()
    probabilities = {n: row[shown] for n, row in reading.emotions.items()}
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
        ablation=_ablation(scorer, reading, shown, ablation) if ablation.enabled else None,
        media=content.media,
        tokens=inputs.num_tokens,
        seconds=seconds,
        model=scorer.describe() | {"fingerprint": fingerprint},
        warnings=content.warnings + inputs.warnings + language + dropped + scorer.remarks,
        emotion=space.text(scores[shown]) if space.classes else None,
        **{"findings" if space.findings else "emotions": probabilities or None},
    )


def _left_alone(clip: Clip, unused: Subset) -> tuple[str, ...]:
    """What a clip may have and the method cannot use."""
    heart = ecg_of(clip)
    if "ecg" in unused and heart is not None:
        return (f"ecg not looked at: {heart[1]}",)
    if unused >= tokens() and (heart is None or heart[0] != clip.path):
        return ("only the heart is looked at: words, voice and face are not",)
    return ()


def _ablation(
    scorer: Scorer, reading: SubsetScores, shown: Subset, options: AblationOptions
) -> Ablation:
    """What each subset gives; numbers of classes have no differences, their probabilities do."""
    if scorer.label_space.names:
        return Ablation(
            {subset_name(s): score for s, score in reading.scores.items()},
            emotions=emotion_shares(reading.emotions, shown),
        )
    return summarise(reading.scores, reading.emotions, shown, options)
