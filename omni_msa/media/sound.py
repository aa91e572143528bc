"""Sound as the model takes it: mono, 16 kHz, cut to the clip's window, and warnings about it.

Plain audio files are read by soundfile (libsndfile); everything else, and what it cannot read, by
PyAV. mp3 is read by PyAV too: libsndfile's mp3 decoder writes messages to the terminal.
"""

from __future__ import annotations

from math import gcd
from pathlib import Path

import numpy as np
import soundfile

from omni_msa.media.container import Deadline
from omni_msa.media.probe import Media
from omni_msa.media.pyav_sound import (
    LOOK_AHEAD_SECONDS,
    WARM_UP_SECONDS,
    mean_of_channels,
    read_sound,
    resample,
)
from omni_msa.options import MediaOptions
from omni_msa.values import SAMPLE_RATE

SOUNDFILE_CONTAINERS = frozenset({"wav", "w64", "flac", "ogg", "aiff", "au", "caf"})
MIN_SAMPLES = 480  # three mel frames: the least that the audio tower turns into one token
BLOCK_VALUES = 2**18  # numbers of all channels that are read at once; they fit into a cache


def read_waveform(
    media: Media,
    options: MediaOptions,
    window: tuple[float | None, float | None],
    deadline: Deadline,
) -> tuple[np.ndarray | None, str, list[str]]:
    """The sound of a clip, or None when nothing of it decodes.

    Returns:
        mono samples at 16 kHz, float32 [S]; which library read them; and warnings.
    """
    facts, track = media.facts, media.facts.audio
    assert track is not None
    start = max((window[0] or 0.0) - track.start_seconds, 0.0)
    stop = np.inf if window[1] is None else max(window[1] - track.start_seconds, 0.0)
    limit = start + options.max_audio_seconds
    span = start, min(stop, limit + 1.0)
    samples, reader, warnings = _read_samples(media, span, deadline)
    if np.isfinite(stop):
        samples = samples[: max(round((stop - start) * SAMPLE_RATE), 0)]
    if not len(samples):
        return None, reader, [*warnings, "scored without audio: no sound is left in it"]
    max_samples = round(options.max_audio_seconds * SAMPLE_RATE)
    if len(samples) > max_samples:
        samples = samples[:max_samples]
        whole = min(stop, facts.duration_from_header_seconds or 0.0) - start
        of = f" of {whole:.0f} s" if whole > options.max_audio_seconds else ""
        warnings.append(f"audio truncated: first {options.max_audio_seconds:g} s{of} heard")
    if track.sample_rate < SAMPLE_RATE:
        warnings.append(f"audio upsampled: from {track.sample_rate} Hz")
    if not np.isfinite(samples).all():
        num_bad = int((~np.isfinite(samples)).sum())
        samples = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
        warnings.append(f"damaged audio: {num_bad} samples are no number, taken as silence")
    if not samples.any():
        warnings.append("silent audio: every sample is the same zero")
    if len(samples) < MIN_SAMPLES:
        warnings.append(
            f"short audio: {1000 * len(samples) / SAMPLE_RATE:.0f} ms, padded with silence"
        )
        samples = np.pad(samples, (0, MIN_SAMPLES - len(samples)))
    return np.ascontiguousarray(samples, np.float32), reader, warnings


def _read_samples(
    media: Media, span: tuple[float, float], deadline: Deadline
) -> tuple[np.ndarray, str, list[str]]:
    """Sound from the start of a span to its stop or a little more, in seconds of the track."""
    facts = media.facts
    if facts.video is None and facts.container in SOUNDFILE_CONTAINERS:
        try:
            return _read_plain(facts.path, span, deadline), "soundfile", []
        except (soundfile.LibsndfileError, RuntimeError, ValueError):
            pass  # damaged, or a codec that libsndfile lacks: PyAV tries it
    assert facts.audio is not None
    samples, warnings = read_sound(media.packets[facts.audio.index], deadline, *span)
    return samples, "pyav", warnings


def _read_plain(path: Path, span: tuple[float, float], deadline: Deadline) -> np.ndarray:
    """A span of a plain audio file -> mono at 16 kHz: float32 [S].

    Raises:
        soundfile.LibsndfileError: libsndfile does not read it.
        ValueError: it reads less than the header promises.
    """
    parts: list[np.ndarray] = []
    with soundfile.SoundFile(path) as file:
        begin = _place_before(span[0], file.samplerate)
        if begin:
            file.seek(begin)
        samples_to_read = int((span[1] + LOOK_AHEAD_SECONDS) * file.samplerate) - begin
        while samples_to_read > 0:
            deadline.check()
            block = file.read(
                min(samples_to_read, BLOCK_VALUES // file.channels),
                dtype="float32",
                always_2d=True,
            )  # [S, C]
            if not len(block):
                break
            parts.append(mean_of_channels(block.T))
            samples_to_read -= len(block)
        if not parts:
            raise ValueError("no samples")
        samples = resample(np.concatenate(parts), file.samplerate)
        begin_at_16_khz = begin * SAMPLE_RATE // file.samplerate
        return samples[int(span[0] * SAMPLE_RATE) - begin_at_16_khz :]


def _place_before(start_seconds: float, sample_rate: int) -> int:
    """A sample about a second before a moment, for the resampler to look back at; a whole number
    of samples at 16 kHz, so that it resamples there as it does from the beginning."""
    period = sample_rate // gcd(sample_rate, SAMPLE_RATE)
    return max(int((start_seconds - WARM_UP_SECONDS) * sample_rate), 0) // period * period
