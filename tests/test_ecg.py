"""The heart beside a clip: where it is looked for, which part of it is read, what it adds."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import MEDIA, make_content
from media_files import tone, write_media
from pyarrow import csv

from omni_msa.errors import ManifestError, MediaError
from omni_msa.files.manifest import read_manifest
from omni_msa.files.results import open_results
from omni_msa.files.sources import expand_inputs
from omni_msa.files.splits import SplitOptions, split_manifest
from omni_msa.media import read_clip
from omni_msa.media.cache import ContentCache
from omni_msa.media.identity import clip_sha256
from omni_msa.media.readers import ClipReaders
from omni_msa.methods import make_method
from omni_msa.methods.layers.ecg import EcgEncoder, drop_leads
from omni_msa.modalities import all_subsets, others, subset_name
from omni_msa.model.packing import pack
from omni_msa.model.traces import lead_columns
from omni_msa.options import AblationOptions, MediaOptions
from omni_msa.scoring.checkpoint import Checkpoint
from omni_msa.scoring.scorer import Scorer
from omni_msa.values import Clip, Traces

OPTIONS = MediaOptions(**MEDIA)
NO_HEART = frozenset({"ecg"})


def beats(seconds, rate=250):
    """A peak a second on lead II, whose height grows with time; half of it on lead I."""
    time = np.arange(round(seconds * rate)) / rate
    peaks = (1 + 0.1 * time) * np.exp(-(((time % 1 - 0.5) / 0.03) ** 2))
    return time, {"I": 0.5 * peaks, "II": peaks}


def write_heart(path, seconds=6.0):
    time, leads = beats(seconds)
    csv.write_csv(pa.table({"time": time, **leads}), path)
    return path


@pytest.fixture
def clip(tmp_path):
    """Three seconds of picture and sound with words, and six seconds of heart beside them."""
    path = write_media(tmp_path / "a.mp4", num_frames=24, sound=tone(3.0))
    path.with_suffix(".txt").write_text("I love this film.")
    write_heart(tmp_path / "a.ecg.csv")
    return Clip(path)


def heart_of(clip, **changes):
    content = read_clip(replace(clip, **changes), OPTIONS)
    return content, content.parts.get("ecg")


# --- reading -----------------------------------------------------------------------------------


def test_a_heart_beside_a_clip_is_read_over_the_clips_own_time(clip):
    content, heart = heart_of(clip)
    assert heart.leads == ("I", "II") and heart.source == "sidecar a.ecg.csv"
    assert heart.duration_seconds == pytest.approx(3.0, abs=0.1)
    assert content.media["ecg_leads"] == ["I", "II"] and content.media["ecg_format"] == "csv"
    assert content.present == {"text", "audio", "video", "ecg"} and not content.warnings


def test_a_window_and_a_start_move_together(clip):
    """The heart's peaks grow with time, so that their height tells which of them were read."""
    heights = {}
    for name, changes in {
        "start": {"end_seconds": 2.5},  # shorter than 3 s, which are read
        "window": {"start_seconds": 0.5, "end_seconds": 3.0},
        "later": {"end_seconds": 2.5, "ecg_start_seconds": 2.5},
        "both": {"start_seconds": 0.5, "end_seconds": 3.0, "ecg_start_seconds": 2.5},
    }.items():
        _, heart = heart_of(clip, **changes)
        assert heart.duration_seconds == pytest.approx(3.0, abs=0.02)
        heights[name] = float(heart.values[:, 1].max())
    assert heights["start"] < heights["later"] and heights["window"] < heights["both"]
    assert heights["later"] - heights["start"] == pytest.approx(0.25, abs=0.12)


def test_the_manifest_names_a_heart_and_where_the_clip_begins_in_it(clip, tmp_path):
    write_heart(tmp_path / "b.ecg.csv")
    rows = {"clip": "a.mp4", "ecg": "b.ecg.csv", "ecg_start_seconds": 1.5}
    (tmp_path / "m.jsonl").write_text(json.dumps(rows))
    (row,) = read_manifest(tmp_path / "m.jsonl")
    assert row.ecg == tmp_path / "b.ecg.csv" and row.ecg_start_seconds == 1.5
    _, heart = heart_of(row)
    assert heart.source == "manifest b.ecg.csv"
    _, other = heart_of(clip)
    assert not np.array_equal(heart.values, other.values)


