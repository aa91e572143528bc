"""A file as it is now: what is remembered of a file is remembered of one version of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FileVersion:
    """The key under which facts of a file are remembered."""

    path: Path
    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> FileVersion:
        """The version that there is now.

        Raises:
            OSError: there is no such file.
            ValueError: it is no name of a file.
        """
        status = os.stat(path)
        return cls(path, status.st_ino, status.st_size, status.st_mtime_ns)
