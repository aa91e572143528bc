"""Reading one clip: probe, plan, frames, sound, words, each with its source; or its features."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

from omni_msa.errors import MediaError, TranscriptError
from omni_msa.media.container import Deadline
from omni_msa.media.decord import read_frames_decord
from omni_msa.media.denoise import denoise
from omni_msa.media.ecg import ecg_of
from omni_msa.media.error_codes import with_error_codes
from omni_msa.media.features import FeatureFile, is_feature_file, read_features
from omni_msa.media.identity import clip_sha256, window_of
from omni_msa.media.probe import Media, open_media
from omni_msa.media.pyav import FrameReading, read_frames
from omni_msa.media.record_files import is_record
from omni_msa.media.records import read_record
from omni_msa.media.sampling import plan_frames
from omni_msa.media.sound import read_waveform
from omni_msa.media.torchcodec import read_frames_torchcodec
from omni_msa.media.transcripts import (
    clean_words,
    cues_to_text,
    same_words,
    sidecar_transcript,
)
from omni_msa.modalities import Subset
from omni_msa.options import MediaOptions
from omni_msa.values import (
    SAMPLE_RATE,
    Clip,
    ClipContent,
    FramePlan,
    Frames,
    MediaFacts,
    Part,
    Traces,
    Transcript,
    Waveform,
)

FRAME_READERS: dict[str, Callable[[Media, FramePlan, Deadline], FrameReading]] = {
    "pyav": read_frames,
    "decord": read_frames_decord,
    "torchcodec": read_frames_torchcodec,
}

FEWEST_SECONDS = 3.0  # of a heart: of a shorter clip, it is read beyond the clip's end
COVERED = 0.9  # of a clip's time, by its heart record: less is said
NO_WORDS = (
    "no words: they go in a .txt or .srt file beside the clip, in a manifest's text column, or in "
    "--transcript"
)


@dataclass
class OpenClip:
    """A clip while it is read: facts about its file, and what its readers add.

    `media_file` is None for words alone, for a heart record and for a feature file, of which
    `features` holds the content.
    Readers add to `warnings`, to `media` (the record's object of that name) and to `ends_seconds`,
    when each part ends on the presentation's clock.
    """

    clip: Clip
    options: MediaOptions
    deadline: Deadline
    media_file: Media | None = None
    warnings: list[str] = field(default_factory=list)
    media: dict[str, Any] = field(default_factory=dict)
    ends_seconds: list[float] = field(default_factory=list)
    features: FeatureFile | None = None

    @property
    def facts(self) -> MediaFacts | None:
        """What probing told of the file."""
        return self.media_file.facts if self.media_file else None

    @property
    def window(self) -> tuple[float | None, float | None]:
        """Start and end of the time window in seconds, None where it is open."""
        return self.clip.start_seconds, self.clip.end_seconds


@with_error_codes
def read_clip(clip: Clip, options: MediaOptions, hide: Subset = frozenset()) -> ClipContent:
    """Reads what the model can be shown of a clip.

    Args:
        clip: a media file, a time window of one, a heart record, a feature file, or words alone.
        options: how frames are sampled and what is cut.
        hide: modalities that are not read at all.

    Raises:
        MediaError: the file cannot be read, or nothing in it can be scored.
        TranscriptError: its transcript file cannot be read.
    """
    start = time.perf_counter()
    parts: dict[str, Part] = {}
    with _open(clip, options, hide) as source:
        for modality, reader in READERS.items():
            if modality in hide:
                continue
            part = reader.read(source)
            if source.features is not None:
                part = source.features.part(modality, part)
            if part is not None:
                parts[modality] = part
        _check_window(source, parts)
    content = ClipContent(
        clip=clip,
        sha256=clip_sha256(clip) or "",
        parts=parts,
        media=_summary(source),
        warnings=tuple(dict.fromkeys(source.warnings)),
        decode_seconds=time.perf_counter() - start,
    )
    if not parts and clip.path is None:
        message = f"{clip.name}: an empty transcript and no media; give one of them"
        raise MediaError(message, code="no_words")
    if not parts and not hide:
        reasons = f" ({'; '.join(content.warnings)})" if content.warnings else ""
        message = f"{clip.path}: nothing in it can be scored{reasons}"
        raise MediaError(message, code="nothing_to_score")
    return content


@contextmanager
def _open(clip: Clip, options: MediaOptions, hide: Subset) -> Iterator[OpenClip]:
    """The clip, opened and probed; of a feature file, with its content."""
    source = OpenClip(clip, options, Deadline(Path(clip.name), options.deadline_seconds))
    if clip.path is None or is_record(clip.path):
        yield source
    elif is_feature_file(clip.path):
        _add_features(source, hide)
        yield source
    else:
        with open_media(clip.path, source.deadline) as source.media_file:
            source.warnings += source.media_file.facts.warnings
            yield source


def _add_features(source: OpenClip, hide: Subset) -> None:
    clip = source.clip
    assert clip.path is not None
    if window_of(clip):
        raise MediaError(
            f"{clip.name}: features have no times to cut a window by; give the file without "
            "start_seconds and end_seconds",
            code="features",
        )
    source.features = read_features(clip.path, hide)
    source.warnings += source.features.warnings
    source.media |= source.features.summary()


def _summary(source: OpenClip) -> dict[str, Any]:
    """The record's `media` object: decoded facts first, the header's claim under its own name."""
    if source.facts is None:
        return source.media
    start, end = source.window
    duration: float | None = None
    if source.ends_seconds:
        last = float(max(source.ends_seconds))
        duration = round((last if end is None else min(last, end)) - (start or 0.0), 3)
    return {
        "duration_seconds": duration,
        "duration_from_header_seconds": source.facts.duration_from_header_seconds,
        "container": source.facts.container,
    } | source.media


def _check_window(source: OpenClip, parts: dict[str, Part]) -> None:
    """A window that begins after the clip has ended is a mistake in the manifest.

    When sound ends, only the header claims: what was read is believed before it.
    """
    clip, facts = source.clip, source.facts
    if facts is None or not clip.start_seconds or parts.keys() & {"video", "audio"}:
        return
    end = facts.video.end_seconds if facts.video else 0.0
    if facts.audio or not facts.video:
        end = max(end, facts.duration_from_header_seconds or inf)
    if clip.start_seconds >= end:
        raise MediaError(
            f"{clip.name}: the window starts at {clip.start_seconds:g} s, but the file ends at "
            f"{end:.2f} s; correct start_seconds",
            code="window",
        )


# --- one reader a modality ---------------------------------------------------------------------


def read_video(source: OpenClip) -> Frames | None:
    """Sampled frames; None, with a warning, when they fail and the clip has sound to score."""
    file, options = source.media_file, source.options
    if file is None or (track := file.facts.video) is None:
        return None
    source.media["frame_reader"] = options.decoder
    try:
        plan = plan_frames(track, options, *source.window)
        reading = FRAME_READERS[options.decoder](file, plan, source.deadline)
    except MediaError as error:
        if file.facts.audio is None:
            _check_window(source, {})
            raise
        source.warnings.append(f"scored without video: {error}")
        return None
    source.warnings += [*plan.warnings, *reading.warnings]
    num_frames, height, width, _ = reading.rgb.shape
    source.ends_seconds.append(track.end_seconds)
    source.media |= {
        "num_frames": num_frames,
        "num_frames_in_file": track.num_frames,
        "frame_width": width,
        "frame_height": height,
        "seconds_per_frame": round(plan.seconds_per_frame, 4),
        "video_codec": track.codec,
        "rotation_degrees": track.rotation_degrees,
        "frame_reader": reading.reader,
    }
    return Frames(reading.rgb, reading.pts_seconds, plan.seconds_per_frame, f"track {track.index}")


def read_audio(source: OpenClip) -> Waveform | None:
    """The sound; None when nothing of it decodes."""
    file = source.media_file
    if file is None or (track := file.facts.audio) is None:
        return None
    samples, source.media["audio_reader"], warnings = read_waveform(
        file, source.options, source.window, source.deadline
    )
    source.warnings += warnings
    if samples is None:
        return None
    samples = denoise(source.options.denoise, samples, source.deadline)
    sound = Waveform(samples, f"track {track.index}")
    start_seconds = max(track.start_seconds, source.clip.start_seconds or 0.0)
    source.ends_seconds.append(start_seconds + sound.duration_seconds)
    source.media |= {
        "sample_rate": SAMPLE_RATE,
        "audio_seconds": round(sound.duration_seconds, 3),
        "audio_codec": track.codec,
        "sample_rate_in_file": track.sample_rate,
        "denoise": source.options.denoise,
    }
    return sound


def read_text(source: OpenClip) -> Transcript | None:
    """The first that exists: the clip's `transcript`, a file beside it, words inside it.

    A transcript without words counts as none; its warnings stay. One that differs from the first
    is named in a warning.
    """
    transcript: Transcript | None = None
    for read_words in (_own_words, _words_beside, _words_inside):
        if transcript is None:
            transcript = read_words(source)
        else:
            source.warnings += _difference(transcript, read_words, source)
    path, features = source.clip.path, source.features
    is_without = path is not None and is_record(path) or features and "text" in features.values
    if transcript is None and not is_without:
        source.warnings.append(NO_WORDS)
    if transcript is None or (source.clip.path is None and not transcript.text):
        return None
    source.warnings += transcript.warnings
    if not transcript.text:
        source.warnings.append(f"transcript without words: {transcript.source}")
        return None
    return transcript


def _own_words(source: OpenClip) -> Transcript | None:
    clip = source.clip
    if clip.transcript is None:
        return None
    return Transcript(clean_words(clip.transcript), clip.transcript_source)


def _words_beside(source: OpenClip) -> Transcript | None:
    if source.clip.path is None:
        return None
    return sidecar_transcript(source.clip.path, *source.window)


def _words_inside(source: OpenClip) -> Transcript | None:
    facts = source.facts
    if source.features is not None and source.features.words is not None:
        return Transcript(source.features.words, source.features.source)
    if facts is None or (track := facts.subtitles) is None:
        return None
    words = cues_to_text(list(track.cues), *source.window)
    return Transcript(words, f"subtitle track {track.index}", track.warnings)


def _difference(
    used: Transcript, read_words: Callable[[OpenClip], Transcript | None], source: OpenClip
) -> list[str]:
    """The warning that another source of the clip's words has others; it costs no clip its row."""
    try:
        other = read_words(source)
    except (TranscriptError, MediaError):
        return []
    # a .txt file has no times: of a window, it holds the words of the whole recording
    is_part = source.clip.is_window and other is not None and other.source.endswith(".txt")
    if other is None or same_words(used.text, other.text, is_part):
        return []
    names = {"option": "option text", "manifest": "manifest text"}
    name = names.get(used.source, used.source.removeprefix("sidecar "))
    return [f"words differ: {name} used, not {other.source.removeprefix('sidecar ')}"]


def read_ecg(source: OpenClip) -> Traces | None:
    """The heart record, over the clip's own time; None, with a warning, where one that lies beside
    the clip, or that its manifest names, cannot be read."""
    clip, record = source.clip, ecg_of(source.clip)
    if record is None:
        return None
    path, where = record
    start, end = clip.start_seconds or 0.0, clip.end_seconds
    if end is None and source.facts is not None:
        end = max(source.ends_seconds, default=_end_of(source.facts))
    limit = source.options.max_audio_seconds
    last = start + limit if end is None else min(max(end, start + FEWEST_SECONDS), start + limit)
    offset = clip.ecg_start_seconds
    try:
        reading = read_record(path, (start + offset, last + offset))
    except MediaError as error:
        if path == clip.path:
            raise
        source.warnings.append(f"scored without ecg: {error}")
        return None
    source.warnings += reading.warnings
    source.media |= reading.facts
    seconds = reading.traces.duration_seconds
    if end is not None and end - start > limit:
        source.warnings.append(f"ecg truncated: {limit:g} of {end - start:.1f} s shown")
    elif end is None and seconds >= limit:
        source.warnings.append(f"ecg truncated: beyond {limit:g} s nothing is shown")
    elif path != clip.path and end is not None and seconds < COVERED * (end - start):
        source.warnings.append(f"ecg covers {seconds:.1f} of {end - start:.1f} s")
    if path == clip.path:
        source.media |= {"duration_seconds": round(seconds, 3), "container": path.suffix[1:]}
    return replace(reading.traces, source=where)


def _end_of(facts: MediaFacts) -> float | None:
    """When a clip ends of which neither picture nor sound was read."""
    return facts.video.end_seconds if facts.video else facts.duration_from_header_seconds


@dataclass(frozen=True)
class PartReader:
    """The function that reads a modality of an open clip, and the class of its result."""

    part: type[Part]
    read: Callable[[OpenClip], Part | None]


READERS: dict[str, PartReader] = {
    "video": PartReader(Frames, read_video),
    "audio": PartReader(Waveform, read_audio),
    "text": PartReader(Transcript, read_text),
    "ecg": PartReader(Traces, read_ecg),  # last: it lasts as long as the others
}
