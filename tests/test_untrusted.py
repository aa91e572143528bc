"""Checkpoints, bases, states and caches from elsewhere: no code of theirs runs, and values that
cannot be are refused by name."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from media_files import write_media

from omni_msa.errors import ModelError
from omni_msa.files.labels import LabelSpace
from omni_msa.foreign import MAX_JSON_BYTES
from omni_msa.media import read_clip
from omni_msa.media.cache import ContentCache
from omni_msa.model.limits import check_weights
from omni_msa.model.loading import load_thinker
from omni_msa.options import MediaOptions, ModelOptions
from omni_msa.scoring.checkpoint import CheckpointInfo, read_info
from omni_msa.scoring.scorer import Scorer
from omni_msa.training.run_folder import STATE, RunFolder
from omni_msa.values import Clip


class Touch:
    """Its pickle makes a file when it is opened carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def trap(tmp_path) -> Path:
    """What would exist if a pickle had run."""
    return tmp_path / "ran"


def copied(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to))


def changed(path: Path, change) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


# --- nothing runs ----------------------------------------------------------------------------


def test_a_pickle_is_a_trap_where_it_is_opened(trap):
    pickle.loads(pickle.dumps(Touch(trap))).close()
    assert trap.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_weights_of_a_base_are_never_unpickled(base_folder, tmp_path, trap, name):
    folder = copied(base_folder, tmp_path / "base")
    for path in folder.glob("*.safetensors*"):
        path.unlink()
    torch.save({"thinker.x": Touch(trap)}, folder / name)
    with pytest.raises(ModelError):
        load_thinker(str(folder))
    assert not trap.exists()


def test_a_base_brings_no_code(base_folder, tmp_path, trap):
    folder = copied(base_folder, tmp_path / "base")
    for name in ("modeling_own", "tokenization_own", "processing_own"):
        (folder / f"{name}.py").write_text(f"open({str(trap)!r}, 'w')\nclass Own: pass\n")
    own = {
        "AutoConfig": "modeling_own.Own",
        "AutoModel": "modeling_own.Own",
        "AutoTokenizer": ["tokenization_own.Own", "tokenization_own.Own"],
        "AutoProcessor": "processing_own.Own",
        "AutoFeatureExtractor": "processing_own.Own",
        "AutoImageProcessor": "processing_own.Own",
        "AutoVideoProcessor": "processing_own.Own",
    }
    for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json"):
        changed(folder / name, lambda document: document.update(auto_map=own))
    try:
        load_thinker(str(folder))  # with its own classes, or not at all
    except ModelError:
        pass
    assert not trap.exists()


@pytest.mark.parametrize("name", ["readout.safetensors", "adapter_model.safetensors"])
def test_weights_of_a_checkpoint_are_never_unpickled(
    base_folder, checkpoint_folder, tmp_path, trap, name
):
    folder = copied(checkpoint_folder, tmp_path / "checkpoint")
    torch.save({"x": Touch(trap)}, folder / name)
    key = "readout_sha256" if name.startswith("readout") else "adapter_sha256"
    from omni_msa.model.identity import file_sha256

    digest = file_sha256(folder / name)
    changed(folder / "omni_msa.json", lambda document: document.update({key: digest}))
    for other in ("adapter_model.bin", "readout.bin", "readout.pt"):
        torch.save({"x": Touch(trap)}, folder / other)
    with pytest.raises(ModelError):
        Scorer.load(ModelOptions(model=str(base_folder), checkpoint=str(folder)))
    assert not trap.exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_the_state_of_a_run_is_never_unpickled(tmp_path, trap, legacy):
    folder = tmp_path / "run"
    folder.mkdir()
    state = {"fingerprint": "f", "log_bytes": 0, "position": Touch(trap)}
    torch.save(state, folder / STATE, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ModelError, match="is damaged"):
        RunFolder(folder, "f", fresh=False)
    assert not trap.exists()


