"""What mattered over time in a heart record, by occlusion (Zeiler and Fergus, ECCV 2014).

A stretch of all leads is set to zero, where a cleaned record lies between its beats, and the clip
is scored again: what the stretch adds is the result less the result without it. Width and hop are
ours; a long record has wider windows, so that it takes no more of them.

Shapes: N windows, S samples of the record, C stretches between the windows' bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omni_msa.errors import ConfigError, MediaError
from omni_msa.files.record import Record
from omni_msa.media import read_clip
from omni_msa.modalities import Subset
from omni_msa.model.memory import in_passes
from omni_msa.options import AblationOptions, BatchOptions
from omni_msa.scoring.scorer import Prepared, Scorer
from omni_msa.scoring.stream import as_clip
from omni_msa.values import TRACE_RATE, Clip, ClipContent, Traces

if TYPE_CHECKING:
    from omni_msa.scoring.deferred import DeferredScorer

HOP = TRACE_RATE // 4  # samples from one window to the next
HOPS_A_WINDOW = 2
MOST_HOPS = 120  # of a record; beyond 30 s, they are longer


@dataclass(frozen=True)
class Occlusion:
    """What each stretch of a clip's heart record adds to what is watched. Times are samples."""

    clip: str
    model: dict[str, Any]  # as records name it
    watched: str  # "score", or "probability of AF"
    value: float  # of the whole clip
    traces: Traces
    starts: np.ndarray  # [N] of the windows
    width: int  # of each window
    hop: int
    effects: np.ndarray  # [N]: the value less the value without that window

    def strongest(self, number: int) -> list[int]:
        """The places of the windows of most effect, either way, that do not overlap."""
        places: list[int] = []
        for place in np.argsort(-np.abs(self.effects), kind="stable").tolist():
            distances = np.abs(self.starts[places] - self.starts[place])
            if len(places) < number and (distances >= self.width).all():
                places.append(place)
        return places

    def sizes(self) -> tuple[np.ndarray, np.ndarray]:
        """Bounds [C + 1] of stretches, and how much each changes the value [C]: the mean of the
        absolute effects of all windows that hold it."""
        stops = self.starts + self.width
        bounds = np.unique([self.starts, stops])
        holds = (self.starts <= bounds[:-1, None]) & (stops >= bounds[1:, None])  # [C, N]
        return bounds, (holds * np.abs(self.effects)).sum(axis=1) / holds.sum(axis=1)


def check_looks_at_ecg(scorer: Scorer | DeferredScorer, hide: Subset = frozenset()) -> None:
    """There is nothing to occlude where heart records are not looked at.

    Raises:
        ConfigError: they are hidden, or the checkpoint does not look at them.
    """
    if "ecg" in hide:
        raise ConfigError("a trace shows what the heart record adds; do not drop ecg")
    if "ecg" in scorer.hidden:
        model = scorer.describe()
        raise ConfigError(
            f"a trace needs a checkpoint that looks at heart records, and "
            f"{model['checkpoint'] or model['base']} does not; give --checkpoint DIR of one that "
            "train wrote with --method ecg-mamba, or with regression and --set ecg=true"
        )


def occlude(
    scorer: Scorer,
    clip: Clip | str | Path,
    hide: Subset = frozenset(),
    batch_size: int = BatchOptions.batch_size,
) -> Occlusion:
    """Reads a clip and says what each stretch of its heart record adds.

    Args:
        scorer: whose method looks at heart records.
        clip: a record, or a path or `Clip` that has one.
        hide: modalities that the model is not shown at all.
        batch_size: clips in one forward pass.

    Raises:
        ConfigError: heart records are not looked at.
        MediaError: the clip cannot be read, or no heart record of it.
    """
    check_looks_at_ecg(scorer, hide)
    content = read_clip(as_clip(clip), scorer.media, hide | scorer.hidden)
    return occlude_content(scorer, content, hide, batch_size)


def occlude_content(
    scorer: Scorer,
    content: ClipContent,
    hide: Subset = frozenset(),
    batch_size: int = BatchOptions.batch_size,
) -> Occlusion:
    """What each stretch of the heart record adds, of a clip that was read.

    Raises:
        ConfigError: heart records are not looked at.
        MediaError: it has none.
    """
    check_looks_at_ecg(scorer, hide)
    traces = content.parts.get("ecg")
    if not isinstance(traces, Traces):
        reasons = "".join(f"; {w}" for w in content.warnings if "ecg" in w)
        raise MediaError(f"{content.clip.name}: no heart record was read{reasons}")
    starts, width, hop = windows_of(traces.size)
    whole = scorer.prepare(content, hide)

    def score(part: Sequence[int]) -> list[Record]:
        """The whole clip first: of one pass, all differences are those of the record alone."""
        clips = [whole, *(_without(scorer, content, hide, start, width) for start in part)]
        return scorer.score_prepared(clips, AblationOptions(enabled=False), hide)

    passes = list(in_passes(score, starts, max(batch_size - 1, 1)))
    name = passes[0][0].name
    values = [[_value(record, name) for record in records] for records in passes]
    return Occlusion(
        clip=content.clip.name,
        model=scorer.describe(),
        watched=f"probability of {name}" if name else "score",
        value=values[0][0],
        traces=traces,
        starts=np.array(starts),
        width=width,
        hop=hop,
        effects=np.array([first - value for first, *rest in values for value in rest]),
    )


def windows_of(size: int) -> tuple[list[int], int, int]:
    """Where windows start, their width, and the hop between them: of one width, the last at the
    end of the record; one window where the record is no longer than that."""
    hop = max(HOP, -(-size // MOST_HOPS))
    width = min(HOPS_A_WINDOW * hop, size)
    return [*range(0, size - width, hop), size - width], width, hop


def _without(
    scorer: Scorer, content: ClipContent, hide: Subset, start: int, width: int
) -> Prepared:
    """The clip whose leads are zero in a window; it has a name of its own."""
    traces = content.parts["ecg"]
    assert isinstance(traces, Traces)  # checked before
    values = traces.values.copy()
    values[start : start + width] = 0.0
    seconds = f"{start / TRACE_RATE:g}-{(start + width) / TRACE_RATE:g} s"
    clip = replace(content.clip, id=f"{content.clip.name} without {seconds}")
    parts = {**content.parts, "ecg": replace(traces, values=values)}
    return scorer.prepare(replace(content, clip=clip, parts=parts), hide)


def _value(record: Record, name: str | None) -> float:
    """What is watched of a record: a probability, or the score where no name is given."""
    value = (record.findings or record.emotions or {})[name] if name else record.score
    assert value is not None  # a clip that could not be scored raises
    return value
