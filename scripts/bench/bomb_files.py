"""How the files of `bombs.py` are made: each is small, or sparse, and claims or holds very much."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import soundfile

HOURS = 10 * 3600  # seconds


# --- pictures ------------------------------------------------------------------------------------


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(side: int, bits: int = 8, frames: int = 0, claimed_frames: int = 0) -> bytes:
    """A black RGBA square; with frames, an APNG that shows the same picture so often."""
    packer = zlib.compressobj(9)
    line = bytes(1 + side * 4 * bits // 8)
    pixels = b"".join([packer.compress(line) for _ in range(side)] + [packer.flush()])
    header = struct.pack(">IIBBBBB", side, side, bits, 6, 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n", png_chunk(b"IHDR", header)]
    if frames:
        parts.append(png_chunk(b"acTL", struct.pack(">II", claimed_frames or frames, 0)))
    for i in range(max(frames, 1)):
        if frames:
            control = struct.pack(">IIIIIHHBB", 2 * i, side, side, 0, 0, 1, 10, 0, 0)
            parts.append(png_chunk(b"fcTL", control))
        if i:
            parts.append(png_chunk(b"fdAT", struct.pack(">I", 2 * i - 1) + pixels))
        else:
            parts.append(png_chunk(b"IDAT", pixels))
    return b"".join([*parts, png_chunk(b"IEND", b"")])


def write_png(path: Path, side: int, bits: int = 8, frames: int = 0, claimed: int = 0) -> None:
    path.write_bytes(png(side, bits, frames, claimed))


def write_picture(path: Path, codec: str, pix_fmt: str, side: int, times: int = 1) -> None:
    """One encoded picture, and the same again and again."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=10)
        stream.width = stream.height = side
        stream.pix_fmt = pix_fmt
        frame = av.VideoFrame(side, side, pix_fmt)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.pts, frame.time_base = 0, Fraction(1, 10)
        packets = [*stream.encode(frame), *stream.encode()]
        repeat(output, stream, bytes(packets[0]), times, 1, packets[0].time_base)


