"""The commands `data ...`: public releases as manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from omni_msa.commands.flags import ShowFlags, takes_flags

data_app = typer.Typer(help="Data sets as manifests.", no_args_is_help=True)


@takes_flags
def import_data(
    *,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="mosi, mosei, sims, simsv2, meld or iemocap.")
    ],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The release, as unpacked.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The manifest, .jsonl.")
    ],
    check_media: Annotated[
        bool, typer.Option(help="Open every file, and leave out those that cannot be read.")
    ] = True,
    show: ShowFlags,
) -> None:
    """Turn a public release into a manifest; all that is wrong with it is reported at once."""
    from omni_msa.display.output import print_json
    from omni_msa.display.progress import count_progress
    from omni_msa.files.importers import import_dataset

    with count_progress("checking", None, show.quiet) as progress:
        report = import_dataset(name, folder, output, check_media, progress)
    for notice in report.notices:
        show.note(notice)
    sizes = ", ".join(f"{count} {split}" for split, count in report.split_sizes.items())
    if show.json:
        print_json(
            {
                "manifest": str(output),
                "rows": len(report.rows),
                "splits": report.split_sizes,
                "notices": list(report.notices),
            }
        )
    else:
        typer.echo(f"{output}: {len(report.rows)} rows ({sizes})")
