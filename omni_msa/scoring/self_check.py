"""The built-in clip: drawn frames, a tone and some words, the same for ever.

Its scores are stored in every checkpoint when it is saved, so that `inspect` can tell on another
machine, under other library versions, whether the checkpoint still does what it did.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from omni_msa.methods import Builder, Method
from omni_msa.modalities import Subset, all_subsets, subset_name
from omni_msa.model.features import StoredFeatures
from omni_msa.model.thinker import Thinker
from omni_msa.options import MediaOptions
from omni_msa.values import (
    SAMPLE_RATE,
    TRACE_RATE,
    Clip,
    ClipContent,
    FeatureSequence,
    Frames,
    Traces,
    Transcript,
    Waveform,
)

WORDS = "I did not expect to like it, but it was wonderful."
NUM_FRAMES, SIDE, SECONDS = 4, 112, 2.0
NUM_STEPS = 5  # of stored features


def self_check_content() -> ClipContent:
    """The clip as a reader would give it; integers and sines only, so that no decoder matters."""
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    frames = [
        np.stack([(rows * 2 + 20 * i) % 256, (columns * 2) % 256, (rows + columns) % 256], axis=-1)
        for i in range(NUM_FRAMES)
    ]
    step = SECONDS / NUM_FRAMES
    times = tuple(step * i for i in range(NUM_FRAMES))
    seconds = np.arange(int(SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    sound = 0.2 * np.sin(2 * np.pi * 180 * seconds) * (1 + np.sin(2 * np.pi * 3 * seconds))
    return ClipContent(
        clip=Clip(transcript=WORDS, id="the built-in clip"),
        sha256="",
        parts={
            "video": Frames(np.stack(frames).astype(np.uint8), times, step),
            "audio": Waveform(sound.astype(np.float32)),
            "text": Transcript(WORDS, "option"),
        },
    )


def content_for(method: Method) -> ClipContent:
    """The clip as this method is given it: with stored features where it takes those, and with a
    heart record where it looks at one."""
    content = self_check_content()
    if "ecg" in method.modalities(method.options):
        content.parts["ecg"] = _heart()
    encoders = {} if method.features is None else method.features.encoders
    for modality, encoder in encoders.items():
        if isinstance(encoder, StoredFeatures):
            content.parts[modality] = _stored(encoder.width)
    return content


def _heart() -> Traces:
    """Peaks of one size, five in four seconds, on two leads."""
    seconds = np.arange(4 * TRACE_RATE) / TRACE_RATE
    beats = np.exp(-(((seconds % 0.8 - 0.4) / 0.02) ** 2))
    values = np.stack([0.5 * beats, beats], axis=1).astype(np.float32)
    return Traces(values, ("I", "II"), "made")


def _stored(width: int) -> FeatureSequence:
    """Sines: a few steps of features of any width."""
    steps, columns = np.mgrid[0:NUM_STEPS, 0:width]
    return FeatureSequence(np.sin(steps + 0.1 * columns).astype(np.float32), "made", WORDS)


@torch.inference_mode()
def check_scores(
    thinker: Thinker,
    method: Method,
    builder: Builder,
    media: MediaOptions,
    hide: Subset,
) -> dict[str, Any]:
    """The built-in clip's scores by subset, and what they were computed with."""
    training = thinker.model.training
    thinker.model.eval()
    method.eval()
    inputs = builder.build(content_for(method), media, hide)
    subsets = all_subsets(inputs.present)
    scores = method.read(thinker, [inputs], [subsets]).scores[0].tolist()
    thinker.model.train(training)
    method.train(training)
    return {
        "scores": {subset_name(s): round(v, 6) for s, v in zip(subsets, scores, strict=True)},
        "quantize": thinker.base.quantize,
        "device": _device_name(thinker),
    }


def _device_name(thinker: Thinker) -> str:
    """Two GPUs of different models round differently."""
    if thinker.device.type == "cuda":
        return torch.cuda.get_device_name(thinker.device)
    return thinker.base.device
