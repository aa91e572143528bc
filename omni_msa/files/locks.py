"""A lock on a results file: two runs must not mix their rows.

The operating system holds the lock and releases it when the process ends, killed or not: a lock
file that a killed run left behind locks nothing, and the next run reuses it.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from omni_msa.errors import ResultsError


class OutputLock:
    """`PATH.lock`, held from making it to `release`.

    Attributes:
        notices: What the user should know, such as a file system that has no locks.

    Raises:
        ResultsError: Another run holds it, or the folder cannot be written.
    """

    _paths_in_use: set[Path] = set()  # a process's own locks never block itself

    def __init__(self, results_path: Path) -> None:
        self.path = Path(f"{results_path}.lock")
        self.notices: list[str] = []
        if self.path in OutputLock._paths_in_use:
            raise self._in_use(results_path)
        try:
            results_path.parent.mkdir(exist_ok=True)
            self._descriptor = self._acquire()
        except (BlockingIOError, PermissionError) as error:
            if self.path.exists() and error.errno in (errno.EAGAIN, errno.EACCES):
                raise self._in_use(results_path) from error
            raise self._not_writable(results_path, error) from error
        except OSError as error:
            raise self._not_writable(results_path, error) from error
        OutputLock._paths_in_use.add(self.path)

    def release(self) -> None:
        """Release the lock; doing it twice does nothing."""
        if self.path in OutputLock._paths_in_use:
            OutputLock._paths_in_use.remove(self.path)
            self.path.unlink(missing_ok=True)  # before the lock ends: nobody holds another one
            os.close(self._descriptor)

    def _acquire(self) -> int:
        """An open, locked `PATH.lock`."""
        import fcntl

        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
                    os.close(descriptor)
                    raise
                self.notices.append(
                    f"{self.path}: this file system has no locks; run one at a time"
                )
            # Another run may have removed the file between our opening and locking it.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(self.path)):
                    return descriptor
            os.close(descriptor)

    @staticmethod
    def _in_use(path: Path) -> ResultsError:
        return ResultsError(f"{path}: in use by another run; wait for it or choose another -o")

    @staticmethod
    def _not_writable(path: Path, error: OSError) -> ResultsError:
        return ResultsError(
            f"{path}: cannot be written here ({error.strerror or error}); choose another -o"
        )
