"""A checkpoint knows the clips it was made with by their content."""

from __future__ import annotations

import json
import shutil

from omni_msa.media.identity import clip_sha256
from omni_msa.scoring.trained_clips import DIGITS, KEY, TrainedClips, clip_hashes
from omni_msa.values import Clip


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
    assert recorded.overlap(clip_hashes([renamed, *clips[1:]])) == {"train": 2, "valid": 1}
    assert clip_hashes(clips[:1]) == [clip_sha256(clips[0])[:DIGITS]]


def test_two_windows_of_a_file_are_two_clips(tmp_path):
    [clip] = files(tmp_path, 1)
    first, second = (
        Clip(path=clip.path, transcript="x", start_seconds=start, end_seconds=start + 1)
        for start in (0.0, 1.0)
    )
    recorded = TrainedClips.of([first])
    assert recorded.overlap(clip_hashes([first, second])) == {"train": 1, "valid": 0}


def test_what_cannot_be_read_is_not_recorded(tmp_path):
    gone = Clip(path=tmp_path / "gone.mp4")
    assert TrainedClips.of([gone]).to_json() == {"train": "", "valid": ""}
    assert TrainedClips.of([gone]).overlap(clip_hashes([gone])) == {"train": 0, "valid": 0}


def test_a_record_survives_json_and_holds_what_its_adapter_saw(tmp_path):
    clips = files(tmp_path, 3)
    adapter = TrainedClips.of(clips[:1], clips[1:2])
    own = TrainedClips.of(clips[2:])
    training = {KEY: own.to_json(), "adapter": {KEY: adapter.to_json()}}
    recorded = TrainedClips.recorded(json.loads(json.dumps(training)))
    assert recorded == adapter | own
    assert recorded.overlap(clip_hashes(clips)) == {"train": 2, "valid": 1}


def test_an_older_checkpoint_does_not_say():
    assert TrainedClips.recorded({}) is None
    assert TrainedClips.recorded({KEY: ["damaged"]}) is None
    record = TrainedClips().to_json()
    assert TrainedClips.recorded({KEY: record, "adapter": {"epochs": 1}}) is None
    assert TrainedClips.recorded({KEY: record, "adapter": {}}) == TrainedClips()


def test_a_few_thousand_clips_stay_small():
    clips = [Clip(transcript=str(i)) for i in range(5000)]
    assert len(json.dumps(TrainedClips.of(clips).to_json())) < 80_000
