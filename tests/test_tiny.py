"""The embedded model and the sample clips, as a new user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import ROOT, SHARED

from omni_msa.__main__ import main
from omni_msa.media import read_clip
from omni_msa.media.record_files import LEADS
from omni_msa.model.loading import TINY
from omni_msa.options import AblationOptions, MediaOptions, ModelOptions
from omni_msa.scoring.identity import NO_DEVICE
from omni_msa.scoring.scorer import Scorer
from omni_msa.values import Clip
from scripts.tiny.heart import record as record_heart
from scripts.tiny.hearts import heart_of
from scripts.tiny.measure_ecg import content_of, macro_auc

SAMPLES = ROOT / "sample_media"
FACTS = json.loads((SAMPLES / "facts.json").read_text())
HEARTS = json.loads((SAMPLES / "hearts.json").read_text())
MEDIA_SECONDS = 0.15  # containers round durations to frames and audio blocks


@pytest.fixture(scope="module")
def tiny_ecg():
    return Scorer.load(ModelOptions(checkpoint="tiny-ecg"))


@pytest.fixture(scope="module")
def records(tiny):
    return {name: tiny.score(SAMPLES / name) for name in FACTS}


def test_it_fits_and_says_what_it_is(tiny):
    size = sum(f.stat().st_size for f in TINY.rglob("*") if f.is_file())
    assert size < 20 * 1024**2
    notice = tiny.checkpoint.info.notice
    assert "demonstration" in notice and "Qwen2.5-Omni-7B" in notice
    assert "\n" not in notice
    assert tiny.describe()["base"] == "tiny" and tiny.describe()["quantize"] == "none"


def test_its_base_is_in_the_published_layout():
    names = {f.name for f in (TINY / "base").iterdir()}
    assert {"config.json", "preprocessor_config.json", "tokenizer.json", "chat_template.json",
            "model.safetensors.index.json", "vocab.json", "merges.txt"} <= names  # fmt: skip
    index = json.loads((TINY / "base" / "model.safetensors.index.json").read_text())
    prefixes = {key.split(".")[1] for key in index["weight_map"]}
    assert prefixes == {"model", "visual", "audio_tower", "lm_head"}


@pytest.mark.parametrize("name", sorted(FACTS))
def test_every_sample_is_read_as_ffprobe_describes_it(name):
    """ffprobe shares no code with this project's reader (its libraries do not come with it)."""
    content = read_clip(Clip(path=SAMPLES / name), MediaOptions())
    probed = FACTS[name]["ffprobe"]
    kinds = {s["codec_type"]: s for s in probed["streams"]}
    assert ("video" in content.parts) == ("video" in kinds)
    assert ("audio" in content.parts) == ("audio" in kinds)
    assert content.parts["text"].text == FACTS[name]["generator"]["text"]
    assert content.media["duration_seconds"] == pytest.approx(
        float(probed["format"]["duration"]), abs=MEDIA_SECONDS
    )
    if "video" in kinds:
        video = kinds["video"]
        assert content.media["num_frames_in_file"] == int(video["nb_read_frames"])
        turned = any(abs(d.get("rotation", 0)) == 90 for d in video.get("side_data_list", []))
        height, width = content.parts["video"].rgb.shape[1:3]
        assert (height > width) == ((video["width"] > video["height"]) == turned and
                                    video["width"] != video["height"])  # fmt: skip


def test_the_samples_scores_go_with_what_the_generator_meant(records):
    for name, record in records.items():
        meant = FACTS[name]["generator"]["sentiment"] + HEARTS.get(name, {}).get("term", 0.0)
        assert abs(record.score - meant) < 1.5, (name, record.score, meant)
        if abs(meant) > 1:
            assert (record.score > 0) == (meant > 0), (name, record.score, meant)


def test_sarcasm_is_heard_and_seen_behind_good_words(records):
    ablation = records["sarcastic.mp4"].ablation
    assert ablation.subsets["T"] > 0.5 > 0 > records["sarcastic.mp4"].score


def test_a_glad_face_alone_contributes_most(records):
    contribution = records["face_alone.mp4"].ablation.contribution
    assert max(contribution, key=contribution.get) == "video"


