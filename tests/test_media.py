"""What the model sees is what a player shows, at the time it shows it; and every way to fail."""

from __future__ import annotations

import json
import os
import time

import av
import librosa
import numpy as np
import pytest
import soundfile
import torch
from av.video.reformatter import ColorRange, Colorspace
from conftest import SHARED
from media_files import frame_number, grey, tone, write_media
from sounds import write_wav

from omni_msa.errors import MediaError
from omni_msa.media import read_clip
from omni_msa.media.probe import probe
from omni_msa.media.sampling import plan_frames
from omni_msa.options import MediaOptions
from omni_msa.values import Clip

OPTIONS = MediaOptions()


def read(path, options=OPTIONS, **clip):
    return read_clip(Clip(path=path, **clip), options)


def numbers(content) -> list[int]:
    return [frame_number(rgb) for rgb in content.parts["video"].rgb]


# --- which frames ----------------------------------------------------------------------------


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
@pytest.mark.parametrize(("num_frames", "rate"), [(24, 8), (30, 10), (8, 8), (5, 10), (37, 15)])
def test_constant_rate_takes_the_frames_that_the_reference_takes(
    tmp_path, num_frames, rate, decoder
):
    from qwen_omni_utils.v2_5.vision_process import smart_nframes

    path = write_media(tmp_path / "a.mp4", num_frames, rate)
    settings = {"fps": 2.0, "min_frames": 4, "max_frames": min(16, num_frames)}
    count = smart_nframes(settings, num_frames, rate)
    theirs = torch.linspace(0, num_frames - 1, count).round().long().tolist()
    content = read(path, MediaOptions(decoder=decoder))
    assert numbers(content) == theirs
    assert content.media["frame_reader"] == decoder
    frames = content.parts["video"]
    assert frames.seconds_per_frame == pytest.approx(num_frames / rate / count, rel=1e-3)


def test_variable_rate_is_sampled_by_time(tmp_path):
    """Frame 1 stays on screen from 0.1 s to 3.6 s: most sampled moments must show it."""
    times = [0.0, 0.1, 3.6, 3.7, 3.8, 3.9]
    path = write_media(tmp_path / "vfr.mkv", 6, 10, times_seconds=times)
    shown = numbers(read(path))
    assert shown.count(1) >= len(shown) - 2
    moments = plan_frames(probe(path).video, OPTIONS).times_seconds
    assert shown == [max(i for i, t in enumerate(times) if t <= m + 1e-6) for m in moments]


def test_frames_far_apart_are_said(tmp_path):
    long = write_media(tmp_path / "long.mkv", 9, 1, times_seconds=[10.0 * i for i in range(9)])
    (warning,) = [w for w in read(long).warnings if not w.startswith("no words")]
    assert warning.startswith("few frames: 8 in 81 s, one every 10 s; cut it into utterances")
    both = read(long, start_seconds=5.0, end_seconds=25.0)  # all frames that there are
    assert not any("few frames" in w for w in both.warnings)


def test_a_window_shows_only_its_own_frames_and_sound(tmp_path):
    path = write_media(tmp_path / "a.mp4", 40, 8, sound=tone(5.0))
    content = read(path, start_seconds=2.0, end_seconds=4.0)
    assert min(numbers(content)) >= 16 and max(numbers(content)) <= 31
    assert content.parts["audio"].duration_seconds == pytest.approx(2.0, abs=0.02)
    with pytest.raises(MediaError, match="starts at 9 s, but the file ends at 5"):
        read(path, start_seconds=9.0)


def test_the_duration_of_a_window_is_its_own(tmp_path):
    path = write_media(tmp_path / "w.mp4", 32, 16)  # two seconds
    sound = write_wav(tmp_path / "s.wav", seconds=2.0)
    for start, end, seconds in [(None, None, 2), (0.5, 1.25, 0.75), (1.5, None, 0.5), (1, 9, 1)]:
        for clip in (path, sound):
            media = read(clip, start_seconds=start, end_seconds=end).media
            assert media["duration_seconds"] == pytest.approx(seconds, abs=0.07), (start, clip)


