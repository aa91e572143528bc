"""One record as people read it in a terminal: a card.

Results go to stdout; progress, notices and errors go to stderr. File names and error messages are
shown as they are: nothing in them is read as markup, or obeyed as an escape.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from omni_msa.display.output import line, signed, to_stdout, until_reader_leaves
from omni_msa.display.rounding import RoundedScore, rounded
from omni_msa.files.record import Record
from omni_msa.modalities import MODALITIES, all_subsets, in_order, others, subset_name, tokens

BAR_CELLS = 8  # each way
SOURCE_CELLS = 24  # what 80 columns leave for where a modality came from


def print_card(record: Record, subsets: bool = False) -> None:
    """One clip: its score, each modality's source and contribution, and warnings.

    Args:
        subsets: whether the score of every subset of its modalities is shown too.
    """
    with until_reader_leaves():
        to_stdout().print(card(record, subsets))


def card(record: Record, subsets: bool = False) -> Group:
    """What `print_card` prints of one clip."""
    numbers = rounded(record)
    score = line("  ").append(f"score {signed(numbers.score)}", style="bold")
    if record.findings:
        score = line(f"  likeliest finding {record.name}", style="bold")
    elif record.emotion or record.range:
        meaning = record.emotion or scale(record.range)
        score.append_text(line(f"   {meaning}", "" if record.emotion else "dim"))
    parts: list[Any] = [line(record.clip), score]
    if record.interval:
        low, high = record.interval
        parts.append(line(f"  90 % interval {signed(low)} to {signed(high)}"))
    if shares := record.emotions or record.findings:
        parts.append(line(f"  {_probabilities(shares)}"))
    parts += [line(), _modalities(record, numbers)]
    if numbers.contribution:
        parts.append(_sum_line(numbers))
    if record.ablation and record.ablation.emotions:
        parts += [line(), _emotion_shares(record)]
    if subsets and record.ablation:
        parts += [line(), _subset_scores(record, numbers)]
    if numbers.contribution or numbers.without or subsets:
        parts += [
            line(),
            *(line(f"  {words}", "dim") for words in explanation(record, numbers, subsets)),
        ]
    parts += [line(f"  warning: {warning}", style="yellow") for warning in record.warnings]
    return Group(*parts)


def _probabilities(shares: dict[str, float]) -> str:
    """`joy 71 %, anger 12 %`: the likeliest first."""
    rows = sorted(shares.items(), key=lambda row: -row[1])
    return ", ".join(f"{name} {share:.0%}".replace("%", " %") for name, share in rows)


def _emotion_shares(record: Record) -> Padding:
    """One line a name: its probability, and what each modality adds to it, in per cent."""
    shares = record.ablation.emotions if record.ablation else {}
    modalities = in_order(frozenset().union(*shares.values()))
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("finding" if record.findings else "emotion", no_wrap=True)
    for heading in ("probability", *modalities):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, row in shares.items():
        share = (record.emotions or record.findings or {}).get(name, 0.0)
        cells = [line(f"{100 * row[m]:+.0f}") for m in modalities]
        table.add_row(line(name), line(f"{100 * share:.0f} %"), *cells)
    return Padding(table, (0, 0, 0, 2), expand=False)


def scale(label_range: tuple[float, float] | None) -> str:
    """`from -3 (negative) to +3 (positive)`; empty when the range is unknown."""
    if label_range is None:
        return ""
    low, high = label_range
    return f"from {low:+g} (negative) to {high:+g} (positive)"


def explanation(record: Record, numbers: RoundedScore, subsets: bool = False) -> list[str]:
    """What the range, a contribution and `adds` mean, in two lines of at most 78 characters."""
    words = []
    if record.name:
        what = "emotion" if record.emotion else "likeliest finding"
        words.append(f"the score is the number of the {what}")
    elif record.range:
        words.append(f"{_middle(record):g} is neutral, + pulls to positive")
    if record.range and (numbers.contribution or subsets):
        words.append(f"a full bar is {_full_bar(record):g}")
    meanings = []
    if numbers.contribution:
        meanings.append("contribution: its share of the score")
    if numbers.without:
        meanings.append("adds: the score minus the one without it")
    lines = ["; ".join([*words, "more: omni-msa explain"]), "; ".join(meanings)]
    return list(filter(None, lines))


def bar(value: float, full: float) -> Text:
    """A signed bar around a middle line; `full` is the value that fills one side."""
    cells = min(BAR_CELLS, round(abs(value) / full * BAR_CELLS)) if full else 0
    blocks = "█" * cells
    if value < 0:
        return line(" " * (BAR_CELLS - cells)).append(blocks, "red").append("│" + " " * BAR_CELLS)
    return line(" " * BAR_CELLS + "│").append(blocks, "green").append(" " * (BAR_CELLS - cells))


def _middle(record: Record) -> float:
    return sum(record.range) / 2 if record.range else 0.0


def _full_bar(record: Record) -> float:
    """Half of the label range, so that bars of different clips can be compared."""
    if record.range:
        return (record.range[1] - record.range[0]) / 2
    values = record.ablation.contribution.values() if record.ablation else []
    return max((abs(value) for value in values), default=0.0)


def _modalities(record: Record, numbers: RoundedScore) -> Padding:
    """One line a modality: its source, its contribution, the score without it."""
    contribution, without, full = numbers.contribution, numbers.without, _full_bar(record)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("modality", no_wrap=True)
    table.add_column("from", overflow="fold")
    if contribution:
        table.add_column("contribution", no_wrap=True)
    if without:
        table.add_column("without it", justify="right", no_wrap=True)
        table.add_column("adds", justify="right", no_wrap=True)
    present = {name for name, source in record.modalities.items() if source}
    usual = [m for m in MODALITIES if m in (present if present <= others() else present | tokens())]
    for name in dict.fromkeys((*usual, *without)):  # several together: `text+audio`
        source = record.modalities.get(name) if name in MODALITIES else ""
        cells = [line(name), line("none" if source is None else _short(source, record.clip))]
        if contribution:
            value = contribution.get(name)
            cells.append(
                line(f"{signed(value)} ") + bar(value, full) if value is not None else line()
            )
        if without:
            cells += [line(signed(without.get(name))), line(signed(numbers.adds.get(name)))]
        table.add_row(*cells)
    return Padding(table, (0, 0, 0, 2), expand=False)


def _short(source: str, clip: str) -> str:
    """A sidecar whose name is too long is named by its ending: it begins as the clip does."""
    stem = PurePath(clip).stem
    if len(source) <= SOURCE_CELLS or not source.startswith(f"sidecar {stem}"):
        return source
    return f"sidecar {source.removeprefix(f'sidecar {stem}')}"


def _sum_line(numbers: RoundedScore) -> Text:
    """What is printed adds up: `+0.10 with nothing shown +0.40 text -1.70 audio = -1.20`."""
    parts = [f"{signed(numbers.baseline)} with nothing shown"]
    parts += [f"{signed(value)} {name}" for name, value in numbers.contribution.items()]
    return line(f"  {' '.join(parts)} = {signed(numbers.score)}", style="dim")


def _subset_scores(record: Record, numbers: RoundedScore) -> Padding:
    """One line a subset of the modalities: what is shown, and the score."""
    scores = dict(record.ablation.subsets) if record.ablation else {}
    if numbers.baseline is not None:
        scores[""] = numbers.baseline  # as in the sum
    middle, full = _middle(record), _full_bar(record)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("only these shown", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for subset in all_subsets(MODALITIES):
        name = subset_name(subset)
        if name in scores:
            shown = " + ".join(in_order(subset)) or "nothing"
            table.add_row(shown, signed(scores[name]), bar(scores[name] - middle, full))
    return Padding(table, (0, 0, 0, 2), expand=False)
