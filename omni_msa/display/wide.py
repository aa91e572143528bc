"""A table of numbers that is too wide for the terminal goes on below, never in cut cells."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, ConsoleOptions
from rich.table import Table
from rich.text import Text

from omni_msa.display.output import line

GAP = 2  # blanks between columns


class WideTable:
    """Columns of text; the first, at the left, names the rows and is repeated where they go on."""

    def __init__(self, *headings: str) -> None:
        self.columns = [[heading] for heading in headings]

    def add_row(self, *cells: str) -> None:
        """One cell a column."""
        for column, cell in zip(self.columns, cells, strict=True):
            column.append(cell)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table | Text]:
        for number, columns in enumerate(self._groups(options.max_width)):
            if number:
                yield line()
            table = Table(box=None, pad_edge=False)
            for i, column in enumerate(columns):
                table.add_column(line(column[0]), justify="right" if i else "left", no_wrap=True)
            for cells in list(zip(*columns, strict=True))[1:]:
                table.add_row(*map(line, cells))
            yield table

    def _groups(self, width: int) -> list[list[list[str]]]:
        """The columns, as many beside each other as the width has room for."""
        names, *rest = self.columns
        groups: list[list[list[str]]] = []
        room = 0
        for column in rest:
            cells = max(map(len, column)) + GAP
            if not groups or cells > room:
                groups.append([names])
                room = width - max(map(len, names))
            groups[-1].append(column)
            room -= cells
        return groups or [[names]]
