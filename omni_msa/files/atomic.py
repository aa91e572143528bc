"""Files that are replaced in one step: nobody reads half a file, not even after a kill."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


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
