"""Files that are replaced in one step: nobody reads half a file, not even after a kill."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from omni_msa.errors import ConfigError


@contextmanager
def replacing(path: Path, suffix: str = ".tmp") -> Iterator[Path]:
    """A temporary path beside `path`: what the block writes there then replaces `path` in one step.

    When the block raises, `path` stays as it was and the temporary file is removed.
    """
    temporary = path.with_name(f"{path.name}{suffix}")
    with ExitStack() as cleanup:
        cleanup.callback(temporary.unlink, missing_ok=True)
        yield temporary
        os.replace(temporary, path)
        cleanup.pop_all()


def check_replaceable(path: Path, flag: str, what: str, suffixes: tuple[str, ...]) -> None:
    """What can be said of a file before hours of work that end with writing it.

    Args:
        flag: by which it was named.
        what: it is, for the message: a picture.
        suffixes: the ends of its name that say a format.

    Raises:
        ConfigError: the name does not say a format, or its folder does not exist or takes no file.
    """
    if path.suffix.lower() not in suffixes:
        raise ConfigError(f"{flag} {path}: {what} ends in one of {', '.join(suffixes)}")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ConfigError(f"{flag} {path}: name a file in a folder that exists")
    try:
        TemporaryFile(dir=path.absolute().parent).close()
    except OSError as error:
        raise ConfigError(
            f"{flag} {path}: nothing can be written in its folder ({error.strerror}); name another"
        ) from error
