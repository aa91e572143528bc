"""The notice of the embedded model: once a day, whole words, and what a user can really do."""

from __future__ import annotations

import io
import os
import sys
import time

import pytest

from omni_msa import environment
from omni_msa.commands.clips import load_scorer
from omni_msa.commands.flags import ShowFlags
from omni_msa.display import output
from omni_msa.display.notice import DEMONSTRATION, due_today
from omni_msa.options import ModelOptions


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("OMNI_MSA_NO_NOTICE", raising=False)
    return tmp_path / "cache"


def test_it_is_shown_once_a_day(tmp_path):
    assert due_today(tmp_path) and not due_today(tmp_path)
    stamp = tmp_path / "omni-msa" / "demonstration-notice"
    yesterday = time.time() - 25 * 3600
    os.utime(stamp, (yesterday, yesterday))
    assert due_today(tmp_path) and not due_today(tmp_path)
    tomorrow = time.time() + 25 * 3600  # a clock that was put back
    os.utime(stamp, (tomorrow, tomorrow))
    assert due_today(tmp_path) and not due_today(tmp_path)


def test_where_nothing_can_be_written_it_is_shown_every_time(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", None):
        assert due_today(folder) and due_today(folder)


def test_the_users_cache_folder(cache, monkeypatch, tmp_path):
    assert environment.cache_home() == cache
    monkeypatch.setenv("HOME", str(tmp_path))
    for other in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", other)
        assert environment.cache_home() == tmp_path / ".cache"


def test_the_embedded_model_recommends_what_can_be_done_today(cache, capsys):
    options, show = ModelOptions(), ShowFlags()
    load_scorer(options, {}, ShowFlags(quiet=True))
    assert capsys.readouterr().err == "" and not cache.exists()  # not shown: not counted
    scorer = load_scorer(options, {}, show)
    assert capsys.readouterr().err == f"omni-msa: {DEMONSTRATION}\n"
    assert "--model Qwen/Qwen2.5-Omni-7B" in DEMONSTRATION and "calibrate" in DEMONSTRATION
    assert "--checkpoint" not in DEMONSTRATION  # none is distributed
    load_scorer(options, {}, show, scorer)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_a_terminal_breaks_it_between_words(columns, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", str(columns))
    output.say(DEMONSTRATION)
    lines = terminal.getvalue().splitlines()
    assert max(map(len, lines)) <= columns and len(lines) > 1
    assert " ".join(lines).split() == f"omni-msa: {DEMONSTRATION}".split()
