"""The door's second half: the commands of those who train and measure.

data import -> train (or calibrate) -> evaluate -> inspect; and plan, before any of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omni_msa.config import (
    AblationOptions,
    BatchOptions,
    EvaluateOptions,
    MediaOptions,
    ModelOptions,
    world_rank,
)
from omni_msa.errors import ConfigError
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
    chosen = MediaOptions.asked(media.overrides())
    clips = read_manifest(data)
    show = replace(show, quiet=show.quiet or world_rank() > 0)
    _note_splits(clips, {"train": "to train on", "valid": "to validate on"}, show)
    from omni_msa import render

    with render.working("loading the model ...", show.quiet):
        from omni_msa.train import Trainer
        from omni_msa.training_data import TrainingData, labels_of, with_classes

        inherited: list[str] = []
        if train.start is not None:
            if train.start.resolve() == output.resolve():
                raise ConfigError(f"-o {output}: is what --start goes on from; give another folder")
            inherited, chosen = _as_started(train.start, read, media)
            read = replace(read, drop=inherited or read.drop)
        label_range, classes = labels_of(clips, read.task, read.label_range)
        parts = [[c for c in clips if c.split == name] for name in ("train", "valid")]
        if classes:
            parts = [with_classes(part, classes) for part in parts]
        feeds = [_feed(part, chosen, read) for part in parts]
        labelled = TrainingData(feeds[0], feeds[1], label_range, read.hide, classes)
        trainer = Trainer(model, options, chosen)
    if inherited:
        show.note(f"{train.start}: trained without {' and '.join(inherited)}, and so is this")
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
    fresh: Fresh = False,
    base: BaseFlags,
    checkpoint: CheckpointFolder = None,
    read: ReadFlags,
    media: MediaFlags,
    show: ShowFlags,
) -> None:
    """Fit a ridge probe on frozen states: some fifty labelled clips, one pass each."""
    from omni_msa.manifest import read_manifest

    clips = read_manifest(data)
    _note_splits(clips, {"train": "to fit on", None: "without a split to fit on too"}, show)
    from omni_msa import render

    with render.working("loading the model ...", show.quiet):
        from omni_msa.calibrate import calibrate as fit
        from omni_msa.calibrate import load_frozen
        from omni_msa.training_data import labels_of, with_classes

        label_range, classes = labels_of(clips, read.task, read.label_range)
        known = [c for c in clips if c.split in (None, "train")]
        known = with_classes(known, classes) if classes else known
        model = replace(base.options(), checkpoint=checkpoint)
        frozen = load_frozen(model, label_range, media.overrides())
    if checkpoint is not None:
        show.note("if its adapter was trained on these clips, leaving one out flatters it")
    with render.count_progress("reading", len(known), show.quiet) as progress:
        feed = _feed(known, frozen.media, read)
        info = fit(frozen, feed, output, label_range, read.hide, progress, classes, fresh)
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
    from omni_msa.evaluate import compare, over_seeds, require_labels, select
    from omni_msa.manifest import read_manifest

    if batch.output is not None and batch.output.suffix != ".jsonl":
        raise ConfigError(f"-o {batch.output}: evaluate writes its rows as .jsonl")
    options, hide = measured.options(), parse_drop(measured.drop or [])
    asked, also = model.options(), measured.also or []
    clips = read_manifest(data)
    chosen, split = select(clips, options.split)
    from omni_msa.comparison import systems
    from omni_msa.training_data import with_classes

    _note_splits(clips, dict.fromkeys({clip.split for clip in chosen}, "to measure"), show)
    found = systems(asked, also, measured.against, clips, chosen, options.family)
    if classes := found[0].classes:
        chosen = with_classes(chosen, classes)
        clips = with_classes([c for c in clips if c.emotion in classes], classes)
    require_labels(chosen)
    job = _Job(clips, chosen, split, options, hide)
    runs = [job.run(system.model, media, batch, show) for system in found[: 1 + len(also)]]
    compared = None
    if measured.against is not None:
        against, scored = job.run(found[-1].model, media, batch, show)
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
        from omni_msa.evaluate import family_of, protocol_of, scored_clips

        scorer = load_scorer(model, media.overrides(), show)
        ablation = AblationOptions(enabled=self.options.ablate)
        batch = replace(batch, output=self._output(batch.output))
        done = score_clips(scorer, self.chosen, ablation, self.hide, batch, show)
        rows = all_rows(done.summary, self.chosen, batch.output)
        scored, failed = scored_clips(self.chosen, rows)
        family, notice = family_of(
            self.chosen, self.options.family, scorer.label_range, scorer.classes
        )
        system = scorer.describe()
        evaluation = measure(
            f"{system['checkpoint'] or system['base']} ({system['readout']}), split {self.split}",
            scored,
            family,
            self._constant(scored, scorer.classes),
            self.options,
            failed,
            speaks=scorer.name == "generative",
            protocol=protocol_of(scorer.checkpoint.info),
        )
        told = (notice, self._foreign(scorer.label_range), self._seen(model))
        notices = (*(n for n in told if n), *scorer.remarks)
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
            media=MediaOptions.asked(media.overrides()),
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
        if work.vram_budget is not None and not 0 < work.vram_budget < inf:
            raise ConfigError(f"--vram-budget must be positive and finite, got {work.vram_budget}")
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
    if not 0 < read.cache_gb < inf:
        raise ConfigError(f"--cache-gb must be positive and finite, got {read.cache_gb}")
    size = int(read.cache_gb * 1e9)
    cache = ContentCache(read.cache, size) if read.cache is not None else None
    return FileFeed(clips, media, read.workers, cache, read.hide)


def _note_splits(clips: Sequence[Clip], used: dict[str | None, str], show: ShowFlags) -> None:
    """How many clips each split has, and which ones this command leaves alone."""
    counts = Counter(clip.split for clip in clips)
    told = [f"{counts[name]} clips {purpose}" for name, purpose in used.items() if counts[name]]
    rest = {name: count for name, count in counts.items() if name not in used}
    if rest:
        named = (f"{n} of {f'split {s!r}' if s else 'no split'}" for s, n in rest.items())
        told.append(f"not used: {', '.join(named)}")
    show.note("; ".join(told))


def _as_started(start: Path, read: ReadFlags, media: MediaFlags) -> tuple[list[str], MediaOptions]:
    """The modalities that the checkpoint was trained without, unless --drop says which, and its
    way of reading clips, with the choices that are given on top."""
    from omni_msa.checkpoint import media_options, read_info

    info = read_info(start)
    return [] if read.drop else list(info.hide), media_options(info, media.overrides())
