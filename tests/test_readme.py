"""What the README shows is what there is: the file tree, the help texts, the record's fields."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest
from conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted((ROOT / "docs").glob("*.md"))


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_no_placeholder_is_left():
    assert "@@" not in README
    assert "@@" not in (ROOT / "scripts" / "tiny" / "README.md").read_text(encoding="utf-8")


def test_the_readme_fits_on_three_screens():
    assert len(README.splitlines()) <= 200


def test_the_commands_page_is_what_the_commands_say():
    spec = importlib.util.spec_from_file_location(
        "commands_page", ROOT / "scripts" / "commands_page.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.page()
    from omni_msa.commands.app import app

    named = {command.callback.__name__ for command in app.registered_commands}
    assert named <= set(module.COMMANDS)


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{p.name}" for p in PAGES)])
def test_every_link_resolves(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    for link in links:
        target, _, anchor = link.partition("#")
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.exists(), link
        assert not anchor or anchor in anchors(path), link


def test_the_map_names_every_room_and_nothing_else():
    (tree,) = (block for block in blocks("text") if block.startswith("omni_msa/"))
    named = set(re.findall(r"^  (\w+)/", tree, re.MULTILINE))
    rooms = {path.parent.name for path in (ROOT / "omni_msa").glob("*/__init__.py")}
    assert named == rooms
    modules = {p.name for p in (ROOT / "omni_msa").glob("*.py") if not p.name.startswith("__")}
    assert set(re.findall(r"(\w+\.py)", tree)) == modules


def test_the_records_fields_are_the_documented_ones(scorer):
    from conftest import make_content

    from omni_msa.options import AblationOptions

    prepared = scorer.prepare(make_content())
    record = scorer.score_prepared([prepared], AblationOptions())[0].to_json()
    formats = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    table = formats[formats.index("## The record") :]
    table = table[: table.index("\n## ")]
    documented = set(re.findall(r"`(\w+)(?:\.\w+)?`", table))
    assert set(record) <= documented
    assert json.loads(json.dumps(record)) == record
