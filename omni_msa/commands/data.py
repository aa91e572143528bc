"""The commands `data ...`: public releases as manifests, and manifests split by group."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from omni_msa.commands.flags import ShowFlags, takes_flags
from omni_msa.commands.labelled import ColumnFlags, Manifest
from omni_msa.errors import ConfigError
from omni_msa.foreign import printable

SPLIT_EXAMPLES = (
    "Examples:\n\nomni-msa data split my.csv -o my-split.jsonl --label-column rating\n\n"
    "omni-msa data split my.csv -o fold.jsonl --by interview --folds 5"
)

data_app = typer.Typer(help="Data sets as manifests.", no_args_is_help=True)


@takes_flags
def import_data(
    *,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="mosi, mosei, sims, simsv2, meld, iemocap; heart records: ptb-xl, cpsc2018.",
        ),
    ],
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="The release, as unpacked; or MMSA's pickle of its features, .pkl (mosi, mosei, "
            "sims, simsv2).",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The manifest, .jsonl.")
    ],
    check_media: Annotated[
        bool, typer.Option(help="Open every file, and leave out those that cannot be read.")
    ] = True,
    variant: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Another way to read it: plain-names (meld: test clips that were replaced), "
            "four-classes (iemocap: happy with excited, sad, neutral, angry), 500hz (ptb-xl: the "
            "records at 500 Hz in place of 100).",
        ),
    ] = None,
    show: ShowFlags,
) -> None:
    """Turn a public release into a manifest; all that is wrong with it is reported at once."""
    from omni_msa.display.output import print_json
    from omni_msa.display.progress import count_progress
    from omni_msa.files.importers import import_dataset

    with count_progress("checking", None, show.quiet) as progress:
        report = import_dataset(name, folder, output, check_media, progress, variant)
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
        typer.echo(printable(f"{output}: {len(report.rows)} rows ({sizes})"))


@takes_flags
def split_data(
    *,
    data: Manifest,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="The manifest with splits, .jsonl."),
    ],
    by: Annotated[
        str, typer.Option(metavar="COLUMN", help="Rows that agree in it stay in one part.")
    ] = "speaker",
    parts: Annotated[
        str | None,
        typer.Option(
            metavar="SHARES",
            help="Of train, valid and test. Default: 0.7,0.1,0.2.",
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            help="Write K files: in FILE-k fold k is the test part, the next one is valid.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the random order of groups.")] = 0,
    columns: ColumnFlags,
    show: ShowFlags,
) -> None:
    """Split a manifest so that no speaker, or other group, is in two parts."""
    from omni_msa.display.output import print_json
    from omni_msa.files.leaks import leaks
    from omni_msa.files.manifest import read_manifest
    from omni_msa.files.splits import SHARES, SplitOptions, split_manifest

    if parts is not None and folds is not None:
        raise ConfigError("--parts and --folds are two ways to split; choose one")
    options = SplitOptions(by, SHARES if parts is None else _shares(parts), folds, seed)
    files = split_manifest(data, output, options, columns.names())
    for leak in leaks(read_manifest(files[0].path)):
        show.note(leak)
    if show.json:
        print_json([{"manifest": str(f.path), "rows": f.rows, "groups": f.groups} for f in files])
        return
    for file in files:
        sizes = [f"{n} {part} (groups: {file.groups[part]})" for part, n in file.rows.items()]
        typer.echo(printable(f"{file.path}: {', '.join(sizes)}"))


def _shares(text: str) -> tuple[float, ...]:
    """`0.7,0.1,0.2` as numbers."""
    try:
        return tuple(float(share) for share in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--parts {text}: give numbers, such as 0.7,0.1,0.2") from error
