"""What the user types becomes clips: each file once, nothing lost without a word."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from omni_msa.errors import ConfigError, ManifestError, MediaError
from omni_msa.files.sources import MEDIA_SUFFIXES, expand_inputs


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> None:
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def names_of(*arguments: str) -> list[str]:
    return [clip.name for clip in expand_inputs(arguments)[0]]


def test_named_files_are_taken_in_order_whatever_they_are(here):
    touch("b.mp4", "a.xyz", "noext")
    clips, notices = expand_inputs(["b.mp4", "a.xyz", "noext", "missing.mp4", "dir/gone.wav"])
    assert [c.name for c in clips] == ["b.mp4", "a.xyz", "noext", "missing.mp4", "dir/gone.wav"]
    assert clips[0].path == Path("b.mp4")
    assert notices == []


def test_a_folder_is_searched_sorted_without_hidden_ones(here):
    touch(
        "d/b.MP4", "d/a.wav", "d/sub/c.mkv", "d/.hidden.mp4", "d/.git/x.mp4", "d/b.txt", "d/b.srt"
    )
    clips, notices = expand_inputs(["d"])
    assert [clip.name for clip in clips] == ["d/a.wav", "d/b.MP4", "d/sub/c.mkv"]
    assert notices == []  # transcripts are no surprise


def test_the_current_folder(here):
    touch("a.mp4", "s/b.mp4")
    assert names_of(".") == ["a.mp4", "s/b.mp4"]


def test_other_files_are_counted_in_one_notice_a_folder(here):
    touch("d/a.mp4", "d/x.md", "d/s/y.md", "d/z.json", "e/a.mp4", "e/Makefile")
    assert expand_inputs(["d", "e"])[1] == [
        "3 other files in d skipped (.md, .json)",
        "1 other file in e skipped (no extension)",
    ]


@pytest.mark.parametrize(
    "suffix", ["mp4", "MOV", "ts", "3gp", "hevc", "wav", "Opus", "aiff", "gif"]
)
def test_media_is_known_by_its_extension(here, suffix):
    touch(f"d/a.{suffix}")
    assert names_of("d") == [f"d/a.{suffix}"]


def test_the_table_of_extensions_is_well_formed():
    assert all(s.startswith(".") and s == s.lower() and len(s) > 2 for s in MEDIA_SUFFIXES)
    assert not {".txt", ".srt", ".vtt", ".csv", ".jsonl", ".json", ".md", ".png"} & MEDIA_SUFFIXES


def test_a_folder_named_like_a_clip_is_a_folder(here):
    touch("x.mp4/a.wav", "d/y.mp4/b.wav")
    assert names_of("x.mp4", "d") == ["x.mp4/a.wav", "d/y.mp4/b.wav"]


def test_a_folder_without_media_says_what_to_do(here):
    touch("d/readme.md")
    with pytest.raises(ConfigError, match="d: no media files in this folder; name the files"):
        expand_inputs(["d"])


def test_loops_of_links_end_and_linked_folders_are_searched(here):
    touch("d/a.mp4", "outside/b.mp4")
    os.symlink("..", "d/up")
    os.symlink(".", "d/self")
    os.symlink("../outside", "d/link")
    # d/up leads to the folder above, and so to everything else, once
    paths = sorted({os.path.realpath(name) for name in names_of("d")})
    assert paths == [str(here / "d/a.mp4"), str(here / "outside/b.mp4")]
    assert len(names_of("d")) == 2
    assert len(names_of("d/**/*.mp4")) == 2


def test_a_broken_link_is_taken_and_a_pipe_is_not(here):
    touch("d/a.mp4")
    os.symlink("nowhere.mp4", "d/broken.mp4")
    os.mkfifo("d/pipe.mp4")
    clips, notices = expand_inputs(["d"])
    assert [clip.name for clip in clips] == ["d/a.mp4", "d/broken.mp4"]
    assert notices == ["1 other file in d skipped (.mp4)"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the super-user may list every folder")
def test_folders_that_may_not_be_listed(here):
    touch("d/a.mp4", "d/closed/b.mp4")
    os.chmod("d/closed", 0)
    try:
        clips, notices = expand_inputs(["d"])
        assert [clip.name for clip in clips] == ["d/a.mp4"]
        assert notices[0].startswith("d/closed: cannot be listed")
        with pytest.raises(MediaError, match="d/closed: cannot be listed"):
            expand_inputs(["d/closed"])
    finally:
        os.chmod("d/closed", 0o700)


def test_globs(here):
    touch("d/a.mp4", "d/b.wav", "d/s/c.mp4", "d/s/t/d.mp4", "d/.h/e.mp4", "d/note.md")
    assert names_of("d/*.mp4") == ["d/a.mp4"]
    assert names_of("d/**/*.mp4") == ["d/a.mp4", "d/s/c.mp4", "d/s/t/d.mp4"]
    assert names_of("**/[cd].mp4") == ["d/s/c.mp4", "d/s/t/d.mp4"]
    assert names_of(f"{here}/d/?.wav") == [f"{here}/d/b.wav"]
    assert names_of("d/s/**") == ["d/s/c.mp4", "d/s/t/d.mp4"]


def test_a_glob_without_extension_is_searched_like_a_folder(here):
    touch("d/a.mp4", "d/a.txt", "d/note.md", "d/s/c.mp4")
    clips, notices = expand_inputs(["d/*"])
    assert [clip.name for clip in clips] == ["d/a.mp4", "d/s/c.mp4"]
    assert notices == ["1 other file in d/* skipped (.md)"]


def test_a_glob_that_ends_in_an_extension_takes_what_it_names(here):
    touch("d/a.dat", "d/b.dat", "d/c.mp4")
    assert names_of("d/*.dat") == ["d/a.dat", "d/b.dat"]


@pytest.mark.parametrize("pattern", ["d/*.mkv", "gone/*.mp4", "d/**/*.mov", "[x].mp4", "empty/*"])
def test_a_glob_without_a_match_says_what_to_do(here, pattern):
    touch("d/a.mp4", "empty/note.md")
    with pytest.raises(ConfigError, match="no media file matches; check the pattern"):
        expand_inputs([pattern])


def test_a_file_whose_name_looks_like_a_glob_is_that_file(here):
    touch("a[1].mp4", "a1.mp4")
    assert names_of("a[1].mp4") == ["a[1].mp4"]


def test_a_manifest_gives_its_rows(here):
    Path("d").mkdir()
    rows = [{"clip": "a.mp4", "text": "hi", "label": 1}, {"text": "words alone"}]
    Path("d/m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    clips, _ = expand_inputs(["d/m.jsonl", "z.mp4"])
    assert [clip.name for clip in clips] == ["d/a.mp4", "d/m.jsonl:2", "z.mp4"]
    assert clips[0].transcript == "hi"
    with pytest.raises(ManifestError, match="cannot be read"):
        expand_inputs(["gone.csv"])


def test_the_same_file_is_taken_once(here):
    touch("d/a.mp4", "d/b.mp4")
    os.symlink("d", "e")
    clips, notices = expand_inputs(["d/a.mp4", "d", str(here / "d/b.mp4"), "./d/a.mp4", "e/a.mp4"])
    assert [clip.name for clip in clips] == ["d/a.mp4", "d/b.mp4"]
    assert notices == ["4 clips given more than once: taken once (d/a.mp4, ...)"]


def test_links_to_one_file_are_clips_of_their_own(here):
    touch("d/a.mp4")
    os.symlink("a.mp4", "d/same.mp4")
    os.symlink("d/a.mp4", "other.mp4")
    assert expand_inputs(["d", "other.mp4"])[1] == []
    assert names_of("d", "other.mp4", "d/same.mp4") == ["d/a.mp4", "d/same.mp4", "other.mp4"]


def test_a_row_of_a_manifest_is_preferred_to_the_bare_file(here):
    touch("d/a.mp4", "d/b.mp4")
    Path("m.jsonl").write_text(
        '{"clip": "d/a.mp4", "text": "hi"}\n{"clip": "d/b.mp4", "end_seconds": 2}\n'
    )
    clips, notices = expand_inputs(["d", "m.jsonl", "m.jsonl"])
    assert [(clip.name, clip.transcript) for clip in clips] == [
        ("d/b.mp4", None),
        ("d/a.mp4", "hi"),
        ("d/b.mp4[0.0-2.0]", None),
    ]
    assert notices == ["3 clips given more than once: taken once (d/a.mp4, ...)"]


def test_rows_of_the_same_clip_with_other_words_stay_apart(here):
    Path("m.csv").write_text("clip,text\na.mp4,good\na.mp4,bad\n")
    assert names_of("m.csv") == ["a.mp4", "a.mp4#2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to score"),
        ([""], "an input is empty"),
        (["a.mp4", " "], "an input is empty"),
        (["https://example.org/a.mp4?x=1"], "is a URL; download it"),
    ],
)
def test_arguments_that_name_nothing(here, arguments, message):
    with pytest.raises(ConfigError, match=message):
        expand_inputs(arguments)


def test_a_name_too_long_for_the_system_is_a_clip_that_will_fail(here):
    name = "a" * 5000 + ".mp4"
    assert names_of(name) == [name]


def test_columns_that_are_nearly_ours_are_named(here):
    (here / "m.csv").write_text("clip,start,end,speaker\na.mp4,0,4,ann\n")
    clips, notices = expand_inputs(["m.csv"])
    assert clips[0].start_seconds is None and clips[0].extra["start"] == "0"
    assert notices == [
        "m.csv: copied into the rows, and not read: start (did you mean start_seconds?), "
        "end (did you mean end_seconds?)"
    ]
