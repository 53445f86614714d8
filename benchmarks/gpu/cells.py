"""What the GPU benchmark measures, the most important first."""

import checks
import steps
import tables
from models import FAMILIES, PLAIN, PLAIN_FAMILIES

PARTS = {
    "environment": checks.environment,
    "equality": checks.equality,
    "loaders": checks.loaders,
    "fallback": checks.fallback,
    "table equality": tables.equal,
    "table offsets": tables.large_offsets,
    "table waits": tables.waits,
    "table times": tables.times,
    "abundance": tables.abundance,
    "step": steps.step,
    "epoch": steps.epoch,
}
EPOCH_ROWS, SLICE_ROWS, EVALUATED_ROWS = 33_003_326, 3_300_326, 3_300_326  # of Criteo_x1
ENVIRONMENT = {"part": "environment"}


def all_cells(is_tiny: bool) -> list[dict]:
    """Return the cells in the order in which they are measured; a cell is a part and its parameters."""
    return tiny_cells() if is_tiny else [*main_cells(), *checks_of_device(), *more_cells()]


def step_cell(contestant: str, num_sets: int, batch: int = 4096, ids: int = 1_000_000, family: str = "DCNv2") -> dict:
    """Return the cell of one contestant's training steps."""
    return {"part": "step", "family": family, "M": num_sets, "batch": batch, "ids": ids, "contestant": contestant}


def epoch_cell(num_sets: int, batch: int, rows: int, evaluated: int = EVALUATED_ROWS, ids: int = 1_000_000) -> dict:
    """Return the cell of an epoch of the fastest exact-enough way, ``compile`` and tf32, and of evaluations."""
    cell = {**step_cell("compile, tf32", num_sets, batch, ids), "part": "epoch"}
    return {**cell, "rows": rows, "evaluated": evaluated}


def main_cells() -> list[dict]:
    """Return the cells of the targets: DCNv2 of 4 and 10 sets, 1M ids, and an epoch of ME 4x10."""
    profiled = {**step_cell("compile, tf32", 10), "profile": True}
    compiled = [profiled, step_cell("compile, tf32", 4), step_cell("compile", 10), step_cell("compile", 4)]
    compiled += [step_cell("compile, bf16", 10), step_cell("compile, bf16", 4)]
    compiled += [epoch_cell(4, batch, SLICE_ROWS) for batch in (4096, 10_000)]
    compiled += [step_cell("compile, tf32", 10, 10_000), step_cell("compile", 10, 10_000)]
    eager = [step_cell(name, sets) for sets in (10, 4) for name in ("eager", "default", "tf32", "plain")]
    eager += [step_cell(name, sets) for sets in (10, 4) for name in PLAIN if name != "plain"]
    return [*compiled, *eager]


def checks_of_device() -> list[dict]:
    """Return the checks; they share the device with each other."""
    found = [{"part": "equality", "family": family, "ids": 500} for family in FAMILIES]
    found += [{"part": "loaders", "ids": 20_000, "rows": 50_357}, {"part": "fallback", "ids": 20_000}]
    found += [{"part": "table equality", "ids": 200_000}, {"part": "table waits"}, {"part": "table offsets"}]
    return found


def more_cells() -> list[dict]:
    """Return what is measured when there is time."""
    large = 5_000_000
    found = [step_cell("compile, tf32", 10, ids=large), step_cell("compile, tf32", 4, ids=large)]
    found += [step_cell(f"no L2, compile, tf32{way}", 10, ids=large) for way in ("", ", catch_up")]
    found += [step_cell("compile, tf32", 4, 10_000), step_cell("compile", 4, 10_000)]
    found += [{"part": "abundance", **_shape("default", 10)}, {"part": "abundance", **_shape("default", 4)}]
    found += [epoch_cell(4, batch, EPOCH_ROWS) for batch in (10_000, 4096)]
    others = [family for family in FAMILIES if family != "DCNv2"]
    for sets in (10, 4):
        found += [step_cell("compile, tf32", sets, family=family) for family in others]
        found += [step_cell("default", sets, family=family) for family in others]
        found += [step_cell("plain", sets, family=family) for family in others if family in PLAIN_FAMILIES]
    found += [step_cell(name, 1) for name in ("compile, tf32", "compile", "default", "plain")]
    found += [step_cell("plain", sets, 10_000) for sets in (10, 4)]
    found += [step_cell("plain", sets, ids=large) for sets in (10, 4)]
    found += [step_cell("default", sets, 10_000) for sets in (10, 4)]
    found += [{"part": "table times"}, step_cell("compile, tf32", 1, 10_000)]
    found += [step_cell(f"no L2, compile, tf32{way}", 10) for way in ("", ", catch_up")]
    found += [step_cell("compile, bf16", 10, 10_000), step_cell("default", 10, ids=large)]
    return found


def tiny_cells() -> list[dict]:
    """Return a cell of each part and contestant at a small size, for a CPU."""
    size = {"batch": 64, "ids": 500}
    found = [{"part": "equality", "family": family, "ids": 500} for family in FAMILIES]
    found += [{"part": "loaders", "ids": 500, "rows": 2_357}, {"part": "fallback", "ids": 500}]
    found += [{"part": "table equality", "ids": 150}, {"part": "table waits"}, {"part": "table offsets"}]
    found += [{"part": "table times"}, {"part": "abundance", **_shape("default", 2), **size}]
    found += [{**step_cell("compile, tf32", 2, **size), "profile": True}]
    names = ("eager", "default", "compile", "compile, bf16", "no L2, compile, tf32, catch_up", *PLAIN)
    found += [step_cell(name, 2, **size) for name in names]
    found += [step_cell("default", 2, family=family, **size) for family in FAMILIES if family != "DCNv2"]
    found += [step_cell("plain", 2, family=family, **size) for family in PLAIN_FAMILIES if family != "DCNv2"]
    found += [epoch_cell(2, 64, rows, 517, 500) for rows in (517, 1_030)]
    return found


def _shape(contestant: str, num_sets: int) -> dict:
    return {key: value for key, value in step_cell(contestant, num_sets).items() if key != "part"}


def key_of(cell: dict) -> str:
    """Return what tells a cell from others in the file of results."""
    return ", ".join(f"{name} {value}" for name, value in cell.items() if name != "profile")


def bytes_of(cell: dict) -> float:
    """Return about how many bytes of the device's memory a cell takes, CUDA's own included."""
    gigabyte, numbers = 1e9, cell.get("ids", 0) * 10 * cell.get("M", 1)
    if cell["part"] in ("table equality", "table offsets", "table times"):
        return 30 * gigabyte
    activations = cell.get("batch", 0) * cell.get("M", 1) * 390 * 4 * 60
    data = 200 * (cell.get("rows", 0) + cell.get("evaluated", 0))
    return gigabyte + 24 * numbers + activations + data
