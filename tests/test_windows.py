"""A window of a long recording is sought, and equals what decoding from the start gives."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import inf
from pathlib import Path

import av
import media_files
import numpy as np
import pytest
import soundfile

from omni_msa.errors import MediaError
from omni_msa.media import probe as probing
from omni_msa.media import pyav, pyav_sound, subtitles, transcripts
from omni_msa.media.container import Deadline
from omni_msa.media.packets import Packets, StreamIndex
from omni_msa.media.reader import read_clip
from omni_msa.media.sampling import plan_frames
from omni_msa.options import MediaOptions
from omni_msa.values import Clip, ClipContent

SECONDS, FPS = 40, 12
WINDOWS = [(17.3, 20.9), (33.02, 38.5)]
GAP = (5.0, 15.0)  # of the sound, in files that are named so
# container, video codec and its options, audio codec, sample rate
KINDS = {
    "open groups of pictures.mp4": ("libx264", {"g": "60", "bf": "3", "x264-params": "open-gop=1"},
                                    "aac", 44_100),
    "one group.mkv": ("libx264", {"g": "9999", "bf": "2"}, "libopus", 48_000),
    "no index.ts": ("libx264", {"g": "60", "bf": "0"}, "aac", 44_100),
    "late seeks.ts": ("libx264", {"g": "120", "bf": "3", "sc_threshold": "0"}, "aac", 48_000),
    "groups.mkv": ("libx264", {"g": "120", "bf": "3", "sc_threshold": "0"}, "aac", 48_000),
    "groups.mp4": ("libx264", {"g": "120", "bf": "3", "sc_threshold": "0"}, "aac", 48_000),
    "few times.mpg": ("mpeg2video", {"g": "15"}, "mp2", 44_100),
    "gap.mp4": ("libx264", {"g": "60", "bf": "2"}, "aac", 44_100),
    "gap.mkv": ("libx264", {"g": "60", "bf": "2"}, "aac", 44_100),
    "gap.webm": ("libvpx", {"g": "60", "deadline": "realtime"}, "libopus", 48_000),
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
        length = sound.codec_context.frame_size or 1024
        for place in range(0, len(samples), length):
            if "gap" in kind and GAP[0] <= place / rate < GAP[1]:
                continue
            block = samples[None, place : place + length]
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, place, Fraction(1, rate)
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
    return path


WAYS = ("through", "in memory", "sought")


def go(way: str, monkeypatch) -> None:
    """Has what follows decode all that comes before a window, or only what its file's packets say
    is needed: those in memory, or those that are sought in the file, as in a large one."""
    probing._memory.clear()
    runs = (lambda *_: None) if way == "through" else RUNS
    monkeypatch.setattr(StreamIndex, "runs", runs)
    monkeypatch.setattr(pyav_sound, "SEEK_GAP_SECONDS", inf if way == "through" else 4.0)
    monkeypatch.setattr(probing, "MAX_KEPT_BYTES", 0 if way == "sought" else 10**9)


RUNS = StreamIndex.runs


def read(path: Path, window: tuple[float, float]) -> ClipContent:
    return read_clip(Clip(path, start_seconds=window[0], end_seconds=window[1]), MediaOptions())


QUICK = ("open groups of pictures.mp4", "sound.wav", "sound.flac")


@pytest.mark.parametrize(
    "kind",
    [
        kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow)
        for kind in KINDS
        if not kind.startswith("groups")
    ],
)
def test_a_window_is_what_decoding_from_the_start_gives(tmp_path, monkeypatch, kind):
    path = write(tmp_path / kind, kind)
    for window in WINDOWS:
        contents = []
        for way in WAYS:
            go(way, monkeypatch)
            contents.append(read(path, window))
        through, *others = contents
        for other in others:
            assert other.parts.keys() == through.parts.keys()
            assert other.warnings == through.warnings
            if "video" in through.parts:
                a, b = through.parts["video"], other.parts["video"]
                np.testing.assert_array_equal(a.rgb, b.rgb)
                assert a.pts_seconds == b.pts_seconds
            a, b = through.parts["audio"].samples, other.parts["audio"].samples
            assert len(a) == len(b) == round((window[1] - window[0]) * 16_000)
            # libav's decoder of mp2 dithers by what it has decoded
            np.testing.assert_allclose(a, b, atol=1e-4 if path.suffix == ".mpg" else 1e-5)


def frames_in(path: Path, window: tuple[float, float]):
    with probing.open_media(path) as media:
        plan = plan_frames(media.facts.video, MediaOptions(), *window)
        return pyav.read_frames(media, plan, Deadline(path, 60.0))


@pytest.mark.parametrize(
    ("kind", "starts"),
    [
        ("late seeks.ts", (4.5, 7.0)),  # of the first group: every seek lands behind it
        ("few times.mpg", (13.0,)),
        *[
            pytest.param(kind, np.arange(0.5, SECONDS - 1), marks=pytest.mark.slow)
            for kind in ("late seeks.ts", "few times.mpg", "groups.mkv", "groups.mp4", "old.avi")
        ],
    ],
)
def test_every_second_shows_its_own_frames(tmp_path, monkeypatch, kind, starts):
    path = write(tmp_path / kind, kind)
    for start in starts:
        window = float(start), float(start) + 1.0
        go("through", monkeypatch)
        through = frames_in(path, window)
        for way in WAYS[1:]:
            go(way, monkeypatch)
            other = frames_in(path, window)
            assert other.pts_seconds == through.pts_seconds and other.warnings == through.warnings
            np.testing.assert_array_equal(other.rgb, through.rgb)
            assert window[0] - 1e-3 <= min(other.pts_seconds) <= max(other.pts_seconds) < window[1]


def heard_hertz(samples: np.ndarray) -> float:
    """The pitch, which says when the tone was sounded: 200 and 10 a second."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax()) * 16_000 / len(samples)


