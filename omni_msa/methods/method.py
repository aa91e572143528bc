"""The contract of a method: how a score is computed from what was read of a clip.

A method is one file in this package and one row of `METHODS`. Training, checkpoints, estimates and
the command line ask it what it is; none of them knows a method by name. What users call a readout
(`--readout`) is a method that reads the number off the Thinker.

Shapes: B clips, K subsets of each, N training clips, H width of the language model, E emotions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any, ClassVar, Protocol, get_args, get_type_hints

import torch
from torch import nn

from omni_msa.errors import ConfigError, ModelError, check_choice
from omni_msa.files.labels import LabelSpace
from omni_msa.files.record import Answer
from omni_msa.modalities import MODALITIES, Subset, tokens
from omni_msa.model import prompt
from omni_msa.model.features import FeatureBuilder
from omni_msa.model.thinker import Thinker
from omni_msa.options import PROMPT_VERSION, TASKS, MediaOptions
from omni_msa.values import ClipContent


class TrainedBy(Enum):
    """How a method gets its weights."""

    GRADIENTS = "gradients"  # of `losses`, together with a LoRA adapter
    FIT = "fit"  # in closed form, on the states of a model that stays as it is
    NOTHING = "nothing"  # it has none


class Inputs(Protocol):
    """One clip as tensors, ready for a method."""

    @property
    def present(self) -> Subset:
        """The modalities that are shown."""
        ...

    @property
    def num_tokens(self) -> dict[str, int]:
        """How long it is, by modality, and in all (`total`)."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was cut or replaced."""
        ...


class Builder(Protocol):
    """What turns clips into inputs."""

    def build(
        self, content: ClipContent, options: MediaOptions, hide: Subset = frozenset()
    ) -> Inputs:
        """The inputs of one clip, without the modalities in `hide`.

        Raises:
            MediaError: nothing is left to show, or the clip is of another kind.
        """
        ...


@dataclass(frozen=True)
class Labels:
    """What several clips' subsets are labelled with."""

    scores: torch.Tensor  # [B, K] in label units, or class numbers
    # of emotions or findings, [B, E]: 1 present, 0 absent, NaN not known
    emotions: torch.Tensor | None = None


@dataclass(frozen=True)
class Reading:
    """Scores of several clips' subsets, and the answers that they were parsed from, if any."""

    scores: torch.Tensor  # [B, K], in label units, within the label range; or class numbers
    # [B, K, E] probabilities: of classes, or of each emotion or finding
    emotions: torch.Tensor | None = None
    answers: list[list[Answer]] | None = None  # B x K
    states: torch.Tensor | None = None  # [B, K, H] at the last tokens: what the scores are read off


ONE_LABEL = frozenset({"sentiment", "emotion"})  # tasks of methods with one output


