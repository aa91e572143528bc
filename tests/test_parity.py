"""From the same file: our pipeline and the reference one (qwen-omni-utils + the processor).

Where the reference is right (clips of two seconds and more at a constant rate, until the frames are
at their most) the frames, the grid and the token ids are the same, pixels and log-mel nearly so,
and the scores agree within 1e-3 of the label range. Where it is wrong, short and long clips, the
difference is shown.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from media_files import tone, write_media

from omni_msa.media import read_clip
from omni_msa.model.packing import pack
from omni_msa.model.prompt import SYSTEM, WORDS
from omni_msa.options import AblationOptions, MediaOptions
from omni_msa.values import Clip

LIMITS = {"min_pixels": 4 * 784, "max_pixels": 16 * 784}
OPTIONS = MediaOptions(max_frames=8, **LIMITS)
WORDS_SAID = "I did not expect to like it."
PIXEL_LEVELS = 2.0  # of 255, mean: ours is scaled before the change to RGB, theirs after


def reference(scorer, video, sound, follow_fps: bool):
    """What the documented pipeline feeds the Thinker; `follow_fps` passes the true rate on."""
    from qwen_omni_utils import process_mm_info

    thinker = scorer.thinker
    question = scorer.method.question(scorer.checkpoint.info.prompt_version)
    limits = {"min_frames": 4, "max_frames": 8, **LIMITS}
    content = [
        {"type": "text", "text": question},
        {"type": "video", "video": str(video), **limits},
        {"type": "audio", "audio": str(sound)},
        {"type": "text", "text": WORDS + WORDS_SAID},
    ]
    chat = [
        {"role": "system", "content": [{"type": "text", "text": SYSTEM}]},
        {"role": "user", "content": content},
    ]
    text = thinker.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    audios, _, videos, given = process_mm_info(
        chat, use_audio_in_video=False, return_video_kwargs=True
    )
    size = {"shortest_edge": LIMITS["min_pixels"], "longest_edge": LIMITS["max_pixels"]}
    videos_kwargs = {"do_sample_frames": False, "cap_pixels_per_frame": False, "size": size}
    if follow_fps:
        videos_kwargs["fps"] = given["fps"][0]
    return thinker.processor(
        text=text, audio=audios, videos=videos, return_tensors="pt", videos_kwargs=videos_kwargs
    )


@pytest.fixture()
def files(tmp_path):
    import soundfile

    def make(num_frames, rate):
        video = write_media(tmp_path / "v.mp4", num_frames, rate, (320, 240), corner=True)
        sound = tmp_path / "v.wav"
        soundfile.write(sound, tone(num_frames / rate), 16_000, subtype="FLOAT")
        return video, sound

    return make


def ours(scorer, video, sound):
    """Our inputs for the same picture and the same sound (one from each file, as there)."""
    from dataclasses import replace

    seen = read_clip(Clip(path=video, transcript=WORDS_SAID), OPTIONS)
    heard = read_clip(Clip(path=sound), OPTIONS)
    content = replace(seen, parts=seen.parts | {"audio": heard.parts["audio"]})
    return content, scorer.builder.build(content, OPTIONS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_frames", "rate"),
    [(32, 8), (30, 10), (36, 12)],
)
def test_ordinary_clips_agree_from_file_to_score(tiny, files, num_frames, rate):
    video, sound = files(num_frames, rate)
    content, inputs = ours(tiny, video, sound)
    theirs = reference(tiny, video, sound, follow_fps=True)
    tree = pack(inputs, [inputs.present])
    assert theirs["video_grid_thw"][0].tolist() == list(inputs.features["video"].grid_thw)
    assert torch.equal(tree.token_ids, theirs["input_ids"][0])
    deviation = torch.tensor(tiny.thinker.processor.video_processor.image_std).mean()
    change = (inputs.features["video"].pixels - theirs["pixel_values_videos"]).abs().mean()
    levels = change * deviation * 255
    assert levels < PIXEL_LEVELS
    kept = int(theirs["feature_attention_mask"].sum())
    mel = theirs["input_features"][0, :, :kept]
    assert (inputs.features["audio"] - mel).abs().max() < 1e-4
    alone = AblationOptions(enabled=False)
    score = tiny.score_prepared([tiny.prepare(content)], alone)[0].score
    with torch.inference_mode():
        hidden = tiny.thinker.core.model(**theirs).last_hidden_state[:, -1]
        output = tiny.method(hidden)
    their_score = tiny.checkpoint.info.label_space.restore(output).item()
    assert abs(score - their_score) < 1e-3 * 6  # of the range -3..3


@pytest.mark.parametrize(
    ("num_frames", "rate", "seconds_per_grid"),
    [
        pytest.param(8, 8, 0.5, id="short"),
        pytest.param(32, 4, 2.0, id="long"),
    ],
)
def test_a_clip_is_timed_by_the_clock_here_and_as_two_frames_a_second_there(
    scorer, files, num_frames, rate, seconds_per_grid
):
    """One second, sampled four times, and eight, sampled eight times, the most here. The documented
    reference call puts each pair of frames one second after the one before; they lie half a second
    and two seconds apart, as the sampled rate says."""
    video, sound = files(num_frames, rate)
    _, inputs = ours(scorer, video, sound)
    ticks = sorted(set((inputs.parts["video"].positions[0, 1:-1] - 1).tolist()))
    documented = reference(scorer, video, sound, follow_fps=False)
    told = reference(scorer, video, sound, follow_fps=True)
    grid = list(inputs.features["video"].grid_thw)
    assert ticks == [int(25 * seconds_per_grid * n) for n in range(grid[0])]  # 25 a second
    assert float(documented["video_second_per_grid"][0]) == 1.0
    assert float(told["video_second_per_grid"][0]) == pytest.approx(seconds_per_grid)
    # the same frames and tokens; only the timing differs
    assert torch.equal(documented["input_ids"], told["input_ids"])
    assert np.array_equal(documented["video_grid_thw"], [grid])
