"""Which tracks of a file decode, and when each frame is shown.

The header is not trusted: times come from a scan of all packets, size and rotation from the first
decoded frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np

from omni_msa.errors import MediaError
from omni_msa.media.container import LIBAV_ERRORS, check_regular, explain, open_container, reason
from omni_msa.values import AudioTrack, MediaFacts, VideoTrack

MAX_FAILED_PACKETS = 50  # then a track counts as not decodable
DEFAULT_FRAME_RATE = 25.0  # frames a second, for raw streams without timestamps


@dataclass(frozen=True)
class PacketTimes:
    """Presentation times of one stream's packets, in seconds of the file's own clock."""

    pts_seconds: np.ndarray  # sorted
    end_seconds: float


def probe(path: Path) -> MediaFacts:
    """Scans one file: which tracks a player would use, and when each frame is shown.

    The last files are remembered, so that the windows of a long recording are scanned for once.

    Raises:
        MediaError: not a media file, or no track in it could be used at all.
    """
    check_regular(path)
    status = path.stat()
    if status.st_size == 0:
        raise MediaError(explain(path, OSError()))
    return _probe(path, (status.st_ino, status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=16)
def _probe(path: Path, version: tuple[int, int, int]) -> MediaFacts:
    warnings: list[str] = []
    with open_container(path) as container:
        video_stream = _pick_video(container, warnings)
        audio_stream = _pick_audio(container, warnings)
        subtitle = next((s.index for s in container.streams.subtitles), None)
        name = container.format.name
        duration = container.duration / av.time_base if container.duration else None
        video_index = video_stream.index if video_stream is not None else None
        audio_index = audio_stream.index if audio_stream is not None else None
        times = _scan(container, [i for i in (video_index, audio_index) if i is not None], warnings)
    starts = [t.pts_seconds[0] for t in times.values() if len(t.pts_seconds)]
    origin = min(starts, default=0.0)
    video = None
    if video_index is not None:
        video = _video_track(path, video_index, times[video_index], origin, warnings)
    audio = None
    if audio_index is not None:
        audio = _audio_track(path, audio_index, times[audio_index], origin, warnings)
    if video is None and audio is None and subtitle is None:
        description = _describe_tracks(video_index, audio_index, name)
        reasons = f" ({'; '.join(warnings)})" if warnings else ""
        raise MediaError(
            f"{path}: {description}{reasons}; a clip needs a picture or sound that decodes, "
            "not encrypted and not cut off"
        )
    return MediaFacts(path, name, video, audio, subtitle, duration, tuple(warnings))


def _describe_tracks(video: int | None, audio: int | None, container: str) -> str:
    if video is None and audio is None:
        return f"no video or audio stream in it ({container})"
    tracks = [n for n, i in (("video", video), ("audio", audio)) if i is not None]
    return f"it has {' and '.join(tracks)}, but nothing of it decodes"


def _pick_video(container: Any, warnings: list[str]) -> Any:
    """The picture a player shows: never cover art; the default track, else the largest."""
    cover_art = av.stream.Disposition.attached_pic
    pictures = [s for s in container.streams.video if not s.disposition & cover_art]
    streams = [s for s in pictures if s.codec_context]
    for stream in pictures:
        if stream not in streams:  # PyAV then gives no width either
            warnings.append(f"unknown codec: video track {stream.index}")
    if not streams:
        return None
    default = [s for s in streams if s.disposition & av.stream.Disposition.default]
    track = max(default or streams, key=lambda s: (s.width or 0) * (s.height or 0))
    if len(streams) > 1:
        warnings.append(f"several video tracks: track {track.index} of {len(streams)} used")
    return track


def _pick_audio(container: Any, warnings: list[str]) -> Any:
    """The sound a player plays: the default track, else the first with the most channels."""
    streams = list(container.streams.audio)
    if not streams:
        return None
    default = [s for s in streams if s.disposition & av.stream.Disposition.default]
    track = (default or streams)[0]
    if len(streams) > 1:
        warnings.append(f"several audio tracks: track {track.index} of {len(streams)} used")
    return track


def _scan(container: Any, indices: list[int], warnings: list[str]) -> dict[int, PacketTimes]:
    """Reads all packets of the streams, without decoding, for their times."""
    streams = [container.streams[i] for i in indices]
    pts: dict[int, list[float | None]] = {i: [] for i in indices}
    ends: dict[int, list[float]] = {i: [] for i in indices}
    if streams:
        try:
            for packet in container.demux(streams):
                if packet.size == 0 or packet.is_discard:
                    continue
                i = packet.stream_index
                stamp = packet.pts if packet.pts is not None else packet.dts
                seconds = None if stamp is None else float(stamp * packet.time_base)
                pts[i].append(seconds)
                if seconds is not None:
                    ends[i].append(seconds + float((packet.duration or 0) * packet.time_base))
        except LIBAV_ERRORS as error:
            warnings.append(f"file breaks off: what came before is used ({reason(error)})")
    rates = {s.index: _frame_rate_from_header(s) for s in streams}
    return {i: _times(pts[i], ends[i], rates[i]) for i in indices}


def _frame_rate_from_header(stream: Any) -> float:
    rate = getattr(stream, "average_rate", None) or getattr(stream, "guessed_rate", None)
    return float(rate) if rate else DEFAULT_FRAME_RATE


def _times(stamps: list[float | None], ends: list[float], rate: float) -> PacketTimes:
    """Sorted times; a stream without any is played at its stated rate from zero."""
    timestamps = sorted(s for s in stamps if s is not None)
    all_equal = len(timestamps) > 1 and timestamps[0] == timestamps[-1]
    if len(timestamps) < len(stamps) / 2 or all_equal:
        timestamps = [i / rate for i in range(len(stamps))]
        ends = []
    if not timestamps:
        return PacketTimes(np.array([]), 0.0)
    pts = np.array(timestamps)
    steps = np.diff(pts)
    usual_step = float(np.median(steps[steps > 0])) if (steps > 0).any() else 1.0 / rate
    end = max(ends, default=0.0)
    if end <= pts[-1]:
        end = float(pts[-1]) + usual_step
    return PacketTimes(pts, end)


def _video_track(
    path: Path, index: int, times: PacketTimes, origin: float, warnings: list[str]
) -> VideoTrack | None:
    """Facts of the picture from its first frame that decodes; None when none does."""
    with open_container(path) as container:
        stream = container.streams[index]
        codec = stream.codec_context.name
        frame = _first_frame(container, stream)
        if frame is None or not len(times.pts_seconds):
            warnings.append(f"scored without video: no frame of track {index} ({codec}) decodes")
            return None
        width, height = _display_size(stream, frame)
        rotation = int(round(frame.rotation / 90)) * 90 % 360
    if rotation in (90, 270):
        width, height = height, width
    pts = times.pts_seconds - origin
    return VideoTrack(index, codec, width, height, rotation, pts, times.end_seconds - origin)


def _display_size(stream: Any, frame: Any) -> tuple[int, int]:
    """Width and height with square pixels: the sample aspect ratio stretches the width."""
    aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    width = frame.width
    if aspect and aspect > 0 and 1 / 20 < aspect < 20:
        width = max(1, round(frame.width * float(aspect)))
    return width, frame.height


def _first_frame(container: Any, stream: Any) -> Any:
    num_failed = 0
    try:
        for packet in container.demux(stream):
            try:
                for frame in packet.decode():
                    return frame
            except LIBAV_ERRORS:
                num_failed += 1
                if num_failed > MAX_FAILED_PACKETS:
                    return None
    except LIBAV_ERRORS:
        return None
    return None


def _audio_track(
    path: Path, index: int, times: PacketTimes, origin: float, warnings: list[str]
) -> AudioTrack | None:
    """Facts of the sound from its first frame that decodes; None when none does."""
    with open_container(path) as container:
        stream = container.streams[index]
        codec = stream.codec_context.name if stream.codec_context else "unknown"
        frame = _first_frame(container, stream) if stream.codec_context else None
        if frame is None or not frame.sample_rate:
            warnings.append(f"scored without audio: no sound of track {index} ({codec}) decodes")
            return None
        start = float(times.pts_seconds[0]) - origin if len(times.pts_seconds) else 0.0
        channels, end = len(frame.layout.channels), times.end_seconds - origin
        return AudioTrack(index, codec, frame.sample_rate, channels, start, end)
