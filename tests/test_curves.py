"""Curves are read from any log, also one that still grows; the picture needs an extra."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest

from omni_msa.__main__ import main
from omni_msa.display.curves import draw_curves, read_curves
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
    curves = read_curves(log(tmp_path / "run", [*steps, *EPOCHS], end='{"event": "epo'))
    assert curves.name == "run" and curves.epochs == [1, 2, 3]
    assert curves.figures["mae"] == [1.5, 0.75, 0.5]
    assert curves.figures["error_rate"] == [None, None, None]


def test_an_older_log_gives_what_it_has(tmp_path):
    curves = read_curves(log(tmp_path / "old", [{"event": "epoch", "epoch": 1, "mae": 0.5}]))
    assert curves.figures["mae"] == [0.5] and curves.figures["training_loss"] == [None]


def test_what_cannot_be_drawn_is_one_line(tmp_path, capsys):
    with pytest.raises(ConfigError, match="no train_log.jsonl in it"):
        read_curves(tmp_path)
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


def test_a_panel_each_and_a_line_each_run(tmp_path, monkeypatch):
    """What is drawn, without the library that draws it."""
    axes = [Mock() for _ in range(4)]
    figure = Mock()
    figure.subplots.return_value = np.array(axes, dtype=object)[:, None]
    figure.savefig = lambda path, format: path.write_text(format)
    module = SimpleNamespace(Figure=lambda **_: figure)
    monkeypatch.setitem(sys.modules, "matplotlib", SimpleNamespace(figure=module))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", module)
    runs = [read_curves(log(tmp_path / name, EPOCHS)) for name in ("seed0", "seed1")]
    draw_curves(runs, tmp_path / "a.PNG")
    assert (tmp_path / "a.PNG").read_text() == "png"
    labels = [[call.kwargs["label"] for call in axis.plot.call_args_list] for axis in axes]
    rates = [f"seed{n}: {part}" for n in (0, 1) for part in ("lora", "head")]
    assert labels == [["seed0", "seed1"]] * 3 + [rates]
    assert axes[1].plot.call_args_list[0].args == ([1, 2, 3], [1.5, 0.75, 0.5])


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_a_picture_is_drawn(tmp_path, capsys, suffix):
    pytest.importorskip("matplotlib", reason="the extra plot is not installed")
    folders = [str(log(tmp_path / name, EPOCHS)) for name in ("seed0", "seed1")]
    path = tmp_path / f"curves{suffix}"
    assert main(["plot", *folders, "-o", str(path)]) == 0
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG") if suffix == ".png" else b"<svg" in content
    assert "3 epochs of" in capsys.readouterr().out
