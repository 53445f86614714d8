"""The feature map of a run, also before its data set is built."""

from pathlib import Path

from fuxictr.features import FeatureMap

from fuxictr_me.errors import UsageError
from fuxictr_me.estimates.unbuilt_data import find_published_folder, make_feature_map, read_vocabulary
from fuxictr_me.runs.experiment import load_feature_map


def find_feature_map(params: dict, config: str | Path | None, vocabulary: str | None = None) -> tuple[FeatureMap, str]:
    """Return the feature map of the built data set, or one made from vocabulary sizes, and a line that says which.

    Args:
        params: settings of the run.
        config: folder that they are from; None if they come with the package.
        vocabulary: JSON file of field -> number of ids, which takes precedence over a built set.

    Raises:
        UsageError: the data set is not built, and its vocabulary is not known.
    """
    dataset_id = params["dataset_id"]
    folder, source = Path(params["data_root"]) / dataset_id, find_published_folder(dataset_id)
    if vocabulary is None and (folder / "feature_map.json").exists():
        return load_feature_map(folder, params), f"{dataset_id} as built in {folder}"
    if vocabulary is not None:
        return make_feature_map(params, read_vocabulary(vocabulary)), f"{dataset_id} with the ids of {vocabulary}"
    if source is None or not (source / "vocabulary.json").exists():
        option = f" --config {config}" if config else ""
        raise UsageError(
            f"data set {dataset_id!r} is not built in {folder}, and its vocabulary did not come with this package: "
            f"build it first (fuxictr-me data build {dataset_id}{option}), or give field: number of ids "
            "in a JSON file as --vocabulary"
        )
    ids = read_vocabulary(source / "vocabulary.json")
    return make_feature_map(params, ids), f"{dataset_id} is not built: {sum(ids.values()):,} ids, as published"
