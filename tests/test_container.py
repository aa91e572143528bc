"""A media file may not open another file or address, and its claims have limits."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import ROOT
from sounds import write_wav

from omni_msa.errors import MediaError
from omni_msa.media.container import MAX_STREAMS, Deadline, demux, open_container
from omni_msa.media.reader import read_clip
from omni_msa.options import MediaOptions
from omni_msa.values import Clip

HOST = "127.0.0.1"
SECRET = ROOT / "sample_media" / "glad.mp4"

# What names another file, by how it is written; {path} is a file elsewhere, {url} an address.
HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:4.0,\n{}\n#EXT-X-ENDLIST\n"
DASH = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT4S"><Period><AdaptationSet mimeType="video/mp4"><Representation '
    'id="1" bandwidth="1"><BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>'
)
SDP = "v=0\no=- 0 0 IN IP4 {host}\ns=x\nc=IN IP4 {host}\nt=0 0\nm=audio {port} RTP/AVP 0\n"
TEXTS = {
    "hls": HLS.format("{path}"),
    "hls by address": HLS.format("{url}"),
    "hls by protocol": HLS.format("file:{path}"),
    "hls of itself": HLS.format("{own}"),
    "hls key": HLS.format("{path}").replace(
        "#EXTINF", '#EXT-X-KEY:METHOD=AES-128,URI="{path}"\n#EXTINF'
    ),
    "concat": "ffconcat version 1.0\nfile '{path}'\n",
    "concat by address": "ffconcat version 1.0\nfile '{url}'\n",
    "concat of itself": "ffconcat version 1.0\nfile '{own}'\n",
    "dash": DASH.format("{path}"),
    "dash by address": DASH.format("{url}"),
    "sdp": SDP,
    "pls": "[playlist]\nFile1={path}\nNumberOfEntries=1\n",
    "asx": '<asx version="3.0"><entry><ref href="{url}"/></entry></asx>',
    "avisynth": 'DirectShowSource("{path}")\n',
    "vobsub": "# VobSub index file, v7\nid: en, index: 0\ntimestamp: 00:00:01:000, filepos: 0\n",
}
SUFFIXES = (".mp4", ".wav")  # a name says nothing


class Watch:
    """Counts how often a file is opened, by anybody."""

    IN_OPEN, IN_NONBLOCK = 0x20, os.O_NONBLOCK

    def __init__(self, path: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor = libc.inotify_init1(self.IN_NONBLOCK)
        assert self.descriptor >= 0
        assert libc.inotify_add_watch(self.descriptor, os.fsencode(path), self.IN_OPEN) >= 0

    def num_opened(self) -> int:
        try:
            return len(os.read(self.descriptor, 65536)) // 16
        except BlockingIOError:
            return 0


@pytest.fixture
def watch():
    watch = Watch(SECRET)
    with open(SECRET, "rb"):
        pass
    if watch.num_opened() != 1:
        pytest.skip("inotify does not see on this file system when a file is opened")
    yield watch
    os.close(watch.descriptor)


@pytest.fixture
def listener():
    with socket.socket() as server:
        server.bind((HOST, 0))
        server.listen()
        server.setblocking(False)
        yield server


def num_connections(server: socket.socket) -> int:
    number = 0
    while True:
        try:
            server.accept()[0].close()
            number += 1
        except BlockingIOError:
            return number


def test_thirty_files_that_name_others_open_none(tmp_path, watch, listener):
    port = listener.getsockname()[1]
    number = 0
    for kind, text in TEXTS.items():
        for suffix in SUFFIXES:
            path = tmp_path / f"{kind}{suffix}"
            words = {"path": SECRET, "url": f"http://{HOST}:{port}/a.mp4", "own": path}
            path.write_text(text.format(**words, host=HOST, port=port))
            with pytest.raises(MediaError) as raised:
                read_clip(Clip(path), MediaOptions())
            assert str(path) in str(raised.value) and "\n" not in str(raised.value)
            number += 1
    assert number == 30
    assert (watch.num_opened(), num_connections(listener)) == (0, 0)


def test_a_path_is_never_a_protocol(tmp_path, watch, listener, monkeypatch):
    monkeypatch.chdir(tmp_path)
    port = listener.getsockname()[1]
    for name in (
        f"http://{HOST}:{port}/a.mp4", f"tcp://{HOST}:{port}", f"rtsp://{HOST}:{port}/a",
        f"concat:{SECRET}|{SECRET}", f"file:{SECRET}", f"subfile,,start,0,end,0,,:{SECRET}",
        f"cache:{SECRET}", f"async:{SECRET}", f"crypto:{SECRET}", "pipe:0", "fd:", "data:,x",
    ):  # fmt: skip
        with pytest.raises(MediaError):
            read_clip(Clip(Path(name)), MediaOptions())
    assert (watch.num_opened(), num_connections(listener)) == (0, 0)
    # a file of such a name is itself
    Path("concat:a|b.wav").write_bytes(write_wav(tmp_path / "a.wav").read_bytes())
    assert "audio" in read_clip(Clip(Path("concat:a|b.wav")), MediaOptions()).parts


@pytest.mark.parametrize(
    ("kind", "words"), [("playlist", "hls"), ("DASH manifest", "dash"), ("SDP", "sdp")]
)
def test_it_is_said_why_such_a_file_is_refused(tmp_path, kind, words):
    path = tmp_path / "a.mp4"
    path.write_text(TEXTS[words].format(path=SECRET, host=HOST, port=9))
    with pytest.raises(MediaError, match=rf"{kind}.* names other files.*only the file itself"):
        read_clip(Clip(path), MediaOptions())


def test_pipes_sockets_and_devices_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.mp4"))
        for path, kind in (
            (tmp_path / "pipe.mp4", "a pipe"),
            (tmp_path / "socket.mp4", "a socket"),
            (Path("/dev/zero"), "a device"),
        ):
            with pytest.raises(MediaError, match=f"is {kind}, not a file"):
                read_clip(Clip(path), MediaOptions())


def png(path: Path, width: int, height: int) -> Path:
    """A grey picture, row by row."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    compressor = zlib.compressobj(1)
    row = b"\0" + b"\x80" * (3 * width)
    data = b"".join(compressor.compress(row) for _ in range(height)) + compressor.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    return path


