"""A heart on twelve leads, from a stated model: rhythm, conduction, and what disturbs a recording.

Each beat is a few waves, Gaussian in time, of a dipole that points somewhere in the chest (x to the
left, y down, z to the back). Dower's matrix makes of it the eight independent leads (Dower, Clin
Cardiol 3:87, 1980), and these make the other four. A calm heart is slow and follows the breath; an
aroused one is fast and even. This is no physiology: what a model learns of it, it learns of these
sentences.

Shapes: S samples, B beats.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

RATE = 500  # Hz
KINDS = ("sinus", "fibrillation", "left block", "right block", "premature beats")
# x, y, z -> I, II, V1 ... V6
DOWER = np.array(
    [
        [0.632, -0.235, 0.059], [0.235, 1.066, -0.132], [-0.515, 0.157, -0.917],
        [0.044, 0.164, -1.387], [0.882, 0.098, -1.277], [1.213, 0.127, -0.601],
        [1.125, 0.127, -0.086], [0.831, 0.076, 0.230],
    ]
)  # fmt: skip
REST_RATE, AROUSED_RATE = 62.0, 104.0  # beats a minute at arousal 0 and 1
BREATHS = 0.25  # Hz
RESTING_T = 0.9  # seconds between beats at which T comes where `Wave.at` says


@dataclass(frozen=True)
class Wave:
    """One wave of a beat: when, after the R peak, and how wide (seconds), and its dipole (mV)."""

    at: float
    width: float
    dipole: tuple[float, float, float]


P = Wave(-0.16, 0.022, (0.08, 0.11, -0.02))
Q = Wave(-0.028, 0.009, (-0.14, -0.08, -0.25))
R = Wave(0.0, 0.011, (0.95, 0.80, 0.45))
S = Wave(0.032, 0.011, (-0.25, -0.12, 0.40))
T = Wave(0.29, 0.045, (0.26, 0.24, -0.16))
BEATS: dict[str, tuple[Wave, ...]] = {
    "normal": (P, Q, R, S, T),
    # One broad wave to the left and back, no Q, and T the other way.
    "left block": (
        P, Wave(0.0, 0.028, (0.70, 0.40, 0.60)), Wave(0.055, 0.026, (0.75, 0.30, 0.60)),
        replace(T, at=0.32, dipole=(-0.30, -0.15, -0.25)),
    ),
    # A late second wave to the right and front.
    "right block": (
        P, Q, R, Wave(0.065, 0.024, (-0.45, -0.05, -0.65)),
        replace(T, at=0.31, dipole=(0.28, 0.22, 0.12)),
    ),
    # From the chamber itself: no P, broad and tall, and T the other way.
    "premature": (
        Wave(0.0, 0.040, (0.6, -0.9, 0.9)), Wave(0.07, 0.030, (0.4, -0.7, 0.4)),
        Wave(0.30, 0.060, (-0.4, 0.5, -0.5)),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Heart:
    """How a heart beats, and how it was recorded.

    Attributes:
        kind: one of `KINDS`.
        arousal: 0 (calm) to 1; sets the rate, and how much it varies.
        noise, wander, mains: amplitudes in mV of muscle noise, baseline wander and the mains' hum.
        is_swapped: the electrodes of both arms were mistaken for each other.
    """

    kind: str = "sinus"
    arousal: float = 0.3
    noise: float = 0.015
    wander: float = 0.08
    mains: float = 0.01
    mains_hertz: float = 50.0
    is_swapped: bool = False
    seed: int = 0


def draw_heart(kind: str, arousal: float, seed: int) -> Heart:
    """A heart of this kind, recorded as it happens."""
    rng = np.random.default_rng([seed, 12])
    return Heart(
        kind,
        arousal,
        noise=float(rng.uniform(0.005, 0.04)),
        wander=float(rng.uniform(0.0, 0.25)),
        mains=float(rng.uniform(0.0, 0.04)),
        is_swapped=bool(rng.random() < 0.03),
        seed=seed,
    )


def beat_times(heart: Heart, seconds: float) -> tuple[np.ndarray, list[str]]:
    """When each R peak comes [B], from before the start to behind the end, and each beat's kind."""
    rng = np.random.default_rng([heart.seed, 1])
    rate = REST_RATE + (AROUSED_RATE - REST_RATE) * heart.arousal + rng.normal(0, 3)
    interval = 60 / max(40.0, rate)
    breath = rng.uniform(0, 2 * np.pi)
    usual = heart.kind if heart.kind in BEATS else "normal"
    times, kinds = [-rng.uniform(1, 2) * interval], [usual]
    while times[-1] < seconds + 1:
        steady = 1 - 0.8 * heart.arousal
        swing = 0.06 * steady * np.sin(2 * np.pi * BREATHS * times[-1] + breath)
        step = interval * (1 + swing + rng.normal(0, 0.012 + 0.02 * steady))
        kind = usual
        if heart.kind == "fibrillation":
            step = interval * 0.9 * np.exp(rng.normal(0, 0.22))
        elif heart.kind == "premature beats" and kinds[-1] == "premature":
            step *= 1.35  # the pause behind it
        elif heart.kind == "premature beats" and rng.random() < 0.22:
            step, kind = step * 0.62, "premature"
        times.append(times[-1] + max(0.3, step))
        kinds.append(kind)
    return np.array(times), kinds


