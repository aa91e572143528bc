"""Sound through PyAV, from one moment to another: mono at 16 kHz.

Shapes: C channels, S samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, groupby, islice
from math import gcd
from typing import Any

import numpy as np
import soxr

from omni_msa.media.container import (
    LIBAV_ERRORS,
    NOT_DAMAGE,
    SEEK_BACK_SECONDS,
    SEEK_GAP_SECONDS,
    Deadline,
)
from omni_msa.media.packets import Packets
from omni_msa.values import SAMPLE_RATE

MAX_BLOCKS = 100_000  # of one reading: five minutes in packets of three milliseconds
HEAD_BLOCKS = 8  # that tell how long blocks are
WARM_UP_SECONDS = 1.0  # decoded before a window: codecs and the resampler look back
LOOK_AHEAD_SECONDS = 0.1  # read beyond a window, for the resampler
GAP_SECONDS = 0.1  # of no packets, from which on silence is heard: less is rounding, or a late one


def read_sound(
    packets: Packets, deadline: Deadline, start_seconds: float, stop_seconds: float
) -> tuple[np.ndarray, list[str]]:
    """A track from one moment to another or a little later, counted from its first sample.

    A late start is sought; what is read then equals what decoding from the beginning gives. Where
    the file has no sound for a while, there is silence, as in a player.

    Returns:
        mono samples at 16 kHz, float32 [S], S may be 0, and warnings.
    """
    span, warnings = None, list[str]()
    seeks = (True, False) if start_seconds > SEEK_GAP_SECONDS else (False,)
    for seek in seeks:
        if span is None:
            span, warnings = _read_span(packets, deadline, (start_seconds, stop_seconds), seek)
    span = span or []
    silent_seconds = sum(
        min(block.end_seconds, stop_seconds) - max(block.begin_seconds, start_seconds)
        for block in span
        if block.is_gap and block.end_seconds > start_seconds and block.begin_seconds < stop_seconds
    )
    if silent_seconds:
        warnings.append(f"sound with gaps: {silent_seconds:.2f} s of silence put in")
    begin = span[0].place * SAMPLE_RATE // span[0].sample_rate if span else 0
    return _resample_blocks(span)[max(int(start_seconds * SAMPLE_RATE) - begin, 0) :], warnings


def _read_span(
    packets: Packets, deadline: Deadline, span_seconds: tuple[float, float], seek: bool
) -> tuple[list[_Block] | None, list[str]]:
    """Blocks from shortly before a moment to shortly after another, and warnings.

    None where the first is to be sought and cannot be; else what comes before it is decoded, and
    left out.
    """
    start_seconds = span_seconds[0] - WARM_UP_SECONDS
    stop_seconds = span_seconds[1] + LOOK_AHEAD_SECONDS
    decoder = _SoundDecoder(packets, deadline)
    through = decoder.blocks(packets.from_start())
    if not (head := list(islice(through, HEAD_BLOCKS))):
        return [], decoder.warnings()
    clock = _TrackClock.of(head)
    blocks = decoder.blocks_before(start_seconds, clock) if seek else chain(head, through)
    if blocks is None:
        return None, []
    warnings = []
    span: list[_Block] = []
    blocks = _with_silence(blocks, clock, start_seconds, stop_seconds)
    for block in _without_early(blocks, start_seconds):
        span.append(block)
        if block.end_seconds > stop_seconds:
            break
        if len(span) >= MAX_BLOCKS:
            warnings.append(f"audio truncated: its first {MAX_BLOCKS:,} packets heard")
            break
    return span, [*warnings, *decoder.warnings()]


@dataclass(frozen=True)
class _Block:
    """Mono samples of one decoded frame, or of a gap, and how many of the track come before."""

    place: int
    sample_rate: int
    samples: np.ndarray
    pts_seconds: float | None = None
    is_gap: bool = False

    @property
    def begin_seconds(self) -> float:
        return self.place / self.sample_rate

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.sample_rate

    @property
    def end_seconds(self) -> float:
        return self.begin_seconds + self.seconds


@dataclass(frozen=True)
class _TrackClock:
    """How the times of a track's blocks become numbers of samples.

    Some containers round times to milliseconds. Where blocks are of one length, as in most codecs,
    the place of one is a whole number of them behind the first, which may have been cut.
    `origin_seconds` is when the first sample is played; None in files without times.
    """

    origin_seconds: float | None
    sample_rate: int
    first_length: int
    length: int | None  # of every other block; None where they differ

    @classmethod
    def of(cls, head: list[_Block]) -> _TrackClock:
        """The clock by a track's first blocks, of which the very first may carry a time from before
        the start, or none, and of which the last ones may come after a gap."""
        rate, lengths = head[0].sample_rate, {len(block.samples) for block in head[1:]}
        is_regular = len(lengths) == 1 and max(lengths) >= rate // 500
        length = max(lengths) if is_regular else None
        origins = [b.pts_seconds - b.begin_seconds for b in head if b.pts_seconds is not None]
        tolerance = GAP_SECONDS + max(len(block.samples) for block in head) / rate
        origin = float(np.median(_near_least(origins, tolerance))) if origins else None
        return cls(origin, rate, len(head[0].samples), length)

    def place(self, block: _Block) -> int | None:
        """How many samples come before a block, by its time; None where it has none."""
        if self.origin_seconds is None or block.pts_seconds is None:
            return None
        place = round((block.pts_seconds - self.origin_seconds) * self.sample_rate)
        if self.length is not None:
            num_blocks = round((place - self.first_length) / self.length)
            place = max(self.first_length + num_blocks * self.length, 0)
        return round(place * block.sample_rate / self.sample_rate)

    def lead_seconds(self, block: _Block | None) -> float | None:
        """How much later a block is played than when the blocks before it have ended."""
        if block is None or (place := self.place(block)) is None:
            return None
        return (place - block.place) / block.sample_rate

    def place_of_run(self, run: list[_Block]) -> int | None:
        """Where a run of blocks begins: as most of them say, since the first after a seek may carry
        the time of a block that was cut, and there may be a gap in it."""
        places = []
        num_before = 0
        for block in run:
            if (place := self.place(block)) is not None:
                places.append(place - num_before)
            num_before += len(block.samples)
        if not places:
            return None
        tolerance = GAP_SECONDS * run[0].sample_rate + max(len(block.samples) for block in run)
        return Counter(_near_least(places, tolerance)).most_common(1)[0][0]


def _near_least(values: list[Any], tolerance: float) -> list[Any]:
    return [value for value in values if value <= min(values) + tolerance]


class _SoundDecoder:
    """Blocks of sound in order, from the start or from before a moment."""

    def __init__(self, packets: Packets, deadline: Deadline) -> None:
        self.packets = packets
        self.deadline = deadline
        self.num_damaged = 0
        self._num_samples = 0
        self._sample_rate = 0

    def blocks_before(self, seconds: float, clock: _TrackClock) -> Iterator[_Block] | None:
        """Blocks from before that moment, or from just behind it, on. None: cannot seek."""
        if clock.origin_seconds is None:
            return None
        for step_back in SEEK_BACK_SECONDS:
            moment = max(seconds - step_back, 0.0) + clock.origin_seconds
            if (packets := self.packets.before(moment)) is None:
                return None
            self.num_damaged = 0
            blocks = self.blocks(packets, is_sought=True)
            tail = list(islice(blocks, HEAD_BLOCKS))
            place = clock.place_of_run(tail)
            if place is None or place > (seconds + WARM_UP_SECONDS / 2) * tail[0].sample_rate:
                continue
            self._num_samples = place
            run = []
            for block in tail:
                run.append(replace(block, place=self._num_samples))
                self._num_samples += len(block.samples)
            return chain(run, blocks)
        return None

    def blocks(self, packets: Iterator[Any], is_sought: bool = False) -> Iterator[_Block]:
        """What these packets hold; after a seek, they may begin within a packet, and what does not
        decode at first is not damaged."""
        is_whole = not is_sought
        try:
            for packet in packets:
                self.deadline.check()
                try:
                    frames = self.packets.decode(packet)
                except MemoryError:
                    raise
                except LIBAV_ERRORS:
                    self.num_damaged += is_whole
                    continue
                for frame in frames:
                    is_whole = True
                    yield self._block(frame)
        except NOT_DAMAGE:
            raise
        except LIBAV_ERRORS:
            self.num_damaged += 1

    def warnings(self) -> list[str]:
        return [f"damaged audio: {self.num_damaged} packets skipped"] if self.num_damaged else []

    def _block(self, frame: Any) -> _Block:
        rate = frame.sample_rate
        if self._sample_rate not in (0, rate):  # what comes before, in samples of this rate
            self._num_samples = round(self._num_samples * rate / self._sample_rate)
        tick = frame.time_base  # of integers, one division rounds as a fraction would
        seconds = None if frame.pts is None else frame.pts * tick.numerator / tick.denominator
        block = _Block(self._num_samples, rate, _mono(frame), seconds)
        self._num_samples += len(block.samples)
        self._sample_rate = rate
        return block


def _with_silence(
    blocks: Iterator[_Block], clock: _TrackClock, start_seconds: float, stop_seconds: float
) -> Iterator[_Block]:
    """Blocks on the presentation's clock: silence where the file has no sound for a while.

    Of the silence, what lies between the two moments is made, and a sample more. One block whose
    time is late among others that are not is no gap.
    """
    silent_seconds = 0.0
    block = next(blocks, None)
    while block is not None:
        following = next(blocks, None)
        leads = [lead for b in (block, following) if (lead := clock.lead_seconds(b)) is not None]
        rate = block.sample_rate
        begin = block.place + round(silent_seconds * rate)
        if min(leads, default=0.0) - silent_seconds > max(GAP_SECONDS, 0.75 * block.seconds):
            silent_seconds = leads[0]
            end = block.place + round(silent_seconds * rate)
            first, last = max(begin, int(start_seconds * rate)), int(stop_seconds * rate) + 1
            if first < min(end, last):
                silence = np.zeros(min(end, last) - first, np.float32)
                yield _Block(first, rate, silence, is_gap=True)
            begin = end
        yield block if block.place == begin else replace(block, place=begin)
        block = following


def _without_early(blocks: Iterator[_Block], seconds: float) -> Iterator[_Block]:
    """Without the blocks that end before a moment; they would fill the memory."""
    for block in blocks:
        if block.place + len(block.samples) > seconds * block.sample_rate:
            yield from chain([block], blocks) if seconds <= 0 else _in_phase(chain([block], blocks))


def _in_phase(blocks: Iterator[_Block]) -> Iterator[_Block]:
    """Without the first samples, up to one whose moment is a whole number of samples at 16 kHz."""
    if (first := next(blocks, None)) is None:
        return
    period = first.sample_rate // gcd(first.sample_rate, SAMPLE_RATE)
    num_dropped = -first.place % period
    while num_dropped >= len(first.samples):
        num_dropped -= len(first.samples)
        if (first := next(blocks, None)) is None:
            return
    yield replace(first, place=first.place + num_dropped, samples=first.samples[num_dropped:])
    yield from blocks


def _mono(frame: Any) -> np.ndarray:
    """One audio frame -> the mean of its channels, float32 [S] in about -1..1."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, len(frame.layout.channels)).T  # [C, S]
    if samples.dtype == np.uint8:
        samples = (samples.astype(np.float32) - 128) / 128
    elif samples.dtype.kind == "i":
        samples = samples.astype(np.float64) / 2 ** (8 * samples.dtype.itemsize - 1)
    return mean_of_channels(samples)


def mean_of_channels(samples: np.ndarray) -> np.ndarray:
    """[C, S] -> float32 [S]; a channel at a time, which is quick however few or many there are."""
    if len(samples) == 1:
        return samples[0].astype(np.float32)
    total = np.zeros(samples.shape[1])
    for channel in samples:
        total += channel
    return (total / len(samples)).astype(np.float32)


def _resample_blocks(blocks: list[_Block]) -> np.ndarray:
    """Runs of equal sample rate, each resampled to 16 kHz as librosa does (soxr, HQ)."""
    parts: list[np.ndarray] = []
    for rate, run in groupby(blocks, key=lambda block: block.sample_rate):
        parts.append(resample(np.concatenate([block.samples for block in run]), rate))
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def resample(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """float32 [S] at any rate -> at 16 kHz."""
    if sample_rate == SAMPLE_RATE or not len(samples):
        return samples
    return soxr.resample(samples, sample_rate, SAMPLE_RATE, quality="HQ").astype(np.float32)
