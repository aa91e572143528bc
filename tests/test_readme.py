"""What README and docs show is what there is: the map, links, help texts, the record's fields."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer
from conftest import ROOT

from scripts import commands_page

README = (ROOT / "README.md").read_text(encoding="utf-8")
FOLDERS = ("docs", "scripts/tiny", "scripts/study")
PAGES = ["README.md", *(f"{f}/{p.name}" for f in FOLDERS for p in sorted((ROOT / f).glob("*.md")))]
SCRIPTS = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "scripts").rglob("*.py"))


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_no_placeholder_is_left():
    assert "@@" not in README
    assert "@@" not in (ROOT / "scripts" / "tiny" / "README.md").read_text(encoding="utf-8")


def test_the_readme_fits_on_three_screens():
    assert len(README.splitlines()) <= 200


def all_commands(command, name: str = "") -> set[str]:
    """The names of a command and of all below it; the program itself is the empty name."""
    below = getattr(command, "commands", {})
    return {name}.union(*(all_commands(c, f"{name} {n}".strip()) for n, c in below.items()))


def test_the_commands_page_is_what_the_commands_say():
    from omni_msa.commands.app import app

    assert set(commands_page.COMMANDS) == all_commands(typer.main.get_command(app))
    assert commands_page.PAGE.read_text(encoding="utf-8") == commands_page.page()


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_resolves(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    for link in links:
        target, _, anchor = link.partition("#")
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.exists(), link
        assert not anchor or anchor in anchors(path), link


@pytest.mark.parametrize("page", [*PAGES, *SCRIPTS])
def test_every_script_that_is_named_can_be_run(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    modules = re.findall(r"python -m (scripts[\w.]*\w)", text)
    missing = [m for m in modules if not (ROOT / f"{m.replace('.', '/')}.py").is_file()]
    assert not [m for m in missing if not m.endswith(".COMMAND")]
    assert not re.findall(r"python scripts/\S+", text)  # a package's modules are run with -m


def test_the_map_names_every_room_and_nothing_else():
    (tree,) = (block for block in blocks("text") if block.startswith("omni_msa/"))
    top, inside = "", []
    for line in tree.splitlines():
        names, _, words = line.strip().partition("  ")
        top = top if line.startswith(" ") else names.split()[0]
        paths = names.split(", ") if line.startswith(" ") else re.findall(r"\w+(?:/|\.md)", words)
        inside += paths if top == "omni_msa/" else []
        for path in paths:
            assert (ROOT / top / path).exists(), top + path
    rooms = {f"{path.parent.name}/" for path in (ROOT / "omni_msa").glob("*/__init__.py")}
    modules = {p.name for p in (ROOT / "omni_msa").glob("*.py") if not p.name.startswith("__")}
    assert set(inside) == rooms | modules | {"model/assets/tiny/"}


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


def test_the_order_of_words_is_one_in_readme_and_formats():
    formats = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    order = ["`--transcript", "the manifest's `text`", "a file beside", "a subtitle stream", "none"]
    for page, start in ((README, "The words of a clip are"), (formats, "## The words of a clip")):
        text = " ".join(page[page.index(start) :].split())
        places = [text.index(words) for words in order]
        assert places == sorted(places) and places[-1] < 400


PROVENANCE = (ROOT / "docs" / "provenance.md").read_text(encoding="utf-8")


def test_the_table_of_provenance_names_words_files_and_flags_that_are():
    rows = [line.split("|") for line in PROVENANCE.splitlines() if line.startswith("| ")]
    for row in rows:
        is_head = row[1].strip() in ("what", "word") or row[1].strip().startswith("*")
        assert is_head or re.search(r"\*(abstract|transcription|derived|ours)\*", row[3]), row
    for path in re.findall(r"`(\w+(?:/\w+)*\.py)`", PROVENANCE):
        assert (ROOT / "omni_msa" / path).is_file(), path
    commands = commands_page.PAGE.read_text(encoding="utf-8")
    for flag in re.findall(r"`(--[\w-]+)", PROVENANCE):
        assert flag in commands, flag


def test_nothing_is_called_published_that_a_transcription_says():
    """Of the paper, the abstract alone was read."""
    claim = re.compile(r"as published|the paper's (?!abstract)|the paper (states|gives)|\beq\. ?\d")
    files = [ROOT / page for page in PAGES if "provenance" not in page]
    files += sorted((ROOT / "omni_msa").rglob("*.py")) + [ROOT / script for script in SCRIPTS]
    assert [path.name for path in files if claim.search(path.read_text(encoding="utf-8"))] == []
