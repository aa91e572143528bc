"""One pass gives the score, every subset, what each drop changes, and exact contributions."""

from __future__ import annotations

import pytest
from conftest import make_content

from omni_msa.errors import MediaError
from omni_msa.modalities import MODALITIES, all_subsets, subset_name
from omni_msa.options import AblationOptions
from omni_msa.scoring.ablation import shapley, subsets_to_score

FULL = AblationOptions()


def one(scorer, content, ablation=FULL, hide=frozenset()):
    return scorer.score_prepared([scorer.prepare(content, hide)], ablation, hide)[0]


def test_a_record_holds_all_subsets_drops_and_contributions(scorer):
    record = one(scorer, make_content())
    ablation = record.ablation
    assert list(ablation.subsets) == ["", "T", "A", "V", "TA", "TV", "AV", "TAV"]
    assert record.score == ablation.subsets["TAV"]
    assert -3 <= record.score <= 3 and record.range == (-3.0, 3.0)
    assert ablation.drop["audio"]["score"] == ablation.subsets["TV"]
    assert ablation.drop["audio"]["delta"] == ablation.subsets["TV"] - record.score
    total = sum(ablation.contribution.values())
    assert total == pytest.approx(record.score - ablation.subsets[""], abs=1e-9)


def test_shapley_is_exact_on_a_game_whose_values_are_known():
    """Additive parts are their own; an interaction of two is shared in halves."""
    worth = {"text": 1.0, "audio": -0.5, "video": 0.25, "ecg": 0.0}
    games = {}
    for subset in all_subsets(frozenset(MODALITIES)):
        games[subset] = sum(worth[m] for m in subset)
        if {"text", "audio"} <= subset:
            games[subset] += 0.8
    values = shapley(games, frozenset(MODALITIES))
    assert values == pytest.approx({"text": 1.4, "audio": -0.1, "video": 0.25, "ecg": 0.0})


def test_the_score_is_the_same_with_and_without_ablation(scorer):
    content = make_content()
    bare = one(scorer, content, AblationOptions(enabled=False))
    assert bare.ablation is None
    assert bare.score == pytest.approx(one(scorer, content).score, abs=1e-4)


def test_drop_reports_that_drop_only(scorer):
    content = make_content()
    record = one(scorer, content, AblationOptions(drop=frozenset({"audio"})))
    full = one(scorer, content)
    assert set(record.ablation.subsets) == {"TV", "TAV"}
    assert set(record.ablation.drop) == {"audio"}
    assert record.ablation.contribution == {}
    delta = full.ablation.drop["audio"]["delta"]
    assert record.ablation.drop["audio"]["delta"] == pytest.approx(delta, abs=1e-4)


def test_dropping_two_reports_each_and_both(scorer):
    record = one(scorer, make_content(), AblationOptions(drop=frozenset({"audio", "text"})))
    assert set(record.ablation.subsets) == {"V", "TV", "AV", "TAV"}
    assert set(record.ablation.drop) == {"text", "audio", "text+audio"}
    assert record.ablation.drop["text+audio"]["score"] == record.ablation.subsets["V"]


def test_hiding_a_modality_is_the_subset_without_it(scorer):
    content = make_content()
    hidden = one(scorer, content, hide=frozenset({"audio"}))
    assert hidden.modalities["audio"] is None and hidden.modalities["video"] == "track 0"
    assert hidden.score == pytest.approx(one(scorer, content).ablation.subsets["TV"], abs=1e-4)
    assert set(hidden.ablation.contribution) == {"text", "video"}


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"seconds": None}, ["", "T", "V", "TV"]),
        ({"num_frames": None}, ["", "T", "A", "TA"]),
        ({"text": None, "num_frames": None}, ["", "A"]),
        ({"seconds": None, "num_frames": None}, ["", "T"]),
    ],
)
def test_what_a_clip_lacks_is_left_out_not_replaced(scorer, changes, names):
    record = one(scorer, make_content(**changes))
    assert list(record.ablation.subsets) == names


def test_the_batch_a_clip_is_in_does_not_change_its_score(scorer):
    """The bar is 1e-3; measured differences are float rounding."""
    contents = [
        make_content(seed=1),
        make_content(
            seed=2, seconds=6.0, text="Something longer than the others, to need padding."
        ),
        make_content(seed=3, num_frames=None),
        make_content(seed=4, seconds=None),
    ]
    together = scorer.score_prepared([scorer.prepare(c) for c in contents], FULL)
    for record, content in zip(together, contents, strict=True):
        alone = one(scorer, content)
        assert record.clip == alone.clip
        for name, score in alone.ablation.subsets.items():
            assert record.ablation.subsets[name] == pytest.approx(score, abs=1e-4)


def test_dropping_all_that_a_clip_has_is_one_clear_line(scorer):
    content = make_content(text=None, num_frames=None)
    everything = AblationOptions(drop=frozenset({"audio", "text"}))
    with pytest.raises(MediaError, match="it has audio only, and all of it is dropped; drop less"):
        one(scorer, content, everything)


def test_the_fingerprint_covers_what_changes_a_score(scorer):
    plain = scorer.fingerprint(FULL)
    assert plain == scorer.fingerprint(AblationOptions())
    others = {
        scorer.fingerprint(AblationOptions(enabled=False)),
        scorer.fingerprint(AblationOptions(drop=frozenset({"text"}))),
        scorer.fingerprint(FULL, frozenset({"text"})),
    }
    assert len(others | {plain}) == 4


def test_subsets_to_score_end_with_the_whole_clip():
    present = frozenset({"text", "video"})
    for options in (
        FULL,
        AblationOptions(enabled=False),
        AblationOptions(drop=frozenset({"audio"})),
    ):
        assert subsets_to_score(present, options)[-1] == present
    assert [subset_name(s) for s in subsets_to_score(present, FULL)] == ["", "T", "V", "TV"]


def test_what_the_user_drops_is_said_in_the_record(scorer):
    hide = frozenset({"audio"})
    prepared = scorer.prepare(make_content(), hide)
    (record,) = scorer.score_prepared([prepared], AblationOptions(), hide)
    assert "dropped on request: audio" in record.warnings
    (whole,) = scorer.score_prepared([scorer.prepare(make_content())], AblationOptions())
    assert not [warning for warning in whole.warnings if "dropped" in warning]
