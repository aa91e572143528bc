"""The methods study: every system on the same synthetic clips, splits and seeds.

    python -m scripts.study.methods [--quick] [--work FOLDER] [--base DIR]

Each method is trained as it comes: with its own recipe (`Method.recipe`), but for the number of
epochs, on features of the same small Thinker. `DESIGN` is the plan. What each row of the table was
given, and what is published of it, docs/methods.md says; none of the figures are the papers'.

Writes methods_study.md: beside this file or, with --quick, into the work folder. The last line is
JSON, one object a method. A stopped study goes on with the same command.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from omni_msa.methods import TrainedBy, method_named
from omni_msa.options import TrainOptions
from scripts.study.arms import Arm
from scripts.study.compare import run_study
from scripts.study.corpus import ROOT, SHOWN, make_corpus, study_of, workshop
from scripts.study.plan import write_plan
from scripts.study.results import Row
from scripts.study.running import Workshop
from scripts.study.tables import cells, markdown

PAGE = Path(__file__).with_name("methods_study.md")
WEIGHTS = ("adapter_model.safetensors", "readout.safetensors")


@dataclass(frozen=True)
class Design:
    """The plan: written down, and in the repository, before any test clip was scored.

    Attributes:
        train, valid, test: clips; the words of each split are its own.
        first_seeds: of the generator; a trial with --quick never sees a test clip of the study.
        arms: method and its own options; the first is what the others are compared with.
        epochs, patience: the budget; the epoch with the lowest validation MAE is kept.
    """

    train: int = 400
    valid: int = 150
    test: int = 500
    first_seeds: tuple[tuple[str, int], ...] = (
        ("train", 420_000), ("valid", 910_000), ("test", 8_100_000),
    )  # fmt: skip
    arms: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...] = (
        ("regression", ()),
        ("generative", ()),
        ("mse-adapter", (("prompt", "chat"),)),
        ("mmolre", (("video", True),)),
        ("lrcmt", ()),
    )
    epochs: int = 8
    patience: int = 3
    seeds: tuple[int, ...] = (1, 2, 3, 4)
    resamples: int = 10_000

    def count(self, split: str) -> int:
        """Clips of a split."""
        return getattr(self, split)


DESIGN = Design()
QUICK = replace(
    DESIGN, train=48, valid=16, test=32, epochs=2, seeds=(1, 2), resamples=200,
    first_seeds=(("train", 420_000), ("valid", 910_000), ("test", 7_100_000)),
)  # fmt: skip


def arms_of(design: Design) -> tuple[Arm, ...]:
    """A row a method."""
    arms = []
    for name, options in design.arms:
        method = method_named(name)
        own = asdict(method.Options(**dict(options)))
        choices = {"method": name, "method_options": own, "epochs": design.epochs}
        budget = TrainOptions.of(method.recipe, {**choices, "patience": design.patience})
        arms.append(Arm(name, TrainedBy.GRADIENTS, SHOWN, SHOWN, design.seeds, budget))
    return tuple(arms)


def shop_of(work: Path, base: str, design: Design, arms: tuple[Arm, ...]) -> Workshop:
    """Where all of the study's runs are kept."""
    return workshop(study_of(work, base, "none", design, arms), work / "runs")


def train_arm(job: tuple[Path, str, Design, int]) -> None:
    """One method's runs, in a process of its own with one thread: its peak of memory is its own."""
    work, base, design, number = job
    torch.set_num_threads(1)
    arm = arms_of(design)[number]
    shop = shop_of(work, base, design, (arm,))
    if failures := shop.make_all(arm.runs):
        raise SystemExit("\n".join(f"{name}: {why}" for name, why in failures.items()))


