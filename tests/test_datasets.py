"""Importers: small releases in each layout, with real clips, read back as a manifest."""

from __future__ import annotations

import json
from pathlib import Path

import av
import pytest
from media_files import tone, write_media
from releases import (
    MMSA,
    iemocap_session,
    imported,
    meld_release,
    meld_row,
    mmsa_release,
    mmsa_row,
    notice,
    table,
    three_splits,
)

from omni_msa.errors import ConfigError, ManifestError
from omni_msa.files.importers import DATASETS, dataset_by_name, import_dataset, write_manifest
from omni_msa.files.manifest import MAX_PROBLEMS_SHOWN, read_manifest

# --- what is left out, and what is said ------------------------------------------------------


def test_missing_and_damaged_clips_are_left_out_and_said_together(tmp_path):
    rows = [mmsa_row("a", str(number)) for number in range(5)]
    mmsa_release(tmp_path, rows)
    (tmp_path / "Raw/a/0.mp4").unlink()
    (tmp_path / "Raw/a/1.mp4").unlink()
    (tmp_path / "Raw/a/2.mp4").write_bytes(b"no film at all" * 100)
    (tmp_path / "Raw/a/3.mp4").write_bytes(b"")
    clips, report = imported("mosi", tmp_path)
    assert [c.path.name for c in clips] == ["4.mp4"]
    assert "2 files are missing" in notice(report, "Raw/a/0.mp4")
    assert "Raw/a/1.mp4" in notice(report, "Raw/a/0.mp4")
    assert notice(report, "Raw/a/2.mp4").startswith("unreadable, left out")
    assert "empty (0 bytes)" in notice(report, "Raw/a/3.mp4")


def test_a_clip_of_words_alone_has_neither_picture_nor_sound(tmp_path):
    mmsa_release(tmp_path, [mmsa_row("a", "1"), mmsa_row("a", "2")])
    words = write_media(tmp_path / "words.mkv", num_frames=0, subtitle=[(0, 1, "hello")])
    words.replace(tmp_path / "Raw/a/2.mp4")
    clips, report = imported("mosi", tmp_path)
    assert len(clips) == 1
    assert "neither picture nor sound" in notice(report, "Raw/a/2.mp4")


def test_long_lists_of_bad_clips_are_cut_and_counted(tmp_path):
    rows = [mmsa_row("a", str(n)) for n in range(2 * MAX_PROBLEMS_SHOWN + 5)]
    mmsa_release(tmp_path, rows[:1])
    table(tmp_path / "label.csv", MMSA, rows)
    for row in rows[1 : MAX_PROBLEMS_SHOWN + 3]:
        (tmp_path / "Raw" / "a" / f"{row[1]}.mp4").write_bytes(b"")
    _, report = imported("mosi", tmp_path)
    shown = [line for line in report.notices if line.startswith("unreadable")]
    assert len(shown) == MAX_PROBLEMS_SHOWN + 1
    assert shown[-1] == "unreadable, left out: 2 more"
    assert notice(report, "files are missing").endswith("and 2 more")


def test_without_opening_only_missing_files_are_found(tmp_path):
    mmsa_release(tmp_path, three_splits())
    (tmp_path / "Raw/a/1.mp4").write_bytes(b"no film")
    (tmp_path / "Raw/b/1.mp4").unlink()
    clips, report = imported("mosi", tmp_path, check_media=False)
    assert [c.extra["video"] for c in clips] == ["a", "c"]
    assert "not opened" in notice(report, "not opened")


def test_known_bad_clips_are_left_out_even_when_they_open(tmp_path):
    parts = {"train": [meld_row(125, 3), meld_row(125, 4)], "dev": [meld_row(110, 7)]}
    parts["test"] = [meld_row(125, 3), meld_row(38, 4), meld_row(220, 0)]
    meld_release(tmp_path, parts)
    (tmp_path / "dev_splits_complete" / "dia110_utt7.mp4").unlink()
    clips, report = imported("meld", tmp_path)
    kept = [(c.split, c.path.stem) for c in clips]
    assert kept == [("train", "dia125_utt4"), ("test", "dia125_utt3")]
    assert "corrupt" in notice(report, "train/dia125_utt3 is left out")
    assert "never released" in notice(report, "dev/dia110_utt7 is left out")
    assert "4 minutes" in notice(report, "test/dia220_utt0 is left out")
    assert not [line for line in report.notices if "missing" in line]


def test_odd_and_long_clips_are_kept_and_named(tmp_path):
    mmsa_release(tmp_path, [mmsa_row("a", "1"), mmsa_row("a", "2")])
    write_media(tmp_path / "Raw/a/1.mp4", num_frames=2, times_seconds=[0, 70])
    blind(write_media(tmp_path / "Raw/a/2.mp4", num_frames=8, sound=tone(1.0)))
    clips, report = imported("mosi", tmp_path)
    assert len(clips) == 2
    assert "kept: a/1 (" in notice(report, "1 clips last over 60 s")
    odd = notice(report, "1 clips are not as they should be")
    assert "kept: a/2 (scored without video: no frame of track 0" in odd


