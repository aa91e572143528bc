"""The command `plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from omni_msa.commands.flags import ShowFlags, takes_flags
from omni_msa.foreign import printable

EXAMPLES = (
    "Examples:\n\nomni-msa plot mosi-checkpoint -o curves.svg\n\n"
    "omni-msa plot seed0 seed1 seed2 -o curves.png"
)


@takes_flags
def plot(
    *,
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Folders of train -o, finished or not.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The picture, .svg or .png.")
    ],
    experts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Of mmolre: how much each expert was used, a picture of the first folder.",
        ),
    ] = None,
    show: ShowFlags,
) -> None:
    """Draw the curves of training runs from their logs; needs the extra plot (matplotlib)."""
    from omni_msa.display.curves import draw_curves, read_curves
    from omni_msa.display.experts import expert_figure
    from omni_msa.display.output import print_json
    from omni_msa.display.pictures import check_picture, save_picture

    check_picture(output)
    runs = read_curves(folders)
    draw_curves(runs, output)
    if experts is not None:
        save_picture(expert_figure(folders[0]), experts, "--experts")
    epochs = {str(folder): len(run.epochs) for folder, run in zip(folders, runs, strict=True)}
    if show.json:
        print_json({"picture": str(output), "epochs": epochs})
    else:
        counts = (f"{n} epoch{'s' * (n > 1)} of {name}" for name, n in epochs.items())
        typer.echo(printable(f"{output}: {', '.join(counts)}"))
