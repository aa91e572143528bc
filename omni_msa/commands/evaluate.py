"""The command `evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from omni_msa.commands.clips import all_records, defer_scorer, load_scorer, score_clips
from omni_msa.commands.evaluate_flags import EvaluateFlags
from omni_msa.commands.flags import (
    MediaFlags,
    ModelFlags,
    ShowFlags,
    parse_modalities,
    takes_flags,
)
from omni_msa.commands.labelled import (
    CachedBatchFlags,
    ColumnFlags,
    Manifest,
    note_left_out,
    note_splits,
)
from omni_msa.commands.streams import is_stdout
from omni_msa.errors import ConfigError
from omni_msa.modalities import Subset
from omni_msa.options import AblationOptions, EvaluateOptions, ModelOptions

if TYPE_CHECKING:
    from omni_msa.display.tables import Comparison
    from omni_msa.evaluation.evaluate import Evaluation, ScoredClip
    from omni_msa.evaluation.label_gap import LabelGap
    from omni_msa.scoring.checkpoint import CheckpointInfo
    from omni_msa.scoring.deferred import DeferredScorer
    from omni_msa.scoring.scorer import Scorer
    from omni_msa.scoring.trained_clips import ClipKeys
    from omni_msa.values import Clip


EXAMPLES = (
    "Examples:\n\nomni-msa evaluate mosi.jsonl --checkpoint DIR --ablate\n\n"
    "omni-msa evaluate mosi.jsonl --checkpoint seed0 --also seed1 --also seed2\n\n"
    "omni-msa evaluate mosi.jsonl --checkpoint new --against old --against older --table all.csv"
)


@takes_flags
def evaluate(
    *,
    data: Manifest,
    model: ModelFlags,
    measured: EvaluateFlags,
    columns: ColumnFlags,
    media: MediaFlags,
    batch: CachedBatchFlags,
    show: ShowFlags,
) -> None:
    """Compare scores with labels: metrics by their conventions, intervals, the mean predictor."""
    from omni_msa.evaluation.comparison import systems
    from omni_msa.evaluation.evaluate import compare, require_labels, select
    from omni_msa.evaluation.label_gap import check_enough
    from omni_msa.evaluation.resampling import check_units, units_of
    from omni_msa.files.manifest import read_manifest
    from omni_msa.files.result_formats import check_is_no_input, check_output

    batch.options()  # checked before anything is read
    if is_stdout(batch.output):
        raise ConfigError("-o -: evaluate writes its figures to stdout; name a file for the rows")
    measured.check_files(data)
    options, hide = measured.options(), parse_modalities(measured.drop or [])
    first, also = model.options(), measured.also or []
    clips = read_manifest(data, columns=columns.names())
    chosen, split = select(clips, options.split)
    used = dict.fromkeys({clip.split for clip in chosen}, "to measure")
    leaks = note_splits(clips, used, show)
    compared = systems(first, also, measured.against or [], clips, chosen, options.family)
    outputs = _outputs(batch.output, len(compared))
    for output in filter(None, outputs):  # before anything is scored
        check_output(output)
        check_is_no_input(output, data, batch.fresh)
    space = compared[0].label_space
    note_left_out(chosen, space, show)
    chosen = space.labelled(chosen)
    clips = space.labelled([c for c in clips if space.knows(c)])
    require_labels(chosen)
    check_units(chosen, options.intervals_over)
    if options.diagnose:
        check_enough(len(chosen))
    units = units_of(chosen, options.intervals_over)
    options = replace(options, intervals_over=units.unit)  # the same for all systems
    job = _Job(clips, chosen, split, options, hide, units.remark)
    runs = [
        job.run(system.model, media, replace(batch, output=output), show)
        for system, output in zip(compared, outputs, strict=True)
    ]
    runs, rivals = runs[: 1 + len(also)], runs[1 + len(also) :]
    comparisons = [
        (against, *compare(scored, runs[0][1], against.family, options))
        for against, scored in rivals
    ]
    evaluations = [evaluation for evaluation, _ in runs]
    _report(evaluations, comparisons, leaks, measured, show)
    everything = [*evaluations, *(against for against, *_ in comparisons)]
    raise typer.Exit(3 if any(e.failed for e in everything) else 0)


def _outputs(output: Path | None, number: int) -> list[Path | None]:
    """Rows of further checkpoints go to files of their own."""
    if output is None:
        return [None] * number
    others = [output.with_name(f"{output.stem}-{k}{output.suffix}") for k in range(2, number + 1)]
    return [output, *others]


def _report(
    evaluations: Sequence[Evaluation],
    comparisons: Sequence[Comparison],
    leaks: Sequence[str],
    measured: EvaluateFlags,
    show: ShowFlags,
) -> None:
    """Writes the table and the picture of all systems, and prints everything."""
    from omni_msa.display.gaps import gap_figure
    from omni_msa.display.output import print_json
    from omni_msa.display.pictures import save_picture
    from omni_msa.display.tables import evaluation_document, print_evaluation
    from omni_msa.evaluation.evaluate import ablation_over_seeds, over_seeds
    from omni_msa.evaluation.flat_table import table_rows, write_table

    rivals = [against for against, *_ in comparisons]
    if (table := measured.table) is not None:
        first, *seeds = evaluations
        write_table(table, table_rows({"system": [first], "seed": seeds, "against": rivals}))
        show.note(f"{table}: {1 + len(seeds) + len(rivals)} systems")
    if (picture := measured.diagnose_plot) is not None:
        save_picture(gap_figure([*evaluations, *rivals]), picture, "--diagnose-plot")
        show.note(f"{picture}: label gaps of {len(evaluations) + len(rivals)} systems")
    several = len(evaluations) > 1
    spread = over_seeds(evaluations) if several else {}
    subsets = ablation_over_seeds(evaluations) if several else {}
    if show.json:
        document = evaluation_document(evaluations, spread, comparisons, subsets)
        print_json(document | ({"leaks": leaks} if leaks else {}))
    else:
        print_evaluation(evaluations, spread, comparisons, subsets)


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
    remark: str = ""  # on what the intervals are over
    scorer: Scorer | None = None  # the last one that was loaded
    keys: list[ClipKeys | None] | None = None  # of the chosen clips, once they are compared

    def run(
        self, model: ModelOptions, media: MediaFlags, batch: CachedBatchFlags, show: ShowFlags
    ) -> tuple[Evaluation, list[ScoredClip]]:
        """Scores the clips with one checkpoint, and measures it."""
        from omni_msa.evaluation.constant import constant_answer
        from omni_msa.evaluation.evaluate import evaluate as measure
        from omni_msa.evaluation.evaluate import (
            family_of,
            protocol_of,
            scored_clips,
        )

        settings = media.overrides()
        scorer = defer_scorer(model, settings, show, lambda: self._load(model, settings, show))
        identity = scorer.identity
        space = identity.info.label_space
        ablation = AblationOptions(enabled=self.options.ablate)
        done = score_clips(scorer, self.chosen, ablation, self.hide, batch, show)
        records = all_records(done.summary, self.chosen, batch)
        scored, failed = scored_clips(self.chosen, records, space)
        family, notice = family_of(self.chosen, self.options.family, space)
        system = identity.describe()
        evaluation = measure(
            f"{system['checkpoint'] or system['base']} ({system['readout']}), split {self.split}",
            scored,
            family,
            constant_answer(self.clips, scored, space.names),
            self.options,
            failed,
            protocol=protocol_of(identity.info),
            space=space,
        )
        overlap = self._overlap(identity.info)
        notices = [notice, self._foreign(space.range), self._seen(model, overlap), self.remark]
        if done.summary.skipped and system["readout"] == "generative" and not evaluation.answers:
            notices.append(
                f"{batch.output} has rows of an earlier run without their answers in words, whose "
                "shares are not given; a .jsonl file keeps them"
            )
        evaluation = replace(
            evaluation,
            notices=(*filter(None, notices), *identity.remarks),
            checkpoint=str(system["checkpoint"] or system["base"]),
            split=self.split,
            overlap=overlap,
            label_gap=self._label_gap(scorer, batch, show) if self.options.diagnose else None,
        )
        return evaluation, scored

    def _label_gap(
        self, scorer: Scorer | DeferredScorer, batch: CachedBatchFlags, show: ShowFlags
    ) -> LabelGap:
        """By the states of all clips, which rows of an earlier run do not hold."""
        from omni_msa.display.progress import count_progress
        from omni_msa.evaluation.label_gap import label_gap
        from omni_msa.media.feed import FileFeed
        from omni_msa.scoring.last_states import last_states

        model, hide = scorer.loaded(), self.hide | scorer.hidden
        feed = FileFeed(self.chosen, model.media, batch.options().workers, batch.open(), hide)
        with count_progress("reading states", len(self.chosen), show.quiet) as progress:
            states, labels, _ = last_states(model, feed, self.hide, progress)
        return label_gap(states.numpy(), labels.numpy(), bool(model.label_space.classes))

    def _load(self, model: ModelOptions, media: dict[str, Any], show: ShowFlags) -> Scorer:
        """The scorer, on the base of the last one where it is the same."""
        if self.scorer is not None and not self.scorer.has_base_of(model):
            self.scorer = None  # memory may not hold two bases
        self.scorer = load_scorer(model, media, show, self.scorer)
        return self.scorer

    def _overlap(self, info: CheckpointInfo) -> dict[str, int] | None:
        """How many of the chosen clips the checkpoint was made with; None where it does not say."""
        from omni_msa.scoring.trained_clips import TrainedClips, clip_keys

        clips = TrainedClips.recorded(info.training)
        if clips is None:
            return None
        if self.keys is None:
            self.keys = clip_keys(self.chosen)
        return clips.overlap(self.keys)

    def _seen(self, model: ModelOptions, overlap: dict[str, int] | None) -> str | None:
        """Whether the checkpoint was, or may have been, made with these very clips."""
        if overlap is not None:
            if not any(overlap.values()):
                return None
            windows = overlap["same_file"]
            return (
                f"{overlap['train']} of {len(self.chosen)} clips were trained on, "
                f"{overlap['valid']} validated on"
                + (f", {windows} are other windows of these files" if windows else "")
                + ": the figures flatter it"
            )
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
