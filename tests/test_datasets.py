"""Importers: small releases in each layout, with real clips, read back as a manifest."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import av
import pytest
from media_files import tone, write_media

from omni_msa.errors import ConfigError, ManifestError
from omni_msa.files.importers import DATASETS, dataset_by_name, import_dataset, write_manifest
from omni_msa.files.manifest import MAX_PROBLEMS_SHOWN, read_manifest

MMSA = "video_id clip_id text label label_T label_A label_V annotation mode".split()
MELD = (
    "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,"
    "StartTime,EndTime"
).split(",")


def clip(path: Path, num_frames: int = 4) -> Path:
    """A tiny clip; another number of frames makes another file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_media(path, num_frames=num_frames)


def table(path: Path, header: list[str], rows: list[list], encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding=encoding, newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def mmsa_row(video, clip_id, label=1.0, mode="train", text="well, yes", alone=("", "", "")) -> list:
    return [video, clip_id, text, label, *alone, "Positive", mode]


def mmsa_release(folder: Path, rows: list[list], encoding: str = "utf-8") -> Path:
    """`label.csv` with these rows, and a clip for each; no two clips are alike."""
    table(folder / "label.csv", MMSA, rows, encoding)
    for number, (video, clip_id, *_) in enumerate(rows):
        clip(folder / "Raw" / str(video) / f"{clip_id}.mp4", num_frames=4 + number)
    return folder


def three_splits() -> list[list]:
    return [mmsa_row("a", "1"), mmsa_row("b", "1", -3, "valid"), mmsa_row("c", "1", 0, "test")]


def meld_row(dialogue, utterance, words="Hey!", speaker="Joey", emotion="joy", mood="positive"):
    times = ["0:00:00,000", "0:00:01,000"]
    return [1, words, speaker, emotion, mood, dialogue, utterance, 1, 1, *times]


def meld_release(folder: Path, parts: dict[str, list[list]], nested: bool = False) -> Path:
    """MELD with these rows of "train", "dev", "test", and a clip for each."""
    clip_folders = {
        "train": "train_splits",
        "dev": "dev_splits_complete",
        "test": "output_repeated_splits_test",
    }
    for part, rows in parts.items():
        place = folder / part if nested else folder
        table(place / f"{part}_sent_emo.csv", MELD, rows)
        for row in rows:
            clip(place / clip_folders[part] / f"dia{row[5]}_utt{row[6]}.mp4", 4 + len(part))
    return folder


def iemocap_session(folder: Path, number: int, verdicts: list[tuple]) -> None:
    """One dialogue; a verdict is (who and count, emotion, valence, words or None)."""
    session, dialog = folder / f"Session{number}", f"Ses0{number}F_impro01"
    lines, words = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""], []
    for name, emotion, valence, said in verdicts:
        utterance = f"{dialog}_{name}"
        lines += [f"[6.2901 - 8.2357]\t{utterance}\t{emotion}\t[{valence}, 2.5000, 2.5000]"]
        lines += ["C-E2:\tNeutral;\t()", "A-E3:\tval 3; act 2; dom  2;\t()", ""]
        words += [f"{utterance} [006.2901-008.2357]: {said}"] if said else []
        wav = session / "sentences" / "wav" / dialog / f"{utterance}.wav"
        wav.parent.mkdir(parents=True, exist_ok=True)
        sound = tone(0.05 + 0.01 * number)
        write_media(wav, num_frames=0, sound=sound, audio_codec="pcm_s16le")
    for kind, content in (("EmoEvaluation", lines), ("transcriptions", words)):
        file = session / "dialog" / kind / f"{dialog}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes("\r\n".join(content).encode("cp1252"))


def imported(name: str, folder: Path, **options):
    """The clips as the manifest gives them, and the report."""
    manifest = folder / "manifest.jsonl"
    report = import_dataset(name, folder, manifest, **options)
    return read_manifest(manifest), report


def notice(report, part: str) -> str:
    (found,) = [line for line in report.notices if part in line]
    return found