@pytest.mark.parametrize("state", [[1], {"fingerprint": "f"}, {"log_bytes": 0}, "text"])
def test_a_state_of_something_else_is_damaged(tmp_path, state):
    torch.save(state, tmp_path / STATE)
    with pytest.raises(ModelError, match="is damaged"):
        RunFolder(tmp_path, "f", fresh=False)


def test_an_entry_of_the_cache_is_never_unpickled(tmp_path, trap):
    clip = Clip(path=write_media(tmp_path / "a.mp4", 8, 8))
    cache = ContentCache(tmp_path / "cache", 10**9)
    key = cache.key(clip, MediaOptions())
    assert key is not None
    entry = tmp_path / "cache" / key[:2] / f"{key}.npz"
    content = read_clip(clip, MediaOptions())
    cache.put(key, content)
    assert cache.get(key, clip) is not None
    with np.load(entry) as archive:
        arrays = dict(archive)
    np.savez(entry, **(arrays | {"video.rgb": np.array([Touch(trap)], object)}))
    assert cache.get(key, clip) is None and not trap.exists() and not entry.exists()
    entry.write_bytes(pickle.dumps(Touch(trap)))
    assert cache.get(key, clip) is None and not trap.exists()
    cache.put(key, content)
    with np.load(entry) as archive:
        arrays = dict(archive)
    np.savez_compressed(entry, **arrays)  # small on the disk, and as large as it likes in memory
    assert cache.get(key, clip) is None
    with zipfile.ZipFile(entry, "w") as archive:
        archive.writestr("about.npy", b"\x93NUMPY")
    assert cache.get(key, clip) is None


def test_no_call_allows_what_would_run_code():
    package = Path(__file__).parents[1] / "omni_msa"
    text = "\n".join(path.read_text() for path in package.rglob("*.py"))
    assert "trust_remote_code=True" not in text and "allow_pickle=True" not in text
    assert text.count("torch.load(") == text.count("weights_only=True")
    calls = text.count(".from_pretrained(") + text.count("AutoModel.from_config(")
    assert calls == text.count("trust_remote_code=False")


# --- values that cannot be -------------------------------------------------------------------

BAD_CHECKPOINTS = {
    "scale.low": ("scale", "low", float("nan")),
    "scale.high": ("scale", "high", "3"),
    "scale.deviation": ("scale", "deviation", 0),
    "scale.mean": ("scale", "mean", 10**300),
    "scale.classes": ("scale", "classes", ["a"] * 100_000),
    "media.max_frames": ("media", "max_frames", "16"),
    "media.fps": ("media", "fps", None),
    "lora.rank": ("lora", "rank", -4),
    "metrics": ("metrics", "mae", "good"),
    "hide": (None, "hide", [["text"]]),
    "seed": (None, "seed", -1),
    "notice": (None, "notice", ["x"]),
    "languages": (None, "languages", [1]),
    "quantize": (None, "quantize", "2bit"),
    "base": (None, "base", 7),
}


@pytest.mark.parametrize("name", BAD_CHECKPOINTS)
def test_a_value_that_cannot_be_of_a_checkpoint_is_named(checkpoint_folder, tmp_path, name):
    section, key, value = BAD_CHECKPOINTS[name]
    (tmp_path / "omni_msa.json").write_text((checkpoint_folder / "omni_msa.json").read_text())

    def change(document):
        (document[section] if section else document)[key] = value

    changed(tmp_path / "omni_msa.json", change)
    with pytest.raises(ModelError, match=f"{name} "):
        read_info(tmp_path)


def test_json_of_any_depth_or_length_is_an_error(checkpoint_folder, tmp_path):
    path = tmp_path / "omni_msa.json"
    for text in ("[" * 10**6, '{"seed": ' + "9" * 10**5 + "}", "[1]", "null", '"', "\x00", ""):
        path.write_text(text)
        with pytest.raises(ModelError):
            read_info(tmp_path)
    with path.open("wb") as file:
        file.truncate(100 * MAX_JSON_BYTES)
    with pytest.raises(ModelError, match="larger than 10 MB"):
        read_info(tmp_path)


