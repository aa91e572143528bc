"""The data sets that can be imported, by name."""

from __future__ import annotations

from omni_msa.errors import check_choice
from omni_msa.files.importers.cpsc2018 import CPSC2018
from omni_msa.files.importers.iemocap import IEMOCAP
from omni_msa.files.importers.meld import MELD
from omni_msa.files.importers.mmsa import MOSEI, MOSI, SIMS, SIMSV2
from omni_msa.files.importers.ptb_xl import PTB_XL
from omni_msa.files.importers.release import Dataset

DATASETS: dict[str, Dataset] = {
    dataset.facts.name: dataset
    for dataset in (MOSI, MOSEI, SIMS, SIMSV2, MELD, IEMOCAP, PTB_XL, CPSC2018)
}


def dataset_by_name(name: str) -> Dataset:
    """The data set of that name.

    Raises:
        ConfigError: There is none; the message lists the names.
    """
    check_choice("data set", name, DATASETS)
    return DATASETS[name]
