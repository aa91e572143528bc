"""Speech: a request is its samples, whatever was said before; every voice in use really exists."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

pytest.importorskip("espeakng_loader", reason="speaking needs the tiny extra")

from scripts.tiny import espeak  # noqa: E402
from scripts.tiny.voice import ACCENTS, SPEECH_RMS, TIMBRES, Prosody, Voice, speak  # noqa: E402

SENTENCE = "<speak>I love this film.</speak>"
BREATHY = "en-us+f5"  # random noise in every sample


def test_a_request_is_its_samples_in_any_order_and_in_any_process():
    first = espeak.say(SENTENCE, BREATHY, 178)
    espeak.say("<speak>Something quite different.</speak>", "en-029+m1", 120)
    np.testing.assert_array_equal(espeak.say(SENTENCE, BREATHY, 178), first)
    program = (
        "import sys\nfrom scripts.tiny import espeak\n"
        f"samples = espeak.say({SENTENCE!r}, {BREATHY!r}, 178)\n"
        "sys.stdout.buffer.write(samples.tobytes())"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True)
    assert done.stdout == first.tobytes(), done.stderr


def test_every_accent_and_timbre_is_a_voice_of_its_own():
    """An unknown variant is no error to espeak-ng: it would speak with the accent's plain voice."""
    text = "<speak>I love this film, it was the best evening of my life.</speak>"
    timbres = {espeak.say(text, f"en-us+{name}", 178).tobytes() for name in TIMBRES}
    accents = {espeak.say(text, f"{name}+m3", 178).tobytes() for name in ACCENTS}
    assert len(timbres) == len(TIMBRES)
    assert len(accents) == len(set(ACCENTS))
    assert espeak.say(text, "en-us", 178).tobytes() not in timbres | accents


def test_pace_is_in_words_a_minute_and_no_silence_is_added_at_the_end():
    slow, fast = (espeak.say(SENTENCE, "en-us+m3", pace) for pace in (100, 200))
    assert 1.6 < len(slow) / len(fast) < 2.4
    silence = np.argmax(np.abs(fast[::-1]) > 0) / espeak.SPEECH_RATE
    assert silence < 0.5


def pitch_hz(samples: np.ndarray) -> float:
    """The usual pitch: where the autocorrelation peaks between 60 and 400 Hz."""
    spectrum = np.fft.rfft(samples.astype(float), 2 * len(samples))
    similarity = np.fft.irfft(np.abs(spectrum) ** 2)
    shortest, longest = espeak.SPEECH_RATE // 400, espeak.SPEECH_RATE // 60
    return espeak.SPEECH_RATE / (shortest + np.argmax(similarity[shortest:longest]))


def test_markup_is_obeyed_and_not_read_aloud():
    low, high = (
        espeak.say(
            f'<speak><prosody pitch="{pitch}" range="10">I love this film.</prosody></speak>',
            "en-us+m3",
            178,
        )
        for pitch in (20, 80)
    )
    assert abs(len(high) - len(low)) < 0.1 * len(low)
    semitones = 12 * np.log2(pitch_hz(high) / pitch_hz(low))
    assert semitones == pytest.approx(60 * 0.16, abs=2)


def test_a_voice_that_does_not_exist_is_named():
    with pytest.raises(RuntimeError, match="no voice 'xx-nowhere'"):
        espeak.say(SENTENCE, "xx-nowhere", 178)


def test_prosody_is_spoken_at_its_loudness():
    speaker = Voice("en-us", "m3", *TIMBRES["m3"])
    for loudness in (-1.0, 1.0):
        prosody = Prosody(pitch=0.2, pitch_range=0.5, pace=0.0, loudness=loudness)
        speech = speak("I <love> this & that.", speaker, prosody, np.random.default_rng(0))
        assert speech.dtype == np.float32
        level = np.sqrt(np.mean(speech**2))
        assert level == pytest.approx(SPEECH_RMS * 10 ** (4 * loudness / 20), rel=1e-3)


def test_words_without_sound_are_refused():
    speaker = Voice("en-us", "m3", *TIMBRES["m3"])
    with pytest.raises(RuntimeError, match="said nothing"):
        speak("...", speaker, Prosody(0, 0, 0, 0), np.random.default_rng(0))
