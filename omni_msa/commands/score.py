"""The command `score`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from omni_msa.commands.clips import (
    ClipFlags,
    defer_scorer,
    for_records,
    gather_inputs,
    load_scorer,
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
from omni_msa.commands.score_files import FileFlags
from omni_msa.options import AblationOptions

if TYPE_CHECKING:
    from omni_msa.scoring.scorer import Scorer

EXAMPLES = (
    "Examples:\n\n"
    "omni-msa score clip.mp4\n\n"
    'omni-msa score clip.mp4 --transcript "I loved it" --json\n\n'
    "omni-msa score clips/ -o scores.jsonl --batch-size 16 --workers 4"
)


@takes_flags
def score(
    *,
    clips: ClipFlags,
    drop: Annotated[
        list[str] | None,
        typer.Option(metavar="MODALITY", help=f"Never show {MODALITY_NAMES} to the model."),
    ] = None,
    ablate: Annotated[
        bool, typer.Option(help="Also say what each modality contributed, in the same pass.")
    ] = True,
    files: FileFlags,
    model: ModelFlags,
    media: MediaFlags,
    batch: BatchFlags,
    show: ShowFlags,
) -> None:
    """Score clips: how negative or positive they are, and what each modality contributed.

    What is read of a clip has limits: frames of 8192 x 4352 pixels, 300 s of sound, 2 MB of words,
    120 s and 1.3 GiB for reading it. A clip beyond them costs its own row, or is cut with a
    warning (docs/formats.md has all limits).
    """
    ablation, hide = AblationOptions(enabled=ablate), parse_modalities(drop or [])
    batch.check(show)  # before the model is loaded
    collector = files.collector(batch)
    inputs = gather_inputs(clips, batch, show)
    files.check_trace(inputs.clips)
    options = for_records(model.options(), inputs, show)

    def load() -> Scorer:
        scorer = load_scorer(options, media.overrides(), show)
        scorer.state_collector = collector
        return scorer

    scorer = defer_scorer(options, media.overrides(), show, load)
    files.check_model(scorer, hide)
    keep = inputs.are_shown(batch, show)
    done = score_clips(scorer, inputs.clips, ablation, hide, batch, show, keep)
    try:
        print_scores(done, inputs, batch, show)
    finally:  # at the end: if the disk is full, the scores are printed
        if collector is not None:
            show.note(files.write_states(collector, inputs.clips))
        if files.trace is not None and done.failed_in_all:
            show.note(f"{files.trace}: not drawn, the clip could not be scored")
        elif files.trace is not None:
            show.note(files.draw_trace(scorer, inputs.clips[0], hide, batch, show))
