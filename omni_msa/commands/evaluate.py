"""The command `evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omni_msa.commands.clips import all_records, load_scorer, score_clips
from omni_msa.commands.flags import (
    MODALITY_NAMES,
    BatchFlags,
    MediaFlags,
    ModelFlags,
    ShowFlags,
    option,
    parse_modalities,
    takes_flags,
)
from omni_msa.commands.labelled import Manifest, note_splits
from omni_msa.errors import ConfigError
from omni_msa.modalities import Subset
from omni_msa.options import (
    METRIC_FAMILIES,
    AblationOptions,
    EvaluateOptions,
    ModelOptions,
)

if TYPE_CHECKING:
    from omni_msa.evaluation.evaluate import Evaluation, ScoredClip
    from omni_msa.scoring.scorer import Scorer
    from omni_msa.values import Clip


EXAMPLES = (
    "Examples:\n\nomni-msa evaluate mosi.jsonl --checkpoint DIR --ablate\n\n"
    "omni-msa evaluate mosi.jsonl --checkpoint seed0 --also seed1 --also seed2\n\n"
    "omni-msa evaluate mosi.jsonl --checkpoint new --against old"
)


_EVALUATE = "Evaluation"


@dataclass(frozen=True)
class EvaluateFlags:
    """What is measured, and what it is compared with."""

    ablate: Annotated[
        bool,
        option(
            "--ablate", panel=_EVALUATE, help="A row each subset: test-time drop of modalities."
        ),
    ] = EvaluateOptions.ablate
    also: Annotated[
        list[str] | None,
        option(
            "--also",
            metavar="DIR",
            panel=_EVALUATE,
            help="The same training with another seed: mean and deviation are given.",
        ),
    ] = None
    against: Annotated[
        str | None,
        option(
            "--against",
            metavar="DIR",
            panel=_EVALUATE,
            help="Compare with this checkpoint, on the same clips.",
        ),
    ] = None
    drop: Annotated[
        list[str] | None,
        option("--drop", metavar="MODALITY", panel=_EVALUATE, help=f"Never show {MODALITY_NAMES}."),
    ] = None
    split: Annotated[
        str | None,
        option(
            "--split",
            metavar="NAME",
            panel=_EVALUATE,
            help="Default: test, where there are splits.",
        ),
    ] = EvaluateOptions.split
    metrics: Annotated[
        str,
        option(
            "--metrics",
            metavar="|".join(METRIC_FAMILIES),
            panel=_EVALUATE,
            help="Whose conventions; auto: the data set's.",
        ),
    ] = EvaluateOptions.family
    resamples: Annotated[
        int,
        option(
            "--resamples",
            metavar="N",
            panel=_EVALUATE,
            help="Of the bootstrap that gives the intervals.",
        ),
    ] = EvaluateOptions.resamples

    def options(self) -> EvaluateOptions:
        """The checked options that the library takes."""
        return EvaluateOptions(self.split, self.metrics, self.ablate, self.resamples)


@takes_flags
def evaluate(
    *,
    data: Manifest,
    model: ModelFlags,
    measured: EvaluateFlags,
    media: MediaFlags,
    batch: BatchFlags,
    show: ShowFlags,
) -> None:
    """Compare scores with labels: metrics by their conventions, intervals, the mean predictor."""
    from omni_msa.evaluation.evaluate import compare, over_seeds, require_labels, select
    from omni_msa.files.manifest import read_manifest

    if batch.output is not None and batch.output.suffix != ".jsonl":
        raise ConfigError(f"-o {batch.output}: evaluate writes its rows as .jsonl")
    options, hide = measured.options(), parse_modalities(measured.drop or [])
    first, also = model.options(), measured.also or []
    clips = read_manifest(data)
    chosen, split = select(clips, options.split)
    from omni_msa.evaluation.comparison import systems

    note_splits(clips, dict.fromkeys({clip.split for clip in chosen}, "to measure"), show)
    compared = systems(first, also, measured.against, clips, chosen, options.family)
    space = compared[0].label_space
    chosen = space.labelled(chosen)
    clips = space.labelled([c for c in clips if not space.classes or c.emotion in space.classes])
    require_labels(chosen)
    job = _Job(clips, chosen, split, options, hide)
    runs = [job.run(system.model, media, batch, show) for system in compared[: 1 + len(also)]]
    difference = None
    if measured.against is not None:
        against, scored = job.run(compared[-1].model, media, batch, show)
        change, shared = compare(scored, runs[0][1], against.family, options)
        difference = (against, change, shared)
    from omni_msa.display.output import print_json
    from omni_msa.display.tables import evaluation_document, print_evaluation

    evaluations = [evaluation for evaluation, _ in runs]
    spread = over_seeds(evaluations) if measured.also else {}
    if show.json:
        print_json(evaluation_document(evaluations, spread, difference))
    else:
        print_evaluation(evaluations, spread, difference)
    everything = [*evaluations, *([difference[0]] if difference else [])]
    raise typer.Exit(3 if any(e.failed for e in everything) else 0)


@dataclass
class _Job:
    """The clips of one evaluation, scored by one checkpoint after the other.

    Checkpoints of one base share it in memory.
    """

    clips: Sequence[Clip]
    chosen: Sequence[Clip]
    split: str
    options: EvaluateOptions
    hide: Subset
    num_runs: int = 0
    scorer: Scorer | None = None  # of the last run

    def run(
        self, model: ModelOptions, media: MediaFlags, batch: BatchFlags, show: ShowFlags
    ) -> tuple[Evaluation, list[ScoredClip]]:
        """Scores the clips with one checkpoint, and measures it."""
        from omni_msa.evaluation.evaluate import evaluate as measure
        from omni_msa.evaluation.evaluate import family_of, protocol_of, scored_clips

        if self.scorer is not None and not self.scorer.has_base_of(model):
            self.scorer = None  # memory may not hold two bases
        scorer = load_scorer(model, media.overrides(), show, self.scorer)
        self.scorer, space = scorer, scorer.label_space
        ablation = AblationOptions(enabled=self.options.ablate)
        batch = replace(batch, output=self._output(batch.output))
        done = score_clips(scorer, self.chosen, ablation, self.hide, batch, show)
        records = all_records(done.summary, self.chosen, batch.output)
        scored, failed = scored_clips(self.chosen, records)
        family, notice = family_of(self.chosen, self.options.family, space)
        system = scorer.describe()
        evaluation = measure(
            f"{system['checkpoint'] or system['base']} ({system['readout']}), split {self.split}",
            scored,
            family,
            self._constant(scored, space.classes),
            self.options,
            failed,
            protocol=protocol_of(scorer.checkpoint.info),
        )
        notices = [n for n in (notice, self._foreign(space.range), self._seen(model)) if n]
        return replace(evaluation, notices=(*notices, *scorer.remarks)), scored

    def _output(self, output: Path | None) -> Path | None:
        """Rows of further checkpoints go to files of their own."""
        self.num_runs += 1
        if output is None or self.num_runs == 1:
            return output
        return output.with_name(f"{output.stem}-{self.num_runs}{output.suffix}")

    def _constant(self, scored: Sequence[ScoredClip], classes: Sequence[str]) -> tuple[float, str]:
        """What the simplest system always answers: the mean, or the most frequent class."""
        labels = [c.label for c in self.clips if c.split == "train" and c.label is not None]
        of = "the training labels" if labels else "these labels"
        labels = labels or [c.label for c in scored]
        if classes:
            most = max(sorted(set(labels)), key=labels.count)
            return most, f"always {classes[round(most)]} (most frequent of {of})"
        mean = sum(labels) / len(labels)
        return mean, f"always {mean:+.2f} (mean of {of})"

    def _seen(self, model: ModelOptions) -> str | None:
        """Whether the checkpoint may have been made with these very clips."""
        if model.checkpoint is None or self.split == "test":
            return None
        return (
            f"split {self.split}: if the checkpoint was trained, chosen or calibrated on these "
            "clips, the figures flatter it"
        )

    def _foreign(self, label_range: tuple[float, float]) -> str | None:
        low, high = label_range
        outside = sum(not low <= (c.label or 0.0) <= high for c in self.chosen)
        if not outside:
            return None
        return f"{outside} labels lie outside the checkpoint's range {low:g}..{high:g}"
