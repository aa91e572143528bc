"""Only the packets that the sampled frames need are decoded, and the frames are the same."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from omni_msa.media import probe as probing
from omni_msa.media import pyav
from omni_msa.media.container import Deadline
from omni_msa.media.layers import layer_reader
from omni_msa.media.packets import Packets, StreamIndex
from omni_msa.media.sampling import plan_frames
from omni_msa.options import MediaOptions

FPS, NUM_FRAMES = 25, 130
X264 = {"preset": "veryfast", "sc_threshold": "0"}
X265 = "log-level=none:pools=1:frame-threads=1"
# ending, codec, options: how frames need one another, and how their times are kept
KINDS = {
    "pyramid": (".mp4", "libx264", X264 | {"g": "50", "bf": "3", "b-pyramid": "normal"}),
    "strict pyramid": (".mkv", "libx264", X264 | {"g": "50", "bf": "5", "b-pyramid": "strict"}),
    "open groups": (".mp4", "libx264", X264 | {"g": "20", "bf": "3", "x264-params": "open-gop=1"}),
    "open groups, no index": (
        ".ts", "libx264", X264 | {"g": "20", "bf": "3", "x264-params": "open-gop=1"}),
    "refreshed by columns": (".ts", "libx264", X264 | {"g": "40", "intra-refresh": "1"}),
    "fields": (".mp4", "libx264", X264 | {"g": "40", "bf": "2", "flags": "+ildct+ilme"}),
    "fields, no index": (".ts", "mpeg2video", {"g": "12", "bf": "2", "flags": "+ildct+ilme"}),
    "no times": (".avi", "libx264", X264 | {"g": "25", "bf": "2"}),
    "bare": (".h264", "libx264", X264 | {"g": "25", "bf": "2"}),
    "one group": (".mp4", "libx264", X264 | {"g": "999", "bf": "2"}),
    "all keyframes": (".avi", "mjpeg", {}),
    "hevc": (".mp4", "libx265", {"g": "50", "x265-params": f"{X265}:bframes=4:open-gop=0"}),
    "hevc, open groups": (
        ".mkv", "libx265", {"g": "20", "x265-params": f"{X265}:bframes=4:open-gop=1"}),
    "hevc, layers": (
        ".mp4", "libx265", {"g": "50", "x265-params": f"{X265}:bframes=4:temporal-layers=3"}),
    "vp9": (".webm", "libvpx-vp9", {"g": "30", "deadline": "realtime", "cpu-used": "8"}),
    "vp8": (".webm", "libvpx", {"g": "30", "deadline": "realtime", "cpu-used": "8"}),
    "av1": (".mkv", "libsvtav1", {"g": "30", "preset": "12", "svtav1-params": "lp=1"}),
    "mpeg4": (".mp4", "mpeg4", {"g": "30", "bf": "2"}),
    "animation": (".gif", "gif", {}),
}  # fmt: skip
WHOLE = ("refreshed by columns", "no times", "bare", "animation")  # decoded from the start on


def write(path: Path, codec: str, options: dict[str, str], uneven: bool = False) -> Path:
    """Stripes that move over noise, so that every frame is another one."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 60, (96, 176 + NUM_FRAMES, 3), dtype=np.uint8)
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, FPS, options=dict(options))
        stream.width, stream.height = 176, 96
        formats = {"mjpeg": "yuvj420p", "gif": "rgb8"}
        stream.pix_fmt = formats.get(codec, "yuv420p")
        stream.codec_context.thread_count = 1
        moment = 0
        for i in range(NUM_FRAMES):
            rgb = noise[:, i : i + 176].copy()
            rgb[:, (5 * i) % 150 : (5 * i) % 150 + 20] = (i % 256, 7 * i % 256, 200)
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = moment, Fraction(1, FPS)
            moment += 1 + (i % 7 == 3) * uneven
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def cut(path: Path, source: Path, seconds: float) -> Path:
    """The same packets from that moment on: what must be decoded before it is not to be shown."""
    with av.open(str(source)) as container, av.open(str(path), "w") as output:
        stream = container.streams.video[0]
        copy = output.add_stream_from_template(stream)
        shift = int(seconds / stream.time_base)
        for packet in container.demux(stream):
            if packet.size:
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = copy
                output.mux(packet)
    return path


def frames(path: Path, window: tuple[float | None, float | None] = (None, None)):
    with probing.open_media(path) as media:
        plan = plan_frames(media.facts.video, MediaOptions(), *window)
        return pyav.read_frames(media, plan, Deadline(path, 60.0))


