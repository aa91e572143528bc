"""What crosses a module border: small frozen values that check themselves.

A clip goes in (`Clip`), is read once (`ClipContent`: `Frames`, `Waveform`, `Transcript`, or a
`FeatureSequence` in place of one of them), and comes out as one `files.record.Record`. Shapes: F
frames, H height, W width, S audio samples, N frames in the file, L steps of D features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from omni_msa.errors import ConfigError
from omni_msa.modalities import Subset
from omni_msa.options import PATCH_SIDE

TRACE_RATE = 100  # Hz, of a heart's leads
SAMPLE_RATE = 16_000  # Hz, of the audio tower's input
FRAMES_PER_TOKEN = 2  # a visual token spans two frames
SAMPLES_PER_TOKEN = 640  # an audio token spans 40 ms


@dataclass(frozen=True)
class Clip:
    """What is to be scored: a media file (or a time window of it), words, or both.

    `transcript` holds words from an option or a manifest; when it is None the reader looks for a
    file beside the clip and for subtitles inside it. Times are seconds from the start of the
    presentation. `subset_labels` holds labels of subsets of the modalities, keyed by `subset_name`,
    where a data set has them, as CH-SIMS does. `speaker`, `emotion` (a class of the data set),
    `emotions` (how strong each is; one that is not named is absent; None is not known), `findings`
    (of a heart record) and `dataset` (a key of `importers.DATASETS`) come from the manifest, and
    `extra` holds the columns of its row that are copied into the record. `ecg` is a heart record
    of the clip; the clip begins at its second `ecg_start_seconds`.
    """

    path: Path | None = None
    transcript: str | None = None
    transcript_source: str = "option"
    start_seconds: float | None = None
    end_seconds: float | None = None
    id: str | None = None
    label: float | None = None
    subset_labels: dict[str, float] = field(default_factory=dict, hash=False)
    split: str | None = None
    speaker: str | None = None
    emotion: str | None = None
    emotions: dict[str, float] | None = field(default=None, hash=False)
    findings: tuple[str, ...] | None = None
    ecg: Path | None = None
    ecg_start_seconds: float = 0.0
    dataset: str | None = None
    row_id: str | None = None  # the user's own name, copied into the record
    extra: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if isinstance(self.path, str):  # Clip("clip.mp4")
            object.__setattr__(self, "path", Path(self.path))
        if self.path is None and self.transcript is None:
            raise ConfigError("a clip needs a path, a transcript, or both")
        start = self.start_seconds or 0.0
        if start < 0 or (self.end_seconds is not None and self.end_seconds <= start):
            raise ConfigError(f"empty time window [{self.start_seconds}, {self.end_seconds})")

    @property
    def name(self) -> str:
        """The clip's name in results: its id, else its path and window, else `(text)`."""
        return self.id or ("(text)" if self.path is None else f"{self.path}{self.window_suffix}")

    @property
    def video(self) -> str | None:
        """The recording that it was cut from, as the manifest's column says."""
        value = self.extra.get("video")
        return None if value is None else str(value).strip() or None

    @property
    def context(self) -> tuple[str, ...]:
        """What was said before it in the same dialogue, the last turn last: a list, or lines."""
        value = self.extra.get("context")
        turns = value.splitlines() if isinstance(value, str) else value
        return tuple(map(str, turns)) if isinstance(turns, (list, tuple)) else ()

    @property
    def is_window(self) -> bool:
        """Whether it is a part of its file; a window without bounds is the whole file."""
        return self.start_seconds is not None or self.end_seconds is not None

    @property
    def window_suffix(self) -> str:
        """`[1.0-3.5]`; an open end reads `end`, and a whole file has none."""
        if not self.is_window:
            return ""
        end = "end" if self.end_seconds is None else float(self.end_seconds)
        return f"[{float(self.start_seconds or 0.0)}-{end}]"


@dataclass(frozen=True)
class Cue:
    """One subtitle: its words and when they are shown, half-open [start, end)."""

    start_seconds: float
    end_seconds: float
    text: str


