"""All systems of an evaluation in one flat table, for a spreadsheet (.csv) or a paper (.md).

A row is one system on one split, or one subset of its ablation; columns say which, and hold every
metric with the ends of its 95 % interval. `coverage` is the share of labels inside the scores' own
90 % intervals, and `interval_width` how wide these are. What is undefined is an empty cell.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from omni_msa.errors import ConfigError
from omni_msa.evaluation.evaluate import Evaluation, Figures
from omni_msa.files.atomic import check_replaceable, replacing

SUFFIXES = (".csv", ".md")
EVERYTHING = "all"  # shown of each clip: whatever it has
KEYS = ("checkpoint", "role", "split", "shown", "clips", "failed", "intervals_over")
INTERVALS = ("coverage", "interval_width")  # empty where there are none

Row = dict[str, str | int | float | None]


def check_table(path: Path) -> None:
    """What can be said before anything is scored.

    Raises:
        ConfigError: it cannot be written, as far as its name and its folder say.
    """
    check_replaceable(path, "--table", "a table", SUFFIXES)


def table_rows(systems: Mapping[str, Sequence[Evaluation]]) -> list[Row]:
    """One row a system; where there is an ablation, one more a subset of it.

    Args:
        systems: evaluations by what they are in the comparison: `system`, `seed` or `against`.
    """
    return [
        _row(evaluation, role, shown, figures)
        for role, evaluations in systems.items()
        for evaluation in evaluations
        for shown, figures in _figures(evaluation)
    ]


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Replaces the file with these rows, in the format that its name says.

    Raises:
        ConfigError: it cannot be written.
    """
    text = _markdown(rows) if path.suffix.lower() == ".md" else _csv(rows)
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise ConfigError(f"--table {path}: cannot be written ({error.strerror})") from error


def _figures(evaluation: Evaluation) -> Iterable[tuple[str, Figures]]:
    yield EVERYTHING, evaluation.figures
    for name, ablated in evaluation.ablation.items():
        yield name, ablated.figures


def _row(evaluation: Evaluation, role: str, shown: str, figures: Figures) -> Row:
    names = (evaluation.checkpoint or evaluation.system, role, evaluation.split, shown)
    values = (*names, figures.num_clips, evaluation.failed, str(figures.basis))
    row: Row = dict(zip(KEYS, values, strict=True))
    row |= dict.fromkeys(INTERVALS)
    if shown == EVERYTHING and (coverage := evaluation.coverage) is not None:
        row |= zip(INTERVALS, (_cell(coverage.share), _cell(coverage.width)), strict=True)
    for key, value in figures.values.items():
        low, high = figures.intervals[key]
        row |= {key: _cell(value), f"{key}_low": _cell(low), f"{key}_high": _cell(high)}
    return row


def _cell(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)


def _csv(rows: Sequence[Row]) -> str:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _markdown(rows: Sequence[Row]) -> str:
    """Metrics with their intervals in one cell each, four digits."""
    metrics = [key for key in rows[0] if f"{key}_low" in rows[0]]
    numbers = [*INTERVALS, *metrics]
    lines = [[*KEYS, *numbers], ["---"] * len(KEYS) + ["---:"] * len(numbers)]
    for row in rows:
        names = [str(row[key]).replace("|", r"\|").replace("\n", " ") for key in KEYS]
        shares = ["" if row[key] is None else f"{row[key]:.4f}" for key in INTERVALS]
        lines.append([*names, *shares, *(_with_interval(row, key) for key in metrics)])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _with_interval(row: Row, key: str) -> str:
    value, low, high = (row[name] for name in (key, f"{key}_low", f"{key}_high"))
    if value is None:
        return ""
    return f"{value:.4f}" if low is None else f"{value:.4f} [{low:.3f}, {high:.3f}]"
