"""The readout study: does reading the hidden state beat writing the number? In miniature.

    python -m scripts.study.readouts [--quick] [--work FOLDER] [--study-base DIR]

Every arm gets the same question, clips, LoRA and budget; the two that are trained also the same
number of settings to choose from, on other clips and by validation alone, the head's learning rate
among them. For a model that can answer untrained, no training counts as an epoch. `DESIGN` is the
plan. Two bases: one that was pretrained to describe and to continue text and never met a rating
(`--study-base`, by `scripts.tiny.make --study`), and the embedded `tiny`, which learned to rate.

Writes readout_study.md: beside this file or, with --quick, into the work folder. The last line is
JSON. A stopped study goes on with the same command.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from omni_msa.media.identity import json_sha256
from omni_msa.methods import TrainedBy
from omni_msa.options import TrainOptions
from omni_msa.scoring.checkpoint import read_info
from scripts.study.arms import Arm
from scripts.study.compare import run_study
from scripts.study.corpus import ROOT, SHOWN, make_corpus, study_of, workshop
from scripts.study.results import Measured, Row, measure_arms
from scripts.study.tables import cells, markdown

PAGE = Path(__file__).with_name("readout_study.md")
TRANSCRIBED_RATIO = (
    2.28  # 1.521 / 0.667 on MOSI, by a third-party transcription of arXiv 2606.05713
)

Settings = dict[str, float]


@dataclass(frozen=True)
class Design:
    """The plan: written down, and in the repository, before any test clip was scored.

    Attributes:
        train, valid, test: clips; the words of each split are its own.
        first_seeds: of the generator; a trial with --quick never sees a test clip of the study.
        tuning_clips, tuning_epochs, tuning_seed: of the runs that settings are chosen by.
        settings: of each trained arm, as many for one as for the other.
        epochs, patience: the budget; the epoch with the lowest validation MAE is kept.
        seeds: of the runs that are measured.
    """

    train: int = 300
    valid: int = 150
    test: int = 500
    first_seeds: tuple[tuple[str, int], ...] = (
        ("train", 400_000), ("valid", 900_000), ("test", 8_000_000),
    )  # fmt: skip
    tuning_clips: int = 150
    tuning_epochs: int = 3
    tuning_seed: int = 100
    epochs: int = 4
    patience: int = 2
    seeds: tuple[int, ...] = (1, 2, 3, 4)
    resamples: int = 10_000
    quantizations: tuple[str, ...] = ("none", "4bit")
    settings: tuple[tuple[str, tuple[Settings, ...]], ...] = (
        (
            "regression",
            (
                {"lora_learning_rate": 3e-4, "head_learning_rate": 1e-3},
                {"lora_learning_rate": 3e-4, "head_learning_rate": 3e-3},
                {"lora_learning_rate": 1e-3, "head_learning_rate": 1e-3},
                {"lora_learning_rate": 1e-3, "head_learning_rate": 3e-3},
            ),
        ),
        (
            "generative",
            (
                {"lora_learning_rate": 1e-4},
                {"lora_learning_rate": 3e-4},
                {"lora_learning_rate": 1e-3},
                {"lora_learning_rate": 3e-3},
            ),
        ),
    )

    def count(self, split: str) -> int:
        """Clips of a split."""
        return getattr(self, split)


DESIGN = Design()
QUICK = replace(
    DESIGN, train=48, valid=16, test=32, tuning_clips=24, tuning_epochs=1, epochs=1, seeds=(1, 2),
    resamples=200, quantizations=("none",),
    first_seeds=(("train", 400_000), ("valid", 900_000), ("test", 7_000_000)),
    settings=tuple((arm, tried[1:3]) for arm, tried in DESIGN.settings),
)  # fmt: skip


def budget(design: Design, settings: Settings) -> TrainOptions:
    """What every trained run shares, with an arm's own learning rates."""
    return TrainOptions(
        batch_size=16,
        subsets="full",
        epochs=design.epochs,
        patience=design.patience,
        **settings,  # type: ignore[arg-type]  # learning rates
    )


