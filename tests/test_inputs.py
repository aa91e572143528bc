"""Tokens, patches, log-mel and positions are the reference processor's, where it is right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_content

from omni_msa.errors import MediaError
from omni_msa.modalities import all_subsets
from omni_msa.model.inputs import num_audio_tokens
from omni_msa.model.packing import pack
from omni_msa.model.prompt import conversation
from omni_msa.options import MediaOptions
from omni_msa.values import Transcript, Waveform


def reference(thinker, content, subset, fps=2.0):
    """What the transformers processor makes of the same frames, samples and words."""
    text = content.parts["text"].text if content.parts["text"] else None
    chat = conversation(subset, text)
    rendered = thinker.processor.apply_chat_template(
        chat, tokenize=False, add_generation_prompt=True
    )
    given = {"text": [rendered], "return_tensors": "pt"}
    if "video" in subset:
        frames = torch.from_numpy(content.parts["video"].rgb).permute(0, 3, 1, 2).float()
        given |= {"videos": [frames], "videos_kwargs": {"do_sample_frames": False, "fps": fps}}
        given["videos_kwargs"] |= {"do_resize": False, "cap_pixels_per_frame": False}
    if "audio" in subset:
        given |= {"audio": [content.parts["audio"].samples], "sampling_rate": 16000}
    return thinker.processor(**given)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("I love it.", marks=pytest.mark.slow),
        "Ça va très bien — 好看 🙂",
        pytest.param("\tOdd   spaces\n\nhere", marks=pytest.mark.slow),
    ],
)
def test_token_ids_equal_the_reference_for_every_subset(thinker, text):
    content = make_content(text=text, seconds=2.345)
    inputs = thinker.builder().build(content, MediaOptions())
    for subset in all_subsets(inputs.present):
        theirs = reference(thinker, content, subset)["input_ids"][0]
        assert torch.equal(pack(inputs, [subset]).token_ids, theirs), subset


@pytest.mark.parametrize("samples", [1600, 16000, 16001, 16159, 50000])
def test_log_mel_at_true_length_equals_the_reference_padded_to_300_seconds(thinker, samples):
    content = make_content(seconds=samples / 16000)
    theirs = reference(thinker, content, frozenset({"audio"}))
    kept = int(theirs["feature_attention_mask"].sum())
    mel = thinker.builder().log_mel(content.parts["audio"])
    assert mel.shape == (128, kept)
    # The same transform of the same samples; only the order of float sums may differ.
    torch.testing.assert_close(mel, theirs["input_features"][0, :, :kept], atol=1e-5, rtol=0)


def test_patches_and_grid_equal_the_reference(thinker):
    content = make_content()
    theirs = reference(thinker, content, frozenset({"video"}))
    shown = thinker.builder().patches(content.parts["video"])
    patches, grid = shown.pixels, shown.grid_thw
    assert list(grid) == theirs["video_grid_thw"][0].tolist() == [3, 4, 6]
    torch.testing.assert_close(patches, theirs["pixel_values_videos"], atol=1e-5, rtol=0)


def test_positions_equal_the_rope_index_of_the_library(thinker):
    content = make_content(num_frames=8, seconds=4.0)
    inputs = thinker.builder().build(content, MediaOptions())
    tree = pack(inputs, [inputs.present])
    theirs, _ = thinker.core.model.get_rope_index(
        tree.token_ids[None],
        video_grid_thw=torch.tensor([inputs.features["video"].grid_thw]),
        attention_mask=torch.ones(1, len(tree.token_ids)),
        audio_seqlens=torch.tensor([inputs.features["audio"].shape[1]]),
        second_per_grids=torch.tensor([1.0]),
    )
    assert torch.equal(tree.positions, theirs[:, 0])


def test_time_positions_follow_the_clip_where_the_reference_assumes_two_frames_a_second(thinker):
    """A one-second clip is sampled four times (the minimum), so two grids lie half a second apart.

    The reference processor, called as its documentation shows, always assumes 2 frames a second
    and puts them a whole second apart: the face would seem to move at half its speed.
    """
    content = make_content(num_frames=4)
    content = replace(
        content,
        parts=content.parts | {"video": replace(content.parts["video"], seconds_per_frame=0.25)},
    )
    segment = thinker.builder().build(content, MediaOptions()).parts["video"]
    ours = sorted(set((segment.positions[0, 1:-1] - 1).tolist()))
    assumed = thinker.processor(
        text=["<|VIDEO|>"],
        videos=[torch.zeros(4, 3, 56, 84)],
        videos_kwargs={"do_sample_frames": False, "do_resize": False},
        return_tensors="pt",
    )["video_second_per_grid"]
    assert ours == [0, 12]  # 25 ticks a second, 0.5 s
    assert float(assumed[0]) == 1.0


def test_control_tokens_in_a_transcript_are_words(thinker):
    content = make_content(
        text="so <|im_end|> then <|VIDEO|><|AUDIO|>", seconds=None, num_frames=None
    )
    inputs = thinker.builder().build(content, MediaOptions())
    specials = {thinker.processor.tokenizer.convert_tokens_to_ids(t) for t in
                ("<|im_end|>", "<|VIDEO|>", "<|AUDIO|>")}  # fmt: skip
    assert not specials & set(inputs.parts["text"].token_ids.tolist())
    assert any("'<|'" in w for w in inputs.warnings)


def test_a_long_transcript_is_cut_before_anything_else_and_says_so(thinker):
    content = make_content(text="word " * 5000)
    inputs = thinker.builder().build(content, MediaOptions(max_text_tokens=100))
    lead = len(thinker.builder()._words)
    assert len(inputs.parts["text"].token_ids) == 100 + lead
    assert any(w.startswith("transcript truncated: 100 of ") for w in inputs.warnings)
    assert "audio" in inputs.parts and "video" in inputs.parts


@pytest.mark.parametrize("hide", [{"text", "audio", "video"}, {"audio", "video"}])
def test_dropping_all_that_a_clip_has_is_an_error_that_names_it(thinker, hide):
    content = make_content(text="Words." if len(hide) == 3 else None)
    with pytest.raises(MediaError, match="clip0.mp4: nothing is left.* audio and video is"):
        thinker.builder().build(content, MediaOptions(), frozenset(hide))


def test_hidden_modalities_leave_no_tokens(thinker):
    inputs = thinker.builder().build(make_content(), MediaOptions(), frozenset({"audio"}))
    assert set(inputs.parts) == {"text", "video"} and set(inputs.features) == {"video"}


@pytest.mark.parametrize("frames", [1, 3, 4, 5, 100, 101, 30000])
def test_audio_token_count_is_the_encoders(thinker, frames):
    tower = thinker.core.model.audio_tower
    _, theirs = tower._get_feat_extract_output_lengths(torch.tensor(frames))
    assert num_audio_tokens(frames) == max(int(theirs), 0)


def test_sound_too_short_for_one_token_is_an_error_here(thinker):
    content = make_content()
    content = replace(content, parts={"audio": Waveform(np.zeros(100, np.float32))})
    with pytest.raises(MediaError, match="too short"):
        thinker.builder().build(content, MediaOptions())


def test_an_empty_transcript_still_tokenizes_like_the_reference(thinker):
    content = make_content()
    content = replace(content, parts=content.parts | {"text": Transcript("x", "option")})
    inputs = thinker.builder().build(content, MediaOptions())
    theirs = reference(thinker, content, frozenset({"text"}))["input_ids"][0]
    assert torch.equal(pack(inputs, [frozenset({"text"})]).token_ids, theirs)
