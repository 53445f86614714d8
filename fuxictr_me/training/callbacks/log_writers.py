"""Where the callback ``Log`` writes: a csv file, TensorBoard, MLflow or Weights & Biases.

A tracker's package is imported when its writer is constructed. Each of them belongs to an extra of fuxictr-me.
"""

import csv
import io
import os
import re
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from fuxictr_me.compat import BaseModel
from fuxictr_me.errors import RunError, UsageError
from fuxictr_me.io.atomic import append_atomically, write_atomically

PACKAGES = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"}  # destination -> what it imports


class LogWriter(Protocol):
    """Interface of the writers that ``Log`` calls. The constructor takes the model that is trained."""

    def __init__(self, model: BaseModel) -> None: ...

    def write(self, epoch: int, step: int, values: dict[str, float], names: Sequence[str]) -> None:
        """Write the values of one evaluation.

        Args:
            epoch: counts from 1.
            step: number of batches so far.
            values: name -> value; of ``names``, those that are known.
            names: of all values.
        """

    def close(self) -> None:
        """Finish the run."""


class AppendedCsv:
    """A csv file of one run, to which blocks of rows are appended atomically. It replaces that of an earlier run.

    Args:
        path: the file; its folder is created if needed.
        rows: the first rows.
    """

    def __init__(self, path: Path, rows: Iterable[Sequence[Any]] = ()):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.replace(_to_csv(rows))

    def replace(self, content: bytes) -> None:
        """Replace the whole file, as a run that continues does with the rows of its first part."""
        write_atomically(self.path, lambda partial: partial.write_bytes(content))
        self._inode = self.path.stat().st_ino

    def append(self, rows: Iterable[Sequence[Any]]) -> None:
        """Append rows in one write.

        Raises:
            RunError: another run has replaced the file.
        """
        if self.path.stat().st_ino != self._inode:
            raise RunError(f"another run has replaced {self.path}: rows of two runs do not go into one file")
        append_atomically(self.path, _to_csv(rows))


class CsvWriter:
    """Write ``<model_root>/<dataset_id>/<model_id>.log.csv``: one row per evaluation, with the columns of the first."""

    def __init__(self, model: BaseModel):
        self.file = AppendedCsv(Path(model.model_dir) / f"{model.model_id}.log.csv")
        self.columns: list[str] = []

    def save_state(self) -> str:
        """Return the rows so far."""
        return self.file.path.read_text()

    def load_state(self, state: str) -> None:
        """Continue a file from what ``save_state`` returned."""
        self.file.replace(state.encode())
        self.columns = next(csv.reader(io.StringIO(state)), [])

    def write(self, epoch: int, step: int, values: dict[str, float], names: Sequence[str]) -> None:
        row: dict[str, Any] = {"epoch": epoch, "step": step, **values}
        header = [] if self.columns else [["epoch", "step", *names]]
        self.columns = self.columns or header[0]
        self.file.append([*header, [row.get(column, "") for column in self.columns]])

    def close(self) -> None:
        pass


class TensorBoardWriter:
    """Write scalars to ``<model_root>/<dataset_id>/<model_id>.tensorboard/``."""

    def __init__(self, model: BaseModel):
        from torch.utils.tensorboard import SummaryWriter  # of an extra that need not be installed

        self.writer = SummaryWriter(Path(model.model_dir) / f"{model.model_id}.tensorboard")

    def write(self, epoch: int, step: int, values: dict[str, float], names: Sequence[str]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class MlflowWriter:
    """Write metrics of an MLflow run named ``<model_id>``.

    MLflow's environment variables apply: ``MLFLOW_TRACKING_URI`` and ``MLFLOW_EXPERIMENT_NAME``. Without the second,
    the experiment is named after the data set.
    """

    def __init__(self, model: BaseModel):
        from mlflow import MlflowClient  # of an extra that need not be installed

        self.client = MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or model.feature_map.dataset_id
        experiment = self.client.get_experiment_by_name(name)
        experiment_id = experiment.experiment_id if experiment else self.client.create_experiment(name)
        self.run_id = self.client.create_run(experiment_id, run_name=model.model_id).info.run_id

    def write(self, epoch: int, step: int, values: dict[str, float], names: Sequence[str]) -> None:
        for name, value in {"epoch": epoch, **values}.items():
            self.client.log_metric(self.run_id, re.sub(r"[^\w\-. :/]", "_", name), value, step=step)

    def close(self) -> None:
        self.client.set_terminated(self.run_id)


class WandbWriter:
    """Write the history of a Weights & Biases run named ``<model_id>``, with its files beside the checkpoint.

    W&B's environment variables apply, such as ``WANDB_MODE=offline`` and ``WANDB_PROJECT``. Without the second, the
    project is named after the data set.
    """

    def __init__(self, model: BaseModel):
        import wandb  # of an extra that need not be installed

        project = os.environ.get("WANDB_PROJECT") or model.feature_map.dataset_id
        Path(model.model_dir).mkdir(parents=True, exist_ok=True)
        self.run = wandb.init(project=project, name=model.model_id, dir=model.model_dir, reinit="create_new")

    def write(self, epoch: int, step: int, values: dict[str, float], names: Sequence[str]) -> None:
        self.run.log({"epoch": epoch, **values}, step=step)

    def close(self) -> None:
        self.run.finish()


WRITERS: dict[str, type[LogWriter]] = {
    "csv": CsvWriter,
    "tensorboard": TensorBoardWriter,
    "mlflow": MlflowWriter,
    "wandb": WandbWriter,
}


def require_package(destination: str, what: str) -> None:
    """Check that the package of a destination is installed, without importing it.

    Args:
        destination: a key of ``WRITERS``.
        what: that needs it, for the error.

    Raises:
        UsageError: with the extra that installs it.
    """
    package = PACKAGES.get(destination)
    if package is not None and find_spec(package) is None:
        raise UsageError(
            f"{what} needs the package {package}, which is not installed: pip install 'fuxictr-me[{destination}]'"
        )


def _to_csv(rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
