"""``fuxictr-me convert``: between what runs on several processes resume from and the checkpoint of one machine."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp

from fuxictr_me.distributed.resume import WEIGHTS, WHOLE, divided, whole_sizes, written
from fuxictr_me.distributed.safe_metadata import check_metadata
from fuxictr_me.distributed.weights_by_set import OF_SET, joined, of_no_set, of_set
from fuxictr_me.errors import UsageError, missing
from fuxictr_me.io.checkpoints import load_state_dict, save_state_dict


def run(source: str, target: str) -> str:
    """Convert weights, one way or the other.

    Args:
        source (str): ``<expid>.resume``, or an ``epoch-N`` in it: its last weights go to a checkpoint ``target``, as
            every command takes it. Or a checkpoint: its weights go to a folder ``target``, from which
            ``run_expid --engine ... --resume`` starts.
        target (str): must not be there.

    Returns:
        str: what was written.

    Raises:
        UsageError: no such source, one that is not whole or of another kind of model, a target that is there.
    """
    source, target = Path(source), Path(target)
    if not source.exists():
        raise missing("state to resume from, or checkpoint,", source)
    if target.exists():
        raise UsageError(f"{target} exists already")
    return to_checkpoint(source, target) if source.is_dir() else to_folder(source, target)


def to_checkpoint(folder: Path, checkpoint: Path) -> str:
    """The weights in a folder to resume from as the checkpoint of one machine."""
    path = _last_epoch(folder)
    check_metadata(path / WHOLE)
    metadata = dcp.FileSystemReader(path).read_metadata().state_dict_metadata
    saved = {name: meta for name, meta in metadata.items() if f".{WEIGHTS}." in name and hasattr(meta, "size")}
    if not saved:
        raise UsageError(f"{path} holds no weights of a run on several processes")
    state = {name: torch.empty(meta.size, dtype=meta.properties.dtype) for name, meta in saved.items()}
    try:
        with alone():
            dcp.load(state, checkpoint_id=path)
    except Exception as error:  # what PyTorch raises on a damaged file depends on its version
        raise UsageError(f"{path} is damaged: {' '.join(str(error).split())[:200]}") from error
    whole, sizes = {}, whole_sizes(saved)
    for key, tensor in state.items():
        name, first, members = divided(key)
        if members == 1:
            whole[name] = tensor
            continue
        if name not in whole:
            whole[name] = torch.empty(sizes[name], dtype=tensor.dtype)
        whole[name][first::members] = tensor
    sets = {}
    for name, tensor in whole.items():
        if name.startswith("set."):
            _, m, _, own_name = name.split(".", 3)
            sets.setdefault(int(m), {})[own_name] = tensor
    head = {name.removeprefix(f"head.{WEIGHTS}."): x for name, x in whole.items() if name.startswith("head.")}
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    save_state_dict(joined([sets[m] for m in range(len(sets))], head), checkpoint)
    return f"{checkpoint}: the weights of {path}, {len(sets)} sets"


def to_folder(checkpoint: Path, folder: Path) -> str:
    """The weights of a checkpoint as a folder from which a run on several processes starts."""
    whole = load_state_dict(checkpoint)
    num_sets = len({match[2] for name in whole if (match := OF_SET.fullmatch(name))})
    if not num_sets:
        raise UsageError(f"{checkpoint} is no checkpoint of the models of fuxictr_me: it has no embedding sets")
    state = {f"head.{WEIGHTS}.{name}": x for name, x in of_no_set(whole).items()}
    for m in range(num_sets):
        state |= {f"set.{m}.{WEIGHTS}.{name}": x for name, x in of_set(whole, m, num_sets).items()}
    with alone():
        dcp.save(state, checkpoint_id=folder / "epoch-0")
    return f"{folder}: the weights of {checkpoint}, {num_sets} sets; a run with --resume starts from them"


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """``written``, without PyTorch's warning that there is one process."""
    with warnings.catch_warnings(), written():
        warnings.filterwarnings("ignore", message="torch.distributed is", category=UserWarning)
        yield


def _last_epoch(folder: Path) -> Path:
    if (folder / WHOLE).exists():
        return folder
    numbers = ((path.parent.name.removeprefix("epoch-"), path.parent) for path in folder.glob(f"epoch-*/{WHOLE}"))
    found = {int(number): path for number, path in numbers if number.isdecimal()}
    if not found:
        raise UsageError(f"{folder} holds no whole state to resume from: no epoch-N/{WHOLE}")
    return found[max(found)]
