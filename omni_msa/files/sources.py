"""Input arguments to clips: files, folders, globs and manifests, each file once.

Nothing is opened here except manifests: a named file that is missing or damaged becomes a failed
row when it is read, so that one bad clip never stops a batch.
"""

from __future__ import annotations

import os  # os.path, unlike Path, returns False for files without permission
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from omni_msa.errors import ConfigError, MediaError
from omni_msa.files.manifest import distinct_names, read_manifest
from omni_msa.files.manifest_rows import SUFFIXES as MANIFEST_SUFFIXES
from omni_msa.files.result_formats import check_is_no_input
from omni_msa.media.record_files import is_record
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
RECORD_SUFFIXES = frozenset({".edf", ".hea"})  # of hearts
MEDIA_SUFFIXES = frozenset("." + name for name in (_VIDEO + _AUDIO).split()) | RECORD_SUFFIXES
BESIDE_SUFFIXES = (*TRANSCRIPT_SUFFIXES, ".dat")  # of files that belong to a clip
LIKE_OURS = {  # names that others give to columns of ours
    **dict.fromkeys(("start", "begin", "from", "onset", "start_time"), "start_seconds"),
    **dict.fromkeys(("end", "stop", "to", "offset", "end_time"), "end_seconds"),
    **dict.fromkeys(("words", "transcript", "sentence", "utterance"), "text"),
    **dict.fromkeys(("file", "path", "video_path", "filename"), "clip"),
}
_WILDCARDS = frozenset("*?[")
_MAX_SUFFIXES_NAMED = 5


def expand_inputs(
    arguments: Sequence[str],
    id_column: str | None = None,
    output: Path | None = None,
    fresh: bool = False,
) -> tuple[list[Clip], list[str]]:
    """The clips that the arguments name, in order, and notices about what was left out.

    An argument is a file (taken whatever its extension), a folder (searched for media, hidden ones
    skipped), a quoted glob (`**` allowed), or a manifest (.jsonl, .ndjson, .csv, .tsv).

    Args:
        arguments: As the user gives them.
        id_column: The column with the user's own names of rows, where it is not `id`.
        output: Where rows will be written; it must be none of the files that are named, unless
            it is a results file that is gone on from.
        fresh: Whether the output is started anew.

    Raises:
        ConfigError: An argument is empty, a URL or the output, a folder or glob gives no clip, or
            there is no manifest with an `id_column`.
        ManifestError: A manifest cannot be used.
        MediaError: A named folder cannot be listed.
    """
    if not arguments:
        raise ConfigError("nothing to score; give clips, folders, quoted globs or a manifest")
    inputs = _Inputs(id_column=id_column, output=output, fresh=fresh)
    for argument in arguments:
        _expand(argument, inputs)
    if id_column is not None and not any(c.transcript_source == "manifest" for c in inputs.clips):
        raise ConfigError(f"--id {id_column}: is a column of a manifest, and none is given")
    return distinct_names(_without_duplicates(inputs)), inputs.notices


@dataclass
class _Inputs:
    """The clips of the arguments so far, and notices for the user."""

    clips: list[Clip] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    id_column: str | None = None  # of manifests
    output: Path | None = None
    fresh: bool = False


def _expand(argument: str, inputs: _Inputs) -> None:
    path = Path(argument)
    if not argument.strip():
        raise ConfigError("an input is empty; give a clip, a folder, a glob or a manifest")
    if os.path.isdir(path):
        _expand_folder(path, inputs)
    elif "://" in argument:
        raise ConfigError(f"{argument} is a URL; download it and give the file")
    elif _WILDCARDS & set(argument) and not os.path.lexists(path):
        _expand_glob(argument, inputs)
    else:
        _add_file(path, inputs)


def _add_file(path: Path, inputs: _Inputs) -> None:
    """A file that the user named: a manifest is opened, anything else is a clip."""
    if inputs.output is not None:
        check_is_no_input(inputs.output, path, inputs.fresh)
    if path.suffix.lower() in MANIFEST_SUFFIXES and not is_record(path):
        clips = read_manifest(path, inputs.id_column)
        inputs.clips += clips
        inputs.notices += _mistaken_columns(path, clips)
    else:
        inputs.clips.append(Clip(path=path))


def _mistaken_columns(path: Path, clips: Sequence[Clip]) -> list[str]:
    """A notice of columns that are only copied, and were probably meant to be read."""
    names = dict.fromkeys(name for clip in clips for name in clip.extra)
    meant = {name: LIKE_OURS[name] for name in names if name in LIKE_OURS}
    if not meant:
        return []
    columns = ", ".join(f"{name} (did you mean {ours}?)" for name, ours in meant.items())
    return [f"{path}: copied into the rows, and not read: {columns}"]


def _without_duplicates(inputs: _Inputs) -> list[Clip]:
    """Each whole file once; a manifest's row is preferred, since it may hold words and a label."""
    manifest_files = {_identity(c) for c in inputs.clips if c.transcript_source == "manifest"}
    keys: set[str | None] = set()
    unique_clips, duplicates = [], []
    for clip in inputs.clips:
        from_manifest = clip.transcript_source == "manifest"
        key = repr(clip) if from_manifest else _identity(clip)
        if key in keys or (not from_manifest and key in manifest_files):
            duplicates.append(clip.name)
        else:
            keys.add(key)
            unique_clips.append(clip)
    if duplicates:
        inputs.notices.append(
            f"{_count(len(duplicates), 'clip')} given more than once: taken once ({duplicates[0]}"
            f"{', ...' if len(duplicates) > 1 else ''})"
        )
    return unique_clips