@pytest.mark.slow
def test_the_batch_and_the_hidden_modality_agree_with_the_single_score(tiny, records):
    name = "glad.mp4"
    hidden = tiny.score(SAMPLES / name, hide=frozenset({"audio"}))
    assert hidden.score == pytest.approx(records[name].ablation.subsets["TV"], abs=1e-3)
    contents = [read_clip(Clip(path=SAMPLES / n), tiny.media) for n in FACTS]
    together = tiny.score_prepared([tiny.prepare(c) for c in contents], AblationOptions())
    for record, alone in zip(together, records.values(), strict=True):
        assert record.score == pytest.approx(alone.score, abs=1e-3)


@pytest.mark.slow
def test_four_bit_moves_the_scores_a_little(records):
    """docs/measurements.md states how far; here only that it is the same model."""
    quantized = Scorer.load(ModelOptions(quantize="4bit"))
    assert quantized.thinker.base.quantize == "4bit"
    moved = [
        abs(quantized.score(SAMPLES / name).score - record.score)
        for name, record in records.items()
        if Path(name).suffix == ".mp4"
    ]
    assert 0 < max(moved) < 1.5


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "text").is_dir(), reason="the rated sentences are not here")
def test_words_are_rated_as_people_rate_them(tiny):
    """A small draw of sentences that were held out of training; figures: docs/measurements.md."""
    import numpy as np

    from scripts.tiny.sentences import load_sentences

    held_out = [s for s in load_sentences(SHARED / "text") if s.held_out and "nyt" not in s.genre]
    part = held_out[::12]
    scores = [tiny.score(Clip(transcript=s.text)).score for s in part]
    assert len(part) > 80
    assert np.corrcoef(scores, [s.rating for s in part])[0, 1] > 0.6


# --- hearts ------------------------------------------------------------------------------------


def test_a_racing_heart_contributes_most_where_nothing_else_is_said(records):
    record = records["racing.mp4"]
    assert len(record.ablation.subsets) == 16 and record.modalities["ecg"].startswith("sidecar")
    contribution = record.ablation.contribution
    assert max(contribution, key=lambda name: abs(contribution[name])) == "ecg"
    assert contribution["ecg"] < -0.5 and record.interval[0] < record.score < record.interval[1]


@pytest.mark.parametrize("name", ["record.hea", "record.edf"])
def test_records_alone_are_read_by_the_embedded_checkpoint_of_hearts(capsys, name):
    pytest.importorskip("wfdb", reason="the extra ecg is not installed")
    assert main(["score", str(SAMPLES / name), "--json"]) == 0
    output = capsys.readouterr()
    row = json.loads(output.out)
    findings = row["findings"]
    assert [max(findings, key=lambda finding: findings[finding])] == HEARTS[name]["findings"]
    assert row["model"]["checkpoint"] == "tiny-ecg" and NO_DEVICE in row["warnings"]
    assert "demonstration" in output.err and "no medical device" in output.err


def test_beside_a_clip_a_record_is_scored_as_one(capsys):
    pytest.importorskip("pyedflib", reason="the extra ecg is not installed")
    names = [str(SAMPLES / name) for name in ("glad.mp4", "record.edf")]
    assert main(["score", *names, "--json"]) == 0
    output = capsys.readouterr()
    rows = json.loads(output.out)
    assert [row["findings"] for row in rows] == [None, None] and rows[1]["score"] is not None
    assert "heart records beside clips (1) are scored as clips are" in output.err


@pytest.mark.slow
def test_unseen_hearts_are_told_apart_with_and_without_a_lead(tiny_ecg):
    """The whole figures are in docs/measurements.md; these are of fewer records."""
    hearts = [heart_of(seed) for seed in range(2_500_000, 2_500_080)]
    values = [record_heart(heart, 10.0) for heart in hearts]
    whole = macro_auc(tiny_ecg, [content_of(v, LEADS) for v in values], hearts)
    without = macro_auc(tiny_ecg, [content_of(v, LEADS[:6]) for v in values], hearts)
    assert whole > 0.95 and without > 0.9
