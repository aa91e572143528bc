"""The synthetic heart says what it is stated to say, on every lead."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.tiny.heart import KINDS, RATE, Heart, beat_times, draw_heart, record

QUIET = {"noise": 0.0, "wander": 0.0, "mains": 0.0}
LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


def lead(leads, name):
    return leads[:, LEADS.index(name)]


def mean_beat(heart, name, seconds=20.0):
    """A lead from 0.3 s before the R peak to 0.5 s behind it, averaged over usual beats."""
    times, kinds = beat_times(heart, seconds)
    values = lead(record(heart, seconds), name)
    cuts = [
        values[round((at - 0.3) * RATE) :][:400]
        for at, kind in zip(times, kinds, strict=True)
        if 0.5 < at < seconds - 1 and kind != "premature"
    ]
    return np.mean(cuts, axis=0)


@pytest.mark.parametrize("kind", KINDS)
def test_twelve_leads_of_two_independent_limbs(kind):
    leads = record(Heart(kind, seed=3, **QUIET), 6.0)
    assert leads.shape == (3000, 12) and leads.dtype == np.float32 and np.isfinite(leads).all()
    one, two = lead(leads, "I"), lead(leads, "II")
    np.testing.assert_allclose(lead(leads, "III"), two - one, atol=1e-5)
    np.testing.assert_allclose(lead(leads, "aVR"), -(one + two) / 2, atol=1e-5)
    assert (np.abs(leads).max(axis=0) > 0.05).all() and np.abs(leads).max() < 6


def test_the_same_seed_is_the_same_record():
    np.testing.assert_array_equal(record(Heart(seed=1), 3.0), record(Heart(seed=1), 3.0))
    assert (record(Heart(seed=1), 3.0) != record(Heart(seed=2), 3.0)).any()


def test_an_aroused_heart_is_faster_and_more_even():
    def intervals(arousal):
        return np.diff(beat_times(Heart(arousal=arousal, seed=5), 120.0)[0])

    calm, aroused = intervals(0.0), intervals(1.0)
    assert 60 / calm.mean() < 75 and 60 / aroused.mean() > 90
    assert calm.std() / calm.mean() > 2 * aroused.std() / aroused.mean()


def test_kinds_are_told_apart_by_what_defines_them():
    beats = {kind: mean_beat(Heart(kind, seed=7, **QUIET), "V1") for kind in KINDS}
    peak = 150  # the sample of R
    before = slice(45, 95)  # P
    shown = {k: np.ptp(mean_beat(Heart(k, seed=7, **QUIET), "II")[before]) for k in KINDS[:2]}
    assert shown["sinus"] > 0.08 > 2 * shown["fibrillation"]
    assert beats["right block"][peak : peak + 60].max() > 0.4  # R' in V1
    assert beats["left block"][peak : peak + 60].max() < 0.2
    width = {k: (np.abs(b[peak - 40 : peak + 70]) > 0.15).mean() for k, b in beats.items()}
    assert width["left block"] > 1.5 * width["sinus"]
    times, kinds = beat_times(Heart("premature beats", seed=7), 60.0)
    early = [i for i, kind in enumerate(kinds) if kind == "premature"]
    steps = np.diff(times)
    assert len(early) > 4 and np.mean(steps[np.array(early) - 1]) < 0.75 * np.median(steps)
    irregular = np.diff(beat_times(Heart("fibrillation", seed=7), 60.0)[0])
    assert irregular.std() / irregular.mean() > 0.15


def test_swapped_arms_turn_the_first_lead_over():
    right, wrong = (record(Heart(seed=4, is_swapped=swap, **QUIET), 4.0) for swap in (False, True))
    np.testing.assert_allclose(lead(wrong, "I"), -lead(right, "I"), atol=1e-6)
    np.testing.assert_allclose(lead(wrong, "II"), lead(right, "III"), atol=1e-6)
    np.testing.assert_array_equal(lead(wrong, "V3"), lead(right, "V3"))


def test_recordings_differ_in_what_disturbs_them():
    hearts = [draw_heart("sinus", 0.5, seed) for seed in range(200)]
    assert len({heart.noise for heart in hearts}) == 200
    assert 1 <= sum(heart.is_swapped for heart in hearts) <= 20
