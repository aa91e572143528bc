"""Only what was made alike, but for the seed, is averaged as seeds."""

from __future__ import annotations

import json
import shutil

import pytest

from omni_msa.errors import ConfigError
from omni_msa.evaluation.comparison import systems
from omni_msa.media.feed import FileFeed
from omni_msa.options import MediaOptions, ModelOptions
from omni_msa.training.data import data_sha256
from omni_msa.values import Clip


@pytest.fixture
def seeds(checkpoint_folder, tmp_path):
    """Two folders of the same training; a call changes what the second one records of itself."""
    first, second = tmp_path / "first", tmp_path / "second"
    shutil.copytree(checkpoint_folder, first)
    training = {"seed": 0, "epochs": 3, "start": None, "left_out": []}
    training["method_options"] = {"penalty": None}

    def compare(training_of_second=None, **changes):
        shutil.copytree(first, second, dirs_exist_ok=True)
        for folder, own in ((first, {}), (second, training_of_second or {})):
            path = folder / "omni_msa.json"
            info = json.loads(path.read_text()) | {"training": training | own}
            info |= {"readout_sha256": "other", **changes} if folder == second else {}
            path.write_text(json.dumps(info))
        clips = [Clip(transcript="fine", label=1.0)]
        asked = ModelOptions(checkpoint=str(first))
        return systems(asked, [str(second)], [], clips, clips, "auto")

    return compare


def test_two_seeds_are_two_systems(seeds):
    found = seeds({"seed": 1, "left_out": ["clip"], "save_every": 7}, seed=1)
    assert len(found) == 2 and {system.label_space.range for system in found} == {(-3.0, 3.0)}


@pytest.mark.parametrize(
    ("training", "changes", "told"),
    [
        ({"epochs": 4}, {}, r"epochs \(3, 4\)"),
        ({"start": "abc"}, {}, r"start \(False, True\)"),
        ({"adapter": {"seed": 3, "epochs": 1}}, {}, "adapter"),
        ({}, {"hide": ["audio"]}, "never shown"),
        ({}, {"media": {"max_frames": 4}}, "media"),
        ({"method_options": {"head": "linear"}}, {}, "readout settings"),
    ],
)
def test_anything_else_is_told(seeds, training, changes, told):
    with pytest.raises(ConfigError, match=f"more than its seed: .*{told}"):
        seeds(training, **changes)


def test_what_a_fit_has_chosen_is_no_difference_and_what_the_user_has_is(seeds):
    assert len(seeds(readout_settings={"penalty": 1.0})) == 2
    with pytest.raises(ConfigError, match="more than its seed: .*penalty"):
        seeds({"method_options": {"penalty": 1e6}})


def test_a_name_that_is_typed_differently_is_the_same_data(tmp_path):
    def feed(folder, label=1.0):
        return FileFeed([Clip(path=tmp_path / folder / "a.mp4", label=label)], MediaOptions())

    assert data_sha256(train=feed("here")) == data_sha256(train=feed("there"))
    assert data_sha256(train=feed("here")) != data_sha256(train=feed("here", 2.0))
    assert data_sha256(train=feed("here")) != data_sha256(valid=feed("here"))
