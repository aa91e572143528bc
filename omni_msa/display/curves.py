"""The curves of training runs, from their logs: loss, validation, learning rates.

Drawing needs matplotlib, which is imported where it is used; reading a log does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omni_msa.errors import ConfigError
from omni_msa.files.atomic import replacing
from omni_msa.foreign import MAX_ROW_BYTES, MAX_TABLE_BYTES, parse_json, read_limited

LOG = "train_log.jsonl"
SUFFIXES = (".svg", ".png")
INCHES = (7.0, 8.0)
PANELS = {
    "training loss": ("training_loss",),
    "validation error": ("mae", "error_rate"),
    "validation correlation": ("corr",),
    "learning rate": ("lora_learning_rate", "head_learning_rate"),
}


@dataclass(frozen=True)
class Curves:
    """One run's epochs: every figure that its log has, by epoch (None where it has none)."""

    name: str
    epochs: list[int]
    figures: dict[str, list[float | None]]


def check_picture(path: Path) -> None:
    """What can be said before a log is read.

    Raises:
        ConfigError: the name does not say a format, or its folder does not exist.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"-o {path}: a picture ends in one of {', '.join(SUFFIXES)}")
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigError(f"-o {path}: name a file in a folder that exists")


def read_curves(folder: Path) -> Curves:
    """The epochs that a run has finished; it may still go on.

    Raises:
        ConfigError: the folder has no log, or no epoch of it is finished.
    """
    try:
        data = read_limited(folder / LOG, MAX_TABLE_BYTES, ConfigError)
        lines = data.decode("utf-8", "replace").splitlines()
    except OSError as error:
        raise ConfigError(f"{folder}: no {LOG} in it; give a folder of `train -o`") from error
    rows = [row for row in map(_event, lines) if row.get("event") == "epoch" and "epoch" in row]
    if not rows:
        raise ConfigError(f"{folder}: no epoch is finished yet; there is nothing to draw")
    names = [name for panel in PANELS.values() for name in panel]
    figures = {name: [row.get(name) for row in rows] for name in names}
    return Curves(folder.name, [row["epoch"] for row in rows], figures)


def draw_curves(runs: Sequence[Curves], path: Path) -> None:
    """A panel each for loss, validation error, correlation and learning rates; a line each run.

    Raises:
        ConfigError: matplotlib is not installed, or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(
            'plot needs matplotlib; pip install "omni-msa[plot]" installs it'
        ) from error
    panels = {title: names for title, names in PANELS.items() if _has(runs, names)}
    figure = Figure(figsize=INCHES, layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (title, names) in zip(axes, panels.items(), strict=True):
        for run in runs:
            for name in names:
                part = f": {name.partition('_')[0]}" if title == "learning rate" else ""
                _draw_line(axis, run, name, f"{run.name}{part}")
        axis.set_ylabel(title)
        axis.legend(fontsize="small")
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("epoch")
    try:
        with replacing(path) as temporary:
            figure.savefig(temporary, format=path.suffix.lower().removeprefix("."))
    except OSError as error:
        raise ConfigError(f"-o {path}: cannot be written ({error.strerror})") from error


def _draw_line(axis: Any, run: Curves, name: str, label: str) -> None:
    """One figure of one run; nothing where its log does not have it."""
    values = run.figures[name]
    if all(value is None for value in values):
        return
    numbers = [float("nan") if value is None else value for value in values]
    axis.plot(run.epochs, numbers, marker="o", markersize=3, label=label)


def _has(runs: Sequence[Curves], names: Sequence[str]) -> bool:
    return any(value is not None for run in runs for name in names for value in run.figures[name])


def _event(line: str) -> dict[str, Any]:
    """A line of the log; empty for one that is cut short."""
    try:
        event = parse_json(line, MAX_ROW_BYTES)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}