def test_a_heart_that_cannot_be_read_costs_no_clip_its_row(clip, tmp_path):
    (tmp_path / "a.ecg.csv").write_text("time,II\n0,what\n")
    content, heart = heart_of(clip)
    assert heart is None and content.present == {"text", "audio", "video"}
    (warning,) = content.warnings
    assert warning.startswith("scored without ecg: ") and "a.ecg.csv" in warning


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ecg_start_seconds": 4.0}, "ecg covers 2.0 of 3.0 s"),
        ({"ecg_start_seconds": 9.0}, "scored without ecg: "),
        (
            {"ecg_start_seconds": 5.0},
            "scored without ecg: ",
        ),  # one second is too short
    ],
)
def test_what_a_heart_does_not_cover_is_said(clip, changes, words):
    content, _ = heart_of(clip, **changes)
    assert any(words in warning for warning in content.warnings), content.warnings


def test_a_long_heart_is_cut_as_sound_is(tmp_path):
    path = write_heart(tmp_path / "a.ecg.csv", 8.0)
    content = read_clip(Clip(path), replace(OPTIONS, max_audio_seconds=5.0))
    assert content.parts["ecg"].duration_seconds == pytest.approx(5.0)
    assert content.warnings == ("ecg truncated: beyond 5 s nothing is shown",)


def test_a_record_alone_is_a_clip(tmp_path):
    path = write_heart(tmp_path / "rec.ecg.csv")
    content = read_clip(Clip(path), OPTIONS)
    assert content.present == {"ecg"} and not content.warnings
    assert content.media["duration_seconds"] == 6.0 and content.media["container"] == "csv"
    path.write_text("time\n")
    with pytest.raises(MediaError, match="rec.ecg.csv"):
        read_clip(Clip(path), OPTIONS)


def test_the_heart_is_part_of_what_a_clip_is(clip, tmp_path):
    wfdb = pytest.importorskip("wfdb", reason="the extra ecg is not installed")
    hashes = {clip_sha256(clip), clip_sha256(replace(clip, ecg_start_seconds=1.0))}
    write_heart(tmp_path / "a.ecg.csv", 7.0)
    hashes.add(clip_sha256(clip))
    (tmp_path / "a.ecg.csv").unlink()
    hashes.add(clip_sha256(clip))
    for height in (1.0, 2.0):  # the header stays the same: it names the length alone
        wfdb.wrsamp(
            "rec", fs=250, units=["mV"], sig_name=["II"], fmt=["16"], write_dir=str(tmp_path),
            p_signal=height * beats(4.0)[1]["II"][:, None], adc_gain=[1000.0], baseline=[0],
        )  # fmt: skip
        (tmp_path / "rec.hea").rename(tmp_path / "a.ecg.hea")
        hashes.add(clip_sha256(clip))
    assert len(hashes) == 6
    _, heart = heart_of(clip)
    assert heart.leads == ("II",) and heart.source == "sidecar a.ecg.hea"


def test_what_was_read_comes_back_from_the_cache(clip, tmp_path):
    cache = ContentCache(tmp_path / "cache", 10**9)
    content, heart = heart_of(clip)
    key = cache.key(clip, OPTIONS, frozenset())
    cache.put(key, content)
    stored = cache.get(key, clip).parts["ecg"]
    assert stored.leads == heart.leads and np.array_equal(stored.values, heart.values)


def test_a_folder_gives_records_and_not_what_lies_beside_clips(clip, tmp_path):
    for name in ("r.hea", "r.dat", "s.edf", "a.ecg.edf", "b.ecg.csv"):
        (tmp_path / name).write_bytes(b"")
    clips, notices = expand_inputs([str(tmp_path)])
    assert [c.path.name for c in clips] == ["a.mp4"]
    assert notices == [
        f"2 heart records in {tmp_path} skipped: score them without clips beside them"
    ]
    clip.path.unlink()
    clips, notices = expand_inputs([str(tmp_path)])
    assert [c.path.name for c in clips] == ["r.hea", "s.edf"] and not notices
    clips, _ = expand_inputs([str(tmp_path / "b.ecg.csv")])
    assert [c.path.name for c in clips] == ["b.ecg.csv"]


# --- the encoder -------------------------------------------------------------------------------


