"""The command `inspect`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from omni_msa.commands.flags import (
    BaseFlags,
    ShowFlags,
    takes_flags,
)


@takes_flags
def inspect(
    *,
    checkpoint: Annotated[str, typer.Argument(metavar="DIR", help="A checkpoint's folder.")],
    base: BaseFlags,
    show: ShowFlags,
) -> None:
    """Show what a checkpoint holds, and verify that the built-in clip still gets its scores."""
    from omni_msa.display.output import print_json
    from omni_msa.display.progress import working
    from omni_msa.scoring.checkpoint import read_info
    from omni_msa.scoring.identity import named_checkpoint

    options = replace(base.options(), checkpoint=checkpoint)
    # what is no checkpoint is said at once
    read_info(named_checkpoint(options) or Path(checkpoint))
    with working("loading the model ...", show.quiet):
        from omni_msa.scoring.inspection import inspect_checkpoint

        inspection = inspect_checkpoint(options)
    if show.json:
        print_json(inspection.to_json())
    else:
        from omni_msa.display.tables import print_inspection

        print_inspection(inspection)
    raise typer.Exit(0 if inspection.sound else 4)
