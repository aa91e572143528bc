"""What the README shows is what there is: the file tree, the help texts, the record's fields."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_no_placeholder_is_left():
    assert "@@" not in README
    assert "@@" not in (ROOT / "scripts" / "tiny" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["", "score", "ablate", "train", "evaluate"])
def test_help_in_the_readme_is_the_help(command):
    arguments = [sys.executable, "-m", "omni_msa", *command.split(), "--help"]
    environment = {**os.environ, "COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}
    shown = subprocess.run(arguments, capture_output=True, text=True, env=environment, check=True)
    lines = [line.rstrip() for line in shown.stdout.strip().splitlines()]
    assert "\n".join(lines) in README


def test_every_file_of_the_tree_exists_and_every_module_is_in_it():
    tree = next(b for b in blocks("text") if b.startswith("omni_msa/"))
    named, folder = set(), ""
    for line in tree.splitlines():
        entry = line.split("  ")[0] if not line.startswith(" ") else line.split()[0]
        entry = entry.strip()
        if not line.startswith(" "):
            folder = entry if entry.endswith("/") else ""
            path = entry
        else:
            path = folder + entry
        assert (ROOT / path).exists(), path
        named.add(path)
    modules = {f"omni_msa/{p.name}" for p in (ROOT / "omni_msa").glob("*.py")}
    modules -= {"omni_msa/__init__.py"}
    assert modules <= named, sorted(modules - named)


def test_the_records_fields_are_the_documented_ones(scorer):
    from conftest import make_content

    from omni_msa.options import AblationOptions

    prepared = scorer.prepare(make_content())
    record = scorer.score_prepared([prepared], AblationOptions())[0].to_json()
    table = README[README.index("## The record") :]
    table = table[: table.index("\n## ")]
    documented = set(re.findall(r"`(\w+)(?:\.\w+)?`", table))
    assert set(record) <= documented
    assert json.loads(json.dumps(record)) == record
