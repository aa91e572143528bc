"""Small releases of the data sets, in their own layouts, for the tests of the importers."""

from __future__ import annotations

import csv
from pathlib import Path

from media_files import tone, write_media

from omni_msa.files.importers import import_dataset
from omni_msa.files.manifest import read_manifest

MMSA = "video_id clip_id text label label_T label_A label_V annotation mode".split()
MELD = (
    "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,"
    "StartTime,EndTime"
).split(",")


def clip(path: Path, num_frames: int = 4) -> Path:
    """A tiny clip; another number of frames makes another file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_media(path, num_frames=num_frames)


def table(path: Path, header: list[str], rows: list[list], encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding=encoding, newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def mmsa_row(video, clip_id, label=1.0, mode="train", text="well, yes", alone=("", "", "")) -> list:
    return [video, clip_id, text, label, *alone, "Positive", mode]


def mmsa_release(folder: Path, rows: list[list], encoding: str = "utf-8") -> Path:
    """`label.csv` with these rows, and a clip for each; no two clips are alike."""
    table(folder / "label.csv", MMSA, rows, encoding)
    for number, (video, clip_id, *_) in enumerate(rows):
        clip(folder / "Raw" / str(video) / f"{clip_id}.mp4", num_frames=4 + number)
    return folder


def three_splits() -> list[list]:
    return [mmsa_row("a", "1"), mmsa_row("b", "1", -3, "valid"), mmsa_row("c", "1", 0, "test")]


def meld_row(dialogue, utterance, words="Hey!", speaker="Joey", emotion="joy", mood="positive"):
    times = ["0:00:00,000", "0:00:01,000"]
    return [1, words, speaker, emotion, mood, dialogue, utterance, 1, 1, *times]


def meld_release(folder: Path, parts: dict[str, list[list]], nested: bool = False) -> Path:
    """MELD with these rows of "train", "dev", "test", and a clip for each."""
    clip_folders = {
        "train": "train_splits",
        "dev": "dev_splits_complete",
        "test": "output_repeated_splits_test",
    }
    for part, rows in parts.items():
        place = folder / part if nested else folder
        table(place / f"{part}_sent_emo.csv", MELD, rows)
        for row in rows:
            clip(place / clip_folders[part] / f"dia{row[5]}_utt{row[6]}.mp4", 4 + len(part))
    return folder


def iemocap_session(folder: Path, number: int, verdicts: list[tuple]) -> None:
    """One dialogue; a verdict is (who and count, emotion, valence, words or None)."""
    session, dialog = folder / f"Session{number}", f"Ses0{number}F_impro01"
    lines, words = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""], []
    for name, emotion, valence, said in verdicts:
        utterance = f"{dialog}_{name}"
        lines += [f"[6.2901 - 8.2357]\t{utterance}\t{emotion}\t[{valence}, 2.5000, 2.5000]"]
        lines += ["C-E2:\tNeutral;\t()", "A-E3:\tval 3; act 2; dom  2;\t()", ""]
        words += [f"{utterance} [006.2901-008.2357]: {said}"] if said else []
        wav = session / "sentences" / "wav" / dialog / f"{utterance}.wav"
        wav.parent.mkdir(parents=True, exist_ok=True)
        sound = tone(0.05 + 0.01 * number)
        write_media(wav, num_frames=0, sound=sound, audio_codec="pcm_s16le")
    for kind, content in (("EmoEvaluation", lines), ("transcriptions", words)):
        file = session / "dialog" / kind / f"{dialog}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes("\r\n".join(content).encode("cp1252"))


def imported(name: str, folder: Path, **options):
    """The clips as the manifest gives them, and the report."""
    manifest = folder / "manifest.jsonl"
    report = import_dataset(name, folder, manifest, **options)
    return read_manifest(manifest), report


def notice(report, part: str) -> str:
    (found,) = [line for line in report.notices if part in line]
    return found
