"""Where a base lies on this machine, by the name that a user gives it. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omni_msa.environment import offline
from omni_msa.errors import ModelError, first_line
from omni_msa.model.shards import thinker_shards

SETTINGS = ("*.json", "*.jinja", "*.txt")
TINY = Path(__file__).parent / "assets" / "tiny"
# The embedded checkpoints, by the names that `--checkpoint` knows them by: one of clips, and one of
# heart records.
EMBEDDED = {"tiny": TINY / "checkpoint", "tiny-ecg": TINY / "ecg"}


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


def base_folder(name: str) -> Path:
    """The folder that holds the base; of a hub id, what the Thinker needs is downloaded: settings,
    tokenizer and the weight files that hold any of its tensors, none of the Talker alone.

    Raises:
        ModelError: there is no such folder, nor can it be had from the hub.
    """
    if (folder := local_folder(name)) is not None:
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    def download(patterns: Sequence[str], revision: str | None = None) -> Path:
        return Path(
            snapshot_download(
                name, revision=revision, local_files_only=offline(), allow_patterns=list(patterns)
            )
        )

    try:
        folder = download(SETTINGS)
        shards = thinker_shards(folder)
        if shards is None or not all((folder / shard).is_file() for shard in shards):
            # of the same commit, which names the folder
            folder = download(["*.safetensors"] if shards is None else shards, folder.name)
        return folder
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(
            f"model {name}: not in the local cache and the hub could not be reached "
            f"({first_line(error)}); check the id and the network, or give a folder"
        ) from error
