"""Frames, sound and subtitles through PyAV: the default reader.

Shapes: F sampled frames, h x w the planned size, C channels, S samples.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from av.video.reformatter import Colorspace, Interpolation

from omni_msa.errors import MediaError
from omni_msa.media.probe import BROKEN, opened
from omni_msa.media.sampling import shown_at
from omni_msa.values import SAMPLE_RATE, Cue, FramePlan, VideoTrack

DECODER_THREADS = 2  # a process; many clips in parallel beat many threads a clip
SEEK_GAP_SECONDS = 4.0  # decoding through less than this is quicker than seeking
HD_HEIGHT = 720  # untagged video this tall is BT.709, smaller BT.601, as players assume
SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


class Deadline:
    """Raises once a clip has taken too long; asked between packets."""

    def __init__(self, path: Path, seconds: float) -> None:
        self.path = path
        self.seconds = seconds
        self.until = time.monotonic() + seconds

    def check(self) -> None:
        if time.monotonic() > self.until:
            raise MediaError(
                f"{self.path}: reading took longer than {self.seconds:.0f} s, given up"
            )


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
    targets = np.array(plan.times_seconds)
    wanted = track.pts_seconds[shown_at(track.pts_seconds, targets)]
    taken: list[np.ndarray] = []
    times: list[float] = []
    last: tuple[float, Any] | None = None
    num_decoded, damaged = 0, 0
    with opened(path) as container:
        stream = container.streams[track.index]
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = DECODER_THREADS
        decoding = _Decoding(container, stream, track, deadline)
        for target in wanted:
            decoding.skip_to(target)
            while last is None or last[0] < target - 1e-4:
                following = decoding.next()
                if following is None:
                    break
                if last is not None and following[0] > target + 1e-4:
                    decoding.give_back(following)
                    break
                last = following
            if last is None:
                break
            if times and times[-1] == last[0]:
                taken.append(taken[-1])
            else:
                taken.append(to_rgb(last[1], plan.height, plan.width, track.rotation_degrees))
            times.append(last[0])
        num_decoded, damaged = decoding.num_decoded, decoding.num_damaged
    if not taken:
        raise MediaError(f"{path}: its video track ({track.codec}) holds no frame that decodes")
    warnings = []
    if damaged:
        warnings.append(f"{damaged} damaged video packets skipped, {num_decoded} frames decoded")
    # Half a frame off is no loss: interlaced video has a packet for each of a frame's two fields.
    turn = (track.end_seconds - float(track.pts_seconds[0])) / track.num_frames
    missed = sum(w - t > 1.5 * turn + 1e-3 for t, w in zip(times, wanted, strict=False))
    if missed or len(taken) < len(targets):
        count = missed + len(targets) - len(taken)
        warnings.append(
            f"{count} of {len(targets)} sampled frames are missing: the ones before shown"
        )
    while len(taken) < len(targets):
        taken.append(taken[-1])
        times.append(times[-1])
    return FrameReading(np.stack(taken), tuple(times), "pyav", tuple(warnings))


class _Decoding:
    """Frames in presentation order with their times, skipping ahead over long gaps."""

    def __init__(self, container: Any, stream: Any, track: VideoTrack, deadline: Deadline) -> None:
        self.container = container
        self.stream = stream
        self.deadline = deadline
        self.num_decoded = 0
        self.num_damaged = 0
        self._pts = track.pts_seconds
        self._origin: float | None = None
        self._position = 0.0
        self._returned: tuple[float, Any] | None = None
        self._frames = self._decode()
        self._timed = True

    def next(self) -> tuple[float, Any] | None:
        if self._returned is not None:
            found, self._returned = self._returned, None
            return found
        frame = next(self._frames, None)
        if frame is None:
            return None
        seconds = self._seconds(frame)
        self.num_decoded += 1
        self._position = seconds
        return seconds, frame

    def give_back(self, frame: tuple[float, Any]) -> None:
        self._returned = frame

    def skip_to(self, target: float) -> None:
        """Seeks when the target is far ahead; the frames before it need not be decoded."""
        if self._origin is None or not self._timed or target - self._position < SEEK_GAP_SECONDS:
            return
        try:
            offset = int((target + self._origin) / self.stream.time_base)
            self.container.seek(offset, stream=self.stream, backward=True)
        except BROKEN:
            return  # this file cannot seek: it is decoded through
        self._returned = None
        self._frames = self._decode()

    def _seconds(self, frame: Any) -> float:
        """Time on the presentation's clock; frames without one are counted."""
        if frame.pts is None:
            self._timed = False
            return float(self._pts[min(self.num_decoded, len(self._pts) - 1)])
        own = float(frame.pts * frame.time_base)
        if self._origin is None:
            # The first decoded frame is the first one shown, except after a damaged start.
            self._origin = own - self._nearest(own)
        return own - self._origin

    def _nearest(self, own: float) -> float:
        if self.num_damaged == 0:
            return float(self._pts[0])
        return float(self._pts[np.abs(self._pts - own).argmin()])

    def _decode(self) -> Iterator[Any]:
        try:
            for packet in self.container.demux(self.stream):
                self.deadline.check()
                try:
                    yield from packet.decode()
                except BROKEN:
                    self.num_damaged += 1
        except MediaError:
            raise  # the deadline
        except BROKEN:
            self.num_damaged += 1


