"""What the commands that take labelled clips share: their arguments, their feed, their splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omni_msa.commands.flags import (
    MODALITY_NAMES,
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
    from omni_msa.media.feed import FileFeed
    from omni_msa.values import Clip


Manifest = Annotated[
    Path, typer.Argument(metavar="DATA", help="A manifest (.jsonl, .csv) with labels and splits.")
]


Out = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="The checkpoint's folder.")
]


Fresh = Annotated[bool, typer.Option("--fresh", help="Start anew, whatever the folder holds.")]


_READ = "Reading many clips"


@dataclass(frozen=True)
class ReadFlags:
    """How labelled clips are read, again and again."""

    task: Annotated[
        str,
        option(
            "--task",
            metavar="|".join(TASKS),
            panel=_READ,
            help="Labels are numbers, or the classes of the column emotion.",
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
        int, option("--workers", metavar="N", panel=_READ, help="Processes that read clips.")
    ] = BatchOptions.workers
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
    from omni_msa.media.cache import ContentCache
    from omni_msa.media.feed import FileFeed

    BatchOptions(workers=read.workers)  # checked there
    if not 0 < read.cache_gb < inf:
        raise ConfigError(f"--cache-gb must be positive and finite, got {read.cache_gb}")
    size = int(read.cache_gb * 1e9)
    cache = ContentCache(read.cache, size) if read.cache is not None else None
    return FileFeed(clips, media, read.workers, cache, read.hide | unused)


def note_splits(clips: Sequence[Clip], used: dict[str | None, str], show: ShowFlags) -> None:
    """How many clips each split has, and which ones this command leaves alone."""
    counts = Counter(clip.split for clip in clips)
    phrases = [f"{counts[name]} clips {purpose}" for name, purpose in used.items() if counts[name]]
    rest = {name: count for name, count in counts.items() if name not in used}
    if rest:
        unused = (f"{n} of {f'split {s!r}' if s else 'no split'}" for s, n in rest.items())
        phrases.append(f"not used: {', '.join(unused)}")
    show.note("; ".join(phrases))