def choose(work: Path, base: str, design: Design) -> dict[str, tuple[Settings, list[Row]]]:
    """The settings of each trained arm, and all that were tried with their validation MAE."""
    chosen = {}
    tuning = replace(
        design, train=design.tuning_clips, epochs=design.tuning_epochs, patience=design.epochs
    )
    for name, tried in design.settings:
        rows = []
        for settings in tried:
            seeds = (design.tuning_seed,)
            arm = Arm(name, TrainedBy.GRADIENTS, SHOWN, SHOWN, seeds, budget(tuning, settings))
            study = study_of(work, base, "none", tuning, (arm,))
            shop = workshop(study, work / f"tuning-{_short(base)}")
            (run,) = arm.runs
            if failures := shop.make_all([run]):
                raise SystemExit(f"{run.name}: {failures[run.name]}")
            info = read_info(shop.run_folder(run))
            rows.append({**settings, "mae": info.metrics["mae"], "run": run.name})
        best = min(rows, key=lambda row: row["mae"])
        chosen[name] = ({key: best[key] for key in tried[0]}, rows)
    return chosen


def arms_of(design: Design, chosen: dict[str, tuple[Settings, list[Row]]]) -> tuple[Arm, ...]:
    """The rows of the table; the first is what the others are compared with."""
    trained = [
        Arm(name, TrainedBy.GRADIENTS, SHOWN, SHOWN, design.seeds, budget(design, settings))
        for name, (settings, _) in chosen.items()
    ]
    fixed = [("generative", TrainedBy.NOTHING), ("verbalizer", TrainedBy.NOTHING)]
    fixed += [("probe", TrainedBy.FIT)]
    return (*trained, *(Arm(name, way, SHOWN, SHOWN, ()) for name, way in fixed))


def ratio(measured: list[Measured], design: Design) -> dict[str, Any]:
    """MAE of generative SFT over that of regression, over seeds, and its 95 % interval by a paired
    bootstrap over test clips."""
    errors = {}
    for part in measured[:2]:
        runs = [[abs(clip.score - clip.label) for clip in scored] for scored in part.scored]
        errors[part.arm.readout] = np.array(runs)  # [seeds, clips]
    sft, regression = errors["generative"], errors["regression"]
    seeds = [float(s.mean() / r.mean()) for s, r in zip(sft, regression, strict=True)]
    draws = np.random.default_rng(0).integers(sft.shape[1], size=(design.resamples, sft.shape[1]))
    ratios = sft.mean(0)[draws].mean(1) / regression.mean(0)[draws].mean(1)
    low, high = np.percentile(ratios, (2.5, 97.5))
    return {
        "ratio": round(float(sft.mean() / regression.mean()), 3),
        "low": round(float(low), 3),
        "high": round(float(high), 3),
        "deviation_over_seeds": round(float(np.std(seeds, ddof=1)), 3),
        "transcription": TRANSCRIBED_RATIO,
    }


def study_base(job: tuple[Path, str, str, Design]) -> list[dict[str, Any]]:
    """One base under every quantization, in a process of its own with one thread."""
    work, name, base, design = job
    torch.set_num_threads(1)
    return [study_one(work, name, base, quantize, design) for quantize in design.quantizations]


def study_one(work: Path, name: str, base: str, quantize: str, design: Design) -> dict[str, Any]:
    """One base under one quantization: its table, its ratio, and everything that was run."""
    chosen = choose(work, base, design)
    study = study_of(work, base, quantize, design, arms_of(design, chosen))
    shop = workshop(study, work / f"{_short(base)}-{quantize}")
    rows, runs = run_study(shop, asdict(design))
    measured = measure_arms(shop, {})
    return {
        "base": name, "quantize": quantize, "table": cells(study, rows), "runs": runs,
        "tried": {arm: tried for arm, (_, tried) in chosen.items()},
        "ratio": ratio(measured, design), "arms": rows,
    }  # fmt: skip


