"""The command `ablate`."""

from __future__ import annotations

from typing import Annotated

import typer

from omni_msa.commands.clips import (
    ClipFlags,
    defer_scorer,
    for_records,
    gather_inputs,
    print_scores,
    score_clips,
)
from omni_msa.commands.flags import (
    MODALITY_NAMES,
    BatchFlags,
    MediaFlags,
    ModelFlags,
    ShowFlags,
    parse_modalities,
    takes_flags,
)
from omni_msa.options import AblationOptions

EXAMPLES = (
    "Examples:\n\n"
    "omni-msa ablate clip.mp4\n\n"
    "omni-msa ablate clip.mp4 --drop audio\n\n"
    "omni-msa ablate manifest.jsonl -o ablation.csv"
)


@takes_flags
def ablate(
    *,
    clips: ClipFlags,
    drop: Annotated[
        list[str] | None,
        typer.Option(metavar="MODALITY", help=f"Score also without {MODALITY_NAMES}."),
    ] = None,
    model: ModelFlags,
    media: MediaFlags,
    batch: BatchFlags,
    show: ShowFlags,
) -> None:
    """Score clips with and without modalities; with no --drop, every subset of them."""
    ablation, hide = AblationOptions(drop=parse_modalities(drop or [])), frozenset[str]()
    batch.check(show)  # before the model is loaded
    inputs = gather_inputs(clips, batch, show)
    options = for_records(model.options(), inputs, show)
    scorer = defer_scorer(options, media.overrides(), show)
    keep = inputs.are_shown(batch, show)
    done = score_clips(scorer, inputs.clips, ablation, hide, batch, show, keep)
    print_scores(done, inputs, batch, show, subsets=not drop)
