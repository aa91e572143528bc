"""omni-msa: one clip in, one sentiment score out, and what each modality contributed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Scorer": "omni_msa.scoring.scorer",
    "Clip": "omni_msa.values",
    "Record": "omni_msa.values",
    "MediaOptions": "omni_msa.options",
    "ModelOptions": "omni_msa.options",
    "AblationOptions": "omni_msa.options",
    "OmniMSAError": "omni_msa.errors",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    """Public names are imported on first use, so that `import omni_msa` stays instant."""
    if name not in _HOMES:
        raise AttributeError(f"module 'omni_msa' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
