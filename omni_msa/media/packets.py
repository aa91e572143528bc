"""The packets of a file's streams: when each is shown, from which ones decoding can begin, and
which ones no other frame needs.

A file is gone through once. Its packets are kept while they are few, so that pictures, sound and
words are decoded without reading it again; those of a larger file are sought in it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from omni_msa.media.container import (
    LIBAV_ERRORS,
    NOT_DAMAGE,
    SEEK_BACK_SECONDS,
    Deadline,
    demux,
    open_container,
)
from omni_msa.media.layers import NEEDED, REFERENCE, RESTART

NO_STAMP = -(2**63)


@dataclass
class StreamIndex:
    """What is known of a stream's packets, in the order of the file, which is that of decoding.

    Times are in ticks of the stream's clock; a packet without a presentation time has its decoding
    time, or `NO_STAMP`.
    """

    time_base: Fraction  # seconds a tick
    rate: float  # frames a second, as the header says
    stamps: array[int] = field(default_factory=lambda: array("q"))
    is_keyframe: bytearray = field(default_factory=bytearray)
    is_shown: bytearray = field(default_factory=bytearray)  # 0: an edit list leaves its frame out
    layers: array[int] = field(default_factory=lambda: array("b"))  # see layers.py
    end: int = 0  # of the last frame that is shown
    num_unstamped: int = 0
    delay: int | None = None  # of the first packet, between decoding and showing
    is_reordered: bool = False  # not all have that delay
    can_jump: bool = True  # what a decoder has to know is in the header, or at every keyframe
    is_timed: bool = True  # times are those of showing, not of decoding
    has_fields: bool = False  # interlaced: a frame may be stored as two packets, one a field

    def add(self, packet: Any, layer: int) -> None:
        """The next packet of the file."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        self.num_unstamped += packet.pts is None
        if packet.pts is not None and packet.dts is not None:
            self.delay = packet.pts - packet.dts if self.delay is None else self.delay
            self.is_reordered |= packet.pts - packet.dts != self.delay
        self.stamps.append(NO_STAMP if stamp is None else stamp)
        self.is_keyframe.append(packet.is_keyframe)
        self.is_shown.append(not packet.is_discard)
        if stamp is not None and not packet.is_discard:
            self.end = max(self.end, stamp + (packet.duration or 0))
        self.layers.append(layer)
        if len(self.stamps) > 1 and packet.is_keyframe and packet.has_sidedata("new_extradata"):
            self.can_jump = False

    def __len__(self) -> int:
        return len(self.stamps)

    @cached_property
    def shown_stamps(self) -> np.ndarray:
        """When frames are shown, sorted, in ticks."""
        stamps = np.array(self.stamps, np.int64)
        return np.sort(stamps[np.array(self.is_shown, bool) & (stamps != NO_STAMP)])

    @cached_property
    def has_times(self) -> bool:
        """Whether the packets' own times can be used: at least half have one, and they differ."""
        stamps = self.shown_stamps
        all_equal = len(stamps) > 1 and stamps[0] == stamps[-1]
        return len(stamps) >= sum(self.is_shown) / 2 and not all_equal

    @property
    def start_seconds(self) -> float:
        """When its first frame is shown, on the file's own clock."""
        stamps = self.shown_stamps
        return float(stamps[0] * self.time_base) if len(stamps) else 0.0

    def seconds(self) -> tuple[np.ndarray, float]:
        """When frames are shown, sorted, and when the last one ends, on the file's own clock; a
        stream without times is played at its stated rate from zero."""
        tick = self.time_base
        pts = self.shown_stamps * tick.numerator / tick.denominator
        end = self.end * tick.numerator / tick.denominator
        if not self.has_times:
            pts, end = np.arange(sum(self.is_shown)) / self.rate, 0.0
        if not len(pts):
            return pts, 0.0
        steps = np.diff(pts)
        usual_step = float(np.median(steps[steps > 0])) if (steps > 0).any() else 1.0 / self.rate
        return pts, end if end > pts[-1] else float(pts[-1]) + usual_step

    def runs(self, stamps: set[int]) -> list[tuple[int, int]] | None:
        """Places [first, last] of the packets to decode for the frames with these stamps, in order.

        Each run begins at a keyframe that is shown before the frames that are wanted of it: those
        that are stored behind it and shown before may need packets before it. None where stamps do
        not tell packets apart.
        """
        if not (self.can_jump and self.is_timed and self.has_times) or self.num_unstamped:
            return None
        places = [place for place, stamp in enumerate(self.stamps) if stamp in stamps]
        if len(places) != len(stamps):
            return None
        runs: list[tuple[int, int]] = []
        for place in places:
            first = self.is_keyframe.rfind(1, 0, place + 1)
            while first >= 0 and self.stamps[first] > self.stamps[place]:
                first = self.is_keyframe.rfind(1, 0, first)
            if first < 0:
                return None
            last = place + self.has_fields
            if runs and first <= runs[-1][1]:
                runs[-1] = runs[-1][0], last
            else:
                runs.append((first, last))
        return runs

    @cached_property
    def spare_layer(self) -> int | None:
        """The frames of this layer are needed by no others; None where there is no such layer."""
        kinds = set(self.layers)
        highest = max((k if k >= 0 else REFERENCE - k for k in kinds), default=NEEDED)
        return highest if highest in kinds and not self.has_fields else None


