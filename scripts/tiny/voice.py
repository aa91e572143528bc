"""Speech from espeak-ng with a controlled prosody, and the stated voice term in [-1.5, 1.5].

Prosody is given in four numbers in [-1, 1] around the voice's own habit, which lies at one of two
pitches (men 118 Hz, women 218 Hz): so "high for this voice" can be heard without knowing the voice.
Recording conditions (noise, gain, band, room) vary on their own and carry no sentiment.
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.sax.saxutils import escape

import numpy as np
from scipy import signal

from scripts.tiny.espeak import SPEECH_RATE, say

MALE_HZ, FEMALE_HZ = 118.0, 218.0
PITCH_SEMITONES = 5.0  # pitch = 1 is this far above the habit
VOICE_LIMIT = 1.5
SPEECH_RMS = 10 ** (-23 / 20)


@dataclass(frozen=True)
class Prosody:
    """How it is said, each in [-1, 1] around the voice's habit."""

    pitch: float
    pitch_range: float
    pace: float
    loudness: float


def voice_term(prosody: Prosody) -> float:
    """The sentiment that is stated for a prosody, in [-1.5, 1.5].

    High sounds glad and low sounds bad, whether slow (sad) or fast (angry); a lively melody adds
    gladness; a flat one is deadpan, and only darkens a voice that is low already; pace helps a
    little, and loudness means nothing by itself.
    """
    lively = max(prosody.pitch_range, 0.0)
    dark = max(-prosody.pitch_range, 0.0) * max(-prosody.pitch, 0.0)
    value = 1.05 * prosody.pitch + 0.35 * (lively - dark) + 0.15 * prosody.pace
    return float(np.clip(value, -VOICE_LIMIT, VOICE_LIMIT))


@dataclass(frozen=True)
class Voice:
    """A speaker: an accent, a timbre, and the habit that espeak-ng gives that timbre."""

    accent: str
    variant: str
    pitch_hz: float  # measured at espeak-ng's default pitch
    range_semitones: float  # standard deviation, measured likewise

    @property
    def habit_hz(self) -> float:
        return MALE_HZ if self.pitch_hz < 150 else FEMALE_HZ


# English as its countries say it, then as speakers of other languages read it.
ACCENTS = (
    "en-us", "en-us", "en-us", "en-gb-x-gbclan", "en-gb-x-rp", "en-gb-scotland", "en-us-nyc",
    "en-029",
    "de", "fr", "es", "it", "pt", "pl", "nl", "sv", "tr", "hi",
)  # fmt: skip
TIMBRES = {  # variant: (pitch_hz, range_semitones), measured with pYIN on one sentence
    "m1": (96.3, 1.02), "m2": (100.9, 0.94), "m3": (106.0, 1.14), "m4": (94.7, 1.23),
    "m5": (103.8, 1.02), "m6": (100.9, 1.32), "m7": (106.3, 1.79), "Denis": (99.1, 1.28),
    "Diogo": (104.4, 1.49), "Michael": (108.7, 1.38), "adam": (102.9, 1.14), "max": (103.2, 1.11),
    "Gene": (95.2, 1.18), "Lee": (95.8, 0.98), "pablo": (115.2, 1.06), "michel": (104.4, 1.48),
    "f2": (194.9, 1.45), "f3": (210.7, 1.78), "f4": (178.7, 1.29),
    "f5": (207.7, 1.14), "belinda": (229.1, 0.77), "linda": (229.1, 0.78),
    "steph": (183.9, 0.69), "Alicia": (251.4, 1.70), "Andrea": (245.6, 0.92),
    "Annie": (242.8, 1.61), "aunty": (171.7, 0.93), "f1": (181.9, 1.44), "grandma": (204.2, 2.32),
    "shelby": (182.9, 2.57), "Andy": (96.9, 1.06), "Hugo": (110.7, 2.27), "Jacky": (113.3, 1.57),
    "Mario": (111.6, 1.13), "Mike": (94.2, 1.09), "antonio": (112.6, 0.87),
    "benjamin": (102.7, 1.46), "boris": (105.7, 0.96), "edward": (102.7, 1.54),
    "gustave": (106.9, 1.59), "iven": (101.5, 1.79), "john": (103.3, 0.87),
    "marcelo": (98.6, 2.06), "norbert": (101.5, 1.31), "pedro": (103.9, 1.39),
    "robert": (102.1, 1.37), "sandro": (100.3, 1.53), "travis": (103.3, 1.75),
    "victor": (96.4, 1.23),
}  # fmt: skip


@dataclass(frozen=True)
class Recording:
    """The microphone and the room."""

    noise_db: float  # noise below speech
    noise_colour: str  # white, pink or hum
    gain_db: float
    low_hz: float
    high_hz: float
    reverb: float  # 0 dry to 1
    music_db: float  # music below speech; inf for none
    coded: bool  # eight bits with mu-law, as telephones send
    lead_seconds: float
    tail_seconds: float


def words_per_minute(pace: float) -> float:
    return 178.0 * 1.42**pace


def _settings(voice: Voice, prosody: Prosody) -> tuple[float, float]:
    """espeak-ng's pitch and range numbers that give the wanted semitones.

    Measured: a step of pitch is 0.16 semitones; range is in Hz, so a higher pitch needs more of it,
    and each of its steps above 50 also lifts the median by 0.28 %.
    """
    ratio = voice.habit_hz * 2 ** (prosody.pitch * PITCH_SEMITONES / 12) / voice.pitch_hz
    spread = 1.3 / voice.range_semitones * (1.0 + 0.9 * prosody.pitch_range)
    pitch_range = float(np.clip(50 * ratio * spread, 2, 99))
    base = ratio - 0.0028 * (pitch_range - 50)
    return 50 + 12 * np.log2(base) / 0.16, pitch_range


