"""Options, grouped by concern, frozen and checked when they are made.

Only `commands` turns flags into these.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from math import inf, isfinite
from pathlib import Path
from typing import Any

from omni_msa.errors import ConfigError, check_choice
from omni_msa.modalities import MODALITIES, Subset

PATCH_SIDE = 28  # pixels: 14-pixel patches merged 2 x 2, one visual token

# Of what is read of a clip, whatever the memory: an hour of sound is 230 MB.
MOST = {
    "max_pixels": 16_384 * PATCH_SIDE**2,
    "max_audio_seconds": 3600,
    "max_text_tokens": 32_768,
    "deadline_seconds": 86_400,
}
DECODERS = ("pyav", "decord", "torchcodec")
DENOISERS = ("none", "spectral", "deepfilternet")
# --detail: the fewest and the most pixels of a frame. `reference` are qwen-omni-utils' own limits.
DETAILS = {
    "low": (4 * PATCH_SIDE**2, 64 * PATCH_SIDE**2),
    "standard": (4 * PATCH_SIDE**2, 128 * PATCH_SIDE**2),
    "reference": (128 * PATCH_SIDE**2, 768 * PATCH_SIDE**2),
}
QUANTIZE = ("auto", "none", "4bit", "8bit")
DEVICES = ("auto", "cpu", "cuda")
LANGUAGE = "language"  # an encoder that is a causal language model
PROMPT_VERSION = "2"


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True)
class MediaOptions:
    """How a clip is read. Everything here except the deadline can change a score."""

    decoder: str = "pyav"  # which library reads the frames
    fps: float = 2.0  # frames sampled a second
    min_frames: int = 4  # short clips are sampled faster to reach this many
    max_frames: int = 16  # long clips are sampled slower to stay below this
    min_pixels: int = DETAILS["standard"][0]  # smaller frames are enlarged to this
    max_pixels: int = DETAILS["standard"][1]  # larger frames are reduced to this
    max_audio_seconds: float = 300.0  # longer sound is cut, and the record says so
    max_text_tokens: int = 1024  # longer transcripts are cut, and the record says so
    deadline_seconds: float = 120.0  # a clip that takes longer to read is given up
    denoise: str = "none"  # what takes the noise out of the sound

    def __post_init__(self) -> None:
        check_choice("decoder", self.decoder, DECODERS)
        check_choice("denoise", self.denoise, DENOISERS)
        _require(0 < self.fps <= 120, f"fps must lie in (0, 120], got {self.fps}")
        _require(
            2 <= self.min_frames <= self.max_frames <= 768,
            f"frames: 2 <= min ({self.min_frames}) <= max ({self.max_frames}) <= 768 must hold",
        )
        _require(
            PATCH_SIDE**2 <= self.min_pixels <= self.max_pixels,
            f"pixels a frame: 784 <= min ({self.min_pixels}) <= max ({self.max_pixels}) must hold",
        )
        for name, most in MOST.items():
            value = getattr(self, name)
            _require(0 < value <= most, f"{name} must lie in (0, {most:,}], got {value}")

    @classmethod
    def over(cls, stored: dict[str, Any], choices: dict[str, Any]) -> MediaOptions:
        """A user's choices over stored ones; a minimum that was not chosen gives way to a maximum
        that was."""
        values = {**stored, **choices}
        for kind in ("frames", "pixels"):
            low, high = f"min_{kind}", f"max_{kind}"
            if high in choices and low not in choices:
                values[low] = min(values.get(low, getattr(cls, low)), values[high])
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """The part that changes scores: what a checkpoint stores and a fingerprint covers.

        Sound as it is has no entry, so that the fingerprints of versions before `denoise` hold.
        """
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        del values["deadline_seconds"]
        if self.denoise == "none":
            del values["denoise"]
        return values


def checked_modalities(option: str, names: Iterable[str]) -> Subset:
    """The modalities that an option names, as a set.

    Raises:
        ConfigError: a name is not known, or a text stands where a set is wanted.
    """
    _require(
        not isinstance(names, str), f"{option} {names!r} is a text; give a set, such as {{'audio'}}"
    )
    for name in (names := list(names)):
        check_choice(option, name, MODALITIES)
    return frozenset(names)


DEFAULT_RANGE = (-3.0, 3.0)  # of labels: that of CMU-MOSI


def check_label_range(label_range: tuple[float, float]) -> None:
    """Two numbers, the smaller first.

    Raises:
        ConfigError: they are not.
    """
    low, high = label_range
    _require(
        isfinite(low) and isfinite(high) and low < high,
        f"--label-range {low:g} {high:g}: two numbers, and the first must be the smaller",
    )


@dataclass(frozen=True)
class ModelOptions:
    """Which model scores, and how it is held in memory."""

    model: str | None = None  # "tiny" (embedded), a folder, a hub id; None: the checkpoint's base
    checkpoint: str | None = None  # our folder: adapter, readout and omni_msa.json
    readout: str | None = None  # a method's name; None: what the checkpoint says
    quantize: str = "auto"  # 4-bit above a billion parameters, none below
    device: str = "auto"  # cuda when there is one
    # of a base that is read without a checkpoint: its labels' range (None: MOSI's), or classes
    label_range: tuple[float, float] | None = None
    classes: tuple[str, ...] = ()
    # by modality, or "language": a Hugging Face folder in place of the Thinker's own part, or
    # "stored:WIDTH" for features that come with the clips
    encoders: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.encoders:
            check_choice("--encoder", name, (*MODALITIES, LANGUAGE))
        check_choice("quantize", self.quantize, QUANTIZE)
        check_choice("device", self.device, DEVICES)
        if self.label_range is not None:
            check_label_range(self.label_range)
            _require(
                self.checkpoint is None and not self.embedded,
                "--label-range is about a base that is read without a checkpoint; a checkpoint "
                "has the range that it was trained on",
            )

    @property
    def embedded(self) -> bool:
        """Whether the embedded checkpoint of `tiny` is what scores."""
        default = self.model in (None, "tiny") and self.readout in (None, "regression")
        return default and self.checkpoint is None and not self.classes


@dataclass(frozen=True)
class AblationOptions:
    """Which subsets are scored beside the clip itself, all in the same forward pass.

    `enabled` without `drop` scores every subset; with `drop` only the clip without those
    modalities, one at a time and together.
    """

    enabled: bool = True
    drop: Subset = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(self, "drop", checked_modalities("drop", self.drop))


@dataclass(frozen=True)
class BatchOptions:
    """How many clips are held at once, and what a rerun does."""

    batch_size: int = 8
    workers: int | None = None  # decoding processes; None: one a core
    retry_failed: bool = False  # a rerun tries failed clips again
    fresh: bool = False  # a rerun starts the output file anew
    cache: Path | None = None  # a folder that keeps what was read
    cache_bytes: int = 20_000_000_000  # its size at most

    def __post_init__(self) -> None:
        _require(
            1 <= self.batch_size <= 1024, f"batch size must be 1 to 1024, got {self.batch_size}"
        )
        _require(
            self.workers is None or 1 <= self.workers <= 64,
            f"workers must be 1 to 64, got {self.workers}",
        )


LORA_SCOPES = ("all", "language")
CHECKPOINTING = ("auto", "on", "off")


@dataclass(frozen=True)
class TrainOptions:
    """One training run of a LoRA adapter and a method.

    Rank, alpha, dropout, targets, both learning rates and the loss are by default those of a
    third-party transcription of arXiv 2606.05713; the rest is ours (docs/provenance.md).
    """

    method: str = "regression"
    method_options: dict[str, Any] = field(default_factory=dict)  # by the method's own names
    epochs: int = 10  # at most: early stopping can end it before
    batch_size: int = 8  # clips a forward pass; halved when memory runs out
    accumulate: int = 1  # forward passes an optimizer step
    lora_rank: int = 32
    lora_alpha: int = 32
    lora_dropout: float = 0.1
    lora_scope: str = "all"  # the whole Thinker, or its language model
    lora_learning_rate: float = 2e-4
    head_learning_rate: float = 1e-3  # of the method's own parameters
    weight_decay: float = 0.01
    warmup: float = 0.05  # share of all steps
    max_grad_norm: float = 1.0
    patience: int = 3  # epochs without a better validation MAE before it stops
    subsets: str = "packed"  # "packed": all modality subsets in the same pass; "full": the clip
    checkpointing: str = "auto"  # recompute activations; auto: above a billion parameters
    bf16: bool = False  # bfloat16 autocast on a CPU (a GPU always has it)
    save_every: int = 100  # steps between the states that a killed run goes on from
    seed: int = 0

    @classmethod
    def of(cls, recipe: Mapping[str, Any], choices: Mapping[str, Any]) -> TrainOptions:
        """A user's choices over a method's own recipe, over the defaults above."""
        return cls(**{**recipe, **choices})

    def __post_init__(self) -> None:
        check_choice("lora-scope", self.lora_scope, LORA_SCOPES)
        check_choice("subsets", self.subsets, ("packed", "full"))
        check_choice("checkpointing", self.checkpointing, CHECKPOINTING)
        for name in (
            "epochs",
            "batch_size",
            "accumulate",
            "lora_rank",
            "lora_alpha",
            "patience",
            "save_every",
        ):
            _require(
                getattr(self, name) >= 1, f"{name} must be 1 or more, got {getattr(self, name)}"
            )
        for name in ("lora_dropout", "warmup", "weight_decay"):
            _require(0 <= getattr(self, name) < 1, f"{name} must lie in [0, 1)")
        for name in ("lora_learning_rate", "head_learning_rate", "max_grad_norm"):
            value = getattr(self, name)
            _require(0 < value < inf, f"{name} must be positive and finite, got {value}")
        _require(0 <= self.seed < 2**63, f"seed must lie in [0, 2^63), got {self.seed}")

    @property
    def clips_a_step(self) -> int:
        """The effective batch, whatever fits into one forward pass."""
        return self.batch_size * self.accumulate


@dataclass(frozen=True)
class FitOptions:
    """One fit of a method on the states of a model that stays as it is."""

    method: str = "probe"
    method_options: dict[str, Any] = field(default_factory=dict)  # by the method's own names


METRIC_FAMILIES = ("auto", "mosi", "sims", "meld", "general", "emotion")
INTERVAL_UNITS = ("auto", "clips", "videos", "speakers")
TASKS = ("sentiment", "emotion", "sentiment+emotions", "ecg")


@dataclass(frozen=True)
class EvaluateOptions:
    """How scores are compared with labels."""

    split: str | None = None  # None: test where there are splits
    family: str = "auto"  # conventions of the metrics
    ablate: bool = False  # every subset too
    resamples: int = 1000  # of the bootstrap
    intervals_over: str = "auto"  # what it draws
    diagnose: bool = False  # how far apart the labels of clips are whose states are near
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("metrics", self.family, METRIC_FAMILIES)
        check_choice("intervals-over", self.intervals_over, INTERVAL_UNITS)
        _require(self.resamples >= 1, f"resamples must be 1 or more, got {self.resamples}")