@dataclass(frozen=True)
class OpenedStream:
    """A stream whose packets are in memory, and what its decoder made of the first ones."""

    stream: Any
    packets: list[Any]
    decoded: dict[Any, list[Any] | BaseException]


class Packets:
    """The packets of one stream, and the decoder that they are for; from the start or from any.

    Args:
        path: the file; it is opened again unless the packets are in memory.
        number: of the stream.
        files: what is opened is closed by it.
        opened: the stream where its packets are in memory.
    """

    def __init__(
        self,
        path: Path,
        number: int,
        index: StreamIndex,
        files: ExitStack,
        opened: OpenedStream | None = None,
    ) -> None:
        self.index = index
        self._path, self._number, self._files = path, number, files
        self._container: Any = None
        self._is_fresh, self._is_drained = True, False
        self._stream: Any = opened.stream if opened else None
        self._in_memory = opened.packets if opened else None
        self._decoded = dict(opened.decoded) if opened else {}

    def decode(self, packet: Any) -> list[Any]:
        """The frames that come out when the packets which were asked for last are given to the
        decoder in their order, and None behind them.

        Raises:
            LIBAV_ERRORS: it does not decode.
        """
        if packet is None:
            outcomes = [frames for frames in self._decoded.values() if isinstance(frames, list)]
            self._decoded.clear()
            self._is_drained = True
            return [*chain.from_iterable(outcomes), *self._stream.codec_context.decode(None)]
        outcome = self._decoded.pop(packet, None)
        if isinstance(outcome, BaseException):
            raise outcome
        return packet.decode() if outcome is None else outcome

    def joins(self, place: int) -> bool:
        """Whether the packets from there on can be given to the decoder right behind others, so
        that it need not be emptied between them."""
        is_restart = self._in_memory is not None and self.index.layers[place] == RESTART
        return is_restart and not self._decoded and not self._is_drained

    def is_spare(self, place: int, packet: Any) -> bool:
        """Whether a packet can be left out where its own frame is not wanted."""
        return self.index.layers[place] == self.index.spare_layer and packet not in self._decoded

    def from_start(self) -> Iterator[Any]:
        """All of them, for a decoder that has been given nothing yet; seeking does not reach the
        first one in every file, so that it is opened anew where that has been."""
        if self._in_memory is not None and self._is_fresh:
            return self._from_place(0)
        self._in_memory = None
        self._open()
        return demux(self._container, self._stream)

    def from_keyframe(self, place: int, deadline: Deadline) -> Iterator[Any] | None:
        """From that place on; None where the file cannot be sought there.

        A seek that lands behind it, as it may where the file has no index, is repeated further
        back. Where a file does not time every packet, the first ones after a seek may get wrong
        times, and all that are counted from them: one has to have the time it has in the whole.
        """
        if self._in_memory is not None:
            return self._from_place(place, self.joins(place))
        stamp = self.index.stamps[place]
        for step_back in SEEK_BACK_SECONDS:
            packets = self._sought(stamp * self.index.time_base - step_back)
            for packet in packets or ():
                deadline.check()
                if packet.is_keyframe and packet.pts is not None and packet.pts >= stamp:
                    if packet.pts > stamp:
                        break
                    return chain([packet], packets or ())
        return None

    def before(self, seconds: float) -> Iterator[Any] | None:
        """From shortly before a moment of the file's own clock, or shortly behind it; None where
        the file cannot be sought."""
        if self._in_memory is None:
            return self._sought(seconds)
        first = np.searchsorted(self.index.stamps, seconds / self.index.time_base, side="right")
        return self._from_place(max(int(first) - 1, 0))

    def _from_place(self, place: int, joins: bool = False) -> Iterator[Any]:
        """The decoder is made to forget what it was given, unless this goes on from there."""
        assert self._in_memory is not None
        if place or not self._is_fresh:
            self._decoded.clear()
            if not joins:
                self._stream.codec_context.flush_buffers()
                self._is_drained = False
        self._is_fresh = False
        return iter(self._in_memory[place:])

    def _open(self) -> None:
        if self._container is not None:
            self._container.close()
        self._container = self._files.enter_context(open_container(self._path))
        self._stream = self._container.streams[self._number]

    def _sought(self, seconds: Any) -> Iterator[Any] | None:
        if self._container is None:
            self._open()
        try:
            offset = int(max(seconds, self.index.start_seconds) / self.index.time_base)
            self._container.seek(offset, stream=self._stream, backward=True)
            return demux(self._container, self._stream)
        except NOT_DAMAGE:
            raise
        except LIBAV_ERRORS:
            return None
