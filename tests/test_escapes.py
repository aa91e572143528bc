"""What others wrote never steers a terminal: names, words, errors; files keep the truth."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
from pathlib import Path

import pytest
from sounds import write_wav

from omni_msa.__main__ import main
from omni_msa.display import card, lines, output, progress
from omni_msa.display.wide import WideTable
from omni_msa.files.record import Ablation, Record
from omni_msa.files.result_formats import read_records
from omni_msa.foreign import printable, printable_json, printable_message
from omni_msa.scoring.batch import BatchProgress

DISPLAY = Path(output.__file__).parent
EVIL = "\x1b[31m\x1b]0;title\x07\x9b2J\nomni-msa: all scored\r\x7f\u202egpj\u2066\u2028\t\b\udcff"
# what a terminal obeys, beside the line ends that are ours
OBEYED = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def obeyed(text: str) -> list[str]:
    return OBEYED.findall(text) + re.findall("^omni-msa: all scored", text, re.MULTILINE)


def evil_record(**changes) -> Record:
    values = {
        "clip": f"folder/{EVIL}.mp4",
        "sha256": None,
        "score": 1.0,
        "range": (-3.0, 3.0),
        "modalities": {"text": f"sidecar {EVIL}.txt", "audio": "track 0", "video": None},
        "ablation": Ablation({"": 0.0, "T": 1.0}, {}, {"text": 1.0}),
        "model": {},
        "warnings": (EVIL,),
        "emotion": EVIL,
        "text": EVIL,
    }
    return Record(**(values | changes))


def test_printable_shows_what_would_be_obeyed():
    assert printable("a\x1b[31m\n\x9b\u202e") == "a\\x1b[31m\\n\\x9b\\u202e"
    assert not OBEYED.search(printable(EVIL)) and "\n" not in printable(EVIL)
    same = "näme ✓ 日本 \u200d\u200c🙂 [red]"
    assert printable(same) == same


def test_only_the_indented_lines_of_our_lists_are_lines():
    message = "m.csv: 2 problem(s)\n  line 1\n  line 2, a\nomni-msa: all scored"
    assert printable_message(message) == (
        "m.csv: 2 problem(s)\n  line 1\n  line 2, a\\nomni-msa: all scored"
    )


def test_json_says_the_same_without_what_would_be_obeyed():
    document = {"clip": EVIL, "name": "日本"}
    text = printable_json(json.dumps(document, ensure_ascii=False, indent=2))
    assert json.loads(text) == document and "日本" in text
    assert not obeyed(text)


@pytest.mark.parametrize("shown", ["card", "lines", "table", "failure"])
def test_nothing_of_a_record_is_obeyed(shown, capsys):
    record = evil_record()
    failed = evil_record(score=None, error={"type": "E", "code": "damaged", "message": EVIL})
    if shown == "card":
        card.print_card(record, subsets=True)
    elif shown == "lines":
        lines.print_lines([record, failed, record])
    elif shown == "table":
        table = WideTable("", EVIL)
        table.add_row(EVIL, EVIL)
        output.show_parts(table)
    else:
        with progress.batch_progress(quiet=True) as tell:
            tell(BatchProgress(1, 0, 0, 1, 1.0, failed))
    out, err = capsys.readouterr()
    assert "\\x1b[31m" in out + err
    assert not obeyed(out) and not obeyed(err)


def test_a_terminal_is_told_nothing_else(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "dumb")
    output.say(f"{EVIL}: [bold]no such file[/bold]")
    assert "[bold]" in terminal.getvalue() and not obeyed(terminal.getvalue())


def test_every_text_of_the_display_is_made_in_one_place():
    makers = {
        path.name
        for path in DISPLAY.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and "Text" in (getattr(node.func, "id", ""), *(getattr(a, "id", "") for a in node.args))
    }
    assert makers == {"output.py"}


ARGUMENTS = {
    "a missing file": ["score", f"{EVIL}.mp4"],
    "a missing manifest": ["score", f"{EVIL}.csv"],
    "an empty folder": ["score", "{folder}"],
    "a command": [EVIL],
    "an option": ["score", f"--{EVIL}"],
    "a value": ["score", "a.mp4", "--device", EVIL],
    "a number": ["score", "a.mp4", "--batch-size", EVIL],
    "a model": ["score", "--transcript", "words", "--model", f"./{EVIL}"],
    "a checkpoint": ["inspect", f"./{EVIL}"],
    "a manifest's columns": ["score", "{manifest}"],
    "an output": ["score", "a.mp4", "-o", f"{EVIL}.jsonl/x.jsonl"],
}


@pytest.mark.parametrize("kind", ARGUMENTS)
def test_nothing_of_an_error_is_obeyed(kind, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = EVIL.replace("/", "")
    folder = tmp_path / name
    folder.mkdir()
    (tmp_path / "m.csv").write_text(f'clip,{name},"label"\na.wav,b,"{name}"\n', errors="ignore")
    places = {"folder": folder, "manifest": tmp_path / "m.csv"}
    arguments = [
        str(places[text[1:-1]]) if text[1:-1] in places else text for text in ARGUMENTS[kind]
    ]
    assert main(arguments) in (2, 3, 4)
    out, err = capsys.readouterr()
    assert err and not obeyed(err) and not obeyed(out)


@pytest.mark.slow
def test_files_of_results_keep_the_true_names(tmp_path, capsys, monkeypatch):
    """A batch with such a name: shown escaped, written as it is."""
    monkeypatch.setenv("OMNI_MSA_NO_NOTICE", "1")
    name = "a\x1b[31m\u202e\x9b.wav"
    write_wav(tmp_path / name)
    (tmp_path / "a\x1b[31m\u202e\x9b.txt").write_text("so \x1b[31m good \u202e")
    for arguments in ([], ["--json"], ["-o", str(tmp_path / "r.jsonl")], ["-o", "-"]):
        assert main(["score", str(tmp_path / name), *arguments]) == 0
        out, err = capsys.readouterr()
        assert not obeyed(out) and not obeyed(err)
        if arguments in (["--json"], ["-o", "-"]):
            assert json.loads(out)["clip"] == str(tmp_path / name)
    [record] = read_records(tmp_path / "r.jsonl")
    assert record.clip == str(tmp_path / name)


def test_a_log_is_told_nothing_else(scorer, caplog):
    from omni_msa.options import AblationOptions
    from omni_msa.scoring.guarded import GuardedScorer
    from omni_msa.values import Clip

    guarded = GuardedScorer(scorer, AblationOptions())
    with caplog.at_level(logging.WARNING, "omni_msa"):
        record = guarded.score(Clip(path=Path("a\x1b[31m\nb.mp4")))
    assert record.clip == "a\x1b[31m\nb.mp4"
    assert "\\x1b[31m\\nb.mp4" in caplog.text and "\x1b" not in caplog.text
