"""A window of a long recording is sought, and equals what decoding from the start gives."""

from __future__ import annotations

from fractions import Fraction
from math import inf
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from omni_msa.media import probe as probing
from omni_msa.media import pyav, pyav_sound
from omni_msa.media.reader import read_clip
from omni_msa.options import MediaOptions
from omni_msa.values import Clip, ClipContent

SECONDS, FPS = 40, 12
WINDOWS = [(17.3, 20.9), (33.02, 38.5)]
# container, video codec and its options, audio codec, sample rate
KINDS = {
    "open groups of pictures.mp4": ("libx264", {"g": "60", "bf": "3", "x264-params": "open-gop=1"},
                                    "aac", 44_100),
    "one group.mkv": ("libx264", {"g": "9999", "bf": "2"}, "libopus", 48_000),
    "no index.ts": ("libx264", {"g": "60", "bf": "0"}, "aac", 44_100),
    "old.avi": ("mpeg4", {"g": "60"}, "libmp3lame", 44_100),
    "sound.mp3": (None, {}, "libmp3lame", 44_100),
    "sound.wav": (None, {}, None, 44_100),
    "sound.flac": (None, {}, None, 22_050),
}  # fmt: skip


def tone(rate: int) -> np.ndarray:
    """A tone that rises all the time, so that no two windows sound alike."""
    places = np.arange(SECONDS * rate) / rate
    return (0.3 * np.sin(2 * np.pi * (200 + 5 * places) * places)).astype(np.float32)


def write(path: Path, kind: str) -> Path:
    """A long recording of moving stripes and the tone."""
    video_codec, options, audio_codec, rate = KINDS[kind]
    if audio_codec is None:
        soundfile.write(path, tone(rate), rate)
        return path
    with av.open(str(path), "w") as container:
        stream = container.add_stream(video_codec, FPS, options) if video_codec else None
        sound = container.add_stream(audio_codec, rate=rate)
        if stream is not None:
            stream.width, stream.height, stream.pix_fmt = 112, 84, "yuv420p"
            for i in range(SECONDS * FPS):
                rgb = np.zeros((84, 112, 3), np.uint8)
                rgb[:, (2 * i) % 100 : (2 * i) % 100 + 12] = (i % 256, (i * 7) % 256, 200)
                frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
                frame.pts, frame.time_base = i, Fraction(1, FPS)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        samples = tone(rate)
        for place in range(0, len(samples), 1024):
            block = samples[None, place : place + 1024]
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, place, Fraction(1, rate)
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
    return path


def read(path: Path, window: tuple[float, float], monkeypatch, gap: float) -> ClipContent:
    for module in (pyav, pyav_sound):
        monkeypatch.setattr(module, "SEEK_GAP_SECONDS", gap)
    return read_clip(Clip(path, start_seconds=window[0], end_seconds=window[1]), MediaOptions())


QUICK = ("open groups of pictures.mp4", "sound.wav", "sound.flac")


@pytest.mark.parametrize(
    "kind", [k if k in QUICK else pytest.param(k, marks=pytest.mark.slow) for k in KINDS]
)
def test_a_window_is_what_decoding_from_the_start_gives(tmp_path, monkeypatch, kind):
    path = write(tmp_path / kind, kind)
    for window in WINDOWS:
        through = read(path, window, monkeypatch, inf)
        sought = read(path, window, monkeypatch, 4.0)
        assert sought.parts.keys() == through.parts.keys() and sought.warnings == through.warnings
        if "video" in through.parts:
            a, b = through.parts["video"], sought.parts["video"]
            np.testing.assert_array_equal(a.rgb, b.rgb)
            assert a.pts_seconds == b.pts_seconds
        a, b = through.parts["audio"].samples, sought.parts["audio"].samples
        assert len(a) == len(b) == round((window[1] - window[0]) * 16_000)
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.slow
def test_a_late_window_decodes_a_group_of_pictures_and_not_the_recording(tmp_path, monkeypatch):
    path = write(tmp_path / "a.mp4", "open groups of pictures.mp4")
    counts = []
    decode = pyav._FrameDecoder.next

    def counted(self):
        counts.append(1)
        return decode(self)

    monkeypatch.setattr(pyav._FrameDecoder, "next", counted)
    read(path, (36.0, 37.0), monkeypatch, 4.0)
    assert len(counts) < 60 + 4 * FPS < SECONDS * FPS / 2


@pytest.mark.slow
def test_the_windows_of_a_file_are_scanned_for_once(tmp_path, monkeypatch):
    path = write(tmp_path / "a.mp4", "open groups of pictures.mp4")
    scans = []
    scan = probing._scan
    monkeypatch.setattr(probing, "_scan", lambda *a: scans.append(1) or scan(*a))
    for start in (0.0, 10.0, 30.0):
        read(path, (start, start + 2.0), monkeypatch, 4.0)
    assert len(scans) == 1
    path.write_bytes(path.read_bytes() + b"\0" * 8)
    read(path, (0.0, 2.0), monkeypatch, 4.0)
    assert len(scans) == 2  # another file now
