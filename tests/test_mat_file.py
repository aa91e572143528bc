"""MATLAB files: what SciPy wrote is read; what is damaged or hostile is one line, and no more."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from heart_releases import cpsc_record, cpsc_wfdb, millivolts
from scipy.io import loadmat, savemat

from omni_msa.errors import MediaError
from omni_msa.media.mat_file import MAX_BYTES, read_matrix
from omni_msa.media.record_files import LEADS, check_file, is_record, read_file
from omni_msa.media.records import read_record

HEAD = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"


def saved(path, variables, packed=True):
    savemat(path, variables, do_compression=packed)
    return path


def element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(kind: int, shape: tuple[int, ...], name: bytes, *parts: bytes, flags: int = 0) -> bytes:
    head = element(6, struct.pack("<II", kind | flags << 8, 0))
    sizes = element(5, struct.pack(f"<{len(shape)}i", *shape))
    return element(14, head + sizes + element(1, name) + b"".join(parts))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["f8", "f4", "i2", "u1", "i4", "i8"])
def test_what_scipy_wrote_is_read(tmp_path, packed, kind):
    data = np.random.default_rng(0).normal(0, 50, (12, 301)).astype(kind)
    ecg = {"sex": "Female", "age": np.nan, "data": data, "more": [1, {"a": "b"}]}
    path = saved(tmp_path / "a.mat", {"before": [1, 2, 3], "ECG": ecg, "text": "x"}, packed)
    values = read_matrix(path, "ECG", "data")
    np.testing.assert_array_equal(values, data)
    np.testing.assert_array_equal(values, loadmat(path)["ECG"]["data"][0, 0])


def test_files_of_the_other_byte_order(tmp_path):
    path = tmp_path / "a.mat"
    data = np.arange(24, dtype=">f8").reshape(12, 2)

    def big(kind, content):
        return struct.pack(">II", kind, len(content)) + content + bytes(-len(content) % 8)

    def big_matrix(kind, name, *parts):
        head = big(6, struct.pack(">II", kind, 0))
        shape = (1, 1) if kind == 2 else (12, 2)
        return big(14, head + big(5, struct.pack(">2i", *shape)) + big(1, name) + b"".join(parts))

    field = big_matrix(6, b"", big(9, data.tobytes(order="F")))
    names = struct.pack(">HHI", 4, 5, 5) + big(1, b"data\0")  # the first is a short element
    head = HEAD[:124] + struct.pack(">H", 0x0100) + b"MI"
    path.write_bytes(head + big_matrix(2, b"ECG", names, field))
    np.testing.assert_array_equal(read_matrix(path, "ECG", "data"), data)
    np.testing.assert_array_equal(loadmat(path)["ECG"]["data"][0, 0], data)


def test_a_record_of_the_challenge(tmp_path):
    path = cpsc_record(tmp_path / "A0001.mat", seed=3)
    raw, part = read_file(path), read_file(path, (1.0, 2.0))
    assert (raw.rate, raw.format, [c.name for c in raw.channels]) == (500.0, "mat", list(LEADS))
    for channel, values in zip(raw.channels, millivolts(3).T, strict=True):
        np.testing.assert_allclose(channel.millivolts, values, rtol=1e-6)
    np.testing.assert_array_equal(part.channels[1].millivolts, raw.channels[1].millivolts[500:1000])
    reading = read_record(path)
    assert reading.traces.leads == LEADS and reading.facts["ecg_format"] == "mat"
    check_file(path)


def test_a_header_beside_a_mat_file_is_the_record(tmp_path):
    path = cpsc_record(tmp_path / "a" / "A0001.mat")
    assert is_record(path)
    header = cpsc_wfdb(tmp_path / "b", "A0001", "59118001")
    assert is_record(header) and not is_record(header.with_suffix(".mat"))
    check_file(header)
    with pytest.raises(MediaError, match="holds the samples of A0001.hea; give that"):
        read_file(header.with_suffix(".mat"))


def test_no_file_of_the_challenge(tmp_path):
    path, data = tmp_path / "a.mat", np.zeros((12, 4))
    for variables, message in [
        ({"val": data}, "holds no struct ECG with a field data"),
        ({"ECG": data}, "holds no struct ECG with a field data"),
        ({"ECG": {"date": data}}, "holds no struct ECG with a field data"),
        ({"ECG": [{"data": data}, {"data": data}]}, "holds no struct ECG with a field data"),
        ({"ECG": {"data": "words"}}, "no matrix of real numbers"),
        ({"ECG": {"data": {"data": data}}}, "no matrix of real numbers"),
        ({"ECG": {"data": data * 1j}}, "no matrix of real numbers"),
        ({"ECG": {"data": data[:3]}}, "ECG.data is 3 x 4; it has 12 rows"),
        ({"ECG": {"data": data[:, :0]}}, "claims 0 samples"),
    ]:
        with pytest.raises(MediaError, match=message):
            read_file(saved(path, variables))
    savemat(path, {"ECG": data}, format="4")
    with pytest.raises(MediaError, match="no MATLAB file of version 5 to 7.2"):
        read_file(path)
    path.write_bytes(HEAD[:124] + struct.pack("<H", 0x0200) + b"IM" + bytes(1000))
    with pytest.raises(MediaError, match="version 7.3; save it with -v7"):
        read_file(path)


def hostile(kind: str) -> bytes:
    if kind == "cells within cells":
        levels = [struct.pack("<II", 14, 0)]
        size = 8
        head = matrix(1, (1, 1), b"")[8:]
        for _ in range(50_000):
            size += len(head)
            levels.append(struct.pack("<II", 14, size) + head)
            size += 8
        nested = b"".join(reversed(levels))
        names = element(5, struct.pack("<i", 5)) + element(1, b"data\0")
        return HEAD + matrix(2, (1, 1), b"ECG", names, nested)
    if kind == "packed zeros":
        bomb = zlib.compress(bytes(MAX_BYTES + 16))
        return HEAD + struct.pack("<II", 15, len(bomb)) + bomb
    if kind == "a huge matrix":
        field = matrix(6, (12, 2**31 - 1), b"", element(9, bytes(96)))
    elif kind == "a shape of minus one":
        field = matrix(6, (12, -1), b"", element(9, bytes(96)))
    elif kind == "no such numbers":
        field = matrix(6, (12, 1), b"", element(77, bytes(96)))
    elif kind == "half a number":
        field = matrix(6, (12, 1), b"", element(9, bytes(95)))
    elif kind == "nothing":
        field = element(14, b"")
    elif kind == "ten thousand variables":
        return HEAD + matrix(6, (0, 0), b"x", element(9, b"")) * 10_000
    else:
        assert kind == "a name of no length"
        names = element(5, struct.pack("<i", 0)) + element(1, b"data\0")
        return HEAD + matrix(2, (1, 1), b"ECG", names)
    names = element(5, struct.pack("<i", 5)) + element(1, b"data\0")
    return HEAD + matrix(2, (1, 1), b"ECG", names, field)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("cells within cells", "no matrix of real numbers"),
        ("packed zeros", "unpacks to more than"),
        ("a huge matrix", "damaged or cut short"),
        ("a shape of minus one", "a matrix of 12 x -1"),
        ("no such numbers", "numbers of type 77"),
        ("half a number", "damaged or cut short"),
        ("nothing", "damaged or cut short"),
        ("ten thousand variables", "more than 1,000 elements"),
        ("a name of no length", "names of 0 bytes"),
    ],
)
def test_hostile_files_are_one_line(tmp_path, kind, message):
    path = tmp_path / "A0001.mat"
    path.write_bytes(hostile(kind))
    with pytest.raises(MediaError, match=message) as caught:
        read_file(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_a_file_cut_anywhere_is_refused(tmp_path):
    for packed in (False, True):
        data = saved(tmp_path / "a.mat", {"ECG": {"data": millivolts(1).T}}, packed).read_bytes()
        for length in [*range(0, 300, 7), *range(300, len(data) - 8, 4_001)]:
            (tmp_path / "cut.mat").write_bytes(data[:length])
            with pytest.raises(MediaError):
                read_file(tmp_path / "cut.mat")
