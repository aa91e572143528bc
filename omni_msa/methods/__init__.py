"""Hidden states become a number: one file a method, and one table that lists them.

It imports `model`, `files` and what is below them.
"""

from __future__ import annotations

from typing import Any

from omni_msa.errors import ConfigError
from omni_msa.files.labels import LabelScale
from omni_msa.methods.generative import Generative
from omni_msa.methods.method import Reading, Readout
from omni_msa.methods.regression import Regression
from omni_msa.methods.ridge import Probe
from omni_msa.methods.verbalizer import Verbalizer
from omni_msa.model.thinker import Thinker

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
