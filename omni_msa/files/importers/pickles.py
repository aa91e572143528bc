"""Pickles of arrays, read without running what is in them.

A pickle is a program. Here its instructions are looked up in a table that has those of plain values
alone, and the names that it may ask for are those by which NumPy stores arrays, each with a
function of ours behind it. No class of a library is ever made or called by the file; what it claims
of sizes has to be in it. Python's own (unaccelerated) unpickler is the base, since its table can be
replaced and its memory grows with what the file holds.
"""

from __future__ import annotations

import os
import pickle
import pickletools
import re
import struct
import sys
from collections.abc import Callable
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from omni_msa.errors import ManifestError, first_line
from omni_msa.foreign import printable

OPCODES = """
    PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG
    LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8
    UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE
    TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET GLOBAL
    STACK_GLOBAL
""".split()
ALLOWED = "a pickle may hold dictionaries, lists, NumPy arrays, texts and numbers alone"
MAX_DEPTH = 8  # of dictionaries and lists in each other
MAX_COPIES = 3  # of each byte of the file: encoded, in an array, in a list of objects
MAX_UNCHECKED = 64 * 1024  # bytes that are asked for without a look at what the file has left
MAX_NAME = 80  # characters of the file's own that a message repeats
PLAIN = (str, bytes, int, float, np.generic)
# What a file that was cut short, or that is no pickle, raises.
DAMAGE = (
    pickle.UnpicklingError, EOFError, LookupError, TypeError, ValueError, AttributeError,
    AssertionError, ArithmeticError, RecursionError, struct.error,
)  # fmt: skip
_DTYPE = re.compile(r"b1|[iuf]\d{1,2}|[SU]\d{1,9}|O\d?")
_LATIN1 = ("latin1", "latin-1")


