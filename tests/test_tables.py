"""What is printed is what was measured, with names that say what it is; and the JSON of it."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from test_evaluate import answered

from omni_msa.display import output
from omni_msa.display.tables import (
    evaluation_document,
    print_evaluation,
    print_inspection,
    print_plan,
)
from omni_msa.display.wide import WideTable
from omni_msa.evaluation.evaluate import ScoredClip, compare, evaluate, over_seeds
from omni_msa.evaluation.metrics import FAMILIES
from omni_msa.files.labels import LabelSpace
from omni_msa.model.estimates import GIB, Holding
from omni_msa.options import EvaluateOptions, MediaOptions
from omni_msa.scoring.checkpoint import CheckpointInfo
from omni_msa.scoring.inspection import Inspection
from omni_msa.scoring.planning import Workload, make_plan

TABLE = ("T", "A", "V", "TA", "TV", "AV", "TAV")

MOSI = FAMILIES["mosi"]
OPTIONS = EvaluateOptions(resamples=30)


def scored(seed: int = 0, number: int = 10) -> list[ScoredClip]:
    labels = np.random.default_rng(99).uniform(-3, 3, number)
    rng = np.random.default_rng(seed)
    clips = []
    for i, label in enumerate(labels):
        subsets = {name: float(label + rng.normal(0, 4 - len(name))) for name in ("", *TABLE)}
        clips.append(ScoredClip(f"clip{i}", float(label), subsets["TAV"], subsets))
    return clips


def constant(number: int = 6) -> list[ScoredClip]:
    """Answers that never vary: correlations with them are undefined."""
    return [replace(c, score=0.5, subsets=dict.fromkeys(c.subsets, 0.5)) for c in scored()[:number]]


def measured(seed: int = 0, clips=None, ablate: bool = False, **given):
    options = replace(OPTIONS, ablate=ablate)
    constant_answer = (0.25, "always +0.25 (mean of the training labels)")
    clips = clips or scored(seed)
    return evaluate(f"seed{seed} (regression)", clips, MOSI, constant_answer, options, **given)


@pytest.fixture
def shown(capsys):
    """What a call prints, by line; all of it on stdout."""

    def show(function, *arguments) -> list[str]:
        function(*arguments)
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out.splitlines()

    return show


def line(lines, start) -> str:
    """The one line that begins with these words."""
    [found] = [text for text in lines if text.startswith(start)]
    return found


# --- evaluations ------------------------------------------------------------------------------


def test_a_metric_a_line_with_its_interval_the_mean_predictor_and_its_name(shown):
    found = measured()
    lines = shown(print_evaluation, [found], {}, [])
    assert lines[0] == "seed0 (regression): 10 clips"
    assert lines[1].split() == ["value", "95", "%", "mean"]
    for key, text in zip(MOSI.titles, lines[2:], strict=False):
        low, high = found.figures.intervals[key]
        assert text.startswith(MOSI.short[key])
        assert f" {found.figures.values[key]:.4f}" in text and f"[{low:.3f}, {high:.3f}]" in text
    assert f"{found.baseline['mae']:.4f}" in lines[2]
    assert lines[3].startswith("Corr") and "undefined" in lines[3]  # of the mean predictor
    assert line(lines, "mean:") == "mean: always +0.25 (mean of the training labels)"
    assert not any("ablation" in text or "seeds" in text for text in lines)


def test_failed_clips_notices_and_unread_answers_are_said(shown):
    found = measured(clips=answered(scored(), unparsable=[0]), failed=3)
    notice = "2 labels lie outside the checkpoint's range -1..1"
    lines = shown(print_evaluation, [replace(found, notices=(notice,))], {}, [])
    assert lines[0] == "seed0 (regression): 10 clips, 3 more could not be scored"
    assert "10.0% unparsable, 0.0% out of range" in line(lines, "said:")
    told = line(lines, "unparsable excluded (9 clips):")
    assert f"MAE {found.parsable_only.values['mae']:.4f}" in told
    assert line(lines, "note:") == f"note: {notice}"


def test_answers_that_are_all_unparsable_can_be_printed(shown):
    clips = answered(scored(), unparsable=range(10))
    lines = shown(print_evaluation, [measured(clips=clips)], {}, [])
    assert "100.0% unparsable" in line(lines, "said:")
    assert not any("unparsable excluded" in text for text in lines)


def test_the_ablation_has_a_row_a_subset_and_what_it_changes(shown):
    found = replace(measured(ablate=True), protocol="test-time drop")
    lines = shown(print_evaluation, [found], {}, [])
    head = line(lines, "ablation on the 10 clips that have TAV")
    assert head.endswith("; test-time drop")
    rows = lines[lines.index(head) + 2 : lines.index(head) + 9]
    assert [row.split()[0] for row in rows] == list(TABLE)
    for name, row in zip(TABLE, rows, strict=True):
        part = found.ablation[name]
        assert f" {part.figures.values['mae']:.4f}" in row
        assert (f"{part.change['mae'].value:+.3f} [" in row) == (name != "TAV")
    always = lines[lines.index(head) + 9].split()
    assert always[:2] == ["mean", f"{found.ablation_baseline['mae']:.4f}"]


def test_seeds_and_a_comparison_follow_the_first_table(shown):
    runs = [measured(seed) for seed in (1, 2, 3)]
    spread = over_seeds(runs)
    other = measured(7)
    change, clips = compare(scored(7), scored(1), MOSI, OPTIONS)
    lines = shown(print_evaluation, runs, spread, [(other, change, clips)])
    assert [text for text in lines if text.endswith(": 10 clips")] == [
        f"seed{seed} (regression): 10 clips" for seed in (1, 2, 3, 7)
    ]
    start = lines.index("over 3 seeds (mean, sample deviation)")
    mean, deviation = spread["mae"]
    seeds, always = lines[start + 2], f"{runs[0].baseline['mae']:.4f}"
    assert seeds.split() == ["MAE", f"{mean:.4f}", f"{deviation:.4f}", always]
    head = "difference to seed7 (regression), on 10 clips (95 % paired bootstrap over 10 clips)"
    told = lines[lines.index(head) + 2]
    d = change["mae"]
    assert told.split() == ["MAE", f"{d.value:+.4f}", f"[{d.low:.3f},", f"{d.high:.3f}]"]


def test_what_is_undefined_is_said_and_never_nan(shown):
    found = measured(clips=constant())
    change, clips = compare(constant(), scored()[:6], MOSI, OPTIONS)
    lines = shown(print_evaluation, [found], over_seeds([found]), [(found, change, clips)])
    assert not any("nan" in text for text in lines)
    values = lines[: lines.index("what the metrics are")]
    correlations = [text.split()[1] for text in values if text.startswith("Corr")]
    assert correlations == ["undefined"] * 4  # two systems, their seeds, their difference


def test_names_are_printed_as_they_are(shown):
    found = replace(measured(), system="runs/[bold]x[/bold]", baseline_name="[red]")
    lines = shown(print_evaluation, [found], {}, [(found, {}, found.figures.basis)])
    assert lines[0].startswith("runs/[bold]x[/bold]: ") and "mean: [red]" in lines
    assert line(lines, "difference to runs/[bold]x[/bold]")


@pytest.mark.parametrize("clips", [scored(), constant(), constant(1)])
@pytest.mark.parametrize("ablate", [False, True])
def test_the_document_is_json_with_everything_in_it(clips, ablate):
    runs = [measured(1, clips, ablate), measured(2, clips[::-1], ablate)]
    change, shared = compare(clips, clips, MOSI, OPTIONS)
    document = evaluation_document(runs, over_seeds(runs), [(measured(3, clips), change, shared)])
    told = json.loads(json.dumps(document, allow_nan=False))
    assert [run["system"] for run in told["runs"]] == ["seed1 (regression)", "seed2 (regression)"]
    assert told["over_seeds"].keys() == MOSI.titles.keys()
    assert told["against"]["system"] == "seed3 (regression)"
    assert told["difference"]["clips"] == len(clips)
    assert told["difference"]["intervals_over"] == {"unit": "clips", "number": len(clips)}
    ends = [0.0, 0.0] if len(clips) > 1 else [None, None]  # nothing can be drawn of one
    assert told["difference"]["mae"] == {"value": 0.0, "interval_95": ends}
    assert ("ablation" in told["runs"][0]) == ablate


def test_the_document_has_only_what_was_asked_for():
    single = evaluation_document([measured()], {}, [])
    assert list(single) == ["runs"]
    spread = evaluation_document([measured()], over_seeds([measured()]), [])["over_seeds"]
    assert spread["mae"]["mean"] > 0 and spread["mae"]["deviation"] is None


def wide(columns: int, monkeypatch) -> None:
    """From here on, stdout is a terminal of so many columns."""
    monkeypatch.setattr(
        output, "to_stdout", lambda: Console(width=columns, highlight=False, no_color=True)
    )


@pytest.mark.parametrize("columns", [80, 120])
def test_an_evaluation_fits_the_terminal_and_no_number_is_cut(shown, columns, monkeypatch):
    wide(columns, monkeypatch)
    runs = [measured(seed, constant() if seed == 2 else None, ablate=True) for seed in (1, 2)]
    change, clips = compare(scored(2), scored(1), MOSI, OPTIONS)
    lines = shown(print_evaluation, runs, over_seeds(runs), [(runs[1], change, clips)])
    text = "\n".join(lines)
    assert max(map(len, lines)) <= columns and "…" not in text
    for evaluation in runs:
        for row in list(evaluation.ablation.values())[:-1]:
            mae = row.change["mae"]
            assert f"{mae.value:+.3f} [{mae.low:.3f}, {mae.high:.3f}]" in text
        for low, high in evaluation.figures.intervals.values():
            assert np.isnan(low) or f"[{low:.3f}, {high:.3f}]" in text
    assert text.count("undef") == text.count("undefined")


def test_what_the_metrics_are_is_printed_once(shown):
    runs = [measured(seed) for seed in (1, 2, 3)]
    lines = shown(print_evaluation, runs, {}, [])
    for key, title in MOSI.titles.items():
        [text] = [text for text in lines if title in text]
        assert text.startswith(MOSI.short[key])


@pytest.mark.parametrize("columns", [80, 120])
def test_an_inspection_and_a_plan_fit_the_terminal(shown, plan, columns, monkeypatch):
    wide(columns, monkeypatch)
    lines = [*shown(print_inspection, inspection()), *shown(print_plan, plan)]
    assert max(map(len, lines)) <= columns and "…" not in "".join(lines)
    assert any(text.startswith("trained under  quantize 4bit") for text in lines)


def test_a_table_that_is_too_wide_goes_on_below():
    table = WideTable("shown", "one", "two", "three")
    table.add_row("T", "1.0", "2.0", "[3.0, 3.5]")
    screen = io.StringIO()
    Console(file=screen, width=17).print(table)
    rows = [row.split() for row in screen.getvalue().splitlines()]
    assert rows == [["shown", "one", "two"], ["T", "1.0", "2.0"], [],
                    ["shown", "three"], ["T", "[3.0,", "3.5]"]]  # fmt: skip


# --- inspections ------------------------------------------------------------------------------


def inspection(check: str = "passed", difference: float | None = 2e-7, **info) -> Inspection:
    known = {
        "base": "Qwen/Qwen2.5-Omni-7B",
        "base_sha256": "abcdef0123456789",
        "method": "regression",
        "label_space": LabelSpace(-3.0, 3.0, mean=0.12, deviation=1.5),
        "media": MediaOptions().to_json(),
        "quantize": "4bit",
        "lora": {"rank": 32, "parameters": 103_043_072, "percent": 1.1405},
        "seed": 7,
        "method_options": {"head": "mlp", "dropout": 0.2},
        "metrics": {"mae": 0.512345, "corr": 0.9, "clips": 229.0},
        "training": {
            "train_clips": 1284,
            "epochs": 3,
            "batch_size": 8,
            "accumulate": 2,
            "lora_learning_rate": 2e-4,
            "head_learning_rate": 1e-3,
            "best_epoch": 2,
        },
        "self_check": {"scores": {"TAV": 1.25}, "quantize": "4bit", "device": "cuda"},
        "versions": {"torch": "2.11.0"},
    }
    return Inspection(
        Path("runs/[best]"),
        CheckpointInfo(**(known | info)),
        wrapped={"language model": 196, "vision tower": 128},
        quantized={"Linear4bit": 350, "Linear": 3},
        readout_parameters=918_273,
        check=check,
        largest_difference=difference,
        scores={"": 0.1, "T": 0.9, "TAV": 1.25},
    )


def test_an_inspection_is_a_fact_a_line(shown):
    lines = [text.strip() for text in shown(print_inspection, inspection())]
    for start, told in (
        ("checkpoint", "runs/[best]"),
        ("base", "Qwen/Qwen2.5-Omni-7B (abcdef012345)"),
        ("readout", "regression head mlp, dropout 0.2, 918,273 parameters, fp32"),
        ("labels", "-3 to +3, mean +0.120, deviation 1.500"),
        ("LoRA", "rank 32, 103,043,072 parameters (1.1405 %); "
                 "196 in the language model, 128 in the vision tower"),
        ("trained under", "quantize 4bit, seed 7"),
        ("linear layers", "Linear4bit 350, Linear 3"),
        ("never shown", "nothing is hidden"),
        ("training", "1284 clips, 3 epochs at most, 8 clips a pass, 2 passes a step, "
                     "LoRA's rate 0.0002, the head's rate 0.001"),
        ("metrics", "mae 0.5123, corr 0.9 on 229 validation clips; epoch 2 is kept"),
        ("versions", "torch 2.11.0"),
    ):  # fmt: skip
        assert line(lines, start).removeprefix(start).strip() == told
    assert "max_frames 16" in line(lines, "media")


def test_an_unfinished_run_is_called_so(shown, tmp_path):
    (tmp_path / "training_state.pt").touch()
    unfinished = replace(inspection(), folder=tmp_path)
    lines = [text.strip() for text in shown(print_inspection, unfinished)]
    assert "UNFINISHED: the same command of train goes on" in " ".join(lines)
    assert not unfinished.to_json()["finished"] and inspection().finished


@pytest.mark.parametrize(
    ("check", "difference", "told"),
    [
        ("passed", 2e-7, "verified: scores +1.2500; differs by 2e-07 at most"),
        ("passed", 0.0, "verified: scores +1.2500; differs by 0 at most"),
        ("failed", 0.25, "FAILED: scores +1.2500; differs by 0.25 at most"),
        ("other conditions", 0.02, "recorded under 4bit on cuda: not comparable"),
        ("none", None, "no score was recorded"),
    ],
)
def test_the_verdict_is_in_words(shown, check, difference, told):
    lines = shown(print_inspection, inspection(check, difference))
    assert told in line([text.strip() for text in lines], "built-in clip")
    assert any("FAILED" in text for text in lines) == (check == "failed")


def test_a_checkpoint_with_little_in_it_can_be_printed(shown):
    bare = inspection(
        "none", None, lora={}, metrics={}, training={}, hide=["audio", "video"], versions={}
    )
    lines = [text.strip() for text in shown(print_inspection, bare)]
    assert line(lines, "LoRA").endswith("none: the base as it is")
    assert line(lines, "metrics").endswith("none recorded")
    assert line(lines, "training").endswith("not recorded")
    assert line(lines, "never shown").endswith("audio, video")


# --- plans ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plan():
    workload = Workload(8.0, purpose="train", batch_size=4, media=MediaOptions(max_frames=8))
    return make_plan("tiny", workload, Holding("cpu"), budget_bytes=8 * GIB)


def test_a_plan_shows_tokens_and_memory_by_part(shown, plan):
    lines = [text.strip() for text in shown(print_plan, plan)]
    told = plan.to_json()
    assert line(lines, "model").endswith(f"tiny, {told['parameters']:,} parameters")
    assert f"{told['trainable']:,} parameters (" in line(lines, "LoRA")
    clips = line(lines, "clips").removeprefix("clips").strip()
    assert clips == f"8 s, 8 frames of {told['max_pixels']} pixels at most, 4 a pass"
    assert f"total {told['tokens']['total']}, packed" in line(lines, "tokens a clip")
    for part in ("weights", "adapter", "activations", "overhead", "total"):
        assert line(lines, part).endswith(f"{told['gib'][part]:.2f} GiB")
    assert line(lines, "budget").endswith("8.00 GiB")
    assert "an estimate" in lines[-1]


def test_a_plan_without_adapter_and_budget_says_nothing_of_them(shown, plan):
    lines = shown(print_plan, replace(plan, trainable=0, budget_bytes=None))
    assert not any(text.strip().startswith(("LoRA", "budget")) for text in lines)


def test_a_folders_name_is_printed_as_it_is(shown, plan):
    lines = shown(print_plan, replace(plan, model="models/[red]omni"))
    assert "models/[red]omni, " in lines[0]
