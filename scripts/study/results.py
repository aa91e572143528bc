"""What came out of a study: its arms measured, and compared with the first.

Rows are plain numbers, rounded once: every table of the study is made of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from omni_msa.errors import ConfigError, MediaError
from omni_msa.evaluation.constant import constant_answer
from omni_msa.evaluation.evaluate import (
    Evaluation,
    ScoredClip,
    compare_runs,
    evaluate,
    over_seeds,
    scored_clips,
)
from omni_msa.evaluation.flat_table import table_rows
from omni_msa.evaluation.resampling import holm
from omni_msa.modalities import Subset, subset_name
from omni_msa.scoring.checkpoint import read_info
from scripts.study.arms import Arm, Run, runs_of
from scripts.study.plan import Study
from scripts.study.running import Workshop

Row = dict[str, Any]
KEYS = ("arm", "readout", "shown", "protocol", "seeds", "clips", "failed", "state")
CHANGE = ("change", "change_low", "change_high", "p", "p_holm", "compared_clips")
ANSWERS = ("unparsable", "out_of_range")
DONE = "done"
DIGITS = 6


@dataclass
class Measured:
    """An arm with what its runs gave; `failure` says why it has no figures."""

    arm: Arm
    evaluations: list[Evaluation] = field(default_factory=list)  # a run each
    scored: list[list[ScoredClip]] = field(default_factory=list)  # the same
    failure: str | None = None


def measure_arms(workshop: Workshop, failures: Mapping[str, str]) -> list[Measured]:
    """Every arm with the figures of its runs; one with a failed run has none, whichever it is: a
    mean over the seeds that went well would flatter.

    Args:
        failures: why runs could not be made or scored, by their names.
    """
    measured = []
    for arm in workshop.study.arms:
        part = Measured(arm)
        for run in arm.runs:
            seed = "" if run.seed is None else f"seed {run.seed}: "
            try:
                if run.name in failures:
                    raise MediaError(failures[run.name])
                evaluation, scored = _measure(workshop, arm, run)
            except MediaError as error:
                part.failure = "; ".join(filter(None, (part.failure, f"{seed}{error}")))
                continue
            part.evaluations.append(evaluation)
            part.scored.append(scored)
        measured.append(part)
    return measured


def shown_less(scored: Sequence[ScoredClip], shown: Subset) -> list[ScoredClip]:
    """The clips by their scores when only these modalities are shown; those that have none of
    them are left out, as they are when the others are hidden."""
    letters, clips = subset_name(shown), []
    for clip in scored:
        whole = max(clip.subsets, key=len)
        if name := "".join(letter for letter in whole if letter in letters):
            clips.append(replace(clip, score=clip.subsets[name], subsets={}, answer=None))
    if not clips:
        raise MediaError(f"no clip has any of {letters}")
    return clips


def arm_rows(study: Study, measured: Sequence[Measured]) -> list[Row]:
    """A row an arm: figures over its seeds, and how the primary metric differs from the first
    arm's."""
    changes = _changes(study, measured)
    p_values = {name: change["p"] for name, change in changes.items()}
    adjusted = holm(p_values, len(study.arms) - 1)
    has_answers = any(e.answers for part in measured for e in part.evaluations)
    rows = []
    for part in measured:
        row = _arm_row(study, part, has_answers)
        name = part.arm.name
        change = changes.get(name, {}) | {"p_holm": adjusted.get(name, math.nan)}
        rows.append(row | {key: _number(change.get(key, math.nan)) for key in CHANGE})
    return rows


def run_rows(workshop: Workshop, failures: Mapping[str, str]) -> list[Row]:
    """A row a run, in the order of the plan: which epoch was kept, by which validation."""
    attempts = workshop.num_attempts()
    rows = []
    for run in runs_of(workshop.study.arms):
        row: Row = {"run": run.name, "epoch": None, "validation": None}
        info = None if run.name in failures else _info(workshop, run)
        if info is not None:
            name, value = next(iter(info.metrics.items()))
            row["epoch"] = info.training.get("best_epoch")
            row["validation"] = f"{name} {value:.4f}"
        row["attempts"] = attempts[run.name]
        rows.append(row | {"state": failures.get(run.name, DONE)})
    return rows


def measurement_rows(measured: Sequence[Measured]) -> list[Row]:
    """A row a run and arm: every metric with its interval."""
    rows = []
    for part in measured:
        shown = {"shown": subset_name(part.arm.shown)}
        rows += [row | shown for row in table_rows({part.arm.name: part.evaluations})]
    return rows


def _measure(workshop: Workshop, arm: Arm, run: Run) -> tuple[Evaluation, list[ScoredClip]]:
    """One run on the test clips, shown what the arm shows.

    Raises:
        MediaError: not one clip could be scored.
    """
    study = workshop.study
    scored, failed = scored_clips(study.clips["test"], workshop.records(run), study.label_space)
    if arm.shown != run.shown:
        clips = shown_less(scored, arm.shown)
        scored, failed = clips, failed + len(scored) - len(clips)
    everyone = [clip for clips in study.clips.values() for clip in clips]
    constant = constant_answer(everyone, scored, study.label_space.classes)
    evaluation = evaluate(arm.name, scored, study.family, constant, study.measuring, failed)
    return replace(evaluation, checkpoint=run.name, split="test"), scored


def _changes(study: Study, measured: Sequence[Measured]) -> dict[str, dict[str, float]]:
    """By arm: how the primary metric differs from the first arm's, where both have figures."""
    first, *others = measured
    changes = {}
    for other in others:
        if first.failure is not None or other.failure is not None:
            continue
        with suppress(ConfigError):  # no clip has been scored by both
            differences, basis = compare_runs(
                first.scored, other.scored, study.family, study.measuring
            )
            change = differences[study.metric]
            ends = {"change_low": change.low, "change_high": change.high}
            facts = {"change": change.value, "p": change.p, "compared_clips": basis.num_clips}
            changes[other.arm.name] = facts | ends
    return changes


def _arm_row(study: Study, part: Measured, has_answers: bool) -> Row:
    arm, evaluations = part.arm, part.evaluations
    seeds = " ".join(str(run.seed) for run in arm.runs if run.seed is not None)
    row: Row = {"arm": arm.name, "readout": arm.system, "shown": subset_name(arm.shown)}
    row |= {"protocol": arm.protocol, "seeds": seeds, "clips": None, "failed": None}
    row["state"] = DONE if part.failure is None else f"failed: {part.failure}"
    means: Mapping[str, tuple[float, float]] = {}
    if part.failure is None:
        row["clips"] = min(e.figures.num_clips for e in evaluations)
        row["failed"] = max(e.failed for e in evaluations)
        means = over_seeds(evaluations)
    for key in study.family.titles:
        mean, deviation = means.get(key, (math.nan, math.nan))
        row |= {key: _number(mean), f"{key}_deviation": _number(deviation)}
    for key in ANSWERS if has_answers else ():
        shares = [e.answers[key] for e in evaluations if e.answers and part.failure is None]
        row[key] = _number(sum(shares) / len(shares) if shares else math.nan)
    return row


def _info(workshop: Workshop, run: Run) -> Any:
    folder = workshop.run_folder(run)
    return read_info(folder) if folder.exists() else None


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, DIGITS)
