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


def usable_cores() -> int:
    """Cores that this process may use: those it is bound to, or, in a container, its share."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no such share, or "max"
        return cores


def decoder_threads() -> int:
    """Threads that decode one clip: OMNI_MSA_DECODER_THREADS, else one a core, four at most."""
    try:
        return max(1, int(os.environ["OMNI_MSA_DECODER_THREADS"]))
    except (KeyError, ValueError):
        return min(usable_cores(), 4)


def default_readers() -> int:
    """Processes that read clips while a model computes: one a core, sixteen at most."""
    return min(usable_cores(), 16)


def reader_environment(num_readers: int) -> dict[str, str]:
    """The environment of processes that read clips side by side: their threads fit the cores."""
    threads = max(1, min(usable_cores() // num_readers, 4))
    threads_each = {"OMNI_MSA_DECODER_THREADS": str(threads)} | dict(os.environ)
    return threads_each | {"OMP_NUM_THREADS": "1"}


def wait_passively() -> None:
    """Has OpenMP's threads sleep while they wait, unless OMP_WAIT_POLICY says otherwise.

    By default they spin, which takes the cores from readers and from other programs: beside one
    busy process a folder was scored at a quarter of its rate. Has no effect once torch is loaded.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def world_size() -> int:
    """How many processes `accelerate launch` (or torchrun) has started for one run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def world_rank() -> int:
    """Which of them this is; 0 leads."""
    return int(os.environ.get("RANK", "0"))
