"""Which tracks of a file decode, and when each frame is shown.

The header is not trusted: times come from a scan of all packets, size and rotation from the first
decoded frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
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
    demux,
    explain,
    open_container,
    reason,
)
from omni_msa.media.layers import layer_reader
from omni_msa.media.packets import OpenedStream, Packets, StreamIndex
from omni_msa.media.subtitles import CueScan
from omni_msa.media.versions import FileVersion
from omni_msa.values import AudioTrack, MediaFacts, VideoTrack

MAX_FILES = 16  # files of which facts are remembered
MAX_KEPT_BYTES = 64 * 2**20  # of a file's packets; else they are read again
PACKET_BYTES = 500  # that keeping a packet takes beside its data
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
class Media:
    """An open file: its facts, and the packets of the streams that are read, by their numbers."""

    facts: MediaFacts
    packets: Mapping[int, Packets]


@dataclass(frozen=True)
class _Knowledge:
    """What stays known of a file when it is closed."""

    facts: MediaFacts
    indexes: Mapping[int, StreamIndex]


_memory: dict[FileVersion, _Knowledge] = {}  # the oldest first


def probe(path: Path, deadline: Deadline | None = None) -> MediaFacts:
    """Scans one file: which tracks a player would use, and when each frame is shown.

    Raises:
        MediaError: not a media file, no track in it could be used at all, or the deadline passed.
    """
    with open_media(path, deadline) as media:
        return media.facts


@contextmanager
def open_media(path: Path, deadline: Deadline | None = None) -> Iterator[Media]:
    """A file, scanned from end to end: facts, and packets to decode.

    What was learnt of the last files is remembered, so that a long recording is scanned once for
    all of its windows; their packets are then sought in it.

    Raises:
        MediaError: not a media file, no track in it could be used at all, or the deadline passed.
    """
    check_regular(path)
    version = FileVersion.of(path)
    if version.size == 0:
        raise MediaError(explain(path, OSError()))
    opened: dict[int, OpenedStream] = {}
    with ExitStack() as files:
        if (knowledge := _memory.get(version)) is None:
            container = files.enter_context(open_container(path))
            knowledge, opened = _learn(path, container, deadline)
            _memory[version] = knowledge
            for oldest in list(_memory)[:-MAX_FILES]:
                _memory.pop(oldest, None)
        packets = {
            number: Packets(path, number, index, files, opened.get(number))
            for number, index in knowledge.indexes.items()
        }
        yield Media(knowledge.facts, packets)


def _learn(
    path: Path, container: Any, deadline: Deadline | None
) -> tuple[_Knowledge, dict[int, OpenedStream]]:
    """What one scan tells, and the streams where their packets are few enough to be kept."""
    warnings = list[str]()
    video_stream = _pick_video(container, warnings)
    audio_stream = _pick_audio(container, warnings)
    scans = []
    if video_stream is not None:
        scans.append(_Scan(video_stream))
    if audio_stream is not None:
        scans.append(_Scan(audio_stream, enough=SOUND_PACKETS))
    words = next(iter(container.streams.subtitles), None)
    cues = None if words is None else CueScan(words)
    is_whole = _scan(container, scans, cues, deadline, warnings)
    name = container.format.name
    seconds = {scan.stream.index: scan.index.seconds() for scan in scans}
    played = [seconds[s.index] for s in (video_stream, audio_stream) if s is not None]
    origin = min((pts[0] for pts, _ in played if len(pts)), default=0.0)
    video: VideoTrack | None = None
    audio: AudioTrack | None = None
    for scan in scans:
        pts_seconds, end_seconds = seconds[scan.stream.index]
        if scan.stream is video_stream:
            video = _video_track(scan, pts_seconds - origin, end_seconds - origin, warnings)
        elif scan.stream is audio_stream:
            audio = _audio_track(scan, pts_seconds - origin, warnings)
    if video is not None and name in ANIMATIONS:
        _check_animation(path, video)
        next(s for s in scans if s.stream is video_stream).index.can_jump = False
    if video is None and audio is None and cues is None:
        description = _describe_tracks(video_stream, audio_stream, name)
        reasons = f" ({'; '.join(warnings)})" if warnings else ""
        raise MediaError(
            f"{path}: {description}{reasons}; a clip needs a picture or sound that decodes, "
            "not encrypted and not cut off"
        )
    duration = container.duration / av.time_base if container.duration else None
    subtitles = None if cues is None else cues.track()
    facts = MediaFacts(path, name, video, audio, subtitles, duration, tuple(warnings))
    knowledge = _Knowledge(facts, {scan.stream.index: scan.index for scan in scans})
    opened = {
        scan.stream.index: OpenedStream(scan.stream, scan.packets, scan.decoded)
        for scan in scans
        if is_whole
    }
    return knowledge, opened


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
    """What is learnt of one stream from its packets: where they are, and the first frame."""

    def __init__(self, stream: Any, enough: int = MAX_PACKETS) -> None:
        self.stream = stream
        self.codec = stream.codec_context.name if stream.codec_context else "unknown"
        self.index = StreamIndex(stream.time_base, _frame_rate_from_header(stream))
        self.packets: list[Any] = []
        self.decoded: dict[Any, list[Any] | BaseException] = {}
        self.first_frame: Any = None
        self._enough = enough
        self._num_failed = 0
        self._is_decoding = stream.codec_context is not None
        self._layer = layer_reader(stream.codec_context)

    @property
    def is_complete(self) -> bool:
        """Whether more packets tell nothing more."""
        return not self._is_decoding and len(self.index) >= self._enough

    def add(self, packet: Any, is_kept: bool) -> None:
        """One packet of the stream, in the order of the file; an empty one is the end's."""
        if self._is_decoding:
            self._decode(packet)
        if packet.size:
            self.index.add(packet, self._layer(packet))
        if is_kept:
            self.packets.append(packet)

    def _decode(self, packet: Any) -> None:
        try:
            frames = self.decoded[packet] = packet.decode()
            self.first_frame = next(iter(frames), None)
        except MemoryError:
            raise
        except LIBAV_ERRORS as error:
            self.decoded[packet] = error
            self._num_failed += 1
        self._is_decoding = (
            self.first_frame is None
            and self._num_failed <= MAX_FAILED_PACKETS
            and len(self.decoded) < MAX_SILENT_PACKETS
        )


