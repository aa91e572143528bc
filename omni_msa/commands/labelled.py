"""What the commands that take labelled clips share: their arguments, their feed, their splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omni_msa.commands.flags import (
    MODALITY_NAMES,
    BatchFlags,
    ShowFlags,
    option,
    parse_modalities,
)
from omni_msa.errors import ConfigError
from omni_msa.modalities import Subset
from omni_msa.options import (
    TASKS,
    BatchOptions,
    MediaOptions,
)

if TYPE_CHECKING:
    from omni_msa.files.labels import LabelSpace
    from omni_msa.media.cache import ContentCache
    from omni_msa.media.feed import FileFeed
    from omni_msa.values import Clip

# Of a manifest: those that a user's file may call otherwise.
COLUMNS = (
    "clip", "text", "start_seconds", "end_seconds", "label", "split", "speaker", "emotion",
    "emotions", "dataset", "video",
)  # fmt: skip

Manifest = Annotated[
    Path, typer.Argument(metavar="DATA", help="A manifest (.jsonl, .csv) with labels and splits.")
]


Out = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="The checkpoint's folder.")
]


Fresh = Annotated[bool, typer.Option("--fresh", help="Start anew, whatever the folder holds.")]


_READ = "Reading many clips"
_COLUMNS = "Columns of the manifest"


@dataclass(frozen=True)
class ColumnFlags:
    """What the manifest calls its columns."""

    label_column: Annotated[
        str | None,
        option(
            "--label-column",
            metavar="NAME",
            panel=_COLUMNS,
            help="Holds the labels. Default: label.",
        ),
    ] = None
    column: Annotated[
        list[str] | None,
        option(
            "--column",
            metavar="OURS=NAME",
            panel=_COLUMNS,
            help=f"What it calls any column of ours: {', '.join(COLUMNS)}.",
        ),
    ] = None

    def names(self) -> dict[str, str]:
        """The manifest's names of our columns, where they differ."""
        names = {} if self.label_column is None else {"label": self.label_column}
        for value in self.column or []:
            ours, equals, name = value.partition("=")
            ours = ours.strip().lower()
            if not equals or not name.strip() or ours not in COLUMNS or ours in names:
                raise ConfigError(
                    f"--column {value}: give each once as OURS=NAME, such as clip=file; ours are "
                    f"{', '.join(COLUMNS)}"
                )
            names[ours] = name
        if len({name.strip().lower() for name in names.values()}) < len(names):
            raise ConfigError("--column: one column of the manifest cannot be two of ours")
        return names


@dataclass(frozen=True)
class CacheFlags:
    """Where clips are kept that were read."""

    cache: Annotated[
        Path | None,
        option(
            "--cache",
            metavar="DIR",
            panel=_READ,
            help="Keep what was read: later epochs and runs do not decode again.",
        ),
    ] = None
    cache_gb: Annotated[
        float, option("--cache-gb", metavar="GB", panel=_READ, help="Size of the cache at most.")
    ] = 20.0

    def open(self) -> ContentCache | None:
        """The cache, if one was named."""
        from omni_msa.media.cache import ContentCache

        return ContentCache(self.cache, self.size()) if self.cache else None

    def size(self) -> int:
        """Bytes that it may have at most."""
        if not 0 < self.cache_gb < inf:
            raise ConfigError(f"--cache-gb must be positive and finite, got {self.cache_gb}")
        return int(self.cache_gb * 1e9)


@dataclass(frozen=True)
class CachedBatchFlags(CacheFlags, BatchFlags):
    """A batch whose clips may be read from a cache."""

    def options(self) -> BatchOptions:
        """The checked options that the library takes; the cache's folder can be written."""
        self.open()
        options = BatchFlags.options(self)
        return replace(options, cache=self.cache, cache_bytes=self.size())


@dataclass(frozen=True)
class ReadFlags(CacheFlags, ColumnFlags):
    """How labelled clips are read, again and again."""

    task: Annotated[
        str,
        option(
            "--task",
            metavar="|".join(TASKS),
            panel=_READ,
            help="Labels are numbers, the classes of the column emotion, numbers and which of the "
            "column emotions are present, or the findings of heart records.",
        ),
    ] = TASKS[0]
    drop: Annotated[
        list[str] | None,
        option(
            "--drop",
            metavar="MODALITY",
            panel=_READ,
            help=f"Never show {MODALITY_NAMES}; none: show all, whatever --start was shown.",
        ),
    ] = None
    workers: Annotated[
        int | None,
        option(
            "--workers",
            metavar="N",
            panel=_READ,
            help="Processes that read clips. Default: one a core.",
        ),
    ] = BatchOptions.workers
    label_range: Annotated[
        tuple[float, float] | None,
        option(
            "--label-range",
            metavar="LOW HIGH",
            panel=_READ,
            help="Of the labels. Default: the data set's, else -3 3.",
        ),
    ] = None

    @property
    def hide(self) -> Subset:
        """The modalities that are dropped."""
        return parse_modalities([name for name in self.drop or [] if name != "none"])


def file_feed(
    clips: Sequence[Clip], media: MediaOptions, read: ReadFlags, unused: Subset = frozenset()
) -> FileFeed:
    """The clips, read ahead by other processes and kept in the cache that was named.

    Args:
        unused: modalities that the method cannot use, beside those that are dropped.
    """
    from omni_msa.media.feed import FileFeed

    BatchOptions(workers=read.workers)  # checked there
    return FileFeed(clips, media, read.workers, read.open(), read.hide | unused)


def note_splits(clips: Sequence[Clip], used: dict[str | None, str], show: ShowFlags) -> list[str]:
    """How many clips each split has, and which ones this command leaves alone; and what is in
    several splits and should not be, which is returned too.

    Args:
        used: what each split is for; clips without a split (None) that are used are trained on.
    """
    from omni_msa.files.leaks import leaks

    counts = Counter(clip.split for clip in clips)
    phrases = [f"{counts[name]} clips {purpose}" for name, purpose in used.items() if counts[name]]
    rest = {name: count for name, count in counts.items() if name not in used}
    if rest:
        unused = (f"{n} of {f'split {s!r}' if s else 'no split'}" for s, n in rest.items())
        phrases.append(f"not used: {', '.join(unused)}")
    show.note("; ".join(phrases))
    if len(counts) > 1 and None in used:
        clips = [clip if clip.split else replace(clip, split="train") for clip in clips]
    lines = leaks(clips)
    for leak in lines:
        show.note(leak)
    return lines


def note_left_out(clips: Sequence[Clip], space: LabelSpace, show: ShowFlags) -> None:
    """How many clips have no emotion or finding, where those are asked for."""
    noun = "findings" if space.findings else "emotion"
    number = sum(getattr(clip, noun) is None for clip in clips) if space.names else 0
    if number:
        show.note(f"{number} clips have no {noun}, and are left out")