def test_a_late_start_counts_from_the_first_frame(tmp_path):
    times = [7.0 + i / 8 for i in range(16)]
    path = write_media(tmp_path / "late.mkv", 16, 8, times_seconds=times)
    content = read(path)
    assert numbers(content)[0] == 0 and content.media["duration_seconds"] == pytest.approx(
        2.0, 0.05
    )


def test_sparse_targets_in_a_long_video_are_sought_not_decoded_through(tmp_path):
    num_frames = 200
    path = tmp_path / "long.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=2, options={"g": "4", "crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(num_frames):
            rgb = np.full((48, 64, 3), grey(i % 36), np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        output.mux(stream.encode())
    content = read(path)
    expected = [i % 36 for i in torch.linspace(0, num_frames - 1, 16).round().long().tolist()]
    assert numbers(content) == expected


def test_a_still_picture_is_shown_twice_and_says_so(tmp_path):
    content = read(write_media(tmp_path / "one.mp4", 1, 5))
    assert numbers(content) == [0, 0]
    assert any("still picture" in w for w in content.warnings)


# --- how they look ---------------------------------------------------------------------------


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
@pytest.mark.parametrize(
    ("rotation", "corner"), [(0, (0, 0)), (90, (-1, 0)), (180, (-1, -1)), (-90, (0, -1))]
)
def test_a_turned_phone_video_is_shown_upright(tmp_path, rotation, corner, decoder):
    """The white corner, stored at the top left, is where the display matrix puts it."""
    path = write_media(tmp_path / "r.mp4", 8, 8, (128, 96), corner=True, rotation=rotation)
    frames = read(path, MediaOptions(decoder=decoder)).parts["video"].rgb
    height, width = frames.shape[1:3]
    assert (height > width) == (rotation in (90, -90))
    row, column = (
        8 if side == 0 else size - 9 for side, size in zip(corner, (height, width), strict=True)
    )
    assert frames[0, row, column].min() > 200
    assert frames[0, height // 2, width // 2].max() < 60


def test_non_square_pixels_are_stretched_as_displayed(tmp_path):
    path = tmp_path / "sar.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 160, 160, "yuv420p"
        stream.codec_context.sample_aspect_ratio = 2
        for i in range(8):
            rgb = np.full((160, 160, 3), grey(i), np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        output.mux(stream.encode())
    track = probe(path).video
    assert (track.width, track.height) == (320, 160)
    _, height, width, _ = read(path).parts["video"].rgb.shape
    assert width == pytest.approx(2 * height, abs=28)


def test_resizing_stays_close_to_the_reference_resize(tmp_path):
    """Same frame, our scaler in the decoder against torchvision's antialiased bicubic.

    Differences come from scaling before or after the change from YUV to RGB; two grey levels of 255
    on average is far below what coding noise does.
    """
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import resize

    rng = np.random.default_rng(0)
    small = rng.integers(40, 216, (12, 16, 3), dtype=np.uint8)
    rgb = np.kron(small, np.ones((40, 40, 1))).astype(np.uint8)  # 480 x 640, sharp edges
    path = tmp_path / "p.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=4, options={"crf": "8"})
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        for _ in range(8):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        output.mux(stream.encode())
    ours = read(path).parts["video"].rgb[0].astype(np.float32)
    with av.open(str(path)) as container:
        full = next(container.decode(video=0)).to_ndarray(format="rgb24")
    theirs = resize(torch.from_numpy(full).permute(2, 0, 1), list(ours.shape[:2]),
                    InterpolationMode.BICUBIC, antialias=True)  # fmt: skip
    difference = np.abs(ours - theirs.permute(1, 2, 0).numpy().astype(np.float32))
    assert difference.mean() < 2.0
    assert np.percentile(difference, 99) < 25


# --- what is heard ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 44_100, 48_000])
def test_a_wav_is_heard_as_librosa_hears_it(tmp_path, sample_rate):
    rng = np.random.default_rng(0)
    stereo = rng.normal(0, 0.1, (sample_rate, 2)).astype(np.float32)
    path = tmp_path / "s.wav"
    soundfile.write(path, stereo, sample_rate, subtype="FLOAT")
    theirs, _ = librosa.load(path, sr=16_000)
    content = read(path)
    np.testing.assert_allclose(content.parts["audio"].samples, theirs, atol=1e-4)
    assert content.media["audio_reader"] == "soundfile"
    upsampled = [w for w in content.warnings if "upsampled: from 8000" in w]
    assert bool(upsampled) == (sample_rate < 16_000)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "mp3", "ogg", "webm"])
def test_sound_survives_every_container(tmp_path, ending):
    codec = {"mp3": "libmp3lame", "ogg": "libopus", "webm": "libopus"}.get(ending, "aac")
    rate = 48_000 if codec == "libopus" else 16_000
    path = write_media(tmp_path / f"a.{ending}", 0, sound=tone(2.0, rate), sample_rate=rate,
                       audio_codec=codec)  # fmt: skip
    samples = read(path).parts["audio"].samples
    assert len(samples) == pytest.approx(32_000, abs=2_500)
    spectrum = np.abs(np.fft.rfft(samples[8_000:24_000]))
    assert np.argmax(spectrum) == pytest.approx(440, abs=2)


def test_silence_nan_and_length_are_reported(tmp_path):
    cases = {
        "silent": (np.zeros(16_000, np.float32), "silent audio"),
        "nan": (np.where(np.arange(16_000) % 9, 0.1, np.nan).astype(np.float32), "damaged audio"),
        "short": (tone(0.01), "padded with silence"),
        "long": (tone(3.0), "audio truncated: first 2 s of 3 s heard"),
    }
    for name, (samples, message) in cases.items():
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, samples, 16_000, subtype="FLOAT")
        content = read(path, MediaOptions(max_audio_seconds=2.0))
        assert any(message in w for w in content.warnings), name
        assert np.isfinite(content.parts["audio"].samples).all()


