"""The log of a run holds its curves, and the end names the epoch that is kept."""

from __future__ import annotations

import json

import pytest
import torch
from test_train import Killed, clips, run

from omni_msa.__main__ import main
from omni_msa.display.tables import print_trained
from omni_msa.options import TrainOptions
from omni_msa.scoring.checkpoint import read_info
from omni_msa.training.validation import Miss, validation_metrics

OPTIONS = {"epochs": 3, "batch_size": 2, "save_every": 1}


def events(folder, name):
    log = [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]
    return [event for event in log if event["event"] == name]


@pytest.fixture(scope="module")
def train():
    return clips([1.0, -1.5, 2.0, -0.5], seconds=0.5, num_frames=2)


@pytest.fixture(scope="module")
def whole(train, base_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    run(base_folder, folder, train, **OPTIONS)
    return folder


def test_an_epoch_has_a_line_with_loss_validation_rates_and_time(whole):
    epochs, steps = events(whole, "epoch"), events(whole, "step")
    assert [e["epoch"] for e in epochs] == [1, 2, 3]
    for epoch in epochs:
        own = [s for s in steps if s["epoch"] == epoch["epoch"]]
        mean = sum(s["loss"] * s["clips"] for s in own) / sum(s["clips"] for s in own)
        assert epoch["training_loss"] == pytest.approx(mean, abs=1e-5)
        assert epoch["mae"] > 0 and -1 <= epoch["corr"] <= 1 and epoch["seconds"] > 0
        assert epoch["lora_learning_rate"] == own[-1]["learning_rate"]
        assert epoch["head_learning_rate"] > epoch["lora_learning_rate"] > 0


def test_a_run_that_gets_no_better_ends_before_its_epochs_do(train, base_folder, tmp_path):
    """By default too there are more epochs than the patience lasts."""
    assert TrainOptions().patience < TrainOptions().epochs - 1
    still = {"lora_learning_rate": 1e-20, "head_learning_rate": 1e-20}
    info = run(base_folder, tmp_path, train, **OPTIONS | still | {"epochs": 10, "patience": 2})
    assert [e["epoch"] for e in events(tmp_path, "epoch")] == [1, 2, 3]
    assert info.training["best_epoch"] == 1


def test_the_kept_epoch_is_named_and_so_is_what_its_figure_is_of(whole, capsys):
    info = read_info(whole)
    best = min(events(whole, "epoch"), key=lambda e: e["mae"])
    assert info.training["best_epoch"] == best["epoch"]
    print_trained(whole, info, as_json=False)
    shown = " ".join(capsys.readouterr().out.split())
    figure = f"mae {round(best['mae'], 4):g}, corr {round(best['corr'], 4):g}"
    words = f"epoch {best['epoch']} is kept, the best on the validation clips: {figure}"
    assert words in shown
    print_trained(whole, info, as_json=True)
    assert json.loads(capsys.readouterr().out)["epoch"] == best["epoch"]


@pytest.mark.slow
def test_a_killed_run_logs_the_same_epochs(whole, train, base_folder, tmp_path):
    def killer(now):
        if now.step == 4 and now.metrics is None and not now.notice:
            raise Killed

    with pytest.raises(Killed):
        run(base_folder, tmp_path, train, killer, fresh=False, **OPTIONS)
    run(base_folder, tmp_path, train, fresh=False, **OPTIONS)
    losses = [[e["training_loss"] for e in events(f, "epoch")] for f in (whole, tmp_path)]
    assert losses[0] == losses[1]


def figures_of(folder):
    """What TensorBoard reads: each figure's steps and values."""
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="the extra tensorboard is not installed",
    )
    events = reader.EventAccumulator(str(folder))
    events.Reload()
    tags = events.Tags()["scalars"]
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags}


@pytest.mark.slow
def test_event_files_hold_the_figures_of_the_log_each_step_once(train, base_folder, tmp_path):
    def killer(now):
        if now.step == 4 and now.metrics is None and not now.notice:
            raise Killed

    settings = OPTIONS | {"save_every": 3}  # what is logged after the last state is taken back
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    with pytest.raises(Killed):
        run(base_folder, tmp_path, train, killer, fresh=False, tensorboard=True, **settings)
    assert len(figures_of(tmp_path)["step/loss"]) == 3
    run(base_folder, tmp_path, train, fresh=False, tensorboard=True, **settings)
    figures = figures_of(tmp_path)
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 1
    for kind, names in (
        ("step", ["loss", "grad_norm", "learning_rate", "clips"]),
        ("epoch", ["training_loss", "mae", "corr", "lora_learning_rate", "seconds"]),
    ):
        for name in names:
            expected = [(e[kind], pytest.approx(e[name])) for e in events(tmp_path, kind)]
            assert figures[f"{kind}/{name}"] == expected and len(expected) in (3, 6)
    run(base_folder, tmp_path, train, fresh=True, **OPTIONS)  # no stale files are left behind
    assert not list(tmp_path.glob("events.out.tfevents.*"))


def test_without_tensorboard_the_extra_is_named_before_anything_is_read(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("omni_msa.training.event_files.find_spec", lambda name: None)
    assert main(["train", "nowhere.jsonl", "-o", str(tmp_path / "run"), "--tensorboard"]) == 2
    assert 'pip install "omni-msa[tensorboard]"' in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


class Numbers:
    class label_space:
        task = "sentiment"
        classes = ()


def test_a_correlation_is_given_where_there_is_one():
    labels, scores = [1.0, 2.0, -1.0], [0.5, 2.5, 0.0]
    misses = [Miss(abs(s - y), s, y) for s, y in zip(scores, labels, strict=True)]
    metrics = validation_metrics(misses, Numbers)
    expected = torch.corrcoef(torch.tensor([labels, scores], dtype=torch.float64))[0, 1]
    assert metrics["corr"] == pytest.approx(float(expected))
    assert list(metrics) == ["mae", "corr", "clips"]
    constant = [Miss(abs(y), 0.0, y) for y in labels]
    assert "corr" not in validation_metrics(constant, Numbers)
    assert "corr" not in validation_metrics(misses[:1], Numbers)
