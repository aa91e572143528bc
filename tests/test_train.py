"""Training learns, repeats itself bit for bit, and checks its labels before it starts."""

from __future__ import annotations

import json
import math
import signal
from dataclasses import replace

import pytest
import torch
from conftest import MEDIA, make_content
from safetensors.torch import load_file

from omni_msa.errors import ConfigError, ManifestError, MediaError, ModelError, TrainingError
from omni_msa.files.labels import LabelSpace
from omni_msa.methods.regression import Regression
from omni_msa.options import AblationOptions, MediaOptions, ModelOptions, TrainOptions
from omni_msa.scoring.checkpoint import read_info
from omni_msa.scoring.scorer import Scorer
from omni_msa.training.data import TrainingData, with_labels
from omni_msa.training.order import plan_epoch
from omni_msa.training.trainer import Trainer
from scripts.memory_feed import MemoryFeed


def clips(labels, seconds=None, num_frames=None):
    """Clips whose words tell the label; equally long, so that batches mix them."""
    contents = []
    for i, label in enumerate(labels):
        text = "good good" if label > 0 else "evil evil"
        content = make_content(text=text, seed=i, seconds=seconds, num_frames=num_frames)
        contents.append(replace(content, clip=replace(content.clip, label=label)))
    return contents


def run(base_folder, out, train, progress=lambda _: None, fresh=True, tensorboard=False, **changes):
    small = {"epochs": 4, "batch_size": 4, "lora_rank": 4, "lora_alpha": 4}
    options = TrainOptions(**(small | changes))
    model = ModelOptions(model=str(base_folder))
    data = TrainingData(MemoryFeed(train), MemoryFeed(train[:4]))
    trainer = Trainer(model, options, MediaOptions(**MEDIA), progress)
    return trainer.run(data, out, fresh=fresh, tensorboard=tensorboard)


@pytest.mark.slow
@pytest.mark.parametrize("subsets", ["packed", "full"])
def test_it_learns_and_the_saved_checkpoint_scores_what_was_validated(
    base_folder, tmp_path, subsets
):
    seen = []
    train = clips([2.0, -2.0] * 8)
    info = run(
        base_folder, tmp_path, train, seen.append, subsets=subsets, lora_learning_rate=3e-3,
        head_learning_rate=3e-3, epochs=20, patience=20,
    )  # fmt: skip
    assert info.metrics["mae"] < 0.7  # guessing the mean has an MAE of 2
    scorer = Scorer.load(ModelOptions(str(base_folder), str(tmp_path)))
    whole = AblationOptions(enabled=False)
    records = scorer.score_prepared([scorer.prepare(c) for c in train[:4]], whole)
    mae = sum(abs(r.score - c.clip.label) for r, c in zip(records, train, strict=False)) / 4
    assert mae == pytest.approx(info.metrics["mae"], abs=1e-4)
    epochs = [p.metrics["mae"] for p in seen if p.metrics]
    assert len(epochs) <= 20 and info.metrics["mae"] == min(epochs)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights(base_folder, tmp_path):
    for name in ("a", "b"):
        train = clips([1.0, -1.5, 2.0, -0.5], seconds=0.5, num_frames=2)
        run(base_folder, tmp_path / name, train, epochs=3, batch_size=2, seed=7)
    for file in ("adapter_model.safetensors", "readout.safetensors"):
        first, second = (load_file(tmp_path / name / file) for name in ("a", "b"))
        assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_subset_is_trained_towards_its_own_label_where_there_is_one(thinker):
    content = clips([2.0], seconds=0.5, num_frames=2)[0]
    content = replace(content, clip=replace(content.clip, subset_labels={"T": -1.0, "": 0.5}))
    inputs = thinker.builder().build(content, MediaOptions(**MEDIA))
    item = with_labels(content.clip, inputs, True, LabelSpace())
    assert dict(zip(item.subsets, item.labels, strict=True)) == {
        frozenset(): 0.5,
        frozenset({"text"}): -1.0,
        **{s: 2.0 for s in item.subsets if len(s) > 1 or (s and s != {"text"})},
    }


