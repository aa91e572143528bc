"""The generator of synthetic clips: its stated function, and channels that say what is stated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("PIL", reason="drawing faces needs the tiny extra")
pytest.importorskip("espeakng_loader", reason="speaking needs the tiny extra")

from scripts.tiny.clips import CASES, draw_spec, make, sentiment  # noqa: E402
from scripts.tiny.face import Expression, draw_head, draw_look, face_term  # noqa: E402
from scripts.tiny.voice import Prosody, voice_term  # noqa: E402
from scripts.tiny.words import sentence  # noqa: E402


def test_terms_add_up_and_what_is_not_shown_counts_nothing():
    assert sentiment(1.0, 0.5, -0.25) == 1.25
    assert sentiment(1.0, 0.5, -0.25, shown={"audio"}) == 0.5
    assert sentiment(1.0, 0.5, -0.25, shown=set()) == 0.0
    assert sentiment(3.0, 1.5, 1.8) == 3.0


def test_sarcasm_turns_good_words_only_when_voice_and_face_are_both_sour():
    assert sentiment(2.0, -0.8, -0.8) == pytest.approx(-1.0 - 1.6)
    assert sentiment(2.0, -0.8, -0.8, shown={"text", "audio"}) == pytest.approx(1.2)
    assert sentiment(2.0, -0.8, 0.3) == pytest.approx(1.5)
    assert sentiment(0.5, -0.8, -0.8) == pytest.approx(-1.1)


def test_terms_stay_in_their_ranges_and_follow_their_cues():
    rng = np.random.default_rng(0)
    for _ in range(300):
        assert -3 <= sentence(rng).value <= 3
        assert -1.5 <= voice_term(Prosody(*rng.uniform(-1, 1, 4))) <= 1.5
        assert -1.8 <= face_term(Expression(*rng.uniform(-1, 1, 2), 1.0)) <= 1.8
    assert (
        voice_term(Prosody(0.8, 0.5, 0.5, 0.0)) > 1 > -0.7 > voice_term(Prosody(-0.8, -0.5, 0, 0))
    )
    assert face_term(Expression(0.9, 0.5, 1.0)) > 1 > -1 > face_term(Expression(-0.9, -0.5, 1.0))


def test_a_seed_is_a_clip_and_cases_keep_their_promise():
    assert draw_spec(7) == draw_spec(7) != draw_spec(8)
    for case in CASES:
        for seed in range(20):
            terms = draw_spec(seed, case, "both").terms
            if case == "sarcasm":
                assert terms["text"] >= 1 and terms["audio"] <= -0.4 and terms["video"] <= -0.4
            if case == "face_alone":
                assert abs(terms["video"]) > max(abs(terms["text"]), abs(terms["audio"]))


def test_a_smile_and_a_frown_differ_around_the_mouth_only():
    look = replace(draw_look(np.random.default_rng(1)), beard="none", hair_style="bald", hat="none")
    smile, frown = (
        np.asarray(draw_head(look, Expression(m, 0.0, 1.0), 0.0, 96), np.int16) for m in (1, -1)
    )
    rows = np.nonzero(np.abs(smile - frown).sum((1, 2)))[0] / 96
    assert len(rows) and rows.min() > 0.5 and rows.max() < 0.78


def test_a_made_clip_is_read_back_with_what_it_should_have(tmp_path):
    from omni_msa.media import read_clip
    from omni_msa.options import MediaOptions
    from omni_msa.values import Clip

    for seed, tracks in ((11, "both"), (12, "picture"), (13, "sound")):
        spec = draw_spec(seed, "glad", tracks)
        content = read_clip(Clip(path=make(spec, tmp_path / str(seed))), MediaOptions())
        assert content.parts.keys() == spec.present - {"text"}
