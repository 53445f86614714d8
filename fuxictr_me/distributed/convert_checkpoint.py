"""Convert between the state from which a run on several processes resumes and the checkpoint of one machine."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from fuxictr_me.distributed.resume import LAST_WRITTEN, WEIGHTS, parse_shard_name, translate_checkpoint_errors
from fuxictr_me.distributed.safe_metadata import check_metadata
from fuxictr_me.distributed.weights_by_set import SET_KEY, join_sets, select_shared, slice_set
from fuxictr_me.errors import UsageError, missing
from fuxictr_me.io.checkpoints import load_state_dict, save_state_dict


def run(source: str | Path, target: str | Path) -> str:
    """Convert weights in either direction, and return a line that says what was written.

    Args:
        source: ``<expid>.resume``, or an ``epoch-N`` in it: its last weights are written to a checkpoint ``target``
            that every command can read. Or a checkpoint: its weights are written to a folder ``target``, from which
            ``run_expid --engine ... --resume`` starts.
        target: must not exist.

    Raises:
        UsageError: the source is missing, incomplete or of another kind of model; or the target exists.
    """
    source, target = Path(source), Path(target)
    if not source.exists():
        raise missing("state to resume from, or checkpoint,", source)
    if target.exists():
        raise UsageError(f"{target} exists already")
    return write_checkpoint(source, target) if source.is_dir() else write_resume_folder(source, target)


def write_checkpoint(folder: Path, checkpoint: Path) -> str:
    """Write the weights in a folder to resume from as the checkpoint of one machine."""
    path = _find_last_epoch(folder)
    weights = _join_shards(_load_weights(path))
    sets: dict[int, dict[str, Tensor]] = {}
    for name, tensor in weights.items():
        if name.startswith("set."):
            _, m, _, name_in_set = name.split(".", 3)
            sets.setdefault(int(m), {})[name_in_set] = tensor
    head = {name.removeprefix(f"head.{WEIGHTS}."): x for name, x in weights.items() if name.startswith("head.")}
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    save_state_dict(join_sets([sets[m] for m in range(len(sets))], head), checkpoint)
    return f"{checkpoint}: the weights of {path}, {len(sets)} sets"


def _load_weights(path: Path) -> dict[str, Tensor]:
    """Load the weights of a saved state, without running code; those of sharded tables in parts."""
    check_metadata(path / LAST_WRITTEN)
    metadata = dcp.FileSystemReader(path).read_metadata().state_dict_metadata
    is_tensor = TensorStorageMetadata
    saved = {name: meta for name, meta in metadata.items() if f".{WEIGHTS}." in name and isinstance(meta, is_tensor)}
    if not saved:
        raise UsageError(f"{path} holds no weights of a run on several processes")
    state = {name: torch.empty(meta.size, dtype=meta.properties.dtype) for name, meta in saved.items()}
    try:
        with in_one_process():
            dcp.load(state, checkpoint_id=path)
    except Exception as error:  # what PyTorch raises for a damaged file depends on its version
        raise UsageError(f"{path} is damaged: {' '.join(str(error).split())[:200]}") from error
    return state


def _join_shards(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put the rows of shards together: name@g/G -> name."""
    shards: dict[str, list[tuple[slice, Tensor]]] = {}
    for key, tensor in state.items():
        name, first, members = parse_shard_name(key)
        shards.setdefault(name, []).append((slice(first, None, members), tensor))
    whole = {}
    for name, parts in shards.items():
        if len(parts) == 1:
            whole[name] = parts[0][1]
            continue
        whole[name] = parts[0][1].new_empty(sum(len(x) for _, x in parts), *parts[0][1].shape[1:])
        for rows, tensor in parts:
            whole[name][rows] = tensor
    return whole


def write_resume_folder(checkpoint: Path, folder: Path) -> str:
    """Write the weights of a checkpoint as a folder from which a run on several processes starts."""
    whole = load_state_dict(checkpoint)
    num_sets = len({match[2] for name in whole if (match := SET_KEY.fullmatch(name))})
    if not num_sets:
        raise UsageError(f"{checkpoint} is not a checkpoint of a fuxictr-me model: it has no embedding sets")
    state = {f"head.{WEIGHTS}.{name}": x for name, x in select_shared(whole).items()}
    for m in range(num_sets):
        state |= {f"set.{m}.{WEIGHTS}.{name}": x for name, x in slice_set(whole, m, num_sets).items()}
    with in_one_process():
        dcp.save(state, checkpoint_id=folder / "epoch-0")
    return f"{folder}: the weights of {checkpoint}, {num_sets} sets; a run with --resume starts from them"


@contextlib.contextmanager
def in_one_process() -> Iterator[None]:
    """Do what ``translate_checkpoint_errors`` does, without PyTorch's warning that there is one process."""
    with warnings.catch_warnings(), translate_checkpoint_errors():
        warnings.filterwarnings("ignore", message="torch.distributed is", category=UserWarning)
        yield


def _find_last_epoch(folder: Path) -> Path:
    if (folder / LAST_WRITTEN).exists():
        return folder
    paths = [path.parent for path in folder.glob(f"epoch-*/{LAST_WRITTEN}")]
    epochs = {int(number): path for path in paths if (number := path.name.removeprefix("epoch-")).isdecimal()}
    if not epochs:
        raise UsageError(f"{folder} holds no complete state to resume from: no epoch-N/{LAST_WRITTEN}")
    return epochs[max(epochs)]