@dataclass(frozen=True)
class NoOptions:
    """Of a method that has none."""


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that an optimizer moves at one rate."""

    parameters: list[nn.Parameter]
    learning_rate: float
    eps: float = 1e-8  # of AdamW


class Method(nn.Module):
    """Reads scores, and may be trained to. `METHODS` in this package lists them all.

    Its own parameters are fp32 and outside the quantizer.

    Attributes:
        name: what `--readout`, records and checkpoints call it.
        Options: a frozen dataclass of its own options, each with a default; it checks itself.
        trained_by: how it gets its weights.
        is_zero_shot: whether it scores without any weights of its own; such methods may replace
            each other over one base or adapter.
        tasks: the kinds of labels that it has heads for, of `options.TASKS`.
        recipe: how it is trained, where that is not as `TrainOptions` has it.
        features: what makes the features that it looks at, if it looks at any: those of a base and
            of encoders that stay as they are need to be made only once.
    """

    name: ClassVar[str]
    Options: ClassVar[type] = NoOptions
    trained_by: ClassVar[TrainedBy]
    is_zero_shot: ClassVar[bool] = False
    tasks: ClassVar[frozenset[str]] = frozenset(TASKS) - {"ecg"}
    recipe: ClassVar[Mapping[str, Any]] = {}
    features: FeatureBuilder | None = None

    def __init__(self, thinker: Thinker, label_space: LabelSpace, options: Any) -> None:
        super().__init__()
        if label_space.task not in self.tasks:
            raise ConfigError(
                f"{self.name} has no head for labels of the task {label_space.task}; it has for "
                f"{' and '.join(task for task in TASKS if task in self.tasks)}"
            )
        self.label_space = label_space
        self.options = options

    @classmethod
    def modalities(cls, options: Any) -> Subset:
        """Those it can use. By default, what the Thinker can be shown."""
        return tokens()

    @classmethod
    def unused_modalities(cls, options: Any) -> Subset:
        """Those it cannot use, which need not be read."""
        return frozenset(MODALITIES) - cls.modalities(options)

    @classmethod
    def adapts_base(cls, options: Any) -> bool:
        """Whether training puts a LoRA adapter on the Thinker, or on what stands in its place."""
        return True

    @classmethod
    def trains_through_base(cls, options: Any) -> bool:
        """Whether a step of training goes back through the Thinker's layers."""
        return cls.adapts_base(options)

    @classmethod
    def replaceable(cls, options: Any) -> frozenset[str]:
        """For which modalities, or the language model, it takes an encoder of the user's choice."""
        return frozenset()

    @classmethod
    def num_parameters(cls, width: int, options: Any, label_space: LabelSpace) -> int:
        """How many it adds to a Thinker of this width: before anything is loaded."""
        return 0

    def builder(self, thinker: Thinker, version: str = PROMPT_VERSION) -> Builder:
        """What makes a clip's inputs for `read` and `losses`.

        Args:
            version: of the prompt.
        """
        return thinker.builder(self.question(version))

    def question(self, version: str = PROMPT_VERSION) -> str:
        """What the prompt of a version asks.

        Raises:
            ModelError: the model answers in words, and was asked for them otherwise in version 1.
        """
        if version == "1" and self.is_zero_shot:
            raise ModelError(
                f"trained with prompt 1, which asked for {self.name} answers in other words; "
                "use the omni-msa release that trained it"
            )
        space = self.label_space
        return prompt.question(space.low, space.high, space.classes, version)

    def scoring_options(self) -> dict[str, Any]:
        """Options that change a score and are not in the weights: a fingerprint covers them."""
        return {
            field.name: getattr(self.options, field.name)
            for field in fields(self.options)
            if not field.metadata.get("in_weights")
        }

    def figures(self) -> dict[str, Any]:
        """What else there is to know of an epoch, after its validation: for the training log."""
        return {}

    def parameter_groups(self, learning_rate: float) -> list[ParameterGroup]:
        """Its own parameters, for training by gradients.

        Args:
            learning_rate: that the user has chosen for them (`--head-learning-rate`).
        """
        parameters = list(self.parameters())
        return [ParameterGroup(parameters, learning_rate)] if parameters else []

    def read(
        self,
        thinker: Thinker,
        clips: Sequence[Any],
        subsets: Sequence[Sequence[Subset]],
    ) -> Reading:
        """Scores of each clip's subsets. Rows of clips with fewer of them end in nothing of use."""
        raise NotImplementedError

    def losses(
        self,
        thinker: Thinker,
        clips: Sequence[Any],
        subsets: Sequence[Sequence[Subset]],
        labels: Labels,
    ) -> torch.Tensor:
        """What training by gradients makes small: [B, K]."""
        raise NotImplementedError

    def fit(self, states: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Fits last-token states [N, H] to labels [N]; gives each clip's score by a fit without
        it [N]. Options that the fit has chosen are put into `options`."""
        raise NotImplementedError


def in_weights(default: Any) -> Any:
    """An option whose whole effect is in the weights, such as the shape of a head."""
    return field(default=default, metadata={"in_weights": True})


def parse_options(method: type[Method], values: Mapping[str, Any]) -> Any:
    """A method's options, from text (`--set NAME=VALUE`) or from JSON.

    Options are of type str, int, float or bool, or one of these and None ("none" as text).

    Raises:
        ConfigError: an option that the method does not have, or a value that it does not take.
    """
    kinds = get_type_hints(method.Options)
    names = [field.name for field in fields(method.Options)]
    if values and not names:
        raise ConfigError(f"{method.name} has no options; leave out {', '.join(values)}")
    for name in values:
        check_choice(f"{method.name}: option", name, names)
    typed = {name: _typed(name, value, kinds[name]) for name, value in values.items()}
    return method.Options(**typed)


def _typed(name: str, value: Any, kind: Any) -> Any:
    """A value as the type that an option is declared with."""
    kinds = get_args(kind) or (kind,)
    if value is None or (value == "none" and str not in kinds):
        if type(None) in kinds:
            return None
    elif str in kinds and isinstance(value, str):
        return value
    elif bool in kinds and (isinstance(value, bool) or value in ("true", "false")):
        return value in (True, "true")
    elif not isinstance(value, bool):
        for number in (int, float):
            if number in kinds and (converted := _number(value, number)) is not None:
                return converted
    allowed = " or ".join(_KIND_NAMES[k] for k in kinds if k in _KIND_NAMES)
    raise ConfigError(f"{name}={value}: it takes {allowed}")


_KIND_NAMES = {
    str: "a word",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    type(None): "none",
}


def _number(value: Any, kind: type) -> Any:
    """Text or a JSON number as an int or a float; None if it is none."""
    if isinstance(value, str):
        try:
            return kind(value)
        except ValueError:
            return None
    if isinstance(value, int) or (kind is float and isinstance(value, float)):
        return kind(value)
    return None
