"""The tables of a study as files: for a spreadsheet, for people, for a paper.

`results.csv` holds the numbers to six digits; `results.md` and `results.tex` show the same to
three, both from one grid of cells. `runs.csv` holds every run's own figures.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omni_msa.evaluation.flat_table import write_table
from omni_msa.files.atomic import replacing
from scripts.study.plan import PLAN, STOPPING, Study
from scripts.study.results import ANSWERS, DONE, Measured, Row, measurement_rows

ESCAPES = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}  # fmt: skip
LONGEST_STATE = 80  # characters of it in a table; the .csv has all


def write_results(
    folder: Path,
    study: Study,
    rows: Sequence[Row],
    runs: Sequence[Row],
    measured: Sequence[Measured],
    notices: Sequence[str],
) -> None:
    """Replaces every table in the study's folder."""
    if figures := measurement_rows(measured):
        write_table(folder / "runs.csv", figures)
    grid = cells(study, rows)
    texts = {
        "results.csv": _csv(rows),
        "results.md": _page(study, grid, runs, measured, notices),
        "results.tex": latex(study, grid),
    }
    for name, text in texts.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")


def cells(study: Study, rows: Sequence[Row]) -> list[list[str]]:
    """The grid that is shown: headings, then a line an arm."""
    short = study.family.short
    answers = [key for key in ANSWERS if key in rows[0]]
    heading = ["Readout", "Shown", "Protocol", "Runs", "Clips", *short.values()]
    heading += [key.replace("_", " ").capitalize() for key in answers]
    heading += [f"Change of {short[study.metric]}", "p (Holm)"]
    is_failed = any(row["state"] != DONE for row in rows)
    grid = [heading + ["State"] * is_failed]
    for row in rows:
        line = [row["readout"], row["shown"], row["protocol"]]
        line += [str(len(row["seeds"].split()) or 1), _clips(row)]
        line += [_spread(row, key) for key in short] + [_text(row[key]) for key in answers]
        line += [_change(row), _text(row["p_holm"])]
        state = row["state"] if len(row["state"]) < LONGEST_STATE else _cut(row["state"])
        grid.append(line + [state] * is_failed)
    return grid


def markdown(grid: Sequence[Sequence[str]], num_names: int) -> str:
    """A grid as a table whose first columns are names."""
    lines = [list(grid[0]), ["---"] * num_names + ["---:"] * (len(grid[0]) - num_names)]
    lines += [[cell.replace("|", r"\|").replace("\n", " ") for cell in line] for line in grid[1:]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def latex(study: Study, grid: Sequence[Sequence[str]]) -> str:
    """A grid as a booktabs tabular, to be read with \\input; the comments say what it holds."""
    notes = [f"Change: {study.test}", *study.family.titles.values(), "needs \\usepackage{booktabs}"]
    lines = [f"% {note}" for note in notes]
    lines += [rf"\begin{{tabular}}{{lll{'r' * (len(grid[0]) - 3)}}}", r"\toprule"]
    for number, line in enumerate(grid):
        lines.append(" & ".join(escape(cell) for cell in line) + r" \\")
        lines += [r"\midrule"] if number == 0 else []
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def escape(text: str) -> str:
    """Any text as LaTeX shows it; numbers with a true minus, deviations with a true plus-minus."""
    text = "".join(ESCAPES.get(character, character) for character in text.replace("\n", " "))
    text = re.sub(r"(?<![\w.])-(?=\d)", "$-$", text)
    return text.replace("±", r"$\pm$")


def _page(
    study: Study,
    grid: Sequence[Sequence[str]],
    runs: Sequence[Row],
    measured: Sequence[Measured],
    notices: Sequence[str],
) -> str:
    """The whole of results.md."""
    sizes = ", ".join(f"{len(study.clips[name])} {name}" for name in study.clips)
    titles = "; ".join(study.family.titles.values())
    evaluations = [e for part in measured if part.failure is None for e in part.evaluations]
    parts = [
        f"# {len(study.arms)} arms, compared by {study.family.short[study.metric]}",
        f"Clips: {sizes}. The plan, written before anything was run: `{PLAN}`. Mean ± sample "
        "deviation over the runs of an arm, one a seed; what has no deviation is a single run.",
        markdown(grid, 3).rstrip(),
    ]
    if evaluations:
        value = evaluations[0].baseline[study.metric]
        name = evaluations[0].baseline_name
        parts.append(f"{name.capitalize()}: {study.family.short[study.metric]} {value:.3f}.")
    parts += [
        "Protocol. *trained with these*: the model was trained, or fitted, with exactly what is "
        "shown. *test-time subset of …*: one model, trained with all of those, is shown less when "
        "it is measured; *packed* models were trained on whole clips and all their subsets, *full* "
        "ones on whole clips only. *nothing is trained*: the base is read as it is.",
        f"Change: {study.test}",
        f"Stopping: {STOPPING}",
        f"Metrics: {titles}.",
        "## Runs",
        "Every run of the study. `runs.jsonl` holds every attempt, `runs.csv` their figures.",
        markdown([list(runs[0]), *([_plain(v) for v in row.values()] for row in runs)], 5).rstrip(),
    ]
    if notices:
        parts += ["## Warnings", "\n".join(f"- {notice}" for notice in notices)]
    return "\n\n".join(parts) + "\n"


def _csv(rows: Sequence[Row]) -> str:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _text(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _spread(row: Mapping[str, Any], key: str) -> str:
    mean, deviation = row[key], row[f"{key}_deviation"]
    return _text(mean) if deviation is None else f"{_text(mean)} ± {_text(deviation)}"


def _change(row: Mapping[str, Any]) -> str:
    value, low, high = row["change"], row["change_low"], row["change_high"]
    if value is None:
        return ""
    return f"{value:+.3f}" if low is None else f"{value:+.3f} [{low:.3f}, {high:.3f}]"


def _clips(row: Mapping[str, Any]) -> str:
    """`40`, or `38 of 40` where some could not be scored."""
    if row["clips"] is None:
        return ""
    return (
        f"{row['clips']} of {row['clips'] + row['failed']}" if row["failed"] else str(row["clips"])
    )


def _plain(value: object) -> str:
    return "" if value is None else _cut(str(value))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_STATE else f"{text[: LONGEST_STATE - 1]}…"
