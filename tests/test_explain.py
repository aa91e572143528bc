"""The page in plain language: one text, in the terminal and in docs/."""

from __future__ import annotations

import pytest
from conftest import ROOT
from rich.console import Console

from omni_msa.__main__ import main
from omni_msa.display import explain


def words_of(text: str) -> list[str]:
    """The words, without Markdown's signs and without line breaks."""
    return [word for word in text.replace("**", "").split() if word.strip("#")]


def test_the_page_in_docs_is_what_the_command_prints(capsys):
    page = (ROOT / "docs" / "explain.md").read_text(encoding="utf-8")
    assert page == explain.PAGE
    assert main(["explain"]) == 0
    captured = capsys.readouterr()
    origin = [block for block in page.split("\n\n") if block.startswith("Written by")]
    assert len(origin) == 1 and captured.err == ""
    assert words_of(captured.out) == words_of(page.replace(origin[0], ""))


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_it_fits_the_terminal_and_is_never_wider_than_80(columns, capsys, monkeypatch):
    monkeypatch.setattr(explain, "to_stdout", lambda: Console(width=columns, highlight=False))
    explain.print_explanation()
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= min(columns, 80)
    assert not any("**" in line or line.startswith("#") for line in lines)


@pytest.mark.parametrize(
    "subject", ["range", "contribution", "doubt", "languages", "what it cannot know"]
)
def test_it_speaks_of(subject):
    assert subject in explain.PAGE.lower()
