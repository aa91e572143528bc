"""Sound through PyAV, from one moment to another: mono at 16 kHz.

Shapes: C channels, S samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, groupby, islice
from math import gcd, inf
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from omni_msa.media.container import (
    LIBAV_ERRORS,
    NOT_DAMAGE,
    SEEK_BACK_SECONDS,
    SEEK_GAP_SECONDS,
    Deadline,
    open_container,
)
from omni_msa.values import SAMPLE_RATE

MAX_BLOCKS = 100_000  # of one reading: five minutes in packets of three milliseconds
HEAD_BLOCKS = 8  # that tell how long blocks are
WARM_UP_SECONDS = 1.0  # decoded before a window: codecs and the resampler look back


def read_sound(
    path: Path,
    index: int,
    deadline: Deadline,
    start_seconds: float = 0.0,
    stop_seconds: float = inf,
) -> tuple[np.ndarray, list[str]]:
    """A track from one moment to another, both counted from its first sample.

    A late start is sought; what is read then equals what decoding from the beginning gives. Gaps
    between packets are closed up.

    Returns:
        mono samples at 16 kHz, float32 [S], S may be 0, and warnings.
    """
    span, warnings = None, list[str]()
    seeks = (True, False) if start_seconds > SEEK_GAP_SECONDS else (False,)
    for seek in seeks:
        if span is None:
            span, warnings = _read_span(path, index, deadline, (start_seconds, stop_seconds), seek)
    span = span or []
    begin = span[0].place * SAMPLE_RATE // span[0].sample_rate if span else 0
    return _resample_blocks(span)[max(int(start_seconds * SAMPLE_RATE) - begin, 0) :], warnings


def _read_span(
    path: Path, index: int, deadline: Deadline, span_seconds: tuple[float, float], seek: bool
) -> tuple[list[_Block] | None, list[str]]:
    """Blocks from shortly before a moment to a stop, and warnings.

    None where that moment is to be sought and cannot be; else what comes before it is decoded, and
    left out.
    """
    start_seconds, stop_seconds = span_seconds
    with open_container(path) as container:
        decoder = _SoundDecoder(container, container.streams[index], deadline)
        blocks: Iterator[_Block] | None
        if seek:
            head = list(islice(decoder.blocks(), HEAD_BLOCKS))
            blocks = decoder.blocks_before(start_seconds, head)
        else:
            blocks = _without_early(decoder.blocks(), start_seconds - WARM_UP_SECONDS)
        if blocks is None:
            return None, []
        warnings = []
        span: list[_Block] = []
        for block in blocks:
            span.append(block)
            if block.place + len(block.samples) > stop_seconds * block.sample_rate:
                break
            if len(span) >= MAX_BLOCKS:
                warnings.append(f"audio truncated: its first {MAX_BLOCKS:,} packets heard")
                break
    if decoder.num_damaged:
        warnings.append(f"damaged audio: {decoder.num_damaged} packets skipped")
    return span, warnings


@dataclass(frozen=True)
class _Block:
    """Mono samples of one decoded frame, and how many samples of the track come before them."""

    place: int
    sample_rate: int
    samples: np.ndarray
    pts_seconds: float | None = None


class _SoundDecoder:
    """Blocks of sound in order, from the start or from shortly before a moment."""

    def __init__(self, container: Any, stream: Any, deadline: Deadline) -> None:
        self.container = container
        self.stream = stream
        self.deadline = deadline
        self.num_damaged = 0
        self._num_samples = 0

    def blocks_before(self, start_seconds: float, head: list[_Block]) -> Iterator[_Block] | None:
        """Blocks from a second before that moment on, where the codec has nothing left to warm up,
        from a sample that a resampler meets which starts at the beginning. None: cannot seek."""
        if (origin := _origin(head)) is None:
            return None
        rate = head[0].sample_rate
        for step_back in SEEK_BACK_SECONDS:
            seconds = max(start_seconds - WARM_UP_SECONDS - step_back, 0.0)
            try:
                offset = int((seconds + origin) / self.stream.time_base)
                self.container.seek(offset, stream=self.stream, backward=True)
            except LIBAV_ERRORS:
                return None
            blocks = self.blocks()
            tail = list(islice(blocks, HEAD_BLOCKS))
            place = _place_of_run(tail, head, origin)
            if place is None or place > (start_seconds - WARM_UP_SECONDS / 2) * rate:
                continue
            self._num_samples = place
            run = []
            for block in tail:
                run.append(replace(block, place=self._num_samples))
                self._num_samples += len(block.samples)
            return _in_phase(chain(run, blocks))
        return None

    def blocks(self) -> Iterator[_Block]:
        """What the container gives from where it stands."""
        try:
            for packet in self.container.demux(self.stream):
                self.deadline.check()
                try:
                    frames = packet.decode()
                except MemoryError:
                    raise
                except LIBAV_ERRORS:
                    self.num_damaged += 1
                    continue
                for frame in frames:
                    seconds = None if frame.pts is None else float(frame.pts * frame.time_base)
                    block = _Block(self._num_samples, frame.sample_rate, _mono(frame), seconds)
                    self._num_samples += len(block.samples)
                    yield block
        except NOT_DAMAGE:
            raise
        except LIBAV_ERRORS:
            self.num_damaged += 1


def _origin(head: list[_Block]) -> float | None:
    """When the track's first sample is played, as most of the first blocks say: the very first may
    carry a time from before the start, or none."""
    origins = [
        block.pts_seconds - block.place / block.sample_rate
        for block in head
        if block.pts_seconds is not None
    ]
    return float(np.median(origins)) if origins else None


def _place_of_run(tail: list[_Block], head: list[_Block], origin: float) -> int | None:
    """Where a run of blocks begins: as most of them say, since the first after a seek may carry the
    time of a block that was cut. None where they carry no times."""
    votes: Counter[int] = Counter()
    num_before = 0
    for block in tail:
        if block.pts_seconds is not None:
            votes[_place(block.pts_seconds - origin, head) - num_before] += 1
        num_before += len(block.samples)
    return votes.most_common(1)[0][0] if votes else None


def _place(seconds: float, head: list[_Block]) -> int:
    """Samples before a block that begins so many seconds after the first one.

    Some containers round times to milliseconds. Where blocks are of one length, as in most codecs,
    the place is a whole number of them behind the first, which may have been cut.
    """
    rate, lengths = head[0].sample_rate, {len(block.samples) for block in head[1:]}
    place = round(seconds * rate)
    if len(lengths) != 1 or max(lengths) < rate // 500:
        return place
    first, length = len(head[0].samples), max(lengths)
    return max(first + round((place - first) / length) * length, 0)


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