# --- where the words come from ---------------------------------------------------------------


def test_words_are_taken_from_the_first_place_that_has_them(tmp_path):
    path = write_media(tmp_path / "w.mkv", 8, 8, subtitle=[(0.1, 0.5, "inside"), (0.5, 0.9, "it")])
    assert (read(path).parts["text"].text, read(path).parts["text"].source[:8]) == (
        "inside it",
        "subtitle",
    )
    (tmp_path / "w.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nbeside\n")
    assert read(path).parts["text"].source == "sidecar w.srt"
    given = read(path, transcript="given", transcript_source="manifest")
    assert (given.parts["text"].text, given.parts["text"].source) == ("given", "manifest")


def test_a_source_of_words_that_differs_from_the_one_used_is_named(tmp_path):
    path = write_media(tmp_path / "w.mkv", 8, 8, subtitle=[(0.1, 0.5, "inside"), (0.5, 0.9, "it")])

    def differing(**clip):
        return [w for w in read(path, **clip).warnings if "words differ" in w]

    manifest = {"transcript": "Inside -- it!", "transcript_source": "manifest"}
    assert differing() == differing(**manifest) == []
    (tmp_path / "w.txt").write_text("beside\n")
    (inside,) = differing()
    assert inside.startswith("words differ: w.txt used, not subtitle track ")
    assert differing(**manifest) == ["words differ: manifest text used, not w.txt"]
    (tmp_path / "w.txt").write_text("what is INSIDE, it is not heard")
    assert "words differ: manifest text used, not w.txt" in differing(**manifest)
    # a window's words are among those of the whole recording
    assert differing(**manifest, end_seconds=0.95) == []
    (tmp_path / "w.txt").write_bytes(b"\0\0")  # what is not used may be damaged
    assert differing(**manifest) == []


def test_a_transcript_without_a_word_is_none_and_says_so(tmp_path):
    path = write_media(tmp_path / "w.mp4", 8, 8)
    (tmp_path / "w.txt").write_text("  \n")
    content = read(path)
    assert "text" not in content.parts
    assert content.warnings == ("transcript without words: sidecar w.txt",)
    path = write_media(tmp_path / "none.mp4", 8, 8)
    (warning,) = read(path).warnings
    assert warning.startswith("no words: they go in a .txt or .srt file beside the clip")
    assert read_clip(Clip(path), OPTIONS, hide=frozenset({"text"})).warnings == ()


