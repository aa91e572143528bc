"""Words beside a clip and on the command line: every format, encoding and kind of damage."""

from __future__ import annotations

import os
import time
import unicodedata
from pathlib import Path

import pytest

from omni_msa.errors import TranscriptError
from omni_msa.foreign import MAX_TEXT_BYTES
from omni_msa.media.transcripts import (
    clean_words,
    cues_to_text,
    option_transcript,
    parse_subtitles,
    read_transcript_file,
    sidecar_paths,
    sidecar_transcript,
)
from omni_msa.values import Cue, Transcript

SRT = """1
00:00:01,000 --> 00:00:02,500
{\\an8}<i>I love</i> it

2
00:00:03,000 --> 00:00:04,000
Tom &amp; Jerry
said so
"""

VTT = """WEBVTT - a title
Kind: captions

STYLE
::cue { color: red }

NOTE
nobody sees this

intro
00:01.000 --> 00:02.500 align:start position:0%
<v Bob>So <c.loud>good</c>

01:00:03.000 --> 01:00:04.000
the end
"""


def beside(media_path: Path, *window: float) -> Transcript:
    transcript = sidecar_transcript(media_path, *window)
    assert transcript is not None
    return transcript


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# --- parsing ---------------------------------------------------------------------------------


def test_srt_gives_times_and_clean_words():
    cues = parse_subtitles(SRT)
    assert [(c.start_seconds, c.end_seconds) for c in cues] == [(1.0, 2.5), (3.0, 4.0)]
    assert cues_to_text(cues) == "I love it Tom & Jerry said so"


def test_vtt_leaves_out_notes_styles_names_and_voices():
    cues = parse_subtitles(VTT)
    assert [(c.start_seconds, c.end_seconds) for c in cues] == [(1.0, 2.5), (3603.0, 3604.0)]
    assert cues_to_text(cues) == "So good the end"


def test_vtt_whose_header_runs_into_the_first_subtitle():
    assert cues_to_text(parse_subtitles("WEBVTT\n00:01.000 --> 00:02.000\nhello\n")) == "hello"


def test_srt_without_empty_lines_between_the_blocks():
    text = "1\n00:00:01,000 --> 00:00:02,000\none\n2\n00:00:03,000 --> 00:00:04,000\ntwo\n"
    assert cues_to_text(parse_subtitles(text)) == "one two"


def test_subtitles_out_of_order_are_read_in_order_of_time():
    text = "1\n00:00:05,000 --> 00:00:06,000\nlast\n\n2\n00:00:01,000 --> 00:00:02,000\nfirst\n"
    assert cues_to_text(parse_subtitles(text)) == "first last"


def test_line_ends_of_every_system_read_alike():
    expected = parse_subtitles(SRT)
    assert parse_subtitles(SRT.replace("\n", "\r\n")) == expected
    assert parse_subtitles(SRT.replace("\n", "\r")) == expected


def test_a_very_long_file_of_empty_lines_is_read_in_linear_time(tmp_path):
    start = time.monotonic()
    assert read_transcript_file(write(tmp_path / "a.txt", "\n" * 1_900_000 + "word")).text == "word"
    assert time.monotonic() - start < 20


# --- words -----------------------------------------------------------------------------------


def test_rolling_captions_count_once():
    automatic = (
        "WEBVTT\n\n"
        "00:00.000 --> 00:02.000\n \nhello<00:00:00.400><c> there</c>\n\n"
        "00:02.000 --> 00:02.010\nhello there\n \n\n"
        "00:02.010 --> 00:04.000\nhello there\nhow<00:00:02.400><c> are</c><c> you</c>\n\n"
        "00:04.000 --> 00:04.010\nhow are you\n \n"
    )
    assert cues_to_text(parse_subtitles(automatic)) == "hello there how are you"


def test_words_said_again_after_a_pause_are_kept():
    assert cues_to_text([Cue(0, 1, "No."), Cue(2, 3, "No.")]) == "No. No."


def test_a_window_keeps_the_subtitles_shown_in_it():
    cues = [Cue(0, 2, "a"), Cue(2, 4, "b"), Cue(4, 6, "c")]
    assert cues_to_text(cues, 2, 4) == "b"
    assert cues_to_text(cues, 2, None) == "b c"
    assert cues_to_text(cues, None, 2) == "a"
    assert cues_to_text(cues, 1.9, 4.1) == "b"  # the neighbours share a tenth of a second only
    assert cues_to_text(cues, 2.5, 3.0) == "b"  # a window inside one subtitle
    assert cues_to_text(cues, 6, 9) == ""