def read_pickle(path: Path) -> Any:
    """The dictionaries, lists, arrays, texts and numbers in a pickle; tuples become lists, and
    texts of Python 2 are bytes.

    Raises:
        ManifestError: it holds anything else, which is not run; or it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            unpickler = _PlainUnpickler(file)
            return _plain(unpickler.load(), {})
    except _Refusal as refusal:
        what = printable(str(refusal))
        raise ManifestError(f"{path}: holds {what}; nothing of it was run, {ALLOWED}") from refusal
    except MemoryError as error:
        raise ManifestError(f"{path}: takes more memory than there is") from error
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror or error})") from error
    except DAMAGE as error:
        reason = printable(first_line(error)[:MAX_NAME])
        raise ManifestError(f"{path}: is no whole pickle ({reason}); fetch it again") from error


class _Refusal(Exception):
    """What a pickle holds that is not read."""


class _File:
    """A file that is never asked for more than it has left: lengths in a pickle are only claims."""

    def __init__(self, file: BinaryIO) -> None:
        self.size = os.fstat(file.fileno()).st_size
        self._file = file
        self.readline = file.readline

    def read(self, num_bytes: int) -> bytes:
        is_claim = num_bytes > MAX_UNCHECKED and num_bytes > self.size - self._file.tell()
        content = b"" if is_claim else self._file.read(num_bytes)
        if len(content) < num_bytes:
            raise EOFError("it ends too early")
        return content


class _Dtype:
    """A NumPy type on the way: the byte order comes after the rest."""

    def __init__(self, name: Any, *_: Any) -> None:
        text = as_text(name) if isinstance(name, (str, bytes)) else ""
        if not _DTYPE.fullmatch(text):
            raise _Refusal(f"an array of the type {text[:MAX_NAME]!r}")
        self.dtype = np.dtype(text)

    def build(self, state: Any) -> None:
        _, order, *more = state
        if any(part is not None for part in more[:3]):
            raise _Refusal("an array of records")
        self.dtype = self.dtype.newbyteorder(cast(Any, as_text(order)))


class _Array:
    """An array on the way: its content comes after it was made."""

    def __init__(self) -> None:
        self.array: np.ndarray | None = None


_Unpickler: Any = pickle._Unpickler  # its stack has no types


class _PlainUnpickler(_Unpickler):
    """Reads plain values and arrays, and refuses the rest by its name."""

    def __init__(self, file: BinaryIO) -> None:
        source = _File(file)
        super().__init__(source, encoding="bytes")
        self._num_bytes_left = MAX_COPIES * source.size
        self._functions: dict[str, Callable[..., Any] | str] = {
            f"{module}.{name}": function
            for package in ("numpy.core", "numpy._core")
            for module, name, function in (
                (f"{package}.multiarray", "_reconstruct", _new_array),
                (f"{package}.multiarray", "scalar", self._scalar),
                (f"{package}.numeric", "_frombuffer", self._array_of_buffer),
            )
        }
        self._functions |= {
            "numpy.ndarray": "numpy.ndarray",  # only ever an argument
            "numpy.dtype": _Dtype,
            "_codecs.encode": self._encode,  # bytes, before protocol 3
        }

    def find_class(self, module: str, name: str) -> Any:
        full_name = f"{module}.{name}"
        if full_name not in self._functions:
            raise _Refusal(f"code ({full_name[:MAX_NAME]})")
        return self._functions[full_name]

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        function = self.stack[-1]
        if not callable(function):
            raise _Refusal(f"code (a call of {_show(function)})")
        self.stack[-1] = function(*arguments)

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, _Dtype):
            target.build(state)
        elif isinstance(target, _Array):
            _, shape, dtype, is_fortran, content = state
            target.array = self._array(content, dtype, shape, "F" if is_fortran else "C")
        else:
            raise _Refusal("an object with a state of its own")

    def load_setitem(self) -> None:
        _check_keys(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        _check_keys(self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        _check_keys(self.stack[::2])
        super().load_dict()

    def load_bytearray8(self) -> None:
        """The content of an array in protocol 5: as bytes, no more than the file has."""
        (num_bytes,) = struct.unpack("<Q", self.read(8))
        self.append(self.read(num_bytes))

    def _claim(self, num_bytes: int) -> None:
        """Counts what is made of the file's content, which repeating it could multiply."""
        self._num_bytes_left -= num_bytes
        if self._num_bytes_left < 0:
            raise _Refusal("arrays that share their content, many times over")

    def _encode(self, text: str, encoding: str) -> bytes:
        if encoding not in _LATIN1:
            raise _Refusal(f"a text encoded as {_show(encoding)}")
        self._claim(len(text))
        return text.encode("latin-1")

    def _scalar(self, dtype: _Dtype, content: bytes) -> Any:
        return self._array(content, dtype, (), "C")[()]

    def _array_of_buffer(
        self, content: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str
    ) -> _Array:
        array = _Array()
        array.array = self._array(content, dtype, shape, order)
        return array

    def _array(self, content: Any, dtype: _Dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
        """A view of bytes of the very size; or the texts and numbers of a list."""
        if type(shape) is not tuple or not all(_is_extent(extent) for extent in shape):
            raise _Refusal("an array whose shape is none")
        if dtype.dtype.hasobject:
            if not isinstance(content, list) or not all(isinstance(x, PLAIN) for x in content):
                raise _Refusal("an array of objects that are no texts or numbers")
            self._claim(len(content))
            values = np.empty(len(content), dtype=object)
            values[:] = content
        else:
            if not isinstance(content, bytes) or not dtype.dtype.itemsize:
                raise _Refusal("an array that is no run of numbers or texts")
            self._claim(len(content))
            if len(content) != prod(shape) * dtype.dtype.itemsize:
                raise ValueError(f"an array of the shape {shape} has {len(content)} bytes")
            values = np.frombuffer(content, dtype.dtype)
            if dtype.dtype.kind == "U":
                _check_characters(values)
        return values.reshape(shape, order="F" if order == "F" else "C")


def _new_array(subtype: Any, shape: Any, kind: Any) -> _Array:
    """`_reconstruct(numpy.ndarray, (0,), b"b")`: an array that waits for its content."""
    if subtype != "numpy.ndarray":
        raise _Refusal(f"an array of another class ({_show(subtype)})")
    return _Array()


def _show(value: Any) -> str:
    """A name in the file, for a message; of any other value, which may be endless, its type."""
    return value[:MAX_NAME] if isinstance(value, str) else type(value).__name__


def _is_extent(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value <= sys.maxsize


def _check_keys(keys: list[Any]) -> None:
    """Keys are texts: looking one up never costs more than reading it."""
    if others := [key for key in keys if not isinstance(key, (str, bytes))]:
        raise _Refusal(f"a dictionary with a key that is no text ({type(others[0]).__name__})")


def _check_characters(values: np.ndarray) -> None:
    codes = values.view(np.dtype("u4").newbyteorder(values.dtype.byteorder))
    if codes.size and codes.max() > sys.maxunicode:
        raise ValueError("an array of texts has what are no characters")


def as_text(value: str | bytes) -> str:
    """A text; that of Python 2 is bytes, in UTF-8 where it can be."""
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _plain(value: Any, results: dict[int, Any], depth: int = 0) -> Any:
    """The value with its arrays in their places; `results` holds those of containers that are in
    several places."""
    if isinstance(value, _Array) and value.array is not None:
        return value.array
    if isinstance(value, PLAIN) or value is None:
        return value
    if type(value) not in (dict, list, tuple):
        raise _Refusal("an array or a name that is not used as one")
    if depth == MAX_DEPTH:
        raise _Refusal(f"containers in each other, more than {MAX_DEPTH} deep")
    if id(value) not in results:
        if isinstance(value, dict):
            items = {as_text(key): _plain(v, results, depth + 1) for key, v in value.items()}
            results[id(value)] = items
        else:
            results[id(value)] = [_plain(v, results, depth + 1) for v in value]
    return results[id(value)]


def _refuse(name: str, _: _PlainUnpickler) -> None:
    raise _Refusal(f"an object, by the instruction {name}")


_NAMES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}
_OWN = {
    getattr(pickle, name)[0]: getattr(_PlainUnpickler, f"load_{name.lower()}")
    for name in ("REDUCE", "BUILD", "SETITEM", "SETITEMS", "DICT", "BYTEARRAY8")
}
_BORROWED = {getattr(pickle, name)[0] for name in OPCODES}
_PlainUnpickler.dispatch = {
    code: function if code in _BORROWED else _OWN.get(code, partial(_refuse, _NAMES[code]))
    for code, function in _Unpickler.dispatch.items()
}
