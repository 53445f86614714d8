"""A finished run of any FuxiCTR model: its settings, feature map, checkpoint and trained model."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuxictr.features import FeatureMap
from fuxictr.pytorch.torch_utils import get_initializer
from torch import Tensor

from fuxictr_me.collapse import id_counts
from fuxictr_me.compat import BaseModel
from fuxictr_me.config import check_dataset, find_config, is_built, read_params
from fuxictr_me.config.expressions import check_initializer
from fuxictr_me.config.known_keys import DATASET_KEYS, find_known_keys
from fuxictr_me.config.overrides import check_override_keys
from fuxictr_me.data import build_dataset, build_h5, feature_maps
from fuxictr_me.errors import UsageError
from fuxictr_me.errors import missing as missing_file
from fuxictr_me.io.checkpoints import check_finite, load_state_dict
from fuxictr_me.nn.embedding_sets import FUXICTR_INITIALIZER, paper_initializer
from fuxictr_me.runs.run_data import load_feature_map, load_split
from fuxictr_me.runs.run_settings import load_settings
from fuxictr_me.zoo.find_model import find_model


@dataclass(frozen=True)
class FinishedRun:
    """A run as its files describe it.

    Attributes:
        expid: experiment id.
        params: merged settings.
        folder: that of the config.
        feature_map: of the built data set.
        checkpoint: path of the best weights.
        model_dir: ``<model_root>/<dataset_id>``.
    """

    expid: str
    params: dict[str, Any]
    folder: Path
    feature_map: FeatureMap
    checkpoint: Path
    model_dir: Path

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights. No code in the file is run.

        Raises:
            UsageError: the file is damaged, not a checkpoint, or holds NaN or infinite values.
        """
        state_dict = load_state_dict(self.checkpoint)
        check_finite(state_dict, self.checkpoint)
        return state_dict

    @property
    def initializer_name(self) -> Any:
        """``embedding_initializer`` of the config, or FuxiCTR's default."""
        return self.params.get("embedding_initializer") or FUXICTR_INITIALIZER

    def initializer(self) -> Callable[[Tensor], Any]:
        """Return the function that ``initializer_name`` names."""
        name = self.initializer_name
        check_initializer(name)
        if name != "paper":
            return get_initializer(name)
        dim = self.params.get("embedding_dim", 10)
        return paper_initializer(self.feature_map.features, dim[0] if isinstance(dim, list | tuple) else dim)

    def id_counts(self, num_ids: dict[str, int]) -> dict[str, Tensor]:
        """Count how often the training split has each id, see ``fuxictr_me.collapse.id_counts``."""
        return id_counts(self.batches("train"), num_ids)

    def batches(self, split: str) -> Iterable:
        """Return the batches of a split in the order of its rows. The data set is built first if it is not."""
        params = {**self.params, "gpu": -1, "shuffle": False}
        check_dataset(params, self.folder)
        if not is_built(params):
            params.update(build_h5(params) if params["data_format"] == "h5" else build_dataset(params))
        return load_split(self.feature_map, params, split)


def find_run(
    expid: str,
    config: str | None = None,
    checkpoint: str | None = None,
    overrides: Mapping[str, object] | None = None,
) -> FinishedRun:
    """Find the files of a run of any model. Neither the model's code nor the raw data are needed.

    ``data_root`` and ``model_root`` are searched from the working directory, then from the parent of the config folder,
    to which FuxiCTR's scripts would have changed.

    Args:
        expid: experiment id.
        config: config folder; the bundled entry that has ``expid`` if None.
        checkpoint: a file to use in place of ``<model_root>/<dataset_id>/<expid>.model``.
        overrides: settings in place of those of the config, see ``config.overrides``.

    Raises:
        UsageError: one line: what is wrong, what was found, what is allowed.
    """
    folder = Path(config or find_config(expid))
    params = read_params(folder, expid)
    if overrides:
        known = {*DATASET_KEYS, *params}
        if not overrides.keys() <= known:  # a key that only the constructor of the model reads
            known |= find_known_keys(find_model(params.get("model"), folder.resolve().parent))
        check_override_keys(overrides, known, f"setting of {expid}")
        params = read_params(folder, expid, overrides)
    dataset_id = params["dataset_id"]
    for key, default in (("data_root", None), ("model_root", "./checkpoints/")):
        if not isinstance(params.setdefault(key, default), str):
            raise UsageError(f"{key} must be set for {expid}, got {params[key]!r}")
        params[key] = _locate_root(folder, params[key], dataset_id)
    feature_map = feature_maps.load(Path(params["data_root"]) / dataset_id, dataset_id, params)
    model_dir = Path(params["model_root"]) / dataset_id
    path = Path(checkpoint or model_dir / f"{expid}.model")
    if not path.is_file():
        raise missing_file("checkpoint", path)
    return FinishedRun(expid, params, folder, feature_map, path, model_dir)


def load_trained(expid: str, config: str) -> BaseModel:
    """Return the model of a finished run on the CPU, with its best weights.

    Args:
        expid, config: as ``run_expid`` got them, seen from the same working directory.

    Raises:
        UsageError: there is no such run, or its checkpoint does not fit the config.
    """
    params = load_settings(config, expid)
    feature_map = load_feature_map(Path(params["data_root"]) / params["dataset_id"], params)
    # Callbacks act in training only, and those that log may need packages that are not installed here.
    model = find_model(params["model"])(feature_map, **{**params, "callbacks": None})
    model.load_weights(model.checkpoint)
    return model


def _locate_root(folder: Path, root: str, dataset_id: str) -> str:
    """Return ``root`` as seen from the working directory, or from the config folder's parent if only that has it."""
    beside = folder.resolve().parent / root
    return str(beside) if not (Path(root) / dataset_id).is_dir() and (beside / dataset_id).is_dir() else root
