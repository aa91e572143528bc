"""Curves are read from any log, also one that still grows; the picture needs an extra."""

from __future__ import annotations

import json
import sys

import pytest

from omni_msa.__main__ import main
from omni_msa.display.curves import make_figure, read_curves
from omni_msa.errors import ConfigError

EPOCHS = [
    {"event": "epoch", "epoch": n, "training_loss": 1 / n, "mae": 1.5 / n, "corr": 1 - 1 / n,
     "lora_learning_rate": 1e-4 / n, "head_learning_rate": 1e-3 / n}
    for n in (1, 2, 3)
]  # fmt: skip


def log(folder, events, end=""):
    folder.mkdir()
    text = "".join(json.dumps(event) + "\n" for event in events)
    (folder / "train_log.jsonl").write_text(text + end)
    return folder


def test_a_log_gives_its_epochs(tmp_path):
    steps = [{"event": "start"}, {"event": "step", "epoch": 1, "loss": 3.0}]
    [curves] = read_curves([log(tmp_path / "run", [*steps, *EPOCHS], end='{"event": "epo')])
    assert curves.name == "run" and curves.epochs == [1, 2, 3]
    assert curves.figures["mae"] == [1.5, 0.75, 0.5]
    assert curves.figures["error_rate"] == [None, None, None]


def test_an_older_log_gives_what_it_has(tmp_path):
    [curves] = read_curves([log(tmp_path / "old", [{"event": "epoch", "epoch": 1, "mae": 0.5}])])
    assert curves.figures["mae"] == [0.5] and curves.figures["training_loss"] == [None]


def test_what_cannot_be_drawn_is_one_line(tmp_path, capsys):
    with pytest.raises(ConfigError, match="no train_log.jsonl in it"):
        read_curves([tmp_path])
    folder = log(tmp_path / "new", [{"event": "start"}])
    assert main(["plot", str(folder), "-o", str(tmp_path / "a.svg")]) == 2
    assert "no epoch is finished yet" in capsys.readouterr().err
    assert main(["plot", str(folder), "-o", str(tmp_path / "a.pdf")]) == 2
    assert "a picture ends in one of .svg, .png" in capsys.readouterr().err


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch, capsys):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    folder = log(tmp_path / "run", EPOCHS)
    assert main(["plot", str(folder), "-o", str(tmp_path / "a.svg")]) == 2
    assert 'pip install "omni-msa[plot]"' in capsys.readouterr().err
    assert not (tmp_path / "a.svg").exists()


def test_a_panel_each_a_colour_each_run_and_a_ring_around_the_kept_epoch(tmp_path):
    pytest.importorskip("matplotlib", reason="the extra plot is not installed")
    worse = [*EPOCHS, {"event": "epoch", "epoch": 4, "mae": 0.9, "lora_learning_rate": 1e-5}]
    folders = [log(tmp_path / "seed0", EPOCHS), log(tmp_path / "_cost$1$", worse)]
    figure = make_figure(read_curves(folders))
    loss, error, corr, rates = figure.axes
    labels = [axis.get_ylabel().replace("\n", " ") for axis in figure.axes]
    assert labels == [
        "training loss", "validation MAE (label units)", "validation correlation", "learning rate",
    ]  # fmt: skip
    lines = {line.get_color(): line.get_xydata().tolist() for line in loss.lines}
    assert lines["C0"] == [[1, 1.0], [2, 0.5], [3, pytest.approx(1 / 3)]]
    rings = [line.get_xydata().tolist() for line in error.lines if line.get_linestyle() == "None"]
    assert rings == [[[3, 0.5]], [[3, 0.5]]] and len(corr.lines) == 4
    assert [line.get_linestyle() for line in rates.lines] == ["-", "--"] * 2
    (legend,) = figure.legends
    figure.draw_without_rendering()
    assert [text.get_text() for text in legend.get_texts()] == [
        "seed0 (ring: epoch 3 is kept)", r"_cost\$1\$ (ring: epoch 3 is kept)",
    ]  # fmt: skip
    ticks = figure.axes[-1].get_xticks()
    assert all(tick == round(tick) for tick in ticks)


def test_runs_of_one_name_are_told_apart(tmp_path):
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
        log(tmp_path / side / "seed0", EPOCHS)
    folders = [tmp_path / side / "seed0" for side in ("a", "b")]
    assert [run.name for run in read_curves(folders)] == [str(folder) for folder in folders]
    assert [run.name for run in read_curves(folders[:1])] == ["seed0"]


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_a_picture_is_drawn(tmp_path, capsys, suffix):
    pytest.importorskip("matplotlib", reason="the extra plot is not installed")
    folders = [str(log(tmp_path / name, EPOCHS)) for name in ("seed0", "seed1")]
    path = tmp_path / f"curves{suffix}"
    assert main(["plot", *folders, "-o", str(path)]) == 0
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG") if suffix == ".png" else b"<svg" in content
    assert "3 epochs of" in capsys.readouterr().out
