"""From a release to a manifest: read its layout, check what is there, write the rows."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omni_msa.errors import ConfigError, ManifestError, check_choice
from omni_msa.files.atomic import replacing
from omni_msa.files.importers.catalog import DATASETS, dataset_by_name
from omni_msa.files.importers.checks import (
    leave_out_known_bad,
    leave_out_missing,
    leave_out_unreadable,
    report_duplicates,
    report_speakers,
    report_split_sizes,
    split_sizes,
)
from omni_msa.files.importers.release import Dataset, Progress, Release, Sample
from omni_msa.files.manifest import list_problems

SUFFIXES = (".jsonl", ".ndjson")
PICKLE_SUFFIXES = (".pkl", ".pickle")


@dataclass(frozen=True)
class ImportReport:
    """What an import wrote, and everything the user should know of it, one line each."""

    rows: list[dict[str, Any]]
    split_sizes: dict[str, int]
    notices: tuple[str, ...] = ()


def import_dataset(
    name: str,
    folder: Path,
    manifest: Path,
    check_media: bool = True,
    progress: Progress | None = None,
    variant: str | None = None,
) -> ImportReport:
    """Write a manifest of a public data set's release.

    Clips that are missing, that cannot be opened, or that are known to be broken are left out, and
    the report says so. Of a pickle of features, a feature file a sample is written into the folder
    `STEM_features` beside the manifest.

    Args:
        name: A key of `DATASETS`.
        folder: The release, in its own layout; or a pickle of its features.
        manifest: The JSONL file to write; clips in it are named relative to its folder.
        check_media: Open every file, and look for the same file in several splits. Without it,
            only the existence of files is checked.
        progress: Called with the number of clips opened or written so far and in all.
        variant: One of the data set's `variants`.

    Raises:
        ConfigError: No data set has that name, it has no such variant, or is not known as features.
        ManifestError: The folder has another layout, the pickle holds other things, rows are bad,
            no clip is left, or the manifest cannot be written.
    """
    dataset = dataset_by_name(name)
    _require_jsonl(manifest)
    if variant is not None:
        check_choice(f"variant of {name}", variant, dataset.facts.variants)
    if folder.suffix.lower() in PICKLE_SUFFIXES and not folder.is_dir():
        release, folder = _features(folder, dataset, manifest, progress), manifest.parent
    else:
        release = _media(folder, dataset, variant, check_media, progress)
    release = report_speakers(release)
    release = report_split_sizes(release, dataset.facts.split_sizes)
    rows = [_row(sample, name, folder, manifest) for sample in release.samples]
    write_manifest(manifest, rows)
    return ImportReport(rows, split_sizes(release), release.notices)


def _media(
    folder: Path,
    dataset: Dataset,
    variant: str | None,
    check_media: bool,
    progress: Progress | None,
) -> Release:
    """The clips of a release that can be used."""
    release = dataset.read(folder, dataset.facts, variant).revise(notices=dataset.facts.remarks)
    release = leave_out_known_bad(release, dataset.facts.known_bad)
    release = leave_out_missing(release)
    if check_media:
        release = leave_out_unreadable(release, progress)
        release = report_duplicates(release)
    else:
        release = release.revise(notices=["clips were not opened: damage may come up later"])
    if not release.samples:
        raise ManifestError(list_problems(folder, release.notices, "no clip is left to import"))
    return release


def _features(file: Path, dataset: Dataset, manifest: Path, progress: Progress | None) -> Release:
    """The samples of a pickle, each written as a feature file."""
    if dataset.read_features is None:
        names = ", ".join(name for name, other in DATASETS.items() if other.read_features)
        raise ConfigError(
            f"{file}: pickles of features are read for {names}; of {dataset.facts.name}, give the "
            "folder of the release"
        )
    folder = manifest.with_name(f"{manifest.stem}_features")
    release = dataset.read_features(file, dataset.facts, folder, progress)
    notice = f"the features are in {folder}, which belongs to the manifest: keep them together"
    return report_duplicates(release.revise(notices=[notice]))


def write_manifest(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as JSONL; an older file is replaced in one step.

    Raises:
        ManifestError: The name is no JSONL file's, or it cannot be written there.
    """
    _require_jsonl(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        with replacing(path, ".partial") as partial:
            with open(partial, "w", encoding="utf-8", newline="\n") as file:
                file.writelines(lines)
    except OSError as error:
        raise ManifestError(f"{path}: cannot be written ({error.strerror or error})") from error


def _require_jsonl(path: Path) -> None:
    if path.suffix.lower() not in SUFFIXES:
        raise ManifestError(f"{path}: a manifest is written as JSONL; end its name in .jsonl")


def _row(sample: Sample, dataset: str, folder: Path, manifest: Path) -> dict[str, Any]:
    """The sample in the manifest's columns; columns without a value are left out."""
    row: dict[str, Any] = {"clip": _clip_path(sample.path, folder, manifest), "text": sample.text}
    row["label"] = sample.label
    row |= {f"label_{subset}": value for subset, value in sample.subset_labels.items()}
    row["findings"] = list(sample.findings) or None
    row |= {"emotion": sample.emotion, "split": sample.split, "speaker": sample.speaker}
    row["video"] = sample.video
    row["context"] = list(sample.context) or None
    row["dataset"] = dataset
    return {column: value for column, value in row.items() if value is not None}


def _clip_path(path: Path, folder: Path, manifest: Path) -> str:
    """Relative to the manifest's folder; absolute when it is on another drive."""
    # Links are followed in both folders, so that "../" means the folder it seems to.
    full_path = folder.resolve() / path.relative_to(folder)
    try:
        return Path(os.path.relpath(full_path, manifest.parent.resolve())).as_posix()
    except ValueError:
        return full_path.as_posix()
