"""Which tracks of a file decode, and when each frame is shown.

The header is not trusted: times come from a scan of all packets, size and rotation from the first
decoded frame.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np

from omni_msa.errors import MediaError
from omni_msa.media.container import (
    LIBAV_ERRORS,
    NOT_DAMAGE,
    Deadline,
    check_regular,
    explain,
    open_container,
    reason,
)
from omni_msa.media.versions import FileVersion
from omni_msa.values import AudioTrack, MediaFacts, VideoTrack

MAX_PACKETS = 1_000_000  # that are looked at: four hours of video at 60 frames a second
# Where no frame can be sought, and how much is decoded at most: ten seconds of 1080p.
ANIMATIONS = ("gif", "apng", "webp_anim", "webp")
MAX_ANIMATED_PIXELS = 600_000_000
MAX_FAILED_PACKETS = 50  # then a track counts as not decodable
MAX_SILENT_PACKETS = 5_000  # the same, of packets that fail no more than they give frames
CHECK_PACKETS = 100  # between checks of the limits
SOUND_PACKETS = 1_000  # of the sound, whose start alone is needed
DEFAULT_FRAME_RATE = 25.0  # frames a second, for raw streams without timestamps


@dataclass(frozen=True)
class PacketTimes:
    """Presentation times of one stream's packets, in seconds of the file's own clock."""

    pts_seconds: np.ndarray  # sorted
    end_seconds: float
    keyframe_seconds: np.ndarray = field(default_factory=lambda: np.zeros(0))


def probe(path: Path, deadline: Deadline | None = None) -> MediaFacts:
    """Scans one file: which tracks a player would use, and when each frame is shown.

    The last files are remembered, so that the windows of a long recording are scanned for once.

    Raises:
        MediaError: not a media file, no track in it could be used at all, or the deadline passed.
    """
    check_regular(path)
    version = FileVersion.of(path, deadline)
    if version.size == 0:
        raise MediaError(explain(path, OSError()))
    return _probe(version)


@lru_cache(maxsize=16)
def _probe(file: FileVersion) -> MediaFacts:
    path, warnings = file.path, list[str]()
    with open_container(path) as container:
        video_stream = _pick_video(container, warnings)
        audio_stream = _pick_audio(container, warnings)
        subtitle = next((s.index for s in container.streams.subtitles), None)
        name = container.format.name
        duration = container.duration / av.time_base if container.duration else None
        scans = [
            _Scan(stream, limit)
            for stream, limit in ((video_stream, MAX_PACKETS + 1), (audio_stream, SOUND_PACKETS))
            if stream is not None
        ]
        _scan(container, scans, file.deadline, warnings)
        times = {scan.stream.index: scan.times() for scan in scans}
        starts = [t.pts_seconds[0] for t in times.values() if len(t.pts_seconds)]
        origin = min(starts, default=0.0)
        video: VideoTrack | None = None
        audio: AudioTrack | None = None
        for scan in scans:
            if scan.stream is video_stream:
                video = _video_track(scan, times[scan.stream.index], origin, warnings)
            else:
                audio = _audio_track(scan, times[scan.stream.index], origin, warnings)
    if video is not None and name in ANIMATIONS:
        _check_animation(path, video)
    if video is None and audio is None and subtitle is None:
        description = _describe_tracks(video_stream, audio_stream, name)
        reasons = f" ({'; '.join(warnings)})" if warnings else ""
        raise MediaError(
            f"{path}: {description}{reasons}; a clip needs a picture or sound that decodes, "
            "not encrypted and not cut off"
        )
    return MediaFacts(path, name, video, audio, subtitle, duration, tuple(warnings))


def _check_animation(path: Path, video: VideoTrack) -> None:
    """All of its frames up to the last one that is sampled have to be decoded."""
    if video.num_frames * video.width * video.height > MAX_ANIMATED_PIXELS:
        raise MediaError(
            f"{path}: its picture has {video.num_frames} frames of {video.width} x {video.height} "
            f"pixels; at most {MAX_ANIMATED_PIXELS:,} pixels in all are read of an animation: make "
            "it smaller, or a video of it",
            code="too_large",
        )


def _describe_tracks(video: Any, audio: Any, container: str) -> str:
    if video is None and audio is None:
        return f"no video or audio stream in it ({container})"
    tracks = [n for n, s in (("video", video), ("audio", audio)) if s is not None]
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


class _Scan:
    """What is learnt of one stream from its packets: their times, and the first frame."""

    def __init__(self, stream: Any, max_times: int) -> None:
        self.stream = stream
        self.codec = stream.codec_context.name if stream.codec_context else "unknown"
        self.first_frame: Any = None
        self._max_times = max_times
        self._num_packets = self._num_failed = 0
        self._is_decoding = stream.codec_context is not None
        # in ticks of the stream's clock, and seconds only at the end: there may be millions
        self._stamps, self._ends, self._keyframes = array("q"), array("q"), array("q")
        self._num_stamps = 0

    @property
    def is_complete(self) -> bool:
        """Whether more packets tell nothing more."""
        return not self._is_decoding and self._num_stamps >= self._max_times

    def add(self, packet: Any) -> None:
        """One packet of the stream, in the order of the file; an empty one is the end's."""
        if self._is_decoding:
            self._decode(packet)
        if packet.size == 0 or packet.is_discard or self._num_stamps >= self._max_times:
            return
        self._num_stamps += 1
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is not None:
            self._stamps.append(stamp)
            self._ends.append(stamp + (packet.duration or 0))
            if packet.is_keyframe:
                self._keyframes.append(stamp)

    def _decode(self, packet: Any) -> None:
        try:
            self.first_frame = next(iter(packet.decode()), None)
        except MemoryError:
            raise
        except LIBAV_ERRORS:
            self._num_failed += 1
        self._num_packets += 1
        self._is_decoding = (
            self.first_frame is None
            and self._num_failed <= MAX_FAILED_PACKETS
            and self._num_packets < MAX_SILENT_PACKETS
        )

    def times(self) -> PacketTimes:
        """Sorted times; a stream without any is played at its stated rate from zero."""
        tick, rate = self.stream.time_base, _frame_rate_from_header(self.stream)
        pts, keyframes = (
            np.sort(np.array(stamps, np.float64)) * tick.numerator / tick.denominator
            for stamps in (self._stamps, self._keyframes)
        )
        end = max(self._ends, default=0) * tick.numerator / tick.denominator
        all_equal = len(pts) > 1 and pts[0] == pts[-1]
        if len(pts) < self._num_stamps / 2 or all_equal:
            pts, end = np.arange(self._num_stamps) / rate, 0.0
        if not len(pts):
            return PacketTimes(pts, 0.0)
        steps = np.diff(pts)
        usual_step = float(np.median(steps[steps > 0])) if (steps > 0).any() else 1.0 / rate
        end = end if end > pts[-1] else float(pts[-1]) + usual_step
        return PacketTimes(pts, end, keyframes)


