"""The program: every command parses, builds options, calls the library and prints.

stdout carries results only; progress, notices and errors go to stderr. What needs torch is imported
inside the functions that use it, so that `--help` is instant.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

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
from omni_msa.foreign import printable

# `BadParameter` is the only one that Typer names; all others have its base.
USAGE_ERRORS: Any = typer.BadParameter.__base__


class _Program(TyperGroup):
    """A usage error names what was typed, which a shell may have made of names of files."""

    def make_context(self, *arguments: Any, **values: Any) -> Any:
        with _printable_usage_errors():
            return super().make_context(*arguments, **values)

    def invoke(self, ctx: Any) -> Any:
        with _printable_usage_errors():
            return super().invoke(ctx)


@contextmanager
def _printable_usage_errors() -> Iterator[None]:
    try:
        yield
    except USAGE_ERRORS as error:
        error.message = printable(error.message)
        raise


app = typer.Typer(
    cls=_Program,
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
