"""From what the user typed to clips: files, folders, globs and manifests, each file once.

Nothing is opened here except manifests: a named file that is missing or damaged becomes a failed
row when it is read, so that one bad clip never stops a batch.
"""

from __future__ import annotations

import os  # os.path, unlike Path, answers False for what may not be looked at
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from omni_msa.errors import ConfigError, MediaError
from omni_msa.files.manifest import SUFFIXES as MANIFEST_SUFFIXES
from omni_msa.files.manifest import distinct_names, read_manifest
from omni_msa.media.transcripts import SUFFIXES as TRANSCRIPT_SUFFIXES
from omni_msa.values import Clip

_VIDEO = """
    3g2 3gp 3gpp amv asf av1 avi divx dv f4v flv gif h264 h265 264 265 hevc ivf m1v m2t m2ts m2v m4v
    mjpeg mjpg mkv mod mov mp4 mpe mpeg mpg mpv mts mxf nut obu ogm ogv qt rm rmvb tod ts vob webm
    wmv wtv y4m
"""
_AUDIO = """
    aac ac3 adts aif aifc aiff alac amr ape au awb caf dts ec3 eac3 f4a flac gsm m4a m4b mka mp2 mp3
    mpga oga ogg ogx oma opus ra rf64 snd spx tak tta voc w64 wav wave weba wma wv
"""
MEDIA_SUFFIXES = frozenset("." + name for name in (_VIDEO + _AUDIO).split())
_WILDCARDS = frozenset("*?[")
_MAX_SUFFIXES_NAMED = 5


def expand_inputs(arguments: Sequence[str], id_column: str = "id") -> tuple[list[Clip], list[str]]:
    """The clips that the arguments name, in order, and notices about what was left out.

    An argument is a file (taken whatever its extension), a folder (searched for media, hidden ones
    skipped), a quoted glob (`**` allowed), or a manifest (.jsonl, .ndjson, .csv, .tsv).

    Raises:
        ConfigError: An argument is empty or a URL, or a folder or glob gives no clip.
        ManifestError: A manifest cannot be used.
        MediaError: A named folder cannot be listed.
    """
    if not arguments:
        raise ConfigError("nothing to score; give clips, folders, quoted globs or a manifest")
    found = _Found(id_column=id_column)
    for argument in arguments:
        _expand(argument, found)
    return distinct_names(_once(found)), found.notices


@dataclass
class _Found:
    """What has been found so far."""

    clips: list[Clip] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    id_column: str = "id"  # of manifests


def _expand(argument: str, found: _Found) -> None:
    path = Path(argument)
    if not argument.strip():
        raise ConfigError("an input is empty; give a clip, a folder, a glob or a manifest")
    if os.path.isdir(path):
        _expand_folder(path, found)
    elif "://" in argument:
        raise ConfigError(f"{argument} is a URL; download it and give the file")
    elif _WILDCARDS & set(argument) and not os.path.lexists(path):
        _expand_glob(argument, found)
    else:
        _take_named(path, found)


def _take_named(path: Path, found: _Found) -> None:
    """A file that the user named: a manifest is opened, anything else is a clip."""
    if path.suffix.lower() in MANIFEST_SUFFIXES:
        found.clips += read_manifest(path, found.id_column)
    else:
        found.clips.append(Clip(path=path))


def _once(found: _Found) -> list[Clip]:
    """Each whole file once; a manifest's row is preferred, since it may hold words and a label."""
    described = {_identity(c) for c in found.clips if c.transcript_source == "manifest"}
    seen: set[str | None] = set()
    kept, repeated = [], []
    for clip in found.clips:
        from_manifest = clip.transcript_source == "manifest"
        key = repr(clip) if from_manifest else _identity(clip)
        if key in seen or (not from_manifest and key in described):
            repeated.append(clip.name)
        else:
            seen.add(key)
            kept.append(clip)
    if repeated:
        found.notices.append(
            f"{_count(len(repeated), 'clip')} given more than once: taken once ({repeated[0]}"
            f"{', ...' if len(repeated) > 1 else ''})"
        )
    return kept


def _identity(clip: Clip) -> str | None:
    """The file behind a clip that is a whole file; None for windows and words alone."""
    windowed = clip.start_seconds is not None or clip.end_seconds is not None
    return None if clip.path is None or windowed else os.path.realpath(clip.path)