def write_video(path: Path, side: int, num_frames: int, options: dict[str, str]) -> None:
    """Black frames of the largest size that is read, in one long group of pictures."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=30)
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "ultrafast", "g": "10000", **options}
        frame = av.VideoFrame(side, side, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        for i in range(num_frames):
            frame.pts, frame.time_base = i, Fraction(1, 30)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())


def repeat(output, stream, data: bytes, times: int, step: int, time_base: Fraction) -> None:
    """The same packet, so many times, `step` ticks apart."""
    for i in range(times):
        packet = av.Packet(data)
        packet.stream, packet.time_base = stream, time_base
        packet.pts = packet.dts = i * step
        packet.duration, packet.is_keyframe = step, True
        output.mux(packet)


# --- sound ---------------------------------------------------------------------------------------


def write_flac(path: Path, sample_rate: int, channels: int, seconds: int) -> None:
    block = np.zeros((60 * sample_rate, channels), np.int16)
    with soundfile.SoundFile(path, "w", sample_rate, channels, "PCM_16", format="FLAC") as file:
        for _ in range(seconds // 60):
            file.write(block)


def write_wav(path: Path, sample_rate: int, channels: int, seconds: int, claimed: int = 0) -> None:
    """A sparse file: silence that takes no place on the disk."""
    size = 2 * channels * sample_rate * seconds
    rate, width = sample_rate, 2 * channels
    header = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", min(size + 36, 2**32 - 1), b"WAVE", b"fmt ",
                         16, 1, channels, rate, min(rate * width, 2**32 - 1), width % 2**16, 16,
                         b"data", claimed or min(size, 2**32 - 1))  # fmt: skip
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + size)


def write_coded_sound(path: Path, codec: str, seconds: int, rate: int = 48_000) -> None:
    """One packet of silence, repeated."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=rate, layout="mono")
        size = 0
        packets = []
        for i in range(8):
            size = stream.codec_context.frame_size or 960
            frame = av.AudioFrame.from_ndarray(
                np.zeros((1, size), np.float32 if "fltp" in stream.format.name else np.int16),
                "fltp" if "fltp" in stream.format.name else "s16", "mono")  # fmt: skip
            frame.sample_rate, frame.pts, frame.time_base = rate, i * size, Fraction(1, rate)
            packets += stream.encode(frame)
        repeat(output, stream, bytes(packets[-1]), seconds * rate // size, size, Fraction(1, rate))


def write_pcm_packets(path: Path, times: int) -> None:
    """A packet for every sample."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("pcm_s16le", rate=1000, layout="mono")
        repeat(output, stream, bytes(2), times, 1, Fraction(1, 1000))


# --- many packets, cues and streams --------------------------------------------------------------


def write_many_frames(path: Path, times: int, step: int = 1) -> None:
    """Tiny uncompressed pictures."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("rawvideo", rate=1000)
        stream.width = stream.height = 2
        stream.pix_fmt = "gray"
        repeat(output, stream, bytes(4), times, step, Fraction(1, 1000))


def write_cues(path: Path, times: int, words: bytes) -> None:
    """Subtitles beside a second of silence."""
    source_path = path.with_suffix(".srt")
    source_path.write_text("1\n00:00:00,000 --> 00:00:01,000\nfirst\n")
    with av.open(str(source_path)) as source, av.open(str(path), "w") as output:
        sound = output.add_stream("pcm_s16le", rate=16_000, layout="mono")
        stream = output.add_stream_from_template(source.streams[0])
        repeat(output, sound, bytes(32_000), 1, 16_000, Fraction(1, 16_000))
        repeat(output, stream, words, times, 1, Fraction(1, 1000))
    source_path.unlink()


def write_attachment(path: Path, size: int) -> None:
    with av.open(str(path), "w") as output:
        sound = output.add_stream("pcm_s16le", rate=16_000, layout="mono")
        output.add_attachment("font.ttf", "application/x-truetype-font", bytes(size))
        repeat(output, sound, bytes(32_000), 1, 16_000, Fraction(1, 16_000))


# --- headers that lie ----------------------------------------------------------------------------


def atom(kind: bytes, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return struct.pack(">I", 8 + len(data)) + kind + data


FTYP = atom(b"ftyp", b"isom", bytes(4), b"isommp42")


def write_nested_atoms(path: Path, depth: int) -> None:
    """Boxes in boxes: only their heads, since each is all of its box."""
    heads = b"".join(struct.pack(">I", 8 * (depth - i)) + b"udta" for i in range(depth))
    path.write_bytes(FTYP + atom(b"moov", heads))


def write_many_samples(path: Path, num_samples: int, timescale: int, duration: int) -> None:
    """A video track whose table says: so many samples, all of one byte, all in one chunk."""
    entry = struct.pack(">6xH16xHHII4xH32xHh", 1, 64, 64, 72 << 16, 72 << 16, 1, 24, -1)
    tables = (
        atom(b"stsd", struct.pack(">II", 0, 1), atom(b"raw ", entry)),
        atom(b"stts", struct.pack(">IIII", 0, 1, num_samples, duration)),
        atom(b"stsc", struct.pack(">IIIII", 0, 1, 1, num_samples, 1)),
        atom(b"stsz", struct.pack(">III", 0, 1, num_samples)),
        atom(b"stco", struct.pack(">III", 0, 1, 28)),
    )
    media = atom(
        b"mdia",
        atom(b"mdhd", struct.pack(">IIIIIHH", 0, 0, 0, timescale, 2**32 - 1, 0, 0)),
        atom(b"hdlr", struct.pack(">II4s12x", 0, 0, b"vide"), b"\0"),
        atom(b"minf", atom(b"stbl", *tables)),
    )
    identity = struct.pack(">9I", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    head = atom(b"tkhd", struct.pack(">IIIIII", 3, 0, 0, 1, 0, 1), bytes(16), identity,
                struct.pack(">II", 64 << 16, 64 << 16))  # fmt: skip
    movie = atom(b"mvhd", struct.pack(">IIIII", 0, 0, 0, timescale, 2**32 - 1), bytes(80))
    path.write_bytes(FTYP + atom(b"moov", movie, atom(b"trak", head, media)) + bytes(1000))


def write_id3(path: Path, frames: int, side: int = 0, packed_size: int = 0) -> None:
    """An mp3 with covers; packed ones grow to `packed_size` bytes each when they are opened."""

    def number(value: int) -> bytes:
        return bytes(value >> shift & 127 for shift in (21, 14, 7, 0))

    data = b"\0image/png\0\3\0" + (png(side) if side else b"\x89PNG")
    flags = b"\0\0"
    if packed_size:
        packer = zlib.compressobj(9)
        zeros = bytes(1 << 20)
        data = packer.compress(data) + b"".join(
            packer.compress(zeros) for _ in range(packed_size >> 20)
        )
        data = number(packed_size) + data + packer.flush()
        flags = b"\0\x09"
    frame = b"APIC" + number(len(data)) + flags + data
    tag = b"ID3\4\0\0" + number(len(frame) * frames) + frame * frames
    silence = path.with_name("silence.mp3")
    write_coded_sound(silence, "libmp3lame", 2, 44_100)
    path.write_bytes(tag + silence.read_bytes())
    silence.unlink()


def write_flac_tag(path: Path, size: int) -> None:
    """A FLAC whose comments claim more than the file has."""
    info = struct.pack(
        ">HH3x3x8s16s", 4096, 4096, (16_000 << 44 | 15 << 36).to_bytes(8, "big"), b""
    )
    path.write_bytes(
        b"fLaC" + b"\0\0\0\x22" + info + b"\x84" + size.to_bytes(3, "big") + bytes(999)
    )


BOMBS: dict[str, Callable[[Path], None]] = {
    "picture 16000.png": partial(write_png, side=16_000),
    "picture 5900.png": partial(write_png, side=5900),
    "picture 5900 deep.png": partial(write_png, side=5900, bits=16),
    "animated 5900.apng": partial(write_png, side=5900, frames=30, claimed=2**31 - 1),
    "picture 5900.webp": partial(write_picture, codec="libwebp", pix_fmt="yuv420p", side=5900),
    "picture 5900.tiff": partial(write_picture, codec="tiff", pix_fmt="rgb24", side=5900),
    "animated 5900.gif": partial(write_picture, codec="gif", pix_fmt="rgb8", side=5900, times=300),
    "video 5900.mp4": partial(write_video, side=5900, num_frames=30, options={}),
    "video 5900 references.mp4": partial(
        write_video, side=5900, num_frames=20, options={"ref": "16", "preset": "veryfast"}
    ),
    "ten hours.flac": partial(write_flac, sample_rate=16_000, channels=1, seconds=HOURS),
    "an hour, 8 channels.flac": partial(
        write_flac, sample_rate=48_000, channels=8, seconds=HOURS // 10
    ),
    "ten hours.wav": partial(write_wav, sample_rate=16_000, channels=1, seconds=HOURS),
    "16 channels.wav": partial(write_wav, sample_rate=192_000, channels=16, seconds=310),
    "fast, cut off.wav": partial(
        write_wav, sample_rate=192_000, channels=16, seconds=1, claimed=2**32 - 1
    ),
    "65535 channels.wav": partial(
        write_wav, sample_rate=2**31 - 1, channels=65_535, seconds=0, claimed=2**32 - 1
    ),
    "ten hours.ogg": partial(write_coded_sound, codec="libopus", seconds=HOURS),
    "ten hours.mp3": partial(write_coded_sound, codec="libmp3lame", seconds=HOURS),
    "ten hours.m4a": partial(write_coded_sound, codec="aac", seconds=HOURS),
    "ten hours.mka": partial(write_coded_sound, codec="libopus", seconds=HOURS),
    "tiny packets of sound.mka": partial(write_pcm_packets, times=5_000_000),
    "tiny frames.mkv": partial(write_many_frames, times=5_000_000),
    "frames far apart.mkv": partial(write_many_frames, times=3, step=2**40),
    "subtitles.mkv": partial(write_cues, times=1_000_000, words=b"so good"),
    "long subtitles.mkv": partial(write_cues, times=3, words=b"so good " * 10_000_000),
    "attachment.mkv": partial(write_attachment, size=400_000_000),
    "nested atoms.mp4": partial(write_nested_atoms, depth=200_000),
    "many samples.mp4": partial(
        write_many_samples, num_samples=170_000_000, timescale=1000, duration=1
    ),
    "endless samples.mp4": partial(
        write_many_samples, num_samples=100, timescale=1, duration=2**31 - 1
    ),
    "large cover.mp3": partial(write_id3, frames=1, side=16_000),
    "packed covers.mp3": partial(write_id3, frames=60, packed_size=200_000_000),
    "lying comments.flac": partial(write_flac_tag, size=2**24 - 1),
}