def _identity(clip: Clip) -> str | None:
    """The path of a clip that is a whole file; None for windows and words alone.

    Links to folders are followed, so that a folder is searched once; a link to a file is a clip of
    its own name.
    """
    if clip.path is None or clip.is_window:
        return None
    return os.path.join(os.path.realpath(clip.path.parent), clip.path.name)


# --- folders ---------------------------------------------------------------------------------


def _expand_folder(folder: Path, inputs: _Inputs) -> None:
    try:
        os.scandir(folder).close()
    except OSError as error:
        raise MediaError(
            f"{folder}: cannot be listed ({error.strerror}); check its rights"
        ) from error
    if not _add_media(_files_below(folder, inputs), str(folder), inputs):
        raise ConfigError(
            f"{folder}: no media files in this folder; name the files themselves if their "
            "extensions are unusual"
        )


def _files_below(folder: Path, inputs: _Inputs) -> Iterator[Path]:
    return (path for path in _walk(folder, inputs) if not os.path.isdir(path))


def _walk(top: Path, inputs: _Inputs) -> Iterator[Path]:
    """Everything that is not hidden in and below a folder, the folder included, sorted by name.

    Links to folders are followed; a folder is entered once, so that loops of links end.
    """
    folder_ids: set[tuple[int, int]] = set()
    stack = [top]
    while stack:
        path = stack.pop()
        if not os.path.isdir(path):
            yield path
            continue
        status = path.stat()
        if (status.st_dev, status.st_ino) in folder_ids:
            continue
        folder_ids.add((status.st_dev, status.st_ino))
        yield path
        stack += reversed(_children(path, inputs))


def _children(folder: Path, inputs: _Inputs) -> list[Path]:
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        notice = f"{folder}: cannot be listed ({error.strerror}), its clips are left out"
        if notice not in inputs.notices:
            inputs.notices.append(notice)
        return []
    return [folder / name for name in names]


def _add_media(paths: Iterable[Path], where: str, inputs: _Inputs) -> int:
    """Add files with a media suffix and a notice of those skipped; returns how many were added."""
    media: list[Path] = []
    num_by_suffix: Counter[str] = Counter()
    for path in paths:
        suffix, is_sidecar = path.suffix.lower(), path.stem.lower().endswith(".ecg")
        if suffix in MEDIA_SUFFIXES and not is_sidecar and _is_file_or_broken_link(path):
            media.append(path)
        elif suffix not in BESIDE_SUFFIXES and not is_sidecar:
            num_by_suffix[suffix or "no extension"] += 1
    clips = [path for path in media if path.suffix.lower() not in RECORD_SUFFIXES] or media
    inputs.clips += [Clip(path=path) for path in clips]
    if num_records := len(media) - len(clips):
        total = _count(num_records, "heart record")
        inputs.notices.append(f"{total} in {where} skipped: score them without clips beside them")
    if num_by_suffix:
        names = [name for name, _ in num_by_suffix.most_common(_MAX_SUFFIXES_NAMED)]
        names += ["..."] if len(num_by_suffix) > len(names) else []
        total = _count(num_by_suffix.total(), "other file")
        inputs.notices.append(f"{total} in {where} skipped ({', '.join(names)})")
    return len(clips)


def _is_file_or_broken_link(path: Path) -> bool:
    # A broken link becomes a failed row, so that the user sees it; pipes and sockets are skipped.
    return os.path.isfile(path) or not os.path.exists(path)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


# --- globs -----------------------------------------------------------------------------------


def _expand_glob(pattern: str, inputs: _Inputs) -> None:
    """A pattern that ends in an extension names its files; any other is searched for media."""
    matches = _matches(Path(pattern), inputs)
    suffix = Path(pattern).suffix
    if suffix and not _WILDCARDS & set(suffix):
        files = [path for path in matches if not os.path.isdir(path)]
        for path in files:
            _add_file(path, inputs)
        num_clips = len(files)
    else:
        folders = () if "**" in Path(pattern).parts else (p for p in matches if os.path.isdir(p))
        nested_files = [path for folder in folders for path in _files_below(folder, inputs)]
        files = [path for path in matches if not os.path.isdir(path)]
        num_clips = _add_media(files + nested_files, pattern, inputs)
    if not num_clips:
        raise ConfigError(
            f"{pattern}: no media file matches; check the pattern, and quote it so that the shell "
            "leaves it alone"
        )


def _matches(pattern: Path, inputs: _Inputs) -> list[Path]:
    """What matches, sorted; unlike in the standard library, `**` ends in loops of links."""
    parts = pattern.parts + (("*",) if pattern.name == "**" else ())
    paths = [Path(".")]
    for part in parts:
        if part == "**":
            below = (path for base in paths for path in _walk(base, inputs))
            paths = [path for path in below if os.path.isdir(path)]
        elif _WILDCARDS & set(part):
            paths = [child for base in paths for child in _matching_children(base, part, inputs)]
        else:
            paths = [base / part for base in paths if os.path.lexists(base / part)]
    return sorted(dict.fromkeys(paths))


def _matching_children(folder: Path, pattern: str, inputs: _Inputs) -> list[Path]:
    if not os.path.isdir(folder):
        return []
    return [path for path in _children(folder, inputs) if fnmatch(path.name, pattern)]
