"""Many clips: one row each, in shared passes, resumable, whatever goes wrong with some of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from sounds import write_wav

from omni_msa.files.result_formats import read_records
from omni_msa.files.results import open_results
from omni_msa.media.readers import ClipReaders
from omni_msa.options import AblationOptions, BatchOptions
from omni_msa.scoring.batch import BatchProgress, run_batch
from omni_msa.values import Clip

FAST = AblationOptions(enabled=False)


@pytest.fixture
def clips(tmp_path) -> list[Clip]:
    """Five that can be scored, of two patterns, and two that cannot."""
    damaged = tmp_path / "damaged.wav"
    damaged.write_bytes(b"no sound at all")
    sounds = [Clip(write_wav(tmp_path / f"{i}.wav", seed=i)) for i in range(3)]
    words = [Clip(transcript=t, id=f"words {t}") for t in ("I love this film.", "Not bad.")]
    return [sounds[0], Clip(damaged), words[0], sounds[1], words[1], Clip(tmp_path / "no.wav"),
            sounds[2]]  # fmt: skip


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def refuse(*_: object) -> None:
    raise AssertionError("the scorer was called")


class Spy:
    """The real `score_prepared`, with the groups it was given."""

    def __init__(self, scorer) -> None:
        self.groups: list[list[str]] = []
        self._score = scorer.score_prepared

    def __call__(self, prepared, *rest):
        self.groups.append([p.content.clip.name for p in prepared])
        return self._score(prepared, *rest)


def test_every_clip_ends_as_one_row_in_the_order_of_the_clips(scorer, clips):
    summary = run_batch(clips, scorer, options=BatchOptions(batch_size=2, workers=2))
    assert [record.clip for record in summary.records] == [clip.name for clip in clips]
    assert (summary.scored, summary.failed, summary.skipped) == (5, 2, 0)
    failed = [record for record in summary.records if record.error]
    assert [record.clip for record in failed] == [clips[1].name, clips[5].name]
    for record in failed:
        assert record.score is None and record.error["type"] == "MediaError"
        assert record.model["fingerprint"] == summary.records[0].model["fingerprint"]
    assert failed[0].sha256 is not None and failed[1].sha256 is None


def test_a_shared_pass_scores_as_one_alone_does(scorer, clips):
    good = [clip for i, clip in enumerate(clips) if i not in (1, 5)]
    together = run_batch(good, scorer, options=BatchOptions(batch_size=8)).records
    for clip, record in zip(good, together, strict=True):
        alone = run_batch([clip], scorer).records[0]
        assert record.score == pytest.approx(alone.score, abs=1e-4)
        assert record.sha256 == alone.sha256
        assert record.ablation.subsets == pytest.approx(alone.ablation.subsets, abs=1e-4)


def test_groups_share_a_pattern_and_none_is_larger_than_asked(scorer, clips, monkeypatch):
    spy = Spy(scorer)
    monkeypatch.setattr(scorer, "score_prepared", spy)
    run_batch(clips, scorer, options=BatchOptions(batch_size=2), ablation=FAST)
    assert sorted(map(len, spy.groups)) == [1, 2, 2]
    assert all(len({name.startswith("words") for name in group}) == 1 for group in spy.groups)


def test_a_hidden_modality_leaves_nothing_of_some_clips(scorer, clips):
    summary = run_batch(clips[:3:2], scorer, hide=frozenset({"audio"}), ablation=FAST)
    sound, words = summary.records
    assert sound.error is not None and words.score is not None


def test_a_rerun_does_nothing(scorer, clips, tmp_path, monkeypatch):
    out = tmp_path / "out.jsonl"
    fingerprint = scorer.fingerprint(FAST)
    with open_results(out, fingerprint) as results:
        run_batch(clips, scorer, results, ablation=FAST)
    before = out.read_bytes()
    monkeypatch.setattr(scorer, "score_prepared", refuse)
    monkeypatch.setattr(scorer, "prepare", refuse)
    with open_results(out, fingerprint) as results:
        summary = run_batch(clips, scorer, results, ablation=FAST)
    assert summary.skipped == len(clips) and summary.scored == summary.failed == 0
    assert summary.records == (None,) * len(clips)
    assert out.read_bytes() == before


def test_a_rerun_scores_what_is_new_or_changed(scorer, tmp_path, monkeypatch):
    out = tmp_path / "out.jsonl"
    fingerprint = scorer.fingerprint(FAST)
    paths = [write_wav(tmp_path / f"{i}.wav", seed=i) for i in range(4)]
    paths[1].with_suffix(".txt").write_text("It was good.")
    with open_results(out, fingerprint) as results:
        run_batch([Clip(path) for path in paths[:3]], scorer, results, ablation=FAST)
    write_wav(paths[0], seed=9)  # other content under the same name
    paths[1].with_suffix(".txt").write_text("It was bad.")  # same sound, other words
    spy = Spy(scorer)
    monkeypatch.setattr(scorer, "score_prepared", spy)
    with open_results(out, fingerprint) as results:
        summary = run_batch([Clip(path) for path in paths], scorer, results, ablation=FAST)
    assert {name for group in spy.groups for name in group} == {
        str(paths[0]),
        str(paths[1]),
        str(paths[3]),
    }
    assert summary.skipped == 1
    assert sorted(row["clip"] for row in rows_of(out)) == sorted(map(str, paths))


def test_failed_clips_are_tried_again_only_on_request(scorer, clips, tmp_path):
    out = tmp_path / "out.jsonl"
    fingerprint = scorer.fingerprint(FAST)
    asked = [clips[0], clips[1]]
    for options, tried in (
        (BatchOptions(), 2),
        (BatchOptions(), 0),
        (BatchOptions(retry_failed=True), 1),
    ):
        with open_results(out, fingerprint, retry_failed=options.retry_failed) as results:
            summary = run_batch(asked, scorer, results, options, FAST)
        assert summary.scored + summary.failed == tried
    assert len(rows_of(out)) == 2


@pytest.mark.parametrize(
    ("breaks", "num_failed"),
    [
        (lambda prepared: len(prepared) > 1, 0),  # too much for the memory at once
        (lambda prepared: any(p.content.clip.transcript == "Bad." for p in prepared), 1),
    ],
)
def test_a_pass_that_fails_is_done_again_clip_by_clip(scorer, monkeypatch, breaks, num_failed):
    real = scorer.score_prepared

    def fragile(prepared, *rest):
        if breaks(prepared):
            raise torch.OutOfMemoryError("out of memory")
        return real(prepared, *rest)

    monkeypatch.setattr(scorer, "score_prepared", fragile)
    clips = [Clip(transcript=words, id=words) for words in ("Good.", "Bad.", "Fine.", "Nice.")]
    summary = run_batch(clips, scorer, ablation=FAST)
    assert (summary.scored, summary.failed) == (4 - num_failed, num_failed)
    for record in summary.records:
        assert (record.error is not None) == (num_failed == 1 and record.clip == "Bad.")
        if record.error:
            assert record.error["type"] == "OutOfMemoryError"
            assert record.error["message"].startswith("out of memory (test_batch.py, line ")


def test_a_bug_in_one_clip_of_many_is_its_row_and_says_where(scorer, clips, monkeypatch):
    real = scorer.prepare

    def buggy(content, hide):
        if content.clip.transcript == "Not bad.":
            raise IndexError("list index out of range")
        return real(content, hide)

    monkeypatch.setattr(scorer, "prepare", buggy)
    summary = run_batch([clips[2], clips[4]], scorer, ablation=FAST)
    good, bad = summary.records
    assert good.error is None and bad.error["type"] == "IndexError"
    assert "list index out of range (test_batch.py, line " in bad.error["message"]


def test_a_bug_with_the_only_clip_keeps_its_traceback(scorer, clips, monkeypatch):
    monkeypatch.setattr(scorer, "prepare", lambda *_: [][0])
    with pytest.raises(IndexError):
        run_batch([clips[2]], scorer, ablation=FAST)


def test_an_only_clip_that_cannot_be_read_is_a_row(scorer, clips):
    (record,) = run_batch([clips[1]], scorer, ablation=FAST).records
    assert record.error["type"] == "MediaError" and "damaged.wav" in record.error["message"]


def test_one_file_is_read_in_a_process_too_and_words_alone_are_not(scorer, clips, monkeypatch):
    readers_made = []

    def readers(*arguments):
        readers_made.append(arguments)
        return ClipReaders(*arguments)

    monkeypatch.setattr("omni_msa.media.feed.ClipReaders", readers)
    assert run_batch([Clip(transcript="so good")], scorer, ablation=FAST).scored == 1
    assert not readers_made
    assert run_batch(clips[:1], scorer, ablation=FAST).scored == 1
    assert len(readers_made) == 1


def test_progress_counts_every_clip(scorer, clips, tmp_path):
    seen: list[BatchProgress] = []
    with open_results(tmp_path / "out.jsonl", scorer.fingerprint(FAST)) as results:
        run_batch(clips[:2], scorer, results, ablation=FAST)
        run_batch(clips, scorer, results, ablation=FAST, progress=seen.append)
    assert [now.done for now in seen] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert (seen[-1].skipped, seen[-1].scored, seen[-1].failed) == (2, 4, 1)
    assert seen[-1].seconds_left == 0.0 and seen[0].seconds_left is None
    assert {now.last.clip for now in seen if now.last} == {clip.name for clip in clips[2:]}


def test_an_interrupt_keeps_what_is_finished_and_leaves_no_process(scorer, tmp_path):
    clips = [Clip(write_wav(tmp_path / f"{i}.wav", seed=i)) for i in range(8)]
    out = tmp_path / "out.jsonl"

    def stop_after_two(now: BatchProgress) -> None:
        if now.done == 2:
            raise KeyboardInterrupt

    options = BatchOptions(batch_size=1)
    with (
        pytest.raises(KeyboardInterrupt),
        open_results(out, scorer.fingerprint(FAST)) as results,
    ):
        run_batch(clips, scorer, results, options, FAST, progress=stop_after_two)
    assert len(rows_of(out)) == 2
    assert [p for p in psutil.Process().children() if "omni_msa" in " ".join(p.cmdline())] == []
    with open_results(out, scorer.fingerprint(FAST)) as results:
        summary = run_batch(clips, scorer, results, options, FAST)
    assert (summary.skipped, summary.scored) == (2, 6)


def test_records_may_be_left_to_the_file(scorer, clips, tmp_path):
    with open_results(tmp_path / "out.jsonl", scorer.fingerprint(FAST)) as results:
        summary = run_batch(clips, scorer, results, ablation=FAST, keep_records=False)
    assert not any(summary.records) and summary.scored == 5


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_finished_file_is_in_input_order_and_a_rerun_leaves_it(scorer, tmp_path, suffix):
    # lengths that alternate are scored in groups, so they are known out of order
    clips = [
        Clip(transcript="good " * (1 if i % 2 else 40), id=f"row {i}", row_id=f"mine {i}")
        for i in range(12)
    ]
    path = tmp_path / f"r.{suffix}"

    def run() -> list[str]:
        fingerprint = scorer.fingerprint(FAST)
        with open_results(path, fingerprint) as results:
            run_batch(clips, scorer, results, BatchOptions(batch_size=4), FAST)
        return [record.clip for record in read_records(path)]

    assert run() == [clip.name for clip in clips]
    assert [record.id for record in read_records(path)] == [clip.row_id for clip in clips]
    before = path.read_bytes()
    assert run() == [clip.name for clip in clips]
    assert path.read_bytes() == before


def test_a_batch_reads_only_what_its_checkpoint_is_shown(base_folder, tmp_path, clips):
    from conftest import make_checkpoint

    from omni_msa.options import ModelOptions
    from omni_msa.scoring.scorer import Scorer

    folder = make_checkpoint(base_folder, tmp_path / "deaf", hide=["audio"])
    deaf = Scorer.load(ModelOptions(model=str(base_folder), checkpoint=str(folder)))
    clip = replace(clips[0], transcript="I love this film.")
    alone = deaf.score(clip, FAST)
    batched = run_batch([clip, clips[2]], deaf, ablation=FAST).records[0]
    assert batched is not None and "audio_seconds" not in batched.media
    assert (batched.media, batched.warnings) == (alone.media, alone.warnings)
    # the checkpoint hides it, not the user
    assert not [w for w in alone.warnings if "on request" in w]
    assert [w for w in alone.warnings if "trained without audio" in w]