def to_rgb(frame: Any, height: int, width: int, rotation_degrees: int) -> np.ndarray:
    """One decoded frame -> uint8 RGB [height, width, 3] as displayed; scaled in the decoder."""
    inner = (width, height) if rotation_degrees in (90, 270) else (height, width)
    alpha = frame.format.name.startswith(
        ("rgba", "bgra", "argb", "abgr", "yuva", "gbrap", "ya", "pal8")
    )
    scaled = frame.reformat(
        width=inner[1],
        height=inner[0],
        format="rgba" if alpha else "rgb24",
        src_colorspace=_matrix(frame),
        interpolation=SCALING,
    ).to_ndarray()
    if alpha:  # over white, as the reference lays transparent pictures
        opacity = scaled[..., 3:].astype(np.uint16)
        scaled = ((scaled[..., :3] * opacity + 255 * (255 - opacity)) // 255).astype(np.uint8)
    return np.ascontiguousarray(np.rot90(scaled, rotation_degrees // 90))


def _matrix(frame: Any) -> Colorspace:
    """The YUV matrix that the frame names, else the one that players assume."""
    known = {1: Colorspace.ITU709, 4: Colorspace.FCC, 5: Colorspace.ITU601, 6: Colorspace.ITU601,
             7: Colorspace.SMPTE240M, 9: Colorspace.BT2020, 10: Colorspace.BT2020}  # fmt: skip
    named = known.get(int(frame.colorspace))
    if named is not None:
        return named
    return Colorspace.ITU709 if frame.height >= HD_HEIGHT else Colorspace.ITU601


def read_sound(
    path: Path, index: int, max_seconds: float, deadline: Deadline
) -> tuple[np.ndarray, list[str]]:
    """The first `max_seconds` of a track, mono at 16 kHz, and warnings: float32 [S], S may be 0."""
    blocks: list[tuple[int, np.ndarray]] = []
    seconds, damaged = 0.0, 0
    with opened(path) as container:
        stream = container.streams[index]
        try:
            for packet in container.demux(stream):
                deadline.check()
                try:
                    frames = packet.decode()
                except BROKEN:
                    damaged += 1
                    continue
                for frame in frames:
                    mono = _mono(frame)
                    blocks.append((frame.sample_rate, mono))
                    seconds += len(mono) / frame.sample_rate
                if seconds > max_seconds:
                    break
        except MediaError:
            raise  # the deadline
        except BROKEN:
            damaged += 1
    warnings = [f"{damaged} damaged audio packets were skipped"] if damaged else []
    return _resampled(blocks), warnings


def _mono(frame: Any) -> np.ndarray:
    """One audio frame -> the mean of its channels, float32 [S] in about -1..1."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, len(frame.layout.channels)).T  # [C, S]
    if samples.dtype == np.uint8:
        samples = (samples.astype(np.float32) - 128) / 128
    elif samples.dtype.kind == "i":
        samples = samples.astype(np.float64) / 2 ** (8 * samples.dtype.itemsize - 1)
    return samples.mean(axis=0, dtype=np.float64).astype(np.float32)


def _resampled(blocks: list[tuple[int, np.ndarray]]) -> np.ndarray:
    """Runs of equal sample rate, each resampled to 16 kHz as librosa does (soxr, HQ)."""
    parts: list[np.ndarray] = []
    start = 0
    for i in range(1, len(blocks) + 1):
        if i == len(blocks) or blocks[i][0] != blocks[start][0]:
            run = np.concatenate([samples for _, samples in blocks[start:i]])
            parts.append(resample(run, blocks[start][0]))
            start = i
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def resample(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """float32 [S] at any rate -> at 16 kHz."""
    if sample_rate == SAMPLE_RATE or not len(samples):
        return samples
    return soxr.resample(samples, sample_rate, SAMPLE_RATE, quality="HQ").astype(np.float32)


def read_cues(path: Path, index: int, deadline: Deadline) -> list[Cue]:
    """The subtitles of one embedded stream, in order; what does not decode is left out."""
    cues: list[Cue] = []
    with opened(path) as container:
        stream = container.streams[index]
        try:
            for packet in container.demux(stream):
                deadline.check()
                if not packet.size or packet.pts is None:
                    continue
                start = float(packet.pts * packet.time_base)
                end = start + float((packet.duration or 0) * packet.time_base)
                try:
                    decoded = packet.decode()
                except BROKEN:
                    continue
                for subtitle in decoded:
                    text = _dialogue(subtitle)
                    if text:
                        cues.append(Cue(start, max(end, start), text))
        except MediaError:
            raise  # the deadline
        except BROKEN:
            pass
    return cues


def _dialogue(subtitle: Any) -> str:
    """The words of one subtitle event: libav gives text events as ASS dialogue lines."""
    raw = getattr(subtitle, "dialogue", None) or getattr(subtitle, "text", None) or b""
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
    return text.replace("\\N", "\n").replace("\\n", "\n").replace("\\h", " ").strip()
