"""The scripts that measure end with one line of JSON that says what was measured."""

from __future__ import annotations

import json
import runpy
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def last_line(monkeypatch, capsys):
    """Runs a script as `python -m` does, in this process, and reads the last line it prints."""

    def run(module: str, *arguments: str) -> dict:
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        capsys.readouterr()
        runpy.run_module(f"scripts.{module}", run_name="__main__", alter_sys=True)
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return run


def test_a_table_takes_the_place_of_the_one_before_it_and_touches_nothing_else(tmp_path):
    from scripts.bench.report import write_section

    page = tmp_path / "page.md"
    page.write_text("a\n<!-- bench x -->\nold\n<!-- /bench x -->\nb\n")
    for _ in range(2):
        write_section("x", ["new", "", "newer"], page)
        assert page.read_text() == "a\n<!-- bench x -->\nnew\n\nnewer\n<!-- /bench x -->\nb\n"
    before = page.read_text()
    with pytest.raises(ValueError, match="bench y"):
        write_section("y", ["new"], page)
    assert page.read_text() == before


def test_times_are_of_jobs_in_turn_without_the_rounds_that_warm_up():
    from scripts.bench.report import interleaved

    order: list[str] = []
    jobs = {name: lambda name=name: order.append(name) for name in "ab"}
    seconds = interleaved(jobs, runs=3, warm_up=2)
    assert order == ["a", "b"] * 5
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3}


def test_a_machine_is_named_by_what_it_has_and_not_by_what_it_is_called():
    import platform

    from scripts.bench.report import machine

    assert "threads" in machine() and "torch" in machine()
    assert platform.node() not in machine()


def test_the_thinker_is_measured_in_every_pass(last_line):
    found = last_line("bench.thinker", "--size", "tiny", "--seconds", "1")
    assert found["parameters"] == 5_418_816 and found["trainable"] > 0
    for key in ("peak_gib", "seconds_forward", "seconds_generate", "seconds_train_step"):
        assert found[key] > 0, key
    (clip,) = found["clips"]
    assert clip["tokens_packed"] == clip["planned_tokens_packed"] > clip["tokens"]


def test_subsets_are_measured_in_model_time_and_from_file_to_record(last_line):
    found = last_line("bench.ablate", "--video-tokens", "64", "--runs", "2")
    assert found["video_tokens"] == 64 and found["tokens_ablate"] > found["tokens_score"]
    for name in ("ablate_to_score", "ablate_end_to_end", "separate_to_score"):
        low, high = found["quartiles"][f"{name}_ratio"]
        assert 0 < low <= found[f"{name}_ratio"] <= high


def test_the_start_of_a_program_is_measured_beside_its_imports(last_line):
    found = last_line("bench.startup", "sample_media/glad.mp4", "--runs", "1")
    assert 0 < found["help_seconds"] < found["import_seconds"]
    beyond = found["cold_score_seconds"] - found["import_seconds"]
    assert found["cold_score_beyond_imports_seconds"] == pytest.approx(beyond, abs=0.002)


def test_the_scan_is_measured_beside_the_loop_and_attention(last_line):
    found = last_line("bench.scan", "--steps", "64", "--longest", "1024", "--runs", "1")
    assert found["scan"]["largest_difference"] < 1e-4
    assert found["scan"]["ratio_forward"] > 0 and found["scan"]["ratio_gradients"] > 0
    assert [row["steps"] for row in found["grow"]["bissm"]] == [1024]


def test_training_is_measured_with_and_without_a_cache(last_line):
    pytest.importorskip("espeakng_loader", reason="the clips need the tiny extra")
    found = last_line("bench.train", "--clips", "4", "--rounds", "1", "--size", "160x120")
    rates = found["clips_per_second"]
    assert rates.keys() == {"files", "cache", "memory", "packed"}
    assert found["cached_over_uncached"] == pytest.approx(rates["cache"] / rates["files"], rel=0.01)


def test_files_made_to_cost_much_are_measured(last_line, tmp_path):
    names = ["many samples.mp4", "frames far apart.mkv"]
    arguments = [text for name in names for text in ("--only", name)]
    found = last_line("bench.bombs", "--keep", str(tmp_path), *arguments)
    assert [reading["name"] for reading in found["readings"]] == names
    # no bound: a child of this process begins with the peak that this one has
    assert all(reading["peak_gib"] > 0 for reading in found["readings"])


@pytest.fixture(scope="module")
def readouts():
    pytest.importorskip("espeakng_loader", reason="the clips need the tiny extra")
    from scripts.study import readouts

    return readouts


def test_every_trained_arm_of_the_readout_study_may_try_as_many_settings(readouts):
    for design in (readouts.DESIGN, readouts.QUICK):
        (_, first), (_, second) = design.settings
        assert len(first) == len(second) >= 2
    assert len(readouts.DESIGN.seeds) >= 4


def test_the_words_of_the_study_are_in_one_split_only(readouts):
    from scripts.tiny.clips import draw_spec

    texts = {
        split: {draw_spec(first + i).text for i in range(20)}
        for split, first in readouts.DESIGN.first_seeds
    }
    assert dict(readouts.QUICK.first_seeds)["test"] != dict(readouts.DESIGN.first_seeds)["test"]
    for one, other in (("train", "valid"), ("train", "test"), ("valid", "test")):
        assert not (texts[one] & texts[other]) - {""}


def test_the_ratio_is_of_means_over_seeds_with_an_interval_around_it(readouts):
    from omni_msa.evaluation.evaluate import ScoredClip
    from scripts.study.results import Measured

    design = readouts.QUICK
    chosen = {name: (tried[0], []) for name, tried in design.settings}
    arms = readouts.arms_of(design, chosen)
    draw = np.random.default_rng(0)
    measured = []
    for arm, error in zip(arms[:2], (0.5, 1.0), strict=True):
        runs = [
            [ScoredClip(str(i), 0.0, error + 0.2 * draw.random()) for i in range(40)]
            for _ in design.seeds
        ]
        measured.append(Measured(arm, scored=runs))
    found = readouts.ratio(measured, design)
    assert found["low"] < found["ratio"] < found["high"]
    assert found["ratio"] == pytest.approx(1.1 / 0.6, abs=0.05) and found["transcription"] == 2.28
