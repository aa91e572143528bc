"""Scoring from the command line: which clips, what their rows say, and what a rerun does."""

from __future__ import annotations

import json
import os

import pytest
from sounds import write_wav
from test_cli import folder, model, run  # noqa: F401  (fixtures)

from omni_msa.files.result_formats import read_records
from omni_msa.values import Clip


def rows_of(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_row_of_a_window_names_it_and_the_file_is_scored_again(run, scorer, tmp_path):  # noqa: F811
    write_wav(tmp_path / "a.wav", seconds=3.0)
    manifest, output = tmp_path / "m.csv", tmp_path / "out.jsonl"
    manifest.write_text(
        "clip,start_seconds,end_seconds,text,label,speaker\n"
        "a.wav,0,1,good,1.5,ann\na.wav,1,2.5,,,\na.wav,,,bad,,\n"
    )
    assert run("score", manifest, "-o", output, "--no-ablate")[0] == 0
    first, second, whole = rows_of(output)
    assert first["clip"] == f"{tmp_path}/a.wav[0.0-1.0]" and first["path"] == f"{tmp_path}/a.wav"
    assert (second["start_seconds"], second["end_seconds"]) == (1.0, 2.5)
    assert whole["start_seconds"] is whole["end_seconds"] is None
    assert [row["media"]["duration_seconds"] for row in (first, second, whole)] == [1.0, 1.5, 3.0]
    assert len({row["sha256"] for row in (first, second, whole)}) == 3
    assert [row["text"] for row in (first, second, whole)] == ["good", None, "bad"]
    assert first["extra"] == {"speaker": "ann"} and second["extra"] == {}
    python = scorer.score(Clip(tmp_path / "a.wav", start_seconds=1, end_seconds=2.5))
    assert (python.clip, python.sha256) == (second["clip"], second["sha256"])
    code, _, err = run("score", output, "-o", tmp_path / "again.csv", "--no-ablate")
    assert code == 0, err
    for before, after in zip(
        read_records(output), read_records(tmp_path / "again.csv"), strict=True
    ):
        for name in ("clip", "start_seconds", "end_seconds", "text", "label", "extra", "sha256"):
            assert getattr(before, name) == getattr(after, name), name
        assert after.score == pytest.approx(before.score, abs=1e-5)
        assert after.model["readout"] and after.model["checkpoint"] and after.model["base"]


def test_a_batch_ends_with_its_warnings_by_kind(run, tmp_path):  # noqa: F811
    for name in ("a", "b", "c"):
        write_wav(tmp_path / f"{name}.wav", seconds=1.0)
    (tmp_path / "a.txt").write_text("good")
    (tmp_path / "b.txt").write_text("")
    output = tmp_path / "out.csv"
    _, _, err = run("score", tmp_path, "-o", output, "--no-ablate")
    ending = "2 clips have warnings: no words (1), transcript without words (1)"
    assert err.rstrip().endswith(ending)
    assert ending in run("score", tmp_path, "--no-ablate")[2]
    kinds = [record.warning_kinds for record in read_records(output)]
    assert kinds == [set(), {"transcript without words"}, {"no words"}]
    assert "warnings" not in run("score", tmp_path / "c.wav", "--no-ablate", "-q")[2]


def test_rows_of_clips_that_are_gone_are_said_and_pruned(run, folder, tmp_path):  # noqa: F811
    output = tmp_path / "out.csv"
    assert run("score", folder, "-o", output, "--no-ablate")[0] == 3
    (folder / "c.wav").unlink()  # the one that failed
    os.rename(folder / "a.wav", folder / "z.wav")
    code, _, err = run("score", folder, "-o", output, "--no-ablate")
    assert code == 0 and "failed in all" not in err
    assert "2 rows of clips that are not among the inputs; --prune removes them" in err
    assert len(read_records(output)) == 4
    code, _, err = run("score", folder, "-o", output, "--no-ablate", "--prune")
    assert code == 0 and "2 rows of clips that are not among the inputs removed" in err
    names = [record.clip for record in read_records(output)]
    assert names == [str(folder / name) for name in ("b.wav", "z.wav")]
    _, _, err = run("score", folder, "-o", output, "--no-ablate", "--prune")
    assert "not among" not in err


def test_a_typing_error_in_the_output_makes_no_folders(run, folder, tmp_path):  # noqa: F811
    code, out, err = run("score", folder, "-o", tmp_path / "nwe" / "deep" / "out.csv")
    assert (code, out) == (2, "") and err.count("\n") == 1 and "there is no folder" in err
    assert not (tmp_path / "nwe").exists()


def test_rows_of_one_split_and_no_words(run, tmp_path):  # noqa: F811
    manifest = tmp_path / "m.csv"
    manifest.write_text("text,split\nso good,dev\nso bad,train\n")
    code, out, _ = run("score", manifest, "--split", "valid", "--json", "-q")
    (row,) = json.loads(out)
    assert (code, row["text"], row["extra"]) == (0, "so good", {"split": "dev"})
    output = tmp_path / "out.jsonl"
    arguments = ("--split", "Dev", "--no-words", "--json", "-q", "-o", output)
    code, out, _ = run("score", manifest, *arguments)
    assert code == 0 and json.loads(out)[0]["text"] is rows_of(output)[0]["text"] is None
    assert "so good" not in output.read_text() + out
    code, _, err = run("score", manifest, "--split", "tset")
    assert code == 2 and "--split tset: no clip is of it; choose one of: train, valid" in err


def test_words_given_over_those_of_a_manifest_are_said(run, tmp_path):  # noqa: F811
    manifest = tmp_path / "m.csv"
    manifest.write_text("text\nso good\n")
    _, _, err = run("score", manifest, "--transcript", "so bad")
    assert "--transcript used; the manifest's text differs" in err
