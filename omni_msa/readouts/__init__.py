"""How a number is read off the Thinker: one file a readout, one table, one interface."""

from __future__ import annotations

from typing import Any

from omni_msa.errors import ConfigError
from omni_msa.readouts.generative import Generative
from omni_msa.readouts.interface import Reading, Readout
from omni_msa.readouts.labels import LabelScale
from omni_msa.readouts.probe import Probe
from omni_msa.readouts.regression import Regression
from omni_msa.readouts.verbalizer import Verbalizer
from omni_msa.thinker import Thinker

__all__ = [
    "READOUTS",
    "LabelScale",
    "Probe",
    "Reading",
    "Readout",
    "make_readout",
]

READOUTS: dict[str, type[Readout]] = {
    kind.name: kind for kind in (Regression, Verbalizer, Probe, Generative)
}


def make_readout(
    name: str, thinker: Thinker, scale: LabelScale, settings: dict[str, Any] | None = None
) -> Readout:
    """A fresh readout for this Thinker, on its device.

    Raises:
        ConfigError: no readout has this name, or it does not take these settings.
    """
    if name not in READOUTS:
        raise ConfigError(f"readout {name!r} is not known; choose one of: {', '.join(READOUTS)}")
    try:
        readout = READOUTS[name](thinker, scale, **(settings or {}))
    except TypeError as error:
        raise ConfigError(f"readout {name}: its settings are not known ({error})") from error
    return readout.to(thinker.device)
