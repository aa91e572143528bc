"""Small files that claim or hold very much: each costs its own row, and little else.

`python -m scripts.bench.bombs` measures the large ones.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
from media_files import tone, write_media

from omni_msa.errors import DecodeMemory, ManifestError, MediaError, OmniMSAError, TranscriptError
from omni_msa.files.importers.tables import read_table
from omni_msa.files.manifest import read_manifest
from omni_msa.foreign import MAX_COLUMNS, MAX_ROW_BYTES, MAX_TABLE_BYTES, MAX_TEXT_BYTES
from omni_msa.media import probe, pyav_sound, read_clip, sound, subtitles
from omni_msa.media.readers import ClipReaders
from omni_msa.media.transcripts import read_transcript_file
from omni_msa.options import MediaOptions
from omni_msa.values import Clip, ClipContent
from scripts.bench import bomb_files

OPTIONS = MediaOptions()


def read(path: Path, options: MediaOptions = OPTIONS) -> ClipContent:
    return read_clip(Clip(path=path), options)


# --- sound is read to its limit --------------------------------------------------------------


def write_sound(path: Path, seconds: float) -> Path:
    codecs = {".ogg": "libopus", ".mp3": "libmp3lame", ".m4a": "aac", ".mka": "libopus"}
    if path.suffix in (".wav", ".flac"):
        soundfile.write(path, tone(seconds), 16_000)
        return path
    rate = 48_000 if codecs[path.suffix] == "libopus" else 16_000
    sound_of_rate = tone(seconds, rate)
    return write_media(
        path, 0, sound=sound_of_rate, sample_rate=rate, audio_codec=codecs[path.suffix]
    )


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3", ".m4a", ".mka"])
@pytest.mark.parametrize("start", [None, 20.0])
def test_sound_is_decoded_to_its_limit_and_no_further(tmp_path, monkeypatch, suffix, start):
    path = write_sound(tmp_path / f"a{suffix}", 30.0)
    num_samples = []

    def counting(samples: np.ndarray) -> np.ndarray:
        num_samples.append(samples.shape[1])
        return mean(samples)

    mean = pyav_sound.mean_of_channels
    monkeypatch.setattr(pyav_sound, "mean_of_channels", counting)
    monkeypatch.setattr(sound, "mean_of_channels", counting)
    clip = Clip(path=path, start_seconds=start)
    content = read_clip(clip, MediaOptions(max_audio_seconds=2.0))
    assert len(content.parts["audio"].samples) == 32_000
    assert any(w.startswith("audio truncated: first 2 s") for w in content.warnings)
    rate = 48_000 if suffix in (".ogg", ".mka") else 16_000
    seconds = 6 if suffix != ".mka" else 6 + (start or 0)  # it may have no index to seek by
    assert sum(num_samples) < rate * seconds


def test_what_comes_before_a_window_is_not_kept_where_it_cannot_be_sought(tmp_path, monkeypatch):
    path = write_sound(tmp_path / "a.m4a", 30.0)
    whole = read(path).parts["audio"].samples
    monkeypatch.setattr(pyav_sound._SoundDecoder, "blocks_before", lambda *_: None)
    lengths = []
    resample = pyav_sound._resample_blocks

    def counting(blocks):
        lengths.append(sum(len(block.samples) for block in blocks))
        return resample(blocks)

    monkeypatch.setattr(pyav_sound, "_resample_blocks", counting)
    part = read_clip(Clip(path=path, start_seconds=25.0, end_seconds=26.0), OPTIONS)
    np.testing.assert_allclose(
        part.parts["audio"].samples, whole[25 * 16_000 : 26 * 16_000], atol=1e-4
    )
    assert lengths[0] < 4 * 16_000
    late = read_clip(Clip(path=path, start_seconds=29.9), OPTIONS)
    assert 0 < len(late.parts["audio"].samples) <= 3000


# --- packets, cues, frames -------------------------------------------------------------------


def test_packets_are_looked_at_to_a_limit(tmp_path, monkeypatch):
    path = tmp_path / "a.mkv"
    bomb_files.write_many_frames(path, 300)
    monkeypatch.setattr(probe, "MAX_PACKETS", 100)
    facts = probe.probe(path)
    assert facts.video is not None and facts.video.num_frames <= 101
    assert facts.warnings == ("file truncated: its first 100 packets are used",)


def test_of_sound_alone_only_the_beginning_is_probed(tmp_path, monkeypatch):
    path = write_sound(tmp_path / "a.mp3", 60.0)
    numbers = []
    add = probe._Scan.add
    monkeypatch.setattr(probe, "SOUND_PACKETS", 50)
    monkeypatch.setattr(probe._Scan, "add", lambda *a: (numbers.append(1), add(*a))[1])
    assert probe.probe(path).audio is not None
    assert len(numbers) < 210


def test_packets_of_sound_are_read_to_a_limit(tmp_path, monkeypatch):
    path = write_sound(tmp_path / "a.mp3", 20.0)
    monkeypatch.setattr(pyav_sound, "MAX_BLOCKS", 100)
    assert "audio truncated: its first 100 packets heard" in read(path).warnings


def test_subtitles_are_read_to_a_limit(tmp_path, monkeypatch):
    cues = [(n / 10, n / 10 + 0.1, f"word{n}") for n in range(10)]
    path = write_media(tmp_path / "a.mkv", 8, 8, subtitle=cues)
    monkeypatch.setattr(subtitles, "MAX_CUES", 3)
    content = read(path)
    assert content.parts["text"].text == "word0 word1 word2"
    assert any("subtitles truncated: the first are used" in text for text in content.warnings)
    monkeypatch.setattr(subtitles, "MAX_TEXT_BYTES", 4)
    probe._memory.clear()  # the file is the same, and what was read of it is remembered
    assert "text" not in read(path).parts


def test_an_animation_is_decoded_to_a_limit(tmp_path, monkeypatch):
    path = tmp_path / "a.apng"
    bomb_files.write_png(path, 64, frames=6, claimed=2**31 - 1)
    assert "video" in read(path).parts
    monkeypatch.setattr(probe, "MAX_ANIMATED_PIXELS", 5 * 64 * 64)
    probe._memory.clear()
    with pytest.raises(MediaError, match="6 frames of 64 x 64 pixels; at most 20,480") as error:
        read(path)
    assert error.value.code == "too_large"


SMALL = {
    "packed covers.mp3": lambda p: bomb_files.write_id3(p, 3, packed_size=50_000_000),
    "nested atoms.mp4": lambda p: bomb_files.write_nested_atoms(p, 20_000),
    "many samples.mp4": bomb_files.BOMBS["many samples.mp4"],
    "endless samples.mp4": bomb_files.BOMBS["endless samples.mp4"],
    "frames far apart.mkv": bomb_files.BOMBS["frames far apart.mkv"],
    "fast, cut off.wav": bomb_files.BOMBS["fast, cut off.wav"],
    "65535 channels.wav": bomb_files.BOMBS["65535 channels.wav"],
    "lying comments.flac": bomb_files.BOMBS["lying comments.flac"],
    "large.png": lambda p: bomb_files.write_png(p, 7_000),
    "attachment.mkv": lambda p: bomb_files.write_attachment(p, 10_000_000),
}


@pytest.mark.slow
def test_each_ends_in_its_own_row_and_the_next_is_read(tmp_path):
    paths = [tmp_path / name for name in SMALL]
    for path in paths:
        SMALL[path.name](path)
    paths.append(write_media(tmp_path / "good.mp4", 8, 8, sound=tone(1.0)))
    with ClipReaders(OPTIONS) as readers:
        contents = dict(readers.read([Clip(path=path) for path in paths]))
    codes = {
        path.name: content.code if isinstance(content, OmniMSAError) else "read"
        for path, content in zip(paths, map(contents.get, range(len(paths))), strict=True)
    }
    assert codes.pop("good.mp4") == "read"
    assert codes["large.png"] == codes["65535 channels.wav"] == "too_large"
    assert set(codes.values()) <= {"read", "damaged", "too_large", "memory"}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_reader_without_memory_says_so_and_another_one_goes_on(tmp_path):
    import resource

    bomb_files.write_png(tmp_path / "large.png", 5_900)
    small = Clip(write_media(tmp_path / "small.mp4", 8, 8))
    processes = []

    def clips():
        yield small
        [process] = psutil.Process().children()
        processes.append(process.pid)
        status = Path(f"/proc/{processes[0]}/status").read_text()
        held = 1024 * int(re.search(r"VmData:\s+(\d+) kB", status)[1])
        _, most = resource.prlimit(processes[0], resource.RLIMIT_DATA)
        resource.prlimit(processes[0], resource.RLIMIT_DATA, (held + 40 * 1024**2, most))
        yield Clip(tmp_path / "large.png")
        yield small

    with ClipReaders(MediaOptions(), workers=1) as readers:
        first, refused, last = (result for _, result in readers.read(clips()))
    assert (type(refused), str(refused)) == (
        DecodeMemory,
        f"{tmp_path}/large.png: reading it takes too much memory; the clip is skipped, check the "
        "file",
    )
    np.testing.assert_array_equal(first.parts["video"].rgb, last.parts["video"].rgb)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such limit")
def test_readers_have_a_limit_of_memory(tmp_path):
    program = (
        "import resource; from omni_msa.media import worker; worker.limit_memory(); "
        "print(resource.getrlimit(resource.RLIMIT_DATA)[0] == worker.MAX_BYTES)"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "True\n"


# --- words and tables ------------------------------------------------------------------------


def sparse(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


def test_a_transcript_beyond_its_size_is_refused(tmp_path):
    with pytest.raises(TranscriptError, match="larger than 2 MB"):
        read_transcript_file(sparse(tmp_path / "a.txt", 100 * MAX_TEXT_BYTES))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_manifest_beyond_its_size_is_refused(tmp_path, suffix):
    path = sparse(tmp_path / f"m{suffix}", 100 * MAX_TABLE_BYTES)
    with pytest.raises(ManifestError, match="larger than 100 MB"):
        read_manifest(path)
    with pytest.raises(ManifestError, match="larger than 100 MB"):
        read_table(path, ["clip"])


def test_a_size_that_is_a_lie_does_not_help(tmp_path):
    (tmp_path / "m.jsonl").symlink_to("/dev/zero")  # its size is 0, and it never ends
    with pytest.raises(ManifestError, match="larger than 100 MB"):
        read_manifest(tmp_path / "m.jsonl")


def test_rows_and_columns_have_limits(tmp_path, monkeypatch):
    path = tmp_path / "m.csv"
    path.write_text("clip," + ",".join(f"c{n}" for n in range(MAX_COLUMNS)) + "\n")
    with pytest.raises(ManifestError, match="1,001 columns; at most 1,000"):
        read_manifest(path)
    monkeypatch.setattr("omni_msa.files.manifest_rows.MAX_ROWS", 3)
    monkeypatch.setattr("omni_msa.files.importers.tables.MAX_ROWS", 3)
    path.write_text("clip\n" + "a.mp4\n" * 5)
    with pytest.raises(ManifestError, match="more than 3 rows"):
        read_manifest(path)
    with pytest.raises(ManifestError, match="more than 3 rows"):
        read_table(path, ["clip"])


@pytest.mark.parametrize(
    "line",
    [
        "[" * 10_000,
        '{"clip": ' + "[" * 100_000 + "}",
        '{"clip": "a.mp4", "label": ' + "9" * 10_000 + "}",
        '{"clip": "a.mp4", "label": 1e999}',
        json.dumps({"text": "a" * MAX_ROW_BYTES}),
    ],
)
def test_a_row_that_is_too_deep_too_long_or_too_large_is_named(tmp_path, line):
    path = tmp_path / "m.jsonl"
    path.write_text(f'{{"clip": "a.mp4"}}\n{line}\n')
    with pytest.raises(ManifestError, match="line 2") as error:
        read_manifest(path)
    assert len(str(error.value)) < 1000


def test_a_list_on_stdin_has_a_limit(monkeypatch, capsys):
    from omni_msa.__main__ import main

    monkeypatch.setattr("omni_msa.commands.streams.MAX_TABLE_BYTES", 1000)
    monkeypatch.setattr("sys.stdin", io.StringIO("a.mp4\n" * 1000))
    assert main(["score", "-"]) == 2
    assert "of paths from stdin" in capsys.readouterr().err
