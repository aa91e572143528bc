"""The program: every command parses, builds options, calls the library and prints.

stdout carries results only; progress, notices and errors go to stderr. What needs torch is imported
inside the functions that use it, so that `--help` is instant.
"""

from __future__ import annotations

from typing import Annotated

import typer

from omni_msa import __version__
from omni_msa.commands import (
    ablate,
    calibrate,
    data,
    evaluate,
    explain,
    inspect,
    plan,
    plot,
    score,
    train,
)

app = typer.Typer(
    help="A raw clip in, a sentiment score out, and what words, voice and face contributed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"omni-msa {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


for _command, _examples in (
    (score.score, score.EXAMPLES),
    (ablate.ablate, ablate.EXAMPLES),
    (train.train, train.EXAMPLES),
    (evaluate.evaluate, evaluate.EXAMPLES),
    (calibrate.calibrate, None),
    (inspect.inspect, None),
    (plan.plan, plan.EXAMPLES),
    (plot.plot, plot.EXAMPLES),
    (explain.explain, None),
):
    app.command(epilog=_examples)(_command)
data.data_app.command("import")(data.import_data)
data.data_app.command("split", epilog=data.SPLIT_EXAMPLES)(data.split_data)
app.add_typer(data.data_app, name="data")
