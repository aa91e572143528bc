"""What kind of failure an error of a reader is, where its cause is enough to tell."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import TypeVar, cast

from omni_msa.errors import MediaError
from omni_msa.media.container import enough_memory
from omni_msa.modalities import Subset
from omni_msa.options import MediaOptions
from omni_msa.values import Clip, ClipContent

ReadClip = TypeVar("ReadClip", bound=Callable[..., ClipContent])


def with_error_codes(read: ReadClip) -> ReadClip:
    """Has a function that reads a clip give its errors a code, unless they already have one."""

    @wraps(read)
    def read_with_codes(
        clip: Clip, options: MediaOptions, hide: Subset = frozenset()
    ) -> ClipContent:
        try:
            with enough_memory(clip.name):
                return read(clip, options, hide)
        except MediaError as error:
            if error.code == MediaError.code:
                error.code = code_of(clip, error)
            raise
        except OSError as error:  # a name that is too long, or a loop of links
            message = f"{clip.name}: cannot be read ({error.strerror})"
            raise MediaError(message, code="missing") from error

    return cast(ReadClip, read_with_codes)


def code_of(clip: Clip, error: MediaError) -> str:
    """The code of an error, by what made it."""
    if isinstance(error.__cause__, FileNotFoundError):
        return "missing"
    if isinstance(error.__cause__, PermissionError):
        return "denied"
    if clip.path is not None and os.path.exists(clip.path) and not os.path.isfile(clip.path):
        return "unsupported"
    return error.code