@pytest.mark.parametrize(
    ("train", "valid", "error", "message"),
    [
        ([], [1.0], ManifestError, "both are needed"),
        ([1.0], [], ManifestError, "both are needed"),
        ([1.0, None], [1.0], ManifestError, r"1 clips have no label in \[-3, 3\]"),
        ([1.0, 4.0], [1.0], ManifestError, r"clip1.mp4 \(4.0\)"),
        ([1.0, 1.0], [0.0], ConfigError, "all training labels are equal"),
    ],
)
def test_labels_are_checked_before_anything_is_trained(train, valid, error, message):
    def contents(labels):
        made = clips([0.0 if label is None else label for label in labels])
        return [
            replace(c, clip=replace(c.clip, label=label))
            for c, label in zip(made, labels, strict=True)
        ]

    with pytest.raises(error, match=message):
        TrainingData(MemoryFeed(contents(train)), MemoryFeed(contents(valid)))


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 0},
        {"subsets": "some"},
        {"lora_dropout": 1.0},
        {"lora_scope": "none"},
        {"checkpointing": "maybe"},
        {"save_every": 0},
    ],
)
def test_options_are_checked(changes):
    with pytest.raises(ConfigError):
        TrainOptions(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "tarot"}, "readout 'tarot' is not known; choose one of: regression, verbal"),
        ({"method": "probe"}, "'probe' is trained by fit, .* choose one of: regression, generat"),
        ({"method": "verbalizer"}, "'verbalizer' is trained by nothing"),
        ({"method_options": {"head": "deep"}}, "head 'deep' is not known; choose one of: mlp, li"),
        ({"method_options": {"hed": "mlp"}}, "option 'hed' is not known; choose one of: head, dr"),
        ({"method_options": {"dropout": "some"}}, "dropout=some: it takes a number$"),
        ({"method_options": {"dropout": "1"}}, r"must lie in \[0, 1\), got 1.0"),
        ({"method": "generative", "method_options": {"head": "mlp"}}, "has no options; leave out"),
        ({"method": "generative", "head_learning_rate": 1.0}, "generative has no parameters"),
    ],
)
def test_a_method_is_checked_before_anything_is_loaded(changes, message):
    model = ModelOptions(model="no/such/folder/anywhere")
    with pytest.raises(ConfigError, match=message):
        Trainer(model, TrainOptions(**changes), MediaOptions(**MEDIA))


class Killed(Exception):
    pass


def same_files(first, second):
    for file in ("adapter_model.safetensors", "readout.safetensors"):
        a, b = load_file(first / file), load_file(second / file)
        assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a), file


