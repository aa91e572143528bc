"""Where a base lies on this machine, by the name that a user gives it. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from omni_msa.errors import ModelError

TINY = Path(__file__).parent / "assets" / "tiny"


def local_folder(name: str) -> Path | None:
    """The folder that a name means on this machine; None for what may be a hub id.

    Raises:
        ModelError: it is neither.
    """
    if name == "tiny":
        return TINY / "base"
    if Path(name).is_dir():
        return Path(name)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ModelError(
            f"model {name!r}: no such folder; give 'tiny', a folder in the Qwen2.5-Omni layout, "
            "or a hub id such as Qwen/Qwen2.5-Omni-7B"
        )
    return None
