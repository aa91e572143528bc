"""Clips that were read once, kept on disk: training reads every clip again in every epoch.

A file a clip, named by its content and by everything that changes what is read, so that nothing in
here ever grows stale. The folder stays below a size; what was not used for longest goes first.
Several processes may share it: a file appears whole or not at all.
"""

from __future__ import annotations

import json
import os
import tempfile
import tokenize
import zipfile
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from omni_msa.errors import ConfigError
from omni_msa.media.identity import clip_sha256, json_sha256
from omni_msa.media.reader import READERS
from omni_msa.media.transcripts import sidecar_paths
from omni_msa.modalities import Subset
from omni_msa.options import MediaOptions
from omni_msa.values import Clip, ClipContent, Part

FORMAT = 2
KEEP = 0.9  # of the size, once it was exceeded
LOOK = 0.02  # of the size, written since the folder was last looked at
# What NumPy raises on a file that was cut short or damaged, wherever the damage is.
DAMAGED = (
    OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, tokenize.TokenError
)  # fmt: skip


class ContentCache:
    """`get` gives what `put` was given, for the same clip under the same options.

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
        self._bytes = sum(size for _, size, _ in self._files())
        self._written = 0  # since it was looked at

    def key(self, clip: Clip, options: MediaOptions, hide: Subset = frozenset()) -> str | None:
        """The name of a clip's file; None when the clip cannot be read."""
        content = clip_sha256(clip)
        if content is None:
            return None
        parts = [
            FORMAT,
            content,
            clip.start_seconds,
            clip.end_seconds,
            clip.transcript,
            clip.transcript_source,
            _words_format(clip),
            options.to_json(),
            sorted(hide),
            version("av"),
        ]
        return json_sha256(parts)

    def has(self, key: str) -> bool:
        """Whether it is there at this moment."""
        return self._path(key).exists()

    def get(self, key: str, clip: Clip) -> ClipContent | None:
        """What was read of this clip, or None. A damaged file is removed."""
        path = self._path(key)
        try:
            with np.load(path, allow_pickle=False) as stored:
                content = _unpack(stored, clip)
            os.utime(path)
        except FileNotFoundError:
            return None
        except DAMAGED:
            with suppress(OSError):
                path.unlink()
            return None
        return content

    def put(self, key: str, content: ClipContent) -> None:
        """Keeps what was read; a full disk is no reason to stop."""
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
        self._bytes += size
        self._written += size
        # what others have written is only seen by looking
        if self._bytes > self.max_bytes or self._written > LOOK * self.max_bytes:
            self._make_room()

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npz"

    def _files(self) -> list[tuple[float, int, Path]]:
        """Every file, unfinished ones of killed processes too, with its size, oldest use first."""
        found = []
        for path in self.folder.glob("*/*"):
            with suppress(FileNotFoundError):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        return sorted(found)

    def _make_room(self) -> None:
        files = self._files()
        self._bytes, self._written = sum(size for _, size, _ in files), 0
        if self._bytes <= self.max_bytes:
            return
        for _, size, path in files:
            if self._bytes <= KEEP * self.max_bytes:
                return
            path.unlink(missing_ok=True)
            self._bytes -= size


def _words_format(clip: Clip) -> str | None:
    """`.srt`, `.en.vtt`...: what kind of file beside the clip its words are read from."""
    if clip.path is None or clip.transcript is not None:
        return None
    return next((p.name.removeprefix(clip.path.stem) for p in sidecar_paths(clip.path)), None)


def _pack(content: ClipContent) -> dict[str, Any]:
    arrays: dict[str, np.ndarray] = {}
    parts: dict[str, Any] = {}
    for modality, part in content.parts.items():
        own, parts[modality] = part.store()
        arrays |= {f"{modality}.{name}": array for name, array in own.items()}
    about = {
        "sha256": content.sha256,
        "parts": parts,
        "media": content.media,
        "warnings": content.warnings,
        "decode_seconds": content.decode_seconds,
    }
    return arrays | {"about": np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)}


def _unpack(stored: Any, clip: Clip) -> ClipContent:
    about = json.loads(stored["about"].tobytes())
    parts: dict[str, Part] = {}
    for modality, own in about["parts"].items():
        names = [name for name in stored.files if name.startswith(f"{modality}.")]
        arrays = {name.removeprefix(f"{modality}."): stored[name] for name in names}
        parts[modality] = READERS[modality].part.restore(arrays, own)
    return ClipContent(
        clip=clip,
        sha256=about["sha256"],
        parts=parts,
        media=about["media"],
        warnings=tuple(about["warnings"]),
        decode_seconds=about["decode_seconds"],
    )
