"""The command `inspect`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from omni_msa.commands.flags import (
    BaseFlags,
    ShowFlags,
    takes_flags,
)

if TYPE_CHECKING:
    pass


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

    with working("loading the model ...", show.quiet):
        from omni_msa.scoring.inspection import inspect_checkpoint

        model = replace(base.options(), checkpoint=checkpoint)
        inspection = inspect_checkpoint(model)
    if show.json:
        print_json(inspection.to_json())
    else:
        from omni_msa.display.tables import print_inspection

        print_inspection(inspection)
    raise typer.Exit(0 if inspection.sound else 4)