def test_a_picture_beyond_the_limit_is_refused_by_its_header(tmp_path):
    path = png(tmp_path / "huge.png", 16_000, 16_000)
    with pytest.raises(MediaError, match="16000 x 16000 pixels; at most 35,651,584 pixels"):
        read_clip(Clip(path), MediaOptions())
    small = read_clip(Clip(png(tmp_path / "small.png", 112, 84)), MediaOptions())
    assert small.parts["video"].rgb.shape[0] == 2


def test_more_streams_than_any_recording_has_are_refused(tmp_path):
    path = tmp_path / "many.mkv"
    silence = np.zeros((1, 1024), np.float32)
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("pcm_f32le", rate=8000) for _ in range(MAX_STREAMS + 1)]
        for stream in streams:
            frame = av.AudioFrame.from_ndarray(silence, format="flt", layout="mono")
            frame.sample_rate = 8000
            container.mux(stream.encode(frame))
    with pytest.raises(MediaError, match=f"has {MAX_STREAMS + 1} streams; at most {MAX_STREAMS}"):
        with open_container(path):
            pass


def test_sound_beyond_any_recorder_is_refused(tmp_path):
    path = write_wav(tmp_path / "a.wav")
    data = bytearray(path.read_bytes())
    data[24:28] = struct.pack("<I", 2_000_000_000)  # the header's sample rate
    path.write_bytes(data)
    with pytest.raises(MediaError, match="at 2000000000 Hz; at most 16 at 192000 Hz"):
        read_clip(Clip(path), MediaOptions())


def test_a_small_limit_of_time_is_said_as_it_is(tmp_path):
    with pytest.raises(MediaError, match=r"longer than 0\.001 s"):
        read_clip(Clip(SECRET), MediaOptions(deadline_seconds=0.001))
    with pytest.raises(MediaError, match="longer than -1 s"):
        Deadline(SECRET, -1).check()


def test_a_stream_that_appears_in_a_file_ends_nothing():
    class Late:
        """As PyAV does where a damaged file has another stream in the middle."""

        def demux(self, *streams):
            yield from ("a packet", "another")
            raise IndexError("list index out of range")

    assert list(demux(Late(), "a stream")) == ["a packet", "another"]
