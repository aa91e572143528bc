"""Several records as people read them in a terminal: a line each, and a summary."""

from __future__ import annotations

import os.path
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from rich.console import Group
from rich.table import Table

from omni_msa.display.card import scale
from omni_msa.display.output import line, signed, to_stdout, until_reader_leaves
from omni_msa.display.rounding import rounded
from omni_msa.files.record import Record
from omni_msa.modalities import MODALITIES, all_subsets, subset_name

Columns = dict[str, Callable[[Record], float | None]]  # by heading


def print_lines(records: Sequence[Record], subsets: bool = False) -> None:
    """Several clips: a heading, a line each, and a summary.

    Args:
        subsets: whether scores of subsets are shown, in place of contributions.
    """
    with until_reader_leaves():
        to_stdout().print(lines(records, subsets))


def lines(records: Sequence[Record], subsets: bool = False) -> Group:
    """What `print_lines` prints. Why a clip failed was said when it failed, and is not repeated."""
    folder = common_folder([record.clip for record in records])
    names = [record.clip.removeprefix(folder) for record in records]
    heading, summary = _heading(records, folder, subsets), _summary(records, names)
    table = _table(records, names, subsets)
    return Group(*map(line, heading), line(), table, line(), *map(line, summary))


def common_folder(paths: Sequence[str]) -> str:
    """The folder that all paths begin with, with its slash; empty when there is none."""
    folders = [os.path.dirname(path) for path in paths]
    if not folders or not all(folders) or len({os.path.isabs(f) for f in folders}) > 1:
        return ""
    folder = os.path.commonpath(folders).rstrip("/")
    # commonpath tidies what it is given (`a//b`): then names are left as they are
    is_prefix = folder and all(path.startswith(f"{folder}/") for path in paths)
    return f"{folder}/" if is_prefix else ""


def _heading(records: Sequence[Record], folder: str, subsets: bool) -> list[str]:
    """Which clips, on which scale, and what the columns hold."""
    heading = [f"{len(records)} clips" + (f" in {folder}" if folder else "")]
    label_range = next((record.range for record in records if record.range), None)
    if noun := _noun(records):
        heading.append(f"the score is the number of the {noun}")
    elif label_range:
        heading.append(f"scores {scale(label_range)}")
    columns = _columns(records, subsets)
    if subsets and columns:
        names = [name for name in MODALITIES if any(r.modalities.get(name) for r in records)]
        letters = ", ".join(f"{MODALITIES[name].letter} {name}" for name in names)
        heading.append(f"scores by what is shown: {letters}; more: omni-msa explain")
    elif columns and set(columns) <= set(MODALITIES):
        heading.append(f"{', '.join(columns)}: what each contributed; more: omni-msa explain")
    elif columns:
        heading.append(f"{', '.join(columns)}: the score without; more: omni-msa explain")
    return heading


def _noun(records: Sequence[Record]) -> str:
    """What scores are the numbers of; nothing where they are none."""
    if any(record.findings for record in records):
        return "likeliest finding"
    return "emotion" if any(record.emotion for record in records) else ""


def _columns(records: Sequence[Record], subsets: bool) -> Columns:
    """Scores of subsets, or contributions, or, where they are not known, scores without."""
    columns: Columns = {}
    if subsets:
        for subset in all_subsets(MODALITIES):
            name = subset_name(subset)
            columns[name or "none"] = lambda r, n=name: _subsets(r).get(n)  # type: ignore[misc]
    else:
        for name in MODALITIES:
            columns[name] = lambda r, n=name: rounded(r).contribution.get(n)  # type: ignore[misc]
        if not any(r.ablation and r.ablation.contribution for r in records):
            for name in dict.fromkeys(n for r in records for n in rounded(r).without):
                columns[f"no {name}"] = lambda r, n=name: rounded(r).without.get(n)  # type: ignore[misc]
    return {
        heading: value
        for heading, value in columns.items()
        if any(value(record) is not None for record in records)
    }


def _subsets(record: Record) -> Mapping[str, float]:
    return record.ablation.subsets if record.ablation else {}


def _table(records: Sequence[Record], names: Sequence[str], subsets: bool) -> Table:
    columns = _columns(records, subsets)
    noun = _noun(records)
    table = Table(box=None, pad_edge=False)
    table.add_column("clip", overflow="fold")
    table.add_column("score", justify="right", no_wrap=True)
    if noun:
        table.add_column(noun, no_wrap=True)
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for record, name in zip(records, names, strict=True):
        score = "failed" if record.score is None else signed(rounded(record).score)
        cells = [name, score, *([record.name or ""] if noun else [])]
        cells += [signed(value(record)) for value in columns.values()]
        table.add_row(*(line(cell) for cell in cells))
    return table


def _summary(records: Sequence[Record], names: Sequence[str]) -> list[str]:
    """Mean, spread and the two ends; of emotions or findings, how many of each."""
    scores = [
        (record.score, name)
        for record, name in zip(records, names, strict=True)
        if record.score is not None
    ]
    summary = []
    counts = Counter(record.name for record in records if record.name)
    if counts:
        summary.append(", ".join(f"{name} {count}" for name, count in counts.most_common()))
    elif len(scores) > 1:
        values = [score for score, _ in scores]
        mean, spread = statistics.fmean(values), statistics.stdev(values)
        (lowest, most_negative), (highest, most_positive) = min(scores), max(scores)
        summary += [
            f"mean {signed(mean)}, spread {spread:.2f} (standard deviation)",
            f"most positive {signed(highest)} {most_positive}",
            f"most negative {signed(lowest)} {most_negative}",
        ]
    failed = sum(record.score is None for record in records)
    if failed:
        summary.append(f"{failed} could not be scored; why was said on the way")
    return summary
