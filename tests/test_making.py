"""Making the embedded model: what is held out, loops that go on, steps that are done once."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch
from conftest import SHARED

pytest.importorskip("PIL", reason="drawing faces needs the tiny extra")
pytest.importorskip("espeakng_loader", reason="speaking needs the tiny extra")

from scripts.tiny import make  # noqa: E402
from scripts.tiny.clips import NO_VOICE, draw_spec, perform  # noqa: E402
from scripts.tiny.loop import Loop, Schedule  # noqa: E402
from scripts.tiny.sentences import documents_of, is_held_out, load_sentences, plain  # noqa: E402
from scripts.tiny.words import sentence, split_of  # noqa: E402

FIRST = {"train": 0, "valid": 500_000, "test": 1_000_000}


@pytest.mark.parametrize(("split", "first"), FIRST.items())
def test_a_clip_has_only_words_of_its_split(split, first):
    texts = [draw_spec(first + i).text for i in range(60)]
    assert {split_of(text) for text in texts if text} == {split}
    assert split_of(draw_spec(2_000_000, "glad").text) == "test"  # the sample clips


def test_a_sentence_is_in_one_split_however_it_is_written():
    for form in ("The soup was good.", "the soup was good", "Well, the soup was good!",
                 "THE SOUP WAS GOOD", "to be honest, the soup was good"):  # fmt: skip
        assert split_of(form) == split_of("the soup was good")
    draw = np.random.default_rng(0)
    splits = [split_of(sentence(draw).text) for _ in range(2000)]
    assert 0.06 < splits.count("test") / 2000 < 0.14
    assert 0.02 < splits.count("valid") / 2000 < 0.09


@pytest.mark.slow
def test_no_word_for_word_sentence_of_training_is_tested():
    """Those that the language model learns from and those of the corpus, against the test clips."""
    draw = np.random.default_rng(1)
    taught = {plain(sentence(draw, split="train").text) for _ in range(20_000)}
    taught |= {plain(draw_spec(seed).text) for seed in range(300)} - {""}
    tested = {plain(draw_spec(FIRST["test"] + i).text) for i in range(100)} - {""}
    assert len(tested) > 80 and not taught & tested


def test_sentences_of_one_document_and_copies_of_each_other_are_held_out_together():
    texts = [
        "We met Kowalczyk at the gate and he laughed.", "Nobody liked what Kowalczyk said.",
        "The battery of this camera lasts all day long for me",
        "the battery of this camera lasts all day long for us!",
        "Something else entirely.",
    ]  # fmt: skip
    documents = documents_of(texts, ["news", "news", "shop", "shop", "shop"])
    assert documents[0] == documents[1] and documents[2] == documents[3]
    assert len(set(documents)) == 3
    assert documents_of(texts[:2], ["news", "shop"])[0] != documents[0]  # another genre's name
    assert 0.05 < np.mean([is_held_out(str(i)) for i in range(2000)]) < 0.15


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "text").is_dir(), reason="the rated sentences are not here")
def test_no_rated_sentence_that_is_held_out_is_learned_from():
    rated = load_sentences(SHARED / "text")
    held_out = {plain(s.text) for s in rated if s.held_out} - {""}
    taught = {plain(s.text) for s in rated if not s.held_out}
    assert 0.08 < len(held_out) / len(rated) < 0.12 and not held_out & taught
    alike = {frozenset(text.split()) for text in taught if len(text.split()) > 5}
    assert not [t for t in held_out if len(t.split()) > 5 and frozenset(t.split()) in alike]


def test_without_a_voice_there_are_no_words_and_nothing_is_expressed():
    spec = draw_spec(3, "nobody")
    assert spec.text == "" and spec.present == {"audio", "video"}
    assert set(spec.terms.values()) == {0.0}
    take = perform(spec, size=(80, 60), rate=4)
    assert len(take.frames) >= 4 and np.abs(take.sound).max() < 1
    assert all(draw_spec(seed, case).terms["audio"] == 0 for seed in range(9) for case in NO_VOICE)


def small_loop(folder, steps: int) -> tuple[Loop, list[float]]:
    torch.manual_seed(0)
    model, losses = torch.nn.Linear(4, 1), []
    loop = Loop("small", Schedule(steps, 0.05, warm_up=5), {"model": model}, folder / "kept.state")
    loop.memory |= {"seen": 0}

    def step_loss(step: int, rng: random.Random) -> float:
        if step == 150 and not folder.joinpath("killed").exists():
            folder.joinpath("killed").touch()
            raise KeyboardInterrupt
        x = torch.randn(8, 4) + rng.random()
        loss = (model(x) - x.sum(1, keepdim=True)).abs().mean()
        loss.backward()
        loop.memory["seen"] += 1
        losses.append(float(loss.detach()))
        return losses[-1]

    loop.run(list(model.parameters()), step_loss)
    return loop, losses


def test_a_loop_that_was_killed_ends_with_the_weights_of_one_that_was_not(tmp_path):
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    (tmp_path / "whole" / "killed").touch()
    whole, losses = small_loop(tmp_path / "whole", 200)
    with pytest.raises(KeyboardInterrupt):
        small_loop(tmp_path / "killed", 200)
    again, rest = small_loop(tmp_path / "killed", 200)
    assert rest == losses[100:] and again.memory == whole.memory == {"seen": 200}
    for one, other in zip(whole.trained["model"].parameters(), again.trained["model"].parameters(),
                          strict=True):  # fmt: skip
        assert torch.equal(one, other)
    assert small_loop(tmp_path / "killed", 200)[1] == []  # finished: nothing is done again
    assert len(small_loop(tmp_path / "killed", 300)[1]) == 300  # another schedule: from the start
    again.end()
    assert not again.kept.exists()


@pytest.mark.slow
def test_a_finished_step_is_not_done_again_and_a_failed_one_says_why(tmp_path, capsys):
    helps = make.Step("helps", "tiny.corpus", "--help")
    wrong = make.Step("wrong", "tiny.corpus", "--wrong", ("helps",))
    maker = make.Maker(tmp_path, tmp_path, 1.0)
    maker.run((helps,))
    assert json.loads((tmp_path / "done" / "helps.json").read_text())["seconds"] > 0
    capsys.readouterr()
    with pytest.raises(SystemExit, match="(?s)wrong failed.*unrecognized|wrong failed.*required"):
        make.Maker(tmp_path, tmp_path, 1.0).run((helps, wrong))
    assert "helps begins" not in capsys.readouterr().err


def test_the_plan_names_every_step_and_runs_after_what_it_needs(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["make", "--study", "--dry-run"])
    make.main()
    shown = capsys.readouterr().out
    names = [step.name for step in make.STEPS]
    assert all(name in shown for name in names) and len(set(names)) == len(names)
    for step in make.STEPS:
        assert set(step.needs) <= set(names)
    base = next(step for step in make.STEPS if step.name == "base")
    whole, small = (base.command("w", "s", scale) for scale in (1.0, 0.01))
    place = whole.index("--steps") + 1
    assert int(small[place]) == int(whole[place]) / 100 >= 5
