"""Sound through PyAV, from one moment to another: mono at 16 kHz.

Shapes: C channels, S samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, groupby, islice
from math import gcd, inf
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from omni_msa.errors import MediaError
from omni_msa.media.container import (
    LIBAV_ERRORS,
    SEEK_BACK_SECONDS,
    SEEK_GAP_SECONDS,
    Deadline,
    open_container,
)
from omni_msa.values import SAMPLE_RATE

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
    with open_container(path) as container:
        decoder = _SoundDecoder(container, container.streams[index], deadline)
        from_start = decoder.blocks()
        head = list(islice(from_start, HEAD_BLOCKS))
        blocks = None
        if start_seconds > SEEK_GAP_SECONDS:
            blocks = decoder.blocks_before(start_seconds, head)
        if blocks is None:  # nothing was sought, or the container did not move
            blocks = chain(head, from_start)
        span: list[_Block] = []
        for block in blocks:
            span.append(block)
            if block.place + len(block.samples) > stop_seconds * block.sample_rate:
                break
    warnings = []
    if decoder.num_damaged:
        warnings.append(f"{decoder.num_damaged} damaged audio packets were skipped")
    begin = span[0].place * SAMPLE_RATE // span[0].sample_rate if span else 0
    return _resample_blocks(span)[max(int(start_seconds * SAMPLE_RATE) - begin, 0) :], warnings


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
        if not head or head[0].pts_seconds is None:
            return None
        origin = head[0].pts_seconds
        for step_back in SEEK_BACK_SECONDS:
            seconds = max(start_seconds - WARM_UP_SECONDS - step_back, 0.0)
            try:
                offset = int((seconds + origin) / self.stream.time_base)
                self.container.seek(offset, stream=self.stream, backward=True)
            except LIBAV_ERRORS:
                return None
            blocks = self.blocks()
            block = next(blocks, None)
            if block is None or block.pts_seconds is None:
                continue
            place = _place(block.pts_seconds - origin, head)
            if place > (start_seconds - WARM_UP_SECONDS / 2) * block.sample_rate:
                continue
            self._num_samples = place + len(block.samples)
            return _in_phase(chain([replace(block, place=place)], blocks))
        return None

    def blocks(self) -> Iterator[_Block]:
        """What the container gives from where it stands."""
        try:
            for packet in self.container.demux(self.stream):
                self.deadline.check()
                try:
                    frames = packet.decode()
                except LIBAV_ERRORS:
                    self.num_damaged += 1
                    continue
                for frame in frames:
                    seconds = None if frame.pts is None else float(frame.pts * frame.time_base)
                    block = _Block(self._num_samples, frame.sample_rate, _mono(frame), seconds)
                    self._num_samples += len(block.samples)
                    yield block
        except MediaError:
            raise  # the deadline
        except LIBAV_ERRORS:
            self.num_damaged += 1


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


def _in_phase(blocks: Iterator[_Block]) -> Iterator[_Block]:
    """Without the first samples, up to one whose moment is a whole number of samples at 16 kHz."""
    first = next(blocks)
    period = first.sample_rate // gcd(first.sample_rate, SAMPLE_RATE)
    num_dropped = -first.place % period
    while num_dropped >= len(first.samples):
        num_dropped -= len(first.samples)
        first = next(blocks)
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
    return samples.mean(axis=0, dtype=np.float64).astype(np.float32)


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
