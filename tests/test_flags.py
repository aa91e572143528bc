"""Groups of options: what Typer sees, and what the library gets."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from omni_msa.commands.flags import (
    BatchFlags,
    MediaFlags,
    ModelFlags,
    parse_modalities,
    takes_flags,
)
from omni_msa.errors import ConfigError, ResultsError
from omni_msa.options import BatchOptions, MediaOptions, ModelOptions


def test_a_group_becomes_flat_options_and_comes_back_filled():
    seen = {}

    @takes_flags
    def command(*, name: str = "x", media: MediaFlags, model: ModelFlags) -> None:
        seen.update(name=name, media=media, model=model)

    names = list(inspect.signature(command).parameters)
    assert names[:3] == ["name", "decoder", "fps"] and "device" in names and "media" not in names
    values = {p.name: p.default for p in inspect.signature(command).parameters.values()}
    command(**(values | {"fps": 4.0, "device": "cpu"}))
    assert seen == {"name": "x", "media": MediaFlags(fps=4.0), "model": ModelFlags(device="cpu")}


def test_defaults_are_those_of_the_library():
    assert ModelFlags().options() == ModelOptions()
    assert BatchFlags().options() == BatchOptions()
    assert MediaFlags().overrides() == {}


def test_only_given_media_options_replace_the_checkpoints():
    overrides = MediaFlags(fps=1.0, max_frames=8).overrides()
    assert overrides == {"fps": 1.0, "max_frames": 8}
    assert MediaOptions(**overrides).max_frames == 8


def test_detail_is_a_name_for_pixels_over_a_checkpoints_own():
    overrides = MediaFlags(detail="reference", denoise="spectral").overrides()
    assert overrides == {
        "min_pixels": 128 * 784, "max_pixels": 768 * 784, "denoise": "spectral"
    }  # fmt: skip
    stored = MediaOptions(min_pixels=12 * 784, max_pixels=36 * 784).to_json()
    assert MediaOptions.over(stored, overrides).min_pixels == 128 * 784
    assert MediaOptions.over(stored, MediaFlags().overrides()).max_pixels == 36 * 784


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"detail": "high"}, "--detail 'high' is not known; choose one of: low, standard"),
        ({"detail": "low", "max_pixels": 784}, "--detail and --max-pixels both set the pixels"),
    ],
)
def test_details_that_cannot_be(flags, message):
    with pytest.raises(ConfigError, match=message):
        MediaFlags(**flags).overrides()


@pytest.mark.parametrize(
    ("values", "subset"),
    [
        ([], set()),
        (["audio"], {"audio"}),
        (["audio", "text"], {"audio", "text"}),
        (["audio, text", "audio"], {"audio", "text"}),
    ],
)
def test_drop_is_repeatable_and_comma_separated(values, subset):
    assert parse_modalities(values) == subset


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["voice"], "'voice' is not known; choose one of: text, audio, video"),
        ([""], "'' is not known"),
        (["text,audio", "video,ecg"], "leaves nothing to score"),
    ],
)
def test_drop_refuses(values, words):
    with pytest.raises(ConfigError, match=words):
        parse_modalities(values)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (BatchFlags(fresh=True), "add -o FILE"),
        (BatchFlags(retry_failed=True), "add -o FILE"),
        (BatchFlags(output=Path("a.txt")), r"results end in one of \.jsonl, \.csv, \.parquet"),
        (BatchFlags(batch_size=0), "batch size must be 1 to 1024, got 0"),
        (BatchFlags(workers=0), "workers must be 1 to 64, got 0"),
    ],
)
def test_batch_options_are_checked(flags, words):
    with pytest.raises((ConfigError, ResultsError), match=words):
        flags.options()
