"""Real small media files, made by PyAV inside the tests: good ones, odd ones and broken ones.

Frames carry their number as a grey level, so that a test can tell which frame it was shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

STEP = 6  # grey levels from one frame to the next; survives lossy coding
FIRST = 16


def grey(index: int) -> int:
    return FIRST + STEP * index


def frame_number(rgb: np.ndarray) -> int:
    """Which frame this is: [H, W, 3] -> its number."""
    return round((float(rgb.mean()) - FIRST) / STEP)


def tone(seconds: float, sample_rate: int = 16_000, hertz: float = 440.0) -> np.ndarray:
    return (
        0.3 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * sample_rate)) / sample_rate)
    ).astype(np.float32)


def pattern(index: int, size: tuple[int, int]) -> np.ndarray:
    """A frame: its number as grey, and a white corner at the top left to tell which way is up."""
    width, height = size
    rgb = np.full((height, width, 3), grey(index), np.uint8)
    rgb[: height // 4, : width // 4] = 255
    return rgb


def write_media(
    path: Path,
    num_frames: int = 24,
    rate: int = 8,
    size: tuple[int, int] = (64, 48),
    sound: np.ndarray | None = None,
    sample_rate: int = 16_000,
    times_seconds: Sequence[float] | None = None,
    codec: str = "libx264",
    audio_codec: str = "aac",
    corner: bool = False,
    rotation: int = 0,
    subtitle: Sequence[tuple[float, float, str]] = (),
) -> Path:
    """One file; with `num_frames` 0 it holds sound only. Frames are flat unless `corner`."""
    with av.open(str(path), "w") as output:
        video = audio = None
        if num_frames:
            video = output.add_stream(codec, rate=rate)
            video.width, video.height = size
            video.pix_fmt = "yuv420p"
            if codec == "libx264":
                video.options = {"crf": "10", "preset": "ultrafast"}
            else:
                video.bit_rate = 2_000_000
            if times_seconds is not None:
                video.codec_context.time_base = Fraction(1, 1000)
            if rotation:
                video.set_display_rotation(rotation)
        if sound is not None:
            audio = output.add_stream(audio_codec, rate=sample_rate, layout="mono")
        source = av.open(str(_srt(path, subtitle))) if subtitle else None
        words = output.add_stream_from_template(source.streams[0]) if source else None
        if video is not None:
            for i in range(num_frames):
                rgb = pattern(i, size) if corner else np.full((*size[::-1], 3), grey(i), np.uint8)
                frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
                if times_seconds is None:
                    frame.pts, frame.time_base = i, Fraction(1, rate)
                else:
                    frame.pts, frame.time_base = round(times_seconds[i] * 1000), Fraction(1, 1000)
                output.mux(video.encode(frame))
            output.mux(video.encode())
        if audio is not None and sound is not None:
            _write_sound(output, audio, sound)
        if source is not None:
            for packet in source.demux():
                if packet.size:
                    packet.stream = words
                    output.mux(packet)
            source.close()
    return path


def _srt(path: Path, cues: Sequence[tuple[float, float, str]]) -> Path:
    """A subtitle file under a name that is no sidecar of `path`."""
    blocks = [
        f"{i}\n00:00:{start:06.3f} --> 00:00:{end:06.3f}\n{text}\n".replace(".", ",")
        for i, (start, end, text) in enumerate(cues, 1)
    ]
    file = path.parent / f"source of {path.stem}.srt"
    file.write_text("\n".join(blocks))
    return file


def _write_sound(output, stream, sound: np.ndarray) -> None:
    frame = av.AudioFrame.from_ndarray(sound[None], "fltp", "mono")
    frame.sample_rate, frame.pts, frame.time_base = stream.rate, 0, Fraction(1, stream.rate)
    resampler = av.AudioResampler(
        format=stream.format, layout="mono", rate=stream.rate, frame_size=stream.frame_size or 1024
    )
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        output.mux(stream.encode(part))
    output.mux(stream.encode())
