"""The scripts that measure end with one line of JSON that says what was measured."""

from __future__ import annotations

import json
import runpy
import sys

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


def test_the_thinker_is_measured_in_every_pass(last_line):
    found = last_line("bench.thinker", "--size", "tiny", "--seconds", "1")
    assert found["parameters"] == 5_418_816 and found["trainable"] > 0
    for key in ("peak_gib", "seconds_forward", "seconds_generate", "seconds_train_step"):
        assert found[key] > 0, key
    (clip,) = found["clips"]
    assert clip["tokens_packed"] == clip["planned_tokens_packed"] > clip["tokens"]


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
def study():
    from scripts.study import readout_study

    return readout_study


def runs_of(mae: float, seeds: int) -> list[dict]:
    row = {"corr": 0.9, "acc2_non0": 0.8, "unparsable": 0.02, "out_of_range": 0.0,
           "seconds": 0.1, "peak_gib": 0.9, "mean_predictor_mae": 2.0}  # fmt: skip
    return [row | {"mae": mae + 0.1 * seed} for seed in range(seeds)]


@pytest.mark.parametrize(("sft", "verdict"), [(0.2, "not the factor"), (1.4, "like the factor")])
def test_the_study_names_the_best_readout_whichever_it_is(study, sft, verdict):
    maes = dict.fromkeys(study.ARMS, 0.5) | {"generative (SFT)": sft}
    rows = [study.summary(arm, runs_of(mae, 4)) for arm, mae in maes.items()]
    assert rows[0]["mae"] == pytest.approx(0.65) and rows[0]["mae_deviation"] > 0
    text = study.markdown(rows, study.Size(), {"regression": 1e-3, "generative": 3e-4}, "")
    assert verdict in text and "Always answering the training clips' mean has an MAE of 2" in text
    best = "generative (SFT)" if sft < 0.5 else "regression"
    assert f"The lowest MAE is that of {best}." in text
    assert all(f"| {arm} |" in text for arm in study.ARMS)


def test_a_study_does_not_take_the_runs_of_another(study, tmp_path):
    large, small = study.Size(), study.QUICK
    names = {study.run_folder(tmp_path, "regression", 1e-3, 0, size) for size in (large, small)}
    names.add(study.run_folder(tmp_path, "regression", 1e-3, study.TUNING_SEED, large))
    assert len(names) == 3
