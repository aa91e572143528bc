"""What `score` writes beside its rows: the states of clips, and the picture of one heart record."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omni_msa.commands.flags import BatchFlags, ShowFlags
from omni_msa.errors import ConfigError
from omni_msa.modalities import Subset

if TYPE_CHECKING:
    from omni_msa.scoring.deferred import DeferredScorer
    from omni_msa.scoring.scorer import Scorer
    from omni_msa.scoring.states import StateCollector
    from omni_msa.values import Clip


@dataclass(frozen=True)
class FileFlags:
    """Which files are written beside the rows."""

    states: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write each scored clip's state: the final layer's output at the last token, "
            "with all that is shown, which a head reads the score off. An .npz or .parquet file of "
            "clip [N], states [N, H] in float32, and score [N], in the order of the clips.",
        ),
    ] = None
    trace: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Of one clip with a heart record: also draw its leads, shaded by how much the "
            "result changes when a stretch of time is taken out. An .svg or .png; needs the extra "
            "plot (matplotlib).",
        ),
    ] = None

    def collector(self, batch: BatchFlags) -> StateCollector | None:
        """What keeps the states for a file, if one was named and can be written."""
        if self.states is None:
            return None
        from omni_msa.files.states_file import check_states_file
        from omni_msa.scoring.states import StateCollector

        check_states_file(self.states, batch.file, batch.fresh)
        return StateCollector()

    def check_trace(self, clips: Sequence[Clip]) -> None:
        """What can be said of the picture before anything is read.

        Raises:
            ConfigError: it cannot be drawn, or not of these clips.
        """
        if self.trace is None:
            return
        from omni_msa.display.pictures import check_picture, new_figure
        from omni_msa.media.ecg import ecg_of

        check_picture(self.trace, "--trace")
        new_figure()  # whether anything can be drawn
        if len(clips) != 1:
            raise ConfigError(
                f"--trace draws one clip, and here are {len(clips)}; name one of them"
            )
        (clip,) = clips
        is_there = clip.path is None or os.path.exists(clip.path)  # if not, its row says so
        if is_there and ecg_of(clip) is None:
            raise ConfigError(
                f"--trace draws a heart record, and {clip.name} has none; give a record (.hea, "
                ".edf), or put one beside the clip, such as clip.ecg.csv"
            )

    def check_model(self, scorer: Scorer | DeferredScorer, hide: Subset) -> None:
        """That the model looks at what would be drawn.

        Raises:
            ConfigError: it does not.
        """
        if self.trace is not None:
            from omni_msa.scoring.occlusion import check_looks_at_ecg

            check_looks_at_ecg(scorer, hide)

    def write_states(self, collector: StateCollector, clips: Sequence[Clip]) -> str:
        """Writes those that were kept; gives a line of what became of the file."""
        assert self.states is not None  # else there is no collector
        from omni_msa.files.states_file import write_states

        names, states, scores = collector.table([clip.name for clip in clips])
        if not names:
            return f"{self.states}: not written, there is no state of any clip"
        write_states(self.states, names, states, scores)
        return f"{self.states}: the states of {len(names)} clips, {states.shape[1]} numbers each"

    def draw_trace(
        self,
        scorer: Scorer | DeferredScorer,
        clip: Clip,
        hide: Subset,
        batch: BatchFlags,
        show: ShowFlags,
    ) -> str:
        """Draws the picture of a clip that was scored; gives a line of what it shows."""
        assert self.trace is not None
        from omni_msa.display.progress import working
        from omni_msa.display.trace import draw_trace
        from omni_msa.scoring.occlusion import occlude

        with working("scoring without each stretch of time ...", show.quiet):
            occlusion = occlude(scorer.loaded(), clip, hide, batch.batch_size)
            return f"{self.trace}: {draw_trace(occlusion, self.trace)}"
