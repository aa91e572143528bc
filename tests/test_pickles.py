"""MMSA's pickles of features become feature files and a manifest; nothing in a pickle ever runs."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import subprocess
from pathlib import Path

import numpy as np
import pytest
from releases import notice

from omni_msa.__main__ import main
from omni_msa.errors import ConfigError, ManifestError
from omni_msa.files.importers import import_dataset
from omni_msa.files.importers.pickles import read_pickle
from omni_msa.files.manifest import read_manifest
from omni_msa.media import read_clip
from omni_msa.options import MediaOptions

PLAIN = {
    "floats": np.arange(12, dtype=np.float32).reshape(3, 4),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "swapped": np.arange(3, dtype=">f8"),
    "bools": np.array([True, False]),
    "texts": np.array(["hé", "我"]),
    "bytes": np.array([b"x", b"yy"]),
    "objects": np.array(["a", b"b", 1.5, 2], dtype=object),
    "number": np.array(3.0),
    "list": [np.float64(2.5), np.int64(3), np.str_("q"), np.float32(0.8), b"b\xff", True, None],
    "nested": {"deep": [[1, 2.5, 10**30, "text"]]},
}


def write(path: Path, content: object, protocol: int = 4) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
    return path


def assert_plain(content: dict) -> None:
    assert content.keys() == PLAIN.keys()
    for key, value in PLAIN.items():
        if isinstance(value, np.ndarray):
            assert content[key].dtype == value.dtype
            np.testing.assert_array_equal(content[key], value)
        else:
            assert content[key] == value


# --- plain pickles ---------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(6))
def test_plain_pickles_of_every_protocol_are_read(tmp_path, protocol):
    assert_plain(read_pickle(write(tmp_path / "a.pkl", PLAIN, protocol)))


@pytest.mark.parametrize("protocol", [0, 2, 3])
@pytest.mark.parametrize("package", [b"numpy.core", b"numpy._core"])
def test_the_names_of_both_numpys_are_known(tmp_path, protocol, package):
    data = pickle.dumps(PLAIN, protocol)
    for name in (b"numpy._core", b"numpy.core"):
        data = data.replace(b"c" + name + b".multiarray\n", b"c" + package + b".multiarray\n")
    assert b"c" + package + b".multiarray\n" in data
    assert_plain(read_pickle(write(tmp_path / "a.pkl", data)))


def test_pickles_of_python_2_are_read(tmp_path):
    """As Python 2.7 and NumPy 1.16 write `{'a': float32([1, -2]), 'ö': 'ö'}` in protocol 2."""
    data = (
        b"\x80\x02}q\x01(U\x01aq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\n"
        b"q\x04K\x00\x85q\x05U\x01bq\x06\x87q\x07Rq\x08(K\x01K\x02\x85q\tcnumpy\ndtype\nq\n"
        b"U\x02f4q\x0bK\x00K\x01\x87q\x0cRq\r(K\x03U\x01<q\x0eNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        b"K\x00tq\x0fb\x89U\x08\x00\x00\x80?\x00\x00\x00\xc0q\x10tq\x11bU\x02\xc3\xb6q\x12h\x12u."
    )
    content = read_pickle(write(tmp_path / "a.pkl", data))
    assert list(content) == ["a", "ö"] and content["ö"] == "ö".encode()
    np.testing.assert_array_equal(content["a"], np.float32([1.0, -2.0]))
    assert content["a"].dtype == np.float32


def test_what_is_in_several_places_is_read_once(tmp_path):
    array = np.zeros(3)
    content = read_pickle(write(tmp_path / "a.pkl", [[array, array], [array]] * 2))
    assert content[0] is content[2] and content[0][0] is content[1][0]


# --- pickles that would do something ---------------------------------------------------------


class Call:
    """Its pickle calls a function."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Own:
    """An object with a state."""

    def __init__(self) -> None:
        self.a = 1


def with_persistent_id(value: object) -> bytes:
    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            return "id" if obj is value else None

    file = io.BytesIO()
    Pickler(file).dump([value])
    return file.getvalue()