BAD_BASES = [
    ("text_config", "hidden_size", -64),
    ("text_config", "hidden_size", 2**40),
    ("text_config", "num_hidden_layers", 10**9),
    ("text_config", "vocab_size", "400"),
    ("text_config", "rms_norm_eps", float("nan")),
    ("audio_config", "encoder_layers", 0),
    ("audio_config", "d_model", None),
    ("vision_config", "depth", 2.5),
    ("vision_config", "patch_size", True),
]


@pytest.mark.parametrize(("section", "key", "value"), BAD_BASES)
def test_a_value_that_cannot_be_of_a_base_is_named(base_folder, tmp_path, section, key, value):
    shutil.copy(base_folder / "config.json", tmp_path)
    changed(
        tmp_path / "config.json",
        lambda document: document["thinker_config"][section].update({key: value}),
    )
    with pytest.raises(ModelError, match=f"{section}.{key} is"):
        load_thinker(str(tmp_path))


def test_sizes_that_do_not_fit_together_are_an_error(base_folder, tmp_path):
    shutil.copy(base_folder / "config.json", tmp_path)
    for section in ("text_config", "audio_config", "vision_config"):
        changed(
            tmp_path / "config.json",
            lambda document, section=section: document["thinker_config"].update({section: "none"}),
        )
        with pytest.raises(ModelError):
            load_thinker(str(tmp_path))
    for text in ("[]", "{}", '{"model_type": "qwen2_5_omni", "thinker_config": 7}', "[" * 10**6):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ModelError):
            load_thinker(str(tmp_path))


def test_a_model_far_larger_than_its_files_is_refused_before_it_is_made(base_folder, tmp_path):
    folder = copied(base_folder, tmp_path / "base")
    changed(
        folder / "config.json",
        lambda document: document["thinker_config"]["text_config"].update(
            {"hidden_size": 32_768, "num_hidden_layers": 60}
        ),
    )
    with pytest.raises(ModelError, match="describes .* parameters, and the weights have"):
        load_thinker(str(folder))
    check_weights("x", base_folder, 1000)


@pytest.mark.parametrize(("key", "value"), [("n_fft", 10**9), ("feature_size", -1)])
def test_a_processor_that_cannot_be_is_refused(base_folder, tmp_path, key, value):
    folder = copied(base_folder, tmp_path / "base")
    changed(folder / "preprocessor_config.json", lambda document: document.update({key: value}))
    with pytest.raises(ModelError, match=f"{key} is"):
        load_thinker(str(folder))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("r", 10**9),
        ("r", "8"),
        ("r", 8),  # the tensors are of rank 4
        ("lora_alpha", float("inf")),
        ("target_modules", "(a+)+b"),
        ("layer_replication", [[0, 10**6]]),
        ("megatron_config", {"x": 1}),
        ("init_lora_weights", "pissa"),
        ("rank_pattern", {".*": 10**6}),
    ],
)
def test_an_adapter_that_training_never_writes_is_refused(
    base_folder, checkpoint_folder, tmp_path, key, value
):
    folder = copied(checkpoint_folder, tmp_path / "checkpoint")
    changed(folder / "adapter_config.json", lambda document: document.update({key: value}))
    changed(folder / "omni_msa.json", lambda document: document.pop("adapter_config_sha256"))
    with pytest.raises(ModelError):
        Scorer.load(ModelOptions(model=str(base_folder), checkpoint=str(folder)))


def test_what_training_writes_passes_the_checks(checkpoint_folder):
    info = read_info(checkpoint_folder)
    assert CheckpointInfo.from_json(info.to_json()) == info
    assert isinstance(info.label_space, LabelSpace)
