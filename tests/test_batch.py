"""Many clips: one row each, in shared passes, resumable, whatever goes wrong with some of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from sounds import write_wav

from omni_msa.errors import MediaError
from omni_msa.files.results import open_results
from omni_msa.model.inputs import Segment, ThinkerInputs
from omni_msa.options import AblationOptions, BatchOptions
from omni_msa.scoring.batch import BatchProgress, _Item, _Waiting, run_batch
from omni_msa.scoring.scorer import Prepared
from omni_msa.values import Clip, ClipContent

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


def test_one_clip_is_read_here_unless_its_decoder_must_be_killable(scorer, clips, monkeypatch):
    used = []

    def readers(*arguments):
        used.append(arguments)
        raise MediaError("not in this test")

    monkeypatch.setattr("omni_msa.scoring.batch.ClipReaders", readers)
    assert run_batch(clips[:1], scorer, ablation=FAST).scored == 1
    assert not used
    monkeypatch.setattr(scorer, "media", replace(scorer.media, decoder="decord"))
    with pytest.raises(MediaError, match="not in this test"):
        run_batch(clips[:1], scorer, ablation=FAST)


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


# --- who shares a pass -----------------------------------------------------------------------


def item(index: int, num_tokens: int, modality: str = "text") -> _Item:
    def segment(length: int) -> Segment:
        return Segment(torch.zeros(length, dtype=torch.long), torch.zeros(3, length))

    inputs = ThinkerInputs(segment(0), {modality: segment(num_tokens)}, segment(0))
    content = ClipContent(Clip(transcript="x", id=str(index)), "")
    return _Item(index, Prepared(content, inputs, 0.0))


def groups_of(items: list[_Item], batch_size: int) -> tuple[list[list[int]], list[list[int]]]:
    """The groups that went while clips came in, and those at the end."""
    waiting = _Waiting(batch_size)
    early, late = [], []
    for one in items:
        waiting.add(one)
        early.append([i.index for i in waiting.ready()])
    while group := waiting.oldest():
        late.append([i.index for i in group])
    return [group for group in early if group], late


def test_a_group_goes_as_soon_as_enough_are_alike():
    early, late = groups_of([item(i, 100 + i) for i in range(7)], batch_size=3)
    assert [sorted(group) for group in early] == [[0, 1, 2], [3, 4, 5]] and late == [[6]]


def test_long_and_short_clips_do_not_pad_each_other():
    items = [item(i, 1000 if i % 2 else 100) for i in range(8)]
    early, late = groups_of(items, batch_size=4)
    assert [sorted(group) for group in early] == [[0, 2, 4, 6], [1, 3, 5, 7]] and not late


def test_what_waits_is_bounded_and_none_waits_for_ever():
    # one lonely clip, then lengths that never come together
    items = [item(0, 1, "audio")] + [item(i, 10 * 2**i) for i in range(1, 12)]
    waiting = _Waiting(2)
    gone: list[int] = []
    for one in items:
        waiting.add(one)
        gone += [i.index for i in waiting.ready()]
        assert len(waiting._items) <= 4
    assert gone[0] == 0


def test_each_clip_goes_alone_when_the_batch_size_is_one():
    early, late = groups_of([item(i, 10) for i in range(3)], batch_size=1)
    assert early == [[0], [1], [2]] and not late


def test_every_clip_goes_exactly_once():
    rng = np.random.default_rng(1)
    items = [
        item(i, int(rng.integers(10, 2000)), ("text", "audio", "video")[int(rng.integers(3))])
        for i in range(200)
    ]
    early, late = groups_of(items, batch_size=4)
    assert sorted(i for group in early + late for i in group) == list(range(200))
    for group in early + late:
        assert len(group) <= 4
        assert len({items[i].prepared.pattern for i in group}) == 1
