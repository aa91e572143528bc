"""Feature files: what others extracted stands in for a clip, and anything odd is one clear line."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import make_content
from sounds import write_wav

from omni_msa.__main__ import main
from omni_msa.errors import MediaError
from omni_msa.files.manifest import read_manifest
from omni_msa.files.sources import expand_inputs
from omni_msa.media import features, read_clip
from omni_msa.media.cache import ContentCache
from omni_msa.media.feed import FileFeed
from omni_msa.media.identity import clip_sha256
from omni_msa.media.readers import ClipReaders
from omni_msa.options import AblationOptions, MediaOptions
from omni_msa.values import Clip, ClipContent, FeatureSequence, Transcript

OPTIONS = MediaOptions()
RNG = np.random.default_rng(0)
TEXT, AUDIO, VIDEO = (RNG.normal(size=s).astype(np.float32) for s in ((5, 8), (9, 3), (4, 2)))
WORDS = np.array("I love  this film.")


def feature_file(path: Path, **arrays) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.fixture
def path(tmp_path) -> Path:
    return feature_file(tmp_path / "a.npz", text=TEXT, audio=AUDIO, video=VIDEO, words=WORDS)


def error_of(path: Path, **options) -> MediaError:
    with pytest.raises(MediaError) as caught:
        read_clip(Clip(path, **options), OPTIONS)
    assert "\n" not in str(caught.value)
    return caught.value


# --- the part --------------------------------------------------------------------------------


def test_features_check_themselves_and_come_back_from_what_they_store():
    part = FeatureSequence(TEXT, "feature file", "good")
    arrays, about = part.store()
    again = FeatureSequence.restore(arrays, json.loads(json.dumps(about)))
    np.testing.assert_array_equal(again.values, TEXT)
    assert (again.source, again.text, again.size) == ("feature file", "good", 5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (TEXT.astype(np.float64), r"float32 \[L, D\], got float64 \(5, 8\)"),
        (TEXT[0], r"float32 \[L, D\], got float32 \(8,\)"),
        (TEXT[:0], r"float32 \[L, D\], got float32 \(0, 8\)"),
        (TEXT[:, :0], r"float32 \[L, D\], got float32 \(5, 0\)"),
        (np.full((2, 2), np.nan, np.float32), "NaN"),
        (np.full((2, 2), -np.inf, np.float32), "infinite"),
    ],
)
def test_what_are_no_features_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        FeatureSequence(values, "")


# --- reading ---------------------------------------------------------------------------------


def test_a_feature_file_is_a_clip(path):
    content = read_clip(Clip(path), OPTIONS)
    for modality, array in (("text", TEXT), ("audio", AUDIO), ("video", VIDEO)):
        part = content.parts[modality]
        assert isinstance(part, FeatureSequence) and part.source == "feature file"
        np.testing.assert_array_equal(part.values, array)
    assert content.parts["text"].text == "I love this film."
    assert content.parts["audio"].text == ""
    shapes = {"text": [5, 8], "audio": [9, 3], "video": [4, 2]}
    assert content.media == {"container": "npz", "features": shapes}
    assert content.warnings == () and content.size == 18
    assert content.sha256 == clip_sha256(Clip(path))


@pytest.mark.parametrize("dtype", ["float16", "float64", ">f4", ">f8"])
def test_every_kind_of_float_is_read(tmp_path, dtype):
    path = feature_file(tmp_path / "a.NPZ.npz", audio=np.asfortranarray(AUDIO).astype(dtype))
    part = read_clip(Clip(path.rename(tmp_path / "a.NPZ")), OPTIONS).parts["audio"]
    np.testing.assert_allclose(part.values, AUDIO, rtol=1e-3)
    assert part.values.dtype == np.float32 and part.values.flags.c_contiguous


def test_packed_arrays_and_the_other_name_of_video_are_read(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", vision=VIDEO)
    content = read_clip(Clip(tmp_path / "a.npz"), OPTIONS)
    assert content.present == {"video"}
    assert any(warning.startswith("no words") for warning in content.warnings)


def test_words_without_their_features_are_a_transcript(tmp_path):
    path = feature_file(tmp_path / "a.npz", audio=AUDIO, words=np.array(["so-so"]))
    words = read_clip(Clip(path), OPTIONS).parts["text"]
    assert words == Transcript("so-so", "feature file")


def test_features_of_words_need_no_words(tmp_path):
    content = read_clip(Clip(feature_file(tmp_path / "a.npz", text=TEXT)), OPTIONS)
    assert content.parts["text"].text == "" and content.warnings == ()


@pytest.mark.parametrize("has_text", [True, False])
def test_other_words_go_before_those_in_the_file(tmp_path, has_text):
    arrays = {"text": TEXT} if has_text else {}
    path = feature_file(tmp_path / "a.npz", audio=AUDIO, words=WORDS, **arrays)
    sidecar = path.with_suffix(".txt")
    sidecar.write_text("I hate it.")
    content = read_clip(Clip(path), OPTIONS)
    assert content.parts["text"].text == "I hate it."
    assert content.warnings == ("words differ: a.txt used, not feature file",)
    clip = Clip(path, transcript="Whatever.", transcript_source="manifest")
    content = read_clip(clip, OPTIONS)
    assert content.parts["text"].text == "Whatever."
    assert "words differ: manifest text used, not feature file" in content.warnings
    assert content.parts["text"].source == ("feature file" if has_text else "manifest")
    assert content.sha256 != read_clip(Clip(path), OPTIONS).sha256


def test_an_empty_array_is_a_modality_that_is_missing(tmp_path):
    path = feature_file(tmp_path / "a.npz", audio=AUDIO[:0], video=VIDEO, words=WORDS)
    content = read_clip(Clip(path), OPTIONS)
    assert content.present == {"text", "video"}
    assert content.warnings == ("no audio: its features in the file are empty",)
    error = error_of(feature_file(tmp_path / "b.npz", audio=AUDIO[:0]))
    assert error.code == "nothing_to_score" and "no audio: its features" in str(error)


@pytest.mark.parametrize("hide", [{"text"}, {"audio"}, {"audio", "video"}, {"text", "video"}])
def test_what_is_hidden_is_not_read(tmp_path, hide):
    damaged = {m: np.full((2, 2), np.nan, np.float32) for m in hide}
    arrays = {"text": TEXT, "audio": AUDIO, "video": VIDEO} | damaged
    path = feature_file(tmp_path / "a.npz", words=WORDS, **arrays)
    content = read_clip(Clip(path), OPTIONS, frozenset(hide))
    assert content.present == {"text", "audio", "video"} - hide
    assert content.media["features"].keys() == content.present


# --- what is refused -------------------------------------------------------------------------

LISTING = "a feature file holds text, audio, video (or vision), and words"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"audio": AUDIO.astype(np.int64)}, "audio is int64; features are floats"),
        ({"audio": AUDIO.astype(complex)}, "audio is complex128; features are floats"),
        ({"audio": np.array([[{}]])}, "audio holds Python objects, which are never read"),
        ({"video": VIDEO[0]}, "video has the shape [2], not [length, features]"),
        ({"video": VIDEO[None]}, "video has the shape [1, 4, 2], not [length, features]"),
        ({"video": VIDEO[:, :0]}, "video has the shape [4, 0], not [length, features]"),
        ({"vision": VIDEO[0]}, "vision has the shape [2], not"),
        ({"text": np.full((2, 3), np.nan)}, "6 of 6 values of text are NaN or infinite"),
        ({"text": np.array([[1.0, -np.inf]])}, "1 of 2 values of text are NaN or infinite"),
        ({"text": np.array([[1e300]])}, "1 of 1 values of text are NaN or infinite"),
        ({"sound": AUDIO}, f"holds 'sound'; {LISTING}"),
        ({"audio": AUDIO, "label": np.array(1.0)}, f"holds 'label'; {LISTING}"),
        ({"video": VIDEO, "vision": VIDEO}, "holds both video and vision, which are one"),
        ({"words": WORDS}, f"holds no features; {LISTING}"),
        ({}, f"holds no features; {LISTING}"),
        ({"audio": AUDIO, "words": np.array(["a", "b"])}, "words is <U1 [2]; one text is needed"),
        ({"audio": AUDIO, "words": np.array(1.0)}, "words is float64 []; one text is needed"),
        ({"audio": AUDIO, "words": np.array(b"a")}, "words is |S1 []; one text is needed"),
        ({"audio": AUDIO, "words": np.array({})}, "words is object []; one text is needed"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(tmp_path, arrays, message):
    error = error_of(feature_file(tmp_path / "a.npz", **arrays))
    assert message in str(error) and error.code == "features"
    assert str(error).startswith(f"{tmp_path / 'a.npz'}: ")


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def archive(path: Path, *entries: tuple[str, bytes], packing: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", packing) as file:
        for name, content in entries:
            file.writestr(name, content)
    return path


def test_a_file_that_is_cut_off_or_none_is_damaged(path, tmp_path):
    data = path.read_bytes()
    cuts = {n: data[:n] for n in range(1, len(data), 97)}
    for content in [b"no zip file", b"PK\x03\x04", *cuts.values()]:
        path.write_bytes(content)
        error = error_of(path)
        assert "is no whole .npz file (" in str(error) and error.code == "features"
    other = archive(tmp_path / "b.npz", ("audio.npy", b"no array"))
    assert "is no whole .npz file (" in str(error_of(other))
    path.write_bytes(b"")
    assert error_of(path).code == "features"


def test_bytes_that_were_changed_are_noticed_or_change_nothing(path):
    data = path.read_bytes()
    for place in range(0, len(data), 13):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        try:
            read_clip(Clip(path), OPTIONS)
        except MediaError as error:
            assert error.code in ("features", "too_large")


def test_a_header_that_claims_another_size_is_not_believed(tmp_path):
    header = io.BytesIO()
    claim = {"descr": "<f4", "fortran_order": False, "shape": (10**9, 10**6)}
    np.lib.format.write_array_header_1_0(header, claim)
    error = error_of(archive(tmp_path / "a.npz", ("audio.npy", header.getvalue() + b"0000")))
    assert "'audio' has 4 bytes, which its header denies" in str(error)


def test_arrays_that_unfold_to_too_much_are_refused_before_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "MAX_BYTES", 100_000)
    np.savez_compressed(tmp_path / "a.npz", audio=np.zeros((1000, 100), np.float32))
    assert (tmp_path / "a.npz").stat().st_size < 5_000
    error = error_of(tmp_path / "a.npz")
    assert "its arrays have 400,128 bytes; at most 100,000 are read" in str(error)
    assert error.code == "too_large"


def test_too_many_words_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "MAX_TEXT_BYTES", 10)
    error = error_of(feature_file(tmp_path / "a.npz", audio=AUDIO, words=WORDS))
    assert "words has 18 characters; at most 10 are read" in str(error)
    assert error.code == "too_large"


def test_other_packings_and_names_that_repeat_are_refused(tmp_path):
    entry = ("audio.npy", npy(AUDIO))
    path = archive(tmp_path / "a.npz", entry, packing=zipfile.ZIP_LZMA)
    assert "'audio' is packed otherwise than by numpy.savez" in str(error_of(path))
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive(path, entry, entry)
    assert "holds 'audio' twice" in str(error_of(path))


def test_files_that_are_not_there_or_none_have_the_usual_codes(tmp_path):
    assert error_of(tmp_path / "none.npz").code == "missing"
    (tmp_path / "folder.npz").mkdir()
    assert error_of(tmp_path / "folder.npz").code == "unsupported"


def test_features_have_no_time_windows(path):
    error = error_of(path, start_seconds=0.5, end_seconds=1.0)
    assert "features have no times to cut a window by" in str(error) and error.code == "features"
    assert read_clip(Clip(path, start_seconds=0.0), OPTIONS).present  # the whole file


# --- through processes, the cache, folders ---------------------------------------------------


def assert_same(content: ClipContent, expected: ClipContent) -> None:
    assert replace(content, parts={}, decode_seconds=0) == replace(
        expected, parts={}, decode_seconds=0
    )
    assert content.parts.keys() == expected.parts.keys()
    for modality, part in expected.parts.items():
        (arrays, about), (own_arrays, own_about) = part.store(), content.parts[modality].store()
        assert type(part) is type(content.parts[modality])
        assert json.dumps(about) == json.dumps(own_about)
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, own_arrays[name])


def test_processes_and_the_cache_give_the_same(path, tmp_path):
    mixed = feature_file(tmp_path / "b.npz", audio=AUDIO, words=WORDS)
    clips = [Clip(path), Clip(mixed), Clip(tmp_path / "none.npz")]
    expected = [read_clip(clip, OPTIONS) for clip in clips[:2]]
    with ClipReaders(OPTIONS) as readers:
        results = dict(readers.read(clips))
    cache = ContentCache(tmp_path / "cache", 10**9)
    feed = FileFeed(clips, OPTIONS, cache=cache)
    read, again = list(feed.read([0, 1, 2])), list(feed.read([0, 1, 2]))
    for contents in (results, read, again):
        for index, content in enumerate(expected):
            assert_same(contents[index], content)
        assert isinstance(contents[2], MediaError) and contents[2].code == "missing"
    assert all(cache.has(cache.key(clip, OPTIONS)) for clip in clips[:2])


def test_a_cached_part_of_a_kind_that_is_not_known_is_read_anew(path, tmp_path):
    cache, clip = ContentCache(tmp_path / "cache", 10**9), Clip(path)
    key = cache.key(clip, OPTIONS)
    cache.put(key, read_clip(clip, OPTIONS))
    (entry,) = (p for p in (tmp_path / "cache").rglob("*.npz"))
    with np.load(entry) as archive:
        arrays = dict(archive)
    about = arrays["about"].tobytes().replace(b'"FeatureSequence"', b'"OtherSequence"')
    np.savez(entry, **arrays | {"about": np.frombuffer(about, np.uint8)})
    assert cache.get(key, clip) is None and not entry.exists()


def test_feature_files_are_clips_by_name_and_not_in_folders(path, tmp_path):
    write_wav(tmp_path / "b.wav")
    clips, notices = expand_inputs([str(tmp_path)])
    assert [clip.path.name for clip in clips] == ["b.wav"]
    assert notices == [f"1 other file in {tmp_path} skipped (.npz)"]
    for argument in (path, tmp_path / "*.npz"):
        clips, _ = expand_inputs([str(argument)])
        assert [clip.path for clip in clips] == [path]


# --- models that look at media ---------------------------------------------------------------


def test_a_model_that_looks_at_media_refuses_features(scorer, path):
    message = (
        "holds features of text, audio, video, and this readout looks at media; give the "
        "clip itself, or a checkpoint trained on features"
    )
    with pytest.raises(MediaError) as caught:
        scorer.score(path)
    assert str(caught.value) == f"{path}: {message}" and caught.value.code == "features"


def test_what_is_hidden_and_words_are_no_features_to_it(scorer, tmp_path):
    path = feature_file(tmp_path / "a.npz", audio=AUDIO, words=WORDS)
    record = scorer.score(path, hide={"audio"})
    assert record.score is not None and record.text == "I love this film."
    assert record.modalities == {"text": "feature file", "audio": None, "video": None, "ecg": None}
    content = make_content()
    content.parts["audio"] = FeatureSequence(AUDIO, "feature file")
    with pytest.raises(MediaError, match="holds features of audio, and this"):
        scorer.prepare(content)


def test_in_a_batch_only_its_own_row_fails(scorer, path, tmp_path):
    clips = [write_wav(tmp_path / "b.wav"), path, tmp_path / "none.npz"]
    records = list(scorer.score_many(clips, ablation=AblationOptions(enabled=False)))
    assert [r.error and r.error["code"] for r in records] == [None, "features", "missing"]
    assert records[1].score is None and "holds features of" in records[1].error["message"]
    assert records[1].error["type"] == "MediaError"


@pytest.mark.slow
def test_on_the_command_line_it_is_a_failed_row_too(path, tmp_path, capsys):
    manifest = tmp_path / "m.jsonl"
    rows = [{"clip": "a.npz", "label": 1.0}, {"text": "I love it."}]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [clip.path for clip in read_manifest(manifest)] == [path, None]
    assert main(["score", str(manifest), "-o", str(tmp_path / "out.jsonl"), "-q"]) == 3
    capsys.readouterr()
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    errors = [json.loads(line)["error"] for line in lines]
    assert errors[0]["code"] == "features" and errors[1] is None
    assert main(["score", str(path), "-q"]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"omni-msa: {path}: holds features of text, audio, video, and this")
