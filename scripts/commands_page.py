"""Writes docs/commands.md from the help texts, and docs/explain.md from what `explain` prints:
python -m scripts.commands_page"""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import patch

from typer.testing import CliRunner

from omni_msa.commands.app import app
from omni_msa.display import explain

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "commands.md"
EXPLANATION = ROOT / "docs" / "explain.md"
COMMANDS = (
    "", "score", "ablate", "train", "calibrate", "evaluate", "inspect", "plan", "plot", "explain",
    "data", "data import", "data split",
)  # fmt: skip


def help_of(command: str) -> str:
    """What `omni-msa COMMAND --help` prints on a terminal of 100 columns."""
    with patch.dict(os.environ, {"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}):
        arguments = [*command.split(), "--help"]
        shown = CliRunner().invoke(app, arguments, prog_name="omni-msa", catch_exceptions=False)
    if shown.exit_code:
        raise SystemExit(shown.output)
    return "\n".join(line.rstrip() for line in shown.stdout.strip().splitlines())


def page() -> str:
    """The whole page."""
    parts = ["# Commands", "Written by `python -m scripts.commands_page` from the help texts."]
    for command in COMMANDS:
        name = f"omni-msa {command}".strip()
        parts += [f"## {name}", f"```console\n$ {name} --help\n\n {help_of(command)}\n```"]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    EXPLANATION.write_text(explain.PAGE, encoding="utf-8")