def test_clean_words():
    assert clean_words(" a\t\x07b\n\n \x01 c\xa0d\ufeff ") == "a b c d"
    assert clean_words("e\u0301") == "\u00e9"  # composed
    assert clean_words("می\u200cخواهم") == "می\u200cخواهم"  # the joiner is spelling


@pytest.mark.parametrize("text", ["1 < 2 and 3 > 2", "I <3 you", "{smiles} well"])
def test_brackets_that_are_no_markup_stay(text):
    assert cues_to_text([Cue(0, 1, text)]) == text


# --- files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["a.txt", "a.srt"])
def test_encodings_with_a_mark_and_utf8_read_without_warning(tmp_path, encoding, name):
    words = "Größe 很好"
    text = words if name == "a.txt" else f"1\n00:00:01,000 --> 00:00:02,000\n{words}\n"
    transcript = read_transcript_file(write(tmp_path / name, text.encode(encoding)))
    assert (transcript.text, transcript.warnings) == (words, ())


def test_another_encoding_is_guessed_and_said(tmp_path):
    transcript = read_transcript_file(write(tmp_path / "a.txt", "Größe “ja”".encode("cp1252")))
    assert transcript.text == "Größe “ja”"
    assert "cp1252" in transcript.warnings[0]


@pytest.mark.parametrize(
    "data", [b"a\x00b", b"\xff\xd8\xff\xe0\x00\x10", b"\x81\x8d", b"\xff\xfea"]
)
def test_what_is_no_text_is_an_error_naming_the_file(tmp_path, data):
    with pytest.raises(TranscriptError, match=r"a\.txt: is no text"):
        read_transcript_file(write(tmp_path / "a.txt", data))


def test_a_file_too_large_to_be_a_transcript(tmp_path):
    with pytest.raises(TranscriptError, match="larger than 2 MB"):
        read_transcript_file(write(tmp_path / "a.txt", b"a" * (MAX_TEXT_BYTES + 1)))


@pytest.mark.parametrize("name", ["missing.txt", "folder.txt"])
def test_a_file_that_cannot_be_opened(tmp_path, name):
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(TranscriptError, match=f"{name}: cannot be read"):
        read_transcript_file(tmp_path / name)


def test_a_damaged_srt_gives_what_can_be_read_and_says_so(tmp_path):
    damaged = "1\n00:00:xx --> 00:00:02,000\nlost\n\n" + SRT + "\n3\nno time\n"
    transcript = read_transcript_file(write(tmp_path / "a.srt", damaged))
    assert transcript.text == "I love it Tom & Jerry said so"
    assert transcript.warnings == ("damaged subtitles: 2 left out of a.srt, the first at line 1",)


def test_an_srt_without_subtitles_is_an_error_with_file_line_and_shape(tmp_path):
    with pytest.raises(TranscriptError, match=r"a\.srt: line 3 .*00:00:01,000 --> ") as caught:
        read_transcript_file(write(tmp_path / "a.srt", "\n\njust words\n"))
    assert "\n" not in str(caught.value)


def test_subtitles_saved_as_txt_are_still_subtitles(tmp_path):
    text = SRT.replace("\n", "\r\n")
    assert read_transcript_file(write(tmp_path / "a.txt", text)).text.startswith("I love it Tom")


def test_vtt_saved_as_srt(tmp_path):
    assert read_transcript_file(write(tmp_path / "a.srt", VTT)).text == "So good the end"


@pytest.mark.parametrize("name", ["a.txt", "a.srt", "a.vtt"])
@pytest.mark.parametrize("content", ["", " \n\t\n", "\ufeff"])
def test_an_empty_file_means_no_words(tmp_path, name, content):
    transcript = read_transcript_file(write(tmp_path / name, content))
    assert (transcript.text, transcript.warnings) == ("", ())


def test_windows_of_files(tmp_path):
    srt = write(tmp_path / "a.srt", SRT)
    assert read_transcript_file(srt, 2.9, 4.0).text == "Tom & Jerry said so"
    outside = read_transcript_file(srt, 10.0, 12.0)
    assert (outside.text, outside.warnings) == ("", ())
    plain = read_transcript_file(write(tmp_path / "b.txt", "all of it"), 1.0, 2.0)
    assert plain.text == "all of it"
    assert "without times" in plain.warnings[0]


