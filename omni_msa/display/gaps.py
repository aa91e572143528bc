"""The picture of `evaluate --diagnose`: label gaps by state, beside those of permuted labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from omni_msa.display.pictures import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from omni_msa.evaluation.evaluate import Evaluation
    from omni_msa.evaluation.label_gap import Gaps

PANEL_INCHES = 2.6
BINS = 24


def gap_figure(evaluations: Sequence[Evaluation]) -> Figure:
    """A row each system, a column each k: how the clips' gaps are distributed, and their means.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    rows = [(e.checkpoint or e.system, e.label_gap.gaps) for e in evaluations if e.label_gap]
    columns = max((len(gaps) for _, gaps in rows), default=1) or 1
    figure = new_figure(PANEL_INCHES * max(len(rows), 1), PANEL_INCHES * max(columns, 2))
    axes = figure.subplots(max(len(rows), 1), columns, squeeze=False)
    for line, (name, gaps) in zip(axes, rows, strict=False):
        line[0].set_ylabel(name.replace("$", r"\$"))  # no formula
        for axis, part in zip(line, gaps, strict=False):
            _draw(axis, part)
        for axis in line[len(gaps) :]:  # too few clips for that k
            axis.set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel("mean |label difference|")
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=2, frameon=False)
    return figure


def _draw(axis: Axes, gaps: Gaps) -> None:
    values = {"neighbours by state": gaps.by_state, "permuted labels": gaps.permuted.ravel()}
    highest = max(float(numbers.max()) for numbers in values.values()) or 1.0
    edges = np.linspace(0, highest, BINS + 1).tolist()
    for number, (name, numbers) in enumerate(values.items()):
        axis.hist(
            numbers, edges, density=True, histtype="step", color=f"C{number}", linewidth=1.5,
            label=name,
        )  # fmt: skip
        axis.axvline(float(numbers.mean()), color=f"C{number}", linestyle="--", linewidth=1)
    axis.set_title(f"k = {gaps.k}: {gaps.gap:.3f} and {gaps.permuted_gap:.3f}", fontsize="small")
    axis.set_yticks([])
