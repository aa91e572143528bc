"""The data sets that can be imported, by name."""

from __future__ import annotations

from omni_msa.datasets.iemocap import IEMOCAP
from omni_msa.datasets.meld import MELD
from omni_msa.datasets.mmsa import MOSEI, MOSI, SIMS, SIMSV2
from omni_msa.datasets.release import Dataset
from omni_msa.errors import ConfigError

DATASETS: dict[str, Dataset] = {
    dataset.facts.name: dataset for dataset in (MOSI, MOSEI, SIMS, SIMSV2, MELD, IEMOCAP)
}


def dataset_named(name: str) -> Dataset:
    """The data set of that name.

    Raises:
        ConfigError: There is none; the message lists the names.
    """
    if name not in DATASETS:
        raise ConfigError(f"data set {name!r} is not known; choose one of: {', '.join(DATASETS)}")
    return DATASETS[name]
