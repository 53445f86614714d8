"""Synthetic clicks as an H5 data set."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fuxictr_me.config.training_options import SEED
from fuxictr_me.data.building.convert_ids import write_set
from fuxictr_me.data.synthetic_clicks import SyntheticClicks
from fuxictr_me.errors import UsageError, check_positive_int
from fuxictr_me.formatting import format_bytes

PARTS = {"train": 0, "valid": 1, "test": 2}  # random streams of ``SyntheticClicks``
SHARES = {"train": 0.8, "valid": 0.1, "test": 0.1}
LEAST_ID_BYTES = 2


def generate_set(out: Path, rows: int = 1_000_000, **settings: Any) -> SyntheticClicks:
    """Write a data set shaped like Criteo, with planted interactions: 80 % train, 10 % valid, 10 % test.

    Args:
        out: folder to write, which must not exist.
        rows: rows of all splits together.
        **settings: arguments of ``SyntheticClicks``.

    Returns:
        The source of the rows.

    Raises:
        UsageError: a setting outside its range, too little space on disk, or ``out`` exists.
    """
    check_positive_int("rows", rows)
    SEED.check("seed", settings.get("seed", 0))
    clicks = SyntheticClicks(**settings)
    _check_free_space(out, LEAST_ID_BYTES * rows * len(clicks.field_names))
    counts = {split: max(1, int(rows * share)) for split, share in SHARES.items()}
    with tqdm(total=sum(counts.values()), unit="row", unit_scale=True, disable=None, desc=out.name) as bar:

        def chunks(split: str) -> Iterator[dict]:
            for chunk in clicks.chunks(counts[split], part=PARTS[split]):
                yield chunk
                bar.update(len(chunk["label"]))

        write_set(out, clicks.feature_map(out.name), counts, chunks, {"generated": {"rows": rows, **settings}})
    return clicks


def _check_free_space(folder: Path, needed: int) -> None:
    """Refuse to write at least ``needed`` bytes to ``folder`` (or the nearest parent that exists) if fewer are free."""
    parent = folder.absolute()
    while not parent.is_dir():
        parent = parent.parent
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise UsageError(f"{folder} needs at least {format_bytes(needed)} on disk, and {format_bytes(free)} are free")
