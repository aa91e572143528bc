"""Frames and subtitles through PyAV: the default reader.

Shapes: F sampled frames, h x w the planned size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from math import inf
from pathlib import Path
from typing import Any, Self

import numpy as np
from av.video.reformatter import Colorspace, Interpolation

from omni_msa.errors import MediaError
from omni_msa.foreign import MAX_TEXT_BYTES
from omni_msa.media.container import (
    LIBAV_ERRORS,
    NOT_DAMAGE,
    SEEK_BACK_SECONDS,
    SEEK_GAP_SECONDS,
    Deadline,
    check_regular,
    open_container,
)
from omni_msa.media.sampling import frame_indices_at
from omni_msa.media.versions import FileVersion
from omni_msa.values import Cue, FramePlan, VideoTrack

MAX_CUES = 100_000  # of a subtitle stream: thirty times those of a long film
DECODER_THREADS = 2  # a process; many clips in parallel beat many threads a clip
HD_HEIGHT = 720  # untagged video this tall is BT.709, smaller BT.601, as players assume
SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


@dataclass(frozen=True)
class FrameReading:
    """Frames as uint8 RGB [F, h, w, 3], their times, which library read them, and warnings."""

    rgb: np.ndarray
    pts_seconds: tuple[float, ...]
    reader: str
    warnings: tuple[str, ...] = ()


def read_frames(path: Path, track: VideoTrack, plan: FramePlan, deadline: Deadline) -> FrameReading:
    """The frame on screen at each planned moment, as displayed (rotated, square pixels).

    Raises:
        MediaError: nothing decodes, or the deadline has passed.
    """
    moments = np.array(plan.times_seconds)
    frame_times = track.pts_seconds[frame_indices_at(track.pts_seconds, moments)]
    pictures: list[np.ndarray] = []
    picture_times: list[float] = []
    current: tuple[float, Any] | None = None
    with _FrameDecoder(path, track, deadline) as decoder:
        if (first_frame := decoder.next()) is not None:  # the clock starts there; then it can seek
            decoder.push_back(first_frame)
        for frame_time in frame_times:
            decoder.skip_to(frame_time)
            while current is None or current[0] < frame_time - 1e-4:
                next_frame = decoder.next()
                if next_frame is None:
                    break
                if current is not None and next_frame[0] > frame_time + 1e-4:
                    decoder.push_back(next_frame)
                    break
                current = next_frame
            if current is None:
                break
            if picture_times and picture_times[-1] == current[0]:
                pictures.append(pictures[-1])
            else:
                pictures.append(to_rgb(current[1], plan.height, plan.width, track.rotation_degrees))
            picture_times.append(current[0])
    if not pictures:
        raise MediaError(f"{path}: its video track ({track.codec}) holds no frame that decodes")
    warnings = []
    if decoder.num_damaged:
        counts = f"{decoder.num_damaged} packets skipped, {decoder.num_decoded} frames decoded"
        warnings.append(f"damaged video: {counts}")
    # Half a frame off is no loss: interlaced video has a packet for each of a frame's two fields.
    frame_seconds = (track.end_seconds - float(track.pts_seconds[0])) / track.num_frames
    delays = [w - t for t, w in zip(picture_times, frame_times, strict=False)]
    num_others = sum(abs(delay) > 1.5 * frame_seconds + 1e-3 for delay in delays)
    if num_others or len(pictures) < len(moments):
        num_missing = num_others + len(moments) - len(pictures)
        warnings.append(f"missing frames: {num_missing} of {len(moments)}, the nearest shown")
    while len(pictures) < len(moments):
        pictures.append(pictures[-1])
        picture_times.append(picture_times[-1])
    return FrameReading(np.stack(pictures), tuple(picture_times), "pyav", tuple(warnings))


class _FrameDecoder:
    """Frames in presentation order with their times, skipping ahead over long gaps."""

    def __init__(self, path: Path, track: VideoTrack, deadline: Deadline) -> None:
        self.path = path
        self.deadline = deadline
        self._track = track
        self._pts = track.pts_seconds
        self._origin: float | None = None
        self._has_times = True
        self._seekable_from = 0.0  # seeking to what is before it lands there
        self._files = ExitStack()

    def __enter__(self) -> Self:
        self._start_over()
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def _start_over(self) -> None:
        """From the first frame on, which seeking does not reach in every file: opens it again."""
        self._files.close()
        self.container = self._files.enter_context(open_container(self.path))
        self.stream = self.container.streams[self._track.index]
        self.stream.thread_type = "AUTO"
        self.stream.codec_context.thread_count = DECODER_THREADS
        self.num_decoded = 0
        self.num_damaged = 0
        self._position = 0.0
        self._landing = inf  # of the last seek, where it is too late
        self._pending_frame: tuple[float, Any] | None = None
        self._frames = self._decode()

    def next(self) -> tuple[float, Any] | None:
        if self._pending_frame is not None:
            pending, self._pending_frame = self._pending_frame, None
            return pending
        frame = next(self._frames, None)
        if frame is None:
            return None
        seconds = self._seconds(frame)
        self.num_decoded += 1
        self._position = seconds
        return seconds, frame

    def push_back(self, frame: tuple[float, Any]) -> None:
        self._pending_frame = frame

    def skip_to(self, target: float) -> None:
        """Seeks when the target is far ahead; the frames before it need not be decoded.

        A seek that lands behind the target, as it may where the file has no index, is repeated
        further back; where none lands before it, all frames are decoded.
        """
        if (
            self._origin is None
            or not self._has_times
            or target < self._seekable_from
            or target - self._position < SEEK_GAP_SECONDS
        ):
            return
        for step_back in SEEK_BACK_SECONDS:
            try:
                seconds = max(target - step_back, 0.0) + self._origin
                offset = int(seconds / self.stream.time_base)
                self.container.seek(offset, stream=self.stream, backward=True)
                packets = self.container.demux(self.stream)
                keyframe = self._keyframe_before(target, packets)
            except NOT_DAMAGE:
                raise
            except LIBAV_ERRORS:
                self._landing = inf
                break
            self._pending_frame = None
            self._frames = self._decode_from(keyframe, packets) if keyframe else iter(())
            frame = self.next()
            if frame is not None and frame[0] <= target + 1e-4:
                self.push_back(frame)
                return
        self._seekable_from = self._landing
        self._start_over()

    def _keyframe_before(self, target: float, packets: Iterator[Any]) -> Any:
        """After a seek: the first keyframe, if it is shown by then; None if not.

        Where a file does not time every packet (MPEG-PS), the first ones may get wrong times, and
        all that are counted from them: a keyframe has to be one that the whole file has there.
        """
        for packet in packets:
            self.deadline.check()
            stamp = packet.pts if packet.pts is not None else packet.dts
            if not packet.size or not packet.is_keyframe or stamp is None:
                continue
            seconds = float(stamp * packet.time_base) - (self._origin or 0.0)
            if seconds > target + 1e-4:
                self._landing = seconds
                return None
            if np.abs(self._track.keyframe_seconds - seconds).min(initial=inf) < 1e-3:
                return packet
        self._landing = inf
        return None

    def _seconds(self, frame: Any) -> float:
        """Time on the presentation's clock; frames without one are counted."""
        if frame.pts is None:
            self._has_times = False
            return float(self._pts[min(self.num_decoded, len(self._pts) - 1)])
        timestamp = float(frame.pts * frame.time_base)
        if self._origin is None:
            # The first decoded frame is the first one shown, except after a damaged start.
            self._origin = timestamp - self._nearest(timestamp)
        return timestamp - self._origin

    def _nearest(self, timestamp: float) -> float:
        if self.num_damaged == 0:
            return float(self._pts[0])
        return float(self._pts[np.abs(self._pts - timestamp).argmin()])

    def _decode_from(self, keyframe: Any, packets: Iterator[Any]) -> Iterator[Any]:
        """From a keyframe on, without frames that are shown before it, whose references were not
        decoded."""
        start = keyframe.pts
        for frame in self._decode(chain([keyframe], packets)):
            if start is None or frame.pts is None or frame.pts >= start:
                yield frame

    def _decode(self, packets: Iterable[Any] | None = None) -> Iterator[Any]:
        try:
            for packet in packets or self.container.demux(self.stream):
                self.deadline.check()
                try:
                    yield from packet.decode()
                except MemoryError:
                    raise
                except LIBAV_ERRORS:
                    self.num_damaged += 1
        except NOT_DAMAGE:
            raise
        except LIBAV_ERRORS:
            self.num_damaged += 1