def lead_rows(lengths, seed=0):
    """Rows of leads side by side, padded with what must not matter, and their mask."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randn(length, 12, generator=generator) for length in lengths]
    values = torch.full((len(rows), max(lengths), 12), 1e6)
    for row, leads in zip(values, rows, strict=True):
        row[: len(leads)] = leads
    return rows, values, torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(5)
    return EcgEncoder(16, 2).eval()


@torch.inference_mode()
def test_padding_and_neighbours_change_nothing(encoder):
    rows, values, mask = lead_rows([200, 317, 263, 8])
    together = encoder(values, mask)
    for row, state in zip(rows, together, strict=True):
        alone = encoder(row[None], torch.ones(1, len(row), dtype=torch.bool))
        torch.testing.assert_close(alone[0], state, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_the_gain_of_a_recorder_does_not_matter_and_proportions_do(encoder):
    rows, _, _ = lead_rows([300])
    mask = torch.ones(1, 300, dtype=torch.bool)
    state = encoder(rows[0][None], mask)
    torch.testing.assert_close(encoder(7.0 * rows[0][None], mask), state, atol=1e-5, rtol=0)
    rows[0][:, 0] *= 3
    assert (encoder(rows[0][None], mask) - state).abs().max() > 1e-3


@torch.inference_mode()
def test_nothing_gives_a_number(encoder):
    for length in (0, 1, 300):
        state = encoder(torch.zeros(2, length, 12), torch.zeros(2, length, dtype=torch.bool))
        assert state.isfinite().all() and state.shape == (2, 16)


def test_in_training_leads_go_missing_but_never_all():
    torch.manual_seed(0)
    leads = drop_leads(torch.ones(400, 3, 12))[:, 0]
    num_kept = leads.sum(dim=1)
    assert num_kept.min() >= 1 and 0.4 < float((num_kept == 12).float().mean()) < 0.7


def test_a_lead_has_its_own_column():
    columns = lead_columns(Traces(np.ones((5, 2), np.float32), ("aVR", "V6")))
    assert columns.sum(0).tolist() == [0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 5]


# --- beside the Thinker's states ---------------------------------------------------------------


@pytest.fixture(scope="module")
def fused(scorer):
    """The scorer of the session with a heart whose weights are random."""
    torch.manual_seed(4)
    info = scorer.checkpoint.info
    method = make_method("regression", scorer.thinker, info.label_space, {"ecg": "true"})
    method.load_state_dict(method.state_dict() | scorer.method.state_dict())
    torch.nn.init.normal_(method.heart.out.weight, std=0.3)
    checkpoint = Checkpoint(scorer.checkpoint.folder, info, method.eval())
    return Scorer(scorer.thinker, checkpoint, scorer.media)


@torch.inference_mode()
def test_a_clip_without_a_heart_is_scored_bit_for_bit_as_before(scorer, fused):
    content = make_content()
    (before,) = scorer.score_prepared([scorer.prepare(content)], AblationOptions())
    (after,) = fused.score_prepared([fused.prepare(content)], AblationOptions())
    assert before.ablation == after.ablation and before.score == after.score
    assert scorer.hidden == NO_HEART and not fused.hidden


@torch.inference_mode()
def test_sixteen_subsets_in_one_pass_of_as_many_tokens_are_as_one_at_a_time(fused):
    content, other = make_content(ecg_seconds=3.3), make_content(text=None, seed=2, ecg_seconds=2)
    clips = [fused.prepare(c).inputs for c in (content, other)]
    subsets = [all_subsets(clip.present) for clip in clips]
    assert [len(row) for row in subsets] == [16, 8]
    bare = replace(clips[0], features={k: v for k, v in clips[0].features.items() if k != "ecg"})
    tree, bare_tree = pack(clips[0], subsets[0]), pack(bare, all_subsets(bare.present))
    assert len(tree.token_ids) == len(bare_tree.token_ids)
    together = fused.method.read(fused.thinker, clips, subsets).scores
    for b, clip in enumerate(clips):
        for k, subset in enumerate(subsets[b]):
            alone = fused.method.read(fused.thinker, [clip], [[subset]]).scores[0, 0]
            assert float(together[b, k]) == pytest.approx(float(alone), abs=1e-4), subset_name(
                subset
            )


def test_a_record_says_what_the_heart_contributed(fused):
    (record,) = fused.score_prepared(
        [fused.prepare(make_content(ecg_seconds=3))], AblationOptions()
    )
    assert record.modalities["ecg"] == "made" and len(record.ablation.subsets) == 16
    assert set(record.ablation.contribution) == {"text", "audio", "video", "ecg"}
    total = sum(record.ablation.contribution.values())
    assert total == pytest.approx(record.score - record.ablation.subsets[""], abs=1e-5)
    assert "ecg" in record.ablation.drop and "TAVE" in record.ablation.subsets


def test_a_heart_can_be_left_out_and_what_does_not_look_at_it_keeps_its_fingerprint(scorer, fused):
    content = make_content(ecg_seconds=3)
    (record,) = fused.score_prepared(
        [fused.prepare(content, NO_HEART)], AblationOptions(), NO_HEART
    )
    assert record.modalities["ecg"] is None and "dropped on request: ecg" in record.warnings
    everything = AblationOptions()
    assert fused.fingerprint(everything) != fused.fingerprint(everything, NO_HEART)
    identity = scorer.identity
    assert identity.hidden == others()
    shown_all = replace(identity, hidden=frozenset())
    assert identity.fingerprint(everything) == shown_all.fingerprint(everything)


def test_a_heart_that_a_model_does_not_look_at_is_said(clip, scorer, fused):
    assert "ecg not looked at: sidecar a.ecg.csv" in scorer.score(clip).warnings
    record = fused.score(clip)
    assert record.modalities["ecg"] == "sidecar a.ecg.csv" and not record.warnings


def test_reading_a_heart_leaves_a_reader_memory_for_clips(clip, tmp_path):
    """What reads tables reserved so much of a reader's memory that no later picture decoded."""
    big = write_media(tmp_path / "b.mp4", num_frames=24, size=(1280, 720), sound=tone(3.0))
    clips = [clip, Clip(big), replace(clip, start_seconds=0.5), Clip(big)]
    with ClipReaders(OPTIONS, 1) as readers:
        contents = dict(readers.read(clips))
    assert [sorted(contents[i].present) for i in range(4)] == [
        ["audio", "ecg", "text", "video"], ["audio", "video"],
    ] * 2  # fmt: skip