def check_equal(path: Path, monkeypatch) -> tuple[int, int]:
    """Frames of the whole and of a window are those of decoding everything; returns how often each
    way gave the decoder something."""
    decode, runs = Packets.decode, StreamIndex.runs
    counts = {"needed": 0, "everything": 0}
    for window in ((None, None), (2.3, 3.9)):
        readings = {}
        for way in counts:

            def counted(*a, way=way):
                counts[way] += 1
                return decode(*a)

            monkeypatch.setattr(Packets, "decode", counted)
            monkeypatch.setattr(StreamIndex, "runs", runs if way == "needed" else lambda *_: None)
            probing._memory.clear()
            readings[way] = frames(path, window)
        monkeypatch.setattr(Packets, "decode", decode)
        monkeypatch.setattr(StreamIndex, "runs", runs)
        needed, everything = readings["needed"], readings["everything"]
        assert needed.pts_seconds == everything.pts_seconds
        assert needed.warnings == everything.warnings
        np.testing.assert_array_equal(needed.rgb, everything.rgb)
    return counts["needed"], counts["everything"]


@pytest.mark.parametrize("kind", KINDS)
def test_frames_are_those_of_decoding_everything(tmp_path, monkeypatch, kind):
    ending, codec, options = KINDS[kind]
    path = write(tmp_path / f"a{ending}", codec, options)
    needed, everything = check_equal(path, monkeypatch)
    assert needed < 0.9 * everything or kind in WHOLE


def test_frames_of_uneven_times_are_those_of_decoding_everything(tmp_path, monkeypatch):
    path = write(tmp_path / "a.mkv", "libx264", X264 | {"g": "40", "bf": "3"}, uneven=True)
    needed, everything = check_equal(path, monkeypatch)
    assert needed < 0.7 * everything


def test_frames_behind_an_edit_are_those_of_decoding_everything(tmp_path, monkeypatch):
    source = write(tmp_path / "a.mp4", "libx264", X264 | {"g": "50", "bf": "3"})
    path = cut(tmp_path / "b.mp4", source, 1.3)
    assert probing.probe(path).video.num_frames < NUM_FRAMES - 1.2 * FPS
    needed, everything = check_equal(path, monkeypatch)
    assert needed < 0.7 * everything


def test_frames_without_times_are_shown_in_the_order_that_they_come_out(tmp_path):
    ending, codec, options = KINDS["no times"]
    path = write(tmp_path / f"a{ending}", codec, options)
    same = write(tmp_path / "b.mp4", codec, options)
    np.testing.assert_array_equal(frames(path).rgb, frames(same).rgb)


def test_the_file_is_opened_once(tmp_path, monkeypatch):
    path = write(tmp_path / "a.mp4", "libx264", X264 | {"g": "25"})
    opens = []
    open_container = probing.open_container

    def counted(path):
        opens.append(path)
        return open_container(path)

    for module in ("probe", "packets"):
        monkeypatch.setattr(f"omni_msa.media.{module}.open_container", counted)
    frames(path)
    assert opens == [path]


def test_a_damaged_packet_that_is_needed_leaves_what_else_decodes(tmp_path):
    path = write(tmp_path / "a.mp4", "libx264", X264 | {"g": "999", "bf": "0"})
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(container.streams.video[0]) if p.size]
        places = [(p.pos, p.size) for p in packets[40:44]]
    content = bytearray(path.read_bytes())
    for place, size in places:
        content[place : place + size] = bytes(255 for _ in range(size))
    path.write_bytes(content)
    reading = frames(path)
    assert len(reading.rgb) == 10
    assert reading.warnings[0].startswith("damaged video: ")


def test_a_lower_layer_of_hevc_is_needed_whatever_the_highest_one_is():
    """A picture that no other of its layer needs may be a reference of a higher layer."""
    read_layer = layer_reader(SimpleNamespace(name="hevc", extradata=b""))
    start, below, above = b"\0\0\1", bytes([0 << 1, 1, 0]), bytes([3 << 1, 2, 0])
    assert read_layer(start + below) == 0  # TRAIL_N of layer 0
    index = StreamIndex(Fraction(1, 25), 25.0)
    index.layers.extend([read_layer(start + below), read_layer(start + above)])  # TSA_R of 1
    assert index.spare_layer is None
    index = StreamIndex(Fraction(1, 25), 25.0)
    index.layers.extend([read_layer(start + below)])
    assert index.spare_layer == 0
