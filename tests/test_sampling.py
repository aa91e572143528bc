"""Counts and sizes are plain arithmetic, and equal to qwen-omni-utils' functions everywhere."""

from __future__ import annotations

import logging
import random

import pytest
from media_files import write_media

from omni_msa.errors import MediaError
from omni_msa.media import read_clip
from omni_msa.media.sampling import count_frames, frame_size
from omni_msa.options import DETAILS, MediaOptions
from omni_msa.values import Clip


def test_frame_sizes_equal_the_librarys_over_ten_thousand_pictures():
    from qwen_omni_utils.v2_5.vision_process import smart_resize

    rng = random.Random(0)
    for _ in range(10_000):
        height, width = (round(2 ** rng.uniform(2, 12.5)) for _ in range(2))
        least = rng.randint(1, 128) * 784 + rng.randint(0, 783)
        most = least + rng.randint(0, 768 * 784)
        if max(height, width) > 200 * min(height, width):
            with pytest.raises(MediaError, match="differ more than 200 times"):
                frame_size(height, width, least, most)
            continue
        theirs = smart_resize(height, width, factor=28, min_pixels=least, max_pixels=most)
        expected = tuple(max(side, 28) for side in theirs)
        assert frame_size(height, width, least, most) == expected, (height, width, least, most)


def test_frame_counts_equal_the_librarys_over_ten_thousand_clips():
    from qwen_omni_utils.v2_5.vision_process import smart_nframes

    logging.getLogger("qwen_omni_utils.v2_5.vision_process").setLevel(logging.ERROR)
    rng = random.Random(1)
    for _ in range(10_000):
        total, rate = rng.randint(2, 5000), rng.choice((1, 8, 12.5, 23.976, 25, 29.97, 30, 60))
        least = rng.randint(2, 32)
        options = MediaOptions(
            fps=rng.choice((0.5, 1.0, 2.0, 3.7, 8.0)),
            min_frames=least,
            max_frames=least + rng.randint(0, 60),
        )
        duration = total / rate
        most = min(options.max_frames, total)
        limits = {"fps": options.fps, "min_frames": min(least, most), "max_frames": most}
        if (limits["min_frames"] + 1) // 2 * 2 > most // 2 * 2:
            limits["min_frames"] = most // 2 * 2  # an odd pair of limits allows the even one below
        expected = smart_nframes(limits, total, total / duration)
        assert count_frames(duration, total, options) == expected, (total, rate, options)


@pytest.mark.parametrize("size", [(1280, 720), (640, 360), (96, 160), (480, 480)])
def test_reference_detail_is_what_the_library_does_with_a_file_by_default(tmp_path, size):
    from qwen_omni_utils.v2_5.vision_process import fetch_video

    path = write_media(tmp_path / "a.mp4", 16, 8, size)
    theirs = fetch_video({"video": str(path)})
    least, most = DETAILS["reference"]
    content = read_clip(Clip(path), MediaOptions(min_pixels=least, max_pixels=most))
    num_frames, height, width, _ = content.parts["video"].rgb.shape
    assert (num_frames, height, width) == (*theirs.shape[:1], *theirs.shape[2:])


@pytest.mark.parametrize(
    ("detail", "size"),
    [("low", (168, 280)), ("standard", (224, 420)), ("reference", (560, 1008))],
)
def test_what_each_detail_makes_of_720_lines(detail, size):
    assert frame_size(720, 1280, *DETAILS[detail]) == size
    options = MediaOptions()
    assert DETAILS["standard"] == (options.min_pixels, options.max_pixels)
