"""Which packets of H.264 and HEVC no other frame needs, by the head of their first slice.

A picture with `nal_ref_idc` 0 (H.264, 7.4.1) is no reference. One of an HEVC type for a sub-layer's
non-reference pictures (H.265, 7.4.2.2: even and below 16) may still be a reference of higher
temporal layers. So each packet gets a layer: those of a stream's highest one can be left out.
Others are needed; an IDR picture is one behind which nothing needs what comes before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

NEEDED = -1  # by others, or it cannot be told
REFERENCE = -16  # minus its layer: needed by others, of that layer or above
RESTART = -2  # needed, but what comes before it is not from there on
START_CODE = b"\0\0\1"
MAX_UNITS = 32  # of a packet that are looked at: parameters and messages come before the slices


def layer_reader(codec_context: Any) -> Callable[[Any], int]:
    """A function that gives a packet's layer: 0 or more; or `NEEDED`, `RESTART`, or `REFERENCE`
    minus its layer."""
    read_layer = _LAYERS.get(codec_context.name if codec_context is not None else "")
    if read_layer is None:
        return lambda packet: NEEDED
    size = _length_size(codec_context.name, bytes(codec_context.extradata or b""))

    def of_packet(packet: Any) -> int:
        data = memoryview(packet)
        units = _by_length(data, size) if size else _by_start_code(data)
        for place in islice(units, MAX_UNITS):
            layer = read_layer(data, place)
            if layer is not None:
                return layer
        return NEEDED

    return of_packet


def _h264_layer(data: memoryview, place: int) -> int | None:
    """Of the unit at that place; None if it is no slice."""
    kind = data[place] & 31
    if kind == 5:
        return RESTART
    if kind != 1:
        return None
    return NEEDED if data[place] >> 5 & 3 else 0


def _hevc_layer(data: memoryview, place: int) -> int | None:
    kind = data[place] >> 1 & 63
    if kind > 31 or place + 1 >= len(data):
        return None
    if kind in (19, 20):
        return RESTART
    layer = (data[place + 1] & 7) - 1
    return REFERENCE - layer if kind % 2 or kind >= 16 else layer


_LAYERS = {"h264": _h264_layer, "hevc": _hevc_layer}


def _length_size(codec: str, extradata: bytes) -> int:
    """Bytes of the length before each unit; 0 where a start code stands between them."""
    place = {"h264": 4, "hevc": 21}[codec]
    # an early writer of HEVC put 0 there; a start code begins with two
    is_in_lengths = any(extradata[:2]) or extradata[2:3] > b"\1"
    is_in_lengths &= len(extradata) > place
    return (extradata[place] & 3) + 1 if is_in_lengths else 0


def _by_length(data: memoryview, size: int) -> Iterator[int]:
    """Where units begin that follow their length."""
    place = 0
    while place + size < len(data):
        length = int.from_bytes(data[place : place + size], "big")
        yield place + size
        place += size + length


def _by_start_code(data: memoryview) -> Iterator[int]:
    """Where units begin that follow a start code."""
    content = bytes(data)
    place = content.find(START_CODE)
    while 0 <= place < len(content) - len(START_CODE):
        yield place + len(START_CODE)
        place = content.find(START_CODE, place + len(START_CODE))
