"""IEMOCAP: ten actors in five sessions, two in each; voice and words of single utterances.

`SessionN/sentences/wav/DIALOG/UTTERANCE.wav` is the clip, `SessionN/dialog/transcriptions` has the
words and `SessionN/dialog/EmoEvaluation` the ratings. The pictures (`dialog/avi`) show both
actors of a whole dialogue and are not used.

The label is the valence v, rated from 1 to 5, as (v - 3) / 2, so that it runs from -1 to 1.
Where the raters did not agree on an emotion, or on one beside the usual six, an utterance has its
valence alone: it counts in regression, and not in classification. The variant `four-classes` has
happy (excited too), sad, neutral and angry, and leaves all other utterances out.
There is no official split: session 5 is test, session 4 valid, the others train, so that no speaker
is in two splits.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from omni_msa.errors import ManifestError
from omni_msa.files.importers.release import Dataset, DatasetFacts, Release, Sample, layout_error
from omni_msa.files.importers.tables import read_text_file
from omni_msa.files.manifest import list_problems

SPLIT_OF_SESSION = {1: "train", 2: "train", 3: "train", 4: "valid", 5: "test"}
EMOTIONS = {  # in the usual order of classes
    "hap": "happy",
    "sad": "sad",
    "neu": "neutral",
    "ang": "angry",
    "exc": "excited",
    "fru": "frustrated",
}
FOUR_CLASSES = "four-classes"
CLASS_OF_FOUR = {"hap": "happy", "exc": "happy", "sad": "sad", "neu": "neutral", "ang": "angry"}
_NUMBER = r"([-\d.]+)"
_RATING = re.compile(
    rf"\[{_NUMBER}\s*-\s*{_NUMBER}\]\s+(?P<utterance>\S+)\s+(?P<emotion>\w+)\s+"
    rf"\[(?P<valence>\d+(\.\d*)?),\s*{_NUMBER},\s*{_NUMBER}\]\s*"
)
_WORDS = re.compile(rf"(?P<utterance>\S+)\s+\[{_NUMBER}\s*-\s*{_NUMBER}\]:?(?P<words>.*)")
_UTTERANCE = re.compile(r"(?P<session>Ses\d\d)[FM]_\w+_(?P<gender>[FM])\w*")


def read_iemocap(folder: Path, facts: DatasetFacts, variant: str | None = None) -> Release:
    """Read the sessions that are here.

    Raises:
        ManifestError: No session is here, or ratings cannot be read; the message lists them.
    """
    is_four = variant == FOUR_CLASSES
    reader = _SessionReader(CLASS_OF_FOUR if is_four else EMOTIONS, keeps_others=not is_four)
    missing_sessions = []
    for number, split in SPLIT_OF_SESSION.items():
        session = folder / f"Session{number}"
        if (session / "dialog" / "EmoEvaluation").is_dir() and (session / "sentences/wav").is_dir():
            reader.read_session(session, split)
        else:
            missing_sessions.append(session.name)
    if len(missing_sessions) == len(SPLIT_OF_SESSION):
        parts = ("Session1/dialog/EmoEvaluation/", "Session1/sentences/wav/")
        raise layout_error(folder, facts, {part: (folder / part).is_dir() for part in parts})
    if reader.problems:
        raise ManifestError(list_problems(folder, reader.problems, "nothing was imported"))
    notices = [f"not found, left out: {', '.join(missing_sessions)}"] if missing_sessions else []
    return Release(tuple(reader.samples), (*notices, *reader.notices()))


@dataclass
class _SessionReader:
    """Reads sessions one by one, and counts what is left out or changed.

    `keeps_others`: utterances of no class of `emotions` are kept, with their valence alone.
    """

    emotions: dict[str, str]
    keeps_others: bool
    samples: list[Sample] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    num_by_other_class: Counter[str] = field(default_factory=Counter)
    encoding_notices: list[str] = field(default_factory=list)
    num_without_words: int = 0
    num_clipped: int = 0

    def read_session(self, session: Path, split: str) -> None:
        for ratings_file in sorted((session / "dialog" / "EmoEvaluation").glob("Ses*.txt")):
            words = self._words(session / "dialog" / "transcriptions" / ratings_file.name)
            for number, line in enumerate(self._lines(ratings_file), start=1):
                if not line.startswith("["):
                    continue  # a head line, or one rater's opinion
                match, where = _RATING.fullmatch(line), f"{ratings_file.name} line {number}"
                speaker = match and _UTTERANCE.fullmatch(match["utterance"])
                if match is None or speaker is None:
                    self.problems.append(f"{where}: reads {line!r}, expected {_EXAMPLE}")
                    continue
                has_class = match["emotion"] in self.emotions
                self.num_by_other_class[match["emotion"]] += not has_class
                if has_class or self.keeps_others:
                    wav = session / "sentences" / "wav" / ratings_file.stem
                    self._add(match, f"{speaker['session']}_{speaker['gender']}", wav, split, words)

    def _add(
        self, match: re.Match[str], speaker: str, folder: Path, split: str, words: dict[str, str]
    ) -> None:
        utterance, label = match["utterance"], (float(match["valence"]) - 3) / 2
        self.num_clipped += abs(label) > 1
        self.num_without_words += utterance not in words
        self.samples.append(
            Sample(
                name=utterance,
                path=folder / f"{utterance}.wav",
                split=split,
                label=max(-1.0, min(1.0, label)),
                text=words.get(utterance),
                speaker=speaker,
                emotion=self.emotions.get(match["emotion"]),
            )
        )

    def _words(self, path: Path) -> dict[str, str]:
        """Words of each utterance of a dialogue; none when the file is not there."""
        if not path.is_file():
            return {}
        matches = [match for line in self._lines(path) if (match := _WORDS.fullmatch(line))]
        return {m["utterance"]: m["words"].strip() for m in matches if m["words"].strip()}

    def _lines(self, path: Path) -> list[str]:
        content = read_text_file(path, fallback="cp1252")
        if content.notice:
            self.encoding_notices.append(content.notice)
        return [line.strip() for line in content.text.split("\n")]

    def notices(self) -> list[str]:
        """What was left out, changed or absent, counted."""
        notices = []
        if self.encoding_notices:
            notices.append(
                f"{len(self.encoding_notices)} files like this: {self.encoding_notices[0]}"
            )
        others = sorted((+self.num_by_other_class).items())
        if others:
            counts = ", ".join(f"{name} {n}" for name, n in others)
            fate = "have their valence alone" if self.keeps_others else "are left out"
            total = self.num_by_other_class.total()
            notices.append(f"{total} utterances of other emotions {fate}: {counts}")
        if self.num_clipped:
            notices.append(f"{self.num_clipped} valences outside [1, 5] were set to the nearer end")
        if self.num_without_words:
            notices.append(
                f"{self.num_without_words} utterances have no words in the transcriptions"
            )
        return notices


_EXAMPLE = "[6.29 - 8.23] Ses01F_impro01_F000 neu [2.5, 2.5, 2.5]"

IEMOCAP = Dataset(
    DatasetFacts(
        name="iemocap",
        title="IEMOCAP",
        label_range=(-1.0, 1.0),
        family="emotion",
        classes=tuple(EMOTIONS.values()),
        variants={FOUR_CLASSES: "happy (excited too), sad, neutral and angry alone"},
        remarks=(
            "IEMOCAP has no official split; ours keeps speakers apart: session 5 is test, "
            "session 4 valid, the others train",
            "only voice and words are imported: the pictures show two speakers at once",
        ),
    ),
    read_iemocap,
)
