"""Read configs, look up experiments and data sets, and check every key and value.

``lookup`` finds entries and ``yaml_files`` reads them. The ``*_options`` modules hold the option table. ``columns``,
``datasets`` and ``training_settings`` check settings against it, and ``json_schema`` turns it into schemas.
"""

from fuxictr_me.config.dataset_options import DATA_FORMATS, FIELD_TYPES, RAW_DTYPES
from fuxictr_me.config.datasets import check_dataset, is_built
from fuxictr_me.config.lookup import bundled_datasets, find_config, find_dataset, read_entries, read_params
from fuxictr_me.config.names import check_plain_name
from fuxictr_me.config.yaml_files import read_yaml

__all__ = [
    "DATA_FORMATS",
    "FIELD_TYPES",
    "RAW_DTYPES",
    "bundled_datasets",
    "check_dataset",
    "check_plain_name",
    "find_config",
    "find_dataset",
    "is_built",
    "read_entries",
    "read_params",
    "read_yaml",
]