def page(outcomes: list[dict[str, Any]], design: Design, command: str) -> str:
    """All tables, with the plan and every run."""
    parts = [
        "# The readout study, in miniature",
        f"`python -m scripts.study.readouts{command}`. The plan is `DESIGN` (with "
        "--quick: `QUICK`) in [readouts.py](readouts.py); the history of that file tells "
        "whether it stood before: "
        f"{design.train} synthetic clips for training, {design.valid} for validation, "
        f"{design.test} for testing, no words in common; LoRA rank 32 on the whole Thinker, batch "
        f"16, at most {design.epochs} epochs, stopped after {design.patience} without a better "
        "validation MAE, the best one kept (for SFT the untrained base is one of them); "
        f"{len(design.seeds)} seeds. Learning rates were chosen by validation on "
        f"{design.tuning_clips} clips, in fp32, {len(design.settings[0][1])} settings an arm. "
        "Every arm asks the same question.",
        "| base | weights | MAE of generative SFT / regression | 95 % interval over clips "
        "| deviation over seeds |\n|---|---|---|---|---|\n"
        + "\n".join(
            f"| {o['base']} | {o['quantize']} | {o['ratio']['ratio']:.2f} "
            f"| {o['ratio']['low']:.2f} to {o['ratio']['high']:.2f} "
            f"| {o['ratio']['deviation_over_seeds']:.2f} |"
            for o in outcomes
        ),
        f"On CMU-MOSI with the 7B model this ratio is {TRANSCRIBED_RATIO} (1.521 against 0.667, "
        "by a third-party transcription of arXiv 2606.05713; "
        'its abstract says "more than doubles").',
        "How to read this: the clips are synthetic and the model is tiny. The base `tiny` was "
        "pretrained to rate clips of this generator, so its generative arms start ahead; the base "
        "`study` was pretrained on the same clips and never met a number or a rating.",
    ]
    for o in outcomes:
        weights = "fp32" if o["quantize"] == "none" else o["quantize"]
        parts += [f"## Base {o['base']}, {weights}", markdown(o["table"], 3).rstrip()]
        tried = [["Arm", "Settings", "Validation MAE"]]
        for arm, rows in o["tried"].items():
            for row in rows:
                settings = ", ".join(f"{k} {v:g}" for k, v in row.items() if k.endswith("rate"))
                tried.append([arm, settings, f"{row['mae']:.4f}"])
        parts += ["Settings that were tried:", markdown(tried, 2).rstrip()]
        lines = [list(o["runs"][0]), *([str(v) for v in row.values()] for row in o["runs"])]
        parts += ["Every run:", markdown(lines, 5).rstrip()]
    return "\n\n".join(parts) + "\n"


def _short(base: str) -> str:
    """A folder name for a base."""
    return base if base == "tiny" else f"study-{json_sha256(base)[:6]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few clips, one epoch, two seeds")
    parser.add_argument("--work", type=Path, help="where clips and runs are kept")
    parser.add_argument("--study-base", type=Path, help="a base that never met a rating")
    arguments = parser.parse_args()
    design = QUICK if arguments.quick else DESIGN
    work = arguments.work or ROOT / "build" / f"readouts{'-quick' * arguments.quick}"
    work = work.resolve()  # the corpus is made by processes that start elsewhere
    make_corpus(work, design)
    bases = {"tiny": "tiny"}
    if arguments.study_base:
        bases = {"study": str(arguments.study_base.resolve()), **bases}
    elif not arguments.quick:
        parser.error("--study-base: give the base that `scripts.tiny.make --study` made")
    jobs = [(work, name, base, design) for name, base in bases.items()]
    with ProcessPoolExecutor(len(jobs), mp_context=get_context("spawn")) as pool:
        outcomes = [outcome for part in pool.map(study_base, jobs) for outcome in part]
    text = page(outcomes, design, " --quick" * arguments.quick)
    (work / PAGE.name if arguments.quick else PAGE).write_text(text, encoding="utf-8")
    print(text)
    print(json.dumps([{k: o[k] for k in ("base", "quantize", "ratio", "arms")} for o in outcomes]))


if __name__ == "__main__":
    main()
