"""Public data sets: from a release's own folder layout to a manifest, one file a layout."""

from omni_msa.files.importers.catalog import DATASETS, dataset_by_name
from omni_msa.files.importers.importing import ImportReport, import_dataset, write_manifest
from omni_msa.files.importers.release import Dataset, DatasetFacts

__all__ = [
    "DATASETS",
    "Dataset",
    "DatasetFacts",
    "ImportReport",
    "dataset_by_name",
    "import_dataset",
    "write_manifest",
]
