"""The words of a clip, from a file beside it or from the command line.

Plain text (.txt), SubRip (.srt) and WebVTT (.vtt) are read whatever their encoding, line ends and
small damage; guesses and omissions are listed in the transcript's `warnings`.

A `Transcript` whose `text` is "" means "there are no words": it exists only to carry its warnings
to the record, and is never shown to the model.
"""

from __future__ import annotations

import html
import os
import re
import time
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from omni_msa.errors import TranscriptError
from omni_msa.foreign import MAX_TEXT_BYTES, read_limited
from omni_msa.media.versions import FileVersion
from omni_msa.values import Cue, Transcript

SUFFIXES = (".txt", ".srt", ".vtt")  # in the order in which they are preferred
CONTIGUOUS_SECONDS = 0.1  # captions closer than this belong to one rolling display

_BOMS = (  # the longer first: a UTF-32 mark begins with a UTF-16 mark
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
# Blanks are spelled out: \s would run over line ends, in quadratic time on a file of empty lines.
_TIME = r"(?:(\d{1,4})[ \t]*:[ \t]*)?(\d{1,2})[ \t]*:[ \t]*(\d{1,2})(?:[ \t]*[,.][ \t]*(\d{1,9}))?"
_TIMING = re.compile(rf"^[ \t]*{_TIME}[ \t]*--?>[ \t]*{_TIME}(?:[ \t].*)?$")
_TIMING_ANYWHERE = re.compile(_TIMING.pattern, re.MULTILINE)
_INDEX = re.compile(r"^\s*\d+\s*$")
_NOT_CUES = re.compile(r"^(WEBVTT|NOTE|STYLE|REGION)(\s|$)")
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|<\d[\d:.]*>|\{\\[^{}]*\}")
_WORD = re.compile(r"\w+")
_BREAK = re.compile(r"<br\s*/?>|\\[Nn]|\r\n?", re.IGNORECASE)
_LANGUAGE = re.compile(r"^(?P<stem>.+)\.[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})?$")


def sidecar_transcript(
    media_path: Path, start_seconds: float | None = None, end_seconds: float | None = None
) -> Transcript | None:
    """The transcript file beside a clip, or None when there is none.

    For `a.mp4`, the first that exists of `a.txt`, `a.srt`, `a.vtt`, `a.mp4.txt` (`.srt`, `.vtt`)
    and `a.en.srt` (`.vtt`) is read, in whatever Unicode form; upper-case extensions count too.

    Args:
        media_path: The clip; it need not exist.
        start_seconds: Start of the time window; None is the beginning.
        end_seconds: End of the window, exclusive; None is the end.
    """
    paths = sidecar_paths(media_path)
    if not paths:
        return None
    path, *others = paths
    transcript = read_transcript_file(path, start_seconds, end_seconds)
    warnings = transcript.warnings
    if others:
        names = ", ".join(path.name for path in others)
        warnings = (f"several transcripts: {path.name} used, not {names}", *warnings)
    return Transcript(transcript.text, f"sidecar {path.name}", warnings)


def option_transcript(
    value: str, start_seconds: float | None = None, end_seconds: float | None = None
) -> Transcript:
    """What `--transcript TEXT|FILE` means: the words of an existing file, else the value itself."""
    # os.path, unlike Path, answers False for words that are too long to be a file name.
    if os.path.isfile(value):
        transcript = read_transcript_file(Path(value), start_seconds, end_seconds)
        return Transcript(transcript.text, f"option {value}", transcript.warnings)
    if value.strip().lower().endswith(SUFFIXES):
        raise TranscriptError(
            f"--transcript {value}: there is no such file; give an existing .txt, .srt or .vtt "
            "file, or the words themselves"
        )
    text = clean_words(value)
    return Transcript(text, "option")


def read_transcript_file(
    path: Path, start_seconds: float | None = None, end_seconds: float | None = None
) -> Transcript:
    """Read one .txt, .srt or .vtt file; a window keeps the subtitles shown in it.

    Raises:
        TranscriptError: The file cannot be read, is no text, or holds no subtitle where it should.
    """
    try:
        content = _read_transcript(FileVersion.of(path))
    except OSError as error:
        raise TranscriptError(f"{path}: cannot be read ({error.strerror or error})") from error
    words, warnings = content.words, content.warnings
    if content.cues is not None:
        words = cues_to_text(content.cues, start_seconds, end_seconds)
    elif words and not (start_seconds is None and end_seconds is None):
        warning = f"transcript without times: all words of {path.name} stand for the window"
        warnings = (*warnings, warning)
    return Transcript(words, path.name, warnings)


@dataclass(frozen=True)
class _TranscriptFile:
    """What a transcript file holds: subtitles, or words without times."""

    cues: list[Cue] | None
    words: str
    warnings: tuple[str, ...]


@lru_cache(maxsize=4)
def _read_transcript(version: FileVersion) -> _TranscriptFile:
    """The last files are remembered, so that one is parsed once for the windows of a recording."""
    path = version.path
    text, warnings = _read_text(path)
    # Subtitles saved as .txt are still subtitles: their numbers and times are not words.
    if text.strip() and (path.suffix.lower() in (".srt", ".vtt") or _TIMING_ANYWHERE.search(text)):
        subtitles = _parse(text)
        warnings += _damage_warnings(path, subtitles)
        return _TranscriptFile(subtitles.cues, "", tuple(warnings))
    return _TranscriptFile(None, clean_words(text), tuple(warnings))


def parse_subtitles(text: str) -> list[Cue]:
    """The subtitles of a SubRip or WebVTT text, in order of time; other blocks are left out."""
    return _parse(text).cues


def cues_to_text(
    cues: list[Cue], start_seconds: float | None = None, end_seconds: float | None = None
) -> str:
    """The words of subtitles as one line, without markup.

    A line that repeats the one before it in an uninterrupted display (rolling captions) counts
    once. With a window, a subtitle counts when at least half of it, or of the window, is shared.
    """
    start = 0.0 if start_seconds is None else start_seconds
    end = float("inf") if end_seconds is None else end_seconds
    lines: list[str] = []
    shown_until = float("-inf")
    for cue in cues:
        if not _overlaps_window(cue, start, end):
            continue
        is_rolling = cue.start_seconds - shown_until <= CONTIGUOUS_SECONDS
        for line in _lines_of(cue):
            if not (is_rolling and lines and lines[-1] == line):
                lines.append(line)
        shown_until = max(shown_until, cue.end_seconds)
    return " ".join(lines)


def clean_words(text: str) -> str:
    """Words as the model is shown them: NFC, no control characters, single spaces."""
    characters = unicodedata.normalize("NFC", text)
    visible = "".join(c for c in characters if c.isspace() or not _is_control(c))
    return " ".join(visible.split())


def same_words(used: str, other: str, is_part: bool = False) -> bool:
    """Whether two transcripts say the same, whatever their case, punctuation and line ends.

    Args:
        is_part: the other may say more: it stands for the whole file, and this for a window.
    """
    first, second = (f" {' '.join(_WORD.findall(text.casefold()))} " for text in (used, other))
    return first in second if is_part else first == second


def _is_control(character: str) -> bool:
    # The byte-order mark and the zero-width space are invisible leftovers of file formats; other
    # format characters (joiners) belong to the spelling of Persian, Hindi and emoji.
    return character in "\ufeff\u200b" or unicodedata.category(character) in ("Cc", "Cs")


# --- files beside a clip ---------------------------------------------------------------------


def sidecar_paths(media_path: Path) -> list[Path]:
    """Every transcript file of a clip, the preferred one first."""
    folder = media_path.parent
    try:
        by_name = _transcripts_in(os.path.abspath(folder))
    except PermissionError:  # a folder may forbid listing and still let named files be opened
        forms = dict.fromkeys([media_path.stem, *_unicode_forms(media_path.stem)])
        names = [stem + suffix for stem in forms for suffix in SUFFIXES]
        return [folder / name for name in names if os.path.isfile(folder / name)]
    except OSError:  # no such folder: opening the clip reports it
        return []
    media_names = (media_path.stem, media_path.name, media_path.stem + ".*")
    names = [name for media_name in media_names for name in by_name.get(_composed(media_name), ())]
    # of two clips whose names differ in their Unicode form alone, each has its own
    names = [name for name in names if name.startswith(media_path.stem)] or names
    return [folder / name for name in dict.fromkeys(names) if name != media_path.name]


def _unicode_forms(name: str) -> list[str]:
    return [unicodedata.normalize(form, name) for form in ("NFC", "NFD")]


def _composed(name: str) -> str:
    """A file's name in one Unicode form: "é" is one character, or two where a system parts it."""
    return unicodedata.normalize("NFC", name)


def _transcripts_in(folder: str) -> dict[str, list[str]]:
    """Transcript files of a folder by the name they belong to: `a`, `a.mp4`, `a.*` for `a.en.srt`.

    Cached until the folder changes: a data set of 20,000 clips in one folder is listed once.
    """
    modified_ns = os.stat(folder).st_mtime_ns
    # File systems store times to two seconds at worst: a younger listing may be out of date.
    is_settled = time.time_ns() - modified_ns > 3 * 10**9
    return _cached_listing(folder, modified_ns) if is_settled else _list_transcripts(folder)


@lru_cache(maxsize=4)
def _cached_listing(folder: str, modified_ns: int) -> dict[str, list[str]]:
    return _list_transcripts(folder)


def _list_transcripts(folder: str) -> dict[str, list[str]]:
    by_name: dict[str, list[str]] = {}
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if e.name.lower().endswith(SUFFIXES) and e.is_file()]
    for name in sorted(names, key=lambda n: (SUFFIXES.index(n[-4:].lower()), n)):
        media_name = _composed(name[:-4])
        by_name.setdefault(media_name, []).append(name)
        language = _LANGUAGE.match(media_name)
        if language and not name.lower().endswith(".txt"):  # only subtitles are named like this
            by_name.setdefault(language["stem"] + ".*", []).append(name)
    return by_name