# --- folders ---------------------------------------------------------------------------------


def _expand_folder(folder: Path, found: _Found) -> None:
    try:
        os.scandir(folder).close()
    except OSError as error:
        raise MediaError(
            f"{folder}: cannot be listed ({error.strerror}); check its rights"
        ) from error
    if not _take_media(_files_below(folder, found), str(folder), found):
        raise ConfigError(
            f"{folder}: no media files in this folder; name the files themselves if their "
            "extensions are unusual"
        )


def _files_below(folder: Path, found: _Found) -> Iterator[Path]:
    return (path for path in _walk(folder, found) if not os.path.isdir(path))


def _walk(top: Path, found: _Found) -> Iterator[Path]:
    """Everything that is not hidden in and below a folder, the folder included, sorted by name.

    Links to folders are followed; a folder is entered once, so that loops of links end.
    """
    entered: set[tuple[int, int]] = set()
    waiting = [top]
    while waiting:
        path = waiting.pop()
        if not os.path.isdir(path):
            yield path
            continue
        status = path.stat()
        if (status.st_dev, status.st_ino) in entered:
            continue
        entered.add((status.st_dev, status.st_ino))
        yield path
        waiting += reversed(_children(path, found))


def _children(folder: Path, found: _Found) -> list[Path]:
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        notice = f"{folder}: cannot be listed ({error.strerror}), its clips are left out"
        if notice not in found.notices:
            found.notices.append(notice)
        return []
    return [folder / name for name in names]


def _take_media(paths: Iterable[Path], where: str, found: _Found) -> int:
    """Take what looks like media and say what was skipped; returns how many were taken."""
    taken = 0
    skipped: Counter[str] = Counter()
    for path in paths:
        suffix = path.suffix.lower()
        if suffix in MEDIA_SUFFIXES and _is_file_or_broken_link(path):
            found.clips.append(Clip(path=path))
            taken += 1
        elif suffix not in TRANSCRIPT_SUFFIXES:
            skipped[suffix or "no extension"] += 1
    if skipped:
        names = [name for name, _ in skipped.most_common(_MAX_SUFFIXES_NAMED)]
        names += ["..."] if len(skipped) > len(names) else []
        total = _count(skipped.total(), "other file")
        found.notices.append(f"{total} in {where} skipped ({', '.join(names)})")
    return taken


def _is_file_or_broken_link(path: Path) -> bool:
    # A broken link was meant as a clip, so it becomes a failed row; a pipe or socket was not.
    return os.path.isfile(path) or not os.path.exists(path)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


# --- globs -----------------------------------------------------------------------------------


def _expand_glob(pattern: str, found: _Found) -> None:
    """A pattern that ends in an extension names its files; any other is searched for media."""
    matches = _matches(Path(pattern), found)
    suffix = Path(pattern).suffix
    if suffix and not _WILDCARDS & set(suffix):
        files = [path for path in matches if not os.path.isdir(path)]
        for path in files:
            _take_named(path, found)
        taken = len(files)
    else:
        folders = () if "**" in Path(pattern).parts else (p for p in matches if os.path.isdir(p))
        inside = [path for folder in folders for path in _files_below(folder, found)]
        files = [path for path in matches if not os.path.isdir(path)]
        taken = _take_media(files + inside, pattern, found)
    if not taken:
        raise ConfigError(
            f"{pattern}: no media file matches; check the pattern, and quote it so that the shell "
            "leaves it alone"
        )


def _matches(pattern: Path, found: _Found) -> list[Path]:
    """What matches, sorted; unlike the standard library's, `**` survives loops of links."""
    parts = pattern.parts + (("*",) if pattern.name == "**" else ())
    paths = [Path(".")]
    for part in parts:
        if part == "**":
            below = (path for base in paths for path in _walk(base, found))
            paths = [path for path in below if os.path.isdir(path)]
        elif _WILDCARDS & set(part):
            paths = [child for base in paths for child in _named_like(base, part, found)]
        else:
            paths = [base / part for base in paths if os.path.lexists(base / part)]
    return sorted(dict.fromkeys(paths))


def _named_like(folder: Path, pattern: str, found: _Found) -> list[Path]:
    if not os.path.isdir(folder):
        return []
    return [path for path in _children(folder, found) if fnmatch(path.name, pattern)]
