"""What a study compares: arms, each a small declaration, and the runs that they need.

An arm is one row of the table: a readout, the modalities that it was trained with, those that it is
shown when it is measured, its seeds and its budget. A run is one model: arms that differ only by
what is shown at test time share their runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from omni_msa.errors import ConfigError
from omni_msa.media.identity import json_sha256
from omni_msa.methods import (
    METHODS,
    Method,
    TrainedBy,
    has_parameters,
    method_named,
    parse_options,
)
from omni_msa.modalities import Subset, in_order, subset_name, tokens
from omni_msa.options import TrainOptions

ZERO_SHOT = "zero-shot"
HASH_DIGITS = 8
OF_THE_ARM = ("method", "method_options", "seed")  # of `TrainOptions`: not a budget


@dataclass(frozen=True)
class Run:
    """One model of the study. `seed` is None where nothing is random."""

    readout: str
    way: TrainedBy
    shown: Subset  # in training, and the most that it is ever shown
    options: TrainOptions
    seed: int | None

    @property
    def name(self) -> str:
        """Of its folder: what it is, and a hash of all that it is made with."""
        seed = "" if self.seed is None else f"-seed{self.seed}"
        digest = json_sha256([self.readout, self.way.value, sorted(self.shown), self.recipe])
        way = f"-{ZERO_SHOT}" if self.way is TrainedBy.NOTHING else ""
        return f"{self.readout}{way}-{subset_name(self.shown)}{seed}-{digest[:HASH_DIGITS]}"

    @property
    def hide(self) -> Subset:
        """What the Thinker is never shown."""
        return tokens() - self.shown

    @property
    def recipe(self) -> dict[str, Any]:
        """What it is made with beside its clips."""
        if self.way is TrainedBy.GRADIENTS:
            return asdict(self.options)
        return {"method_options": self.options.method_options}


@dataclass(frozen=True)
class Arm:
    """One row of the table.

    Attributes:
        readout: a name of `METHODS`.
        way: how its weights are made; NOTHING reads the base zero-shot.
        trained_with: the modalities that its models are shown in training.
        shown: those that the models are shown when they are measured.
        seeds: one run each.
        options: the budget of a run, and the readout's own options in `method_options`.
    """

    readout: str
    way: TrainedBy
    trained_with: Subset
    shown: Subset
    seeds: tuple[int, ...]
    options: TrainOptions = field(default_factory=TrainOptions)

    @property
    def system(self) -> str:
        """The readout, and whether it is read zero-shot."""
        return f"{self.readout} ({ZERO_SHOT})" if self.way is TrainedBy.NOTHING else self.readout

    @property
    def name(self) -> str:
        return f"{self.system} {subset_name(self.shown)}"

    @property
    def protocol(self) -> str:
        """Whether what it is shown is what it was trained with."""
        if self.way is TrainedBy.NOTHING:
            return "nothing is trained"
        if self.shown == self.trained_with:
            return "trained with these"
        how = f", {self.options.subsets}" if self.way is TrainedBy.GRADIENTS else ""
        return f"test-time subset of {subset_name(self.trained_with)}{how}"

    @property
    def runs(self) -> list[Run]:
        """A run each seed; a single one where nothing is random."""
        seeds: tuple[int | None, ...] = (None,)
        if self.way is TrainedBy.GRADIENTS:
            seeds = self.seeds
        return [
            Run(self.readout, self.way, self.trained_with, self._seeded(seed), seed)
            for seed in seeds
        ]

    def to_json(self) -> dict[str, Any]:
        """As the plan holds it."""
        row = {"name": self.name, "readout": self.readout, "made by": self.way.value}
        row |= {"trained_with": in_order(self.trained_with), "shown": in_order(self.shown)}
        row |= {"protocol": self.protocol, "runs": [run.name for run in self.runs]}
        return row | {"recipe": {**self.runs[0].recipe, "seed": [r.seed for r in self.runs]}}

    def _seeded(self, seed: int | None) -> TrainOptions:
        return replace(self.options, method=self.readout, seed=seed or 0)


def make_arms(
    readouts: Sequence[str],
    subsets: Sequence[Subset],
    seeds: Sequence[int],
    budget: Mapping[str, Any],
    settings: Mapping[str, Mapping[str, str]],
    retrain: bool,
) -> list[Arm]:
    """Every readout with every subset, the readouts one after another.

    Args:
        readouts: names of `METHODS`; `NAME:zero-shot` reads the base without training.
        budget: of every run that is trained, as far as it is the same for all: fields of
            `TrainOptions`. The rest is each method's own recipe.
        settings: by readout: options of its training, or its own.
        retrain: each subset has models of its own; without it, one model that was trained with
            all of them is shown less at test time.

    Raises:
        ConfigError: a name is not known, something is named twice, or an option is not taken.
    """
    for kind, names in (("readout", readouts), ("subset", subsets), ("seed", seeds)):
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"name one {kind} or more, each once")
    if strangers := sorted(settings.keys() - set(readouts)):
        raise ConfigError(f"--set {strangers[0]}:...: no readout of this study; {readouts} are")
    union = frozenset().union(*subsets)
    arms = []
    for name in readouts:
        readout, way = _way_of(name)
        options = _with_settings(method_named(readout), way, budget, settings.get(name, {}))
        for shown in subsets:
            trained_with = shown if retrain else union
            arms.append(Arm(readout, way, trained_with, shown, tuple(seeds), options))
    return arms


def runs_of(arms: Iterable[Arm]) -> list[Run]:
    """The runs that the arms need, each once."""
    return list({run.name: run for arm in arms for run in arm.runs}.values())


def _way_of(name: str) -> tuple[str, TrainedBy]:
    """A readout as the command line names it, and how its weights are made."""
    readout, colon, way = name.partition(":")
    method = method_named(readout)
    if not colon:
        return readout, method.trained_by
    if way != ZERO_SHOT or not method.is_zero_shot:
        free = [m.name for m in METHODS.values() if m.is_zero_shot]
        raise ConfigError(f"readout {name}: {' and '.join(free)} can be read with :{ZERO_SHOT}")
    return readout, TrainedBy.NOTHING


class _Budget(Method):
    """Training's options as a method's are parsed."""

    name = "training"
    Options = TrainOptions


def _with_settings(
    method: type[Method], way: TrainedBy, budget: Mapping[str, Any], settings: Mapping[str, str]
) -> TrainOptions:
    """A readout's settings over the budget, over its recipe, checked."""
    if way is TrainedBy.NOTHING:
        if settings:
            raise ConfigError(f"{method.name}: nothing is trained; leave its --set out")
        return TrainOptions(**budget)
    names = {f.name for f in fields(TrainOptions)} - set(OF_THE_ARM)
    if way is not TrainedBy.GRADIENTS:
        names = set()  # a fit has no budget
    changes = {name: value for name, value in settings.items() if name in names}
    own = {name: value for name, value in settings.items() if name not in names}
    typed = parse_options(_Budget, changes)
    own_options = parse_options(method, own)
    values = {name: getattr(typed, name) for name in changes}
    if not has_parameters(method, own_options):  # no rate of its own either
        values["head_learning_rate"] = TrainOptions.head_learning_rate
    values |= {"method": method.name, "method_options": asdict(own_options)}
    return TrainOptions.of(method.recipe, {**budget, **values})
