"""Splits of a manifest by group: all clips of one speaker, or of one value of any column, stay
together, since a model that has met a speaker in training scores him better than a stranger.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omni_msa.errors import ConfigError, ManifestError
from omni_msa.files.atomic import replacing
from omni_msa.files.manifest import FILE_COLUMNS, read_manifest, read_rows

PARTS = ("train", "valid", "test")
SHARES = (0.7, 0.1, 0.2)
FEWEST_FOLDS = 3  # one to test, one to validate, one or more to train

Row = dict[str, Any]


@dataclass(frozen=True)
class SplitFile:
    """A manifest that was written: the number of its rows and of its groups in each part."""

    path: Path
    rows: dict[str, int]
    groups: dict[str, int]


@dataclass(frozen=True)
class SplitOptions:
    """How a manifest is split.

    Raises:
        ConfigError: shares that are no three positive numbers, or too few folds.
    """

    by: str = "speaker"  # the column whose values are kept together
    shares: tuple[float, ...] = SHARES  # of train, valid and test, of their sum
    folds: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.shares) != len(PARTS) or not all(0 < s < float("inf") for s in self.shares):
            raise ConfigError(
                "--parts takes three positive numbers, the shares of train, valid and test, such "
                f"as 0.7,0.1,0.2; got {','.join(f'{s:g}' for s in self.shares)}"
            )
        if self.folds is not None and self.folds < FEWEST_FOLDS:
            raise ConfigError(f"--folds must be {FEWEST_FOLDS} or more, got {self.folds}")


def split_manifest(
    path: Path, output: Path, options: SplitOptions, columns: Mapping[str, str] | None = None
) -> list[SplitFile]:
    """Writes the manifest again with a new column `split`; with folds, one file each. Of a results
    file, the manifest that it came from.

    Fold k is the test part of `OUTPUT-k`, the fold after it its validation part.

    Args:
        path: the manifest; what columns it has besides ours is copied.
        output: a .jsonl file.
        columns: our columns by the names that the manifest has for them.

    Raises:
        ManifestError: bad rows, no such column, or fewer groups than parts.
        ConfigError: the output is no .jsonl file, or is the manifest.
    """
    outputs = _outputs(output, options.folds)
    if output.suffix.lower() != ".jsonl" or path.resolve() in [o.resolve() for o in outputs]:
        more = f" (it writes {outputs[0].name} to {outputs[-1].name})" if options.folds else ""
        raise ConfigError(f"-o {output}: name another .jsonl file than the manifest{more}")
    read_manifest(path, columns=columns)  # checked
    rows = read_rows(path, columns)
    ours = {theirs.strip().lower(): name for name, theirs in (columns or {}).items()}
    by = options.by.strip().lower()
    groups = _groups(path, rows, ours.get(by, by))
    sizes = Counter(groups)
    if options.folds is None:
        parts = _assign(path, sizes, options.shares, options.seed)
        return [_write(output, rows, groups, [PARTS[parts[g]] for g in groups])]
    folds = _assign(path, sizes, (1.0,) * options.folds, options.seed)
    files = []
    for k, fold in enumerate(outputs):
        names = {k: "test", (k + 1) % options.folds: "valid"}
        splits = [names.get(folds[group], "train") for group in groups]
        files.append(_write(fold, rows, groups, splits))
    return files


def _outputs(output: Path, folds: int | None) -> list[Path]:
    """The files that are written."""
    if folds is None:
        return [output]
    return [output.with_name(f"{output.stem}-{k + 1}{output.suffix}") for k in range(folds)]


def _groups(path: Path, rows: Sequence[Row], column: str) -> list[str]:
    """What each row is kept together with; a row without a value is a group of its own."""
    if not any(column in row for row in rows):
        names = ", ".join(dict.fromkeys(name for row in rows for name in row))
        raise ManifestError(f"{path}: has no column {column!r} to split by; it has: {names}")
    values = [row.get(column) for row in rows]
    return [
        f"row {number}" if value is None or not str(value).strip() else f"= {str(value).strip()}"
        for number, value in enumerate(values)
    ]


def _assign(
    path: Path, sizes: Mapping[str, int], shares: Sequence[float], seed: int
) -> dict[str, int]:
    """The part of each group: in random order, each goes where most rows are missing; no part
    stays empty."""
    if len(sizes) < len(shares):
        raise ManifestError(f"{path}: {len(sizes)} groups cannot fill {len(shares)} parts")
    total = sum(sizes.values())
    missing = [total * share / sum(shares) for share in shares]
    order = sorted(sizes)
    random.Random(seed).shuffle(order)
    parts: dict[str, int] = {}
    for number, group in enumerate(order):
        empty = [part for part in range(len(shares)) if part not in parts.values()]
        choices = empty if len(order) - number <= len(empty) else range(len(shares))
        part = max(choices, key=missing.__getitem__)
        parts[group] = part
        missing[part] -= sizes[group]
    return parts


def _seen_from(folder: str, path: Any) -> Any:
    """A path of a row, relative to a folder; links to folders are followed, since `..` does not
    lead back over one."""
    if not isinstance(path, str) or not path.strip():
        return path
    parent, name = os.path.split(path)
    return os.path.relpath(os.path.join(os.path.realpath(parent), name), folder)


def _write(
    output: Path, rows: Sequence[Row], groups: Sequence[str], splits: Sequence[str]
) -> SplitFile:
    folder, lines = os.path.realpath(output.parent), []
    for row, split in zip(rows, splits, strict=True):
        paths = {name: _seen_from(folder, row[name]) for name in FILE_COLUMNS if row.get(name)}
        lines.append(json.dumps(row | paths | {"split": split}, ensure_ascii=False) + "\n")
    try:
        with replacing(output) as temporary:
            temporary.write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"-o {output}: cannot be written ({error.strerror})") from error
    counts = Counter(splits)
    members = Counter(split for _, split in set(zip(groups, splits, strict=True)))
    return SplitFile(output, *({part: n[part] for part in PARTS} for n in (counts, members)))
