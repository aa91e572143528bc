"""The command `plan`."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Annotated

from omni_msa.commands.flags import (
    MediaFlags,
    ShowFlags,
    option,
    takes_flags,
)
from omni_msa.errors import ConfigError
from omni_msa.options import (
    LORA_SCOPES,
    QUANTIZE,
    BatchOptions,
    MediaOptions,
    ModelOptions,
    TrainOptions,
)

EXAMPLES = (
    "Examples:\n\nomni-msa plan --model 7b --seconds 8\n\n"
    "omni-msa plan --model 7b --task train --vram-budget 24"
)


_PLAN = "Workload"


@dataclass(frozen=True)
class PlanFlags:
    """What is to be done, and on what."""

    model: Annotated[
        str,
        option("--model", metavar="7b|3b|tiny|DIR", panel=_PLAN, help="Published size or folder."),
    ] = "7b"
    task: Annotated[
        str, option("--task", metavar="score|train", panel=_PLAN, help="What memory is for.")
    ] = "score"
    method: Annotated[
        str,
        option("--method", "--readout", metavar="NAME", panel=_PLAN, help="How it is scored."),
    ] = TrainOptions.method
    seconds: Annotated[
        float, option("--seconds", metavar="S", panel=_PLAN, help="Length of a clip.")
    ] = 8.0
    subsets: Annotated[
        str,
        option(
            "--subsets",
            metavar="packed|full",
            panel=_PLAN,
            help="All modality subsets in a pass, or not.",
        ),
    ] = "packed"
    batch_size: Annotated[
        int,
        option("--batch-size", metavar="N", panel=_PLAN, help="Clips a pass; the most tried."),
    ] = BatchOptions.batch_size
    vram_budget: Annotated[
        float | None,
        option(
            "--vram-budget",
            metavar="GIB",
            panel=_PLAN,
            help="Pick frames, pixels and batch that fit this.",
        ),
    ] = None
    quantize: Annotated[
        str, option("--quantize", metavar="|".join(QUANTIZE), panel=_PLAN, help="Weights.")
    ] = ModelOptions.quantize
    device: Annotated[
        str, option("--device", metavar="cuda|cpu", panel=_PLAN, help="Where it is to run.")
    ] = "cuda"
    lora_scope: Annotated[
        str | None,
        option(
            "--lora-scope",
            metavar="|".join(LORA_SCOPES),
            panel=_PLAN,
            help="What is adapted. Default: all, or the method's own.",
        ),
    ] = None


@takes_flags
def plan(*, work: PlanFlags, media: MediaFlags, show: ShowFlags) -> None:
    """Estimate tokens and memory before anything is loaded, and what fits a budget."""
    from omni_msa.display.output import print_json
    from omni_msa.display.progress import working

    with working("counting ...", show.quiet):
        from omni_msa.methods import method_named
        from omni_msa.scoring.planning import GIB, Holding, Workload, make_plan

        recipe = method_named(work.method).recipe
        workload = Workload(
            work.seconds,
            media=MediaOptions.over({}, media.overrides()),
            purpose=work.task,
            method=work.method,
            subsets=work.subsets,
            batch_size=work.batch_size,
        )
        holding = Holding(
            work.device,
            work.quantize,
            lora_scope=work.lora_scope or recipe.get("lora_scope", TrainOptions.lora_scope),
            adam_8bit=work.device == "cuda",
        )
        if work.vram_budget is not None and not 0 < work.vram_budget < inf:
            raise ConfigError(f"--vram-budget must be positive and finite, got {work.vram_budget}")
        budget = int(work.vram_budget * GIB) if work.vram_budget is not None else None
        estimated = make_plan(work.model, workload, holding, budget)
    if show.json:
        print_json(estimated.to_json())
    else:
        from omni_msa.display.tables import print_plan

        print_plan(estimated)
