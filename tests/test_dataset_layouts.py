"""Every data set is read from its own layout."""

from __future__ import annotations

import pytest
from releases import (
    MELD,
    MMSA,
    clip,
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

# --- layouts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mosi", "mosei"])
def test_mosi_and_mosei(tmp_path, name):
    clips, report = imported(name, mmsa_release(tmp_path, three_splits()))
    assert [c.path for c in clips] == [tmp_path / f"Raw/{video}/1.mp4" for video in "abc"]
    assert [(c.label, c.split, c.extra["video"]) for c in clips] == [
        (1.0, "train", "a"),
        (-3.0, "valid", "b"),
        (0.0, "test", "c"),
    ]
    assert {(c.transcript, c.dataset, c.emotion) for c in clips} == {("well, yes", name, None)}
    assert report.split_sizes == {"train": 1, "valid": 1, "test": 1}
    assert {c.speaker for c in clips} == {None}
    assert notice(report, "speakers: not known")
    assert any("cut at wrong times" in line for line in report.notices) == (name == "mosei")


def test_the_authors_own_layout_is_refused_with_what_is_needed(tmp_path):
    (tmp_path / "Raw" / "Video" / "Segmented").mkdir(parents=True)
    with pytest.raises(ManifestError, match="the layout of MMSA is needed: label.csv and"):
        imported("mosi", tmp_path)


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
    assert [c.extra["video"] for c in clips] == ["w"]
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
        (0.0, None, "train", "Ses01_M"),
        (0.75, "excited", "valid", "Ses04_M"),
        (0.0, None, "valid", "Ses04_M"),
        (-1.0, "angry", "test", "Ses05_F"),
        (1.0, "happy", "test", "Ses05_F"),
    ]
    assert [c.transcript for c in clips] == ["Excuse me.", "A", "It’s on!", "B", None, "Ha."]
    assert clips[0].path.name == "Ses01F_impro01_F000.wav"
    assert notice(report, "other emotions").startswith("2 utterances of other emotions have their")
    assert notice(report, "other emotions").endswith("sur 1, xxx 1")
    assert notice(report, "outside [1, 5]").startswith("1 valences")
    assert notice(report, "no words").startswith("1 utterances")
    assert notice(report, "read as cp1252").startswith("1 files like this: Ses04F_impro01.txt")
    assert "session 5 is test" in notice(report, "no official split")
    assert notice(report, "not found") == "not found, left out: Session2, Session3"


def test_iemocap_in_four_classes(tmp_path):
    verdicts = [
        ("F000", "exc", "4.0", "Yes!"),
        ("F001", "hap", 4, "Ha."),
        ("F002", "fru", 2, "No."),
    ]
    iemocap_session(tmp_path, 1, [*verdicts, ("F003", "xxx", 3, "Hm."), ("F004", "sad", 1, "Oh.")])
    clips, report = imported("iemocap", tmp_path, variant="four-classes")
    assert [c.emotion for c in clips] == ["happy", "happy", "sad"]
    assert notice(report, "other emotions").endswith("are left out: fru 1, xxx 1")


def test_a_variant_that_a_data_set_lacks(tmp_path):
    with pytest.raises(ConfigError, match="plain-names"):
        imported("meld", tmp_path, variant="four-classes")


@pytest.mark.parametrize("variant", [None, "plain-names"])
def test_meld_clips_that_were_replaced(tmp_path, variant):
    meld_release(tmp_path, {"train": [meld_row(0, 0)], "test": [meld_row(1, 2), meld_row(1, 3)]})
    (folder,) = tmp_path.rglob("output_repeated_splits_test")
    clip(folder / "final_videos_testdia1_utt2.mp4")
    clips, report = imported("meld", tmp_path, variant=variant)
    name = "dia1_utt2.mp4" if variant else "final_videos_testdia1_utt2.mp4"
    assert [c.path.name for c in clips[1:]] == [name, "dia1_utt3.mp4"]
    counts = [line for line in report.notices if "are taken from final_videos_test" in line]
    assert [line[:15] for line in counts] == ([] if variant else ["1 clips of test"])
