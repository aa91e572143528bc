"""The notice that the embedded model is a demonstration: once a machine a day at most."""

from __future__ import annotations

import time
from pathlib import Path

DEMONSTRATION = (
    "tiny is a demonstration model made from synthetic clips: do not use its numbers. For real "
    "work: --model Qwen/Qwen2.5-Omni-7B, which needs no training (zero-shot); from some fifty "
    "labelled clips, omni-msa calibrate fits a readout to it"
)
DAY_SECONDS = 24 * 3600


def due_today(cache: Path | None) -> bool:
    """Whether it was not shown within a day; from now on it counts as shown.

    Args:
        cache: the user's cache folder. Where it cannot be written, the notice is always due.
    """
    if cache is None:
        return True
    stamp = cache / "omni-msa" / "demonstration-notice"
    try:
        if stamp.exists() and 0 <= time.time() - stamp.stat().st_mtime < DAY_SECONDS:
            return False
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.touch()
    except OSError:
        pass  # it is shown once too often, which is no reason to stop
    return True