@pytest.mark.parametrize(
    "kind", ["gap.mp4", *(pytest.param(k, marks=pytest.mark.slow) for k in ("gap.mkv", "gap.webm"))]
)
def test_a_gap_of_the_sound_is_silent_and_what_follows_is_heard_in_time(tmp_path, kind):
    path = write(tmp_path / kind, kind)
    for start, stop in ((3.0, 20.0), (4.5, 20.0), (16.0, 20.0), (7.0, 9.0)):
        content = read(path, (start, stop))
        samples = content.parts["audio"].samples
        assert len(samples) == round((stop - start) * 16_000)
        (warning,) = [w for w in content.warnings if "gaps" in w] or [""]
        silent_seconds = max(min(stop, GAP[1]) - max(start, GAP[0]), 0.0)
        if not silent_seconds:
            assert not warning
            continue
        assert warning.startswith("sound with gaps: ")
        assert float(warning.split()[3]) == pytest.approx(silent_seconds, abs=0.1)
        assert np.mean(samples == 0) == pytest.approx(silent_seconds / (stop - start), abs=0.05)
        if stop > GAP[1]:
            assert heard_hertz(samples[-1600:]) == pytest.approx(200 + 10 * stop, abs=12)


def test_a_gap_of_hours_takes_no_memory():
    clock = pyav_sound._TrackClock(0.0, 48_000, 960, 960)
    samples = np.ones(960, np.float32)
    blocks = [pyav_sound._Block(i * 960, 48_000, samples, i * 0.02) for i in range(3)]
    late = [pyav_sound._Block(i * 960, 48_000, samples, 1e9 + i * 0.02) for i in range(3, 6)]
    span = list(pyav_sound._with_silence(iter(blocks + late), clock, 0.0, 2.0))
    assert [block.is_gap for block in span] == [False] * 3 + [True] + [False] * 3
    assert span[3].end_seconds == pytest.approx(2.0, abs=0.01)
    assert span[4].begin_seconds == pytest.approx(1e9, abs=1)
    # one block whose time is late among others is no gap
    odd = replace(blocks[1], pts_seconds=9.0)
    span = list(pyav_sound._with_silence(iter([blocks[0], odd, blocks[2]]), clock, 0.0, 2.0))
    assert [block.place for block in span] == [0, 960, 1920]


