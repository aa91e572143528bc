"""What labels are, numbers of a range or classes, and how they are written: "+1.4", "joy"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np

from omni_msa.errors import ConfigError, ManifestError, check_choice
from omni_msa.files.answers import parse_answer, parse_class
from omni_msa.files.importers import DATASETS
from omni_msa.files.record import Answer
from omni_msa.options import DEFAULT_RANGE, TASKS, check_label_range
from omni_msa.values import Clip

if TYPE_CHECKING:
    import torch


MOSEI_EMOTIONS = ("happiness", "sadness", "anger", "surprise", "disgust", "fear")


@dataclass(frozen=True)
class LabelSpace:
    """What labels are: numbers of a range or, with `classes`, places in that list (0 to C - 1).

    With `emotions`, a clip is also labelled with which of them are present, several or none. With
    `findings`, a heart record is labelled with those, one or several; a score is then the place of
    the likeliest.
    `mean` and `deviation` are of the training labels (see `fitted`); heads learn z-scores by them.
    """

    low: float = DEFAULT_RANGE[0]
    high: float = DEFAULT_RANGE[1]
    classes: tuple[str, ...] = ()
    mean: float = 0.0
    deviation: float = 1.0
    emotions: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("classes", "emotions", "findings"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON has lists

    @classmethod
    def of_classes(cls, classes: Sequence[str]) -> LabelSpace:
        """Labels that are places in a list of classes."""
        return cls(0.0, len(classes) - 1.0, tuple(classes))

    @classmethod
    def of_findings(cls, findings: Sequence[str]) -> LabelSpace:
        """Labels that are some of these findings."""
        return cls(0.0, len(findings) - 1.0, findings=tuple(findings))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the places that a score can be; none where it is a number of the range."""
        return self.classes or self.findings

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest label."""
        return self.low, self.high

    @property
    def task(self) -> str:
        """A key of `TASKS`."""
        if self.findings:
            return "ecg"
        if self.classes:
            return "emotion"
        return "sentiment+emotions" if self.emotions else "sentiment"

    @property
    def num_outputs(self) -> int:
        """Numbers that a head gives for one state: one, or one a class; and one an emotion."""
        return (len(self.names) or 1) + len(self.emotions)

    def knows(self, clip: Clip) -> bool:
        """Whether all names that a clip is labelled with are of this space."""
        if self.findings:
            return {*(clip.findings or ())} <= {*self.findings}
        return not self.classes or clip.emotion in self.classes

    def labelled(self, clips: Sequence[Clip]) -> list[Clip]:
        """The clips with labels of this space: with classes, the place of each clip's emotion; of
        findings, that of the first of them.

        Clips without one, which some data sets have for regression alone, are left out.

        Raises:
            ManifestError: clips with an emotion that is no class, or none with one.
        """
        if self.findings:
            return self._with_findings(clips)
        if not self.classes:
            return list(clips)
        with_emotion = [clip for clip in clips if clip.emotion is not None]
        bad = [clip for clip in with_emotion or clips if clip.emotion not in self.classes]
        if bad:
            raise ManifestError(
                f"{len(bad)} clips have no emotion among {', '.join(self.classes)}, such as "
                f"{bad[0].name} ({bad[0].emotion}); fix the manifest's emotion column"
            )
        place = {name: float(i) for i, name in enumerate(self.classes)}
        return [
            replace(clip, label=place[clip.emotion or ""], subset_labels={})
            for clip in with_emotion
        ]

    def _with_findings(self, clips: Sequence[Clip]) -> list[Clip]:
        labelled = [clip for clip in clips if clip.findings is not None]
        bad = [c for c in labelled or clips if not c.findings or {*c.findings} - {*self.findings}]
        if bad:
            raise ManifestError(
                f"{len(bad)} records have findings that are not among {', '.join(self.findings)}, "
                f"such as {bad[0].name} ({', '.join(bad[0].findings or ('none',))}); fix the "
                "manifest's findings column"
            )
        places = [min(map(self.findings.index, clip.findings or ())) for clip in labelled]
        return [
            replace(clip, label=float(place), subset_labels={})
            for clip, place in zip(labelled, places, strict=True)
        ]

    def check(self, clips: Sequence[Clip]) -> None:
        """Every clip needs a label in the range.

        Raises:
            ManifestError: how many have none, and the first of them.
        """
        bad = [c for c in clips if c.label is None or not self.low <= c.label <= self.high]
        if bad:
            raise ManifestError(
                f"{len(bad)} clips have no label in [{self.low:g}, {self.high:g}], such as "
                f"{bad[0].name} ({bad[0].label}); fix the manifest's label column, or give "
                "--label-range LOW HIGH"
            )

    def fitted(self, clips: Sequence[Clip]) -> LabelSpace:
        """With mean and (population) deviation of the training labels; names have neither.

        Raises:
            ConfigError: all labels are equal.
        """
        if self.names:
            return self
        labels = np.array([c.label or 0.0 for c in clips], dtype=np.float64)
        deviation = float(labels.std())
        if deviation == 0:
            raise ConfigError("all training labels are equal; there is nothing to learn")
        return replace(self, mean=float(labels.mean()), deviation=deviation)

    def normalise(self, labels: torch.Tensor) -> torch.Tensor:
        return (labels - self.mean) / self.deviation

    def restore(self, outputs: torch.Tensor) -> torch.Tensor:
        """Head outputs [..., O] -> labels [...]: the first, a z-score, in label units, or the class
        with the highest logit."""
        if self.names:
            return outputs.argmax(-1).float()
        return self.clip(outputs[..., 0] * self.deviation + self.mean)

    def probabilities(self, outputs: torch.Tensor) -> torch.Tensor | None:
        """Of the classes [..., C], which sum to 1, or of each emotion or finding [..., E]; None
        without."""
        if self.classes:
            return outputs.softmax(-1)
        if self.findings:
            return outputs.sigmoid()
        return outputs[..., 1:].sigmoid() if self.emotions else None

    def presence(self, clip: Clip) -> tuple[float, ...]:
        """Which emotions or findings the clip is labelled with: 1 or 0 each; NaN where that is not
        known."""
        if self.findings:
            return tuple(float(name in (clip.findings or ())) for name in self.findings)
        if clip.emotions is None:
            return (nan,) * len(self.emotions)
        return tuple(float(clip.emotions.get(name, 0.0) > 0) for name in self.emotions)

    def clip(self, scores: torch.Tensor) -> torch.Tensor:
        return scores.clamp(self.low, self.high)

    def texts(self) -> dict[str, float]:
        """Every label as the model writes it, and its value."""
        if self.classes:
            return {name: float(i) for i, name in enumerate(self.classes)}
        return label_texts(self.low, self.high)

    def text(self, value: float) -> str:
        """One label as the model writes it."""
        return self.classes[round(value)] if self.classes else label_text(value)

    def parse(self, text: str) -> Answer:
        """A label as the model has written it."""
        if self.classes:
            return parse_class(text, self.classes)
        return parse_answer(text, self.low, self.high)

    def to_json(self) -> dict[str, Any]:
        """Without emotions or findings there is no entry for them: fingerprints of older versions
        hold."""
        later = ("emotions", "findings")
        return {k: v for k, v in asdict(self).items() if v or k not in later}


def label_text(value: float) -> str:
    """`1.44` -> `"+1.4"`; zero is `"+0.0"`."""
    return f"{value:+.1f}".replace("-0.0", "+0.0")


def label_texts(low: float, high: float) -> dict[str, float]:
    """Every label of a range in steps of a tenth: its text and its value."""
    tenths = range(round(low * 10), round(high * 10) + 1)
    return {label_text(n / 10): n / 10 for n in tenths}


def label_space_of(
    clips: Sequence[Clip], task: str, label_range: tuple[float, float] | None
) -> LabelSpace:
    """What a manifest's labels are.

    Args:
        label_range: as the user names it; else it is the data set's own, or that of MOSI.

    Raises:
        ConfigError: no such task, or a range that is none.
        ManifestError: data sets of several ranges, or fewer than two classes.
    """
    check_choice("task", task, TASKS)
    datasets = sorted({c.dataset or "" for c in clips} & {*DATASETS})
    facts = [DATASETS[name].facts for name in datasets]
    if task == "emotion":
        if label_range is not None:
            raise ConfigError("--label-range is about numbers; emotions are classes")
        return LabelSpace.of_classes(_classes_of(clips, {f.classes for f in facts} - {()}))
    if task == "ecg":
        if label_range is not None:
            raise ConfigError("--label-range is about numbers; findings are names")
        return LabelSpace.of_findings(_findings_of(clips, {f.findings for f in facts} - {()}))
    emotions = _emotions_of(clips) if task == "sentiment+emotions" else ()
    if label_range is not None:
        check_label_range(label_range)
        return LabelSpace(*label_range, emotions=emotions)
    ranges = {f.label_range for f in facts}
    if len(ranges) > 1:
        raise ManifestError(
            f"the manifest mixes data sets with label ranges {sorted(ranges)}; bring the "
            "labels to one scale, remove the column dataset, and give --label-range"
        )
    return LabelSpace(*(ranges.pop() if ranges else DEFAULT_RANGE), emotions=emotions)


def _emotions_of(clips: Sequence[Clip]) -> tuple[str, ...]:
    """Those that the clips name, CMU-MOSEI's six in their published order before others."""
    names = {name for clip in clips for name in clip.emotions or ()}
    if not names:
        raise ManifestError(
            "no clip has emotions; the column emotions names those that are present, such as "
            '["happiness", "surprise"] or, in a .csv, happiness;surprise'
        )
    return (*(n for n in MOSEI_EMOTIONS if n in names), *sorted(names - {*MOSEI_EMOTIONS}))


def _findings_of(clips: Sequence[Clip], published: set[tuple[str, ...]]) -> tuple[str, ...]:
    """The data set's own in their order, or those that the records name."""
    names = tuple(sorted({name for clip in clips for name in clip.findings or ()}))
    findings = published.pop() if len(published) == 1 else names
    if len(findings) < 2:
        raise ManifestError(
            f"the column findings names {len(findings)} ({', '.join(findings) or 'none'}); two or "
            'more are needed, such as ["NORM"] and ["AF", "LBBB"]'
        )
    return findings


def _classes_of(clips: Sequence[Clip], published: set[tuple[str, ...]]) -> tuple[str, ...]:
    """The data set's own classes in their order, or those that the clips name."""
    emotions = tuple(sorted({c.emotion for c in clips if c.emotion}))
    classes = published.pop() if len(published) == 1 else emotions
    if len(classes) < 2:
        raise ManifestError(
            f"the column emotion names {len(classes)} classes ({', '.join(classes) or 'none'}); "
            "two or more are needed"
        )
    return classes
