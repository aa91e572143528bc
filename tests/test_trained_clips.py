"""A checkpoint knows the clips it was made with by their content."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

from omni_msa.media.identity import clip_sha256, content_sha256
from omni_msa.scoring.trained_clips import DIGITS, KEY, TrainedClips, clip_keys
from omni_msa.values import Clip


def counts(train: int = 0, valid: int = 0, same_file: int = 0) -> dict[str, int]:
    return {"train": train, "valid": valid, "same_file": same_file}


def files(folder, number):
    clips = []
    for i in range(number):
        path = folder / f"{i}.mp4"
        path.write_bytes(b"clip %d" % i)
        clips.append(Clip(path=path, transcript=f"words {i}"))
    return clips


def test_a_clip_is_known_by_content_wherever_it_lies(tmp_path):
    clips = files(tmp_path, 4)
    recorded = TrainedClips.of(clips[:2], clips[2:3])
    shutil.copy(clips[0].path, tmp_path / "renamed.mp4")
    renamed = Clip(path=tmp_path / "renamed.mp4", transcript="words 0", split="test")
    assert recorded.overlap(clip_keys([renamed, *clips[1:]])) == counts(2, 1)
    assert clip_keys(clips[:1])[0].name == content_sha256(clips[0].path)[:DIGITS]


def spellings(folder) -> list[Clip]:
    """One whole file with the same words, six times."""
    path = folder / "a.mp4"
    path.write_bytes(b"a clip")
    path.with_suffix(".txt").write_text("so good\n")
    texts = [None, "so good", " so  good\n"]
    starts = [None, 0.0]
    return [Clip(path, transcript=text, start_seconds=s) for text in texts for s in starts]


def test_a_clip_is_known_however_its_row_is_spelled(tmp_path):
    clips = spellings(tmp_path)
    assert len({clip_sha256(clip) for clip in clips}) == 1
    for clip in clips:
        assert TrainedClips.of([clip]).overlap(clip_keys(clips)) == counts(6)
    others = [replace(clips[0], transcript="bad"), replace(clips[0], end_seconds=1.0)]
    assert TrainedClips.of(clips).overlap(clip_keys(others)) == counts(1, same_file=1)
    words = [Clip(transcript=text) for text in ("so good", "so good\n")]
    assert TrainedClips.of(words[:1]).overlap(clip_keys(words)) == counts(2)


def test_what_older_checkpoints_recorded_is_known_again(tmp_path):
    """Hashes as they were written before files and words were told apart."""
    clips = spellings(tmp_path)
    whole = Clip(tmp_path / "b.mp4")
    whole.path.write_bytes(b"alone")
    window = Clip(whole.path, transcript="x", start_seconds=1.0)
    older = ["d4a1a22c31d0", "a11d586da93e", "a6a24122c353", "2c26b46b68ff"]
    measured = [clips[0], clips[2], window, Clip(transcript="foo")]
    assert [keys.older for keys in clip_keys(measured)] == older
    recorded = TrainedClips.recorded({KEY: {"train": " ".join(older)}})
    assert recorded.overlap(clip_keys(measured)) == counts(4)
    recorded = TrainedClips.recorded({KEY: {"train": content_sha256(whole.path)[:DIGITS]}})
    assert recorded.overlap(clip_keys([whole, window])) == counts(1, same_file=1)


def test_two_windows_of_a_file_are_two_clips(tmp_path):
    [clip] = files(tmp_path, 1)
    first, second = (
        Clip(path=clip.path, transcript="x", start_seconds=start, end_seconds=start + 1)
        for start in (0.0, 1.0)
    )
    recorded = TrainedClips.of([first])
    assert recorded.overlap(clip_keys([first, second])) == counts(1, same_file=1)


def test_what_cannot_be_read_is_not_recorded(tmp_path):
    gone = Clip(path=tmp_path / "gone.mp4")
    assert TrainedClips.of([gone]).to_json() == {"train": "", "valid": ""}
    assert TrainedClips.of([gone]).overlap(clip_keys([gone])) == counts()


def test_a_record_survives_json_and_holds_what_its_adapter_saw(tmp_path):
    clips = files(tmp_path, 3)
    adapter = TrainedClips.of(clips[:1], clips[1:2])
    own = TrainedClips.of(clips[2:])
    training = {KEY: own.to_json(), "adapter": {KEY: adapter.to_json()}}
    recorded = TrainedClips.recorded(json.loads(json.dumps(training)))
    assert recorded == adapter | own
    assert recorded.overlap(clip_keys(clips)) == counts(2, 1)


def test_an_older_checkpoint_does_not_say():
    assert TrainedClips.recorded({}) is None
    assert TrainedClips.recorded({KEY: ["damaged"]}) is None
    record = TrainedClips().to_json()
    assert TrainedClips.recorded({KEY: record, "adapter": {"epochs": 1}}) is None
    assert TrainedClips.recorded({KEY: record, "adapter": {}}) == TrainedClips()


def test_a_few_thousand_clips_stay_small():
    clips = [Clip(transcript=str(i)) for i in range(5000)]
    assert len(json.dumps(TrainedClips.of(clips).to_json())) < 80_000
