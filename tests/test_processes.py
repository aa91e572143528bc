"""Several processes take the steps of one (without dropout, which each draws for itself)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest
from conftest import ROOT
from test_train import nearly_same_training

pytestmark = pytest.mark.slow

PROGRAM = """
from dataclasses import replace
from pathlib import Path
from conftest import MEDIA
from test_train import Damaged, clips
from omni_msa.options import MediaOptions, ModelOptions, TrainOptions
from omni_msa.training.trainer import Trainer
from omni_msa.training.data import TrainingData
train = clips([1.0, -1.5, 2.0, -0.5, 0.3, 0.8, -2.5], seconds=0.5, num_frames=2)
options = TrainOptions(epochs=1, batch_size=4, lora_rank=4, lora_alpha=4, lora_dropout=0.0,
                       head_dropout=0.0)
model = ModelOptions(model={base!r}, device="cpu")
trainer = Trainer(model, options, MediaOptions(**MEDIA))
valid = [replace(c, clip=replace(c.clip, id=f"valid{{i}}")) for i, c in enumerate(train)]
data = TrainingData(Damaged(train, (0, 5)), Damaged(valid, (3,)), (-3, 3))
trainer.run(data, Path({out!r}))
print("processes", trainer.processes.count)
"""


def test_two_processes_take_the_steps_that_one_takes(base_folder, tmp_path):
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])  # a program does not have pytest's
    accelerate = [sys.executable, "-m", "accelerate.commands.launch"]
    two = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no",
           "--dynamo_backend", "no", "--main_process_port", str(free_port())]  # fmt: skip
    for name, command in (("one", [sys.executable]), ("two", accelerate + two)):
        program = tmp_path / f"{name}.py"
        out = tmp_path / name
        program.write_text(PROGRAM.format(base=str(base_folder), out=str(out)))
        done = subprocess.run(
            [*command, str(program)], capture_output=True, text=True, timeout=300,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        assert f"processes {1 if name == 'one' else 2}" in done.stdout
    nearly_same_training(tmp_path / "one", tmp_path / "two")
    found = [json.loads((tmp_path / n / "omni_msa.json").read_text()) for n in ("one", "two")]
    assert [f["training"]["left_out"] for f in found] == [["clip0.mp4", "clip5.mp4", "valid3"]] * 2
    assert [f["metrics"]["clips"] for f in found] == [6, 6]
    assert found[0]["metrics"]["mae"] == pytest.approx(found[1]["metrics"]["mae"], rel=1e-2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
