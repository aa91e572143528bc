"""A row of MMSA's labels, from its table or its pickle, as a sample."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from omni_msa.files.importers.release import DatasetFacts, Sample
from omni_msa.files.importers.tables import TableRow

COLUMNS = ("video_id", "clip_id", "text", "label", "mode")
SUBSETS = ("T", "A", "V")  # the labels that CH-SIMS has, besides that of the whole clip
MODES = {
    "train": "train",
    "valid": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
}


def sample_of(
    row: TableRow, file_of: Callable[[str, str], Path], facts: DatasetFacts
) -> Sample | None:
    """A row as a sample, whose file is that of its video and clip; None, and problems in the row's
    table, where it is none."""
    video, clip = row.required("video_id"), row.required("clip_id")
    split, label = row.choice("mode", MODES), row.number("label", facts.label_range)
    labels_by_subset = {}
    if facts.family == "sims":
        columns = [m for m in SUBSETS if row.text(f"label_{m}")]
        labels_by_subset = {m: row.number(f"label_{m}", facts.label_range) for m in columns}
    if not video or not clip or split is None or label is None:
        return None
    return Sample(
        name=f"{video}/{clip}",
        path=file_of(video, clip),
        split=split,
        label=label,
        text=row.text("text") or None,
        subset_labels={m: value for m, value in labels_by_subset.items() if value is not None},
        video=video,
    )