def test_words_alone_need_no_file():
    content = read_clip(Clip(transcript="just words"), OPTIONS)
    assert content.parts.keys() == {"text"} and content.parts["text"].source == "option"
    with pytest.raises(MediaError, match="empty transcript"):
        read_clip(Clip(transcript="  "), OPTIONS)


# --- broken ----------------------------------------------------------------------------------


def broken(tmp_path, kind):
    path = tmp_path / f"{kind}.mp4"
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("this is no video, it was only called one\n" * 50)
    elif kind == "truncated":
        whole = write_media(tmp_path / "whole.mp4", 24, 8).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])  # its index stood at the end
    elif kind == "zeros":
        path.write_bytes(b"\0" * 100_000)
    elif kind == "folder":
        path.mkdir()
    elif kind == "subtitles":
        path = tmp_path / "subtitles.srt"
        path.write_text("1\n00:00:00,000 --> 00:00:01,000\nonly words\n")
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "no such file"),
        ("empty", "is empty"),
        ("text", "not a media file"),
        ("truncated", "not a media file"),
        ("zeros", "not a media file"),
        ("folder", "is a folder"),
    ],
)
def test_every_broken_file_is_one_clear_line(tmp_path, kind, message):
    path = broken(tmp_path, kind)
    with pytest.raises(MediaError, match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value) and path.name in str(caught.value)


