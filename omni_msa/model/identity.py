"""What a base is, by its content: the hash that ties a checkpoint to it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omni_msa.model.shards import files_to_hash

ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json")  # PEFT's names
SETTINGS = ("config.json", "tokenizer.json")
FULL_HASH_BYTES = 256 * 1024**2  # weight files up to this size are hashed whole


SAMPLE_BYTES = 64 * 1024


def base_sha256(folder: Path) -> str:
    """Content hash of a base: config, tokenizer and the weight files that hold the Thinker.

    Weight files above 256 MB are hashed by size and 64 evenly spaced blocks, so that an 18 GB base
    takes a second; any retrained or requantized base still differs.
    """
    return _files_sha256(folder, files_to_hash(folder))


def is_base(folder: Path, sha256: str) -> bool:
    """Whether a folder is the base that a checkpoint was made for; older ones hashed files of the
    Talker too."""
    if sha256 == base_sha256(folder):
        return True
    return sha256 == _files_sha256(folder, files_to_hash(folder, talker_too=True))


def folder_sha256(folder: Path) -> str:
    """The same of any model's folder: all weight files, settings and files of its tokenizer."""
    kinds = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
    files = {path for kind in kinds for path in folder.glob(kind)}
    return _files_sha256(folder, sorted(files - {folder / name for name in SETTINGS}))


def _files_sha256(folder: Path, weights: Sequence[Path]) -> str:
    settings = [folder / name for name in SETTINGS]
    digest = hashlib.sha256()
    for path in sorted([*(path for path in settings if path.exists()), *weights]):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        _hash_into(digest, path)
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_into(digest: Any, path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= FULL_HASH_BYTES:
            while block := file.read(1 << 20):
                digest.update(block)
            return
        for i in range(64):
            file.seek(i * (size - SAMPLE_BYTES) // 63)
            digest.update(file.read(SAMPLE_BYTES))