def _scan(
    container: Any, scans: list[_Scan], deadline: Deadline | None, warnings: list[str]
) -> None:
    """Reads the packets of the streams, and decodes them up to the first frame of each."""
    by_index = {scan.stream.index: scan for scan in scans}
    if not scans:
        return
    try:
        for number, packet in enumerate(container.demux([scan.stream for scan in scans])):
            by_index[packet.stream.index].add(packet)
            if number % CHECK_PACKETS:
                continue
            if deadline is not None:
                deadline.check()
            if number >= MAX_PACKETS:
                warnings.append(f"file truncated: its first {MAX_PACKETS:,} packets are used")
                return
            if all(scan.is_complete for scan in scans):
                return
    except NOT_DAMAGE:
        raise
    except LIBAV_ERRORS as error:
        warnings.append(f"file breaks off: what came before is used ({reason(error)})")


def _frame_rate_from_header(stream: Any) -> float:
    rate = getattr(stream, "average_rate", None) or getattr(stream, "guessed_rate", None)
    return float(rate) if rate else DEFAULT_FRAME_RATE


def _video_track(
    scan: _Scan, times: PacketTimes, origin: float, warnings: list[str]
) -> VideoTrack | None:
    """Facts of the picture from its first frame that decodes; None when none does."""
    stream, frame = scan.stream, scan.first_frame
    if frame is None or not len(times.pts_seconds):
        warnings.append(
            f"scored without video: no frame of track {stream.index} ({scan.codec}) decodes"
        )
        return None
    width, height = _display_size(stream, frame)
    rotation = int(round(frame.rotation / 90)) * 90 % 360
    if rotation in (90, 270):
        width, height = height, width
    return VideoTrack(
        stream.index,
        scan.codec,
        width,
        height,
        rotation,
        times.pts_seconds - origin,
        times.end_seconds - origin,
        times.keyframe_seconds - origin,
    )


def _display_size(stream: Any, frame: Any) -> tuple[int, int]:
    """Width and height with square pixels: the sample aspect ratio stretches the width."""
    aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    width = frame.width
    if aspect and aspect > 0 and 1 / 20 < aspect < 20:
        width = max(1, round(frame.width * float(aspect)))
    return width, frame.height


def _audio_track(
    scan: _Scan, times: PacketTimes, origin: float, warnings: list[str]
) -> AudioTrack | None:
    """Facts of the sound from its first frame that decodes; None when none does."""
    index, frame = scan.stream.index, scan.first_frame
    if frame is None or not frame.sample_rate:
        warnings.append(f"scored without audio: no sound of track {index} ({scan.codec}) decodes")
        return None
    start = float(times.pts_seconds[0]) - origin if len(times.pts_seconds) else 0.0
    return AudioTrack(index, scan.codec, frame.sample_rate, len(frame.layout.channels), start)
