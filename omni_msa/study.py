"""The door's second half: the commands of those who train and measure.

data import -> train (or calibrate) -> evaluate -> inspect; and plan, before any of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omni_msa.config import (
    TASKS,
    AblationOptions,
    BatchOptions,
    EvaluateOptions,
    MediaOptions,
    ModelOptions,
    world_rank,
)
from omni_msa.errors import ConfigError, ManifestError
from omni_msa.flags import (
    BaseFlags,
    BatchFlags,
    CheckpointFolder,
    MediaFlags,
    ModelFlags,
    ShowFlags,
    parse_drop,
    takes_flags,
)
from omni_msa.scoring import all_rows, load_scorer, score_clips
from omni_msa.study_flags import EvaluateFlags, PlanFlags, ReadFlags, TrainFlags
from omni_msa.values import Clip, Subset

if TYPE_CHECKING:
    from omni_msa.evaluate import Evaluation, ScoredClip
    from omni_msa.feed import FileFeed

data_app = typer.Typer(help="Data sets as manifests.", no_args_is_help=True)

Manifest = Annotated[
    Path, typer.Argument(metavar="DATA", help="A manifest (.jsonl, .csv) with labels and splits.")
]
Out = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="The checkpoint's folder.")
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Start anew, whatever the folder holds.")]


def register(app: typer.Typer) -> None:
    """Adds these commands to the program."""
    app.command(epilog="Example:\n\nomni-msa train mosi.jsonl -o mosi-checkpoint --cache cache")(
        train
    )
    app.command(
        epilog="Examples:\n\nomni-msa evaluate mosi.jsonl --checkpoint DIR --ablate\n\n"
        "omni-msa evaluate mosi.jsonl --checkpoint seed0 --also seed1 --also seed2\n\n"
        "omni-msa evaluate mosi.jsonl --checkpoint new --against old"
    )(evaluate)
    app.command()(calibrate)
    app.command()(inspect)
    app.command(
        epilog="Examples:\n\nomni-msa plan --model 7b --seconds 8\n\n"
        "omni-msa plan --model 7b --task train --vram-budget 24"
    )(plan)
    data_app.command("import")(import_data)
    app.add_typer(data_app, name="data")


@takes_flags
def train(
    *,
    data: Manifest,
    output: Out,
    fresh: Fresh = False,
    base: BaseFlags,
    train: TrainFlags,
    read: ReadFlags,
    media: MediaFlags,
    show: ShowFlags,
) -> None:
    """Train a LoRA adapter and a readout; the epoch with the best validation MAE is kept."""
    from omni_msa.manifest import read_manifest

    options, model = train.options(), base.options()
    chosen = MediaOptions(**media.overrides())
    clips = read_manifest(data)
    show = replace(show, quiet=show.quiet or world_rank() > 0)
    from omni_msa import render

    with render.working("loading the model ...", show.quiet):
        from omni_msa.train import Trainer
        from omni_msa.training_data import TrainingData

        clips, label_range, classes = _labels(clips, read.task, read.label_range)
        parts = {name: [c for c in clips if c.split == name] for name in ("train", "valid")}
        feeds = [_feed(part, chosen, read) for part in parts.values()]
        labelled = TrainingData(feeds[0], feeds[1], label_range, read.hide, classes)
        trainer = Trainer(model, options, chosen)
    lora = trainer.lora
    show.note(f"LoRA {lora['scope']}: {lora['parameters']:,} parameters ({lora['percent']:.4f} %)")
    with render.train_progress(show.quiet) as progress:
        trainer.progress = progress
        try:
            info = trainer.run(labelled, output, fresh=fresh, start=train.start)
        except KeyboardInterrupt:
            show.note(f"interrupted; the same command goes on from {output}")
            raise
    if world_rank() == 0:
        render.print_trained(output, info, show.json)


@takes_flags
def calibrate(
    *,
    data: Manifest,
    output: Out,
    base: BaseFlags,
    checkpoint: CheckpointFolder = None,
    read: ReadFlags,
    media: MediaFlags,
    show: ShowFlags,
) -> None:
    """Fit a ridge probe on frozen states: some fifty labelled clips, one pass each."""
    from omni_msa.manifest import read_manifest

    clips = read_manifest(data)
    from omni_msa import render

    with render.working("loading the model ...", show.quiet):
        from omni_msa.calibrate import calibrate as fit
        from omni_msa.calibrate import load_frozen

        clips, label_range, classes = _labels(clips, read.task, read.label_range)
        known = [c for c in clips if c.split in (None, "train")]
        model = replace(base.options(), checkpoint=checkpoint)
        frozen = load_frozen(model, label_range, media.overrides())
    if checkpoint is not None:
        show.note("if its adapter was trained on these clips, leaving one out flatters it")
    with render.count_progress("reading", len(known), show.quiet) as progress:
        feed = _feed(known, frozen.media, read)
        info = fit(frozen, feed, output, label_range, read.hide, progress, classes)
    render.print_trained(output, info, show.json)


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
    from omni_msa.evaluate import compare, over_seeds, select
    from omni_msa.manifest import read_manifest

    if batch.output is not None and batch.output.suffix != ".jsonl":
        raise ConfigError(f"-o {batch.output}: evaluate writes its rows as .jsonl")
    options, hide = measured.options(), parse_drop(measured.drop or [])
    asked = model.options()
    _check_comparable(
        [asked.checkpoint, *(measured.also or [])], measured.against, options.family == "emotion"
    )
    clips, asked = _as_labelled(read_manifest(data), asked, options.family)
    job = _Job(clips, *select(clips, options.split), options, hide)
    runs = [
        job.run(replace(asked, checkpoint=folder), media, batch, show)
        for folder in (asked.checkpoint, *(measured.also or []))
    ]
    compared = None
    if measured.against is not None:
        other = replace(asked, checkpoint=measured.against, readout=None)
        against, scored = job.run(other, media, batch, show)
        change, shared = compare(scored, runs[0][1], against.family, options)
        compared = (against, change, shared)
    from omni_msa.render import print_json
    from omni_msa.tables import evaluation_document, print_evaluation

    evaluations = [evaluation for evaluation, _ in runs]
    spread = over_seeds(evaluations) if measured.also else {}
    if show.json:
        print_json(evaluation_document(evaluations, spread, compared))
    else:
        print_evaluation(evaluations, spread, compared)
    measured_all = [*evaluations, *([compared[0]] if compared else [])]
    raise typer.Exit(3 if any(e.failed for e in measured_all) else 0)


@dataclass
class _Job:
    """The clips of one evaluation, scored by one checkpoint after the other."""

    clips: Sequence[Clip]
    chosen: Sequence[Clip]
    split: str
    options: EvaluateOptions
    hide: Subset
    num_runs: int = 0

    def run(
        self, model: ModelOptions, media: MediaFlags, batch: BatchFlags, show: ShowFlags
    ) -> tuple[Evaluation, list[ScoredClip]]:
        """Scores the clips with one checkpoint, and measures it."""
        from omni_msa.evaluate import evaluate as measure
        from omni_msa.evaluate import family_of, scored_clips

        scorer = load_scorer(model, media.overrides(), show)
        ablation = AblationOptions(enabled=self.options.ablate)
        batch = replace(batch, output=self._output(batch.output))
        done = score_clips(scorer, self.chosen, ablation, self.hide, batch, show)
        rows = all_rows(done.summary, self.chosen, batch.output)
        scored, failed = scored_clips(self.chosen, rows)
        family, notice = family_of(
            self.chosen, self.options.family, scorer.label_range, scorer.classes
        )
        told = scorer.describe()
        evaluation = measure(
            f"{told['checkpoint'] or told['base']} ({told['readout']}), split {self.split}",
            scored,
            family,
            self._constant(scored, scorer.classes),
            self.options,
            failed,
            speaks=scorer.name == "generative",
        )
        notices = tuple(n for n in (notice, self._foreign(scorer.label_range)) if n)
        return replace(evaluation, notices=notices), scored

    def _output(self, output: Path | None) -> Path | None:
        """Rows of further checkpoints go to files of their own."""
        self.num_runs += 1
        if output is None or self.num_runs == 1:
            return output
        return output.with_name(f"{output.stem}-{self.num_runs}{output.suffix}")

    def _constant(self, scored: Sequence[ScoredClip], classes: Sequence[str]) -> tuple[float, str]:
        """What the simplest system always answers: the mean, or the most frequent class."""
        known = [c.label for c in self.clips if c.split == "train" and c.label is not None]
        of = "the training labels" if known else "these labels"
        known = known or [c.label for c in scored]
        if classes:
            most = max(sorted(set(known)), key=known.count)
            return most, f"always {classes[round(most)]} (most frequent of {of})"
        mean = sum(known) / len(known)
        return mean, f"always {mean:+.2f} (mean of {of})"

    def _foreign(self, label_range: tuple[float, float]) -> str | None:
        low, high = label_range
        outside = sum(not low <= (c.label or 0.0) <= high for c in self.chosen)
        if not outside:
            return None
        return f"{outside} labels lie outside the checkpoint's range {low:g}..{high:g}"


@takes_flags
def inspect(
    *,
    checkpoint: Annotated[str, typer.Argument(metavar="DIR", help="A checkpoint's folder.")],
    base: BaseFlags,
    show: ShowFlags,
) -> None:
    """Show what a checkpoint holds, and verify that the built-in clip still gets its scores."""
    from omni_msa import render

    with render.working("loading the model ...", show.quiet):
        from omni_msa.inspection import inspect_checkpoint

        model = replace(base.options(), checkpoint=checkpoint)
        found = inspect_checkpoint(model)
    if show.json:
        render.print_json(found.to_json())
    else:
        from omni_msa.tables import print_inspection

        print_inspection(found)
    raise typer.Exit(0 if found.sound else 4)


@takes_flags
def plan(*, work: PlanFlags, media: MediaFlags, show: ShowFlags) -> None:
    """Estimate tokens and memory before anything is loaded, and what fits a budget."""
    from omni_msa import render

    with render.working("counting ...", show.quiet):
        from omni_msa.plan import GIB, Holding, Workload, make_plan

        workload = Workload(
            work.seconds,
            media=MediaOptions(**media.overrides()),
            task=work.task,
            subsets=work.subsets,
            batch_size=work.batch_size,
        )
        holding = Holding(
            work.device,
            work.quantize,
            lora_scope=work.lora_scope,
            adam_8bit=work.device == "cuda",
        )
        budget = int(work.vram_budget * GIB) if work.vram_budget is not None else None
        made = make_plan(work.model, workload, holding, budget)
    if show.json:
        render.print_json(made.to_json())
    else:
        from omni_msa.tables import print_plan

        print_plan(made)


@takes_flags
def import_data(
    *,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="mosi, mosei, sims, simsv2, meld or iemocap.")
    ],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The release, as unpacked.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The manifest, .jsonl.")
    ],
    check_media: Annotated[
        bool, typer.Option(help="Open every file, and leave out those that cannot be read.")
    ] = True,
    show: ShowFlags,
) -> None:
    """Turn a public release into a manifest; all that is wrong with it is said at once."""
    from omni_msa import render
    from omni_msa.datasets import import_dataset

    with render.count_progress("checking", None, show.quiet) as progress:
        report = import_dataset(name, folder, output, check_media, progress)
    for notice in report.notices:
        show.note(notice)
    sizes = ", ".join(f"{count} {split}" for split, count in report.split_sizes.items())
    if show.json:
        render.print_json(
            {
                "manifest": str(output),
                "rows": len(report.rows),
                "splits": report.split_sizes,
                "notices": list(report.notices),
            }
        )
    else:
        typer.echo(f"{output}: {len(report.rows)} rows ({sizes})")


def _feed(clips: Sequence[Clip], media: MediaOptions, read: ReadFlags) -> FileFeed:
    from omni_msa.cache import ContentCache
    from omni_msa.feed import FileFeed

    BatchOptions(workers=read.workers)  # checked there
    if read.cache_gb <= 0:
        raise ConfigError(f"--cache-gb must be positive, got {read.cache_gb}")
    size = int(read.cache_gb * 1e9)
    cache = ContentCache(read.cache, size) if read.cache is not None else None
    return FileFeed(clips, media, read.workers, cache, read.hide)


def _check_comparable(
    seeds: Sequence[str | None], against: str | None, asked_for_emotions: bool
) -> None:
    """Said before anything is scored: all give the same labels, and no seed is counted twice."""
    from omni_msa.checkpoint import read_info

    named = [folder for folder in (*seeds, against) if folder is not None]
    found = {folder: read_info(Path(folder)) for folder in named}
    kinds = {info.scale.classes for info in found.values()}
    if None in seeds and found and not asked_for_emotions:
        kinds.add(())  # the embedded checkpoint, or a bare base: numbers
    if len(kinds) > 1:
        raise ConfigError(f"{', '.join(named)} do not give the same labels; evaluate them apart")
    weights = [(i.adapter_sha256, i.readout_sha256) for f, i in found.items() if f in seeds]
    if len(set(weights)) < len(seeds) - seeds.count(None):
        raise ConfigError("--also names a checkpoint twice; each seed counts once")


def _as_labelled(
    clips: list[Clip], model: ModelOptions, family: str
) -> tuple[list[Clip], ModelOptions]:
    """Clips labelled as the checkpoint's readout is, or as a bare base is asked to read them."""
    from omni_msa.checkpoint import read_info

    if model.checkpoint is not None:
        classes = read_info(Path(model.checkpoint)).scale.classes
        if family == "emotion" and not classes:
            raise ConfigError(f"--metrics emotion: {model.checkpoint} gives scores, not emotions")
        if not classes:
            return clips, model
        from omni_msa.training_data import with_classes

        return with_classes(clips, classes), model
    task = "emotion" if family == "emotion" else "sentiment"
    clips, label_range, classes = _labels(clips, task, None)
    return clips, replace(model, label_range=label_range, classes=classes)