def speak(text: str, voice: Voice, prosody: Prosody, rng: np.random.Generator) -> np.ndarray:
    """The bare voice, float32 at SPEECH_RATE. A lively melody also moves from word to word."""
    pitch, pitch_range = _settings(voice, prosody)
    spoken = text.split()
    swing = 0.25 + 1.9 * max(prosody.pitch_range, 0.0)  # semitones
    steps = rng.standard_normal(len(spoken)).clip(-1.6, 1.6) * swing
    steps -= steps.mean()
    marked = "".join(
        f'<prosody pitch="{int(np.clip(pitch + step / 0.16, 0, 99))}">{escape(word)}</prosody> '
        for word, step in zip(spoken, steps, strict=True)
    )
    ssml = f'<speak><prosody range="{round(pitch_range)}">{marked}</prosody></speak>'
    speaker, rate = f"{voice.accent}+{voice.variant}", round(words_per_minute(prosody.pace))
    samples = say(ssml, speaker, rate).astype(np.float32) / 32768
    if not len(samples) or not samples.any():
        raise RuntimeError(f"espeak-ng said nothing for {text!r}")
    level = np.sqrt(np.mean(samples**2))
    return (samples * (SPEECH_RMS / level) * 10 ** (4 * prosody.loudness / 20)).astype(np.float32)


def _noise(rng: np.random.Generator, colour: str, count: int) -> np.ndarray:
    white = rng.standard_normal(count)
    if colour == "pink":
        white = signal.lfilter([0.05], [1, -0.95], white) + 0.1 * white
    elif colour == "hum":
        time = np.arange(count) / SPEECH_RATE
        white = 0.4 * white + sum(np.sin(2 * np.pi * 50 * k * time) / k for k in (1, 2, 3))
    elif colour == "babble":  # many people at once: noise in the bands and syllables of speech
        syllables = 0.6 + 0.4 * np.sin(2 * np.pi * 4 * np.arange(count) / SPEECH_RATE)
        sos = signal.butter(2, [250, 2500], "bandpass", fs=SPEECH_RATE, output="sos")
        white = signal.sosfilt(sos, white) * syllables
    return white / np.sqrt(np.mean(white**2))


def _music(rng: np.random.Generator, count: int) -> np.ndarray:
    """Chords of plucked tones, two a second, at RMS 1."""
    time = np.arange(count) / SPEECH_RATE
    root = 110 * 2 ** (rng.integers(0, 12) / 12)
    sound = np.zeros(count)
    for start in np.arange(0, count / SPEECH_RATE, 0.5):
        since = time - start
        pluck = np.where(since >= 0, np.exp(-3 * np.maximum(since, 0)), 0)
        for step in rng.choice([0, 3, 4, 5, 7, 9, 12, 16, 19], 3, replace=False):
            sound += pluck * np.sin(2 * np.pi * root * 2 ** (step / 12) * since)
    return sound / (np.sqrt(np.mean(sound**2)) + 1e-9)


def record(speech: np.ndarray, room: Recording, rng: np.random.Generator) -> np.ndarray:
    """What the microphone gives: silence around, room, band, noise and gain; float32, |x| < 1."""
    pads = [int(s * SPEECH_RATE) for s in (room.lead_seconds, room.tail_seconds)]
    sound = np.pad(speech, pads).astype(np.float64)
    if room.reverb > 0:
        length = int(0.18 * SPEECH_RATE)
        echo = rng.standard_normal(length) * np.exp(-np.arange(length) / (0.04 * SPEECH_RATE))
        echo *= 0.5 * room.reverb / np.sqrt(np.sum(echo**2))
        sound = sound + signal.fftconvolve(sound, echo)[: len(sound)]
    noise = _noise(rng, room.noise_colour, len(sound))
    sound = sound + noise * SPEECH_RMS * 10 ** (-room.noise_db / 20)
    if np.isfinite(room.music_db):
        sound = sound + _music(rng, len(sound)) * SPEECH_RMS * 10 ** (-room.music_db / 20)
    band = [room.low_hz, min(room.high_hz, 0.45 * SPEECH_RATE)]
    sos = signal.butter(2, band, "bandpass", fs=SPEECH_RATE, output="sos")
    sound = signal.sosfilt(sos, sound) * 10 ** (room.gain_db / 20)
    if room.coded:
        loud = np.sign(sound) * np.log1p(255 * np.abs(sound).clip(0, 1)) / np.log(256)
        loud = np.round(loud * 127) / 127
        sound = np.sign(loud) * (256 ** np.abs(loud) - 1) / 255
    return np.tanh(sound / 0.95).astype(np.float32) * 0.95


def envelope(speech: np.ndarray, times_seconds: np.ndarray, lead_seconds: float) -> np.ndarray:
    """How wide the mouth is open at each time, 0 to 1, from the loudness of the voice."""
    hop = SPEECH_RATE // 50
    count = len(speech) // hop
    level = np.sqrt((speech[: count * hop].reshape(count, hop) ** 2).mean(1))
    level = np.clip(level / (1.8 * level.mean() + 1e-9), 0, 1)
    grid = (np.arange(count) + 0.5) / 50 + lead_seconds
    return np.interp(times_seconds, grid, level, left=0.0, right=0.0)