def costs(shop: Workshop, arm: Arm) -> dict[str, float]:
    """What a method takes, by the logs of its runs: means over seeds, the highest memory."""
    epochs, peaks, rates, sizes = [], [], [], []
    for run in arm.runs:
        folder = shop.run_folder(run)
        lines = (folder / "train_log.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        epochs += [row["seconds"] for row in rows if row["event"] == "epoch" and row["epoch"]]
        peaks += [row["memory_gib"] for row in rows if row["event"] == "step"]
        seconds = [
            record.seconds["inputs"] + record.seconds["forward"]
            for record in shop.records(run)
            if record is not None and record.error is None
        ]
        rates.append(1 / mean(seconds))
        sizes.append(sum(_num_parameters(folder / name) for name in WEIGHTS))
    return {
        "trainable": sizes[0],
        # the first of a run makes the features of all its clips
        "seconds_first_epoch": round(max(epochs), 1),
        "seconds_an_epoch": round(sorted(epochs)[len(epochs) // 2], 1),
        "clips_per_second": round(mean(rates), 1),
        "peak_gib": round(max(peaks), 2),
    }


def _num_parameters(path: Path) -> int:
    """Of a checkpoint's file; none where it has none."""
    from safetensors import safe_open

    if not path.exists():
        return 0
    with safe_open(path, "pt") as tensors:
        sizes = (tensors.get_slice(key).get_shape() for key in tensors.keys())
        return sum(torch.Size(size).numel() for size in sizes)


def mean_predictor(work: Path) -> float:
    """MAE on the test clips of always saying the mean of the training labels."""
    train, test = (
        [json.loads(row)["label"] for row in (work / split / "manifest.jsonl").open()]
        for split in ("train", "test")
    )
    return mean(abs(label - mean(train)) for label in test)


def page(
    grid: list[list[str]], costs_by_arm: dict[str, Row], design: Design, base: str, floor: float
) -> str:
    """Both tables, with the plan; `floor` is the mean predictor's MAE."""
    cost_grid = [["Method", "Trained parameters", "Seconds an epoch", "Clips/s", "Peak GiB"]]
    for name, row in costs_by_arm.items():
        keys = ("seconds_an_epoch", "clips_per_second", "peak_gib")
        cost_grid.append([name, f"{row['trainable']:,}", *(f"{row[key]:g}" for key in keys)])
    return "\n\n".join([
        "# The methods study, in miniature",
        f"`python -m scripts.study.methods`. The plan is `DESIGN` (with --quick: `QUICK`) in "
        f"[methods.py](methods.py): {design.train} synthetic clips for training, {design.valid} "
        f"for validation, {design.test} for testing, no words in common; each method by its own "
        f"recipe, at most {design.epochs} epochs, stopped after {design.patience} without a "
        f"better validation MAE, the best one kept; {len(design.seeds)} seeds; features and base "
        f"of {base}. MMoLRE is shown the face too, and MSE-Adapter is asked in the base's own chat "
        "prompt, which are our options. No setting was tuned for these clips, so that this is no "
        f"ranking of the systems. Always saying the mean of the training labels has an MAE of "
        f"{floor:.3f} here.",
        markdown(grid, 3).rstrip(),
        "What each takes: means over seeds on one thread of a machine that trained two methods at "
        "once; an epoch is the median one (the first of a run also makes its features); clips a "
        "second are of scoring with all subsets, without decoding. All times are of this one run, "
        "whatever else the machine did.",
        markdown(cost_grid, 1).rstrip(),
    ]) + "\n"  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few clips, two epochs, two seeds")
    parser.add_argument("--work", type=Path, help="where clips and runs are kept")
    parser.add_argument("--base", default="tiny", help="tiny, or a folder")
    arguments = parser.parse_args()
    design = QUICK if arguments.quick else DESIGN
    work = arguments.work or ROOT / "build" / f"methods{'-quick' * arguments.quick}"
    work = work.resolve()  # the corpus is made by processes that start elsewhere
    make_corpus(work, design)
    arms = arms_of(design)
    shop = shop_of(work, arguments.base, design, arms)
    plan = {"base": arguments.base, **asdict(design)}
    write_plan(shop.folder, shop.study.plan(plan))  # before anything is trained
    jobs = [(work, arguments.base, design, number) for number in range(len(arms))]
    context = get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context, max_tasks_per_child=1) as pool:
        list(pool.map(train_arm, jobs))
    rows, _ = run_study(shop, plan)
    costs_by_arm = {arm.readout: costs(shop, arm) for arm in arms}
    grid, floor = cells(shop.study, rows), mean_predictor(work)
    text = page(grid, costs_by_arm, design, arguments.base, floor)
    (work / PAGE.name if arguments.quick else PAGE).write_text(text, encoding="utf-8")
    print(text)
    print(json.dumps([row | costs_by_arm[row["readout"]] for row in rows]))


if __name__ == "__main__":
    main()
