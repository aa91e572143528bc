"""The command `calibrate`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from omni_msa.commands.flags import (
    BaseFlags,
    CheckpointFolder,
    MediaFlags,
    ShowFlags,
    takes_flags,
)
from omni_msa.commands.labelled import Fresh, Manifest, Out, ReadFlags, file_feed, note_splits

if TYPE_CHECKING:
    pass


@takes_flags
def calibrate(
    *,
    data: Manifest,
    output: Out,
    fresh: Fresh = False,
    base: BaseFlags,
    checkpoint: CheckpointFolder = None,
    read: ReadFlags,
    media: MediaFlags,
    show: ShowFlags,
) -> None:
    """Fit a ridge probe on frozen states: some fifty labelled clips, one pass each."""
    from omni_msa.files.manifest import read_manifest

    clips = read_manifest(data)
    note_splits(clips, {"train": "to fit on", None: "without a split to fit on too"}, show)
    from omni_msa.display.progress import count_progress, working
    from omni_msa.display.tables import print_trained

    with working("loading the model ...", show.quiet):
        from omni_msa.files.labels import labels_of, with_classes
        from omni_msa.training.fit import calibrate as fit
        from omni_msa.training.fit import load_frozen

        label_range, classes = labels_of(clips, read.task, read.label_range)
        known = [c for c in clips if c.split in (None, "train")]
        known = with_classes(known, classes) if classes else known
        model = replace(base.options(), checkpoint=checkpoint)
        frozen = load_frozen(model, label_range, media.overrides())
    if checkpoint is not None:
        show.note("if its adapter was trained on these clips, leaving one out flatters it")
    with count_progress("reading", len(known), show.quiet) as progress:
        feed = file_feed(known, frozen.media, read)
        info = fit(frozen, feed, output, label_range, read.hide, progress, classes, fresh)
    print_trained(output, info, show.json)