def record(heart: Heart, seconds: float) -> np.ndarray:
    """The leads I, II, III, aVR, aVL, aVF, V1 to V6 in mV at 500 Hz: float32 [S, 12]."""
    rng = np.random.default_rng([heart.seed, 2])
    time = np.arange(round(seconds * RATE)) / RATE
    turn = rng.normal(0, 0.12, (3, 3)) + np.eye(3)  # of this heart in its chest
    dipole = np.zeros((len(time), 3))
    times, kinds = beat_times(heart, seconds)
    gaps = np.diff(times, append=times[-1] + 1)
    for at, kind, gap in zip(times, kinds, gaps, strict=True):
        for wave in BEATS[kind]:
            if wave is P and heart.kind == "fibrillation":
                continue
            # T comes sooner when beats follow each other sooner (Bazett).
            delay = wave.at * min(1.1, (gap / RESTING_T) ** 0.5) if wave.at > 0.2 else wave.at
            shape = np.exp(-0.5 * ((time - at - delay) / wave.width) ** 2)
            dipole += shape[:, None] * (turn @ np.array(wave.dipole) * rng.normal(1, 0.03))
    if heart.kind == "fibrillation":
        dipole += _fibrillation(time, rng)
    leads = _twelve(dipole @ DOWER.T)
    if heart.is_swapped:  # I upside down; II and III, aVR and aVL in each other's place
        leads[:, :6] = leads[:, [0, 2, 1, 4, 3, 5]] * [-1, 1, 1, 1, 1, 1]
    return (leads + _disturbance(heart, time, rng)).astype(np.float32)


def _fibrillation(time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The chambers' flicker in place of P: [S, 3]."""
    hertz = rng.uniform(5.0, 8.0)
    phase = 2 * np.pi * hertz * time + 0.8 * np.sin(2 * np.pi * rng.uniform(0.2, 0.6) * time)
    size = rng.uniform(0.04, 0.09)
    return size * np.sin(phase)[:, None] * np.array([0.4, 0.8, -0.7])


def _twelve(eight: np.ndarray) -> np.ndarray:
    """I, II, V1 ... V6 [S, 8] with the four that follow from the first two: [S, 12]."""
    one, two = eight[:, 0], eight[:, 1]
    limbs = [one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2]
    return np.concatenate([np.stack(limbs, axis=1), eight[:, 2:]], axis=1)


def _disturbance(heart: Heart, time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What is no heart: [S, 12]."""
    noise = rng.normal(0, heart.noise, (len(time), 12))
    drift = sum(
        np.sin(2 * np.pi * hertz * time[:, None] + rng.uniform(0, 2 * np.pi, 12))
        * rng.uniform(0.2, 1.0, 12)
        for hertz in (0.12, BREATHS, 0.4)
    )
    hum = np.sin(2 * np.pi * heart.mains_hertz * time + rng.uniform(0, 2 * np.pi))[:, None]
    return noise + heart.wander * drift / 2 + heart.mains * hum * rng.uniform(0.3, 1.0, 12)
