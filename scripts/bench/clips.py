"""Talking heads of any size, length and codec, for benchmarks: drawn, moved and filmed with grain.

A minute of film is a take of some four seconds, forth and back; the sensor's noise never repeats in
step with it, so that a codec finds about as much to code as in a camera's picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from scripts.tiny.clips import SPEECH_RATE, draw_spec, encode, perform

SEED = 5  # of the person, the place and the words
RATE = 25  # frames a second
GRAIN = 3.0  # standard deviation of the sensor's noise, of 255 levels
NUM_PEOPLE = 20  # in a folder of short clips
NUM_GRAINS = 7  # noise pictures, taken in turn and shifted
CODECS = {
    "h264": ("libx264", {"preset": "medium", "crf": "23", "sc_threshold": "0"}),
    "hevc": (
        "libx265",
        {"preset": "fast", "crf": "26", "x265-params": "log-level=error:scenecut=0"},
    ),
    "vp9": ("libvpx-vp9", {"crf": "34", "b": "0", "deadline": "realtime", "cpu-used": "5"}),
    "av1": ("libsvtav1", {"preset": "9", "crf": "36"}),
}


@dataclass(frozen=True)
class Film:
    """What a clip is like; `keyframe_seconds` apart are the pictures that can be decoded alone."""

    seconds: float = 10.0
    height: int = 720
    codec: str = "h264"
    keyframe_seconds: float = 10.0

    @property
    def name(self) -> str:
        return f"{self.codec} {self.height}p {self.seconds:g}s key {self.keyframe_seconds:g}s"


class _Filmed(Sequence[np.ndarray]):
    """The frames of a clip of any length, made as they are encoded."""

    def __init__(self, take: Sequence[np.ndarray], num_frames: int, seed: int = 0) -> None:
        self._take = take
        self._num_frames = num_frames
        rng = np.random.default_rng(seed)
        shape = (*take[0].shape[:2], 1)
        self._grains = [rng.normal(0, GRAIN, shape).astype(np.int16) for _ in range(NUM_GRAINS)]

    def __len__(self) -> int:
        return self._num_frames

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        if not 0 <= index < self._num_frames:
            raise IndexError(index)
        last = len(self._take) - 1
        place = index % (2 * last)
        frame = self._take[min(place, 2 * last - place)]
        grain = np.roll(self._grains[index % NUM_GRAINS], (37 * index, 53 * index), (0, 1))
        return np.clip(frame.astype(np.int16) + grain, 0, 255).astype(np.uint8)


def make_film(film: Film, folder: Path) -> Path:
    """Draws and encodes a clip, unless the folder has it: H.264 and HEVC in mp4, else in webm."""
    path = folder / f"{film.name}.{'mp4' if film.codec in ('h264', 'hevc') else 'webm'}"
    if path.exists():
        return path
    frames, sound = _take(film.height)
    codec, options = CODECS[film.codec]
    options = options | {"g": str(round(film.keyframe_seconds * RATE))}
    if film.codec == "hevc":
        options["x265-params"] += f":keyint={options['g']}"
    samples = np.resize(sound, round(film.seconds * SPEECH_RATE))
    audio = ("aac" if path.suffix == ".mp4" else "libopus", samples, 44_100)
    unfinished = path.with_stem("unfinished")
    picture = _Filmed(frames, round(film.seconds * RATE))
    encode(unfinished, (codec, picture), RATE, audio, options)
    return unfinished.replace(path)


@lru_cache(maxsize=1)
def _take(height: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Frames and sound of one person who speaks."""
    width = round(height * 16 / 9 / 2) * 2
    take = perform(draw_spec(SEED, "glad", "both"), (width, height), RATE)
    return take.frames, take.sound


def make_short_films(folder: Path, count: int) -> None:
    """That many talking heads of 3 to 5 seconds, 360p in H.264, with a transcript each, as a corpus
    of utterances has them; of `NUM_PEOPLE` people, each time with another grain and length."""
    folder.mkdir(parents=True, exist_ok=True)
    codec, options = CODECS["h264"]
    for person in range(NUM_PEOPLE):
        numbers = range(person, count, NUM_PEOPLE)
        paths = [folder / f"{number:04}.mp4" for number in numbers]
        if all(path.exists() for path in paths):
            continue
        spec = draw_spec(person, "independent", "both")
        take = perform(spec, (640, 360), RATE)
        for number, path in zip(numbers, paths, strict=True):
            num_frames = 3 * RATE + 7 * number % (2 * RATE)
            samples = np.resize(take.sound, round(num_frames / RATE * SPEECH_RATE))
            picture = codec, _Filmed(take.frames, num_frames, number)
            unfinished = path.with_stem("unfinished")
            quick = options | {"preset": "veryfast"}
            encode(unfinished, picture, RATE, ("aac", samples, 44_100), quick)
            path.with_suffix(".txt").write_text(spec.text)
            unfinished.replace(path)