def test_sound_is_scored_where_the_picture_has_ended(tmp_path):
    path = media_files.write_media(tmp_path / "a.mp4", 16, 8, sound=media_files.tone(9.0))
    content = read_clip(Clip(path, start_seconds=5.0, end_seconds=7.0), MediaOptions())
    assert content.present == {"audio"} and content.parts["audio"].duration_seconds == 2.0
    (warning,) = [w for w in content.warnings if w.startswith("scored without video: ")]
    assert "from 0.00 to 2.00 s" in warning
    words = Clip(path, transcript="given", start_seconds=10.0, end_seconds=11.0)
    with pytest.raises(MediaError, match="starts at 10 s, but the file ends at 9") as caught:
        read_clip(words, MediaOptions())
    assert caught.value.code == "window"


def test_a_window_after_the_end_of_a_picture_without_sound_has_its_own_code(tmp_path):
    path = media_files.write_media(tmp_path / "a.mp4", 16, 8)
    with pytest.raises(MediaError, match="starts at 9 s, but the file ends at 2") as caught:
        read_clip(Clip(path, start_seconds=9.0), MediaOptions())
    assert caught.value.code == "window"


@pytest.mark.slow
def test_a_late_window_decodes_a_group_of_pictures_and_not_the_recording(tmp_path, monkeypatch):
    path = write(tmp_path / "a.mp4", "open groups of pictures.mp4")
    decode, counts = Packets.decode, list[int]()
    monkeypatch.setattr(Packets, "decode", lambda *a: counts.append(1) or decode(*a))
    for way in WAYS[1:]:
        go(way, monkeypatch)
        counts.clear()
        with probing.open_media(path) as media:
            plan = plan_frames(media.facts.video, MediaOptions(), 36.0, 37.0)
            pyav.read_frames(media, plan, Deadline(path, 60.0))
        assert 4 < len(counts) < 60 + 2 * FPS < SECONDS * FPS / 2


@pytest.mark.slow
def test_the_windows_of_a_file_are_scanned_for_once(tmp_path, monkeypatch):
    path = write(tmp_path / "a.mp4", "open groups of pictures.mp4")
    scans = []
    scan = probing._scan
    monkeypatch.setattr(probing, "_scan", lambda *a: scans.append(1) or scan(*a))
    for start in (0.0, 10.0, 30.0):
        read(path, (start, start + 2.0))
    assert len(scans) == 1
    path.write_bytes(path.read_bytes() + b"\0" * 8)
    read(path, (0.0, 2.0))
    assert len(scans) == 2  # another file now


def test_the_words_of_a_recording_are_parsed_once_for_its_windows(tmp_path, monkeypatch):
    cues = [(0.1, 0.9, "one"), (1.1, 1.9, "two")]
    inside = media_files.write_media(tmp_path / "a.mkv", 16, 8, subtitle=cues)
    beside = media_files.write_media(tmp_path / "b.mp4", 16, 8)
    srt = tmp_path / "b.srt"
    srt.write_text(
        "1\n00:00:00,100 --> 00:00:00,900\none\n\n2\n00:00:01,100 --> 00:00:01,900\ntwo\n"
    )
    reads = []
    parse, dialogues = transcripts._parse, subtitles._dialogues
    monkeypatch.setattr(transcripts, "_parse", lambda *a: reads.append("beside") or parse(*a))
    monkeypatch.setattr(subtitles, "_dialogues", lambda *a: reads.append("inside") or dialogues(*a))
    for path in (inside, beside):
        for start, words in ((0.0, "one"), (1.0, "two"), (0.0, "one")):
            clip = Clip(path, start_seconds=start, end_seconds=start + 1.0)
            assert read_clip(clip, MediaOptions()).parts["text"].text == words
    assert reads == ["inside", "inside", "beside"]  # two subtitles, and one file of them
    srt.write_text("1\n00:00:00,000 --> 00:00:02,000\nother words\n")
    clip = Clip(beside, start_seconds=0.0, end_seconds=1.0)
    assert read_clip(clip, MediaOptions()).parts["text"].text == "other words"
