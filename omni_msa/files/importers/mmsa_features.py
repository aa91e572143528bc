"""CMU-MOSI, CMU-MOSEI, CH-SIMS and CH-SIMS v2 as MMSA's pickles of features.

A pickle (`unaligned_50.pkl`, `aligned_50.pkl`) holds a dictionary for each of train, valid and
test: `id` (VIDEO$_$CLIP), `raw_text`, `regression_labels` (for CH-SIMS also `regression_labels_T`,
`_A`, `_V`), and `text`, `audio` and `vision` as arrays [samples, length, features], padded with
zeros. How long each sample is, `audio_lengths` and `vision_lengths` say, and the mask in
`text_bert` [samples, 3, length]; without these, rows of zeros at the end are padding.

Each sample becomes a feature file (`media/features.py`), `VIDEO/CLIP.npz`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from omni_msa.errors import ManifestError
from omni_msa.files.atomic import replacing
from omni_msa.files.importers.mmsa_rows import SUBSETS, sample_of
from omni_msa.files.importers.pickles import PLAIN, as_text, read_pickle
from omni_msa.files.importers.release import DatasetFacts, Progress, Release, Sample
from omni_msa.files.importers.tables import TableRow
from omni_msa.files.manifest import list_problems
from omni_msa.foreign import printable
from omni_msa.media.transcripts import clean_words

SPLITS = ("train", "valid", "test")
FEATURES = {"text": "text", "audio": "audio", "video": "vision"}  # MMSA's names by ours
LENGTHS = {"audio": "audio_lengths", "video": "vision_lengths"}
MASK = "text_bert"
SEPARATOR = "$_$"  # in an id, between the video and the clip
NOT_IN_NAMES = frozenset('/\\:*?"<>|')
MAX_NAME_BYTES = 200


def read_mmsa_features(
    path: Path, facts: DatasetFacts, folder: Path, progress: Progress | None = None
) -> Release:
    """Read a pickle, and write a feature file a sample into a folder. Nothing is written of a
    pickle in which anything is wrong; each file appears whole, with the same bytes every time.

    Raises:
        ManifestError: The pickle cannot be read or is laid out otherwise, or samples are bad (the
            message lists them), or files cannot be written.
    """
    content = read_pickle(path)
    names = [name for name in SPLITS if isinstance(content, dict) and name in content]
    if not names:
        keys = _names(content) if isinstance(content, dict) else "no dictionary"
        raise ManifestError(
            f"{path}: is not laid out as MMSA's features of {facts.title}, a dictionary with "
            f"train, valid and test; it has: {keys}"
        )
    problems: list[str] = []
    splits = [_Split(name, content[name], facts, problems) for name in names]
    _require_none(path, problems)
    samples = [split.samples(folder) for split in splits]
    number_of_name = Counter(s.name for group in samples for s in group if s is not None)
    problems += [f"id: {name!r} occurs {n} times" for name, n in number_of_name.items() if n > 1]
    _require_none(path, problems)
    if not number_of_name:
        raise ManifestError(f"{path}: holds no samples")
    counts, num_written = _Counts(), 0
    for split, group in zip(splits, samples, strict=True):
        for index, sample in enumerate(group):
            assert sample is not None  # there are no problems
            _write(sample, split.features_of(index, counts))
            num_written += 1
            if progress is not None:
                progress(num_written, len(number_of_name))
    all_samples = tuple(s for group in samples for s in group if s is not None)
    others = [key for key in content if key not in SPLITS]
    notices = [f"not imported: {_names(others)}"] if others else []
    return Release(all_samples, (*notices, *counts.notices()))


def _require_none(path: Path, problems: list[str]) -> None:
    if problems:
        raise ManifestError(list_problems(path, problems, "nothing was imported"))


@dataclass
class _Counts:
    """What was changed or is absent, counted by modality."""

    infinite: Counter[str] = field(default_factory=Counter)  # -inf alone
    other: Counter[str] = field(default_factory=Counter)  # NaN, or +inf
    cut: Counter[str] = field(default_factory=Counter)
    absent: Counter[str] = field(default_factory=Counter)

    def notices(self) -> list[str]:
        lines = [
            f"{name}: {self.infinite[name]:,} values of -inf and {self.other[name]:,} of NaN or "
            "inf were set to 0 (MMSA does so with -inf of audio)"
            for name in FEATURES
            if self.infinite[name] or self.other[name]
        ]
        lines += [
            f"{name}: {number} samples are cut in the pickle itself: they are longer than its array"
            for name, number in (+self.cut).items()
        ]
        lines += [f"{name}: {number} samples have none" for name, number in (+self.absent).items()]
        return lines


class _Split:
    """One part of the pickle, checked; what is wrong in it is added to `problems`."""

    def __init__(self, name: str, fields: Any, facts: DatasetFacts, problems: list[str]) -> None:
        self.name = name
        self.facts = facts
        self.problems = problems
        self.fields = fields if isinstance(fields, dict) else {}
        labels = {"label": "regression_labels"}
        if facts.family == "sims":
            labels |= {f"label_{subset}": f"regression_labels_{subset}" for subset in SUBSETS}
        self.ids: list[str] = []
        needed = ["id", "raw_text", *FEATURES.values(), *labels.values()]
        if absent_keys := [key for key in needed if key not in self.fields]:
            self._problem(f"lacks {', '.join(absent_keys)}; it has: {_names(self.fields)}")
            return
        self.ids = self._values("id", None)
        self.texts = self._values("raw_text", len(self.ids))
        self.labels = {ours: self._values(key, len(self.ids)) for ours, key in labels.items()}
        self.arrays = {name: self._array(key) for name, key in FEATURES.items()}
        self.lengths = {
            name: self._lengths(key) for name, key in LENGTHS.items() if key in self.fields
        }
        if MASK in self.fields and len(self.arrays["text"]) == len(self.ids):
            self.lengths["text"] = self._lengths_of_mask()

    def _problem(self, message: str) -> None:
        self.problems.append(f"{self.name}: {message}")

    def _values(self, key: str, number: int | None) -> list[str]:
        """The texts, or the numbers as texts, of a field; as many as there are samples."""
        content = self.fields[key]
        values: list[Any] = []
        if isinstance(content, np.ndarray):
            values = list(content.reshape(-1)) if content.shape[:1] == (content.size,) else []
        elif isinstance(content, list) and all(isinstance(v, PLAIN) for v in content):
            values = content
        if number is not None and len(values) != number:
            self._problem(f"{key} has {_extent(content)}, and id {number}")
        return [as_text(v) if isinstance(v, bytes) else str(v) for v in values]

    def _array(self, key: str) -> np.ndarray:
        array = self.fields[key]
        is_array = isinstance(array, np.ndarray) and array.ndim == 3 and array.dtype.kind in "fiu"
        if is_array and array.shape[0] == len(self.ids) and array.shape[2]:
            return array
        self._problem(
            f"{key} has {_extent(array)}; numbers [samples, length, features] of the "
            f"{len(self.ids)} samples of id are needed"
        )
        return np.zeros((0, 0, 0), dtype=np.float32)

    def _lengths(self, key: str) -> list[int]:
        lengths = []
        for value in self._values(key, len(self.ids)):
            try:
                number = float(value or 0)
            except ValueError:
                number = -1.0
            if number < 0 or number % 1:
                self._problem(f"{key}: {value[:40]!r} is no length")
                break
            lengths.append(int(number))
        return lengths

    def _lengths_of_mask(self) -> list[int]:
        masks, length = self.fields[MASK], self.arrays["text"].shape[1]
        shape = (len(self.ids), 3, length)
        if (
            not isinstance(masks, np.ndarray)
            or masks.shape != shape
            or masks.dtype.kind not in "fiu"
        ):
            self._problem(f"{MASK} has {_extent(masks)}; numbers {list(shape)} fit id and text")
            return []
        return [_length(mask[:, None]) for mask in masks[:, 1]]

    def samples(self, folder: Path) -> list[Sample | None]:
        """The samples, with the paths that their features will have; None where one is bad."""
        return [self._sample(index, folder) for index in range(len(self.ids))]

    def _sample(self, index: int, folder: Path) -> Sample | None:
        video, _, clip = self.ids[index].partition(SEPARATOR)
        if not _is_file_name(video) or not _is_file_name(clip):
            self._problem(
                f"id: {self.ids[index][:80]!r} is not VIDEO{SEPARATOR}CLIP, of plain names"
            )
            return None
        cells = {"video_id": video, "clip_id": clip, "mode": self.name}
        cells["text"] = clean_words(self.texts[index])
        cells |= {column: values[index] for column, values in self.labels.items()}
        row = TableRow(f"{self.name}, {self.ids[index]}", cells, self.problems)
        return sample_of(row, lambda video, clip: folder / video / f"{clip}.npz", self.facts)

    def features_of(self, index: int, counts: _Counts) -> dict[str, np.ndarray]:
        """Float32 [length, features] by modality, without padding, and every value a number."""
        features = {}
        for name, arrays in self.arrays.items():
            padded = arrays[index]
            length = self.lengths[name][index] if name in self.lengths else _length(padded)
            counts.cut[name] += length > len(padded)
            counts.absent[name] += length == 0
            with np.errstate(over="ignore"):
                values = np.array(padded[:length], dtype=np.float32)
            is_low, is_finite = values == -np.inf, np.isfinite(values)
            counts.infinite[name] += int(is_low.sum())
            counts.other[name] += int(values.size - is_finite.sum() - is_low.sum())
            values[~is_finite] = 0.0
            features[name] = values
        return features


def _length(padded: np.ndarray) -> int:
    """Where the rows of zeros at the end begin."""
    rows = np.flatnonzero(padded.any(axis=1))
    return int(rows[-1]) + 1 if len(rows) else 0


def _names(keys: Iterable[str]) -> str:
    """The keys of a dictionary, for a message."""
    return printable(", ".join(key[:40] for key in islice(keys, 20))) or "nothing"


def _extent(value: Any) -> str:
    """What a field is, for a message."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    return f"{len(value)} entries" if isinstance(value, list) else f"a {type(value).__name__}"


def _is_file_name(text: str) -> bool:
    """Whether it names a file of a folder, on every system."""
    is_plain = text.isprintable() and not NOT_IN_NAMES & set(text) and text == text.strip(" .")
    return is_plain and 0 < len(text.encode()) <= MAX_NAME_BYTES


def _write(sample: Sample, features: dict[str, np.ndarray]) -> None:
    arrays: dict[str, Any] = dict(features)
    if sample.text:
        arrays["words"] = np.array(sample.text)
    try:
        sample.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(sample.path, ".partial") as partial, open(partial, "wb") as file:
            np.savez(file, **arrays)
    except OSError as error:
        raise ManifestError(
            f"{sample.path}: cannot be written ({error.strerror or error})"
        ) from error
