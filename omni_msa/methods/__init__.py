"""What was read of a clip becomes a number: one file a method, and one table that lists them.

It imports `model`, `files` and what is below them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from omni_msa.errors import ConfigError, check_choice
from omni_msa.files.labels import LabelSpace
from omni_msa.methods.ecg_mamba import EcgMamba
from omni_msa.methods.generative import Generative
from omni_msa.methods.lrcmt import LrcmtMethod
from omni_msa.methods.method import (
    Builder,
    Inputs,
    Labels,
    Method,
    Reading,
    TrainedBy,
    parse_options,
)
from omni_msa.methods.mmolre import MmolreMethod
from omni_msa.methods.mse_adapter import MseAdapterMethod
from omni_msa.methods.regression import Regression
from omni_msa.methods.ridge import Ridge
from omni_msa.methods.verbalizer import Verbalizer
from omni_msa.model.thinker import Thinker

__all__ = [
    "METHODS",
    "Builder",
    "Inputs",
    "LabelSpace",
    "Labels",
    "Method",
    "Reading",
    "TrainedBy",
    "check_encoders",
    "has_parameters",
    "make_method",
    "method_named",
    "method_trained_by",
    "parse_options",
]

METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (
        Regression,
        Verbalizer,
        Ridge,
        Generative,
        MseAdapterMethod,
        MmolreMethod,
        LrcmtMethod,
        EcgMamba,
    )
}


def method_named(name: str) -> type[Method]:
    """The method of that name.

    Raises:
        ConfigError: there is none; the message lists the names.
    """
    check_choice("readout", name, METHODS)
    return METHODS[name]


def method_trained_by(way: TrainedBy, name: str) -> type[Method]:
    """The method of that name, which has to be trained in that way.

    Raises:
        ConfigError: it is not, or there is none; the message lists those that are.
    """
    method = method_named(name)
    if method.trained_by is not way:
        others = [m.name for m in METHODS.values() if m.trained_by is way]
        raise ConfigError(
            f"readout {name!r} is trained by {method.trained_by.value}, here it has to be by "
            f"{way.value}; choose one of: {', '.join(others)}"
        )
    return method


def check_encoders(method: type[Method], options: Any, names: Iterable[str]) -> None:
    """A method takes encoders only for what it looks at by itself.

    Raises:
        ConfigError: it does not take one of these.
    """
    own = method.replaceable(options)
    for name in names:
        if not own:
            raise ConfigError(
                f"--encoder {name}: {method.name} reads the Thinker's states and takes no encoders"
            )
        check_choice(f"{method.name}: --encoder", name, sorted(own))


def has_parameters(method: type[Method], options: Any) -> bool:
    """Whether it has any of its own; asked for a Thinker of some width."""
    return method.num_parameters(64, options, LabelSpace()) > 0


def make_method(
    name: str,
    thinker: Thinker,
    label_space: LabelSpace,
    options: Mapping[str, Any] | None = None,
) -> Method:
    """A fresh method for this Thinker, on its device.

    Raises:
        ConfigError: no method has this name, or it does not take these options.
    """
    method = method_named(name)
    own = parse_options(method, options or {})
    check_encoders(method, own, thinker.named_parts())
    return method(thinker, label_space, own).to(thinker.device)