def blind(path: Path) -> Path:
    """The same file with nothing but zeros where its pictures were."""
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for start, size in places:
        data[start : start + size] = bytes(size)
    path.write_bytes(data)
    return path


def test_the_same_file_in_two_splits_is_named(tmp_path):
    rows = [*three_splits(), mmsa_row("d", "1", mode="test"), mmsa_row("e", "1")]
    mmsa_release(tmp_path, rows)
    data = (tmp_path / "Raw/a/1.mp4").read_bytes()
    (tmp_path / "Raw/d/1.mp4").write_bytes(data)
    (tmp_path / "Raw/e/1.mp4").write_bytes(data)
    other = data[:-1] + bytes([data[-1] ^ 1])  # of equal size, but not the same
    (tmp_path / "Raw/b/1.mp4").write_bytes(other)
    clips, report = imported("mosi", tmp_path)
    assert len(clips) == 5
    expected = "1 clip is in more than one split, in whole or in part: a/1 (train) = d/1 (test); "
    assert notice(report, "more than one split, in whole").startswith(expected)


def test_speakers_in_several_splits_are_counted(tmp_path):
    parts = {
        "train": [meld_row(0, 0), meld_row(0, 1, speaker="Ross")],
        "dev": [meld_row(0, 0, speaker="Monica")],
        "test": [meld_row(0, 0)],
    }
    _, report = imported("meld", meld_release(tmp_path, parts))
    line = notice(report, "speakers")
    assert line == "1 of 3 speakers occur in more than one split, for example Joey in test, train"


def test_split_sizes_are_compared_with_the_published_ones(tmp_path):
    _, report = imported("mosi", mmsa_release(tmp_path, three_splits()[:2]))
    line = notice(report, "split sizes")
    assert line.endswith(
        "train 1 (published: 1284), valid 1 (published: 229), test 0 (published: 686)"
    )


def test_what_is_as_it_should_be_needs_no_remark(tmp_path, monkeypatch):
    rows = [*three_splits(), mmsa_row("d", "1")]
    mmsa_release(tmp_path, rows)
    (tmp_path / "Raw/d/1.mp4").write_bytes((tmp_path / "Raw/a/1.mp4").read_bytes())  # both train
    for split, size in (("train", 2), ("valid", 1), ("test", 1)):
        monkeypatch.setitem(DATASETS["mosi"].facts.split_sizes, split, size)
    _, report = imported("mosi", tmp_path)
    *remarks, speakers = report.notices
    assert tuple(remarks) == DATASETS["mosi"].facts.remarks and "not known" in speakers


def test_progress_is_told_of_each_clip(tmp_path):
    seen = []
    mmsa_release(tmp_path, three_splits())
    imported("mosi", tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


# --- errors ----------------------------------------------------------------------------------


def problems_of(name: str, folder: Path) -> str:
    with pytest.raises(ManifestError) as caught:
        imported(name, folder)
    assert not (folder / "manifest.jsonl").exists()
    return str(caught.value)


def test_all_bad_rows_are_reported_at_once(tmp_path):
    rows = [
        mmsa_row("a", "1"),
        mmsa_row("a", "2", label=""),
        mmsa_row("a", "3", mode="trian"),
        mmsa_row("a", "4", label="good"),
        mmsa_row("a", "5", label=3.5),
        mmsa_row("a", "6", mode=""),
        mmsa_row("a", "7")[:-1],
        mmsa_row("", "8", label="nan"),
    ]
    table(tmp_path / "label.csv", MMSA, rows)
    (tmp_path / "Raw").mkdir()
    head, *lines = problems_of("mosi", tmp_path).split("\n  ")
    assert head == f"{tmp_path}: 8 problem(s), nothing was imported"
    assert sorted(lines) == [
        "label.csv, line 3, label: is empty",
        "label.csv, line 4, mode: 'trian' is not one of train, valid, val, dev, test",
        "label.csv, line 5, label: 'good' is not a finite number",
        "label.csv, line 6, label: 3.5 lies outside [-3, 3]: another data set?",
        "label.csv, line 7, mode: is empty",
        "label.csv, line 8: has 8 cells where the header has 9",
        "label.csv, line 9, label: 'nan' is not a finite number",
        "label.csv, line 9, video_id: is empty",
    ]


def test_bad_rows_of_all_label_files_of_meld(tmp_path):
    parts = {"train": [meld_row(0, 0, mood="")], "dev": [meld_row(0, 0, emotion="rage")]}
    message = problems_of("meld", meld_release(tmp_path, parts))
    assert "train_sent_emo.csv, line 2, Sentiment: is empty" in message
    assert "dev_sent_emo.csv, line 2, Emotion: 'rage' is not one of neutral, surprise" in message


def test_verdicts_that_cannot_be_read(tmp_path):
    iemocap_session(tmp_path, 1, [("F000", "neu", "high", "A"), ("X000", "neu", "3", "B")])
    message = problems_of("iemocap", tmp_path)
    assert "2 problem(s)" in message
    assert "Ses01F_impro01.txt line 3: reads '[6.2901 - 8.2357]" in message


@pytest.mark.parametrize(
    ("name", "looked_for"),
    [
        ("mosi", "label.csv or meta.csv (not found), Raw/ (not found)"),
        ("meld", "train_sent_emo.csv (not found), train_splits/ (not found), dev_sent_emo.csv"),
        ("iemocap", "Session1/dialog/EmoEvaluation/ (not found)"),
    ],
)
@pytest.mark.parametrize("folder", [".", "nowhere"])
def test_another_layout(tmp_path, name, looked_for, folder):
    message = problems_of(name, tmp_path / folder)
    assert looked_for in message
    assert DATASETS[name].facts.title in message


def test_when_nothing_is_left(tmp_path):
    mmsa_release(tmp_path, three_splits())
    for video in "abc":
        (tmp_path / "Raw" / video / "1.mp4").unlink()
    message = problems_of("mosei", tmp_path)
    assert "no clip is left to import" in message
    assert "3 files are missing" in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"video_id,clip_id,text\n", "lacks the column label, mode"),
        (b"video_id,clip_id,text,label,mode\n", "holds no rows"),
        (b"video_id,clip_id,text,label,mode\na,1,\xff,1,test\n", "is not UTF-8"),
        (b"video_id,clip_id,text,label,mode\na,1," + b"x" * 200_000 + b",1,test\n", "is no CSV"),
    ],
)
def test_label_files_that_are_none(tmp_path, content, message):
    (tmp_path / "Raw").mkdir()
    (tmp_path / "label.csv").write_bytes(content)
    assert message in problems_of("mosi", tmp_path)


