"""Scored clips against their labels: metrics with intervals, the ablation table, comparisons.

Everything here is arithmetic on rows that a batch has written; which model wrote them is said once.
Every figure stands beside that of always answering the training labels' mean.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from omni_msa.errors import ConfigError, ManifestError, MediaError
from omni_msa.evaluation.coverage import Coverage, coverage_of
from omni_msa.evaluation.label_gap import LabelGap
from omni_msa.evaluation.metrics import (
    FAMILIES,
    Family,
    emotion_family,
    findings_family,
    mean_and_deviation,
)
from omni_msa.evaluation.presence import PresenceFigures, presence_figures
from omni_msa.evaluation.resampling import (
    Basis,
    Difference,
    Units,
    bootstrap_intervals,
    paired_differences,
    units_of,
)
from omni_msa.files.importers import DATASETS
from omni_msa.files.labels import LabelSpace
from omni_msa.files.record import Answer, Record
from omni_msa.modalities import MODALITIES, all_subsets, in_order, subset_name, tokens
from omni_msa.options import EvaluateOptions
from omni_msa.values import Clip

if TYPE_CHECKING:
    from omni_msa.scoring.checkpoint import CheckpointInfo


@dataclass(frozen=True)
class ScoredClip:
    """What is known of one clip: its label (see `findings_family`), and its subsets' scores."""

    name: str
    label: float
    score: float
    subsets: dict[str, float] = field(default_factory=dict)
    answer: Answer | None = None  # of a method whose scores are parsed from text
    interval: tuple[float, float] | None = None
    speaker: str | None = None
    video: str | None = None
    shares: dict[str, float] | None = None  # probabilities of emotions or findings
    presence: tuple[float, ...] = ()  # see `LabelSpace.presence`


@dataclass(frozen=True)
class Figures:
    """Metrics of one system on N clips, each with its 95 % interval."""

    basis: Basis  # of the intervals
    values: dict[str, float]
    intervals: dict[str, tuple[float, float]]

    @property
    def num_clips(self) -> int:
        return self.basis.num_clips

    def to_json(self) -> dict[str, Any]:
        return {
            "clips": self.num_clips,
            **_numbers(self.values),
            "intervals_95": {k: [_number(v) for v in ends] for k, ends in self.intervals.items()},
            "intervals_over": self.basis.to_json(),
        }


@dataclass(frozen=True)
class Ablated:
    """One row of the ablation table, and how it differs from showing everything."""

    figures: Figures
    change: dict[str, Difference]

    def to_json(self) -> dict[str, Any]:
        return self.figures.to_json() | {"change": differences_json(self.change)}


@dataclass(frozen=True)
class Evaluation:
    """One checkpoint on one split. `baseline` is the constant predictor's figures."""

    system: str
    family: Family
    figures: Figures
    baseline: dict[str, float]
    baseline_name: str
    failed: int = 0
    answers: dict[str, float] = field(default_factory=dict)  # shares, of scores parsed from text
    parsable_only: Figures | None = None
    coverage: Coverage | None = None  # where there are intervals
    presence: PresenceFigures | None = None  # of emotions beside the score, or of findings
    ablation: dict[str, Ablated] = field(default_factory=dict)
    ablation_baseline: dict[str, float] = field(default_factory=dict)  # on the ablation's clips
    protocol: str = ""  # of the ablation: how the one model that is shown less was trained
    checkpoint: str = ""
    split: str = ""
    overlap: dict[str, int] | None = None  # clips the checkpoint was trained or validated on
    label_gap: LabelGap | None = None
    notices: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        row: dict[str, Any] = {"system": self.system, "family": self.family.name}
        row |= {"failed": self.failed, "metrics": self.figures.to_json()}
        row["baseline"] = {"name": self.baseline_name} | _numbers(self.baseline)
        if self.coverage is not None:
            row["intervals_90"] = self.coverage.to_json()
        if self.presence is not None:
            row[f"{self.presence.noun}s"] = self.presence.to_json()
        if self.answers:
            row["said"] = self.answers
            only = self.parsable_only
            row["unparsable_excluded"] = only.to_json() if only is not None else None
        if self.ablation:
            row["protocol"] = self.protocol
            row["ablation"] = {name: part.to_json() for name, part in self.ablation.items()}
            row["ablation_baseline"] = _numbers(self.ablation_baseline)
        if self.overlap is not None:
            row["overlap_with_training"] = self.overlap
        if self.label_gap is not None:
            row["label_gap"] = self.label_gap.to_json()
        return row | {"titles": self.family.titles, "notices": list(self.notices)}


def select(clips: Sequence[Clip], split: str | None) -> tuple[list[Clip], str]:
    """The clips of a split; by default `test`, or all where there are no splits.

    Raises:
        ManifestError: the split is empty.
    """
    splits = sorted({clip.split for clip in clips if clip.split})
    split = split or ("test" if splits else None)
    chosen = [clip for clip in clips if split is None or clip.split == split]
    if not chosen:
        present = ", ".join(splits) or "no splits"
        raise ManifestError(f"no clip of split {split!r}; the manifest has: {present}")
    return chosen, split or "all"


