"""Which moments of a clip are sampled, and how large their frames are.

Counts and sizes are qwen-omni-utils' own; moments are times, so that variable rates come out right.
"""

from __future__ import annotations

import logging

import numpy as np

from omni_msa.config import MediaOptions
from omni_msa.errors import MediaError
from omni_msa.values import PATCH_SIDE, FramePlan, VideoTrack


def plan_frames(
    track: VideoTrack,
    options: MediaOptions,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
) -> FramePlan:
    """Sampled moments and frame size for a track, or a time window of it.

    With N frames shown over D seconds, n moments are spread from the middle of the first frame's
    turn to the middle of the last one's. At a constant rate the frames on screen then are exactly
    `linspace(0, N - 1, n).round()`, which is what the reference takes.

    Raises:
        MediaError: no frame in the window, or a shape that the model cannot be shown.
    """
    from qwen_omni_utils.v2_5.vision_process import smart_nframes, smart_resize

    # It remarks on clips with fewer frames than would be sampled; the limits below see to them.
    logging.getLogger("qwen_omni_utils.v2_5.vision_process").setLevel(logging.ERROR)
    start = max(start_seconds or 0.0, float(track.pts_seconds[0]))
    end = min(end_seconds if end_seconds is not None else track.end_seconds, track.end_seconds)
    inside = (track.pts_seconds >= start - 1e-6) & (track.pts_seconds < end - 1e-6)
    total = int(inside.sum())
    if end <= start:
        raise MediaError(
            f"the time window starts at {start_seconds} s, but the video ends at "
            f"{track.end_seconds:.2f} s"
        )
    duration = end - start
    warnings: list[str] = []
    if total < 2:
        num_frames = 2
        warnings.append("still picture: its one frame is shown twice")
        total = max(total, 1)
    else:
        limits = {
            "fps": options.fps,
            "min_frames": options.min_frames,
            "max_frames": min(options.max_frames, total),
        }
        limits["min_frames"] = min(options.min_frames, limits["max_frames"])
        num_frames = max(2, smart_nframes(limits, total, total / duration))
    turn = duration / total  # how long a frame stays, on average
    times = np.linspace(start + turn / 2, end - turn / 2, num_frames)
    try:
        height, width = smart_resize(
            track.height,
            track.width,
            factor=PATCH_SIDE,
            min_pixels=options.min_pixels,
            max_pixels=options.max_pixels,
        )
    except ValueError as error:
        raise MediaError(
            f"the picture is {track.width} x {track.height}: {error}; crop it first"
        ) from error
    height, width = max(height, PATCH_SIDE), max(width, PATCH_SIDE)
    return FramePlan(tuple(times.tolist()), duration / num_frames, height, width, tuple(warnings))


def shown_at(pts_seconds: np.ndarray, times_seconds: np.ndarray) -> np.ndarray:
    """Index of the frame on screen at each time: the last whose turn has come, else the first."""
    return np.searchsorted(pts_seconds, times_seconds + 1e-6, side="right").clip(min=1) - 1