def test_what_is_dropped_does_not_make_the_heart_longer(clip):
    content = read_clip(clip, OPTIONS, frozenset({"audio", "video", "text"}))
    assert content.parts["ecg"].duration_seconds == pytest.approx(3.0, abs=0.1)


@pytest.mark.parametrize("suffix", [".hea", ".edf", ".csv"])
def test_a_pipe_beside_a_clip_is_not_waited_for(clip, tmp_path, suffix):
    (tmp_path / "a.ecg.csv").unlink()
    os.mkfifo(tmp_path / f"a.ecg{suffix}")
    assert clip_sha256(clip) is not None
    content, heart = heart_of(clip)
    assert heart is None and any(w.startswith("scored without ecg: ") for w in content.warnings)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"clip": "a.mp4", "ecg": "h.edf", "ecg_start_seconds": -1}, "is negative"),
        ({"clip": "a.hea", "ecg": "h.edf"}, "the clip is one itself"),
    ],
)
def test_hearts_that_cannot_be_are_refused_with_the_manifest(tmp_path, row, words):
    (tmp_path / "m.jsonl").write_text(json.dumps(row))
    with pytest.raises(ManifestError, match=words):
        read_manifest(tmp_path / "m.jsonl")


def test_a_manifest_keeps_its_hearts_wherever_it_goes(clip, tmp_path, scorer):
    """Split into another folder, and from the rows of results."""
    row = {"clip": "a.mp4", "ecg": "a.ecg.csv"}
    rows = [json.dumps(row | {"speaker": name, "end_seconds": 2.5}) for name in "xyz"]
    (tmp_path / "m.jsonl").write_text("\n".join(rows))
    row, *_ = read_manifest(tmp_path / "m.jsonl")
    results = tmp_path / "deep" / "r.jsonl"
    results.parent.mkdir()
    with open_results(results, scorer.fingerprint(AblationOptions())) as file:
        file.write(scorer.score(row))
    (again,) = read_manifest(results)
    assert again.ecg is not None and again.ecg.samefile(row.ecg)
    ids = tmp_path / "deep" / "s.jsonl"
    split_manifest(tmp_path / "m.jsonl", ids, SplitOptions())
    assert read_manifest(ids)[0].ecg.samefile(row.ecg)