def require_labels(clips: Sequence[Clip]) -> None:
    """Every clip that is measured needs a label.

    Raises:
        ManifestError: how many have none, and the first of them.
    """
    bare = [clip for clip in clips if clip.label is None]
    if bare:
        is_hearts = any(clip.findings for clip in bare)
        hint = "; of findings, give --checkpoint of one that gives them" if is_hearts else ""
        raise ManifestError(
            f"{len(bare)} of {len(clips)} clips have no label, such as {bare[0].name}; "
            f"evaluation needs one each{hint}"
        )


def protocol_of(info: CheckpointInfo) -> str:
    """How the model of an ablation was trained: what a row of it does and does not say."""
    training = {
        "packed": "trained on whole clips and all their subsets",
        "full": "trained on whole clips",
    }.get(info.training.get("subsets", ""), "not trained anew for any row")
    if info.hide:
        training += f", never with {' or '.join(in_order(info.hide))}"
    return f"test-time drop: one model, {training}; modalities are left out when scoring"


def family_of(
    clips: Sequence[Clip], name: str, label_space: LabelSpace
) -> tuple[Family, str | None]:
    """The metric family: of classes, that of this name, the data set's own, or the one whose range
    the labels have; for any other range, what has one meaning in all of them.

    Returns:
        The family, and a notice where it was only suggested.
    """
    if label_space.classes:
        return emotion_family(label_space.classes), None
    if label_space.findings:
        return findings_family([label_space.presence(clip) for clip in clips]), None
    if name != "auto":
        return FAMILIES[name], None
    of_datasets = {DATASETS[c.dataset].facts.family for c in clips if c.dataset in DATASETS}
    of_datasets &= set(FAMILIES)
    if len(of_datasets) == 1:
        return FAMILIES[of_datasets.pop()], None
    low, high = label_space.range
    fitting = (family for family in FAMILIES.values() if family.label_range == label_space.range)
    if family := next(fitting, None):
        return family, f"metrics of the {family.name} family, by the label range {low:g}..{high:g}"
    return FAMILIES["general"], (
        f"metrics of the general family: the label range {low:g}..{high:g} is neither that of mosi "
        "(-3..3) nor that of sims (-1..1), in which classes are counted; --metrics asks for one"
    )


def scored_clips(
    clips: Sequence[Clip], records: Sequence[Record | None], space: LabelSpace
) -> tuple[list[ScoredClip], int]:
    """Labels beside the records that a batch wrote for the clips; and how many have no score."""
    scored = []
    for number, (clip, record) in enumerate(zip(clips, records, strict=True)):
        if record is None or record.score is None or clip.label is None:
            continue
        subsets = record.ablation.subsets if record.ablation else {}
        parts = (subsets, record.answer, record.interval, clip.speaker, clip.video)
        label = float(number) if space.findings else clip.label
        shares = record.emotions or record.findings, space.presence(clip)
        scored.append(ScoredClip(clip.name, label, record.score, *parts, *shares))
    if not scored:
        raise MediaError("not one clip could be scored; there is nothing to evaluate")
    return scored, len(clips) - len(scored)


def evaluate(
    system: str,
    scored: Sequence[ScoredClip],
    family: Family,
    constant: tuple[float, str],
    options: EvaluateOptions,
    failed: int = 0,
    protocol: str = "",
    space: LabelSpace | None = None,
) -> Evaluation:
    """All figures of one system. Of scores that were parsed from text, also how many could not be,
    and the figures without those.

    Args:
        constant: what is always answered for comparison, and what that is.
        protocol: of the ablation, if there is one (see `protocol_of`).
    """
    labels = np.array([clip.label for clip in scored])
    answers: dict[str, float] = {}
    parsable_only = None
    with_answers = [clip for clip in scored if clip.answer is not None]
    if len(with_answers) == len(scored):  # rows of a .csv do not hold them
        parsable = [clip for clip in with_answers if clip.answer and clip.answer.parsable]
        outside = sum(not clip.answer.in_range for clip in with_answers if clip.answer)
        answers = {
            "unparsable": 1 - len(parsable) / len(with_answers),
            "out_of_range": outside / len(with_answers),
        }
        parsable_only = _figures(parsable, family, options) if parsable else None
    value, name = constant

    def always(labels: np.ndarray) -> dict[str, float]:
        return family.measure(np.full(len(labels), value), labels)

    ablation, ablated = _ablation(scored, family, options) if options.ablate else ({}, labels)
    return Evaluation(
        system=system,
        family=family,
        figures=_figures(scored, family, options),
        baseline=always(labels),
        baseline_name=name,
        failed=failed,
        answers=answers,
        parsable_only=parsable_only,
        coverage=coverage_of(scored),
        presence=presence_figures(scored, space or LabelSpace(), options),
        ablation=ablation,
        ablation_baseline=always(ablated) if ablation else {},
        protocol=protocol,
    )