def _labels(
    clips: list[Clip], task: str, label_range: tuple[float, float] | None
) -> tuple[list[Clip], tuple[float, float], tuple[str, ...]]:
    """The clips with the task's labels, their range, and the classes if they are classes."""
    if task not in TASKS:
        raise ConfigError(f"task {task!r} is not known; choose one of: {', '.join(TASKS)}")
    if task == "sentiment":
        return clips, _label_range(clips, label_range), ()
    if label_range is not None:
        raise ConfigError("--label-range is about numbers; emotions are classes")
    from omni_msa.datasets import DATASETS
    from omni_msa.training_data import with_classes

    known = {DATASETS[c.dataset].facts.classes for c in clips if c.dataset in DATASETS} - {()}
    named = tuple(sorted({c.emotion for c in clips if c.emotion}))
    classes = known.pop() if len(known) == 1 else named
    if len(classes) < 2:
        raise ManifestError(
            f"the column emotion names {len(classes)} classes ({', '.join(classes) or 'none'}); "
            "two or more are needed"
        )
    return with_classes(clips, classes), (0.0, len(classes) - 1.0), classes


def _label_range(clips: Sequence[Clip], asked: tuple[float, float] | None) -> tuple[float, float]:
    """Asked for, or the data set's own, or that of MOSI."""
    from omni_msa.datasets import DATASETS

    if asked is not None:
        low, high = asked
        if low >= high:
            raise ConfigError(f"--label-range {low:g} {high:g}: the first must be the smaller")
        return low, high
    ranges = {DATASETS[c.dataset].facts.label_range for c in clips if c.dataset in DATASETS}
    if len(ranges) > 1:
        raise ManifestError(
            f"the manifest mixes data sets with label ranges {sorted(ranges)}; bring the labels to "
            "one scale, remove the column dataset, and give --label-range"
        )
    return ranges.pop() if ranges else ModelOptions.label_range