def _scan(
    container: Any,
    scans: list[_Scan],
    cues: CueScan | None,
    deadline: Deadline | None,
    warnings: list[str],
) -> bool:
    """Reads the packets of the streams, and decodes them up to the first frame of each.

    Returns:
        whether they keep all of them; else they keep none.
    """
    by_index = {scan.stream.index: scan for scan in scans}
    streams = [scan.stream for scan in scans] + ([] if cues is None else [cues.stream])
    if not streams:
        return True
    num_bytes, is_whole = 0, True
    try:
        for number, packet in enumerate(demux(container, *streams)):
            num_bytes += packet.size + PACKET_BYTES
            if is_whole and num_bytes > MAX_KEPT_BYTES:
                is_whole = False
                for scan in scans:
                    scan.packets.clear()
            if cues is not None and packet.stream.index == cues.stream.index:
                cues.add(packet)
            else:
                by_index[packet.stream.index].add(packet, is_whole)
            if number % CHECK_PACKETS:
                continue
            if deadline is not None:
                deadline.check()
            if number >= MAX_PACKETS:
                warnings.append(f"file truncated: its first {MAX_PACKETS:,} packets are used")
                return False
            if cues is None and all(scan.is_complete for scan in scans):
                return False
    except NOT_DAMAGE:
        raise
    except LIBAV_ERRORS as error:
        warnings.append(f"file breaks off: what came before is used ({reason(error)})")
    return is_whole


def _frame_rate_from_header(stream: Any) -> float:
    rate = getattr(stream, "average_rate", None) or getattr(stream, "guessed_rate", None)
    return float(rate) if rate else DEFAULT_FRAME_RATE


def _video_track(
    scan: _Scan, pts_seconds: np.ndarray, end_seconds: float, warnings: list[str]
) -> VideoTrack | None:
    """Facts of the picture from its first frame that decodes; None when none does."""
    stream, frame = scan.stream, scan.first_frame
    if frame is None or not len(pts_seconds):
        warnings.append(
            f"scored without video: no frame of track {stream.index} ({scan.codec}) decodes"
        )
        return None
    # frames that are stored in another order, in a container that has no times for that (AVI)
    scan.index.is_timed = scan.index.is_reordered or not stream.codec_context.has_b_frames
    scan.index.has_fields = bool(frame.interlaced_frame)
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
        pts_seconds,
        end_seconds,
    )


def _display_size(stream: Any, frame: Any) -> tuple[int, int]:
    """Width and height with square pixels: the sample aspect ratio stretches the width."""
    aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    width = frame.width
    if aspect and aspect > 0 and 1 / 20 < aspect < 20:
        width = max(1, round(frame.width * float(aspect)))
    return width, frame.height


def _audio_track(scan: _Scan, pts_seconds: np.ndarray, warnings: list[str]) -> AudioTrack | None:
    """Facts of the sound from its first frame that decodes; None when none does."""
    index, frame = scan.stream.index, scan.first_frame
    if frame is None or not frame.sample_rate:
        warnings.append(f"scored without audio: no sound of track {index} ({scan.codec}) decodes")
        return None
    start = float(pts_seconds[0]) if len(pts_seconds) else 0.0
    return AudioTrack(index, scan.codec, frame.sample_rate, len(frame.layout.channels), start)
