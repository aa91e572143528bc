"""What a terminal shows: cards, lines, JSON and progress, from records made by hand."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest
from rich.console import Console

from omni_msa.display import card, output, progress
from omni_msa.scoring.batch import BatchProgress
from omni_msa.values import Ablation, Record

SARCASTIC = Record(
    "clips/[x] sarcastic.mp4",
    "ab",
    -1.2,
    (-3.0, 3.0),
    {"text": "sidecar a.srt", "audio": "track 1", "video": None},
    Ablation(
        {"": 0.1, "T": 0.5, "A": -1.6, "TA": -1.2},
        {"text": {"score": -1.6, "delta": -0.4}, "audio": {"score": 0.5, "delta": 1.7}},
        {"text": 0.4, "audio": -1.7},
    ),
    warnings=("sound was cut at 300 s",),
)
BROKEN = Record(
    "bad.mp4", None, None, error={"type": "MediaError", "message": "bad.mp4: no stream [0] decodes"}
)


def shown(renderable: object, width: int = 80) -> str:
    screen = io.StringIO()
    Console(file=screen, width=width, highlight=False).print(renderable)
    return screen.getvalue()


def test_card_says_score_sources_contributions_drops_and_warnings():
    text = shown(card.card(SARCASTIC))
    by_name = {line.split()[0]: line for line in text.splitlines() if line.split()}
    assert "[x] sarcastic.mp4" in text  # brackets are no markup
    assert "score -1.20" in text and "-3 (negative) to +3 (positive)" in text
    assert "sidecar a.srt" in by_name["text"] and "+0.40" in by_name["text"]
    assert "-1.70" in by_name["audio"] and "+0.50" in by_name["audio"]
    assert by_name["audio"].split()[-1] == "+1.70"
    assert by_name["video"].split()[1:] == ["none"]
    assert "+0.10 with nothing shown, -1.30 from the clip" in text
    assert "warning: sound was cut at 300 s" in text
    assert max(map(len, text.splitlines())) <= 80


def test_card_without_ablation_has_no_empty_columns():
    plain = Record("a.wav", "ab", 0.5, (-1.0, 1.0), {"text": None, "audio": "track 0"})
    text = shown(card.card(plain))
    assert "score +0.50" in text and "contribution" not in text and "change" not in text


def test_card_shows_modalities_dropped_together():
    ablation = Ablation({"": 0.1}, {"text+audio": {"score": 0.1, "delta": 1.3}})
    text = shown(card.card(Record("a.mp4", "ab", -1.2, ablation=ablation)))
    assert ["text+audio", "+0.10", "+1.30"] in [line.split() for line in text.splitlines()]


@pytest.mark.parametrize(
    ("value", "full", "picture"),
    [
        (1.0, 1.0, "        │████████"),
        (-0.5, 1.0, "    ████│        "),
        (0.0, 1.0, "        │        "),
        (0.0, 0.0, "        │        "),
    ],
)
def test_bars_grow_from_the_middle(value, full, picture):
    assert card.bar(value, full).plain == picture


def test_lines_hold_scored_and_failed_clips():
    rows = [line.split() for line in shown(card.lines([SARCASTIC, BROKEN]), 120).splitlines()]
    assert rows[0] == ["clip", "score", "text", "audio", "error"]
    assert rows[1][-3:] == ["-1.20", "+0.40", "-1.70"]
    assert " ".join(rows[2]) == "bad.mp4 bad.mp4: no stream [0] decodes"


def test_failure_names_the_clip_once():
    unnamed = Record("a.mp4", None, None, error={"type": "X", "message": "out of memory"})
    assert progress.failure(BROKEN) == "bad.mp4: no stream [0] decodes"
    assert progress.failure(unnamed) == "a.mp4: out of memory"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_json_survives_names_that_the_terminal_cannot_say(encoding, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    document = [{"clip": "été \udcff.mp4", "score": 1.5}]
    output.print_json(document)
    assert json.loads(raw.getvalue().decode(encoding)) == document


def test_a_reader_that_leaves_early_is_no_error():
    code = "from omni_msa.display.output import print_json; print_json(list(range(100_000)))"
    program = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert program.stdout is not None and program.stderr is not None
    program.stdout.close()
    assert program.stderr.read() == b""
    assert program.wait() == 0


def at(seconds: float, scored: int, last: Record | None = None, failed: int = 0) -> BatchProgress:
    return BatchProgress(100, 0, scored, failed, seconds, last)


def test_progress_in_a_log_is_a_line_now_and_then(capsys):
    with progress.batch_progress(quiet=False) as tell:
        tell(at(0, 0))
        for second in range(1, 51):
            tell(at(second, 2 * second))
    captured = capsys.readouterr()
    assert captured.out == ""
    said = captured.err.splitlines()
    assert len(said) == 5
    assert said[0] == "omni-msa: 20 of 100 clips, 2.0 clips/s, 0:00:40 left"
    assert said[-1] == "omni-msa: 100 of 100 clips, 2.0 clips/s"


def test_a_rerun_with_nothing_to_do_claims_no_rate(capsys):
    with progress.batch_progress(quiet=False) as tell:
        tell(BatchProgress(5, 0, 0, 0, 0.1))
        tell(BatchProgress(5, 5, 0, 0, 0.2))
    assert capsys.readouterr().err == "omni-msa: 5 of 5 clips\n"


@pytest.mark.parametrize("quiet", [True, False])
def test_failures_are_said_as_they_happen(capsys, quiet):
    with progress.batch_progress(quiet) as tell:
        tell(at(1, 0, BROKEN, failed=1))
    assert capsys.readouterr().err == "omni-msa: bad.mp4: no stream [0] decodes\n"


def test_quiet_shows_no_progress(capsys):
    with progress.batch_progress(quiet=True) as tell:
        tell(at(60, 50))
        tell(at(120, 100))
    assert capsys.readouterr().err == ""