HOSTILE = [
    (Call(os.system, "touch TRAP"), f"code ({os.system.__module__}.system)"),
    ({"train": [Call(eval, "open('TRAP', 'w')")]}, "code (builtins.eval)"),
    (Call(exec, "open('TRAP', 'w')"), "code (builtins.exec)"),
    (Call(open, "TRAP", "w"), "code ("),
    (Call(subprocess.check_call, ["touch", "TRAP"]), "code (subprocess.check_call)"),
    (Call(np.load, "TRAP", None, True), "code (numpy.load)"),
    (Call(np.zeros, (10**6,)), "code (numpy.zeros)"),
    (Call(np.fromfile, "TRAP"), "code (numpy.fromfile)"),
    (b"cnumpy.f2py\ncompile\n(S'x'\ntR.", "code (numpy.f2py.compile)"),
    (b"cnumpy.testing._private.utils\nrunstring\n(S'x'\n}tR.", "code (numpy.testing._private.ut"),
    (b"cnumpy.core.multiarray\nfromfile\n(S'x'\ntR.", "code (numpy.core.multiarray.fromfile)"),
    (b"cnumpy\nndarray\n((I1000000000000\nttR.", "code (a call of numpy.ndarray)"),
    (b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.", "code (numpy.ndarray.tofile)"),
    (b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93.", "code (builtins.getattr)"),
    (b"(S'touch TRAP'\nios\nsystem\n.", "an object, by the instruction INST"),
    (b"\x80\x02cnumpy\ndtype\n)\x81.", "an object, by the instruction NEWOBJ"),
    (b"\x80\x02\x82\x01.", "an object, by the instruction EXT1"),
    (Own(), "code ("),
    (with_persistent_id("x"), "an object, by the instruction BINPERSID"),
    (b"Pname\n.", "an object, by the instruction PERSID"),
    (np.array([print, 1], dtype=object), "code (builtins.print)"),
    (np.array([[1], 2], dtype=object), "an array of objects that are no texts or numbers"),
    (np.array([np.array(["a"], object), 1], dtype=object), "an array of objects that are no"),
    (np.zeros(2, dtype=[("a", "f4")]), "an array of the type 'V4'"),
    (np.zeros(2, dtype="M8[s]"), "an array of the type 'M8'"),
    (np.zeros(2, dtype=complex), "an array of the type 'c16'"),
    (np.ma.array([1]), "code (numpy.ma.core._mareconstruct)"),
    (np.zeros, "code (numpy.zeros)"),
    (b"cnumpy\ndtype\n.", "an array or a name that is not used as one"),
    ({1, 2}, "an object, by the instruction EMPTY_SET"),
    ({1: 2}, "a dictionary with a key that is no text (int)"),
    (b"(I1\nI2\nd.", "a dictionary with a key that is no text (int)"),
    (b"}I1\nI2\ns.", "a dictionary with a key that is no text (int)"),
    (b"c_codecs\nencode\n(V\\u0041\nVrot13\ntR.", "a text encoded as rot13"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "found"), HOSTILE)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_in_a_pickle_runs(tmp_path, monkeypatch, content, found, protocol):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ManifestError) as caught:
        read_pickle(write(tmp_path / "a.pkl", content, protocol))
    message = str(caught.value)
    others = ("code (", "an object, by the instruction") if protocol != 4 else ()
    assert found in message or any(other in message for other in others), message
    assert message.endswith(
        "nothing of it was run, a pickle may hold dictionaries, lists, NumPy arrays, texts and "
        "numbers alone"
    )
    assert "\n" not in message and not (tmp_path / "TRAP").exists()


def array_pickle(kind: bytes, shape: bytes, content: bytes) -> bytes:
    """An array as NumPy pickles it, with a shape and a content that need not fit."""
    return (
        b"\x80\x04cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R("
        b"K\x01" + shape + b"cnumpy\ndtype\n\x8c" + bytes([len(kind)]) + kind + b"\x85R"
        b"\x89" + content + b"tb."
    )


LARGE = pickle.dumps(10**12)[2:-1]  # without the protocol and the end
LARGE = LARGE[9:] if LARGE[:1] == b"\x95" else LARGE


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (array_pickle(b"f4", LARGE + b"\x85", b"C\x04\0\0\0\0"), "has 4 bytes"),
        (array_pickle(b"f4", b"J\xff\xff\xff\xff\x85", b"C\x04\0\0\0\0"), "whose shape is none"),
        (array_pickle(b"f4", LARGE + b"K\x01\x85\x86", b"C\x00"), "an array whose shape is none"),
        (array_pickle(b"S0", LARGE + b"\x85", b"C\x00"), "an array that is no run of numbers"),
        (array_pickle(b"S999999999", b"K\x01\x85", b"C\x00"), "has 0 bytes"),
        (array_pickle(b"O8", LARGE + b"\x85", b"]"), "cannot reshape array of size 0"),
        (array_pickle(b"f4", b"K\x01\x85", b"]"), "an array that is no run of numbers or texts"),
        (array_pickle(b"U1", b"K\x01\x85", b"C\x04\xff\xff\xff\x7f"), "what are no characters"),
        (array_pickle(b"q9", b"K\x01\x85", b"C\x00"), "an array of the type 'q9'"),
        (b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.", "it ends too early"),  # BINBYTES8
        (b"\x80\x05\x96" + b"\xff" * 7 + b"\x7f.", "it ends too early"),  # BYTEARRAY8
        (b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f.", "it ends too early"),  # BINUNICODE8
        (b"\x80\x04\x95" + b"\xff" * 7 + b"\x7f.", "it ends too early"),  # FRAME
        (b"\x80\x04\x8b\xff\xff\xff\x7f.", "it ends too early"),  # LONG4
        (b"\x80\x02]r\xff\xff\xff\xffj\xff\xff\xff\xfea.", "Memo value not found"),
        (b"\x80\x02]q\x00h\x00a.", "containers in each other, more than 8 deep"),
        (b"\x80\x02" + b"]" * 20_000 + b"a" * 19_999 + b".", "more than 8 deep"),
        (b"\x80\x02]" + b"q\0](h\0h\0e" * 60 + b")R.", "code (a call of list)"),  # 2 ** 60
        (b"\x80\x02cnumpy\nndarray\n.", None),  # its name is a text, and no more
    ],
)
def test_sizes_that_are_claimed_take_no_memory(tmp_path, content, message):
    path = write(tmp_path / "a.pkl", content)
    if message is None:
        assert read_pickle(path) == "numpy.ndarray"
        return
    with pytest.raises(ManifestError, match=r"\A[^\n]+\Z") as caught:
        read_pickle(path)
    assert message in str(caught.value)


def test_content_that_is_repeated_is_not_multiplied(tmp_path):
    text = b"\x80\x02c_codecs\nencode\nq\x00(X" + (10_000).to_bytes(4, "little") + b"a" * 10_000
    data = text + b"q\x01X\x06\x00\x00\x00latin1q\x02tR0]" + b"h\x00(h\x01h\x02tRa" * 1000 + b"."
    with pytest.raises(ManifestError, match="share their content, many times over"):
        read_pickle(write(tmp_path / "a.pkl", data))


def test_a_pickle_that_is_cut_off_or_none_is_said_to_be(tmp_path):
    data = pickle.dumps(PLAIN)
    for content in [b"", b"hello", b"{}", *(data[:n] for n in range(1, len(data), 41))]:
        with pytest.raises(
            ManifestError, match=r"a.pkl: is no whole pickle \(.+\); fetch it again"
        ):
            read_pickle(write(tmp_path / "a.pkl", content))
    with pytest.raises(ManifestError, match="cannot be read"):
        read_pickle(tmp_path / "none.pkl")


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_bytes_that_were_changed_end_in_one_line_or_in_plain_values(tmp_path, protocol):
    data, chance = pickle.dumps(PLAIN, protocol), random.Random(0)
    for _ in range(60):
        place = chance.randrange(len(data))
        changed = data[:place] + bytes([chance.randrange(256)]) + data[place + 1 :]
        try:
            read_pickle(write(tmp_path / "a.pkl", changed))
        except ManifestError as error:
            assert "\n" not in str(error)


# --- MMSA's layout ---------------------------------------------------------------------------


def split(ids, labels, seed=0, is_sims=False, is_aligned=False) -> dict:
    """One part of a pickle, of samples of 2, 3, ... steps."""
    rng, n = np.random.default_rng(seed), len(ids)
    lengths = [2 + index for index in range(n)]
    arrays = {}
    for key, steps, width in (("text", 8, 6), ("audio", 12, 3), ("vision", 10, 2)):
        arrays[key] = rng.normal(size=(n, steps, width)).astype(np.float32)
        for index, length in enumerate(lengths):
            arrays[key][index, length:] = 0
    mask = np.arange(8) < np.array(lengths)[:, None]
    ours = {"audio_lengths": lengths, "vision_lengths": lengths}
    alone = {f"regression_labels_{s}": np.array(labels) / 2 for s in "TAV"}
    return {
        "id": ids,
        "raw_text": np.array([f"words  {index}" for index in range(n)]),
        "text_bert": np.stack([np.ones((n, 8)), mask, np.zeros((n, 8))], axis=1),
        "annotations": ["Positive"] * n,
        "classification_labels": np.ones(n),
        "regression_labels": np.array(labels, dtype=np.float32),
        **arrays,
        **({} if is_aligned else ours),
        **(alone if is_sims else {}),
    }


def whole(**options) -> dict:
    return {
        "train": split(["a$_$1", "a$_$2", "-b_$_$0003"], [0.8, -3.0, 1.0], 1, **options),
        "valid": split(["c$_$1"], [0.0], 2, **options),
        "test": split(["d$_$1"], [-1.0], 3, **options),
    }


def test_a_pickle_becomes_a_manifest_of_feature_files(tmp_path):
    content = whole()
    clips, report = imported_pickle("mosi", write(tmp_path / "unaligned_50.pkl", content))
    assert [(c.label, c.split, c.transcript, c.extra["video"], c.dataset) for c in clips] == [
        (0.8, "train", "words 0", "a", "mosi"),
        (-3.0, "train", "words 1", "a", "mosi"),
        (1.0, "train", "words 2", "-b_", "mosi"),
        (0.0, "valid", "words 0", "c", "mosi"),
        (-1.0, "test", "words 0", "d", "mosi"),
    ]
    rows = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    assert rows[2]["clip"] == "manifest_features/-b_/0003.npz"
    for index, clip in enumerate(clips[:3]):
        read = read_clip(clip, MediaOptions())
        assert read.warnings == () and read.parts["text"].text == f"words {index}"
        for name, key in (("text", "text"), ("audio", "audio"), ("video", "vision")):
            expected = content["train"][key][index, : 2 + index]
            np.testing.assert_array_equal(read.parts[name].values, expected)
    assert report.split_sizes == {"train": 3, "valid": 1, "test": 1}
    assert notice(report, "the features are in").endswith("keep them together")
    assert notice(report, "speakers: not known") and notice(report, "split sizes are not")
    assert len(report.notices) == 3


def imported_pickle(name: str, path: Path, **options):
    """The clips of the manifest beside the pickle, and the report."""
    manifest = path.parent / "manifest.jsonl"
    report = import_dataset(name, path, manifest, **options)
    return read_manifest(manifest), report


@pytest.mark.parametrize("name", ["sims", "simsv2"])
def test_ch_sims_has_labels_of_each_modality(tmp_path, name):
    content = {"train": split(["v$_$1", "v$_$2"], [0.6, -0.4], is_sims=True)}
    clips, _ = imported_pickle(name, write(tmp_path / "a.pkl", content, 2))
    assert [clip.label for clip in clips] == [0.6, -0.4]
    assert [clip.subset_labels["T"] for clip in clips] == [0.3, -0.2]
    assert clips[0].subset_labels.keys() == {"T", "A", "V"}


def test_without_lengths_rows_of_zeros_at_the_end_are_padding(tmp_path):
    content = whole(is_aligned=True)
    del content["train"]["text_bert"]
    content["train"]["audio"][1, 0] = 0  # at the start, they are none
    content["train"]["vision"][2] = 0
    clips, report = imported_pickle("mosei", write(tmp_path / "aligned_50.pkl", content))
    contents = [read_clip(clip, MediaOptions()) for clip in clips[:3]]
    for index, clip in enumerate(contents[:2]):
        assert {len(part.values) for part in clip.parts.values()} == {2 + index}
    assert contents[2].present == {"text", "audio"}
    assert contents[2].warnings == ("no video: its features in the file are empty",)
    assert notice(report, "samples have none") == "video: 1 samples have none"


def test_values_that_are_no_numbers_are_set_to_0_and_counted(tmp_path):
    content = whole()
    content["train"]["audio"][0, 0] = -np.inf
    content["train"]["audio"][1, 0, 0] = np.nan
    content["train"]["audio"][0, 9] = np.nan  # padding
    content["valid"]["vision"] = content["valid"]["vision"].astype(np.float64)
    content["valid"]["vision"][0, 0, 0] = 1e300
    clips, report = imported_pickle("mosi", write(tmp_path / "a.pkl", content))
    assert notice(report, "audio: ").startswith("audio: 3 values of -inf and 1 of NaN or inf were")
    assert notice(report, "video: ").startswith("video: 0 values of -inf and 1 of NaN or inf were")
    first, second = (read_clip(c, MediaOptions()).parts["audio"].values for c in clips[:2])
    assert not first[0].any() and second[0, 0] == 0 and first[1].all()


def test_lengths_beyond_the_array_and_what_is_not_read_are_said(tmp_path):
    content = whole() | {"unlabelled": {}}
    content["train"]["audio_lengths"] = np.array([2.0, 3.0, 99.0])
    clips, report = imported_pickle("mosi", write(tmp_path / "a.pkl", content))
    assert "audio: 1 samples are cut in the pickle itself" in notice(report, "are cut")
    assert notice(report, "not imported") == "not imported: unlabelled"
    assert len(read_clip(clips[2], MediaOptions()).parts["audio"].values) == 12


def test_the_same_features_in_two_splits_are_named(tmp_path):
    content = whole()
    content["test"] = content["valid"] | {"id": ["d$_$1"]}
    _, report = imported_pickle("mosi", write(tmp_path / "a.pkl", content))
    line = notice(report, "more than one split")
    assert line.startswith("1 clip is in more than one split, in whole or in part: c/1 (valid) =")


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_an_interrupted_import_leaves_whole_files_and_goes_on_to_the_same(tmp_path):
    path = write(tmp_path / "a.pkl", whole())

    def interrupt(number: int, total: int) -> None:
        assert total == 5
        if number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        imported_pickle("mosi", path, progress=interrupt)
    part = files_in(tmp_path)
    assert set(part) == {"a.pkl", "manifest_features/a/1.npz", "manifest_features/a/2.npz"}
    imported_pickle("mosi", path)
    complete = files_in(tmp_path)
    assert len(complete) == 7 and part.items() <= complete.items()
    imported_pickle("mosi", path)
    assert files_in(tmp_path) == complete


def changed(part: str, **fields) -> dict:
    content = whole()
    content[part] |= fields
    return content


def lacking(part: str, key: str) -> dict:
    content = whole()
    del content[part][key]
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "is not laid out as MMSA's features of CMU-MOSI (MMSA layout), a dictionary with"),
        ({"training": {}}, "train, valid and test; it has: training"),
        ({"train": [1]}, "train: lacks id, raw_text, text, audio, vision, regression_labels; it"),
        (lacking("test", "vision"), "test: lacks vision; it has: id, raw_text, text_bert"),
        ({"train": split([], [])}, "holds no samples"),
        (changed("valid", id=["c"]), "valid: id: 'c' is not VIDEO$_$CLIP, of plain names"),
        (changed("valid", id=["../c$_$1"]), "id: '../c$_$1' is not VIDEO$_$CLIP"),
        (changed("valid", id=["..$_$1"]), "id: '..$_$1' is not VIDEO$_$CLIP"),
        (changed("valid", id=["c$_$a\\b"]), "is not VIDEO$_$CLIP"),
        (changed("valid", id=["c$_$" + 300 * "a"]), "is not VIDEO$_$CLIP"),
        (changed("valid", id=["a$_$1"]), "id: 'a/1' occurs 2 times"),
        (changed("train", raw_text=["a", "b"]), "train: raw_text has 2 entries, and id 3"),
        (changed("train", raw_text=[["a"]] * 3), "train: raw_text has 3 entries, and id 3"),
        (changed("train", raw_text={"a": "b"}), "train: raw_text has a dict, and id 3"),
        (changed("train", regression_labels=np.ones(4)), "regression_labels has float64 [4], and"),
        (changed("train", regression_labels=np.ones((3, 2))), "labels has float64 [3, 2], and"),
        (changed("train", audio=np.zeros((2, 4, 3))), "audio has float64 [2, 4, 3]; numbers"),
        (changed("train", audio=np.zeros((3, 4))), "of the 3 samples of id are needed"),
        (changed("train", audio=np.zeros((3, 4, 0))), "train: audio has float64 [3, 4, 0]"),
        (changed("train", audio=np.array([[["a"]]] * 3)), "train: audio has <U1 [3, 1, 1]"),
        (changed("train", text=[1, 2, 3]), "train: text has 3 entries; numbers [samples, length"),
        (changed("train", audio_lengths=[1, 2]), "train: audio_lengths has 2 entries, and id 3"),
        (changed("train", audio_lengths=[1, -2, 3]), "train: audio_lengths: '-2' is no length"),
        (changed("train", vision_lengths=[1, 2.5, 3]), "vision_lengths: '2.5' is no length"),
        (changed("train", vision_lengths=["a", "b", "c"]), "vision_lengths: 'a' is no length"),
        (changed("train", text_bert=np.zeros((3, 3, 9))), "text_bert has float64 [3, 3, 9]; "),
        (changed("test", regression_labels=[3.1]), "test, d$_$1, label: 3.1 lies outside [-3, 3]"),
        (changed("test", regression_labels=[np.nan]), "label: 'nan' is not a finite number"),
        (changed("test", regression_labels=["good"]), "label: 'good' is not a finite number"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_and_nothing_is_written(tmp_path, content, message):
    with pytest.raises(ManifestError) as caught:
        imported_pickle("mosi", write(tmp_path / "a.pkl", content))
    assert message in str(caught.value)
    assert list(files_in(tmp_path)) == ["a.pkl"]


def test_ch_sims_needs_the_labels_of_each_modality(tmp_path):
    with pytest.raises(
        ManifestError, match="train: lacks regression_labels_T, regression_labels_A"
    ):
        imported_pickle("sims", write(tmp_path / "a.pkl", whole()))


def test_other_data_sets_and_names_have_no_pickles(tmp_path):
    path = write(tmp_path / "a.pkl", whole())
    with pytest.raises(ConfigError, match="are read for mosi, mosei, sims, simsv2; of meld, give"):
        imported_pickle("meld", path)
    with pytest.raises(ManifestError, match="a.bin: is not laid out as"):
        import_dataset("mosi", path.rename(tmp_path / "a.bin"), tmp_path / "manifest.jsonl")
    with pytest.raises(ManifestError, match="a.pkl: cannot be read"):
        imported_pickle("mosi", path)


def test_a_folder_that_takes_no_files_is_said(tmp_path):
    path = write(tmp_path / "a.pkl", whole())
    (tmp_path / "manifest_features").write_text("a file")
    with pytest.raises(ManifestError, match="manifest_features/a/1.npz: cannot be written"):
        imported_pickle("mosi", path)


@pytest.mark.slow
def test_on_the_command_line(tmp_path, capsys):
    path = write(tmp_path / "mosi.pkl", whole())
    manifest = tmp_path / "out" / "mosi.jsonl"
    assert main(["data", "import", "mosi", str(path), "-o", str(manifest)]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"{manifest}: 5 rows (3 train, 1 valid, 1 test)\n"
    assert (tmp_path / "out" / "mosi_features" / "d" / "1.npz").is_file()
    write(path, Call(os.system, "true"))
    assert main(["data", "import", "mosi", str(path), "-o", str(manifest)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
