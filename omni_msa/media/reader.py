"""One clip, read once: probe, plan, frames, sound, words, each with where it came from."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from omni_msa.errors import MediaError
from omni_msa.media.decord import read_frames_decord
from omni_msa.media.identity import clip_sha256
from omni_msa.media.probe import probe
from omni_msa.media.pyav import Deadline, read_cues, read_frames
from omni_msa.media.sampling import plan_frames
from omni_msa.media.sound import read_waveform
from omni_msa.media.transcripts import clean_words, cues_to_text, sidecar_transcript
from omni_msa.modalities import MODALITIES, Subset
from omni_msa.options import MediaOptions
from omni_msa.values import (
    Clip,
    ClipContent,
    Frames,
    MediaFacts,
    Transcript,
    VideoTrack,
    Waveform,
)

FRAME_READERS: dict[str, Callable[..., Any]] = {"pyav": read_frames, "decord": read_frames_decord}


def read_clip(
    clip: Clip,
    options: MediaOptions,
    hide: Subset = frozenset(),
) -> ClipContent:
    """Reads what the model can be shown of a clip.

    Args:
        clip: a file, a time window of one, or words alone.
        options: how frames are sampled and what is cut.
        hide: modalities that are not read at all.

    Raises:
        MediaError: the file cannot be read, or nothing in it can be scored.
        TranscriptError: its transcript file cannot be read.
    """
    start = time.perf_counter()
    if clip.path is None:
        return _words_alone(clip, start)
    deadline = Deadline(clip.path, options.deadline_seconds)
    facts = probe(clip.path)
    warnings = list(facts.warnings)
    window = (clip.start_seconds, clip.end_seconds)
    _check_window(clip, facts)
    frames, waveform, readers = None, None, {}
    if facts.video is not None and "video" not in hide:
        frames, frame_reader, notes = _frames(facts, facts.video, options, window, deadline)
        readers["frame_reader"] = frame_reader
        warnings += notes
    if facts.audio is not None and "audio" not in hide:
        waveform, readers["audio_reader"], notes = read_waveform(
            facts, facts.audio, options, window, deadline
        )
        warnings += notes
    transcript = None
    if "text" not in hide:
        transcript, notes = find_words(clip, facts, deadline)
        warnings += notes
    content = ClipContent(
        clip=clip,
        sha256=clip_sha256(clip) or "",
        frames=frames,
        waveform=waveform,
        transcript=transcript,
        sources=_sources(facts, frames, waveform, transcript),
        media=_summary(facts, frames, waveform) | readers,
        warnings=tuple(dict.fromkeys(warnings)),
        decode_seconds=time.perf_counter() - start,
    )
    if not content.present and not hide:
        because = f" ({'; '.join(content.warnings)})" if content.warnings else ""
        raise MediaError(f"{clip.path}: nothing in it can be scored{because}")
    return content


def find_words(
    clip: Clip, facts: MediaFacts, deadline: Deadline
) -> tuple[Transcript | None, list[str]]:
    """The first that exists: given words, a file beside the clip, a subtitle stream inside it.

    A transcript without a word in it is no transcript; its warnings stay.
    """
    assert clip.path is not None
    found: Transcript | None = None
    if clip.transcript is not None:
        found = Transcript(clean_words(clip.transcript), clip.transcript_source)
    else:
        found = sidecar_transcript(clip.path, clip.start_seconds, clip.end_seconds)
        if found is None and facts.subtitle_index is not None:
            cues = read_cues(clip.path, facts.subtitle_index, deadline)
            words = cues_to_text(cues, clip.start_seconds, clip.end_seconds)
            found = Transcript(words, f"subtitle track {facts.subtitle_index}")
    if found is None:
        return None, []
    if not found.text:
        return None, [*found.warnings, f"transcript ({found.source}) holds no words"]
    return found, list(found.warnings)


def _words_alone(clip: Clip, start: float) -> ClipContent:
    words = clean_words(clip.transcript or "")
    if not words:
        raise MediaError(f"{clip.name}: an empty transcript and no media; give one of them")
    return ClipContent(
        clip=clip,
        sha256=clip_sha256(clip) or "",
        transcript=Transcript(words, clip.transcript_source),
        sources=dict.fromkeys(MODALITIES) | {"text": clip.transcript_source},
        decode_seconds=time.perf_counter() - start,
    )


def _check_window(clip: Clip, facts: MediaFacts) -> None:
    """A window that begins after the clip has ended is a mistake in the manifest."""
    end = facts.video.end_seconds if facts.video else facts.duration_from_header_seconds
    if clip.start_seconds and end is not None and clip.start_seconds >= end:
        raise MediaError(
            f"{clip.name}: the window starts at {clip.start_seconds:g} s, but the file ends at "
            f"{end:.2f} s; correct start_seconds"
        )


def _frames(
    facts: MediaFacts,
    track: VideoTrack,
    options: MediaOptions,
    window: tuple[float | None, float | None],
    deadline: Deadline,
) -> tuple[Frames | None, str, list[str]]:
    """Sampled frames; None, with the reason, when sound is left that can be scored without them."""
    try:
        planned = plan_frames(track, options, *window)
        rgb, times, notes = FRAME_READERS[options.decoder](facts.path, track, planned, deadline)
    except MediaError as error:
        if facts.audio is None:
            raise
        return None, options.decoder, [f"scored without video: {error}"]
    fallback = any(note.startswith("decord ") for note in notes)
    reader = "pyav" if fallback else options.decoder
    return Frames(rgb, times, planned.seconds_per_frame), reader, [*planned.warnings, *notes]


def _sources(
    facts: MediaFacts,
    frames: Frames | None,
    waveform: Waveform | None,
    transcript: Transcript | None,
) -> dict[str, str | None]:
    sources: dict[str, str | None] = dict.fromkeys(MODALITIES)
    if transcript is not None:
        sources["text"] = transcript.source
    if waveform is not None and facts.audio is not None:
        sources["audio"] = f"track {facts.audio.index}"
    if frames is not None and facts.video is not None:
        sources["video"] = f"track {facts.video.index}"
    return sources


def _summary(facts: MediaFacts, frames: Frames | None, waveform: Waveform | None) -> dict[str, Any]:
    """The record's `media` object: decoded facts first, the header's claim under its own name."""
    durations = [facts.video.end_seconds] if facts.video and frames else []
    if waveform is not None and facts.audio is not None:
        durations.append(facts.audio.start_seconds + waveform.duration_seconds)
    summary: dict[str, Any] = {
        "duration_seconds": round(max(durations), 3) if durations else None,
        "duration_from_header_seconds": facts.duration_from_header_seconds,
        "container": facts.container,
    }
    if frames is not None and facts.video is not None:
        num_frames, height, width, _ = frames.rgb.shape
        summary |= {
            "num_frames": num_frames,
            "num_frames_in_file": facts.video.num_frames,
            "frame_width": width,
            "frame_height": height,
            "seconds_per_frame": round(frames.seconds_per_frame, 4),
            "video_codec": facts.video.codec,
            "rotation_degrees": facts.video.rotation_degrees,
        }
    if waveform is not None and facts.audio is not None:
        summary |= {
            "sample_rate": 16_000,
            "audio_seconds": round(waveform.duration_seconds, 3),
            "audio_codec": facts.audio.codec,
            "sample_rate_in_file": facts.audio.sample_rate,
        }
    return summary