def nearly_same_training(first, second):
    """The same losses and gradient norms. Weights are not compared: AdamW turns the rounding of
    a gradient near zero into a whole step, so they differ between machines."""
    logs = [(folder / "train_log.jsonl").read_text().splitlines() for folder in (first, second)]
    a, b = ([e for e in map(json.loads, log) if e["event"] == "step"] for log in logs)
    assert [e["clips"] for e in a] == [e["clips"] for e in b]
    assert [e["loss"] for e in a] == pytest.approx([e["loss"] for e in b], rel=1e-2)
    # from the same weights: rounding alone
    for name in ("loss", "grad_norm"):
        assert a[0][name] == pytest.approx(b[0][name], rel=1e-3), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("last_step", "method"),
    [(1, "regression"), (4, "regression"), (5, "generative"), (11, "regression")],
)
def test_a_run_that_was_killed_goes_on_to_the_same_weights(
    base_folder, tmp_path, last_step, method
):
    train = clips([1.0, -1.5, 2.0, -0.5, 0.7, -2.0], seconds=0.5, num_frames=2)
    options = {"epochs": 4, "patience": 9, "batch_size": 2, "save_every": 2, "method": method}

    def killer(now):
        if now.step == last_step and now.metrics is None and not now.notice:
            raise Killed

    run(base_folder, tmp_path / "whole", train, **options)
    with pytest.raises(Killed):
        run(base_folder, tmp_path / "killed", train, killer, fresh=False, **options)
    seen = []
    run(base_folder, tmp_path / "killed", train, seen.append, fresh=False, **options)
    same_files(tmp_path / "whole", tmp_path / "killed")
    if last_step > 2:  # not from the start again
        assert "going on after step" in seen[0].notice
    logs = [(tmp_path / n / "train_log.jsonl").read_text() for n in ("whole", "killed")]
    whole, killed = ([json.loads(line) for line in log.splitlines()] for log in logs)
    assert [e.get("loss") for e in whole] == [e.get("loss") for e in killed]
    assert [e["event"] for e in whole].count("step") == 12
    assert not (tmp_path / "killed" / "training_state.pt").exists()


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_goes_on_from_its_last_step(base_folder, tmp_path):
    train = clips([1.0, -1.5] * 4, seconds=0.5, num_frames=2)
    options = {"epochs": 1, "batch_size": 1, "save_every": 1, "fresh": False}
    notices = []
    for last_step in (3, 7, 8):

        def killer(now, last_step=last_step):
            notices.append(now.notice)
            if now.step == last_step and not now.notice:
                raise Killed

        with pytest.raises(Killed):
            run(base_folder, tmp_path, train, killer, **options)
    told = [notice for notice in notices if notice]
    assert told == ["going on after step 2 of 8", "going on after step 6 of 8"]


@pytest.mark.slow
@pytest.mark.slow
def test_no_training_counts_as_an_epoch_of_a_model_that_answers_untrained(base_folder, tmp_path):
    train = clips([1.0, -1.5, 2.0, -0.5], seconds=0.5, num_frames=2)
    options = {"epochs": 2, "batch_size": 2, "method": "generative"}
    run(base_folder, tmp_path / "run", train, **options)
    log = (tmp_path / "run" / "train_log.jsonl").read_text().splitlines()
    epochs = [e for e in map(json.loads, log) if e["event"] == "epoch"]
    best = min(epochs, key=lambda e: e["mae"])
    assert [e["epoch"] for e in epochs] == [0, 1, 2]
    assert read_info(tmp_path / "run").training["best_epoch"] == best["epoch"]
    assert read_info(tmp_path / "run").metrics["mae"] == pytest.approx(best["mae"])


def test_a_finished_folder_and_one_of_another_run_are_not_touched(base_folder, tmp_path):
    train = clips([1.0, -1.5, 2.0, -0.5])

    def killer(now):
        raise Killed

    run(base_folder, tmp_path / "done", train, epochs=1)
    with pytest.raises(ConfigError, match="holds a finished checkpoint"):
        run(base_folder, tmp_path / "done", train, epochs=1, fresh=False)
    with pytest.raises(Killed):
        run(base_folder, tmp_path / "half", train, killer, epochs=2, save_every=1, fresh=False)
    with pytest.raises(ConfigError, match="other settings or data"):  # it counts as begun
        run(base_folder, tmp_path / "half", train, epochs=1, fresh=False)
    run(base_folder, tmp_path / "half", train, epochs=1, fresh=True)
    stops = iter([False, True])
    with pytest.raises(Killed):
        run(
            base_folder, tmp_path / "other", train,
            lambda _: next(stops) and killer(_), batch_size=2, save_every=1, fresh=False,
        )  # fmt: skip
    with pytest.raises(ConfigError, match="other settings or data"):
        run(base_folder, tmp_path / "other", train, batch_size=2, save_every=1, fresh=False, seed=5)
    (tmp_path / "other" / "training_state.pt").write_bytes(b"PK")
    with pytest.raises(ModelError, match="is damaged"):
        run(base_folder, tmp_path / "other", train, batch_size=2, save_every=1, fresh=False)