@dataclass(frozen=True)
class VideoTrack:
    """The picture track that is read: facts from its packets, not from the header.

    `pts_seconds` [N] are the presentation times of the frames that a player shows, sorted,
    measured from the start of the presentation; `end_seconds` is when the last one ends. `width`
    and `height` are as displayed: after rotation and sample aspect ratio.
    """

    index: int
    codec: str
    width: int
    height: int
    rotation_degrees: int
    pts_seconds: np.ndarray
    end_seconds: float

    @property
    def num_frames(self) -> int:
        return len(self.pts_seconds)


@dataclass(frozen=True)
class AudioTrack:
    """The sound track that is read; it starts at `start_seconds` of the presentation."""

    index: int
    codec: str
    sample_rate: int
    channels: int
    start_seconds: float = 0.0


@dataclass(frozen=True)
class SubtitleTrack:
    """The words of a subtitle stream inside the file, with their times."""

    index: int
    cues: tuple[Cue, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class MediaFacts:
    """The result of probing one file. A track is None when the file has none that decodes."""

    path: Path
    container: str
    video: VideoTrack | None
    audio: AudioTrack | None
    subtitles: SubtitleTrack | None
    duration_from_header_seconds: float | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class FramePlan:
    """Which moments are sampled, and how large the frames come out of the decoder.

    `times_seconds` [F], F even: the frame on screen at each moment is taken.
    """

    times_seconds: tuple[float, ...]
    seconds_per_frame: float
    height: int
    width: int
    warnings: tuple[str, ...] = ()


class Part(ABC):
    """What was read of one modality.

    It has a `source` ("track 0", "sidecar a.srt"), a `size`, and `store`, which turns it into named
    arrays and a JSON value for `restore`.
    """

    source: str

    @property
    @abstractmethod
    def size(self) -> int:
        """Roughly how many tokens it becomes, without building them."""

    @abstractmethod
    def store(self) -> tuple[dict[str, np.ndarray], Any]:
        """Its arrays, and everything else as a JSON value."""

    @classmethod
    @abstractmethod
    def restore(cls, arrays: Mapping[str, np.ndarray], about: Any) -> Self:
        """The part from what `store` returned."""


@dataclass(frozen=True)
class Transcript(Part):
    """The words of a clip and their source (`option`, `sidecar a.srt`, `subtitle track 0`)."""

    text: str
    source: str
    warnings: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return len(self.text)

    def store(self) -> tuple[dict[str, np.ndarray], Any]:
        return {}, [self.text, self.source, self.warnings]

    @classmethod
    def restore(cls, arrays: Mapping[str, np.ndarray], about: Any) -> Self:
        text, source, warnings = about
        return cls(text, source, tuple(warnings))


@dataclass(frozen=True)
class Frames(Part):
    """Sampled frames as a player shows them: uint8 RGB [F, H, W, 3], F even, sides in 28s."""

    rgb: np.ndarray
    pts_seconds: tuple[float, ...]
    seconds_per_frame: float
    source: str = ""

    def __post_init__(self) -> None:
        if self.rgb.dtype != np.uint8 or self.rgb.ndim != 4 or self.rgb.shape[-1] != 3:
            raise ValueError(
                f"frames are uint8 [F, H, W, 3], got {self.rgb.dtype} {self.rgb.shape}"
            )
        num_frames, height, width, _ = self.rgb.shape
        if num_frames < 2 or num_frames % 2 or height % PATCH_SIDE or width % PATCH_SIDE:
            raise ValueError(f"frames come in pairs with sides in 28s, got {self.rgb.shape}")
        if self.seconds_per_frame <= 0:
            raise ValueError(f"seconds_per_frame must be positive, got {self.seconds_per_frame}")

    @property
    def size(self) -> int:
        num_frames, height, width, _ = self.rgb.shape
        return num_frames // FRAMES_PER_TOKEN * height * width // PATCH_SIDE**2

    def store(self) -> tuple[dict[str, np.ndarray], Any]:
        return {"rgb": self.rgb}, [self.pts_seconds, self.seconds_per_frame, self.source]

    @classmethod
    def restore(cls, arrays: Mapping[str, np.ndarray], about: Any) -> Self:
        times, step, source = about
        return cls(arrays["rgb"], tuple(times), step, source)


@dataclass(frozen=True)
class Waveform(Part):
    """Mono sound at 16 kHz: float32 [S], S > 0, finite."""

    samples: np.ndarray
    source: str = ""

    def __post_init__(self) -> None:
        if self.samples.dtype != np.float32 or self.samples.ndim != 1 or not len(self.samples):
            raise ValueError(
                f"a waveform is float32 [S], got {self.samples.dtype} {self.samples.shape}"
            )

    @property
    def duration_seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE

    @property
    def size(self) -> int:
        return len(self.samples) // SAMPLES_PER_TOKEN

    def store(self) -> tuple[dict[str, np.ndarray], Any]:
        return {"samples": self.samples}, self.source

    @classmethod
    def restore(cls, arrays: Mapping[str, np.ndarray], about: Any) -> Self:
        return cls(arrays["samples"], about)


@dataclass(frozen=True)
class Traces(Part):
    """A heart's leads in millivolts at 100 Hz, without what no heart gives: float32 [S, K], one
    column a lead of `leads`, finite."""

    values: np.ndarray
    leads: tuple[str, ...]
    source: str = ""

    def __post_init__(self) -> None:
        shape = self.values.shape
        if self.values.dtype != np.float32 or shape[1:] != (len(self.leads),) or not shape[0]:
            raise ValueError(f"traces are float32 [S, leads], got {self.values.dtype} {shape}")
        if not np.isfinite(self.values).all():
            raise ValueError("traces are finite numbers, got NaN or infinite ones")

    @property
    def duration_seconds(self) -> float:
        return len(self.values) / TRACE_RATE

    @property
    def size(self) -> int:
        return len(self.values)

    def store(self) -> tuple[dict[str, np.ndarray], Any]:
        return {"values": self.values}, [self.leads, self.source]

    @classmethod
    def restore(cls, arrays: Mapping[str, np.ndarray], about: Any) -> Self:
        leads, source = about
        return cls(arrays["values"], tuple(leads), source)


@dataclass(frozen=True)
class FeatureSequence(Part):
    """Features of one modality that were extracted elsewhere: float32 [L, D], L and D > 0, finite.

    `text` holds, for the modality text, the words themselves, where they are known.
    """

    values: np.ndarray
    source: str
    text: str = ""

    def __post_init__(self) -> None:
        is_matrix = self.values.ndim == 2 and self.values.size > 0
        if self.values.dtype != np.float32 or not is_matrix:
            raise ValueError(
                f"features are float32 [L, D], got {self.values.dtype} {self.values.shape}"
            )
        if not np.isfinite(self.values).all():
            raise ValueError("features are finite numbers, got NaN or infinite ones")

    @property
    def size(self) -> int:
        return len(self.values)

    def store(self) -> tuple[dict[str, np.ndarray], Any]:
        return {"values": self.values}, [self.source, self.text]

    @classmethod
    def restore(cls, arrays: Mapping[str, np.ndarray], about: Any) -> Self:
        source, text = about
        return cls(arrays["values"], source, text)


@dataclass(frozen=True)
class ClipContent:
    """A clip after reading: its part of each modality that it has, and warnings."""

    clip: Clip
    sha256: str
    parts: dict[str, Part] = field(default_factory=dict)  # by modality
    media: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    decode_seconds: float = 0.0

    @property
    def present(self) -> Subset:
        """The modalities the clip really has."""
        return frozenset(self.parts)

    @property
    def size(self) -> int:
        """Roughly how long the clip is for the model: clips of similar size share a pass."""
        return sum(part.size for part in self.parts.values())