# --- reading ---------------------------------------------------------------------------------


def _read_text(path: Path) -> tuple[str, list[str]]:
    """The characters of a file, and a warning when the encoding had to be guessed."""
    data = read_limited(path, MAX_TEXT_BYTES, TranscriptError)
    encoding = next((name for mark, name in _BOMS if data.startswith(mark)), "utf-8")
    warnings: list[str] = []
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8" or b"\x00" in data:
            raise _not_text(path) from error
        text = _decode_cp1252(path, data)
        warnings.append(
            f"transcript not UTF-8: {path.name} read as cp1252; save it as UTF-8 if this is wrong"
        )
    if "\x00" in text:
        raise _not_text(path)
    return re.sub(r"\r\n?", "\n", text), warnings


def _decode_cp1252(path: Path, data: bytes) -> str:
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError as error:
        raise _not_text(path) from error


def _not_text(path: Path) -> TranscriptError:
    return TranscriptError(f"{path}: is no text in UTF-8, UTF-16 or cp1252; save it as UTF-8")


# --- parsing ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _SubtitleBlocks:
    """What one subtitle text holds; `bad_lines` are where the blocks that make no sense begin."""

    cues: list[Cue]
    bad_lines: list[int]


def _parse(text: str) -> _SubtitleBlocks:
    """One reader for SubRip and WebVTT: in both, a time line followed by words makes a subtitle."""
    cues: list[Cue] = []
    bad_lines: list[int] = []
    for line_number, block in _blocks(text):
        if _NOT_CUES.match(block[0]) and not _has_cue_after_header(block):
            continue
        block_cues = _cues_in(block)
        if not block_cues:
            bad_lines.append(line_number)
        cues += block_cues
    return _SubtitleBlocks(sorted(cues, key=lambda cue: cue.start_seconds), bad_lines)


