"""What needs no model is answered without it: no torch, and by the fingerprint the model has."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from omni_msa.__main__ import main
from omni_msa.methods import METHODS
from omni_msa.methods.feature_method import FeatureMethod
from omni_msa.modalities import MODALITIES
from omni_msa.options import AblationOptions, ModelOptions
from omni_msa.scoring.identity import identity_before_loading

# The command line is run, and what it imported is printed last.
PROGRAM = (
    "import sys; from omni_msa.__main__ import main\n"
    "code = main(sys.argv[1:])\n"
    "sys.exit('torch was imported' if 'torch' in sys.modules else code)"
)


def run(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def model(base_folder, checkpoint_folder) -> list[str]:
    return ["--model", str(base_folder), "--checkpoint", str(checkpoint_folder)]


def test_the_identity_before_loading_is_the_scorers(scorer, tiny, base_folder, checkpoint_folder):
    own = ModelOptions(model=str(base_folder), checkpoint=str(checkpoint_folder))
    for options, loaded in ((own, scorer), (ModelOptions(), tiny)):
        identity = identity_before_loading(options)
        assert identity == loaded.identity
        for ablation in (AblationOptions(), AblationOptions(enabled=False)):
            assert identity.fingerprint(ablation) == loaded.fingerprint(ablation)
        assert identity.describe() == loaded.describe()


def test_every_method_uses_what_the_identity_assumes():
    tokens = {name for name, row in MODALITIES.items() if row.is_token}
    thinkers = [m for m in METHODS.values() if not issubclass(m, FeatureMethod)]
    assert all(method.modalities(method.Options()) == tokens for method in thinkers)


def test_what_only_loading_tells(base_folder, checkpoint_folder):
    bare = ModelOptions(model=str(base_folder))
    other = ModelOptions(checkpoint=str(checkpoint_folder), readout="verbalizer")
    assert identity_before_loading(bare) is identity_before_loading(other) is None


@pytest.mark.slow
def test_a_finished_file_and_missing_clips_need_no_model(model, tmp_path, capsys):
    manifest, output = tmp_path / "m.jsonl", tmp_path / "out.jsonl"
    manifest.write_text('{"text": "I love it."}\n{"text": "So bad."}\n')
    assert main(["score", str(manifest), "-o", str(output), "-q", *model]) == 0
    ended = run("score", manifest, "-o", output, *model)
    assert ended.returncode == 0 and "2 already there" in ended.stderr
    other = run("score", manifest, "-o", output, "--no-ablate", *model)  # other settings
    assert other.returncode == 2 and "--fresh" in other.stderr
    for paths in (["no.wav"], ["no.wav", "none.wav"]):
        missing = run("score", *paths, "-o", "-", *model)
        rows = [json.loads(line) for line in missing.stdout.splitlines()]
        assert missing.returncode == 3, missing.stderr
        assert [row["error"]["code"] for row in rows] == ["missing"] * len(paths)


@pytest.mark.slow
def test_a_finished_evaluation_needs_no_model(model, tmp_path, capsys):
    manifest, output = tmp_path / "m.csv", tmp_path / "out.jsonl"
    manifest.write_text("text,label\nI love it.,2\nSo bad.,-2\nWe went home.,0\n")
    evaluation = ["evaluate", str(manifest), "-o", str(output), "--resamples", "20", *model]
    assert main(evaluation) == 0
    printed = capsys.readouterr().out
    ended = run(*evaluation)
    assert (ended.returncode, ended.stdout) == (0, printed), ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["evaluate", "no.csv"], 2),
        (["train", "no.csv", "-o", "out"], 2),
        (["calibrate", "no.csv", "-o", "out"], 2),
        (["inspect", "no"], 4),
        (["score", "a.wav", "--model", "no/such/base"], 4),
        (["score", "a.wav", "--checkpoint", "no"], 4),
    ],
)
def test_what_is_not_there_is_said_without_the_model(arguments, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.wav").touch()
    ended = run(*arguments)
    assert ended.returncode == code and "torch" not in ended.stderr, ended.stderr


def test_a_model_that_cannot_be_loaded_is_no_clips_failure(model, tmp_path, capsys, monkeypatch):
    from omni_msa.errors import ModelError
    from omni_msa.scoring.scorer import Scorer

    def refuse(*_: object) -> None:
        raise ModelError("no such base")

    monkeypatch.setattr(Scorer, "load", refuse)
    output = tmp_path / "out.jsonl"
    assert main(["score", "--transcript", "Good.", "-o", str(output), *model]) == 4
    assert "no such base" in capsys.readouterr().err and not output.exists()
