"""Which formats results have, whether a file may be written, and the records that it holds."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from omni_msa.errors import ConfigError, ResultsError
from omni_msa.files.columns import Row, last_of_each, unflatten
from omni_msa.files.record import Record
from omni_msa.files.result_lines import line_format, read_lines
from omni_msa.files.result_parquet import read_parquet, write_parquet
from omni_msa.files.result_xlsx import read_xlsx, require_openpyxl, write_xlsx


class TableFormat(NamedTuple):
    """How a file that cannot grow by lines is read and written at once."""

    read: Callable[[Path], list[Row]]
    write: Callable[[Path, list[Row]], None]


TABLES = {
    ".parquet": TableFormat(read_parquet, write_parquet),
    ".xlsx": TableFormat(read_xlsx, write_xlsx),
}
SUFFIXES = (".jsonl", ".csv", *TABLES)


def check_suffix(path: Path) -> None:
    """The name of a results file says its format.

    Raises:
        ResultsError: it is none of them.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ResultsError(f"{path}: results end in one of {', '.join(SUFFIXES)}")


def check_output(path: Path) -> None:
    """Whether an output file could be opened, as far as its name says.

    Raises:
        ResultsError: it is of no known format, is a folder, or more than its folder is missing.
        ConfigError: its format needs a library that is not installed.
    """
    check_suffix(path)
    if path.suffix.lower() == ".xlsx":
        require_openpyxl(path)
    if path.is_dir():
        raise ResultsError(f"{path}: is a folder; name a file")
    folder = Path(os.path.realpath(path)).parent
    if not os.path.lexists(folder.parent):
        raise ResultsError(
            f"{path}: there is no folder {folder.parent}; correct -o, or make it first (one "
            "missing folder is made, not several)"
        )


def check_is_no_input(output: Path, file: Path, fresh: bool = False) -> None:
    """Whether results may go to this output beside a file that is read: only results go on in the
    file that they are read from.

    Raises:
        ConfigError: it would replace what is read.
    """
    if not (os.path.exists(output) and os.path.exists(file) and os.path.samefile(output, file)):
        return
    try:
        if not fresh and read_records(output):
            return
    except ResultsError:
        pass
    raise ConfigError(f"{output}: is an input, which would be replaced; name another file")


def read_records(path: Path) -> list[Record]:
    """The records of a results file of any format, one a clip, in the order of the file.

    JSONL holds whole records; the others give what their columns hold.

    Raises:
        ResultsError: The file is missing, unreadable or no results file.
    """
    check_suffix(path)
    suffix = path.suffix.lower()
    with explain_errors(path, "read"):
        if suffix in TABLES:
            return [unflatten(row) for row in last_of_each(TABLES[suffix].read(path))]
        lines = read_lines(path, line_format(path))
    if suffix == ".csv":
        return [unflatten(row) for row in last_of_each(lines.rows)]
    by_clip = {row["clip"]: text for row, text in zip(lines.rows, lines.texts, strict=True)}
    return [Record.from_json(json.loads(text)) for text in by_clip.values()]


def check_writable(path: Path) -> None:
    """Whether a file that exists may be written.

    Raises:
        ResultsError: it may not.
    """
    if path.exists() and not os.access(path, os.W_OK):
        raise ResultsError(f"{path}: may not be written; check its rights or choose another -o")


@contextmanager
def explain_errors(path: Path, verb: str = "written") -> Iterator[None]:
    """Turn an error of the file system into a ResultsError of one line."""
    try:
        yield
    except OSError as error:
        raise ResultsError(f"{path}: cannot be {verb} ({error.strerror or error})") from error