def _blocks(text: str) -> list[tuple[int, list[str]]]:
    """Runs of lines between empty lines, with the number of the first line.

    A line of spaces does not end a block: automatic captions hold such lines as words.
    """
    blocks: list[tuple[int, list[str]]] = []
    block: list[str] = []
    lines = re.split(r"\r\n|\n|\r", text.lstrip("\ufeff"))
    for number, line in enumerate([*lines, ""], start=1):
        if line:
            block.append(line)
        elif block:
            if any(part.strip() for part in block):
                blocks.append((number - len(block), block))
            block = []
    return blocks


def _has_cue_after_header(block: list[str]) -> bool:
    """True for a header that runs into the first subtitle because the empty line is missing."""
    return block[0].startswith("WEBVTT") and any(_TIMING.match(line) for line in block)


def _cues_in(block: list[str]) -> list[Cue]:
    """The subtitles of one block: one, or several when the empty lines between them are missing."""
    bounds = [n for n, line in enumerate(block) if _TIMING.match(line)] + [len(block)]
    cues = []
    for start, stop in pairwise(bounds):
        words = block[start + 1 : stop]
        if stop < len(block) and words and _INDEX.match(words[-1]):
            words = words[:-1]  # the number of the next subtitle
        cue_start, cue_end = _cue_times(block[start])
        cues.append(Cue(cue_start, max(cue_start, cue_end), "\n".join(words)))
    return cues


def _cue_times(line: str) -> tuple[float, float]:
    match = _TIMING.match(line)
    assert match is not None  # only called with lines that matched
    parts = match.groups()
    return _seconds(*parts[:4]), _seconds(*parts[4:])


def _seconds(hours: str | None, minutes: str, seconds: str, fraction: str | None) -> float:
    return int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + float(f"0.{fraction or 0}")


def _damage_warnings(path: Path, subtitles: _SubtitleBlocks) -> list[str]:
    """The warning for blocks that were left out; an error when there are no other blocks."""
    if not subtitles.bad_lines:
        return []
    line = subtitles.bad_lines[0]
    if not subtitles.cues:
        raise TranscriptError(
            f"{path}: line {line} begins no subtitle, nor does any other; a block is a number, "
            "a line like 00:00:01,000 --> 00:00:02,500, the words, and an empty line"
        )
    total = len(subtitles.bad_lines)
    return [f"damaged subtitles: {total} left out of {path.name}, the first at line {line}"]


def _overlaps_window(cue: Cue, start_seconds: float, end_seconds: float) -> bool:
    length = cue.end_seconds - cue.start_seconds
    if length <= 0:
        return start_seconds <= cue.start_seconds < end_seconds
    overlap_seconds = min(cue.end_seconds, end_seconds) - max(cue.start_seconds, start_seconds)
    return overlap_seconds > 0 and overlap_seconds >= min(length, end_seconds - start_seconds) / 2


def _lines_of(cue: Cue) -> list[str]:
    """The words of one subtitle, a line each, without markup, entities and empty lines."""
    text = _TAG.sub("", _BREAK.sub("\n", cue.text))
    lines = (clean_words(html.unescape(line)) for line in text.split("\n"))
    return [line for line in lines if line]
