"""CMU-MOSI, CMU-MOSEI, CH-SIMS and CH-SIMS v2, in the layout of MMSA.

`label.csv` (video_id, clip_id, text, label, label_T, label_A, label_V, annotation, mode) and
`Raw/VIDEO_ID/CLIP_ID.mp4`. Who speaks is not known: in MOSI and MOSEI one person speaks in a video,
but may speak in others. In CH-SIMS each modality was also labelled alone: `label_T`, `label_A`,
`label_V`. Their features come as pickles: `mmsa_features.py`.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from omni_msa.errors import ManifestError
from omni_msa.files.importers.mmsa_features import read_mmsa_features
from omni_msa.files.importers.mmsa_rows import COLUMNS, SUBSETS, sample_of
from omni_msa.files.importers.release import Dataset, DatasetFacts, Release, layout_error
from omni_msa.files.importers.tables import Table, read_table, require_no_problems

LABEL_FILES = ("label.csv", "meta.csv")  # CH-SIMS v2 calls it meta
CLIP_FOLDER = "Raw"


def read_mmsa(folder: Path, facts: DatasetFacts, variant: str | None = None) -> Release:
    """Read a folder in MMSA's layout.

    Raises:
        ManifestError: The layout is another one, or rows are bad; the message lists them.
    """
    label_file = next((folder / n for n in LABEL_FILES if (folder / n).is_file()), None)
    clip_folder = folder / CLIP_FOLDER
    if label_file is None or not clip_folder.is_dir():
        parts = {" or ".join(LABEL_FILES): label_file is not None}
        if (clip_folder / "Video" / "Segmented").is_dir():
            raise ManifestError(
                f"{folder}: is laid out as the authors of {facts.title} released it, whose labels "
                "are not beside its clips; the layout of MMSA is needed: label.csv and "
                "Raw/VIDEO/CLIP.mp4 (github.com/thuiar/MMSA has it)"
            )
        raise layout_error(folder, facts, parts | {f"{CLIP_FOLDER}/": clip_folder.is_dir()})
    table = _read_labels(label_file, facts)
    clips = _Clips(clip_folder)
    samples = [sample_of(row, clips.file_of, facts) for row in table.rows]
    require_no_problems(folder, [table])
    notices = [table.notice] if table.notice else []
    return Release(tuple(s for s in samples if s is not None), tuple(notices))


def _read_labels(path: Path, facts: DatasetFacts) -> Table:
    if facts.family == "sims":  # Chinese words, often saved by a spreadsheet in its own encoding
        return read_table(path, (*COLUMNS, *(f"label_{m}" for m in SUBSETS)), fallback="gb18030")
    return read_table(path, COLUMNS)


class _Clips:
    """The folder of clips; a spreadsheet may have turned a clip's name, 0001, into the number 1."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._by_number: dict[str, dict[int, list[Path]]] = {}  # of each video

    def file_of(self, video: str, clip: str) -> Path:
        """The file of that name, else the only one of that number, else a path to nothing."""
        path = self.folder / video / f"{clip}.mp4"
        if path.is_file() or not _is_number(clip):
            return path
        candidates = self._numbers_of(video).get(int(clip), [])
        return candidates[0] if len(candidates) == 1 else path

    def _numbers_of(self, video: str) -> dict[int, list[Path]]:
        if video not in self._by_number:
            numbers = defaultdict(list)
            for path in (self.folder / video).glob("*.mp4"):
                if _is_number(path.stem):
                    numbers[int(path.stem)].append(path)
            self._by_number[video] = numbers
        return self._by_number[video]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


# Sizes of the splits as MMSA distributes them.
MOSI = Dataset(
    DatasetFacts(
        name="mosi",
        title="CMU-MOSI (MMSA layout)",
        label_range=(-3.0, 3.0),
        family="mosi",
        split_sizes={"train": 1284, "valid": 229, "test": 686},
        # Only the uncut recording is damaged: its clips were cut before, and count in the splits.
        remarks=(
            "c5xsKMxpXnc: the uncut recording is damaged in the first release "
            "(CMU-MultimodalSDK issue 217); its clips are imported where they can be opened",
        ),
    ),
    read_mmsa,
    read_mmsa_features,
)
MOSEI = Dataset(
    DatasetFacts(
        name="mosei",
        title="CMU-MOSEI (MMSA layout)",
        label_range=(-3.0, 3.0),
        family="mosi",
        split_sizes={"train": 16326, "valid": 1871, "test": 4659},
        remarks=(
            "some clips of MOSEI are cut at wrong times at the source: picture and sound do not "
            "fit the words (MMSA issue 66, CMU-MultimodalSDK issue 227)",
        ),
    ),
    read_mmsa,
    read_mmsa_features,
)
SIMS = Dataset(
    DatasetFacts(
        name="sims",
        title="CH-SIMS",
        label_range=(-1.0, 1.0),
        family="sims",
        split_sizes={"train": 1368, "valid": 456, "test": 457},
    ),
    read_mmsa,
    read_mmsa_features,
)
SIMSV2 = Dataset(
    DatasetFacts(
        name="simsv2",
        title="CH-SIMS v2 (supervised part)",
        label_range=(-1.0, 1.0),
        family="sims",
        split_sizes={"train": 2721, "valid": 647, "test": 1034},  # the authors' later count
    ),
    read_mmsa,
    read_mmsa_features,
)
