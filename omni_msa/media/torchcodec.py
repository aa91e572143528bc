"""Frames through TorchCodec, where it and FFmpeg are installed (`omni-msa[torchcodec]`).

It imports torch, which makes a reading process start later and take more memory.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from omni_msa.errors import MediaError, first_line
from omni_msa.media.container import DECODER_THREADS, Deadline
from omni_msa.media.probe import Media
from omni_msa.media.pyav import FrameReading, read_frames
from omni_msa.media.sampling import frame_indices_at
from omni_msa.values import FramePlan


def read_frames_torchcodec(media: Media, plan: FramePlan, deadline: Deadline) -> FrameReading:
    """Like `pyav.read_frames`; where TorchCodec is missing or fails, PyAV reads, with a warning.

    It scales bilinearly, so that its frames differ a little from PyAV's.
    """
    track = media.facts.video
    assert track is not None
    indices = frame_indices_at(track.pts_seconds, np.array(plan.times_seconds))
    try:
        rgb = _read(media, plan, indices)
    except (MediaError, ImportError, RuntimeError, ValueError, OSError) as error:
        reading = read_frames(media, plan, deadline)
        fallback = f"decoder replaced: PyAV read the frames, TorchCodec {first_line(error)}"
        return replace(reading, warnings=(fallback, *reading.warnings))
    return FrameReading(rgb, tuple(track.pts_seconds[indices].tolist()), "torchcodec")


def _read(media: Media, plan: FramePlan, indices: np.ndarray) -> np.ndarray:
    """uint8 RGB [F, h, w, 3] of the frames at these places of the shown ones."""
    from torchcodec.decoders import VideoDecoder
    from torchcodec.transforms import Resize

    track = media.facts.video
    assert track is not None
    decoder = VideoDecoder(
        media.facts.path,
        stream_index=track.index,
        dimension_order="NHWC",
        num_ffmpeg_threads=DECODER_THREADS,
        transforms=[Resize((plan.height, plan.width))],
    )
    if len(decoder) != track.num_frames:
        raise MediaError(f"counts {len(decoder)} frames, there are {track.num_frames}")
    rgb = decoder.get_frames_at(indices=indices.tolist()).data.numpy()
    if rgb.shape[1:] != (plan.height, plan.width, 3):
        raise MediaError(f"gave frames of {rgb.shape[2]} x {rgb.shape[1]} pixels")
    return rgb
