"""What is in several splits is found by its speaker, its file, its bytes and its window."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from omni_msa.__main__ import main
from omni_msa.files import leaks as leaks_module
from omni_msa.files.leaks import BEGINNING_BYTES, leaks, shared_clips
from omni_msa.values import Clip


def clip(path: Path, split: str | None, start=None, end=None, **changes) -> Clip:
    return Clip(path=path, split=split, start_seconds=start, end_seconds=end, **changes)


def file(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def names(pairs) -> list[tuple[str, ...]]:
    return [tuple(f"{Path(c.name).name} {c.split}" for c in pair) for pair in pairs]


def test_speakers_files_and_clips_in_two_splits_are_said(tmp_path):
    def named(name, speaker, split, **window):
        return clip(tmp_path / name, split, speaker=speaker, **window)

    clean = [named("a", "Ann", "train", end=2.0), named("b", "Bob", "test"), named("c", "", "test")]
    assert leaks(clean) == []
    later = [named("a", "Ann", "test", start=2.0), named("a", "Cid", None)]
    [speakers, files] = leaks([*clean, *later])
    assert speakers.startswith("1 of 2 speakers are in more than one split, such as Ann (test, tr")
    assert files.startswith("1 of 3 files are in more than one split")
    [line] = leaks([*clean, named("a", "", "test", start=1.0)])
    assert line.startswith("1 clip is in more than one split, in whole or in part: ")
    assert "a[0.0-2.0] (train) = " in line and "a[1.0-end] (test); leave them out" in line


def test_a_copy_is_found_by_its_bytes(tmp_path):
    first, copy = file(tmp_path, "a.mp4", b"clip"), file(tmp_path, "b.mp4", b"clip")
    other = file(tmp_path, "c.mp4", b"film")
    clips = [clip(first, "train"), clip(other, "test"), clip(copy, "test")]
    assert names(shared_clips(clips)) == [("a.mp4 train", "b.mp4 test")]
    gone = [clip(tmp_path / "gone.mp4", split) for split in ("train", "valid")]
    assert names(shared_clips(gone)) == [("gone.mp4 train", "gone.mp4 valid")]
    assert shared_clips([clip(tmp_path / "x", "train"), clip(tmp_path / "y", "test")]) == []


def test_windows_of_a_copy_are_of_the_same_file(tmp_path):
    first, copy = file(tmp_path, "a.mp4", b"clip"), file(tmp_path, "b.mp4", b"clip")
    clips = [clip(first, "train", 0, 2), clip(copy, "test", 2, 4), clip(tmp_path / "c", "test")]
    [line] = leaks(clips)
    assert line.startswith("2 of 3 files are in more than one split, such as")


def test_the_same_words_alone_are_the_same_clip():
    clips = [Clip(transcript=t, split=s, id=s) for t, s in (("so good", "train"), ("no", "valid"))]
    again = Clip(transcript=" so  good\n", split="test", id="m.jsonl:3")
    assert names(shared_clips([*clips, again])) == [("train train", "m.jsonl:3 test")]


@pytest.mark.parametrize(
    ("windows", "number"),
    [
        ([("train", 0, 2), ("test", 2, 4)], 0),
        ([("train", 0, 2), ("test", 1.9, 4)], 1),
        ([("test", 1, 2), ("train", None, None)], 1),
        ([("train", 0, 9), ("train", 1, 2), ("test", 5, 6)], 1),
        ([("train", 0, 2), ("test", 0, 2), ("valid", 0, 2), ("train", 4, 6), ("test", 5, 7)], 3),
        ([("train", None, None), *(("test", k, k + 1) for k in range(10))], 10),
        ([(("train", "test")[k % 2], k, k + 1.5) for k in range(9)], 8),
        ([("train", 0, 2), ("train", 1, 3), ("test", 3, 5), ("test", 4, None)], 0),
    ],
)
def test_windows_are_the_same_where_they_overlap(tmp_path, windows, number):
    path, copy = file(tmp_path, "a", b"x"), file(tmp_path, "b", b"x")
    clips = [clip(copy if s == "test" else path, s, start, end) for s, start, end in windows]
    assert len(shared_clips(clips)) == len(shared_clips(clips[::-1])) == number


def test_three_are_named_and_the_others_counted(tmp_path):
    clips = [clip(tmp_path / str(k), split) for k in range(5) for split in ("train", "test")]
    [line] = leaks(clips)
    assert line.startswith("5 clips are in more than one split") and line.count(" = ") == 3
    assert "and 2 more" in line


def test_only_files_that_may_be_alike_are_read(tmp_path, monkeypatch):
    opened: list[str] = []

    def reading(function):
        def read(path):
            opened.append(path.name)
            return function(path)

        return read

    for name in ("_beginning", "content_sha256"):
        monkeypatch.setattr(leaks_module, name, reading(getattr(leaks_module, name)))
    start = b"-" * BEGINNING_BYTES
    contents = {"a": b"1", "b": b"22", "c": b"33", "d": b"44", "e": start + b"1", "f": start + b"2"}
    paths = {name: file(tmp_path, name, content) for name, content in contents.items()}
    splits = {"a": "train", "b": "train", "c": "train", "d": "test", "e": "train", "f": "test"}
    clips = [clip(paths[name], split) for name, split in splits.items()]
    assert shared_clips([*clips, clip(paths["a"], "train")]) == []
    assert sorted(opened) == ["b", "c", "d", "e", "e", "f", "f"]


@pytest.mark.parametrize(
    ("splits", "command"),
    [
        (("train", "valid"), "train"),
        (("train", "test"), "evaluate"),
        ((None, "test"), "calibrate"),
    ],
)
def test_the_commands_say_it_before_they_load_anything(tmp_path, capsys, splits, command):
    for name in ("a.wav", "b.wav"):
        file(tmp_path, name, b"the same")
    rows = [
        {"clip": name, "label": 0, "split": split}
        for name, split in zip(("a.wav", "b.wav"), splits, strict=True)
    ]
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = [] if command == "evaluate" else ["-o", str(tmp_path / "out")]
    nowhere = ["--model", "./nowhere"]
    assert main([command, str(path), *output, *nowhere]) in (2, 4)
    told = capsys.readouterr().err
    assert "1 clip is in more than one split" in told
    assert f"a.wav ({splits[0] or 'train'}) = {tmp_path / 'b.wav'} ({splits[1]})" in told
