"""The other systems from the command line: trained, scored, evaluated, planned, refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from study_files import READ, document

from omni_msa.__main__ import main

pytestmark = pytest.mark.slow

SMALL = {
    "mse-adapter": ["--set", "text_tokens=8", "--set", "readout=head"],
    "mmolre": ["--set", "rank=8", "--set", "experts=2"],
    "lrcmt": ["--set", "width=16", "--lora-rank", "4"],
}


def with_emotions(manifest):
    """The same clips, with which emotions are present."""
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    for row in rows:
        row["emotions"] = ["happiness"] if row["label"] > 0 else ["anger", "fear"]
    path = manifest.with_name("emotions.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def train(manifest, base, out, method, *more):
    command = ["train", str(manifest), "-o", str(out), "--model", str(base), "--method", method]
    budget = ["--epochs", "2", "--batch-size", "4", "-q"]
    return main([*command, *budget, *READ, *SMALL[method], *more])


@pytest.mark.parametrize("method", SMALL)
def test_a_method_goes_the_whole_way(manifest, base_folder, tmp_path, capsys, method):
    out, data = tmp_path / "c", with_emotions(manifest)
    assert train(data, base_folder, out, method, "--task", "sentiment+emotions") == 0
    capsys.readouterr()
    assert main(["inspect", str(out), "-q"]) == 0
    assert f"{method} " in capsys.readouterr().out
    evaluation = document(capsys, "evaluate", str(data), "--checkpoint", str(out), "--ablate")
    (run,) = evaluation["runs"]
    assert run["metrics"]["clips"] == 4 and run["emotions"]["clips"] == 4
    assert set(run["emotions"]["metrics"]) == {"happiness", "anger", "fear", "mean"}
    clip = json.loads(data.read_text().splitlines()[0])["clip"]
    record = document(capsys, "score", str(manifest.parent / clip), "--checkpoint", str(out))
    assert record["model"]["readout"] == method
    assert set(record["emotions"]) == {"happiness", "anger", "fear"}
    shown = {"audio"} if method == "mmolre" else {"audio", "video"}
    assert set(record["ablation"]["contribution"]) == shown
    assert set(record["ablation"]["emotions"]["fear"]) == shown
    rows = tmp_path / "rows.csv"
    for skipped in (0, 1):
        capsys.readouterr()
        code = main(["score", str(manifest.parent / clip), "--checkpoint", str(out), "-o",
                     str(rows)])  # fmt: skip
        assert code == 0 and ("already there" in capsys.readouterr().err) == bool(skipped)


def test_experts_are_drawn(manifest, base_folder, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    out = tmp_path / "c"
    assert train(manifest, base_folder, out, "mmolre") == 0
    picture = tmp_path / "experts.svg"
    curves = tmp_path / "curves.svg"
    assert main(["plot", str(out), "-o", str(curves), "--experts", str(picture)]) == 0
    assert "text, block 0, sentiment" in picture.read_text() or picture.stat().st_size > 5000
    other = tmp_path / "other"
    assert train(manifest, base_folder, other, "lrcmt") == 0
    code = main(["plot", str(other), "-o", str(curves), "--experts", str(picture)])
    assert code == 2 and "only mmolre has experts" in capsys.readouterr().err


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """Feature files of which the voice tells the label, and their manifest."""
    folder, rng = tmp_path_factory.mktemp("features"), np.random.default_rng(0)
    rows = []
    for i in range(16):
        label = 2.0 if i % 2 else -2.0
        audio = rng.normal(0.3 * label, 0.1, (3 + i % 4, 5)).astype(np.float32)
        video = rng.normal(0, 1, (2 + i % 3, 4)).astype(np.float32)
        text = rng.normal(0, 1, (4, 6)).astype(np.float32)
        words = np.array("good good" if label > 0 else "evil evil")
        np.savez(folder / f"{i}.npz", audio=audio, video=video, text=text, words=words)
        split = "train" if i < 10 else "valid" if i < 12 else "test"
        rows.append({"clip": f"{i}.npz", "label": label, "split": split})
    path = folder / "m.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("method", SMALL)
def test_features_that_others_extracted(features, base_folder, tmp_path, capsys, method):
    out = tmp_path / "c"
    assert train(features, base_folder, out, method, "--epochs", "15",
                 "--head-learning-rate", "5e-3") == 0  # fmt: skip
    info = json.loads((out / "omni_msa.json").read_text())
    names = {"mmolre": {"audio", "text"}, "lrcmt": {"audio", "video"}}
    assert set(info["encoders"]) == names.get(method, {"audio", "video"})
    evaluation = document(capsys, "evaluate", str(features), "--checkpoint", str(out))
    assert evaluation["runs"][0]["metrics"]["mae"] < 1.0  # the mean predictor has 2
    assert document(capsys, "inspect", str(out))["check"]["result"] == "passed"


def test_each_modality_is_as_wide_as_where_it_first_comes(features, base_folder, tmp_path, capsys):
    """The first clip has no face, and the words' encoder is named."""
    rows = [json.loads(line) for line in features.read_text().splitlines()]
    with np.load(features.parent / rows[0]["clip"]) as arrays:
        np.savez(features.parent / "no_face.npz", audio=arrays["audio"], words=arrays["words"])
    rows[0]["clip"] = "no_face.npz"
    (features.parent / "damaged.npz").write_bytes(b"PK")
    rows.insert(0, rows[0] | {"clip": "damaged.npz"})  # left out of the run, and no end of it
    path = features.with_name("no_face.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "c"
    more = ("--set", "tuning=frozen", "--encoder", "text=stored:6")
    assert train(path, base_folder, out, "lrcmt", *more) == 0
    widths = {
        n: e["name"] for n, e in json.loads((out / "omni_msa.json").read_text())["encoders"].items()
    }
    assert widths == {"text": "stored:6", "audio": "stored:5", "video": "stored:4"}


def test_what_does_not_fit_is_one_line(features, manifest, base_folder, tmp_path, capsys):
    out = tmp_path / "c"
    assert train(features, base_folder, out, "mmolre") == 0
    clip = manifest.parent / json.loads(manifest.read_text().splitlines()[0])["clip"]
    other = features.parent / "other.npz"
    np.savez(other, audio=np.ones((3, 7), np.float32), text=np.ones((3, 6), np.float32))
    rows = [
        (["score", str(clip), "--checkpoint", str(out)], 3, "stored audio features 5 wide"),
        (["score", str(other), "--checkpoint", str(out)], 3, "audio features 7 wide"),
        (["score", str(features.parent / "0.npz")], 3, "this readout looks at media"),
        (["train", str(features), "-o", str(tmp_path / "d"), "--task", "sentiment+emotions",
          "--method", "mmolre"], 2, "no clip has emotions"),
        (["train", str(features), "-o", str(tmp_path / "d"), "--method", "lrcmt", "--encoder",
          "text=stored:6"], 4, "no layers to put an adapter on"),
        (["train", str(features), "-o", str(tmp_path / "d"), "--encoder", "audio"], 2,
         "give NAME=VALUE, such as --encoder text=DIR"),
        (["train", str(features), "-o", str(tmp_path / "d"), "--encoder", "audio=x"], 2,
         "takes no encoders"),
    ]  # fmt: skip
    for command, code, message in rows:
        capsys.readouterr()
        assert main([*command, "-q"]) == code, command
        assert message in capsys.readouterr().err