def lose_the_loss(monkeypatch, at_step: int) -> None:
    """The loss is no number from some step on; each step is one pass."""
    losses, steps = Regression.losses, iter(range(10**6))

    def diverge(*arguments):
        return losses(*arguments) * (math.nan if next(steps) >= at_step else 1.0)

    monkeypatch.setattr(Regression, "losses", diverge)


@pytest.mark.parametrize(
    ("at_step", "kept"),
    [
        (0, "the weights of step 0"),
        pytest.param(1, "the weights of step 1", marks=pytest.mark.slow),
        pytest.param(5, "the best epoch so far", marks=pytest.mark.slow),
    ],
)
def test_nan_stops_with_the_last_good_weights(base_folder, tmp_path, monkeypatch, at_step, kept):
    train = clips([1.0, -1.5, 2.0, -0.5])
    data = TrainingData(MemoryFeed(train), MemoryFeed(train))
    options = TrainOptions(epochs=4, batch_size=2, lora_rank=4, lora_alpha=4)
    trainer = Trainer(ModelOptions(model=str(base_folder)), options, MediaOptions(**MEDIA))
    lose_the_loss(monkeypatch, at_step)
    with pytest.raises(TrainingError, match=f"the loss is nan .*lower the learning .*{kept}"):
        trainer.run(data, tmp_path)
    log = [json.loads(line) for line in (tmp_path / "train_log.jsonl").read_text().splitlines()]
    assert log[-1]["event"] == "stopped"
    scorer = Scorer.load(ModelOptions(str(base_folder), str(tmp_path)))  # it is whole
    record = scorer.score_prepared([scorer.prepare(train[0])], AblationOptions())[0]
    assert math.isfinite(record.score)


def test_weights_that_give_no_numbers_are_not_kept(base_folder, tmp_path):
    train = clips([1.0, -1.5, 2.0, -0.5])
    with pytest.raises(TrainingError, match="no numbers.*no good weights to keep"):
        run(base_folder, tmp_path, train, lora_learning_rate=1e30, head_learning_rate=1e30)
    assert not (tmp_path / "omni_msa.json").exists()


@pytest.mark.slow
def test_ctrl_c_finishes_the_step_and_the_run_goes_on_from_there(base_folder, tmp_path):
    train = clips([1.0, -1.5, 2.0, -0.5])
    options = {"epochs": 2, "batch_size": 1, "save_every": 100}

    def interrupt(now):
        if now.step == 3 and now.metrics is None:
            signal.raise_signal(signal.SIGINT)

    run(base_folder, tmp_path / "whole", train, **options)
    with pytest.raises(KeyboardInterrupt):
        run(base_folder, tmp_path / "half", train, interrupt, fresh=False, **options)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    seen = []
    run(base_folder, tmp_path / "half", train, seen.append, fresh=False, **options)
    assert seen[0].notice == "going on after step 3 of 8"
    same_files(tmp_path / "whole", tmp_path / "half")


class Interrupted(MemoryFeed):
    """Clips whose reader is stopped by Ctrl-C."""

    def read(self, order):
        raise KeyboardInterrupt