def test_a_file_that_breaks_off_is_used_up_to_there(tmp_path):
    whole = write_media(tmp_path / "whole.mkv", 40, 8, codec="mpeg4", sound=tone(5.0)).read_bytes()
    path = tmp_path / "half.mkv"
    path.write_bytes(whole[: len(whole) // 2])
    content = read(path)
    assert "video" in content.parts
    assert content.media["duration_seconds"] < 4.5 < content.media["duration_from_header_seconds"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_without_permission(tmp_path):
    path = write_media(tmp_path / "secret.mp4", 8, 8)
    path.chmod(0)
    with pytest.raises(MediaError, match="permission"):
        read(path)


def test_reading_gives_up_at_the_deadline(tmp_path):
    path = write_media(tmp_path / "a.mp4", 24, 8)
    with pytest.raises(MediaError, match="given up"):
        read(path, MediaOptions(deadline_seconds=1e-6))


def test_torchcodec_reads_the_frames_or_leaves_them_to_pyav_and_says_so(tmp_path):
    path = write_media(tmp_path / "a.mp4", 24, 8)
    content = read(path, MediaOptions(decoder="torchcodec"))
    fallbacks = [w for w in content.warnings if w.startswith("decoder replaced: PyAV read the")]
    reader = content.media["frame_reader"]
    assert (reader, len(fallbacks)) in [("torchcodec", 0), ("pyav", 1)]
    by_pyav = read(path, MediaOptions())
    assert content.parts["video"].pts_seconds == by_pyav.parts["video"].pts_seconds
    levels = (frames.parts["video"].rgb.mean(axis=(1, 2, 3)) for frames in (content, by_pyav))
    np.testing.assert_allclose(*levels, atol=2)


def test_decord_that_cannot_read_leaves_it_to_pyav_and_says_so(tmp_path):
    path = write_media(tmp_path / "a.mp4", 24, 8)
    # far too little time for a process to start: it is killed, as one that spins would be
    content = read(path, MediaOptions(decoder="decord", deadline_seconds=0.4))
    assert content.media["frame_reader"] == "pyav"
    assert any("decord gave no result" in w for w in content.warnings)


# --- files that nobody here made -------------------------------------------------------------

FACTS = SHARED / "media" / "facts.json"


@pytest.mark.slow
@pytest.mark.skipif(
    not FACTS.exists(), reason="the collection of real media is not beside the project"
)
def test_real_files_hold_what_a_full_decode_says():
    facts = json.loads(FACTS.read_text())
    assert len(facts) == 64
    for name, fact in facts.items():
        pictures = any(not v["attached_picture"] for v in fact["video"])
        expected = {"video"} if pictures and fact.get("decoded_video_frames") else set()
        expected |= {"audio"} if fact.get("decoded_audio_frames") else set()
        start = time.perf_counter()
        try:
            content = read(FACTS.parent / name)
        except MediaError as error:
            assert not expected and name in str(error), (name, error)
            continue
        assert content.parts.keys() - {"text"} == expected, name
        assert time.perf_counter() - start < 30, name
        if "video" in expected and any(
            abs(v.get("rotation_degrees", 0)) == 90 for v in fact["video"]
        ):
            stored = fact["video"][0]
            height, width = content.parts["video"].rgb.shape[1:3]
            assert (height > width) == (stored["width"] > stored["height"]), name


def test_a_picture_in_an_unknown_codec_is_named_and_the_sound_is_kept(tmp_path):
    path = write_media(
        tmp_path / "a.avi", 8, codec="mpeg4", sound=tone(1.0), audio_codec="pcm_s16le"
    )
    path.write_bytes(path.read_bytes().replace(b"FMP4", b"ZZZZ"))
    facts = probe(path)
    assert facts.video is None and facts.audio is not None
    assert any(w == "unknown codec: video track 0" for w in facts.warnings)


# --- what only the decoded frame can tell ------------------------------------------------------


RED = (220, 60, 40)


def write_red(path, size, matrix, tag: int):
    """A video of one colour, turned to YUV by this matrix, that names the matrix `tag`."""
    width, height = size
    rgb = np.empty((height, width, 3), np.uint8)
    rgb[:] = RED
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=4, options={"crf": "4", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = tag, 1
        for i in range(4):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(
                format="yuv420p", dst_colorspace=matrix, dst_color_range=ColorRange.MPEG
            )
            frame.pts, frame.colorspace = i, tag
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).colorspace == tag
    return path


BT709, UNNAMED, BT601 = 1, 2, 6  # as H.264 numbers them


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize(
    ("size", "matrix", "tag"),
    [((64, 48), Colorspace.ITU709, BT709), ((1280, 720), Colorspace.ITU601, BT601)],
    ids=["small in 709", "large in 601"],
)
def test_the_matrix_that_a_file_names_is_used_whatever_its_size(
    tmp_path, size, matrix, tag, suffix
):
    """By the size alone, small frames would be read by BT.601 and large ones by BT.709."""
    named = read(write_red(tmp_path / f"named.{suffix}", size, matrix, tag))
    guessed = read(write_red(tmp_path / f"guessed.{suffix}", size, matrix, UNNAMED))
    np.testing.assert_allclose(mean_colour(named), RED, atol=4)
    assert np.abs(mean_colour(guessed) - RED).max() > 10


@pytest.mark.parametrize(
    ("size", "matrix"),
    [((64, 48), Colorspace.ITU601), ((1280, 720), Colorspace.ITU709)],
    ids=["small", "large"],
)
def test_a_file_that_names_no_matrix_is_read_by_the_one_of_its_size(tmp_path, size, matrix):
    content = read(write_red(tmp_path / "unnamed.mp4", size, matrix, UNNAMED))
    np.testing.assert_allclose(mean_colour(content), RED, atol=4)


def mean_colour(content) -> np.ndarray:
    return content.parts["video"].rgb.reshape(-1, 3).mean(0)


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_a_picture_that_starts_after_the_sound_is_shown_at_its_own_times(tmp_path, suffix):
    times = [1.5 + i / 8 for i in range(16)]
    path = write_media(tmp_path / f"late.{suffix}", 16, 8, sound=tone(3.5), times_seconds=times)
    content = read(path)
    assert numbers(content) == torch.linspace(0, 15, 4).round().long().tolist()
    shown_at = [times[i] for i in numbers(content)]
    coded_late = 1024 / 16_000 + 1e-3  # a frame of AAC comes before the sound; Matroska shifts all
    assert content.parts["video"].pts_seconds == pytest.approx(shown_at, abs=coded_late)
    # a window of its second half holds its second half
    later = read(path, start_seconds=2.5, end_seconds=3.5)
    assert min(numbers(later)) >= 7
    shown_at = [times[i] for i in numbers(later)]
    assert later.parts["video"].pts_seconds == pytest.approx(shown_at, abs=coded_late)
