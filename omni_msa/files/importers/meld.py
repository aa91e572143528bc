"""MELD: utterances of a series, with an emotion and a sentiment each.

Three label files (`train_sent_emo.csv` ...) and a folder of clips `diaX_uttY.mp4` beside each. The
label is the sentiment: negative -1, neutral 0, positive +1. The same clip name occurs in several
splits, so that a clip is called "train/dia0_utt0".

The test folder holds some clips twice: `final_videos_testdiaX_uttY.mp4` beside `diaX_uttY.mp4`.
Users report that the plain names hold other utterances, so the former are taken, unless the variant
`plain-names` is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from omni_msa.files.importers.release import Dataset, DatasetFacts, Release, Sample, layout_error
from omni_msa.files.importers.tables import Table, TableRow, read_table, require_no_problems

COLUMNS = ("Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID")
MOST_TURNS = 8  # of what was said before an utterance
SENTIMENTS = {"negative": -1.0, "neutral": 0.0, "positive": 1.0}
# Quotes and dashes of Windows-1252 that someone took for Latin-1: invisible control characters.
CP1252_REPAIRS = {
    code: bytes([code]).decode("cp1252")
    for code in range(0x80, 0xA0)
    if code not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)  # Windows-1252 has no such characters
}


@dataclass(frozen=True)
class Part:
    """One split as the release names it: a label file and a folder of clips."""

    name: str
    split: str
    label_file: str
    clip_folder: str


REPLACEMENT = "final_videos_test"  # before the name of a clip that replaces another
PLAIN_NAMES = "plain-names"
PARTS = (
    Part("train", "train", "train_sent_emo.csv", "train_splits"),
    Part("dev", "valid", "dev_sent_emo.csv", "dev_splits_complete"),
    Part("test", "test", "test_sent_emo.csv", "output_repeated_splits_test"),
)


def read_meld(folder: Path, facts: DatasetFacts, variant: str | None = None) -> Release:
    """Read MELD; label files and clip folders may stand one folder deeper (`train/train_splits`).

    A split that is not here, or not whole, is left out with a notice.

    Raises:
        ManifestError: The layout is another one, or rows are bad; the message lists them.
    """
    tables: list[Table] = []
    samples: list[Sample | None] = []
    notices: list[str] = []
    for part in PARTS:
        places = {name: _find(folder, name) for name in (part.label_file, part.clip_folder + "/")}
        label_file, clips = places.values()
        if label_file is None or clips is None:
            missing_names = " and ".join(name for name, place in places.items() if place is None)
            notices.append(f"the split {part.name} is left out: {missing_names} not found")
            continue
        table = read_table(label_file, COLUMNS, fallback="cp1252")
        read = [_sample(row, part, clips, facts) for row in table.rows]
        read = _with_context(table.rows, read)
        replaced = read if variant == PLAIN_NAMES else [s and _replaced(s) for s in read]
        samples += replaced
        notices += _encoding_notices(table)
        if number := sum(a != b for a, b in zip(read, replaced, strict=True)):
            notices.append(
                f"{number} clips of {part.name} are taken from {REPLACEMENT}*.mp4; users report "
                "that the plain names hold other utterances "
                f"(--variant {PLAIN_NAMES} takes these)"
            )
        tables.append(table)
    if not tables:
        names = [name for part in PARTS for name in (part.label_file, part.clip_folder + "/")]
        raise layout_error(folder, facts, {name: bool(_find(folder, name)) for name in names})
    require_no_problems(folder, tables)
    return Release(tuple(s for s in samples if s is not None), tuple(notices))


def _find(folder: Path, name: str) -> Path | None:
    """A file, or a folder (its name ends in `/`), here or one folder deeper."""
    places = [folder / name, *sorted(folder.glob(f"*/{name.rstrip('/')}"))]
    return next((p for p in places if (p.is_dir() if name.endswith("/") else p.is_file())), None)


def _sample(row: TableRow, part: Part, clips: Path, facts: DatasetFacts) -> Sample | None:
    dialogue, utterance = row.required("Dialogue_ID"), row.required("Utterance_ID")
    label = row.choice("Sentiment", SENTIMENTS)
    emotion = row.choice("Emotion", {name: name for name in facts.classes})
    if not dialogue or not utterance or label is None or emotion is None:
        return None
    clip = f"dia{dialogue}_utt{utterance}"
    return Sample(
        name=f"{part.name}/{clip}",
        path=clips / f"{clip}.mp4",
        split=part.split,
        label=label,
        # Restored before blanks are cut: a misread "..." at the end counts as a line end.
        text=row.cells["Utterance"].translate(CP1252_REPAIRS).strip() or None,
        speaker=row.cells["Speaker"].translate(CP1252_REPAIRS).strip() or None,
        emotion=emotion,
    )


def _with_context(
    rows: Sequence[TableRow], samples: Sequence[Sample | None]
) -> list[Sample | None]:
    """Each sample with the turns before it in its dialogue, `Speaker: words` each."""
    turns: dict[str, dict[int, str]] = {}
    for row, sample in zip(rows, samples, strict=True):
        if sample is not None and row.cells["Utterance_ID"].strip().isdecimal():
            place, words = int(row.cells["Utterance_ID"]), f"{sample.speaker}: {sample.text or ''}"
            turns.setdefault(row.cells["Dialogue_ID"].strip(), {})[place] = words
    result: list[Sample | None] = []
    for row, sample in zip(rows, samples, strict=True):
        before = turns.get(row.cells["Dialogue_ID"].strip(), {})
        own = row.cells["Utterance_ID"].strip()
        places = sorted(p for p in before if own.isdecimal() and p < int(own))
        context = tuple(before[place] for place in places[-MOST_TURNS:])
        result.append(None if sample is None else replace(sample, context=context))
    return result


def _replaced(sample: Sample) -> Sample:
    """The sample with the file that replaces its own, where there is one."""
    path = sample.path.with_name(f"{REPLACEMENT}{sample.path.name}")
    return replace(sample, path=path) if path.is_file() else sample


def _encoding_notices(table: Table) -> list[str]:
    notices = [table.notice] if table.notice else []
    num_repaired = sum(
        any(ord(c) in CP1252_REPAIRS for c in row.cells["Utterance"]) for row in table.rows
    )
    if num_repaired:
        notices.append(f"{table.path.name}: quotes and dashes were restored in {num_repaired} rows")
    return notices


MELD = Dataset(
    DatasetFacts(
        name="meld",
        title="MELD",
        label_range=(-1.0, 1.0),
        family="meld",
        split_sizes={"train": 9989, "valid": 1109, "test": 2610},
        known_bad={
            "train/dia125_utt3": "the file is corrupt (declare-lab/MELD issue 39)",
            "dev/dia110_utt7": "the file was never released (declare-lab/MELD issue 22)",
            "test/dia220_utt0": "cut wrongly, 4 minutes long (declare-lab/MELD issue 20)",
            "test/dia38_utt4": "cut wrongly, 5 minutes long (declare-lab/MELD issue 20)",
        },
        classes=("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"),
        variants={PLAIN_NAMES: f"test clips of the plain names, where {REPLACEMENT}* exists too"},
    ),
    read_meld,
)
