"""`--states`: the vectors that a head sees, in the order of the results, of whatever batch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import MEDIA, make_content
from media_files import tone, write_media

from omni_msa.__main__ import main
from omni_msa.errors import ConfigError
from omni_msa.files.labels import LabelSpace
from omni_msa.files.states_file import check_states_file, write_states
from omni_msa.methods import make_method
from omni_msa.modalities import all_subsets
from omni_msa.options import AblationOptions, MediaOptions
from omni_msa.scoring.states import StateCollector


def contents(number: int = 5):
    """Of several patterns and lengths."""
    lacks = ({}, {"seconds": None}, {"num_frames": None}, {"text": None}, {"seconds": 1.0})
    return [make_content(seed=i, num_frames=2, **lacks[i]) if "num_frames" not in lacks[i]
            else make_content(seed=i, **lacks[i]) for i in range(number)]  # fmt: skip


def collected(scorer, groups, ablation=AblationOptions()):  # noqa: B008
    """What is kept of clips that are scored in these groups."""
    scorer.state_collector = collector = StateCollector()
    try:
        for group in groups:
            scorer.score_prepared([scorer.prepare(content) for content in group], ablation)
    finally:
        scorer.state_collector = None
    return collector.table([c.clip.name for group in groups for c in group])


def test_the_head_gives_the_score_of_the_state(scorer):
    """With the ablation and without: the state is that of the whole clip."""
    clips = contents()
    names, states, scores = collected(scorer, [clips])
    assert names == [content.clip.name for content in clips]
    assert states.dtype == np.float32 and states.shape == (5, scorer.thinker.width)
    with torch.inference_mode():
        read = scorer.label_space.restore(scorer.method(torch.from_numpy(states)))
    assert read.tolist() == pytest.approx(scores, abs=1e-4)
    _, alone, _ = collected(scorer, [clips], AblationOptions(enabled=False))
    np.testing.assert_allclose(states, alone, atol=1e-4)


def test_states_of_a_batch_are_those_of_clips_one_by_one(scorer):
    clips = contents()
    together, apart = collected(scorer, [clips]), collected(scorer, [[c] for c in clips])
    assert together[0] == apart[0]
    np.testing.assert_allclose(together[1], apart[1], atol=1e-4)
    assert together[2] == pytest.approx(apart[2], abs=1e-4)


@pytest.mark.parametrize("name", ["verbalizer", "generative", "probe"])
@torch.inference_mode()
def test_every_readout_says_which_states_it_read(thinker, name):
    method = make_method(name, thinker, LabelSpace()).eval()
    builder = thinker.builder(method.question())
    clips = [builder.build(content, MediaOptions(**MEDIA)) for content in contents(2)]
    subsets = [all_subsets(clip.present) for clip in clips]
    reading = method.read(thinker, clips, subsets)
    plain = thinker.forward(thinker.batch(clips, subsets))
    for b, shown in enumerate(subsets):
        torch.testing.assert_close(
            reading.states[b, : len(shown)], plain[b, : len(shown)], atol=1e-4, rtol=1e-4
        )


# --- the file -----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["npz", "parquet", "NPZ"])
def test_what_is_written_comes_back(tmp_path, suffix):
    path = tmp_path / f"states.{suffix}"
    states = np.arange(6, dtype=np.float32).reshape(2, 3) / 7
    write_states(path, ["größe.mp4[1.0-2.0]", "b\n.mp4"], states, [0.1, -2.5])
    if suffix == "parquet":
        table = pq.read_table(path)
        clips, scores = (table[name].to_pylist() for name in ("clip", "score"))
        found = np.array(table["states"].to_pylist(), dtype=np.float32)
        assert str(table.schema.field("states").type).startswith("fixed_size_list")
    else:
        arrays = np.load(path)  # no pickle in it
        clips, scores = arrays["clip"].tolist(), arrays["score"].tolist()
        found = arrays["states"]
        assert found.dtype == np.float32
    assert clips == ["größe.mp4[1.0-2.0]", "b\\n.mp4"] and scores == [0.1, -2.5]
    np.testing.assert_array_equal(found, states)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_is_refused_in_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"a file of states ends in one of \.npz, \.parquet"):
        check_states_file(tmp_path / "s.csv")
    with pytest.raises(ConfigError, match="name a file in a folder that exists"):
        check_states_file(tmp_path / "no" / "s.npz")
    if Path("/proc/self").exists():  # where even root writes nothing
        with pytest.raises(ConfigError, match="nothing can be written in its folder"):
            check_states_file(Path("/proc/self/s.npz"))
    with pytest.raises(ConfigError, match=r"the results go to it \(-o\)"):
        check_states_file(tmp_path / "s.parquet", tmp_path / "s.parquet")
    output = tmp_path / "rows.parquet"
    check_states_file(tmp_path / "s.npz", output)
    (tmp_path / "rows.parquet.partial").touch()  # of a run that was stopped
    with pytest.raises(ConfigError, match="has rows of an earlier run, whose states were not kept"):
        check_states_file(tmp_path / "s.npz", output)
    check_states_file(tmp_path / "s.npz", output, fresh=True)


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    write_media(folder / "b.mp4", 4, rate=4, size=(64, 48), sound=tone(1.0, hertz=200))
    write_media(folder / "a.mp4", 4, rate=4, size=(64, 48))
    (folder / "c.mp4").write_bytes(b"no media")
    return folder


@pytest.mark.slow
def test_score_writes_the_states_of_what_it_scored(folder, checkpoint_folder, tmp_path, capsys):
    output, path = tmp_path / "rows.jsonl", tmp_path / "states.npz"
    arguments = ["score", str(folder), "--checkpoint", str(checkpoint_folder), "--workers", "1"]
    arguments += ["-o", str(output), "--states", str(path)]
    assert main(arguments) == 3  # one clip is no media
    assert f"{path}: the states of 2 clips, 64 numbers each" in capsys.readouterr().err
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    rows = [row for row in rows if row["score"] is not None]
    arrays = np.load(path)
    assert arrays["clip"].tolist() == [row["clip"] for row in rows]
    assert arrays["score"].tolist() == [row["score"] for row in rows]
    assert arrays["states"].shape == (2, 64)
    before = path.read_bytes()
    assert main(arguments) == 2  # again: nothing would be scored
    assert "score all clips anew with --fresh" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_no_state_no_file(folder, checkpoint_folder, tmp_path, capsys):
    path = tmp_path / "states.parquet"
    arguments = ["score", str(folder / "c.mp4"), "--checkpoint", str(checkpoint_folder)]
    assert main([*arguments, "--states", str(path)]) == 3
    assert "not written, there is no state of any clip" in capsys.readouterr().err
    assert not path.exists()
