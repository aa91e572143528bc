"""Which of a base's weight files hold the Thinker: what the others hold is never fetched or read.

Needs no torch.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from omni_msa.errors import ModelError
from omni_msa.foreign import read_json

INDEX = "model.safetensors.index.json"
WHOLE = "model.safetensors"  # where it is, an index beside it is not read: so does transformers
MAX_NAME = 255  # of a file, in any usual file system
# Published and in-memory spellings of what may be absent from a Thinker-only folder.
NOT_THE_THINKER = ("talker.", "token2wav.")


def weight_map(folder: Path) -> dict[str, str] | None:
    """The file of each tensor, as the index says; None where there is no index, or no need of it.

    Raises:
        ModelError: it cannot be read, names a file outside the folder, or nothing of the Thinker.
    """
    path = folder / INDEX
    if not path.is_file() or (folder / WHOLE).is_file():
        return None
    try:
        index = read_json(path, ModelError)
        files = {str(tensor): str(file) for tensor, file in index["weight_map"].items()}
    except ModelError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: does not say which file holds which tensor") from error
    for file in files.values():
        is_name = Path(file).name == file and len(file.encode(errors="replace")) <= MAX_NAME
        if not is_name or not file.endswith(".safetensors"):
            raise ModelError(
                f"{path}: names {reprlib.repr(file)}, which is no *.safetensors of its folder"
            )
    if not any(map(is_of_the_thinker, files)):
        raise ModelError(f"{path}: names no tensor of a Thinker; the base is not whole")
    return files


def is_of_the_thinker(tensor: str) -> bool:
    """Whether a tensor of a published folder is loaded."""
    return not tensor.startswith(NOT_THE_THINKER)


def thinker_shards(folder: Path) -> list[str] | None:
    """The files that hold any of the Thinker's tensors, here or not; None without an index."""
    files = weight_map(folder)
    return None if files is None else sorted(_of_the_thinker(files))


def _of_the_thinker(files: Mapping[str, str]) -> set[str]:
    return {file for tensor, file in files.items() if is_of_the_thinker(tensor)}


def check_shards(name: str, folder: Path) -> None:
    """The files that hold the Thinker are there; others need not be.

    Raises:
        ModelError: which of them are not.
    """
    missing = [f for f in thinker_shards(folder) or () if not (folder / f).is_file()]
    if missing:
        raise ModelError(
            f"model {name}: {len(missing)} files with weights of the Thinker are missing, such as "
            f"{missing[0]}; copy or download them again into {folder}"
        )


def files_to_hash(folder: Path, talker_too: bool = False) -> list[Path]:
    """The weight files by which a base is known: those with the Thinker, in their order.

    Args:
        talker_too: also those of the Talker alone, as older versions hashed them.
    """
    files = weight_map(folder) or {}
    alone = set() if talker_too else set(files.values()) - _of_the_thinker(files)
    return [path for path in sorted(folder.glob("*.safetensors")) if path.name not in alone]


@contextmanager
def loadable(folder: Path) -> Iterator[Path]:
    """The folder as transformers can load it: where there are files of the Talker alone, here or
    not, links to the others, with an index that does not name these."""
    files = weight_map(folder) or {}
    shards = _of_the_thinker(files)
    rest = {tensor: file for tensor, file in files.items() if file in shards}
    if len(rest) == len(files):
        yield folder
        return
    with TemporaryDirectory(prefix="omni-msa-") as temporary:
        view = Path(temporary)
        for path in folder.iterdir():
            if path.name != INDEX:
                (view / path.name).symlink_to(path.resolve())
        index = {"metadata": {}, "weight_map": rest}
        (view / INDEX).write_text(json.dumps(index), encoding="utf-8")
        yield view
