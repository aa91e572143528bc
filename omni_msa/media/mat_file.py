"""One matrix of numbers out of a MATLAB file of version 5 to 7.2: a field of a struct.

SciPy reads such files too, but follows cells within cells without end: a file of 1 MB then ends the
process, and a few packed bytes fill the memory. Here nothing but the one matrix is unpacked, within
stated limits. The format is that of MathWorks' "MAT-File Format", version 5: elements of a type, a
size and their bytes, of which a matrix is made too.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from omni_msa.errors import MediaError
from omni_msa.foreign import read_limited

MAX_BYTES = 64 * 1024**2  # of a file, and of all that is unpacked of it
MAX_ELEMENTS = 1_000  # beside each other
HEAD_BYTES = 128
BYTE_ORDERS = {b"IM": "<", b"MI": ">"}
VERSION_5, VERSION_7_3 = 0x0100, 0x0200
MATRIX, PACKED = 14, 15  # types of an element
NUMBERS = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
STRUCT, NUMERIC = 2, range(6, 16)  # classes of a matrix
COMPLEX = 0x08  # of its flags

Element = tuple[int, memoryview]  # its type, and what it holds


class _Matrix(NamedTuple):
    """A matrix before its content is looked at; `parts` are the elements behind its name."""

    kind: int
    is_complex: bool
    shape: tuple[int, ...]
    name: bytes
    parts: list[Element]


def read_matrix(path: Path, variable: str, field: str) -> np.ndarray:
    """The numbers of `variable.field`, with the shape that they have in the file.

    Raises:
        MediaError: it is no such file, too large, or holds no such numbers.
        ValueError: it is damaged or cut short.
        OSError: it cannot be opened.
    """
    data = read_limited(path, MAX_BYTES, MediaError)
    order = BYTE_ORDERS.get(data[126:128])
    version = struct.unpack_from(f"{order}H", data, 124)[0] if order else None
    if version == VERSION_7_3:
        raise MediaError(f"{path}: is a MATLAB file of version 7.3; save it with -v7")
    if order is None or version != VERSION_5:
        raise MediaError(f"{path}: is no MATLAB file of version 5 to 7.2")
    try:
        matrix = _variable(path, memoryview(data)[HEAD_BYTES:], order, variable)
        content = _field(matrix, order, field) if matrix else None
        if content is not None:
            return _numbers(path, _matrix(content, order), order, f"{variable}.{field}")
    except struct.error as error:
        raise ValueError(str(error)) from error
    raise MediaError(f"{path}: holds no struct {variable} with a field {field}")


def _elements(data: memoryview, order: str) -> Iterator[Element]:
    """The elements that stand in a row in these bytes."""
    place = 0
    for _ in range(MAX_ELEMENTS):
        if place + 8 > len(data):
            return
        kind, size = struct.unpack_from(f"{order}II", data, place)
        if kind >> 16:  # a short one: type and size in one word, its bytes in the other
            kind, size, start, end = kind & 0xFFFF, kind >> 16, place + 4, place + 8
        else:
            start = place + 8
            end = start + size + (0 if kind == PACKED else -size % 8)
        if start + size > min(len(data), end):
            raise ValueError(f"an element of {size:,} bytes where {len(data) - start:,} are left")
        yield kind, data[start : start + size]
        place = end
    raise ValueError(f"more than {MAX_ELEMENTS:,} elements")


def _variable(path: Path, data: memoryview, order: str, name: str) -> _Matrix | None:
    """The matrix of that name, wherever it stands in the file."""
    left = MAX_BYTES
    for kind, content in _elements(data, order):
        if kind == PACKED:
            unpacked = _unpacked(path, content, left)
            left -= len(unpacked)
            kind, content = next(_elements(unpacked, order), (0, unpacked))
        if kind != MATRIX:
            raise ValueError(f"an element of type {kind} where a matrix was expected")
        matrix = _matrix(content, order)
        if matrix.name == name.encode():
            return matrix
    return None


def _unpacked(path: Path, content: memoryview, max_bytes: int) -> memoryview:
    inflate = zlib.decompressobj()
    try:
        data = inflate.decompress(content, max_bytes + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(data) > max_bytes:
        raise MediaError(f"{path}: unpacks to more than {MAX_BYTES:,} bytes", code="too_large")
    if not inflate.eof:
        raise ValueError("a packed element is cut short")
    return memoryview(data)


def _matrix(content: memoryview, order: str) -> _Matrix:
    (_, flags), (_, sizes), (_, name), *parts = _elements(content, order)
    (word,) = struct.unpack_from(f"{order}I", flags)
    shape = struct.unpack(f"{order}{len(sizes) // 4}i", sizes)
    return _Matrix(word & 0xFF, bool(word >> 8 & COMPLEX), shape, bytes(name), parts)


def _field(matrix: _Matrix, order: str, name: str) -> memoryview | None:
    """The content of a field, if this is a struct that stands alone and has it."""
    if matrix.kind != STRUCT or any(size != 1 for size in matrix.shape):
        return None
    (_, length), (_, text), *fields = matrix.parts
    (size,) = struct.unpack(f"{order}i", length)
    if not 0 < size <= len(text) <= MAX_ELEMENTS * size:
        raise ValueError(f"names of {size:,} bytes in {len(text):,}")
    names = [bytes(text[i : i + size]).split(b"\0")[0] for i in range(0, len(text), size)]
    contents = dict(zip(names, (content for _, content in fields), strict=True))
    return contents.get(name.encode())


def _numbers(path: Path, matrix: _Matrix, order: str, name: str) -> np.ndarray:
    """Real numbers, in whichever type they were stored: MATLAB takes the smallest that fits."""
    if matrix.kind not in NUMERIC or matrix.is_complex:
        raise MediaError(f"{path}: {name} is no matrix of real numbers")
    ((kind, content),) = matrix.parts
    if kind not in NUMBERS:
        raise ValueError(f"numbers of type {kind}")
    values = np.frombuffer(content, dtype=order + NUMBERS[kind])
    return _shaped(values, matrix.shape)


def _shaped(values: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """MATLAB writes column by column."""
    if min(shape, default=0) < 0:
        raise ValueError(f"a matrix of {' x '.join(map(str, shape))}")
    return values.reshape(shape, order="F")
