"""Public data sets: from a release's own folder layout to a manifest, one file a layout."""

from omni_msa.datasets.catalog import DATASETS, dataset_named
from omni_msa.datasets.importing import ImportReport, import_dataset, write_manifest
from omni_msa.datasets.release import Dataset, DatasetFacts

__all__ = [
    "DATASETS",
    "Dataset",
    "DatasetFacts",
    "ImportReport",
    "dataset_named",
    "import_dataset",
    "write_manifest",
]
