"""The command `calibrate`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import typer

from omni_msa.commands.flags import (
    BaseFlags,
    CheckpointFolder,
    MediaFlags,
    Settings,
    ShowFlags,
    parse_pairs,
    takes_flags,
)
from omni_msa.commands.labelled import (
    Fresh,
    Manifest,
    Out,
    ReadFlags,
    file_feed,
    note_left_out,
    note_splits,
)
from omni_msa.options import FitOptions


@dataclass(frozen=True)
class FitFlags:
    """What is fitted, and on whose states."""

    checkpoint: CheckpointFolder = None
    method: Annotated[
        str,
        typer.Option("--readout", "--method", metavar="NAME", help="What is fitted: a ridge."),
    ] = FitOptions.method
    settings: Settings = None

    def options(self) -> FitOptions:
        """The checked options that the library takes."""
        return FitOptions(self.method, parse_pairs("--set", self.settings or [], "head=linear"))


@takes_flags
def calibrate(
    *,
    data: Manifest,
    output: Out,
    fresh: Fresh = False,
    base: BaseFlags,
    fit: FitFlags,
    read: ReadFlags,
    media: MediaFlags,
    show: ShowFlags,
) -> None:
    """Fit a ridge probe on frozen states: some fifty labelled clips, one pass each."""
    from omni_msa.files.manifest import read_manifest

    clips = read_manifest(data, columns=read.names())
    note_splits(clips, {"train": "to fit on", None: "without a split to fit on too"}, show)
    from omni_msa.display.progress import count_progress, working
    from omni_msa.display.tables import print_trained

    with working("loading the model ...", show.quiet):
        from omni_msa.files.labels import label_space_of
        from omni_msa.training.fit import calibrate as fit_on
        from omni_msa.training.fit import check_fit, load_frozen

        check_fit(fit.options())
        space = label_space_of(clips, read.task, read.label_range)
        note_left_out(clips, space, show)
        labelled = space.labelled([c for c in clips if c.split in (None, "train")])
        frozen = load_frozen(replace(base.options(), checkpoint=fit.checkpoint), media.overrides())
    if fit.checkpoint is not None:
        show.note("if its adapter was trained on these clips, leaving one out flatters it")
    with count_progress("reading", len(labelled), show.quiet) as progress:
        feed = file_feed(labelled, frozen.media, read, frozen.hidden)
        info = fit_on(frozen, feed, output, space, read.hide, progress, fresh, fit.options())
    print_trained(output, info, show.json)