def test_label_files_in_no_known_encoding(tmp_path):
    (tmp_path / "Raw").mkdir()
    header = ",".join(MMSA).encode()
    (tmp_path / "label.csv").write_bytes(header + b"\nv,1,\xff\xff,1,,,,,test\n")
    assert "neither UTF-8 nor gb18030" in problems_of("sims", tmp_path)


def test_an_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(
        ConfigError, match="mosi, mosei, sims, simsv2, meld, iemocap, ptb-xl, cpsc2018"
    ):
        import_dataset("imdb", tmp_path, tmp_path / "m.jsonl")


# --- the table and the manifest --------------------------------------------------------------


def test_facts():
    families = [dataset.facts.family for dataset in DATASETS.values()]
    assert families == ["mosi", "mosi", "sims", "sims", "meld", "emotion", "findings", "findings"]
    assert sum(dataset_by_name("mosi").facts.split_sizes.values()) == 2199
    assert len(dataset_by_name("meld").facts.classes) == 7
    assert dataset_by_name("sims").facts.label_range == (-1.0, 1.0)
    assert all(name == dataset.facts.name for name, dataset in DATASETS.items())


def test_clips_are_relative_to_a_manifest_elsewhere(tmp_path, monkeypatch):
    release = mmsa_release(tmp_path / "data" / "mosi", three_splits())
    monkeypatch.chdir(tmp_path)
    manifest = Path("lists/new/m.jsonl")
    report = import_dataset("mosi", release.relative_to(tmp_path), manifest)
    assert report.rows[0]["clip"] == "../../data/mosi/Raw/a/1.mp4"
    assert all(c.path.is_file() for c in read_manifest(manifest))


def test_clips_are_found_from_a_manifest_behind_a_link(tmp_path):
    release = mmsa_release(tmp_path / "data", three_splits())
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "lists").symlink_to(tmp_path / "far" / "away")
    import_dataset("mosi", release, tmp_path / "lists" / "m.jsonl")
    assert all(c.path.is_file() for c in read_manifest(tmp_path / "lists" / "m.jsonl"))


def test_a_manifest_is_replaced_in_one_step(tmp_path):
    path = tmp_path / "m.jsonl"
    write_manifest(path, [{"clip": "old.mp4"}])
    with pytest.raises(TypeError):
        write_manifest(path, [{"clip": "new.mp4"}, {"clip": object()}])
    assert path.read_text() == '{"clip": "old.mp4"}\n'
    write_manifest(path, [{"clip": "ö.mp4"}])
    assert json.loads(path.read_text(encoding="utf-8")) == {"clip": "ö.mp4"}


@pytest.mark.parametrize("name", ["m.csv", "m", "folder.jsonl"])
def test_manifests_that_cannot_be_written(tmp_path, name):
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(ManifestError, match="JSONL|cannot be written"):
        write_manifest(tmp_path / name, [{"clip": "a.mp4"}])
