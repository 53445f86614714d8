"""The built data of a study: use a set that is there, build what is not, and notice what has changed."""

import dataclasses
import os
from pathlib import Path

from fuxictr_me.config import is_built
from fuxictr_me.config.splits import SPLITS
from fuxictr_me.data import build_dataset, build_h5
from fuxictr_me.data.building.build_folder import raw_files
from fuxictr_me.data.digests import count_rows, data_digest
from fuxictr_me.data.manifest import difference, fingerprint, read_manifest
from fuxictr_me.errors import UsageError
from fuxictr_me.io.working_folder import change_directory
from fuxictr_me.runs.run_settings import load_settings


def stale_reason(params: dict) -> str | None:
    """Return why a built set is not that of these settings and raw files; None where it is, or nothing tells.

    Args:
        params: settings of a run, with the paths of the raw data.

    Raises:
        UsageError: raw data that are not there.
    """
    folder = Path(params["data_root"]) / params["dataset_id"]
    manifest = read_manifest(folder)
    if manifest is None or is_built(params):
        return None
    raw = {split: raw_files(params[f"{split}_data"]) for split in SPLITS if params.get(f"{split}_data")}
    return difference(manifest["made_from"], fingerprint(params, raw)) or None


def adopt_built_set(dataset: dict, params: dict) -> tuple[dict, str | None]:
    """Return the entry of a data set that uses the set ``data build`` or a run has built, where that is current.

    FuxiCTR's autotuner gives raw data a hashed id of their own, under which they would be built a second time.

    Args:
        dataset: the entry; paths as seen from the working directory.
        params: settings of a run with the entry in it and the plain ``dataset_id``.

    Returns:
        the entry as it is or with the paths of the built ids; and a line where a set that is there cannot be used.
    """
    folder = Path(params["data_root"]) / params["dataset_id"]
    if is_built(dataset) or dataset.get("data_block_size") or not (folder / "feature_map.json").is_file():
        return dataset, None
    reason = stale_reason(params) if read_manifest(folder) else "nothing says what it was made from"
    ending = "h5" if dataset["data_format"] == "h5" else "parquet"
    paths = {f"{split}_data": f"{folder}/{split}.{ending}" for split in SPLITS if dataset.get(f"{split}_data")}
    if reason is None and not all(os.path.isfile(path) for path in paths.values()):
        reason = "files of it are gone"
    if reason:
        return dataset, f"The study builds a data set of its own, for {folder} cannot be used: {reason}"
    return {**dataset, **paths, "data_format": ending, "rebuild_dataset": False}, None


def prepare_data(plan, folder: Path):
    """Build the data of a study where they are not there, and return the plan with the digest of them.

    Args:
        plan (Plan)
        folder: of the study.

    Returns:
        Plan: with ``data``: ``digest`` and ``rows`` of each split.
    """
    with change_directory(folder):
        params = load_settings(plan.runs[0].config, plan.runs[0].expid)
        if not is_built(params):
            params.update(build_h5(params) if params["data_format"] == "h5" else build_dataset(params))
        return dataclasses.replace(plan, data={"digest": data_digest(params), "rows": count_rows(params)})


def data_change(plan, folder: Path) -> str | None:
    """Return how the data differ from those with which a study's runs were made; None where they do not.

    Args:
        plan (Plan): that the folder holds.
        folder: of the study.

    Raises:
        UsageError: raw data that are not there.
    """
    run = plan.runs[0]
    with change_directory(folder):
        params = {**run.settings, **plan.dataset, "dataset_id": run.settings["dataset_id"]}
        built = Path(params["data_root"]) / params["dataset_id"]
        if not (built / "feature_map.json").is_file():
            return None  # to be built again, and compared then
        if reason := stale_reason(params):
            return f"the data set {built}: {reason}"
        try:
            own = load_settings(run.config, run.expid)
        except UsageError:
            return None  # the plan is laid out anew
        if not is_built(own):
            ending = "h5" if own["data_format"] == "h5" else "parquet"
            names = {split: split if own.get("data_block_size") else f"{split}.{ending}" for split in SPLITS}
            own |= {f"{s}_data": f"{built}/{name}" for s, name in names.items() if own.get(f"{s}_data")}
        if data_digest(own) != plan.data["digest"]:
            return f"the data set {built} holds other rows or features than its finished runs had"
    return None
