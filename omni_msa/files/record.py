"""What comes out of a clip: its `Record`, one row of every output, with its ablation and answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from omni_msa.errors import code_of_class
from omni_msa.modalities import MODALITIES
from omni_msa.values import Clip


@dataclass(frozen=True)
class Ablation:
    """Scores of the subsets of a clip's modalities, keyed by `subset_name`, and derived values.

    `drop` maps a modality to the score without it and the change; `contribution` holds each
    modality's exact Shapley value: they sum to score(all) - score(nothing shown). `emotions` holds
    the same of each emotion's probability, by its name.
    """

    subsets: dict[str, float]
    drop: dict[str, dict[str, float]] = field(default_factory=dict)
    contribution: dict[str, float] = field(default_factory=dict)
    emotions: dict[str, dict[str, float]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Answer:
    """The answer of a generative readout for one subset; `value` is 0 when it is unparsable."""

    text: str
    value: float
    parsable: bool
    in_range: bool

    def to_json(self) -> dict[str, Any]:
        return {"text": self.text, "parsable": self.parsable, "in_range": self.in_range}


@dataclass(frozen=True)
class Record:
    """One clip's result, one row of every output. A failed clip has `score` None and `error`.

    `clip` is its name; `path`, `start_seconds` and `end_seconds` say which part of which file it
    is, None for words alone and for whole files. `text` holds the words that were scored, `extra`
    the columns of its manifest that are not ours.
    """

    clip: str
    sha256: str | None
    score: float | None
    range: tuple[float, float] | None = None
    modalities: dict[str, str | None] = field(default_factory=lambda: dict.fromkeys(MODALITIES))
    ablation: Ablation | None = None
    media: dict[str, Any] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    error: dict[str, str] | None = None
    label: float | None = None
    answer: Answer | None = None
    emotion: str | None = None  # the class whose number `score` is
    id: str | None = None  # the user's own name of the clip
    path: str | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    text: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    interval: tuple[float, float] | None = None  # holds the label, nine times of ten
    interval_absent: str | None = None  # why a score has none
    # probabilities: of all classes, or of each emotion for itself; None where there is no head
    emotions: dict[str, float] | None = None
    findings: dict[str, float] | None = None  # probabilities of a heart record's, each for itself

    @classmethod
    def of(cls, clip: Clip, sha256: str | None, score: float | None, **parts: Any) -> Record:
        """The record of a clip, with what it repeats of it: name, file, window, label, columns."""
        return cls(
            clip=clip.name,
            sha256=sha256,
            score=score,
            label=clip.label,
            id=clip.row_id,
            path=None if clip.path is None else str(clip.path),
            start_seconds=clip.start_seconds,
            end_seconds=clip.end_seconds,
            extra=clip.extra,
            **parts,
        )

    @property
    def name(self) -> str | None:
        """The class or the likeliest finding, where the score is the place of one."""
        findings = self.findings or {}
        return self.emotion or max(findings, key=lambda name: findings[name], default=None)

    @property
    def warning_kinds(self) -> frozenset[str]:
        """What its warnings are about: a warning is its kind, and after a colon the details."""
        return frozenset(warning.partition(": ")[0] for warning in self.warnings)

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON values: always every key of `files/record.schema.json`."""
        return {
            "clip": self.clip,  # first: how the files room knows a row that was cut short
            "id": self.id,
            "path": self.path,
            "start_seconds": self.start_seconds,
            "end_seconds": self.end_seconds,
            "sha256": self.sha256,
            "score": self.score,
            "range": list(self.range) if self.range else None,
            "interval": list(self.interval) if self.interval else None,
            "interval_absent": self.interval_absent,
            "modalities": self.modalities,
            "text": self.text,
            "ablation": self.ablation.to_json() if self.ablation is not None else None,
            "emotion": self.emotion,
            "emotions": self.emotions,
            "findings": self.findings,
            "answer": self.answer.to_json() if self.answer is not None else None,
            "label": self.label,
            "extra": self.extra,
            "media": self.media,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "model": self.model,
            "warnings": list(self.warnings),
            "error": self.error,
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Record:
        """The record from a row of `to_json`.

        Raises:
            KeyError, TypeError: the row has other fields.
        """
        parts = dict(row)
        ablation, answer = (parts.pop(name, None) for name in ("ablation", "answer"))
        for name in ("range", "interval"):
            ends = parts.get(name)
            parts[name] = (ends[0], ends[1]) if ends else None
        if parts["error"] is not None:  # older versions gave no code
            parts["error"] = {"code": code_of_class(parts["error"]["type"])} | parts["error"]
        if answer is not None:  # its value is the score
            answer = Answer(value=parts["score"], **answer)
        return cls(
            ablation=Ablation(**ablation) if ablation is not None else None,
            answer=answer,
            warnings=tuple(parts.pop("warnings")),
            **parts,
        )
