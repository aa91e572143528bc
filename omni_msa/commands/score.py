"""The command `score`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omni_msa.commands.clips import (
    ClipFlags,
    Inputs,
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
from omni_msa.options import AblationOptions

if TYPE_CHECKING:
    from omni_msa.scoring.scorer import Scorer
    from omni_msa.scoring.states import StateCollector

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
    states: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write each scored clip's state: the final layer's output at the last token, "
            "with all that is shown, which a head reads the score off. An .npz or .parquet file of "
            "clip [N], states [N, H] in float32, and score [N], in the order of the clips.",
        ),
    ] = None,
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
    collector = _collector(states, batch)
    inputs = gather_inputs(clips, batch, show)
    options = for_records(model.options(), inputs, show)

    def load() -> Scorer:
        scorer = load_scorer(options, media.overrides(), show)
        scorer.state_collector = collector
        return scorer

    scorer = defer_scorer(options, media.overrides(), show, load)
    keep = inputs.are_shown(batch, show)
    done = score_clips(scorer, inputs.clips, ablation, hide, batch, show, keep)
    try:
        print_scores(done, inputs, batch, show)
    finally:  # at the end: if the disk is full, the scores are printed
        if states is not None and collector is not None:
            _write_states(states, collector, inputs, show)


def _collector(path: Path | None, batch: BatchFlags) -> StateCollector | None:
    """What keeps the states for a file, if one was named and can be written."""
    if path is None:
        return None
    from omni_msa.files.states_file import check_states_file
    from omni_msa.scoring.states import StateCollector

    check_states_file(path, batch.file, batch.fresh)
    return StateCollector()


def _write_states(path: Path, collector: StateCollector, inputs: Inputs, show: ShowFlags) -> None:
    from omni_msa.files.states_file import write_states

    clips, states, scores = collector.table([clip.name for clip in inputs.clips])
    if not clips:
        show.note(f"{path}: not written, there is no state of any clip")
        return
    write_states(path, clips, states, scores)
    show.note(f"{path}: the states of {len(clips)} clips, {states.shape[1]} numbers each")
