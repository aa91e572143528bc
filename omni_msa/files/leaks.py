"""What is in several splits of a manifest and should not be: speakers, files, the same clips."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from math import inf
from pathlib import Path

from omni_msa.media.identity import content_sha256, words_sha256
from omni_msa.values import Clip

MAX_NAMED = 3
BEGINNING_BYTES = 64 * 1024  # in which files of one size nearly always differ

Pair = tuple[Clip, Clip]  # the same clip, or overlapping windows of it, in two splits


def leaks(clips: Sequence[Clip]) -> list[str]:
    """A line each for speakers, for files and for clips that are in several splits."""
    with_split = [clip for clip in clips if clip.split]
    speakers: dict[str, set[str]] = defaultdict(set)
    for clip in with_split:
        if clip.speaker:
            speakers[clip.speaker].add(clip.split or "")
    pairs, files = _in_several_splits(with_split)
    lines = [_line("speakers", speakers), _line("files", files)]
    warnings = [line for line in lines if line]
    return [*warnings, shared_clips_line(pairs)] if pairs else warnings


def shared_clips(clips: Sequence[Clip]) -> list[Pair]:
    """Clips that are in several splits, whatever their files are called: the same bytes, in windows
    that overlap, or the same words alone. Each with the one that it repeats."""
    return _in_several_splits([clip for clip in clips if clip.split])[0]


def shared_clips_line(pairs: Sequence[Pair]) -> str:
    """`2 clips are in more than one split: a.mp4 (train) = b.mp4 (test), ...`"""
    names = [f"{a.name} ({a.split}) = {b.name} ({b.split})" for a, b in pairs[:MAX_NAMED]]
    more = f" and {len(pairs) - MAX_NAMED} more" if len(pairs) > MAX_NAMED else ""
    count = f"{len(pairs)} clips are" if len(pairs) > 1 else "1 clip is"
    return (
        f"{count} in more than one split, in whole or in part: {', '.join(names)}{more}; leave "
        "them out of one, or figures flatter what was trained on them"
    )


def _line(what: str, splits: dict[str, set[str]]) -> str | None:
    shared = sorted(name for name, parts in splits.items() if len(parts) > 1)
    if not shared:
        return None
    return (
        f"{len(shared)} of {len(splits)} {what} are in more than one split, such as "
        f"{shared[0]} ({', '.join(sorted(splits[shared[0]]))}): figures of one split "
        "flatter what was learned from another; `omni-msa data split` keeps them apart"
    )


def _in_several_splits(clips: Sequence[Clip]) -> tuple[list[Pair], dict[str, set[str]]]:
    """Shared clips, a pair each; and the splits of every file, and its copies, that has none."""
    contents = _contents(clips)
    by_content: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        words = f"words {words_sha256(clip.transcript or '')}"
        by_content[contents[clip.path] if clip.path else words].append(clip)
    pairs: list[Pair] = []
    splits: dict[str, set[str]] = defaultdict(set)
    for group in by_content.values():
        overlaps = _overlaps(group)
        pairs += overlaps
        parts = set() if overlaps else {clip.split or "" for clip in group}
        for clip in group:
            if clip.path is not None:
                splits[str(clip.path)] |= parts
    return pairs, splits


def _overlaps(clips: Sequence[Clip]) -> list[Pair]:
    """Of one file, each clip with one of another split that begins no later and that it overlaps.

    So a whole file in one split and its ten windows in another are ten pairs.
    """
    pairs: list[Pair] = []
    last: dict[str, Clip] = {}  # of each split, the clip that ends last
    for clip in sorted(clips, key=lambda clip: (_start(clip), clip.split != "train")):
        others = [c for s, c in last.items() if s != clip.split and _end(c) > _start(clip)]
        if others:
            pairs.append((others[0], clip))
        split = clip.split or ""
        if split not in last or _end(clip) > _end(last[split]):
            last[split] = clip
    return pairs


def _start(clip: Clip) -> float:
    return clip.start_seconds or 0.0


def _end(clip: Clip) -> float:
    return inf if clip.end_seconds is None else clip.end_seconds


def _contents(clips: Sequence[Clip]) -> dict[Path, str]:
    """A name for the content of each file. Files of one split may share it though they differ.

    A file is read only if one of another split has its size, and as a whole only if the two begin
    alike.
    """
    splits: dict[Path, set[str]] = defaultdict(set)
    for clip in clips:
        if clip.path is not None:
            splits[clip.path].add(clip.split or "")
    names = {path: "" for path in splits}
    undecided = list(splits)
    for describe in (_size, _beginning, content_sha256):
        alike: dict[str, list[Path]] = defaultdict(list)
        for path in undecided:
            description = describe(path)
            names[path] += f" {path if description is None else description}"
            alike[names[path]].append(path)
        groups = [paths for paths in alike.values() if len(paths) > 1]
        groups = [paths for paths in groups if len({s for p in paths for s in splits[p]}) > 1]
        undecided = [path for paths in groups for path in paths]
    return names


def _size(path: Path) -> str | None:
    try:
        return str(path.stat().st_size)
    except (OSError, ValueError):
        return None


def _beginning(path: Path) -> str | None:
    try:
        # opening a pipe would wait for ever
        if not os.path.isfile(path):
            return None
        with open(path, "rb") as file:
            return hashlib.sha256(file.read(BEGINNING_BYTES)).hexdigest()
    except OSError:
        return None
