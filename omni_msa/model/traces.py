"""A heart's leads as a method is given them: millivolts, a column each of the twelve leads.

Shapes: S samples, 100 a second.
"""

from __future__ import annotations

import torch

from omni_msa.errors import MediaError
from omni_msa.media.record_files import LEADS
from omni_msa.values import Part, Traces


def lead_columns(part: Part) -> torch.Tensor:
    """[S, 12], zero where a lead is missing.

    Raises:
        MediaError: the part is no heart record's.
    """
    if not isinstance(part, Traces):
        raise MediaError(
            "holds features in place of a heart record; give the record itself", code="features"
        )
    columns = torch.zeros(len(part.values), len(LEADS))
    columns[:, [LEADS.index(lead) for lead in part.leads]] = torch.from_numpy(part.values)
    return columns