# --- layouts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mosi", "mosei"])
def test_mosi_and_mosei(tmp_path, name):
    clips, report = imported(name, mmsa_release(tmp_path, three_splits()))
    assert [c.path for c in clips] == [tmp_path / f"Raw/{video}/1.mp4" for video in "abc"]
    assert [(c.label, c.split, c.speaker) for c in clips] == [
        (1.0, "train", "a"),
        (-3.0, "valid", "b"),
        (0.0, "test", "c"),
    ]
    assert {(c.transcript, c.dataset, c.emotion) for c in clips} == {("well, yes", name, None)}
    assert report.split_sizes == {"train": 1, "valid": 1, "test": 1}


@pytest.mark.parametrize("name", ["sims", "simsv2"])
def test_ch_sims_has_labels_of_each_modality_and_no_speakers(tmp_path, name):
    rows = [mmsa_row("v", "0001", -0.6, text="不好", alone=(-0.2, 0.4, ""))]
    ((only,), _) = imported(name, mmsa_release(tmp_path, rows))
    assert (only.label, only.subset_labels) == (-0.6, {"T": -0.2, "A": 0.4})
    assert (only.transcript, only.speaker) == ("不好", None)


@pytest.mark.parametrize("mode", ["valid", "val", "dev", "Valid"])
def test_every_name_of_the_validation_split(tmp_path, mode):
    (only,) = imported("mosi", mmsa_release(tmp_path, [mmsa_row("a", "1", mode=mode)]))[0]
    assert only.split == "valid"


def test_clip_numbers_that_lost_their_zeros_still_find_their_file(tmp_path):
    rows = [mmsa_row("v", "1"), mmsa_row("v", "12"), mmsa_row("v", "2")]
    mmsa_release(tmp_path, [mmsa_row("v", "0001"), mmsa_row("v", "0012"), mmsa_row("v", "2")])
    clip(tmp_path / "Raw" / "v" / "0002.mp4", num_frames=9)  # the exact name goes first
    table(tmp_path / "label.csv", MMSA, rows)
    clips, _ = imported("mosi", tmp_path)
    assert [c.path.name for c in clips] == ["0001.mp4", "0012.mp4", "2.mp4"]


def test_two_files_of_one_number_are_not_guessed_among(tmp_path):
    mmsa_release(tmp_path, [mmsa_row("v", "01"), mmsa_row("v", "001"), mmsa_row("w", "1")])
    table(tmp_path / "label.csv", MMSA, [mmsa_row("v", "1"), mmsa_row("w", "1")])
    clips, report = imported("mosi", tmp_path)
    assert [c.speaker for c in clips] == ["w"]
    assert "1 files are missing" in notice(report, "Raw/v/1.mp4")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_chinese_label_files_in_any_encoding(tmp_path, encoding):
    rows = [mmsa_row("v", "1", text="我很喜欢", alone=(1, 1, 1))]
    clips, report = imported("sims", mmsa_release(tmp_path, rows, encoding))
    assert clips[0].transcript == "我很喜欢"
    said = [line for line in report.notices if "read as gb18030" in line]
    assert len(said) == (encoding == "gb18030")


@pytest.mark.parametrize("nested", [False, True])
def test_meld(tmp_path, nested):
    parts = {
        "train": [meld_row(0, 0), meld_row(0, 1, emotion="anger", mood="negative")],
        "dev": [meld_row(0, 0, speaker="Ross", emotion="Neutral", mood="Neutral")],
        "test": [meld_row(0, 0, emotion="surprise")],
    }
    clips, report = imported("meld", meld_release(tmp_path, parts, nested))
    assert [(c.label, c.emotion, c.split) for c in clips] == [
        (1.0, "joy", "train"),
        (-1.0, "anger", "train"),
        (0.0, "neutral", "valid"),
        (1.0, "surprise", "test"),
    ]
    assert [c.path.name for c in clips[1:3]] == ["dia0_utt1.mp4", "dia0_utt0.mp4"]
    assert all(c.path.is_file() and c.dataset == "meld" for c in clips)
    assert [c.speaker for c in clips] == ["Joey", "Joey", "Ross", "Joey"]


