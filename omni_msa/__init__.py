"""omni-msa: one clip in, one sentiment score out, and what each modality contributed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what a type checker sees; at run time, `__getattr__` imports them
    from omni_msa.errors import (
        ConfigError,
        DecodeCrash,
        DecodeMemory,
        DecodeTimeout,
        ManifestError,
        MediaError,
        ModelError,
        OmniMSAError,
        ResultsError,
        TrainingError,
        TranscriptError,
    )
    from omni_msa.files.record import Record
    from omni_msa.options import AblationOptions, MediaOptions, ModelOptions
    from omni_msa.scoring.scorer import Scorer
    from omni_msa.values import Clip

__version__ = "0.1.0"

_HOMES = {
    "Scorer": "omni_msa.scoring.scorer",
    "Clip": "omni_msa.values",
    "Record": "omni_msa.values",
    "MediaOptions": "omni_msa.options",
    "ModelOptions": "omni_msa.options",
    "AblationOptions": "omni_msa.options",
    "OmniMSAError": "omni_msa.errors",
    "MediaError": "omni_msa.errors",
    "DecodeTimeout": "omni_msa.errors",
    "DecodeCrash": "omni_msa.errors",
    "DecodeMemory": "omni_msa.errors",
    "TranscriptError": "omni_msa.errors",
    "ManifestError": "omni_msa.errors",
    "ConfigError": "omni_msa.errors",
    "ResultsError": "omni_msa.errors",
    "ModelError": "omni_msa.errors",
    "TrainingError": "omni_msa.errors",
}
__all__ = [  # a list of texts, because type checkers read it
    "AblationOptions",
    "Clip",
    "ConfigError",
    "DecodeCrash",
    "DecodeMemory",
    "DecodeTimeout",
    "ManifestError",
    "MediaError",
    "MediaOptions",
    "ModelError",
    "ModelOptions",
    "OmniMSAError",
    "Record",
    "ResultsError",
    "Scorer",
    "TrainingError",
    "TranscriptError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Public names are imported on first use, so that `import omni_msa` stays instant."""
    if name not in _HOMES:
        raise AttributeError(f"module 'omni_msa' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
