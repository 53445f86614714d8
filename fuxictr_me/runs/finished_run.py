"""The files of a finished run of any FuxiCTR model: settings, feature map, checkpoint."""

from dataclasses import dataclass
from pathlib import Path

from fuxictr.pytorch.torch_utils import get_initializer

from fuxictr_me.collapse import id_counts
from fuxictr_me.config import check_dataset, find_config, is_built, read_params
from fuxictr_me.config.expressions import check_initializer
from fuxictr_me.data import build_dataset, build_h5, feature_maps
from fuxictr_me.errors import UsageError
from fuxictr_me.errors import missing as missing_file
from fuxictr_me.io.checkpoints import check_no_nan, load_state_dict
from fuxictr_me.nn.embedding_settings import FUXICTR_INITIALIZER, paper_initializer


@dataclass(frozen=True)
class Run:
    """A run as its files tell it.

    Attributes:
        expid (str)
        params (dict): its merged settings.
        folder (Path): of the config.
        feature_map (FeatureMap)
        checkpoint (Path)
        model_dir (Path): ``<model_root>/<dataset_id>``.
    """

    expid: str
    params: dict
    folder: Path
    feature_map: object
    checkpoint: Path
    model_dir: Path

    def state_dict(self) -> dict:
        """Return the weights, never run as code.

        Raises:
            UsageError: the file is damaged, of another kind, or holds NaN.
        """
        state_dict = load_state_dict(self.checkpoint)
        check_no_nan(state_dict, self.checkpoint)
        return state_dict

    @property
    def initializer_name(self):
        """``embedding_initializer`` of the config, else FuxiCTR's default."""
        return self.params.get("embedding_initializer") or FUXICTR_INITIALIZER

    def initializer(self):
        """The callable of that name."""
        name = self.initializer_name
        check_initializer(name)
        if name != "paper":
            return get_initializer(name)
        dim = self.params.get("embedding_dim", 10)
        return paper_initializer(self.feature_map.features, dim[0] if isinstance(dim, list | tuple) else dim)

    def id_counts(self, num_ids):
        """How often the training split has each id; ``num_ids`` as ``fuxictr_me.collapse.id_counts`` takes it."""
        from fuxictr_me.runs.experiment import load_split

        params = {**self.params, "gpu": -1, "shuffle": False}
        check_dataset(params, self.folder)
        if not is_built(params):
            params.update(build_h5(params) if params["data_format"] == "h5" else build_dataset(params))
        return id_counts(load_split(self.feature_map, params, "train"), num_ids)


def find_run(expid, config=None, checkpoint=None):
    """Find the files of a run, of any model; neither its code nor its raw data are needed.

    ``data_root`` and ``model_root`` are looked for from the working directory, then from the folder that holds
    the config folder, where FuxiCTR's scripts would have changed to.

    Args:
        expid (str): experiment id.
        config (str): config folder; the bundled entry that has ``expid`` if None.
        checkpoint (str): in place of ``<model_root>/<dataset_id>/<expid>.model``.

    Returns:
        Run

    Raises:
        UsageError: one line: what is wrong, what was found, what is allowed.
    """
    folder = Path(config or find_config(expid))
    params = read_params(folder, expid)
    dataset_id = params["dataset_id"]
    for key, default in (("data_root", None), ("model_root", "./checkpoints/")):
        if not isinstance(params.setdefault(key, default), str):
            raise UsageError(f"{key} must be set for {expid}, got {params[key]!r}")
        params[key] = _seen_from(folder, params[key], dataset_id)
    feature_map = feature_maps.load(Path(params["data_root"]) / dataset_id, dataset_id, params)
    model_dir = Path(params["model_root"]) / dataset_id
    path = Path(checkpoint or model_dir / f"{expid}.model")
    if not path.is_file():
        raise missing_file("checkpoint", path)
    return Run(expid, params, folder, feature_map, path, model_dir)


def _seen_from(folder, root, dataset_id):
    """``root`` as it is where it holds the data set, else as seen from the folder that holds the config folder."""
    beside = folder.resolve().parent / root
    return str(beside) if not (Path(root) / dataset_id).is_dir() and (beside / dataset_id).is_dir() else root