def test_meld_quotes_in_windows_1252_and_twice_encoded(tmp_path):
    rows = [meld_row(0, 0, words="He’s lost it…")]
    meld_release(tmp_path, {"train": rows, "dev": rows})
    table(tmp_path / "train_sent_emo.csv", MELD, rows, encoding="cp1252")
    table(tmp_path / "dev_sent_emo.csv", MELD, [meld_row(0, 0, words="He\x92s lost it\x85")])
    clips, report = imported("meld", tmp_path)
    assert [c.transcript for c in clips] == ["He’s lost it…"] * 2
    assert notice(report, "read as cp1252").startswith("train_sent_emo.csv")
    assert notice(report, "restored in 1 rows").startswith("dev_sent_emo.csv")


def test_meld_without_a_split(tmp_path):
    meld_release(tmp_path, {"train": [meld_row(0, 0)]})
    table(tmp_path / "dev_sent_emo.csv", MELD, [meld_row(0, 0)])
    clips, report = imported("meld", tmp_path)
    assert report.split_sizes == {"train": 1}
    assert notice(report, "split dev is left out").endswith("dev_splits_complete/ not found")
    assert "test_sent_emo.csv and output_repeated_splits_test/" in notice(report, "split test")


def test_iemocap(tmp_path):
    iemocap_session(tmp_path, 1, [("F000", "neu", "2.5000", "Excuse me."), ("M000", "xxx", 3, "A")])
    iemocap_session(tmp_path, 4, [("M001", "exc", "4.5000", "It’s on!"), ("M002", "sur", 3, "B")])
    iemocap_session(tmp_path, 5, [("F002", "ang", "1", None), ("F003", "hap", "5.5", "Ha.")])
    clips, report = imported("iemocap", tmp_path)
    assert [(c.label, c.emotion, c.split, c.speaker) for c in clips] == [
        (-0.25, "neutral", "train", "Ses01_F"),
        (0.75, "excited", "valid", "Ses04_M"),
        (-1.0, "angry", "test", "Ses05_F"),
        (1.0, "happy", "test", "Ses05_F"),
    ]
    assert [c.transcript for c in clips] == ["Excuse me.", "It’s on!", None, "Ha."]
    assert clips[0].path.name == "Ses01F_impro01_F000.wav"
    assert notice(report, "other emotions").startswith("2 utterances")
    assert notice(report, "other emotions").endswith("sur 1, xxx 1")
    assert notice(report, "outside [1, 5]").startswith("1 valences")
    assert notice(report, "no words").startswith("1 utterances")
    assert notice(report, "read as cp1252").startswith("1 files like this: Ses04F_impro01.txt")
    assert "session 5 is test" in notice(report, "no official split")
    assert notice(report, "not found") == "not found, left out: Session2, Session3"


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
    assert [c.speaker for c in clips] == ["a", "c"]
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
    expected = "1 files occur in several splits: a/1 (train) = d/1 (test) = e/1 (train)"
    assert notice(report, "several splits") == expected


def test_speakers_in_several_splits_are_counted(tmp_path):
    rows = [*three_splits(), mmsa_row("a", "2", mode="test")]
    _, report = imported("mosi", mmsa_release(tmp_path, rows))
    line = notice(report, "speakers")
    assert line == "1 of 3 speakers occur in more than one split, for example a in test, train"


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
    assert report.notices == DATASETS["mosi"].facts.remarks


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
    with pytest.raises(ConfigError, match="mosi, mosei, sims, simsv2, meld, iemocap"):
        import_dataset("imdb", tmp_path, tmp_path / "m.jsonl")


# --- the table and the manifest --------------------------------------------------------------


def test_facts():
    families = [dataset.facts.family for dataset in DATASETS.values()]
    assert families == ["mosi", "mosi", "sims", "sims", "emotion", "emotion"]
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
