"""Records as people read them in a terminal: one clip as a card, many as lines, and progress.

Results go to stdout; progress, notices and errors go to stderr. File names and error messages are
shown as they are: nothing in them is read as markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from omni_msa.display.output import signed, to_stdout, until_reader_leaves
from omni_msa.modalities import MODALITIES
from omni_msa.values import Ablation, Record

BAR_CELLS = 8  # each way


def print_card(record: Record) -> None:
    """One clip: its score, each modality's source and contribution, and warnings."""
    with until_reader_leaves():
        to_stdout().print(card(record))


def print_lines(records: Sequence[Record]) -> None:
    """Several clips, a line each."""
    with until_reader_leaves():
        to_stdout().print(lines(records))


def card(record: Record) -> Group:
    """What `print_card` prints of one clip."""
    score = Text("  ").append(f"score {signed(record.score)}", style="bold")
    if record.range:
        low, high = record.range
        scale = f"from {low:+g} (negative) to {high:+g} (positive)"
        score.append(f"   {record.emotion or scale}", style="" if record.emotion else "dim")
    parts: list[Any] = [Text(record.clip), score, Text(), _modalities(record)]
    if record.ablation and record.ablation.contribution:
        parts.append(_sum_line(record.ablation))
    parts += [Text(f"  warning: {warning}", style="yellow") for warning in record.warnings]
    return Group(*parts)


def lines(records: Sequence[Record]) -> Table:
    """A compact table, one line a clip."""
    table = Table(box=None, pad_edge=False)
    table.add_column("clip", overflow="fold")
    table.add_column("score", justify="right", no_wrap=True)
    columns = [m for m in MODALITIES if any(_contribution(r, m) is not None for r in records)]
    for modality in columns:
        table.add_column(modality, justify="right", no_wrap=True)
    if any(record.error for record in records):
        table.add_column("error", overflow="fold")
    for record in records:
        cells = [Text(record.clip), Text(signed(record.score))]
        cells += [Text(signed(_contribution(record, modality))) for modality in columns]
        table.add_row(*cells, *([Text(record.error["message"])] if record.error else []))
    return table


def bar(value: float, full: float) -> Text:
    """A signed bar around a middle line; `full` is the value that fills one side."""
    cells = min(BAR_CELLS, round(abs(value) / full * BAR_CELLS)) if full else 0
    blocks = "█" * cells
    if value < 0:
        return Text(" " * (BAR_CELLS - cells)).append(blocks, "red").append("│" + " " * BAR_CELLS)
    return Text(" " * BAR_CELLS + "│").append(blocks, "green").append(" " * (BAR_CELLS - cells))


def _modalities(record: Record) -> Padding:
    """One line a modality: its source, its contribution, the score without it."""
    contribution = record.ablation.contribution if record.ablation else {}
    drop = record.ablation.drop if record.ablation else {}
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("modality", no_wrap=True)
    table.add_column("from", overflow="fold")
    if contribution:
        table.add_column("contribution", justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)
    if drop:
        table.add_column("without it", justify="right", no_wrap=True)
        table.add_column("change", justify="right", no_wrap=True)
    full = max((abs(value) for value in contribution.values()), default=0.0)
    for name in dict.fromkeys((*MODALITIES, *drop)):  # several modalities together: `text+audio`
        source = record.modalities.get(name) if name in MODALITIES else ""
        cells = [Text(name), Text("none" if source is None else source)]
        if contribution:
            value = contribution.get(name)
            cells += [Text(signed(value)), Text() if value is None else bar(value, full)]
        if drop:
            change = drop.get(name, {})
            cells += [Text(signed(change.get("score"))), Text(signed(change.get("delta")))]
        table.add_row(*cells)
    return Padding(table, (0, 0, 0, 2), expand=False)


def _sum_line(ablation: Ablation) -> Text:
    baseline, total = ablation.subsets[""], sum(ablation.contribution.values())
    words = f"  {signed(baseline)} with nothing shown, {signed(total)} from the clip"
    return Text(words, style="dim")


def _contribution(record: Record, modality: str) -> float | None:
    return record.ablation.contribution.get(modality) if record.ablation else None
