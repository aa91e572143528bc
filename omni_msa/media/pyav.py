"""Frames through PyAV: the default reader.

Shapes: F sampled frames, h x w the planned size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any

import numpy as np
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter

from omni_msa.errors import MediaError
from omni_msa.media.container import LIBAV_ERRORS, NOT_DAMAGE, Deadline
from omni_msa.media.packets import Packets
from omni_msa.media.probe import Media
from omni_msa.media.sampling import frame_indices_at
from omni_msa.values import FramePlan, MediaFacts, VideoTrack

MAX_WAITING_FRAMES = 2  # of full size, to be scaled
HD_HEIGHT = 720  # untagged video this tall is BT.709, smaller BT.601, as players assume
SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


@dataclass(frozen=True)
class FrameReading:
    """Frames as uint8 RGB [F, h, w, 3], their times, which library read them, and warnings."""

    rgb: np.ndarray
    pts_seconds: tuple[float, ...]
    reader: str
    warnings: tuple[str, ...] = ()


def read_frames(media: Media, plan: FramePlan, deadline: Deadline) -> FrameReading:
    """The frame on screen at each planned moment, as displayed (rotated, square pixels).

    Only what these frames need is decoded, where the file tells what that is; else, and where that
    fails, everything up to the last of them.

    Raises:
        MediaError: nothing decodes, or the deadline has passed.
    """
    track = media.facts.video
    assert track is not None
    packets = media.packets[track.index]
    indices = frame_indices_at(track.pts_seconds, np.array(plan.times_seconds))

    draw = partial(to_rgb, VideoReformatter(), plan.height, plan.width, track.rotation_degrees)

    if (pictures := _read_needed(packets, indices, draw, deadline)) is not None:
        times = track.pts_seconds[indices]
        return FrameReading(np.stack(pictures), tuple(times.tolist()), "pyav")
    decoder = _FrameDecoder(packets, track, deadline)
    return _read_in_order(decoder, media.facts, track.pts_seconds[indices], draw)


def _read_needed(
    packets: Packets,
    indices: np.ndarray,
    draw: Callable[[Any], np.ndarray],
    deadline: Deadline,
) -> list[np.ndarray] | None:
    """The frames at these places of the shown ones, by as few packets as they need; None where that
    does not give every one of them."""
    if not packets.index.has_times:
        return None
    stamps = packets.index.shown_stamps[indices].tolist()
    runs = packets.index.runs(set(stamps))
    if runs is None:
        return None
    starts = {packets.index.stamps[first] for first, _ in runs}
    pictures: dict[int, Future[np.ndarray]] = {}
    waiting: deque[Future[np.ndarray]] = deque()
    latest = -inf
    try:
        with ThreadPoolExecutor(1) as scaler:  # while the next ones are decoded
            for frame in _decode_runs(packets, runs, set(stamps), deadline):
                is_keyframe = frame.key_frame or frame.pts not in starts
                is_whole = packets.index.has_fields or not frame.interlaced_frame
                if frame.pts is None or frame.pts <= latest or not (is_keyframe and is_whole):
                    return None  # the file's times or keyframes are none, or it begins otherwise
                latest = frame.pts
                if frame.pts in stamps:
                    pictures[frame.pts] = scaler.submit(draw, frame)
                    waiting.append(pictures[frame.pts])
                    if len(waiting) > MAX_WAITING_FRAMES:
                        waiting.popleft().result()
        return [pictures[stamp].result() for stamp in stamps]
    except NOT_DAMAGE:
        raise
    except (KeyError, *LIBAV_ERRORS):  # a frame did not come out, or did not decode
        return None


def _decode_runs(
    packets: Packets, runs: list[tuple[int, int]], stamps: Collection[int], deadline: Deadline
) -> Iterator[Any]:
    """Frames of the packets between each two places, without those that neither are wanted, by
    these stamps, nor needed by others."""
    for number, (first, last) in enumerate(runs):
        if number and not packets.joins(first):
            yield from packets.decode(None)
        for place, packet in enumerate(packets.from_keyframe(first, deadline) or (), first):
            if place > last or not packet.size:
                break
            deadline.check()
            if packet.pts in stamps or not packets.is_spare(place, packet):
                yield from packets.decode(packet)
    yield from packets.decode(None)


def _read_in_order(
    decoder: _FrameDecoder,
    facts: MediaFacts,
    frame_times: np.ndarray,
    draw: Callable[[Any], np.ndarray],
) -> FrameReading:
    """The frames at these times, or the nearest that decode, by decoding from the start on."""
    track = facts.video
    assert track is not None
    pictures: list[np.ndarray] = []
    picture_times: list[float] = []
    current: tuple[float, Any] | None = None
    for frame_time in frame_times:
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
            pictures.append(draw(current[1]))
        picture_times.append(current[0])
    if not pictures:
        raise MediaError(
            f"{facts.path}: its video track ({track.codec}) holds no frame that decodes"
        )
    warnings = []
    if decoder.num_damaged:
        counts = f"{decoder.num_damaged} packets skipped, {decoder.num_decoded} frames decoded"
        warnings.append(f"damaged video: {counts}")
    # Half a frame off is no loss: interlaced video has a packet for each of a frame's two fields.
    frame_seconds = (track.end_seconds - float(track.pts_seconds[0])) / track.num_frames
    delays = [w - t for t, w in zip(picture_times, frame_times, strict=False)]
    num_others = sum(abs(delay) > 1.5 * frame_seconds + 1e-3 for delay in delays)
    if num_others or len(pictures) < len(frame_times):
        num_missing = num_others + len(frame_times) - len(pictures)
        warnings.append(f"missing frames: {num_missing} of {len(frame_times)}, the nearest shown")
    while len(pictures) < len(frame_times):
        pictures.append(pictures[-1])
        picture_times.append(picture_times[-1])
    return FrameReading(np.stack(pictures), tuple(picture_times), "pyav", tuple(warnings))


class _FrameDecoder:
    """All frames in presentation order with their times."""

    def __init__(self, packets: Packets, track: VideoTrack, deadline: Deadline) -> None:
        self.deadline = deadline
        self.num_decoded = 0
        self.num_damaged = 0
        self._pts = track.pts_seconds
        self._is_timed = packets.index.is_timed
        self._origin: float | None = None
        self._pending_frame: tuple[float, Any] | None = None
        self._frames = self._decode(packets)

    def next(self) -> tuple[float, Any] | None:
        if self._pending_frame is not None:
            pending, self._pending_frame = self._pending_frame, None
            return pending
        frame = next(self._frames, None)
        if frame is None:
            return None
        seconds = self._seconds(frame)
        self.num_decoded += 1
        return seconds, frame

    def push_back(self, frame: tuple[float, Any]) -> None:
        self._pending_frame = frame

    def _seconds(self, frame: Any) -> float:
        """Time on the presentation's clock; frames without one are counted."""
        if frame.pts is None or not self._is_timed:
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

    def _decode(self, packets: Packets) -> Iterator[Any]:
        try:
            for packet in packets.from_start():
                self.deadline.check()
                try:
                    yield from packets.decode(packet)
                except MemoryError:
                    raise
                except LIBAV_ERRORS:
                    self.num_damaged += 1
        except NOT_DAMAGE:
            raise
        except LIBAV_ERRORS:
            self.num_damaged += 1


def to_rgb(
    reformatter: VideoReformatter, height: int, width: int, rotation_degrees: int, frame: Any
) -> np.ndarray:
    """One decoded frame -> uint8 RGB [height, width, 3] as displayed, by libav's own scaler; one
    is made for all frames of a clip."""
    inner = (width, height) if rotation_degrees in (90, 270) else (height, width)
    has_alpha = frame.format.name.startswith(
        ("rgba", "bgra", "argb", "abgr", "yuva", "gbrap", "ya", "pal8")
    )
    try:
        scaled = reformatter.reformat(
            frame,
            width=inner[1],
            height=inner[0],
            format="rgba" if has_alpha else "rgb24",
            src_colorspace=_matrix(frame),
            interpolation=SCALING,
            threads=1,  # beside the decoder's
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
