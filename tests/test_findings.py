"""Findings of heart records: labels, losses, figures, records, and the whole way by commands."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_content
from sklearn.metrics import f1_score, roc_auc_score

from omni_msa.__main__ import main
from omni_msa.errors import ConfigError, ManifestError, MediaError
from omni_msa.evaluation.constant import constant_answer
from omni_msa.evaluation.evaluate import family_of, require_labels, scored_clips
from omni_msa.evaluation.metrics import findings_family
from omni_msa.evaluation.presence import TITLES, measure_presence
from omni_msa.files.columns import flatten, unflatten
from omni_msa.files.labels import LabelSpace, label_space_of
from omni_msa.files.manifest import read_manifest
from omni_msa.files.record import Record
from omni_msa.methods import METHODS, make_method
from omni_msa.methods.heads import head_losses, reading_of
from omni_msa.methods.method import Labels
from omni_msa.modalities import tokens
from omni_msa.options import MediaOptions, ModelOptions
from omni_msa.scoring.checkpoint import Checkpoint
from omni_msa.scoring.identity import NO_DEVICE, named_checkpoint
from omni_msa.scoring.last_states import last_states
from omni_msa.scoring.scorer import Scorer
from omni_msa.values import Clip
from scripts.memory_feed import MemoryFeed
from scripts.tiny.hearts import FINDINGS, write_corpus

NAMES = ("NORM", "AF", "LBBB")
SPACE = LabelSpace.of_findings(NAMES)


def test_findings_are_read_as_a_list_or_a_text(tmp_path):
    rows = [
        {"clip": "a.hea", "findings": ["AF", "LBBB", "AF"]},
        {"clip": "b.hea", "findings": "NORM"},
        {"clip": "c.hea", "findings": "AF;LBBB"},
        {"clip": "d.hea"},
    ]
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    clips = read_manifest(path)
    assert [c.findings for c in clips] == [("AF", "LBBB"), ("NORM",), ("AF", "LBBB"), None]
    space = label_space_of(clips, "ecg", None)
    assert space.findings == ("AF", "LBBB", "NORM") and space.task == "ecg"
    assert space.num_outputs == 3 and space.range == (0.0, 2.0)
    labelled = space.labelled(clips)  # the last has none
    assert [c.label for c in labelled] == [0.0, 2.0, 0.0]
    assert space.presence(labelled[0]) == (1.0, 1.0, 0.0)


@pytest.mark.parametrize("value", [[], {"AF": 1}, 3, [""], [1], ";"])
def test_findings_that_name_nothing_are_refused(tmp_path, value):
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps({"clip": "a.hea", "findings": value}))
    with pytest.raises(ManifestError, match="line 1, findings: .* names nothing that was found"):
        read_manifest(path)


def test_labels_of_another_space_are_refused():
    clips = [Clip("a.hea", findings=("VT",)), Clip("b.hea", findings=("AF",))]
    with pytest.raises(ManifestError, match="1 records have findings that are not among NORM"):
        SPACE.labelled(clips)
    assert not SPACE.knows(clips[0]) and SPACE.knows(clips[1])
    with pytest.raises(ManifestError, match="the column findings names 1"):
        label_space_of([clips[0]], "ecg", None)
    with pytest.raises(ConfigError, match="--label-range is about numbers"):
        label_space_of(clips, "ecg", (0.0, 1.0))
    with pytest.raises(ManifestError, match="records have findings that are not among"):
        SPACE.labelled([Clip("a.mp4", label=1.0)])


@pytest.mark.parametrize("name", [n for n in METHODS if "ecg" not in METHODS[n].tasks])
def test_methods_without_a_head_for_findings_say_so(thinker, name):
    with pytest.raises(ConfigError, match="has no head for labels of the task ecg"):
        make_method(name, thinker, SPACE)


def test_each_finding_has_its_own_probability_and_loss():
    outputs = torch.tensor([[[0.0, 3.0, -2.0], [1.0, 0.0, 0.0]]])
    reading = reading_of(SPACE, outputs)
    assert reading.scores.tolist() == [[1.0, 0.0]]
    torch.testing.assert_close(reading.emotions, outputs.sigmoid())
    labels = Labels(torch.zeros(1, 2), torch.tensor([[0.0, 1.0, 1.0]]))
    losses = head_losses(SPACE, outputs, labels)
    expected = torch.nn.functional.binary_cross_entropy(
        outputs[0, 0].sigmoid(), torch.tensor([0.0, 1.0, 1.0])
    )
    assert losses.shape == (1, 2) and float(losses[0, 0]) == pytest.approx(float(expected))


def test_figures_are_those_of_scikit_learn():
    rng = np.random.default_rng(3)
    presence = (rng.random((60, 3)) < (0.5, 0.3, 0.2)).astype(float)
    probabilities = np.round(np.clip(0.4 * presence + 0.6 * rng.random((60, 3)), 0, 1), 1)  # ties
    figures = measure_presence(probabilities, presence, NAMES, "finding")
    for i, name in enumerate(NAMES):
        labels, said = presence[:, i], probabilities[:, i] > 0.5
        assert figures[f"auc {name}"] == pytest.approx(roc_auc_score(labels, probabilities[:, i]))
        assert figures[f"f1 {name}"] == pytest.approx(f1_score(labels, said))
        assert figures[f"accuracy {name}"] == pytest.approx(float((labels == said).mean()))
    for key in TITLES["finding"]:
        mean = np.mean([figures[f"{key} {name}"] for name in NAMES])
        assert figures[f"{key} mean"] == pytest.approx(mean)
    alone = measure_presence(probabilities, np.ones((60, 3)), NAMES, "finding")
    assert math.isnan(alone["auc NORM"])


RECORD = Record(
    "a.hea", "0" * 64, 1.0, (0.0, 2.0), findings={"NORM": 0.1, "AF": 0.8, "LBBB": 0.3},
    model={"base": "tiny", "checkpoint": "c", "readout": "ecg-mamba", "quantize": "none",
           "fingerprint": "f"},
)  # fmt: skip


def test_the_likeliest_finding_is_right_where_it_is_one_of_several():
    clips = [
        Clip("a.hea", label=1.0, findings=("AF", "LBBB")),
        Clip("b.hea", label=0.0, findings=("NORM",)),
    ]
    scored, failed = scored_clips(clips, [RECORD, replace(RECORD, score=1.0)], SPACE)
    assert not failed and [clip.label for clip in scored] == [0.0, 1.0]  # which record
    measure = findings_family([SPACE.presence(clip) for clip in clips]).measure
    labels = np.array([clip.label for clip in scored])
    assert measure(np.array([1.0, 1.0]), labels) == {"accuracy": 0.5}
    assert measure(np.array([2.0, 0.0]), labels) == {"accuracy": 1.0}


def test_of_many_findings_none_is_lost_and_the_most_frequent_is_the_baseline():
    names = tuple(f"F{i}" for i in range(71))
    space = LabelSpace.of_findings(names)
    clips = [Clip("a.hea", label=0.0, findings=("F0", "F70")), Clip("b.hea", label=70.0,
             findings=("F70",))]  # fmt: skip
    scored, _ = scored_clips(clips, [replace(RECORD, score=s) for s in (70.0, 0.0)], space)
    family, _ = family_of(clips, "auto", space)
    scores, labels = ([getattr(c, n) for c in scored] for n in ("score", "label"))
    assert family.measure(np.array(scores), np.array(labels)) == {"accuracy": 0.5}
    value, words = constant_answer(clips, scored, space.names)
    assert value == 70.0 and words.startswith("always F70 (most frequent of these labels")
    train = [replace(clips[0], split="train"), replace(clips[1], findings=("F3",))]
    assert constant_answer(train, scored, space.names)[1].startswith("always F0 (most frequent of")


def test_a_record_keeps_its_findings():
    assert RECORD.name == "AF"
    row = flatten(RECORD.to_json())
    assert json.loads(row["findings"]) == RECORD.findings
    assert unflatten(row).findings == RECORD.findings
    assert Record.from_json(RECORD.to_json()) == RECORD
    older = RECORD.to_json()
    del older["findings"], older["modalities"]["ecg"]
    assert Record.from_json(older).findings is None


def test_the_embedded_checkpoints_have_names():
    assert named_checkpoint(ModelOptions()).name == "checkpoint"
    assert named_checkpoint(ModelOptions(checkpoint="tiny-ecg")).name == "ecg"
    assert named_checkpoint(ModelOptions(model="tiny", readout="verbalizer")) is None


@pytest.mark.slow
def test_records_are_trained_on_scored_and_evaluated(tmp_path, base_folder, capsys):
    pytest.importorskip("wfdb", reason="the extra ecg is not installed")
    data = write_corpus(tmp_path / "hearts", {"train": 12, "valid": 4, "test": 6})
    out = tmp_path / "checkpoint"
    command = ["train", data, "-o", out, "--model", base_folder, "--method", "ecg-mamba", "--task",
               "ecg", "--set", "width=16", "--set", "blocks=1", "--epochs", "2", "-q"]  # fmt: skip
    assert main([str(word) for word in command]) == 0
    capsys.readouterr()
    record = str(tmp_path / "hearts" / "test" / "heart2000000.hea")
    assert main(["score", record, "--checkpoint", str(out), "--json", "-q"]) == 0
    row = json.loads(capsys.readouterr().out)
    names = sorted(FINDINGS.values())
    assert sorted(row["findings"]) == names and row["emotions"] is None
    assert row["score"] == names.index(max(names, key=lambda n: row["findings"][n]))
    assert NO_DEVICE in row["warnings"] and row["interval_absent"] == "a class has none"
    assert set(row["ablation"]["subsets"]) == {"", "E"}
    assert main(["score", record, "--checkpoint", str(out), "-q"]) == 0
    assert "likeliest finding" in capsys.readouterr().out
    flags = ["--checkpoint", str(out), "--resamples", "20", "-q"]
    assert main(["evaluate", str(data), *flags, "--json"]) == 0
    (figures,) = json.loads(capsys.readouterr().out)["runs"]
    assert set(figures["findings"]["metrics"]["mean"]) == {"auc", "f1", "accuracy"}
    assert set(figures["findings"]["metrics"]) == {*names, "mean"}
    assert main(["evaluate", str(data), *flags]) == 0
    assert "auc" in capsys.readouterr().out
    assert main(["inspect", str(out), "-q"]) == 0
    assert "AF, LBBB" in capsys.readouterr().out


def test_what_has_no_heart_is_said_to_have_none(thinker):
    method = make_method("ecg-mamba", thinker, SPACE, {"width": "16", "blocks": "1"})
    with pytest.raises(MediaError, match="has no ecg, and nothing else is looked at"):
        method.builder(thinker).build(make_content(), MediaOptions(), tokens())


def test_findings_without_a_checkpoint_for_them_are_not_evaluated():
    with pytest.raises(ManifestError, match="give --checkpoint of one that gives them"):
        require_labels([Clip("a.hea", findings=("AF",))])


def test_there_are_no_states_where_features_are_looked_at(scorer):
    method = make_method("ecg-mamba", scorer.thinker, SPACE, {"width": "16", "blocks": "1"})
    checkpoint = Checkpoint(None, scorer.checkpoint.info, method)
    with pytest.raises(ConfigError, match="ecg-mamba looks at features: it has no states"):
        last_states(Scorer(scorer.thinker, checkpoint, scorer.media), MemoryFeed([]))
