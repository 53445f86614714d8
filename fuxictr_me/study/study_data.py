"""The built data of a study: use an existing data set, build a missing one, and detect changes."""

import dataclasses
import os
from pathlib import Path

from fuxictr_me.config import is_built
from fuxictr_me.config.splits import DIVIDING_KEYS, SPLITS, get_split_names
from fuxictr_me.data import build_dataset, build_h5
from fuxictr_me.data.digests import count_rows, data_digest
from fuxictr_me.data.manifest import describe_changes, fingerprint, read_manifest
from fuxictr_me.data.raw.find_files import raw_files
from fuxictr_me.errors import UsageError
from fuxictr_me.io.working_folder import change_directory
from fuxictr_me.runs.run_settings import load_settings
from fuxictr_me.study.plan_file import Plan


def find_stale_reason(params: dict) -> str | None:
    """Return why a built data set does not match settings and raw files; None if it does, or if that is unknown.

    Args:
        params: settings of a run, with the paths of the raw data.

    Raises:
        UsageError: raw data are missing.
    """
    folder = Path(params["data_root"]) / params["dataset_id"]
    manifest = read_manifest(folder)
    if manifest is None or is_built(params):
        return None
    raw = {split: raw_files(params[f"{split}_data"]) for split in SPLITS if params.get(f"{split}_data")}
    return describe_changes(manifest["made_from"], fingerprint(params, raw)) or None


def adopt_built_set(dataset: dict, params: dict) -> tuple[dict, str | None]:
    """Return the entry of a data set changed to use what ``data build`` or a run has built, if that is up to date.

    FuxiCTR's autotuner gives raw data a hashed id, under which they would be built a second time.

    Args:
        dataset: the entry, with paths relative to the working directory.
        params: settings of a run with the entry in it and the plain ``dataset_id``.

    Returns:
        the entry, unchanged or with the paths of the built ids; and a note if an existing set cannot be used, else
        None.
    """
    folder = Path(params["data_root"]) / params["dataset_id"]
    if is_built(dataset) or dataset.get("data_block_size") or not (folder / "feature_map.json").is_file():
        return dataset, None
    reason = (
        find_stale_reason(params) if read_manifest(folder) else "it has no manifest that says what it was made from"
    )
    ending = "h5" if dataset["data_format"] == "h5" else "parquet"
    paths = {f"{split}_data": f"{folder}/{split}.{ending}" for split in get_split_names(dataset)}
    if reason is None and not all(os.path.isfile(path) for path in paths.values()):
        reason = "some of its files are missing"
    if reason:
        return dataset, f"The study builds its own data set, because {folder} cannot be used: {reason}"
    rest = {key: value for key, value in dataset.items() if key not in DIVIDING_KEYS}
    return {**rest, **paths, "data_format": ending, "rebuild_dataset": False}, None


def prepare_data(plan: Plan, folder: Path) -> Plan:
    """Build the data of a study if needed, and return the plan with their digest and numbers of rows in ``data``."""
    with change_directory(folder):
        params = load_settings(plan.runs[0].config, plan.runs[0].expid)
        if not is_built(params):
            params.update(build_h5(params) if params["data_format"] == "h5" else build_dataset(params))
        return dataclasses.replace(plan, data={"digest": data_digest(params), "rows": count_rows(params)})


def describe_data_change(plan: Plan, folder: Path) -> str | None:
    """Return how the data differ from those of the study's runs; None if they do not.

    Args:
        plan: that the folder has.
        folder: of the study.

    Raises:
        UsageError: raw data are missing.
    """
    run = plan.runs[0]
    with change_directory(folder):
        params = {**run.settings, **plan.dataset, "dataset_id": run.settings["dataset_id"]}
        built = Path(params["data_root"]) / params["dataset_id"]
        if not (built / "feature_map.json").is_file():
            return None  # they are built again, and compared then
        if reason := find_stale_reason(params):
            return f"the data set {built}: {reason}"
        try:
            settings = load_settings(run.config, run.expid)
        except UsageError:
            return None  # the study is laid out again
        if not is_built(settings):
            ending = "h5" if settings["data_format"] == "h5" else "parquet"
            splits = get_split_names(settings)
            names = {split: split if settings.get("data_block_size") else f"{split}.{ending}" for split in splits}
            settings |= {f"{split}_data": f"{built}/{name}" for split, name in names.items()}
        if data_digest(settings) != plan.data["digest"]:
            return f"the data set {built} holds other rows or features than its finished runs had"
    return None
