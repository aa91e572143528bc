"""The file of `--states`: the vector that a head sees of each clip, for work of one's own.

`.npz` has the arrays `clip` [N], `states` [N, H] and `score` [N]; `.parquet` the same as columns.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from omni_msa.errors import ConfigError
from omni_msa.files.atomic import check_replaceable, replacing
from omni_msa.files.columns import one_line

SUFFIXES = (".npz", ".parquet")


def check_states_file(path: Path, output: Path | None = None, fresh: bool = False) -> None:
    """What can be said before anything is scored.

    Args:
        output: the file of results beside it, if there is one.
        fresh: whether that file is started anew.

    Raises:
        ConfigError: the name does not say a format, its folder does not exist or takes no file, or
            an earlier run has scored clips whose states nobody kept.
    """
    check_replaceable(path, "--states", "a file of states", SUFFIXES)
    if output is None:
        return
    if output.resolve() == path.resolve():
        raise ConfigError(f"--states {path}: the results go to it (-o); name another file")
    if not fresh and any(p.exists() for p in (output, Path(f"{output}.partial"))):
        raise ConfigError(
            f"--states {path}: {output} has rows of an earlier run, whose states were not kept; "
            "score all clips anew with --fresh, or choose another -o"
        )


def write_states(path: Path, clips: list[str], states: np.ndarray, scores: list[float]) -> None:
    """Replaces the file, in one step.

    Args:
        clips: their names [N], as the results have them.
        states: float32 [N, H].
        scores: [N].

    Raises:
        ConfigError: it cannot be written.
    """
    write = _write_npz if path.suffix.lower() == ".npz" else _write_parquet
    try:
        with replacing(path) as temporary:
            write(temporary, [one_line(clip) for clip in clips], states, np.array(scores, float))
    except OSError as error:
        raise ConfigError(
            f"--states {path}: cannot be written ({error.strerror or error})"
        ) from error


def _write_npz(path: Path, clips: list[str], states: np.ndarray, scores: np.ndarray) -> None:
    with path.open("wb") as file:
        np.savez(file, clip=np.array(clips, dtype=np.str_), states=states, score=scores)


def _write_parquet(path: Path, clips: list[str], states: np.ndarray, scores: np.ndarray) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    vectors = pa.FixedSizeListArray.from_arrays(pa.array(states.ravel()), states.shape[1])
    columns = {"clip": pa.array(clips, pa.string()), "states": vectors, "score": pa.array(scores)}
    pq.write_table(pa.table(columns), path)
