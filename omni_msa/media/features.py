"""Feature files: what others extracted of a clip's modalities, as NumPy's .npz, in its place.

`clip.npz` holds float arrays [length, features] named `text`, `audio` and `video` (also called
`vision`), any of them, and the words as the text `words`. Nothing in it is believed before its size
is known, and no Python object is ever read.
"""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from omni_msa.errors import MediaError, first_line
from omni_msa.foreign import MAX_TEXT_BYTES, printable
from omni_msa.media.container import check_regular, explain
from omni_msa.media.transcripts import clean_words
from omni_msa.modalities import Subset, in_order, tokens
from omni_msa.values import FeatureSequence, Part, Transcript

SUFFIX = ".npz"
SOURCE = "feature file"
WORDS = "words"
SYNONYMS = {"vision": "video"}
MAX_BYTES = 256 * 1024**2  # of all arrays, unpacked: converted and sent on, a reader holds them
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what numpy.savez and savez_compressed write
HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
# What NumPy raises on a file that was cut short or damaged, wherever the damage is.
DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError, EOFError, LookupError,
    OSError, RuntimeError, TypeError, ValueError,
)  # fmt: skip


@dataclass(frozen=True)
class FeatureFile:
    """What a feature file holds: features by modality, words, and warnings."""

    values: dict[str, np.ndarray]  # float32 [L, D] by modality
    words: str | None = None
    warnings: tuple[str, ...] = ()
    source: str = SOURCE

    def part(self, modality: str, other: Part | None) -> Part | None:
        """Its features of a modality, with the words of the clip; where it has none, what was read
        of the clip otherwise."""
        if modality not in self.values:
            return other
        text = other.text if isinstance(other, Transcript) else ""
        return FeatureSequence(self.values[modality], self.source, text)

    def summary(self) -> dict[str, Any]:
        """For the record's `media`: how long and how wide the features are."""
        shapes = {name: list(self.values[name].shape) for name in in_order(self.values)}
        return {"container": SUFFIX.removeprefix("."), "features": shapes}


def is_feature_file(path: Path) -> bool:
    """Whether a clip is read as features; its name alone says so."""
    return path.suffix.lower() == SUFFIX


def read_features(path: Path, hide: Subset = frozenset()) -> FeatureFile:
    """The features and the words in a file; those of the modalities in `hide` are not read.

    Raises:
        MediaError: the file cannot be read, or holds anything but features and words.
    """
    check_regular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            headers = _headers(path, archive)
            _check_names(path, list(headers))
        with np.load(path, allow_pickle=False) as arrays:
            return _content(path, headers, arrays, hide)
    except (MediaError, MemoryError):
        raise
    except (FileNotFoundError, PermissionError) as error:
        raise MediaError(explain(path, error)) from error
    except DAMAGE as error:
        reason = printable(first_line(error))
        raise _error(
            path, f"is no whole .npz file ({reason}); write it with numpy.savez"
        ) from error


def _error(path: Path, message: str, code: str = "features") -> MediaError:
    return MediaError(f"{path}: {message}", code=code)


@dataclass(frozen=True)
class _Header:
    """What is known of an array before it is read."""

    shape: tuple[int, ...]
    dtype: np.dtype


def _headers(path: Path, archive: zipfile.ZipFile) -> dict[str, _Header]:
    """The arrays by their names; what they claim of their size is within bounds, and is so."""
    entries = archive.infolist()
    size = sum(entry.file_size for entry in entries)
    if size > MAX_BYTES:
        raise _error(
            path,
            f"its arrays have {size:,} bytes; at most {MAX_BYTES:,} are read: give it in parts",
            code="too_large",
        )
    headers: dict[str, _Header] = {}
    for entry in entries:
        name = entry.filename.removesuffix(".npy")
        if name in headers:
            raise _error(path, f"holds {name!r} twice; write it again with numpy.savez")
        if entry.compress_type not in PACKINGS or entry.flag_bits & 1:
            raise _error(
                path, f"{name!r} is packed otherwise than by numpy.savez, or encrypted; use that"
            )
        with archive.open(entry) as file:
            version = np.lib.format.read_magic(file)
            shape, _, dtype = HEADERS[version](file)
            num_bytes = entry.file_size - file.tell()
        if not dtype.hasobject and prod(shape) * dtype.itemsize != num_bytes:
            raise ValueError(f"{name!r} has {num_bytes:,} bytes, which its header denies")
        headers[name] = _Header(shape, dtype)
    return headers


def _check_names(path: Path, names: list[str]) -> None:
    allowed = [*tokens(), *SYNONYMS, WORDS]
    listing = f"a feature file holds {', '.join(in_order(tokens()))} (or vision), and {WORDS}"
    if unknown := [name for name in names if name not in allowed]:
        raise _error(path, f"holds {unknown[0][:80]!r}; {listing}")
    features = [SYNONYMS.get(name, name) for name in names if name != WORDS]
    if len(set(features)) < len(features):
        raise _error(path, "holds both video and vision, which are one; leave one out")
    if not features:
        raise _error(path, f"holds no features; {listing}")


def _content(path: Path, headers: dict[str, _Header], arrays: Any, hide: Subset) -> FeatureFile:
    values: dict[str, np.ndarray] = {}
    words: str | None = None
    warnings: list[str] = []
    for name, header in headers.items():
        modality = SYNONYMS.get(name, name)
        if name == WORDS and "text" not in hide:
            _check_words(path, header)
            words = clean_words(str(arrays[name].reshape(-1)[0]))
        elif name != WORDS and modality not in hide:
            _check_features(path, name, header)
            if header.shape[0]:
                values[modality] = _numbers(path, name, arrays[name])
            else:
                warnings.append(f"no {modality}: its features in the file are empty")
    return FeatureFile(values, words, tuple(warnings))


def _check_words(path: Path, header: _Header) -> None:
    if header.dtype.kind != "U" or prod(header.shape) != 1:
        raise _error(
            path,
            f"{WORDS} is {header.dtype} {list(header.shape)}; one text is needed, as numpy.array("
            "'the words')",
        )
    if header.dtype.itemsize > 4 * MAX_TEXT_BYTES:
        raise _error(
            path,
            f"{WORDS} has {header.dtype.itemsize // 4:,} characters; at most {MAX_TEXT_BYTES:,} "
            "are read",
            code="too_large",
        )


def _check_features(path: Path, name: str, header: _Header) -> None:
    if header.dtype.hasobject:
        raise _error(path, f"{name} holds Python objects, which are never read; save it as float32")
    if header.dtype.kind != "f":
        raise _error(path, f"{name} is {header.dtype}; features are floats, such as float32")
    if len(header.shape) != 2 or not header.shape[1]:
        raise _error(path, f"{name} has the shape {list(header.shape)}, not [length, features]")


def _numbers(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    """As float32; every value is a number that it can hold."""
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(array, dtype=np.float32)
    bad = values.size - int(np.isfinite(values).sum())
    if bad:
        raise _error(
            path,
            f"{bad:,} of {values.size:,} values of {name} are NaN or infinite; replace them, for "
            "example by numpy.nan_to_num",
        )
    return values
