"""No group is in two parts, the same seed gives the same parts, and what leaks is said."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from dataclasses import replace

import pytest

from omni_msa.__main__ import main
from omni_msa.errors import ConfigError, ManifestError
from omni_msa.files.leaks import leaks
from omni_msa.files.manifest import read_manifest
from omni_msa.files.record import Record
from omni_msa.files.results import open_results
from omni_msa.files.splits import SplitOptions, split_manifest
from omni_msa.values import Clip


@pytest.fixture
def manifest(tmp_path):
    """200 rows by 25 speakers, some of whom say much more than others, in a user's own columns."""
    path = tmp_path / "my.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["File", "Transcript", "rating", "person", "interview", "mood"])
        for i in range(200):
            person = f"Ö{i * i % 625 % 25}"
            writer.writerow([f"clips/{i}.mp4", f"words {i}", i % 7 - 3, person, i // 20, "x, y"])
    return path


COLUMNS = {"clip": "file", "text": "transcript", "label": "rating", "speaker": "Person"}


def parts_of(path, column="speaker"):
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    parts = defaultdict(set)
    for row in rows:
        parts[row[column]].add(row["split"])
    return rows, parts


@pytest.mark.parametrize("seed", range(5))
def test_no_speaker_is_in_two_parts_and_sizes_are_near_their_shares(manifest, tmp_path, seed):
    out = tmp_path / "out.jsonl"
    [file] = split_manifest(manifest, out, SplitOptions(seed=seed), COLUMNS)
    rows, parts = parts_of(out)
    assert len(rows) == 200 == sum(file.rows.values())
    assert all(len(splits) == 1 for splits in parts.values())
    assert file.groups == {
        name: sum(splits == {name} for splits in parts.values()) for name in file.rows
    }
    largest = max(sum(row["speaker"] == name for row in rows) for name in parts)
    for name, share in zip(("train", "valid", "test"), (0.7, 0.1, 0.2), strict=True):
        assert abs(file.rows[name] - 200 * share) <= 2 * largest and file.rows[name] > 0
    assert not leaks(read_manifest(out))


def test_the_seed_decides_and_nothing_is_lost(manifest, tmp_path):
    splits = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        out = tmp_path / f"{name}.jsonl"
        split_manifest(manifest, out, SplitOptions(seed=seed), COLUMNS)
        splits.append([row["split"] for row in parts_of(out)[0]])
    assert splits[0] == splits[1] != splits[2]
    row = parts_of(out)[0][3]
    assert row == row | {"clip": "clips/3.mp4", "text": "words 3", "label": "0", "mood": "x, y"}


def test_paths_still_lead_to_the_files(manifest, tmp_path):
    (tmp_path / "deep").mkdir()
    split_manifest(manifest, tmp_path / "deep" / "out.jsonl", SplitOptions(), COLUMNS)
    clips = read_manifest(tmp_path / "deep" / "out.jsonl")
    assert clips[5].path.resolve() == (tmp_path / "clips" / "5.mp4").resolve()


def test_every_group_is_tested_in_one_fold(manifest, tmp_path):
    out = tmp_path / "fold.jsonl"
    files = split_manifest(manifest, out, SplitOptions("Interview", folds=5), COLUMNS)
    assert [f.path.name for f in files] == [f"fold-{k}.jsonl" for k in range(1, 6)]
    tested = []
    for file in files:
        _, parts = parts_of(file.path, "interview")
        assert all(len(splits) == 1 for splits in parts.values())
        assert all(file.groups[name] > 0 for name in ("train", "valid", "test"))
        tested += [group for group, splits in parts.items() if splits == {"test"}]
    assert sorted(tested) == sorted(map(str, range(10)))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--by", "town"], "has no column 'town' to split by; it has: text, label"),
        (["--folds", "26"], "3 groups cannot fill 26 parts"),
        (["--folds", "2"], "--folds must be 3 or more"),
        (["--folds", "5", "--parts", "1,1,1"], "choose one"),
        (["--parts", "1,1"], "three positive numbers"),
        (["--parts", "a,b,c"], "give numbers"),
        (["--label-column", "rate"], "has no column 'rate'; it has: label, speaker, text"),
        (["--column", "town=x"], "ours are clip"),
        (["--column", "label=text", "--column", "speaker=text"], "cannot be two of ours"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, capsys, arguments, words):
    path = tmp_path / "m.jsonl"
    rows = [{"text": "x", "label": 0, "speaker": i % 3} for i in range(9)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["data", "split", str(path), "-o", str(tmp_path / "o.jsonl"), *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "o.jsonl").exists()


def test_the_manifest_itself_is_not_replaced(manifest, tmp_path):
    for name in ("out.csv", "my.csv"):
        with pytest.raises(ConfigError, match="another .jsonl file"):
            split_manifest(manifest, tmp_path / name, SplitOptions(), COLUMNS)


def test_a_column_that_is_mapped_replaces_ours(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("text,label,Rating\nfine,9,1.5\n")
    [clip] = read_manifest(path, columns={"label": "rating"})
    assert clip.label == 1.5 and read_manifest(path)[0].label == 9
    path.write_text("words,label\nfine,1\n")
    assert read_manifest(path, columns={"text": "words"})[0].transcript == "fine"
    with pytest.raises(ManifestError, match="has no column 'rating'; it has: label, words"):
        read_manifest(path, columns={"text": "words", "label": "rating"})


def test_the_command_prints_the_parts_and_what_still_leaks(manifest, tmp_path, capsys):
    columns = [f"--column={ours}={name}" for ours, name in COLUMNS.items() if ours != "label"]
    out = tmp_path / "out.jsonl"
    arguments = ["data", "split", str(manifest), "-o", str(out), *columns]
    asked = [*arguments, "--label-column", "rating", "--by", "interview"]
    assert main(asked) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{out}: 140 train (groups: 7), 20 valid (groups: 1), 40 test")
    assert "speakers are in more than one split" in printed.err
    assert main([*asked, "--json", "-q"]) == 0
    [file] = json.loads(capsys.readouterr().out)
    assert file["rows"] == {"train": 140, "valid": 20, "test": 40}


@pytest.mark.parametrize("name", ["r.jsonl", "r.csv"])
def test_a_results_file_is_split_as_the_manifest_that_it_came_from(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    model = {"base": "tiny", "fingerprint": "f"}
    clips = [
        Clip(tmp_path / f"{k}.wav", transcript=f"w {k}", label=k, extra={"speaker": f"s{k % 3}"})
        for k in range(6)
    ]
    with open_results(tmp_path / name, "f") as results:
        for clip in clips:
            results.write(replace(Record.of(clip, "s", 0.5, model=model), text=clip.transcript))
    [file] = split_manifest(tmp_path / name, tmp_path / "out.jsonl", SplitOptions())
    again = read_manifest(file.path)
    assert file.groups == {"train": 1, "valid": 1, "test": 1}
    assert [(c.path, c.transcript, c.label) for c in again] == [
        (c.path, c.transcript, c.label) for c in clips
    ]
    assert {(c.speaker, c.split) for c in again} == {(c.speaker, c.split) for c in again[:3]}


def test_no_fold_replaces_the_manifest(tmp_path):
    path = tmp_path / "my-2.jsonl"
    path.write_text("".join(json.dumps({"text": "x", "speaker": k}) + "\n" for k in range(9)))
    with pytest.raises(ConfigError, match=r"it writes my-1.jsonl to my-3.jsonl"):
        split_manifest(path, tmp_path / "my.jsonl", SplitOptions(folds=3))
    assert [p.name for p in tmp_path.iterdir()] == ["my-2.jsonl"]


def test_paths_lead_to_the_files_from_behind_a_link(tmp_path):
    deep = tmp_path / "deep" / "er"
    deep.mkdir(parents=True)
    (tmp_path / "link").symlink_to(deep)
    path = tmp_path / "m.jsonl"
    rows = [{"clip": f"{k}.wav", "speaker": k} for k in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for row in rows:
        (tmp_path / row["clip"]).touch()
    split_manifest(path, tmp_path / "link" / "s.jsonl", SplitOptions())
    for folder in (tmp_path / "link", deep):
        assert all(clip.path.exists() for clip in read_manifest(folder / "s.jsonl"))
