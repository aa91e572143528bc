"""One optimizer step: however the clips are split into passes, the gradients are the same."""

from __future__ import annotations

import pytest
import torch
from conftest import MEDIA
from test_train import clips, nearly_same_training, run

from omni_msa.errors import TrainingError
from omni_msa.methods.regression import Regression
from omni_msa.options import MediaOptions, ModelOptions, TrainOptions
from omni_msa.training.data import TrainingData
from omni_msa.training.trainer import Trainer
from scripts.memory_feed import MemoryFeed


def first_gradients(monkeypatch, train) -> torch.Tensor:
    """The gradients that the first optimizer step of a run is given, as one vector."""
    kept: list[torch.Tensor] = []
    step = torch.optim.AdamW.step

    def record(self, *arguments):
        parameters = [p for group in self.param_groups for p in group["params"]]
        kept.append(torch.cat([p.grad.flatten().clone() for p in parameters]))
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", record)
        train()
    return kept[0]


def limit_memory(monkeypatch, clips_a_pass: int) -> None:
    """Passes of more clips ask for more memory than there is: a real failure."""
    losses = Regression.losses

    def fails(self, thinker, clips, subsets, labels):
        if len(clips) > clips_a_pass:
            torch.empty(2**60, dtype=torch.uint8)
        return losses(self, thinker, clips, subsets, labels)

    monkeypatch.setattr(Regression, "losses", fails)


@pytest.mark.slow
def test_when_memory_runs_out_the_micro_batch_is_halved_and_the_step_stays(
    base_folder, tmp_path, monkeypatch
):
    train = clips([1.0, -1.5, 2.0, -0.5] * 2)
    data = TrainingData(MemoryFeed(train), MemoryFeed(train[:4]))
    options = TrainOptions(
        epochs=2,
        batch_size=8,
        lora_rank=4,
        lora_alpha=4,
        lora_dropout=0.0,
        method_options={"dropout": 0.0},
    )
    model, media, seen = ModelOptions(model=str(base_folder)), MediaOptions(**MEDIA), []
    large = first_gradients(
        monkeypatch, lambda: Trainer(model, options, media).run(data, tmp_path / "large")
    )
    limit_memory(monkeypatch, 1)
    small = first_gradients(
        monkeypatch,
        lambda: Trainer(model, options, media, seen.append).run(data, tmp_path / "small"),
    )
    notices = [now.notice for now in seen if now.notice]
    assert [n.split(";")[0] for n in notices] == [
        f"out of memory: from now on {n} clips a pass, as many a step" for n in (4, 2, 1)
    ]
    assert (large - small).norm() < 1e-3 * large.norm()
    nearly_same_training(tmp_path / "large", tmp_path / "small")


def test_passes_of_unequal_size_make_the_step_that_one_pass_makes(
    base_folder, tmp_path, monkeypatch
):
    """Gradients are those of the mean over the step's clips, not over a pass's: 4 = 3 + 1."""
    train = clips([1.0, -1.5, 2.0, -0.5], seconds=0.5, num_frames=2)
    quiet = {"epochs": 1, "lora_dropout": 0.0, "method_options": {"dropout": 0.0}}
    one = first_gradients(
        monkeypatch, lambda: run(base_folder, tmp_path / "one", train, batch_size=4, **quiet)
    )
    limit_memory(monkeypatch, 3)

    def in_parts():
        run(base_folder, tmp_path / "parts", train, batch_size=3, accumulate=2, **quiet)

    parts = first_gradients(monkeypatch, in_parts)
    assert (one - parts).norm() < 1e-3 * one.norm()
    nearly_same_training(tmp_path / "one", tmp_path / "parts")


def test_memory_that_does_not_hold_one_clip_ends_the_run(base_folder, tmp_path, monkeypatch):
    limit_memory(monkeypatch, 0)
    with pytest.raises(TrainingError, match="memory does not hold one clip"):
        run(base_folder, tmp_path / "none", clips([1.0, -1.5]), epochs=1, batch_size=2)


@pytest.mark.slow
def test_recomputing_activations_changes_no_gradient(base_folder, tmp_path, monkeypatch):
    train = clips([1.0, -1.5, 2.0, -0.5], seconds=0.5, num_frames=2)
    on, off = (
        first_gradients(
            monkeypatch,
            lambda name=name: run(
                base_folder, tmp_path / name, train, epochs=1, checkpointing=name,
                lora_dropout=0.0, method_options={"dropout": 0.0},
            ),
        )
        for name in ("on", "off")
    )  # fmt: skip
    assert (on - off).norm() < 1e-3 * off.norm()
    nearly_same_training(tmp_path / "on", tmp_path / "off")
