"""Manifests: every format reads alike, and everything that is wrong is said at once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from omni_msa.errors import ManifestError
from omni_msa.files.manifest import MAX_PROBLEMS_SHOWN, distinct_names, read_manifest
from omni_msa.files.record import Record
from omni_msa.files.results import open_results
from omni_msa.values import Clip

ROWS = [
    {"clip": "a.mp4", "text": "I, for one,\nlove it", "label": 1.5, "split": "train"},
    {"clip": "sub/b.mp4", "start_seconds": 1, "end_seconds": 3.5, "split": "val"},
    {"clip": "c.mp4", "label": -3, "emotions": "joy", "speaker": "Ö"},
    {"text": "words alone", "label": 0},
]
CSV = """clip,text,label,split,start_seconds,end_seconds,emotions,speaker
a.mp4,"I, for one,
love it",1.5,train,,,,
sub/b.mp4,,,val,1,3.5,,
c.mp4,,-3,,,,joy,Ö
,words alone,0,,,,,
"""


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def jsonl(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def problems_of(path: Path) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    return str(caught.value).split("\n  ")[1:]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.jsonl", jsonl(*ROWS)),
        ("m.ndjson", "\ufeff" + jsonl(*ROWS).replace("\n", "\r\n\r\n")),
        ("m.csv", CSV),
        ("m.CSV", "\ufeff" + CSV.replace("\n", "\r\n")),
        ("m.csv", CSV.replace(",", ";").replace("I; for one;", "I, for one,")),
        ("m.tsv", CSV.replace(",", "\t").replace("I\t for one\t", "I, for one,")),
    ],
)
def test_every_format_reads_alike(tmp_path, name, content):
    clips = read_manifest(write(tmp_path / name, content))
    assert [clip.path for clip in clips] == [
        tmp_path / "a.mp4",
        tmp_path / "sub/b.mp4",
        tmp_path / "c.mp4",
        None,
    ]
    words = [clip.transcript and clip.transcript.replace("\r", "") for clip in clips]
    assert words == ["I, for one,\nlove it", None, None, "words alone"]
    assert [clip.label for clip in clips] == [1.5, None, -3.0, 0.0]
    assert [clip.split for clip in clips] == ["train", "valid", None, None]
    assert (clips[1].start_seconds, clips[1].end_seconds) == (1.0, 3.5)
    assert {clip.transcript_source for clip in clips} == {"manifest"}


def test_names_of_rows(tmp_path):
    path = write(tmp_path / "m.jsonl", jsonl(*ROWS) + jsonl({"clip": "a.mp4", "start_seconds": 2}))
    assert [clip.name for clip in read_manifest(path)] == [
        f"{tmp_path}/a.mp4",
        f"{tmp_path}/sub/b.mp4[1.0-3.5]",
        f"{tmp_path}/c.mp4",
        f"{path}:4",
        f"{tmp_path}/a.mp4[2.0-end]",
    ]


def test_text_rows_of_a_csv_are_named_by_the_line_on_which_they_begin(tmp_path):
    path = write(tmp_path / "m.csv", CSV)
    assert read_manifest(path)[-1].name == f"{path}:6"


def test_relative_paths_start_at_the_manifest_and_absolute_ones_stay(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "m.jsonl", jsonl({"clip": "a.mp4"}, {"clip": "/else/b.mp4"}))
    monkeypatch.chdir(tmp_path)
    clips = read_manifest(Path("data/m.jsonl"))
    assert [clip.name for clip in clips] == ["data/a.mp4", "/else/b.mp4"]


def test_rows_with_the_same_clip_get_distinct_names(tmp_path):
    path = write(tmp_path / "m.jsonl", jsonl({"clip": "a"}, {"clip": "a"}, {"clip": "a#2"}))
    names = [clip.name for clip in read_manifest(path)]
    assert names == [f"{tmp_path}/a", f"{tmp_path}/a#3", f"{tmp_path}/a#2"]


def test_distinct_names_counts():
    clips = distinct_names([Clip(path=Path("a"))] * 3 + [Clip(path=Path("b"))])
    assert [clip.name for clip in clips] == ["a", "a#2", "a#3", "b"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "m.jsonl",
            jsonl({"clip": "a", "label": 1, "label_T": 0.2, "label_AV": -1, "label_V": None}),
        ),
        ("m.csv", "clip,label,label_T,label_AV,label_V\na,1,0.2,-1,\n"),
    ],
)
def test_labels_of_what_is_shown_alone(tmp_path, name, content):
    (clip,) = read_manifest(write(tmp_path / name, content))
    assert (clip.label, clip.subset_labels) == (1.0, {"T": 0.2, "AV": -1.0})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "m.jsonl",
            jsonl(
                {"clip": "a", "speaker": 7, "emotion": "joy", "dataset": " meld "}, {"clip": "b"}
            ),
        ),
        ("m.csv", "clip,speaker,emotion,dataset\na,7,joy,meld\nb,,,\n"),
    ],
)
def test_speaker_emotion_and_data_set(tmp_path, name, content):
    named, bare = read_manifest(write(tmp_path / name, content))
    assert (named.speaker, named.emotion, named.dataset) == ("7", "joy", "meld")
    assert (bare.speaker, bare.emotion, bare.dataset) == (None, None, None)


def test_an_empty_text_is_no_text(tmp_path):
    assert read_manifest(write(tmp_path / "m.csv", "clip,text\na.mp4, \n"))[0].transcript is None


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"clip": "a", "label": "abc"}, "label: 'abc' is not a finite number"),
        ({"clip": "a", "label": float("nan")}, "label: nan is not a finite number"),
        ({"clip": "a", "label": "NaN"}, "label: 'NaN' is not a finite number"),
        ({"clip": "a", "label": float("inf")}, "label: inf is not a finite number"),
        ({"clip": "a", "label": True}, "label: True is not a finite number"),
        ({"clip": "a", "label_T": "x"}, "label_t: 'x' is not a finite number"),
        ({"clip": "a", "label": [1]}, "label: [1] is not a finite number"),
        ({"clip": "a", "label": 10**400}, "is not a finite number"),
        ({"clip": "a", "start_seconds": -1}, "start_seconds: -1.0 is negative; times start at 0"),
        (
            {"clip": "a", "start_seconds": 2, "end_seconds": 2},
            "end_seconds: 2.0 does not lie after the start, 2.0",
        ),
        ({"clip": "a", "end_seconds": 0}, "end_seconds: 0.0 does not lie after the start, 0.0"),
        ({"clip": "a", "end_seconds": "x"}, "end_seconds: 'x' is not a finite number"),
        ({"text": "a", "end_seconds": 1}, "a window needs a clip"),
        ({"clip": 7}, "clip: 7 is not a string"),
        ({"clip": "a", "text": 7}, "text: 7 is not a string"),
        ({"clip": "a", "speaker": ["Joey"]}, "speaker: ['Joey'] is not a string"),
        ({"clip": "a", "emotion": True}, "emotion: True is not a string"),
        ({"clip": "http://x/a.mp4"}, "is a URL; download it"),
        ({"clip": "a\0b"}, "is not a path"),
        ({"label": 1}, "clip: is empty, and so is text; a row needs one of them"),
        ({"clip": " ", "text": ""}, "a row needs one of them"),
        (["a.mp4"], "is no JSON object"),
    ],
)
def test_each_kind_of_bad_row(tmp_path, row, expected):
    problems = problems_of(write(tmp_path / "m.jsonl", jsonl({"clip": "fine"}, row)))
    assert len(problems) == 1
    assert problems[0].startswith("line 2")
    assert expected in problems[0]


def test_all_bad_rows_and_columns_are_reported_at_once(tmp_path):
    bad = jsonl({"clip": "a", "label": "x", "start_seconds": -1}, {"clip": "fine"}) + '{"clip": \n'
    problems = problems_of(write(tmp_path / "m.jsonl", bad))
    assert [problem.split(":")[0] for problem in problems] == [
        "line 1, start_seconds",
        "line 1, label",
        "line 3",
    ]


def test_a_long_list_of_bad_rows_is_cut_and_counted(tmp_path):
    rows = [{"clip": "a", "label": "x"}] * (MAX_PROBLEMS_SHOWN + 5)
    problems = problems_of(write(tmp_path / "m.jsonl", jsonl(*rows)))
    assert len(problems) == MAX_PROBLEMS_SHOWN + 1
    assert problems[-1] == "and 5 more"


def test_a_text_with_an_unquoted_comma_is_found(tmp_path):
    problems = problems_of(write(tmp_path / "m.csv", "clip,text\na.mp4,well, yes\nb.mp4\n"))
    assert [problem.split(";")[0] for problem in problems] == [
        "line 2: has 3 cells where the header has 2",
        "line 3: has 1 cells where the header has 2",
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.json", "[]", "a manifest ends in one of .jsonl, .ndjson, .csv, .tsv"),
        ("m.jsonl", "", "holds no rows"),
        ("m.csv", "", "the first line must name the columns"),
        ("m.csv", "clip,text\n", "holds no rows"),
        ("m.csv", "a.mp4,hello\n", "the first line must name the columns"),
        ("m.csv", "clip,text,clip\n", "names a column twice: clip"),
        ("m.jsonl", b'{"clip": "a"}\n{"clip": "\xff"}\n', "line 2 is not UTF-8"),
        ("m.csv", 'clip,text\na,"' + "x" * 200_000 + '"\n', "is no CSV"),
        ("m.jsonl", "[" * 100_000, "is no JSON"),
    ],
)
def test_files_that_are_no_manifest(tmp_path, name, content, message):
    with pytest.raises(ManifestError, match=message.replace(".", r"\.")):
        read_manifest(write(tmp_path / name, content))


def test_a_manifest_that_is_not_there(tmp_path):
    with pytest.raises(ManifestError, match=r"m\.jsonl: cannot be read"):
        read_manifest(tmp_path / "m.jsonl")


# --- what is passed on, and results as manifests ---------------------------------------------


def test_other_columns_come_back_in_the_record(tmp_path):
    content = "clip,Speaker,split,rating,label,id,,rater\na.mp4,ann,dev,4,1,7,,\n"
    (clip,) = read_manifest(write(tmp_path / "m.csv", content))
    assert clip.extra == {"speaker": "ann", "split": "dev", "rating": "4"}
    record = Record.of(clip, "s", 0.5)
    assert record.to_json()["extra"] == clip.extra
    assert (record.id, record.label, record.path) == ("7", 1.0, str(tmp_path / "a.mp4"))
    assert hash(clip)  # clips are kept in sets


@pytest.mark.parametrize("name", ["r.jsonl", "r.csv"])
def test_a_results_file_is_a_manifest_of_what_it_holds(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    rows = [
        {"clip": "a.mp4", "start_seconds": 1, "end_seconds": 3.5, "text": "=so good", "label": 2},
        {"clip": "a.mp4", "start_seconds": 4, "speaker": "ann", "split": "dev", "id": "x"},
        {"clip": "=b.mp4", "text": "one", "note": "- said"},
        {"clip": "=b.mp4", "text": "two"},
        {"text": "words alone"},
    ]
    clips = read_manifest(write(tmp_path / "m.jsonl", jsonl(*rows)))
    Path("out").mkdir()
    with open_results(Path("out") / name, "f") as results:
        for clip in clips:
            model = {"base": "tiny", "fingerprint": "f"}
            results.write(replace(Record.of(clip, "s", 0.5, model=model), text=clip.transcript))
    again = read_manifest(Path("out") / name)
    assert [clip.name for clip in again] == [clip.name for clip in clips]
    for first, other in zip(clips, again, strict=True):
        assert replace(other, id=None) == replace(first, id=None)


def test_relative_paths_of_a_results_file_are_those_of_its_command_else_beside_it(
    tmp_path, monkeypatch
):
    row = {"clip": "a.mp4", "sha256": "s", "score": 1.0, "model": {}, "path": "a.mp4"}
    (tmp_path / "out").mkdir()
    path = write(tmp_path / "out" / "r.jsonl", jsonl(row))
    monkeypatch.chdir(tmp_path)
    assert read_manifest(path)[0].path == Path("a.mp4")
    (tmp_path / "out" / "a.mp4").touch()
    assert read_manifest(path)[0].path == tmp_path / "out" / "a.mp4"
    (tmp_path / "a.mp4").touch()
    assert read_manifest(path)[0].path == Path("a.mp4")


def test_a_clip_in_python_has_the_name_that_its_manifest_gives_it(tmp_path):
    row = {"clip": "a.mp4", "start_seconds": 2, "end_seconds": 4}
    (clip,) = read_manifest(write(tmp_path / "m.jsonl", jsonl(row)))
    assert Clip(tmp_path / "a.mp4", start_seconds=2, end_seconds=4).name == clip.name