def to_rgb(frame: Any, height: int, width: int, rotation_degrees: int) -> np.ndarray:
    """One decoded frame -> uint8 RGB [height, width, 3] as displayed; scaled in the decoder."""
    inner = (width, height) if rotation_degrees in (90, 270) else (height, width)
    has_alpha = frame.format.name.startswith(
        ("rgba", "bgra", "argb", "abgr", "yuva", "gbrap", "ya", "pal8")
    )
    try:
        scaled = frame.reformat(
            width=inner[1],
            height=inner[0],
            format="rgba" if has_alpha else "rgb24",
            src_colorspace=_matrix(frame),
            interpolation=SCALING,
            threads=DECODER_THREADS,  # not one a core: each takes memory for its stack
        )
    except BlockingIOError as error:  # a thread could not be started
        raise MemoryError from error
    pixels = scaled.to_ndarray()
    if has_alpha:  # on white, as the reference does
        opacity = pixels[..., 3:].astype(np.uint16)
        pixels = ((pixels[..., :3] * opacity + 255 * (255 - opacity)) // 255).astype(np.uint8)
    return np.ascontiguousarray(np.rot90(pixels, rotation_degrees // 90))


def _matrix(frame: Any) -> Colorspace:
    """The YUV matrix that the frame names, else the one that players assume."""
    matrices = {1: Colorspace.ITU709, 4: Colorspace.FCC, 5: Colorspace.ITU601, 6: Colorspace.ITU601,
             7: Colorspace.SMPTE240M, 9: Colorspace.BT2020, 10: Colorspace.BT2020}  # fmt: skip
    matrix = matrices.get(int(frame.colorspace))
    if matrix is not None:
        return matrix
    return Colorspace.ITU709 if frame.height >= HD_HEIGHT else Colorspace.ITU601


def read_cues(path: Path, index: int, deadline: Deadline) -> tuple[list[Cue], list[str]]:
    """The subtitles of one embedded stream, in order, and warnings; what does not decode is left
    out. The last files are remembered, so that one is read once for the windows of a recording."""
    check_regular(path)
    return _read_cues(FileVersion.of(path, deadline), index)


@lru_cache(maxsize=4)
def _read_cues(file: FileVersion, index: int) -> tuple[list[Cue], list[str]]:
    cues: list[Cue] = []
    num_characters = 0
    with open_container(file.path) as container:
        stream = container.streams[index]
        try:
            for number, packet in enumerate(container.demux(stream)):
                if file.deadline is not None:
                    file.deadline.check()
                if not packet.size or packet.pts is None:
                    continue
                if number >= MAX_CUES or num_characters > MAX_TEXT_BYTES:
                    limits = f"{MAX_CUES:,} or {MAX_TEXT_BYTES // 10**6} MB"
                    return cues, [f"subtitles truncated: the first are used ({limits})"]
                start = float(packet.pts * packet.time_base)
                end = start + float((packet.duration or 0) * packet.time_base)
                text = "\n".join(_dialogues(packet))
                if text:
                    num_characters += len(text)
                    cues.append(Cue(start, max(end, start), text))
        except NOT_DAMAGE:
            raise
        except LIBAV_ERRORS:
            pass
    return cues, []


def _dialogues(packet: Any) -> list[str]:
    """The words of a packet's events; none where it does not decode."""
    if packet.size > MAX_TEXT_BYTES:
        return []
    try:
        return [text for subtitle in packet.decode() if (text := _dialogue(subtitle))]
    except MemoryError:
        raise
    except LIBAV_ERRORS:
        return []


def _dialogue(subtitle: Any) -> str:
    """The words of one subtitle event: libav gives text events as ASS dialogue lines."""
    raw = getattr(subtitle, "dialogue", None) or getattr(subtitle, "text", None) or b""
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
    return text.replace("\\N", "\n").replace("\\n", "\n").replace("\\h", " ").strip()
