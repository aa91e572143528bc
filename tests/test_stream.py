"""From Python, in a service: clips as they come, failures as records, limits, traps closed."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path

import failing_readers
import pytest
from sounds import write_wav

import omni_msa
from omni_msa import errors
from omni_msa.errors import (
    ERROR_CODES,
    ConfigError,
    DecodeTimeout,
    MediaError,
    OmniMSAError,
    code_of_class,
)
from omni_msa.media import readers
from omni_msa.modalities import MODALITIES
from omni_msa.options import AblationOptions, MediaOptions, ModelOptions
from omni_msa.scoring.batch import run_batch
from omni_msa.scoring.scorer import Scorer
from omni_msa.values import Clip

FAST = AblationOptions(enabled=False)


@pytest.fixture
def folder(tmp_path) -> Path:
    for i in range(3):
        write_wav(tmp_path / f"{i}.wav", seed=i)
    (tmp_path / "damaged.wav").write_bytes(b"no sound at all")
    return tmp_path


@pytest.fixture
def impatient(scorer):
    """The scorer with a short time limit; a reader is killed 5 s after it."""
    other = Scorer(scorer.thinker, scorer.checkpoint, scorer.media)
    other.media = replace(scorer.media, deadline_seconds=0.5)
    return other


def test_many_clips_are_records_in_their_order(scorer, folder):
    words = Clip(transcript="I love this film.", id="words")
    sources = [folder / "0.wav", folder / "no.wav", str(folder / "1.wav"), words,
               folder / "damaged.wav", Clip(transcript=" ", id="nothing")]  # fmt: skip
    records = list(scorer.score_many(sources, batch_size=4))
    assert [record.clip for record in records] == [
        *map(str, sources[:3]), "words", str(sources[4]), "nothing",
    ]  # fmt: skip
    assert [record.error and record.error["code"] for record in records] == [
        None, "missing", None, None, "damaged", "no_words",
    ]  # fmt: skip
    for source, record in zip(sources, records, strict=True):
        if record.error is None:
            alone = scorer.score(source)
            assert record.score == pytest.approx(alone.score, abs=1e-4)
            assert record.model == alone.model


def test_clips_that_are_alike_share_a_pass(scorer, monkeypatch):
    sizes = []
    real = scorer.score_prepared

    def spy(prepared, *rest):
        sizes.append(len(prepared))
        return real(prepared, *rest)

    monkeypatch.setattr(scorer, "score_prepared", spy)
    clips = [Clip(transcript=words, id=words) for words in ("Good.", "Bad.", "Fine.")]
    assert len(list(scorer.score_many(clips, batch_size=2, ablation=FAST))) == 3
    assert sizes == [2, 1]


def test_no_more_is_taken_than_one_batch_and_a_stream_may_be_left(scorer):
    numbers = count()
    clips = (Clip(transcript="Good.", id=str(i)) for i in numbers)
    records = scorer.score_many(clips, batch_size=2, ablation=FAST)
    assert [next(records).clip for _ in range(3)] == ["0", "1", "2"]
    assert next(numbers) == 4  # two batches were taken
    records.close()


def test_an_error_of_the_iterable_is_the_callers(scorer):
    def broken():
        yield Clip(transcript="Good.")
        raise LookupError("no more rows")

    with pytest.raises(LookupError, match="no more rows"):
        list(scorer.score_many(broken(), batch_size=1))


def test_a_bug_with_one_clip_is_its_record(scorer, monkeypatch):
    real = scorer.prepare

    def buggy(content, hide):
        if content.clip.id == "b":
            raise IndexError("list index out of range")
        return real(content, hide)

    monkeypatch.setattr(scorer, "prepare", buggy)
    clips = [Clip(transcript="Good.", id=name) for name in "abc"]
    codes = [r.error and r.error["code"] for r in scorer.score_many(clips, ablation=FAST)]
    assert codes == [None, "bug", None]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_costs_one_record_whatever_reads_it(impatient, folder):
    os.mkfifo(folder / "pipe.wav")
    sources = [folder / "0.wav", folder / "pipe.wav", folder / "1.wav"]
    good, pipe, other = impatient.score_many(sources, ablation=FAST)
    assert good.error is None and other.error is None
    assert pipe.error["code"] in ("timeout", "unsupported")
    (alone,) = run_batch([Clip(folder / "pipe.wav")], impatient, ablation=FAST).records
    assert alone.error["code"] in ("timeout", "unsupported")


def test_a_reader_that_hangs_is_a_timeout(impatient, folder, monkeypatch):
    """A process that is stopped stands for one that hangs where no check can run."""
    monkeypatch.setattr(readers, "GRACE_SECONDS", 0.2)
    failing_readers.install(monkeypatch)
    (record,) = impatient.score_many([folder / "stops.wav"])
    assert record.error["type"] == "DecodeTimeout" and record.error["code"] == "timeout"
    assert "gave no result within" in record.error["message"]


def test_a_reading_that_notices_its_limit_is_a_timeout(scorer, folder, monkeypatch):
    late = replace(scorer.media, deadline_seconds=1e-9)
    with pytest.raises(DecodeTimeout) as caught:
        omni_msa.media.read_clip(Clip(folder / "0.wav"), late)
    assert caught.value.code == "timeout"


def test_a_folder_is_unsupported(scorer, folder):
    with pytest.raises(MediaError) as caught:
        scorer.score(folder)
    assert caught.value.code == "unsupported"


def test_what_is_hidden_leaves_nothing_to_score(scorer, folder):
    with pytest.raises(MediaError) as caught:
        scorer.score(folder / "0.wav", hide={"audio"})
    assert caught.value.code == "nothing_to_score"


@pytest.mark.parametrize(
    ("hide", "words"),
    [({"voice"}, "hide 'voice' is not known; choose one of: text"), ("audio", "give a set")],
)
def test_modalities_that_are_not_known_are_refused_in_one_line(scorer, folder, hide, words):
    content = omni_msa.media.read_clip(Clip(folder / "0.wav"), scorer.media)
    for call in (
        lambda: scorer.score(folder / "0.wav", hide=hide),
        lambda: scorer.score_many([], hide=hide),
        lambda: scorer.prepare(content, hide),
        lambda: run_batch([], scorer, hide=hide),
    ):
        with pytest.raises(ConfigError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="drop 'voice' is not known"):
        AblationOptions(drop={"voice"})
    assert AblationOptions(drop=["audio"]).drop == frozenset({"audio"})


def test_media_options_are_taken_as_they_are(base_folder, checkpoint_folder):
    model = ModelOptions(model=str(base_folder), checkpoint=str(checkpoint_folder))
    media = MediaOptions(max_frames=6, deadline_seconds=9.0)
    assert Scorer.load(model, media=media).media == media  # and not the checkpoint's
    some = Scorer.load(model, media={"deadline_seconds": 9.0}).media
    assert (some.deadline_seconds, some.max_frames) == (9.0, 8)


def test_a_path_may_be_text():
    assert Clip("a/b.mp4") == Clip(Path("a/b.mp4"))
    assert Clip("a/b.mp4").path.name == "b.mp4"


def test_all_error_classes_are_exported_and_survive_a_process():
    classes = [
        value for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, OmniMSAError)
    ]  # fmt: skip
    assert len(classes) == 11
    for error_class in classes:
        assert getattr(omni_msa, error_class.__name__) is error_class
        assert error_class.code in ERROR_CODES
        for error in (error_class("why"), error_class("why", code="timeout")):
            copy = pickle.loads(pickle.dumps(error))
            assert (type(copy), str(copy), copy.code) == (error_class, "why", error.code)
        assert code_of_class(error_class.__name__) == error_class.code
    assert set(omni_msa.__all__) == {"__version__", *omni_msa._HOMES}


def test_codes_that_are_raised_are_documented():
    sources = [p.read_text(encoding="utf-8") for p in Path(omni_msa.__path__[0]).rglob("*.py")]
    page = (Path(__file__).parents[1] / "docs" / "python.md").read_text(encoding="utf-8")
    for code, meaning in ERROR_CODES.items():
        assert f"| `{code}` | {meaning} |\n" in page
        assert any(f'"{code}"' in source for source in sources)


@pytest.mark.slow
def test_types_are_shipped(tmp_path):
    assert (Path(omni_msa.__path__[0]) / "py.typed").is_file()
    program = tmp_path / "service.py"
    program.write_text(
        "from omni_msa import Scorer\nfor record in Scorer.load().score_many(['a.mp4']):\n"
        "    reveal_type(record.score)\n    record.scores\n"
    )
    config = tmp_path / "mypy.ini"  # large libraries are not looked into
    config.write_text("[mypy-torch.*,transformers.*,numpy.*,av.*]\nfollow_imports = skip\n")
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent"]
    command += ["--config-file", str(config), str(program)]
    root = Path(omni_msa.__path__[0]).parent
    shown = subprocess.run(command, capture_output=True, text=True, cwd=root).stdout
    if "No module named mypy" in shown:
        pytest.skip("mypy is not installed")
    assert '"float | None"' in shown.replace("builtins.", "") and '"scores"' in shown


@pytest.mark.parametrize("num_threads", [4])
def test_threads_that_share_a_scorer_get_what_one_gets(scorer, folder, num_threads):
    sentences = ("I love this film.", "It was terrible, and long.", "Not bad.")
    clips = [Clip(folder / f"{i}.wav", words) for i in range(3) for words in sentences]
    alone = [scorer.score(clip) for clip in clips]
    with ThreadPoolExecutor(num_threads) as pool:
        together = list(pool.map(scorer.score, clips))
    for one, other in zip(alone, together, strict=True):
        assert other.score == pytest.approx(one.score, abs=1e-5)
        assert other.ablation.subsets == pytest.approx(one.ablation.subsets, abs=1e-5)
        assert set(other.modalities) == set(MODALITIES)


def test_a_single_path_is_not_taken_for_a_list(scorer, folder):
    for single in (str(folder / "0.wav"), folder / "0.wav", Clip(folder / "0.wav")):
        with pytest.raises(ConfigError, match="score takes one"):
            scorer.score_many(single)
    for odd in (3, None, b"a.wav"):
        with pytest.raises(ConfigError, match="a clip is a path or a Clip"):
            scorer.score(odd)
    with pytest.raises(ConfigError, match="a path, a transcript, or both"):
        Clip()


def test_a_name_that_cannot_be_is_missing(scorer, folder):
    (folder / "loop.wav").symlink_to(folder / "loop.wav")
    for path in (folder / ("a" * 5000 + ".wav"), folder / "loop.wav"):
        (record,) = scorer.score_many([path], ablation=FAST)
        assert record.error["code"] in ("missing", "damaged")
        with pytest.raises(MediaError):
            scorer.score(path)
