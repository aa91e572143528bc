"""What the environment says: the only module that reads or sets environment variables."""

from __future__ import annotations

import os
from pathlib import Path


def quiet_notice() -> bool:
    """True when OMNI_MSA_NO_NOTICE is set: the demonstration-model line is not printed."""
    return bool(os.environ.get("OMNI_MSA_NO_NOTICE"))


def cache_home() -> Path | None:
    """Where programs keep what they can make anew: XDG_CACHE_HOME, else .cache in the home folder.

    None for a user who has no home.
    """
    folder = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(folder):  # the standard says: ignore a relative one
        return Path(folder)
    try:
        return Path.home() / ".cache"
    except RuntimeError:
        return None


def offline() -> bool:
    """True when HF_HUB_OFFLINE is set: a hub id is only looked for in the local cache."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE", "YES", "ON"}


def prefer_huge_pages() -> None:
    """Asks torch's CPU allocator for 2 MB pages, unless the user has said otherwise.

    Large activations are allocated anew at every pass; in training, their page faults take more
    than a quarter of the time. Has no effect once torch has allocated 2 MB, nor outside Linux.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def world_size() -> int:
    """How many processes `accelerate launch` (or torchrun) has started for one run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def world_rank() -> int:
    """Which of them this is; 0 leads."""
    return int(os.environ.get("RANK", "0"))
