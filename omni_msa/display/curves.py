"""The curves of training runs, from their logs: loss, validation, learning rates.

Drawing needs matplotlib, which is imported where it is used; reading a log does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omni_msa.display.pictures import new_figure, save_picture
from omni_msa.errors import ConfigError
from omni_msa.foreign import MAX_ROW_BYTES, MAX_TABLE_BYTES, parse_json, read_limited

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOG = "train_log.jsonl"
PANEL_INCHES, LEGEND_INCHES = 2.1, 0.35
# By which the kept epoch is chosen: the lowest of the run's own.
CRITERIA = ("mae", "error_rate", "log_loss")
PANELS = {
    "training loss": ("training_loss",),
    "validation MAE\n(label units)": ("mae",),
    "validation\nerror rate": ("error_rate",),
    "validation\nlog loss (nats)": ("log_loss",),
    "validation\ncorrelation": ("corr",),
    "learning rate": ("lora_learning_rate", "head_learning_rate"),
}
LEGEND_COLUMNS = 2
STYLES: dict[str, tuple[Any, str]] = {
    "lora_learning_rate": ("-", "LoRA"),
    "head_learning_rate": ("--", "head"),
}


@dataclass(frozen=True)
class Curves:
    """One run's epochs: every figure that its log has, by epoch (None where it has none)."""

    name: str
    epochs: list[int]
    figures: dict[str, list[float | None]]

    @property
    def best_place(self) -> int | None:
        """The place of the epoch whose weights are kept so far: the first of the best ones."""
        for values in (self.figures[name] for name in CRITERIA):
            numbers = [value for value in values if value is not None]
            if numbers:
                return values.index(min(numbers))
        return None


def read_curves(folders: Sequence[Path]) -> list[Curves]:
    """The epochs that each run has finished; it may still go on.

    Raises:
        ConfigError: a folder has no log, or no epoch of it is finished.
    """
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    return [_read_run(folder, name) for folder, name in zip(folders, names, strict=True)]


def draw_curves(runs: Sequence[Curves], path: Path) -> None:
    """Writes the picture; its name says the format.

    Raises:
        ConfigError: matplotlib is not installed, or the file cannot be written.
    """
    save_picture(make_figure(runs), path)


def make_figure(runs: Sequence[Curves]) -> Figure:
    """A panel each for loss, validation and learning rates; a colour each run, and a ring around
    the epoch that it keeps.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    panels = {title: names for title, names in PANELS.items() if _has(runs, names)}
    height = PANEL_INCHES * len(panels) + LEGEND_INCHES * math.ceil(len(runs) / LEGEND_COLUMNS)
    figure = new_figure(height)
    from matplotlib.ticker import MaxNLocator

    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (title, names) in zip(axes, panels.items(), strict=True):
        for number, run in enumerate(runs):
            for name in names:
                _draw_line(axis, run, name, f"C{number}", title.startswith("validation"))
        axis.set_ylabel(title)
        axis.grid(alpha=0.3)
    if "learning rate" in panels:
        axes[-1].ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
        _explain_styles(axes[-1], runs)
    axes[-1].set_xlabel("epoch")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.align_ylabels(axes)
    _name_runs(figure, runs)
    return figure


def epochs_of(folder: Path) -> list[dict[str, Any]]:
    """The log's lines of finished epochs.

    Raises:
        ConfigError: there is no log, or no epoch of it is finished.
    """
    try:
        data = read_limited(folder / LOG, MAX_TABLE_BYTES, ConfigError)
        lines = data.decode("utf-8", "replace").splitlines()
    except OSError as error:
        raise ConfigError(f"{folder}: no {LOG} in it; give a folder of `train -o`") from error
    rows = [row for row in map(_event, lines) if row.get("event") == "epoch"]
    rows = [row for row in rows if isinstance(row.get("epoch"), int)]
    if not rows:
        raise ConfigError(f"{folder}: no epoch is finished yet; there is nothing to draw")
    return rows


def _read_run(folder: Path, name: str) -> Curves:
    rows = epochs_of(folder)
    keys = [key for panel in PANELS.values() for key in panel]
    figures = {key: [_number(row.get(key)) for row in rows] for key in keys}
    return Curves(name, [row["epoch"] for row in rows], figures)


def _draw_line(axis: Axes, run: Curves, name: str, color: str, marks_kept: bool) -> None:
    """One figure of one run; nothing where its log does not have it."""
    values = run.figures[name]
    if all(value is None for value in values):
        return
    numbers = [math.nan if value is None else value for value in values]
    style, _ = STYLES.get(name, ("-", ""))
    axis.plot(run.epochs, numbers, style, color=color, marker="o", markersize=3)
    if marks_kept and run.best_place is not None:
        place = run.best_place
        point = axis.plot([run.epochs[place]], [numbers[place]], "o", color=color, markersize=10)
        point[0].set_markerfacecolor("none")


def _explain_styles(axis: Axes, runs: Sequence[Curves]) -> None:
    """Which learning rate is dashed."""
    from matplotlib.lines import Line2D

    styles = [style for name, style in STYLES.items() if _has(runs, [name])]
    lines = [Line2D([], [], color="gray", linestyle=dashes) for dashes, _ in styles]
    axis.legend(lines, [part for _, part in styles], fontsize="small")


def _name_runs(figure: Figure, runs: Sequence[Curves]) -> None:
    """One legend above all panels: a colour each run, and which epoch it keeps."""
    from matplotlib.lines import Line2D

    lines, names = [], []
    for number, run in enumerate(runs):
        lines.append(Line2D([], [], color=f"C{number}", marker="o", markersize=3))
        name = run.name.replace("$", r"\$")  # no formula
        if run.best_place is not None:
            name += f" (ring: epoch {run.epochs[run.best_place]} is kept)"
        names.append(name)
    figure.legend(lines, names, loc="outside upper center", ncols=LEGEND_COLUMNS, frameon=False)


def _has(runs: Sequence[Curves], names: Sequence[str]) -> bool:
    return any(value is not None for run in runs for name in names for value in run.figures[name])


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _event(line: str) -> dict[str, Any]:
    """A line of the log; empty for one that is cut short."""
    try:
        event = parse_json(line, MAX_ROW_BYTES)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}
