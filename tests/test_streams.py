"""Paths from stdin, rows to stdout, logs by the standard library, and how a program is ended."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
import time

import pytest
from sounds import write_wav

from omni_msa.__main__ import TERMINATED, main
from omni_msa.options import AblationOptions
from omni_msa.scoring.batch import run_batch
from omni_msa.values import Clip


@pytest.fixture
def model(base_folder, checkpoint_folder) -> list[str]:
    return ["--model", str(base_folder), "--checkpoint", str(checkpoint_folder)]


@pytest.fixture
def listed(tmp_path, monkeypatch) -> list[str]:
    """Three names on stdin, the second of which is of no file."""
    paths = [str(write_wav(tmp_path / "a.wav")), str(tmp_path / "no.wav"),
             str(write_wav(tmp_path / "b c.wav", seed=1))]  # fmt: skip
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(["", *paths]) + "\r\n"))
    return paths


def test_paths_from_stdin_and_rows_to_stdout(listed, model, capsys):
    assert main(["score", "-", "-o", "-", *model]) == 3
    captured = capsys.readouterr()
    rows = [json.loads(line) for line in captured.out.splitlines()]
    assert sorted(row["clip"] for row in rows) == sorted(listed)
    codes = {row["clip"]: row["error"] and row["error"]["code"] for row in rows}
    assert codes == {listed[0]: None, listed[1]: "missing", listed[2]: None}
    assert "stdout: 2 scored, 1 failed" in captured.err


def test_rows_are_written_when_they_are_known(listed, model, monkeypatch, capsys):
    from omni_msa.scoring.scorer import Scorer

    lines = []
    real = Scorer.score_prepared

    def spy(self, prepared, *rest):
        lines.append(capsys.readouterr().out.count("\n"))
        return real(self, prepared, *rest)

    monkeypatch.setattr(Scorer, "score_prepared", spy)
    main(["score", "-", "-o", "-", "-q", "--batch-size", "1", *model])
    assert len(lines) == 2 and sum(lines) >= 1  # before the last pass, a row was out


def test_one_clip_to_stdout_is_one_line(tmp_path, model, capsys):
    assert main(["score", str(write_wav(tmp_path / "a.wav")), "-o", "-", "-q", *model]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1 and json.loads(captured.out)["error"] is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-", "-"], "give it once"),
        (["a.wav", "-o", "-", "--json"], "both write to stdout"),
        (["a.wav", "-o", "-", "--fresh"], "add -o FILE"),
    ],
)
def test_streams_that_cannot_be(arguments, words, listed, capsys):
    assert main(["score", *arguments]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.slow
def test_a_reader_that_leaves_ends_the_program(tmp_path, model):
    write_wav(tmp_path / "a.wav")
    program = subprocess.Popen(
        [sys.executable, "-m", "omni_msa", "score", str(tmp_path), "-o", "-", "-q", *model],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    program.stdout.close()
    assert program.stderr.read() == "" and program.wait(60) == 0


def test_batches_and_failures_are_logged(scorer, tmp_path, caplog):
    clips = [Clip(write_wav(tmp_path / "a.wav")), Clip(tmp_path / "no.wav")]
    with caplog.at_level(logging.INFO, logger="omni_msa"):
        run_batch(clips, scorer, ablation=AblationOptions(enabled=False))
    texts = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert texts[0] == ("INFO", "batch of 2 clips: 2 to score, 0 done")
    assert texts[-1][1].startswith("batch: 1 scored, 1 failed in ")
    ((level, message),) = [text for text in texts if text[0] == "WARNING"]
    assert message.startswith(f"clip failed (missing): {tmp_path / 'no.wav'}: ")
    handlers = logging.getLogger("omni_msa").handlers
    assert any(isinstance(handler, logging.NullHandler) for handler in handlers)


@pytest.mark.parametrize("ignored", [False, True])
def test_sigterm_ends_what_runs_as_ctrl_c_does(monkeypatch, ignored):
    def running(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("it went on")

    before = signal.getsignal(signal.SIGTERM)
    if ignored:
        interrupts = signal.signal(signal.SIGINT, signal.SIG_IGN)
    monkeypatch.setattr("omni_msa.commands.score.gather_inputs", running)
    try:
        assert main(["score", "a.wav"]) == TERMINATED == 143
    finally:
        if ignored:
            signal.signal(signal.SIGINT, interrupts)
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_interrupt_in_a_destructor_is_not_lost(monkeypatch):
    class Closing:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)  # the signal's handler runs here, and what it raises is swallowed

    def running(*_: object) -> None:
        Closing()
        time.sleep(30)
        raise AssertionError("it went on")

    monkeypatch.setattr("omni_msa.commands.score.gather_inputs", running)
    assert main(["score", "a.wav"]) == TERMINATED


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("arguments", [["--json"], ["-o", "-"], []])
def test_a_full_stdout_is_one_line(arguments, tmp_path, model, monkeypatch, capsys):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        code = main(["score", "--transcript", "Good.", "-q", *arguments, *model])
    err = capsys.readouterr().err
    assert (code, err) == (2, "omni-msa: stdout cannot be written (No space left on device)\n")


@pytest.mark.parametrize("name", ["stdin", "stderr"])
def test_streams_may_be_closed(name, model, monkeypatch, capsys):
    monkeypatch.setattr(sys, name, None)
    assert main(["score", "--transcript", "Good.", "-q", *model]) == 0
    if name == "stdin":
        assert main(["score", "-"]) == 2 and "a path at least" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--json"], ["-o", "-"], []])
def test_results_for_a_closed_stdout_are_an_error(arguments, model, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["score", "--transcript", "Good.", "-q", *arguments, *model]) == 2
    assert capsys.readouterr().err == "omni-msa: stdout cannot be written (it is closed)\n"