@pytest.mark.slow
def test_ctrl_c_in_validation_loses_no_step(base_folder, tmp_path):
    train, seen = clips([1.0, -1.5, 2.0, -0.5], seconds=0.5, num_frames=2), []
    options = TrainOptions(epochs=2, batch_size=2, lora_rank=4, lora_alpha=4)
    made = ModelOptions(str(base_folder)), options, MediaOptions(**MEDIA), seen.append
    data = TrainingData(MemoryFeed(train), MemoryFeed(train))
    Trainer(*made).run(data, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        Trainer(*made).run(replace(data, valid=Interrupted(train)), tmp_path / "half")
    Trainer(*made).run(data, tmp_path / "half")
    assert "going on after step 2 of 4" in [p.notice for p in seen]
    same_files(tmp_path / "whole", tmp_path / "half")


class Damaged(MemoryFeed):
    """Clips of which some cannot be read."""

    def __init__(self, contents, damaged=()):
        super().__init__(contents)
        self.damaged = damaged

    def read(self, order):
        for i in order:
            yield MediaError(f"clip {i} is damaged") if i in self.damaged else self.contents[i]


def test_a_clip_that_cannot_be_read_is_left_out_and_named(base_folder, tmp_path):
    train, seen = clips([1.0, -1.5, 2.0, -0.5]), []
    data = TrainingData(Damaged(train, (1,)), MemoryFeed(train))
    options = TrainOptions(epochs=2, batch_size=2, lora_rank=4, lora_alpha=4)
    trainer = Trainer(
        ModelOptions(model=str(base_folder)), options, MediaOptions(**MEDIA), seen.append
    )
    info = trainer.run(data, tmp_path)
    assert info.training["left_out"] == ["clip1.mp4"]
    notices = [n.notice for n in seen if n.notice]
    assert notices == ["left out: clip 1 is damaged"]
    log = [json.loads(line) for line in (tmp_path / "train_log.jsonl").read_text().splitlines()]
    counts = [event["clips"] for event in log if event["event"] == "step"]
    assert sorted(counts[:2]) == [1, 2]  # nobody stands in for it


@pytest.mark.slow
def test_broken_clips_count_where_they_are_and_only_while_they_are_broken(base_folder, tmp_path):
    train, valid = clips([1.0, -1.5, 2.0, -0.5]), clips([1.0, -1.5, 2.0, -0.5])
    for i, content in enumerate(valid):
        valid[i] = replace(content, clip=replace(content.clip, id=f"valid{i}"))
    feeds = Damaged(train), Damaged(valid, (0, 1, 2))
    options = TrainOptions(epochs=2, batch_size=2, lora_rank=4, lora_alpha=4)
    model, media = ModelOptions(model=str(base_folder)), MediaOptions(**MEDIA)
    info = Trainer(model, options, media).run(TrainingData(*feeds), tmp_path / "valid")
    assert info.training["left_out"] == ["valid0", "valid1", "valid2"]
    assert info.metrics["clips"] == 1
    feeds[0].damaged = (0, 1, 2)
    with pytest.raises(ManifestError, match="3 of 4 training clips cannot be used"):
        Trainer(model, options, media).run(TrainingData(*feeds), tmp_path / "train")
    feeds[0].damaged = feeds[1].damaged = ()  # repaired: the same command goes on
    info = Trainer(model, options, media).run(TrainingData(*feeds), tmp_path / "train")
    assert info.training["left_out"] == []


def test_memory_that_does_not_hold_a_validation_batch_is_no_end(base_folder, tmp_path, monkeypatch):
    read, sizes = Regression.read, []

    def small(self, thinker, batch, subsets):
        sizes.append(len(batch))
        if len(batch) > 1:
            torch.empty(2**60, dtype=torch.uint8)
        return read(self, thinker, batch, subsets)

    monkeypatch.setattr(Regression, "read", small)
    train = clips([1.0, -1.5, 2.0, -0.5])
    info = run(base_folder, tmp_path, train, epochs=1, batch_size=4)
    assert info.metrics["clips"] == 4
    assert sizes[:6] == [4, 2, 1, 1, 1, 1]


def test_a_modality_that_was_dropped_in_training_is_dropped_in_scoring(base_folder, tmp_path):
    train = clips([1.0, -1.5, 2.0, -0.5], seconds=0.5, num_frames=2)
    data = TrainingData(MemoryFeed(train), MemoryFeed(train), LabelSpace(), frozenset({"audio"}))
    options = TrainOptions(epochs=1, lora_rank=4, lora_alpha=4)
    Trainer(ModelOptions(model=str(base_folder)), options, MediaOptions(**MEDIA)).run(
        data, tmp_path
    )
    scorer = Scorer.load(ModelOptions(str(base_folder), str(tmp_path)))
    record = scorer.score_prepared([scorer.prepare(train[0])], AblationOptions())[0]
    assert record.modalities["audio"] is None and set(record.ablation.contribution) == {
        "text",
        "video",
    }
    assert any("trained without audio" in w for w in record.warnings)
    # what it is not shown cannot change the score
    silent = {m: part for m, part in train[0].parts.items() if m != "audio"}
    silent = replace(train[0], parts=silent)
    assert scorer.score_prepared([scorer.prepare(silent)], AblationOptions())[0].score == (
        pytest.approx(record.score, abs=1e-4)
    )


@pytest.mark.slow
def test_training_goes_on_from_another_checkpoint(base_folder, tmp_path):
    train = clips([2.0, -2.0] * 4)
    rates = {"lora_learning_rate": 3e-3, "head_learning_rate": 3e-3}
    first = run(base_folder, tmp_path / "first", train, epochs=8, **rates)
    data = TrainingData(MemoryFeed(train), MemoryFeed(train[:4]))
    options = TrainOptions(epochs=1, batch_size=4, lora_rank=4, lora_alpha=4,
                           lora_learning_rate=1e-9, head_learning_rate=1e-9)  # fmt: skip
    model, media = ModelOptions(model=str(base_folder)), MediaOptions(**MEDIA)
    second = Trainer(model, options, media).run(data, tmp_path / "second", start=tmp_path / "first")
    assert second.metrics["mae"] == pytest.approx(first.metrics["mae"], abs=1e-3)
    assert second.training["start"] == first.adapter_sha256 + first.readout_sha256
    for changes, message in (
        ({"lora_rank": 8}, "another LoRA rank"),
        ({"lora_alpha": 8}, "another LoRA alpha"),
        ({"method": "generative", "head_learning_rate": 1e-3}, "another readout and settings"),
        ({"lora_scope": "language"}, "another LoRA scope"),
    ):
        with pytest.raises(ModelError, match=message):
            Trainer(model, replace(options, **changes), media).run(
                data, tmp_path / "third", start=tmp_path / "first"
            )


def test_lora_on_the_language_model_alone_trains_nothing_else(base_folder, tmp_path):
    train = clips([1.0, -1.5, 2.0, -0.5])
    info = run(base_folder, tmp_path, train, epochs=1, lora_scope="language")
    keys = load_file(tmp_path / "adapter_model.safetensors")
    assert keys and not [k for k in keys if "audio_tower" in k or "visual" in k]
    assert info.lora["scope"] == "language"


@pytest.mark.slow
def test_it_trains_on_a_base_in_4_bit(base_folder, tmp_path):
    train = clips([2.0, -2.0] * 4)
    data = TrainingData(MemoryFeed(train), MemoryFeed(train))
    options = TrainOptions(epochs=6, batch_size=4, lora_rank=4, lora_alpha=4,
                           lora_learning_rate=3e-3, head_learning_rate=3e-3)  # fmt: skip
    model = ModelOptions(model=str(base_folder), quantize="4bit")
    seen = []
    info = Trainer(model, options, MediaOptions(**MEDIA), seen.append).run(data, tmp_path)
    assert info.quantize == "4bit"
    losses = [now.loss for now in seen if now.metrics is None]
    assert losses[-1] < losses[0]
    scorer = Scorer.load(ModelOptions(str(base_folder), str(tmp_path), quantize="4bit"))
    prepared = [scorer.prepare(c) for c in train]
    records = scorer.score_prepared(prepared, AblationOptions(enabled=False))
    mae = sum(abs(r.score - c.clip.label) for r, c in zip(records, train, strict=True)) / 8
    assert mae == pytest.approx(info.metrics["mae"], abs=1e-3)


def test_an_epoch_shows_every_clip_once_and_follows_from_the_seed():
    options = TrainOptions(batch_size=4, accumulate=2)
    sizes = [(7 * i) % 31 for i in range(101)]
    steps = plan_epoch(sizes, 1, options)
    assert sorted(i for step in steps for i in step) == list(range(101))
    assert max(len(step) for step in steps) == 8
    assert steps == plan_epoch(sizes, 1, options) != plan_epoch(sizes, 2, options)