def compare(
    first: Sequence[ScoredClip],
    second: Sequence[ScoredClip],
    family: Family,
    options: EvaluateOptions,
) -> tuple[dict[str, Difference], Basis]:
    """How the second system differs on the clips that both have scored; and what that rests on."""
    return compare_runs([first], [second], family, options)


def compare_runs(
    first: Sequence[Sequence[ScoredClip]],
    second: Sequence[Sequence[ScoredClip]],
    family: Family,
    options: EvaluateOptions,
) -> tuple[dict[str, Difference], Basis]:
    """The same of two systems with several runs each (seeds): means over their runs are compared,
    on the clips that all runs have scored."""
    runs = [{clip.name: clip for clip in run} for run in (*first, *second)]
    shared = [clip for name, clip in runs[-1].items() if all(name in run for run in runs)]
    if not shared:
        raise ConfigError("the two systems have no scored clip in common")
    scores = np.array([[run[clip.name].score for clip in shared] for run in runs])
    units = units_of(shared, options.intervals_over)
    change = paired_differences(
        family.measure,
        scores[: len(first)],
        scores[len(first) :],
        np.array([clip.label for clip in shared]),
        options.resamples,
        options.seed,
        units,
    )
    return change, units.basis


def over_seeds(evaluations: Sequence[Evaluation]) -> dict[str, tuple[float, float]]:
    """Mean and sample deviation of each metric over checkpoints that differ by their seed."""
    return mean_and_deviation([evaluation.figures.values for evaluation in evaluations])


def ablation_over_seeds(
    evaluations: Sequence[Evaluation],
) -> dict[str, dict[str, tuple[float, float]]]:
    """The same of each subset that every checkpoint's ablation has; empty without ablations."""
    first, *others = (evaluation.ablation for evaluation in evaluations)
    shared = [name for name in first if all(name in other for other in others)]
    return {
        name: mean_and_deviation([e.ablation[name].figures.values for e in evaluations])
        for name in shared
    }


def differences_json(change: Mapping[str, Difference]) -> dict[str, Any]:
    """Differences as plain JSON values."""
    return {
        key: {"value": _number(d.value), "interval_95": [_number(d.low), _number(d.high)]}
        for key, d in change.items()
    }


def _ablation(
    scored: Sequence[ScoredClip], family: Family, options: EvaluateOptions
) -> tuple[dict[str, Ablated], np.ndarray]:
    """Every subset but the empty one, each on the clips that have all modalities (where one is
    hidden, the subsets of the others), and those clips' labels."""
    whole = _usual_whole(scored)
    complete = [clip for clip in scored if whole in clip.subsets]
    if not whole:
        raise ManifestError("nothing is shown of any clip; there is nothing to ablate")
    labels = np.array([clip.label for clip in complete])
    everything = np.array([clip.subsets[whole] for clip in complete])
    units = units_of(complete, options.intervals_over)
    table = {}
    names = map(subset_name, all_subsets(MODALITIES))
    for name in (name for name in names if name and set(name) <= set(whole)):
        scores = np.array([clip.subsets[name] for clip in complete])
        change = paired_differences(
            family.measure, everything, scores, labels, options.resamples, options.seed, units
        )
        table[name] = Ablated(_measured(scores, labels, family, options, units), change)
    return table, labels


def _usual_whole(scored: Sequence[ScoredClip]) -> str:
    """Of what clips have, the most tokens' modalities; with the others where most clips have them,
    so that one heart record does not leave an ablation that one clip."""
    wholes = Counter(max(clip.subsets, key=len) for clip in scored if clip.subsets)
    shown = {MODALITIES[name].letter for name in tokens()}
    return max(wholes, key=lambda name: (len(shown & {*name}), wholes[name]), default="")


def _figures(clips: Sequence[ScoredClip], family: Family, options: EvaluateOptions) -> Figures:
    scores, labels = (np.array([getattr(c, name) for c in clips]) for name in ("score", "label"))
    return _measured(scores, labels, family, options, units_of(clips, options.intervals_over))


def _measured(
    scores: np.ndarray, labels: np.ndarray, family: Family, options: EvaluateOptions, units: Units
) -> Figures:
    intervals = bootstrap_intervals(
        family.measure, scores, labels, options.resamples, options.seed, units
    )
    return Figures(units.basis, family.measure(scores, labels), intervals)


def _numbers(values: Mapping[str, float]) -> dict[str, float | None]:
    return {key: _number(value) for key, value in values.items()}


def _number(value: float) -> float | None:
    """JSON has no NaN: what is undefined is null."""
    return None if math.isnan(value) else round(value, 6)
