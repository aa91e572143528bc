"""The flags of `evaluate`: what is measured, and what is written beside the figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from omni_msa.commands.flags import MODALITY_NAMES, option
from omni_msa.options import INTERVAL_UNITS, METRIC_FAMILIES, EvaluateOptions

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
        list[str] | None,
        option(
            "--against",
            metavar="DIR",
            panel=_EVALUATE,
            help="Compare with this checkpoint, on the same clips; may be given several times.",
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
    intervals_over: Annotated[
        str,
        option(
            "--intervals-over",
            metavar="|".join(INTERVAL_UNITS),
            panel=_EVALUATE,
            help="What the bootstrap draws; auto: all clips of a speaker, else of a video, where "
            "ten or more are known.",
        ),
    ] = EvaluateOptions.intervals_over
    diagnose: Annotated[
        bool,
        option(
            "--diagnose",
            panel=_EVALUATE,
            help="How far the labels of a clip's 5, 10 and 20 nearest neighbours are from its own, "
            "by its last state before the head (euclidean distance: our choice), beside permuted "
            "labels. Reads all clips once more.",
        ),
    ] = EvaluateOptions.diagnose
    diagnose_plot: Annotated[
        Path | None,
        option(
            "--diagnose-plot",
            metavar="FILE",
            panel=_EVALUATE,
            help="Draw both distributions, .svg or .png (the extra plot); implies --diagnose.",
        ),
    ] = None
    table: Annotated[
        Path | None,
        option(
            "--table",
            metavar="FILE",
            panel=_EVALUATE,
            help="All systems' metrics and intervals in one table, .csv or .md: a row a system, "
            "with --ablate also one a subset.",
        ),
    ] = None

    def options(self) -> EvaluateOptions:
        """The checked options that the library takes."""
        return EvaluateOptions(
            self.split,
            self.metrics,
            self.ablate,
            self.resamples,
            self.intervals_over,
            self.diagnose or self.diagnose_plot is not None,
        )

    def check_files(self, data: Path) -> None:
        """What is to be written can be, as far as is known before anything is read.

        Raises:
            ConfigError: a name says no format, is an input, or an extra is not installed.
        """
        from omni_msa.display.pictures import check_picture, new_figure
        from omni_msa.evaluation.flat_table import check_table
        from omni_msa.files.result_formats import check_is_no_input

        if self.table is not None:
            check_table(self.table)
            check_is_no_input(self.table, data, fresh=True)
        if self.diagnose_plot is not None:
            check_picture(self.diagnose_plot, "--diagnose-plot")
            new_figure()  # before hours of scoring
