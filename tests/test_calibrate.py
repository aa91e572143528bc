"""A probe from a few labelled clips: what is fitted is what a loaded checkpoint scores."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import MEDIA, make_content
from media_files import write_media

from omni_msa.errors import ConfigError, ManifestError
from omni_msa.files.labels import LabelSpace
from omni_msa.media.feed import FileFeed
from omni_msa.methods.ridge import fit_ridge
from omni_msa.options import AblationOptions, MediaOptions, ModelOptions
from omni_msa.scoring.checkpoint import read_info
from omni_msa.scoring.inspection import inspect_checkpoint
from omni_msa.scoring.last_states import last_states
from omni_msa.scoring.scorer import Scorer
from omni_msa.training.fit import FEWEST, calibrate, load_frozen
from omni_msa.values import Clip
from scripts.memory_feed import MemoryFeed

SPACE = LabelSpace()
WORDS = ("I love this film.", "The food was cold.", "It was wonderful.", "The service was bad.")
WHOLE = AblationOptions(enabled=False)


def labelled(number=10, labels=None, **changes):
    """Clips whose words tell the sign of their label."""
    contents = []
    for i in range(number):
        text = " ".join([WORDS[i % 2], WORDS[i % 4]])
        sign = 1.0 if i % 2 == 0 else -1.0
        label = labels[i] if labels else sign * (1.0 + 0.1 * i)
        small = {"text": text, "seconds": 0.5 + 0.1 * (i % 3), "num_frames": 2, "size": (56, 56)}
        content = make_content(**(small | changes), seed=i)
        contents.append(replace(content, clip=replace(content.clip, label=label)))
    return contents


def frozen_model(base_folder, checkpoint=None):
    options = ModelOptions(model=str(base_folder), checkpoint=checkpoint and str(checkpoint))
    return load_frozen(options, MEDIA)


def scores_of(scorer, contents):
    return [
        scorer.score_prepared([scorer.prepare(content)], WHOLE)[0].score for content in contents
    ]


def fitted_scores(frozen, contents, space=SPACE):
    """What the closed form says of the states that `frozen` has now, clipped to the range."""
    states, labels, _ = last_states(frozen, MemoryFeed(contents))
    fit = fit_ridge(states, labels[:, None])
    return (states @ fit.weight[0] + fit.bias).clamp(*space.range).tolist()


@pytest.fixture(scope="module")
def fitted(base_folder, tmp_path_factory):
    """A bare base, calibrated; the model that was used, the clips, the folder and its account."""
    out = tmp_path_factory.mktemp("calibrated") / "checkpoint"
    frozen, contents, seen = frozen_model(base_folder), labelled(), []
    info = calibrate(frozen, MemoryFeed(contents), out, SPACE, progress=lambda *a: seen.append(a))
    return frozen, contents, out, info, seen


def test_it_tells_the_labels_better_than_their_mean(fitted):
    _, contents, _, info, seen = fitted
    labels = torch.tensor([c.clip.label for c in contents])
    guess = float((labels - labels.mean()).abs().mean())
    assert info.metrics["leave_one_out_mae"] < 0.7 * guess
    assert info.training["clips"] == 10
    assert seen == [(i, None) for i in range(1, 11)]


def test_the_checkpoint_holds_a_probe_and_no_adapter(fitted, base_folder):
    _, contents, out, info, _ = fitted
    assert sorted(p.name for p in out.iterdir()) == ["omni_msa.json", "readout.safetensors"]
    assert read_info(out) == info
    assert info.method == "probe" and info.lora == {} and info.adapter_sha256 == ""
    assert info.method_options["penalty"] > 0
    assert info.training["method_options"] == {"penalty": None}  # as it was chosen
    assert info.base == str(base_folder) and info.notice is None
    assert info.media == MediaOptions(**MEDIA).to_json()
    labels = [c.clip.label for c in contents]
    assert info.label_space.mean == pytest.approx(sum(labels) / 10)
    assert info.label_space.range == SPACE.range


def test_a_loaded_probe_scores_what_was_fitted(fitted):
    _, contents, out, _, _ = fitted
    scorer = Scorer.load(ModelOptions(checkpoint=str(out)))
    assert scorer.name == "probe" and scorer.label_space.range == SPACE.range and not scorer.remarks
    assert not scorer.thinker.adapted
    expected = fitted_scores(scorer, contents)
    assert scores_of(scorer, contents) == pytest.approx(expected, abs=1e-3)
    assert len({round(score, 3) for score in expected}) > 2  # it is no constant


def test_the_built_in_clip_is_verified_on_loading(fitted):
    _, _, out, info, _ = fitted
    found = inspect_checkpoint(ModelOptions(checkpoint=str(out)))
    assert found.check == "passed"
    assert found.scores == pytest.approx(info.self_check["scores"], abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("label_range", [(-1.0, 1.0), (0.0, 10.0)])
@pytest.mark.parametrize("adapted", [False, True])
def test_another_label_range_is_asked_for_in_the_same_words_later(
    base_folder, checkpoint_folder, tmp_path, label_range, adapted
):
    """The question names the range: states under another one are not those that were fitted."""
    low, high = label_range
    labels = [(low, high)[i % 2] + (0.01, -0.01)[i % 2] * i * high for i in range(10)]
    contents = labelled(labels=labels)
    frozen = frozen_model(base_folder, checkpoint_folder if adapted else None)
    out = tmp_path / "checkpoint"
    calibrate(frozen, MemoryFeed(contents), out, LabelSpace(*label_range))
    options = ModelOptions(checkpoint=str(out))
    assert inspect_checkpoint(options).check == "passed"
    scorer = Scorer.load(options)
    assert scorer.label_space.range == label_range
    expected = fitted_scores(scorer, contents, LabelSpace(*label_range))
    assert scores_of(scorer, contents) == pytest.approx(expected, abs=1e-3)


def test_a_checkpoint_lends_its_adapter(base_folder, checkpoint_folder, fitted, tmp_path):
    frozen = frozen_model(base_folder, checkpoint=checkpoint_folder)
    contents = labelled()
    out = tmp_path / "checkpoint"
    info = calibrate(frozen, MemoryFeed(contents), out, SPACE)
    assert info.adapter_sha256 == read_info(checkpoint_folder).adapter_sha256
    assert info.method == "probe" and "mae" not in info.metrics
    scorer = Scorer.load(ModelOptions(checkpoint=str(out)))
    assert scorer.thinker.adapted
    scores = scores_of(scorer, contents)
    assert scores == pytest.approx(fitted_scores(scorer, contents), abs=1e-3)
    bare = last_states(fitted[0], MemoryFeed(contents))[0]
    assert not torch.allclose(last_states(scorer, MemoryFeed(contents))[0], bare, atol=1e-2)


def test_states_do_not_depend_on_the_batch(fitted):
    frozen, contents, *_ = fitted
    contents = [*contents, *labelled(2, num_frames=None), *labelled(1, seconds=None)]
    together, labels, _ = last_states(frozen, MemoryFeed(contents))
    apart = [last_states(frozen, MemoryFeed([content]))[0] for content in contents]
    torch.testing.assert_close(together, torch.cat(apart), atol=1e-4, rtol=1e-4)
    assert labels.tolist() == pytest.approx([c.clip.label for c in contents])


def test_hidden_modalities_are_never_shown_again(base_folder, tmp_path):
    contents, hide = labelled(), frozenset({"audio"})
    out = tmp_path / "checkpoint"
    info = calibrate(frozen_model(base_folder), MemoryFeed(contents), out, SPACE, hide)
    assert info.hide == ["audio"] and set(info.self_check["scores"]) == {"", "T", "V", "TV"}
    silent = labelled(seconds=None)
    scorer = Scorer.load(ModelOptions(checkpoint=str(out)))
    assert scores_of(scorer, contents) == pytest.approx(scores_of(scorer, silent), abs=1e-4)


def test_a_clip_that_cannot_be_shown_is_left_out_and_told(base_folder, tmp_path):
    """Its label is left out with it."""
    contents, hide = labelled(9), frozenset({"audio"})
    contents[4] = labelled(1, labels=[2.9], text=None, num_frames=None)[0]
    frozen, seen = frozen_model(base_folder), []
    feed = MemoryFeed(contents)
    info = calibrate(
        frozen, feed, tmp_path / "a", SPACE, hide, progress=lambda *told: seen.append(told)
    )
    assert info.training["clips"] == 8
    reasons = {number: reason for number, reason in seen if reason is not None}
    assert list(reasons) == [5] and "clip0.mp4" in reasons[5]
    assert [number for number, _ in seen] == list(range(1, 10))
    _, labels, shown = last_states(frozen, feed, hide)
    others = [c.clip.label for c in contents if c is not contents[4]]
    assert labels.tolist() == pytest.approx(others)


def test_files_that_cannot_be_read_are_left_out_and_told(base_folder, tmp_path):
    path = write_media(tmp_path / "good.mp4", 8, 8)
    clips = [Clip(transcript=WORDS[i % 4], label=(-1.0) ** i, id=f"{i}") for i in range(8)]
    clips.insert(3, Clip(path=tmp_path / "missing.mp4", label=1.0))
    clips.append(Clip(path=path, label=1.0))
    seen = []
    feed = FileFeed(clips, MediaOptions(**MEDIA))
    info = calibrate(
        frozen_model(base_folder), feed, tmp_path / "a", SPACE, progress=lambda *a: seen.append(a)
    )
    assert info.training["clips"] == 9
    assert [number for number, reason in seen if reason and "no such file" in reason] == [4]


def test_too_few_clips_are_refused(base_folder, tmp_path):
    out = tmp_path / "checkpoint"
    with pytest.raises(ManifestError, match=f"7 clips to fit on; a probe needs {FEWEST}"):
        calibrate(frozen_model(base_folder), MemoryFeed(labelled(7)), out, SPACE)
    missing = [Clip(path=tmp_path / f"missing{i}.mp4", label=i / 4) for i in range(FEWEST)]
    feed = FileFeed(missing, MediaOptions(**MEDIA))
    with pytest.raises(ManifestError, match=f"0 clips could be read; a probe needs {FEWEST}"):
        calibrate(frozen_model(base_folder), feed, out, SPACE)
    assert not (out / "omni_msa.json").exists()


def test_a_checkpoint_is_never_overwritten(fitted):
    frozen, contents, out, _, _ = fitted
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(ConfigError, match="holds a finished checkpoint; give another -o"):
        calibrate(frozen, MemoryFeed(contents), out, SPACE)
    assert before == {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.mark.parametrize(
    ("label", "error", "message"),
    [
        (None, ManifestError, r"1 clips have no label in \[-3, 3\], such as clip2.mp4 \(None\)"),
        (3.5, ManifestError, r"clip2.mp4 \(3.5\)"),
        (1.0, ConfigError, "all training labels are equal"),
    ],
)
def test_labels_are_checked_before_anything_is_read(fitted, tmp_path, label, error, message):
    contents = labelled(labels=[1.0] * 10)
    contents[2] = replace(contents[2], clip=replace(contents[2].clip, label=label))
    feed = MemoryFeed(contents)
    feed.read = None  # whoever reads fails
    with pytest.raises(error, match=message):
        calibrate(fitted[0], feed, tmp_path / "a", SPACE)
