"""Readouts, seeds and modalities compared on a manifest of your own, in one command.

    python -m scripts.study.compare data.jsonl -o study --readouts regression,probe --seeds 1,2,3

The manifest has splits (train, valid, test: `omni-msa data split` makes them). Every readout is
made with every seed on the training clips, its epoch chosen on the validation clips, and measured
on the test clips with every subset of the modalities that is named. A stopped study goes on with
the same command; what has ended is not done again, what has failed is tried again.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from omni_msa.__main__ import run_program
from omni_msa.commands.flags import (
    BaseFlags,
    MediaFlags,
    ShowFlags,
    option,
    parse_pairs,
    takes_flags,
)
from omni_msa.commands.labelled import Manifest, ReadFlags
from omni_msa.commands.train import TrainFlags
from omni_msa.display.output import print_json
from omni_msa.errors import ConfigError
from omni_msa.evaluation.resampling import check_units
from omni_msa.files.labels import label_space_of
from omni_msa.files.locks import OutputLock
from omni_msa.files.manifest import read_manifest
from omni_msa.modalities import MODALITIES, Subset, in_order, tokens
from omni_msa.options import (
    INTERVAL_UNITS,
    METRIC_FAMILIES,
    EvaluateOptions,
    MediaOptions,
    ModelOptions,
)
from scripts.study.arms import make_arms, runs_of
from scripts.study.plan import SPLITS, Study, warnings_of, write_plan
from scripts.study.results import DONE, Row, arm_rows, measure_arms, run_rows
from scripts.study.running import LOG, Workshop
from scripts.study.tables import cells, markdown, write_results

_STUDY = "Study"
LETTERS = {MODALITIES[name].letter: name for name in in_order(tokens())}  # what runs differ by
OF_AN_ARM = ("method", "head", "settings", "head_dropout", "start", "seed")


def _group_without(group: type, names: Sequence[str]) -> type:
    """A group of flags that a command has, without those that a study sets itself."""
    hints = get_type_hints(group, include_extras=True)
    kept = [(f.name, hints[f.name], f.default) for f in fields(group) if f.name not in names]
    return make_dataclass(f"{group.__name__}OfAStudy", kept, frozen=True)


BudgetFlags = _group_without(TrainFlags, OF_AN_ARM)
ReadingFlags = _group_without(ReadFlags, ("drop",))


@dataclass(frozen=True)
class StudyFlags:
    """What is compared."""

    readouts: Annotated[
        str,
        option(
            "--readouts",
            metavar="NAME,...",
            panel=_STUDY,
            help="The first is what the others are tested against. With NAME:zero-shot, "
            "generative too is read without training, as verbalizer always is.",
        ),
    ] = "regression,verbalizer,generative,probe"
    seeds: Annotated[
        str,
        option("--seeds", metavar="N,...", panel=_STUDY, help="A run each, of what is trained."),
    ] = "1,2,3"
    modalities: Annotated[
        str,
        option(
            "--modalities",
            metavar="SUBSET,...",
            panel=_STUDY,
            help="What is shown, by letters: "
            + ", ".join(f"{letter} {name}" for letter, name in LETTERS.items())
            + ". A row each.",
        ),
    ] = "".join(LETTERS)
    retrain: Annotated[
        bool,
        option(
            "--retrain/--test-time",
            panel=_STUDY,
            help="Train models of its own for each of --modalities. Default: one model is "
            "trained with all that they name, and is shown less when it is measured.",
        ),
    ] = False
    settings: Annotated[
        list[str] | None,
        option(
            "--set",
            metavar="READOUT:NAME=VALUE",
            panel=_STUDY,
            help="For one readout only: its own option (regression:head=linear), or one of "
            "training (generative:lora_learning_rate=3e-4).",
        ),
    ] = None
    primary: Annotated[
        str | None,
        option("--primary", metavar="METRIC", panel=_STUDY, help="What is tested. Default: mae; of "
               "classes, accuracy."),
    ] = None  # fmt: skip
    metrics: Annotated[
        str,
        option(
            "--metrics",
            metavar="|".join(METRIC_FAMILIES),
            panel=_STUDY,
            help="Whose conventions; auto: the data set's.",
        ),
    ] = EvaluateOptions.family
    resamples: Annotated[
        int,
        option("--resamples", metavar="N", panel=_STUDY, help="Of the bootstrap."),
    ] = EvaluateOptions.resamples
    intervals_over: Annotated[
        str,
        option(
            "--intervals-over",
            metavar="|".join(INTERVAL_UNITS),
            panel=_STUDY,
            help="What the bootstrap draws; auto: speakers, else videos, where known.",
        ),
    ] = EvaluateOptions.intervals_over

    def settings_by_readout(self) -> dict[str, dict[str, str]]:
        """What --set says."""
        settings: dict[str, dict[str, str]] = {}
        for name, value in parse_pairs("--set", self.settings or [], "head=linear").items():
            readout, colon, own = name.rpartition(":")
            if not colon:
                raise ConfigError(f"--set {name}: give READOUT:NAME=VALUE, such as {_EXAMPLE}")
            settings.setdefault(readout, {})[own] = value
        return settings


_EXAMPLE = "regression:head=linear"


@takes_flags
def compare(
    *,
    data: Manifest,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="The study's folder.")
    ],
    study: StudyFlags,
    base: BaseFlags,
    train: BudgetFlags,
    read: ReadingFlags,
    media: MediaFlags,
    show: ShowFlags,
) -> None:
    """Compare readouts, seeds and modalities on your own clips: results.csv, .md and .tex."""
    reading = ReadFlags(**vars(read))
    clips = read_manifest(data.resolve(), columns=reading.names())
    counts = ", ".join(f"{sum(c.split == name for c in clips)} {name}" for name in SPLITS)
    show.note(f"clips: {counts} of {len(clips)}")
    space = label_space_of(clips, reading.task, reading.label_range)
    budget = TrainFlags(**vars(train)).choices()
    arms = make_arms(
        _words(study.readouts),
        [_subset(letters) for letters in _words(study.modalities)],
        [_seed(text) for text in _words(study.seeds)],
        budget,
        study.settings_by_readout(),
        study.retrain,
    )
    model = base.options()
    by_split = {name: space.labelled([c for c in clips if c.split == name]) for name in SPLITS}
    options = EvaluateOptions("test", study.metrics, False, study.resamples, study.intervals_over)
    check_units(by_split["test"], options.intervals_over)
    whole = Study(
        tuple(arms),
        by_split,
        space,
        ModelOptions(model.model or "tiny", quantize=model.quantize, device=model.device),
        MediaOptions.over({}, media.overrides()),
        options,
        study.primary,
    )
    workshop = Workshop(whole, output, reading, show, train.tensorboard)
    groups = [vars(group) for group in (study, base, train, read, media)]
    arguments = {name: value for group in groups for name, value in group.items()}
    rows, runs = run_study(workshop, {"data": data, **arguments})
    if show.json:
        print_json({"folder": str(output), "arms": rows, "runs": runs})
    else:
        typer.echo(markdown(cells(whole, rows), num_names=3), nl=False)
    raise typer.Exit(3 if any(row["state"] != DONE for row in rows) else 0)


def run_study(workshop: Workshop, arguments: Mapping[str, Any]) -> tuple[list[Row], list[Row]]:
    """The plan, then every run, then every score, then the tables: rows of arms and of runs."""
    study, folder = workshop.study, workshop.folder
    plan = study.plan(arguments)
    write_plan(folder, plan)
    notices = warnings_of(study)
    for notice in notices:
        workshop.show.note(notice)
    runs = runs_of(study.arms)
    lock = OutputLock(folder / LOG)
    try:
        failures = workshop.make_all(runs)
        failures |= workshop.score_all([run for run in runs if run.name not in failures])
    finally:
        lock.release()
    measured = measure_arms(workshop, failures)
    rows, lines = arm_rows(study, measured), run_rows(workshop, failures)
    write_results(folder, study, rows, lines, measured, notices)
    workshop.show.note(f"{folder}: results.md, results.csv, results.tex")
    return rows, lines


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _subset(letters: str) -> Subset:
    """`TA` -> text and audio."""
    if not letters or set(letters) - LETTERS.keys() or len(set(letters)) < len(letters):
        raise ConfigError(f"--modalities {letters}: use each of {', '.join(LETTERS)} at most once")
    return frozenset(LETTERS[letter] for letter in letters)


def _seed(text: str) -> int:
    if not text.isdigit():
        raise ConfigError(f"--seeds {text}: give whole numbers, such as 1,2,3")
    return int(text)


program = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
program.command()(compare)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the study that the arguments describe; exit codes are those of omni-msa, 3 when a run
    has failed."""
    return run_program(lambda: program, "python -m scripts.study.compare", arguments)


if __name__ == "__main__":
    sys.exit(main())
