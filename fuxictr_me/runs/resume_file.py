"""``<expid>.resume``, the file from which a run in one process continues. It holds no code."""

import json
import logging
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch.serialization import default_restore_location

from fuxictr_me.compat import BaseModel
from fuxictr_me.config.value_kinds import short_repr
from fuxictr_me.data.digests import NOT_IN_SETTINGS, data_digest, settings_digest
from fuxictr_me.errors import UsageError
from fuxictr_me.io.checkpoints import load_state_dict, read_torch_file, save_state_dict, write_torch_file
from fuxictr_me.training.resume_state import State, collect_state, make_resumable, restore_state

FORMAT = 1
CURRENT = "current"  # the best weights are those of the state
PARTS = {"format", "epoch", "seconds", "settings", "settings_digest", "data_digest", "best", "state"}


class ResumeFile:
    """The state of a run after its last completed epoch, written atomically, with what tells which run it is of.

    The best weights so far are in it, too, because a later run may have replaced the checkpoint.

    Args:
        path: of the file; it need not exist.
        params: settings of the run, whose data are built.
        started: time at which this process began the run, by ``time.perf_counter``.

    Attributes:
        epochs_done: completed epochs, 0 without a file.
        seconds_before: seconds that earlier processes took for them.

    Raises:
        UsageError: the file is of other settings or data, damaged, or not a file.
    """

    def __init__(self, path: Path, params: dict, started: float):
        self.path, self.started = path, started
        self.settings = _comparable_settings(params)
        self.digests = {"settings_digest": settings_digest(params), "data_digest": data_digest(params)}
        self.epochs_done, self.seconds_before = 0, 0.0
        if path.is_symlink() or path.is_dir():
            kind = "a link" if path.is_symlink() else "a folder, as a run with --engine writes it"
            raise UsageError(f"{path} is {kind}, and a run in one process resumes from a file: move it away")
        if path.exists():
            content = read_resume_file(path)
            self._check_origin(content)
            self.epochs_done, self.seconds_before = content["epoch"], content["seconds"]

    def restore(self, model: BaseModel) -> None:
        """Restore the model, its training and its checkpoint.

        Raises:
            UsageError: the file is damaged, or of another model.
        """
        content = read_resume_file(self.path, model.device)
        try:
            restore_state(model, content["state"])
        except UsageError as error:
            raise UsageError(f"{self.path} cannot be resumed from: {error}") from error
        if content["best"] == CURRENT:
            model.save_weights(model.checkpoint)
        elif content["best"] is not None:
            save_state_dict(content["best"], model.checkpoint)
        logging.info(f"Resumed after epoch {self.epochs_done}, from {self.path}")

    def keep(self, model: BaseModel, epoch: int) -> None:
        """Write the state after ``epoch`` epochs in place of the earlier one.

        Raises:
            OSError: no space, no permission.
        """
        best: Any = None
        if math.isfinite(model._best_metric):  # there has been an evaluation
            best = CURRENT if model.checkpoint_is_current else load_state_dict(model.checkpoint)
        content = {
            "format": FORMAT,
            "epoch": epoch,
            "seconds": self.seconds_before + time.perf_counter() - self.started,
            "settings": json.dumps(self.settings),
            **self.digests,
            "best": best,
            "state": collect_state(model),
        }
        write_torch_file(content, self.path)

    def _check_origin(self, content: State) -> None:
        """Refuse the state of a run with other settings or data, and name what differs."""
        before = json.loads(content["settings"])
        keys = [
            key for key in sorted(before.keys() | self.settings.keys()) if before.get(key) != self.settings.get(key)
        ]
        changed = [f"{k} was {short_repr(before.get(k))} and is {short_repr(self.settings.get(k))}" for k in keys]
        if content["data_digest"] != self.digests["data_digest"]:
            changed.append("the data set has other rows or features")
        if changed:
            raise UsageError(
                f"{self.path} is the state of a run with other settings or data: {'; '.join(changed)}. Restore them, "
                "or remove the file to start again"
            )


def resume_training(model: BaseModel, params: dict, started: float) -> ResumeFile:
    """Let ``fit`` of a model continue from ``<expid>.resume`` beside its checkpoint, and keep its state there.

    Args:
        model: of any FuxiCTR class, before ``fit``.
        params, started: see ``ResumeFile``.

    Raises:
        UsageError: see ``ResumeFile``.
    """
    file = ResumeFile(find_resume_path(model), params, started)
    make_resumable(model, file.epochs_done, file.restore, file.keep)
    return file


def find_resume_path(model: BaseModel) -> Path:
    """Return the path of the state from which a run of ``model`` continues."""
    return Path(model.model_dir) / f"{model.model_id}.resume"


def read_resume_file(path: Path, device: torch.device | None = None) -> State:
    """Return the content of a file that ``ResumeFile`` has written.

    Args:
        path: of the file.
        device: where tensors that were on a GPU shall be; None leaves all on disk until they are used.

    Raises:
        UsageError: it is damaged, or not such a file.
    """
    kind = "the state of a run to resume"
    if device is None:
        content = read_torch_file(path, kind, map_location="cpu", mmap=True)
    else:
        place = str(device)
        content = read_torch_file(
            path, kind, map_location=lambda data, was: default_restore_location(data, "cpu" if was == "cpu" else place)
        )
    if not isinstance(content, dict) or content.keys() != PARTS or content["format"] != FORMAT:
        raise UsageError(f"{path} is not {kind}, or of another version: remove it to start again")
    types = {"epoch": int, "seconds": float, "settings": str, "settings_digest": str, "data_digest": str, "state": dict}
    if wrong := [name for name, of in types.items() if not isinstance(content[name], of)]:
        raise UsageError(f"{path} is damaged: {wrong[0]} is {short_repr(content[wrong[0]])}. Remove it to start again")
    return content


def _comparable_settings(params: dict) -> dict:
    """Return the settings that change results, as JSON holds them."""
    settings = {key: value for key, value in params.items() if key not in NOT_IN_SETTINGS}
    return json.loads(json.dumps(settings, default=str))
