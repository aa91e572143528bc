"""What a terminal shows: cards, lines, JSON and progress, from records made by hand."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from random import Random

import pytest
from rich.console import Console

from omni_msa.display import card, lines, output, progress, rounding
from omni_msa.files.record import Ablation, Record
from omni_msa.scoring.batch import BatchProgress

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
    assert by_name["audio"].split()[-1] == "-1.70"  # what it adds, signed as its contribution
    assert by_name["video"].split()[1:] == ["none"]
    assert "+0.10 with nothing shown +0.40 text -1.70 audio = -1.20" in text
    assert "warning: sound was cut at 300 s" in text
    assert max(map(len, text.splitlines())) <= 80


def test_card_without_ablation_has_no_empty_columns():
    plain = Record("a.wav", "ab", 0.5, (-1.0, 1.0), {"text": None, "audio": "track 0"})
    text = shown(card.card(plain))
    assert "score +0.50" in text and "contribution" not in text and "adds" not in text


def test_card_shows_modalities_dropped_together():
    ablation = Ablation({"": 0.1}, {"text+audio": {"score": 0.1, "delta": 1.3}})
    text = shown(card.card(Record("a.mp4", "ab", -1.2, ablation=ablation)))
    assert ["text+audio", "+0.10", "-1.30"] in [line.split() for line in text.splitlines()]


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


def test_the_card_explains_itself_in_two_lines():
    text = shown(card.card(SARCASTIC))
    last = [row.strip() for row in text.splitlines()][-3:-1]  # before the warning
    assert last == [
        "0 is neutral, + pulls to positive; a full bar is 3; more: omni-msa explain",
        "contribution: its share of the score; adds: the score minus the one without it",
    ]
    plain = replace(SARCASTIC, ablation=Ablation({}, {"text": {"score": -1.6, "delta": -0.4}}))
    text = shown(card.card(plain))
    assert "contribution" not in text and "bar" not in text


def test_the_explanation_names_the_scale_that_the_score_has():
    stars = shown(card.card(replace(SARCASTIC, score=4.2, range=(1.0, 5.0))))
    assert "3 is neutral" in stars and "a full bar is 2" in stars
    emotion = shown(card.card(replace(SARCASTIC, score=4.0, range=(0.0, 6.0), emotion="joy")))
    assert "the score is the number of the emotion" in emotion and "neutral" not in emotion


def test_bars_are_of_the_label_range_and_not_of_the_largest_contribution():
    weak = Ablation({"": 0.0, "T": -0.06}, {}, {"text": -0.06})
    strong = Ablation({"": 0.0, "T": -2.09}, {}, {"text": -2.09})
    cells = [
        shown(card.card(replace(SARCASTIC, score=a.subsets["T"], ablation=a))).count("█")
        for a in (weak, strong)
    ]
    assert cells == [0, 6]


@pytest.mark.parametrize("seed", range(200))
def test_what_the_card_prints_adds_up(seed):
    random = Random(seed)
    parts = [random.uniform(-2, 2) for _ in range(4)]
    contribution = dict(zip(("text", "audio", "video"), parts[1:], strict=True))
    without = random.uniform(-3, 3)
    drop = {"text": {"score": without, "delta": without - sum(parts)}}
    record = Record("a", "ab", sum(parts), ablation=Ablation({"": parts[0]}, drop, contribution))
    numbers = rounding.rounded(record)
    shares = [numbers.baseline, *numbers.contribution.values()]
    printed = [Decimal(output.signed(share)) for share in shares]
    assert sum(printed) == Decimal(output.signed(sum(parts)))
    assert all(
        abs(p - Decimal(part)) < Decimal("0.01") for p, part in zip(printed, parts, strict=True)
    )
    added, alone = output.signed(numbers.adds["text"]), output.signed(numbers.without["text"])
    assert Decimal(added) + Decimal(alone) == Decimal(output.signed(record.score))


def test_parts_that_are_no_sum_are_rounded_to_the_nearest():
    assert rounding.rounded_parts([0.104, 0.206], 2.0) == [0.1, 0.21]
    assert output.signed(-0.001) == "+0.00"


def test_the_card_of_ablate_has_a_line_a_subset():
    scores = {"": 0.0, "T": 1.0, "A": -1.0, "V": 2.0, "TA": 0.5, "TV": 2.5, "AV": -2.5, "TAV": -3.0}
    record = replace(SARCASTIC, score=-3.0, ablation=Ablation(scores))
    text = shown(card.card(record, subsets=True))
    rows = [row.split("  ") for row in text.splitlines()]
    names = [[c for c in row if c][:2] for row in rows]
    for name, score in (("nothing", "+0.00"), ("text + audio", "+0.50"), ("audio + video", "-2.50"),
                        ("text + audio + video", "-3.00")):  # fmt: skip
        assert [name, f"{score}"] in [[c.strip() for c in row] for row in names]
    assert "only these shown" not in shown(card.card(record))


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("subsets", [False, True])
def test_nothing_is_cut_or_wrapped_at_80_and_120_columns(width, subsets):
    scores = dict.fromkeys(("", "T", "A", "V", "TA", "TV", "AV", "TAV"), -2.25)
    changes = dict.fromkeys(("text", "audio", "video"), {"score": -2.25, "delta": 0.0})
    shares = dict.fromkeys(changes, -0.75)
    whole = replace(
        SARCASTIC,
        clip="recordings/2024/interviews/session one/participant_017_take_2.mp4",
        modalities={
            "text": "sidecar participant_017_take_2.de.srt",
            "audio": "track 1",
            "video": "track 0",
        },
        ablation=Ablation(scores, changes, shares),
    )
    other = replace(whole, clip="recordings/2024/interviews/session one/p_18.mp4")
    for part in (card.card(whole, subsets), lines.lines([whole, other], subsets)):
        rows = shown(part, width).splitlines()
        assert "…" not in "".join(rows) and max(map(len, rows)) <= width
        whole_rows = shown(part, 1000).splitlines()
        if subsets and width == 80:  # beside eight scores a long name may take two lines
            assert len(rows) <= len(whole_rows) + 1
        else:
            assert rows == whole_rows


def test_a_folders_table_has_a_heading_the_range_and_a_summary():
    records = [
        replace(SARCASTIC, clip=f"clips/day 1/{name}.mp4", score=score)
        for name, score in (("a", -1.0), ("b", 2.0), ("c", 0.5))
    ]
    rows = shown(lines.lines(records)).splitlines()
    assert rows[0] == "3 clips in clips/day 1/"
    assert rows[1] == "scores from -3 (negative) to +3 (positive)"
    assert rows[2].startswith("text, audio: what each contributed")
    assert rows[4].split() == ["clip", "score", "text", "audio"]
    assert rows[5].split()[:2] == ["a.mp4", "-1.00"]
    assert rows[-3:] == [
        "mean +0.50, spread 1.50 (standard deviation)",
        "most positive +2.00 b.mp4",
        "most negative -1.00 a.mp4",
    ]


def test_lines_hold_scored_and_failed_clips_and_no_error_that_was_shown_before():
    text = shown(lines.lines([SARCASTIC, BROKEN]))
    rows = [line.split() for line in text.splitlines()]
    assert rows[4] == ["clip", "score", "text", "audio"]
    assert rows[5][-3:] == ["-1.20", "+0.40", "-1.70"]
    assert rows[6] == ["bad.mp4", "failed"]
    assert "no stream" not in text and rows[-1][:4] == ["1", "could", "not", "be"]


def test_lines_of_emotions_count_them():
    joy = replace(SARCASTIC, emotion="joy", score=3.0, range=(0.0, 6.0))
    text = shown(lines.lines([joy, joy, replace(joy, emotion="anger", score=0.0)]))
    assert text.splitlines()[-1] == "joy 2, anger 1" and "mean" not in text
    assert text.splitlines()[4].split()[:3] == ["clip", "score", "emotion"]


def test_lines_show_scores_without_what_was_dropped():
    dropped = replace(SARCASTIC, ablation=Ablation({}, {"audio": {"score": 0.5, "delta": 1.7}}))
    rows = [line.split() for line in shown(lines.lines([dropped, dropped])).splitlines()]
    assert rows[2][:5] == ["no", "audio:", "the", "score", "without;"]
    assert rows[4] == ["clip", "score", "no", "audio"] and rows[5][-1] == "+0.50"


@pytest.mark.parametrize(
    ("paths", "folder"),
    [
        (["a/b/1.mp4", "a/b/2.mp4"], "a/b/"),
        (["a/b/1.mp4", "a/c/2.mp4"], "a/"),
        (["a/b/1.mp4", "a/bc/2.mp4"], "a/"),
        (["1.mp4", "a/2.mp4"], ""),
        (["/x/1.mp4", "/y/2.mp4"], ""),
        (["/x/1.mp4", "y/2.mp4"], ""),
        (["a//b/1.mp4", "a//b/2.mp4"], ""),
        ([], ""),
    ],
)
def test_the_common_folder_of_a_batch(paths, folder):
    assert lines.common_folder(paths) == folder


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


def test_what_is_left_goes_by_the_rate_since_the_first_row():
    """Loading took 60 s of these."""
    told = [BatchProgress(100, 0, n, 0, 60 + n, None, 61.0) for n in (1, 3, 11, 100)]
    assert [now.seconds_left for now in told] == [None, None, 89.0, 0.0]


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