# --- beside the clip -------------------------------------------------------------------------


def test_no_transcript_beside_the_clip(tmp_path):
    write(tmp_path / "other.txt", "x")
    write(tmp_path / "clip2.txt", "x")
    assert sidecar_transcript(tmp_path / "clip.mp4") is None
    assert sidecar_transcript(tmp_path / "no folder" / "clip.mp4") is None


@pytest.mark.parametrize(
    "name", ["clip.txt", "clip.TXT", "clip.Srt", "clip.vtt", "clip.mp4.txt", "clip.en.srt"]
)
def test_every_name_of_a_transcript_is_found(tmp_path, name):
    words = "hello" if name.lower().endswith("txt") else "00:00:01.000 --> 00:00:02.000\nhello"
    write(tmp_path / name, words)
    transcript = beside(tmp_path / "clip.mp4")
    assert (transcript.text, transcript.source) == ("hello", f"sidecar {name}")
    assert transcript.warnings == ()


def test_of_several_the_first_in_order_is_used_and_the_others_are_named(tmp_path):
    write(tmp_path / "clip.vtt", VTT)
    write(tmp_path / "clip.srt", SRT)
    write(tmp_path / "clip.de.srt", SRT)
    transcript = beside(tmp_path / "clip.mp4")
    assert transcript.source == "sidecar clip.srt"
    assert transcript.warnings == ("several transcripts: clip.srt used, not clip.vtt, clip.de.srt",)


@pytest.mark.parametrize(("clip", "file"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_are_matched_in_whatever_unicode_form_they_are(tmp_path, clip, file):
    media, words = (unicodedata.normalize(form, "Grüße é") for form in (clip, file))
    for ending in (".txt", ".mp4.srt", ".de.vtt"):
        (tmp_path / f"{words}{ending}").write_text("x", encoding="utf-8")
    names = [path.name for path in sidecar_paths(tmp_path / f"{media}.mp4")]
    assert names == [f"{words}.txt", f"{words}.mp4.srt", f"{words}.de.vtt"]
    (tmp_path / f"{media}.txt").write_text("own")  # of two, a clip's own
    assert [path.name for path in sidecar_paths(tmp_path / f"{media}.mp4")] == [f"{media}.txt"]


def test_a_text_of_another_clip_with_a_dotted_name_is_left_alone(tmp_path):
    write(tmp_path / "clip.aa.txt", "words of clip.aa.wav")
    assert sidecar_transcript(tmp_path / "clip.wav") is None


def test_a_transcript_written_a_moment_later_is_found(tmp_path):
    assert sidecar_transcript(tmp_path / "clip.mp4") is None
    before_ns = tmp_path.stat().st_mtime_ns
    write(tmp_path / "clip.txt", "now")
    os.utime(tmp_path, ns=(before_ns, before_ns))  # as when both fall into one tick of the clock
    assert beside(tmp_path / "clip.mp4").text == "now"


def test_a_folder_that_changed_is_listed_again(tmp_path):
    os.utime(tmp_path, (1_000_000, 1_000_000))
    assert sidecar_transcript(tmp_path / "clip.mp4") is None
    write(tmp_path / "clip.txt", "now")
    os.utime(tmp_path, (1_000_100, 1_000_100))
    assert beside(tmp_path / "clip.mp4").text == "now"


def test_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "clip.txt", "here")
    assert beside(Path("clip.mp4")).text == "here"


def test_the_window_reaches_the_file(tmp_path):
    write(tmp_path / "clip.srt", SRT)
    assert beside(tmp_path / "clip.mp4", 0.0, 2.6).text == "I love it"


# --- the option ------------------------------------------------------------------------------


def test_the_option_takes_words():
    transcript = option_transcript("  I love\nit ")
    assert (transcript.text, transcript.source, transcript.warnings) == ("I love it", "option", ())


def test_the_option_takes_a_file(tmp_path):
    path = write(tmp_path / "words.srt", SRT)
    transcript = option_transcript(str(path), 0.0, 2.6)
    assert (transcript.text, transcript.source) == ("I love it", f"option {path}")


def test_the_option_refuses_a_file_that_is_not_there():
    with pytest.raises(TranscriptError, match="there is no such file"):
        option_transcript("no/such.SRT")


def test_words_too_long_to_be_a_file_name_are_words():
    assert option_transcript("word " * 5000).text.count("word") == 5000


def test_an_empty_option_has_no_words():
    assert option_transcript(" ").text == ""
