"""Which moments of a clip are sampled, and how large their frames are.

Counts and sizes equal qwen-omni-utils' (a test compares them), computed without torch, so that
reading processes stay small. Moments are times, not frame numbers, so that files of variable frame
rate are sampled evenly.
"""

from __future__ import annotations

import math

import numpy as np

from omni_msa.errors import MediaError
from omni_msa.options import PATCH_SIDE, MediaOptions
from omni_msa.values import FramePlan, VideoTrack

PAIR = 2  # frames: the vision tower reads them two at a time
MAX_RATIO = 200  # of the sides of a picture
SPARSE_SECONDS = 5.0  # between sampled frames, from which on much of a face is not seen


def plan_frames(
    track: VideoTrack,
    options: MediaOptions,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
) -> FramePlan:
    """Sampled moments and frame size for a track, or a time window of it.

    With N frames shown over D seconds, n moments are spread from the middle of the first frame's
    interval to the middle of the last one's. At a constant rate the frames on screen then are
    exactly `linspace(0, N - 1, n).round()`, which is what the reference takes.

    Raises:
        MediaError: no frame in the window, or a shape that the model cannot be shown.
    """
    start = max(start_seconds or 0.0, float(track.pts_seconds[0]))
    end = min(end_seconds if end_seconds is not None else track.end_seconds, track.end_seconds)
    in_window = (track.pts_seconds >= start - 1e-6) & (track.pts_seconds < end - 1e-6)
    total = int(in_window.sum())
    if end <= start:
        first, last = float(track.pts_seconds[0]), track.end_seconds
        raise MediaError(f"its picture, from {first:.2f} to {last:.2f} s, is not in the window")
    duration = end - start
    warnings: list[str] = []
    if total < 2:
        num_frames = 2
        warnings.append("still picture: its one frame is shown twice")
        total = max(total, 1)
    else:
        num_frames = count_frames(duration, total, options)
    if duration / num_frames > SPARSE_SECONDS and num_frames < total:
        warnings.append(
            f"few frames: {num_frames} in {duration:.0f} s, one every {duration / num_frames:.0f} "
            "s; cut it into utterances, or give more --max-frames"
        )
    frame_seconds = duration / total  # how long a frame is shown, on average
    times = np.linspace(start + frame_seconds / 2, end - frame_seconds / 2, num_frames)
    height, width = frame_size(track.height, track.width, options.min_pixels, options.max_pixels)
    return FramePlan(tuple(times.tolist()), duration / num_frames, height, width, tuple(warnings))


def count_frames(duration_seconds: float, num_frames: int, options: MediaOptions) -> int:
    """How many frames are sampled: an even number, equal to qwen-omni-utils' `smart_nframes`."""
    max_count = min(options.max_frames, num_frames) // PAIR * PAIR
    min_count = min(-(-options.min_frames // PAIR) * PAIR, max_count)
    rate = num_frames / duration_seconds
    count = min(max(num_frames / rate * options.fps, min_count), max_count, num_frames)
    return max(PAIR, math.floor(count / PAIR) * PAIR)


def frame_size(height: int, width: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Height and width in multiples of 28 within the pixel limits, as near to the picture's shape
    as these allow; equal to qwen-omni-utils' `smart_resize`.

    Raises:
        MediaError: one side is more than 200 times the other.
    """
    if max(height, width) > MAX_RATIO * min(height, width):
        raise MediaError(
            f"the picture is {width} x {height}: its sides differ more than {MAX_RATIO} times; "
            "crop it first"
        )
    rows = max(PATCH_SIDE, round(height / PATCH_SIDE) * PATCH_SIDE)
    columns = max(PATCH_SIDE, round(width / PATCH_SIDE) * PATCH_SIDE)
    if rows * columns > max_pixels:
        factor = math.sqrt(height * width / max_pixels)
        rows = math.floor(height / factor / PATCH_SIDE) * PATCH_SIDE
        columns = math.floor(width / factor / PATCH_SIDE) * PATCH_SIDE
    elif rows * columns < min_pixels:
        factor = math.sqrt(min_pixels / (height * width))
        rows = math.ceil(height * factor / PATCH_SIDE) * PATCH_SIDE
        columns = math.ceil(width * factor / PATCH_SIDE) * PATCH_SIDE
    # very narrow pictures shrink to nothing there
    return max(rows, PATCH_SIDE), max(columns, PATCH_SIDE)


def frame_indices_at(pts_seconds: np.ndarray, times_seconds: np.ndarray) -> np.ndarray:
    """Index of the frame on screen at each time: the last that began by then, else the first."""
    return np.searchsorted(pts_seconds, times_seconds + 1e-6, side="right").clip(min=1) - 1
