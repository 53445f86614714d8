"""What a study's accuracy costs: size, memory and time of each cell."""

from dataclasses import dataclass
from statistics import fmean

from fuxictr_me.formatting import MISSING
from fuxictr_me.reports.format import format_number, format_signed
from fuxictr_me.reports.study.metric_values import is_lower_better, main_metric, values_by_seed
from fuxictr_me.reports.study.statistics import mean_and_sd
from fuxictr_me.reports.tables import Table
from fuxictr_me.study.results import BASE, CellResult, StudyResults

BYTES_PER_PARAMETER = 4


@dataclass(frozen=True)
class Cost:
    """Mean cost of the runs of a cell.

    Attributes:
        parameters, embedding_parameters: trained numbers, in all and of embeddings.
        weight_bytes: 4 bytes per parameter.
        peak_memory: bytes; None if no run recorded it.
        seconds: of a run.
        seconds_per_1000_steps: None if no step was recorded.
    """

    parameters: int
    embedding_parameters: int
    weight_bytes: int
    peak_memory: float | None
    seconds: float
    seconds_per_1000_steps: float | None


def measure_cost(cell: CellResult) -> Cost:
    """Return the mean cost of a cell with at least one run."""
    runs = cell.runs
    peaks = [run.peak_memory for run in runs if run.peak_memory is not None]
    steps = sum(run.steps for run in runs)
    return Cost(
        parameters=runs[0].parameters,
        embedding_parameters=runs[0].embedding_parameters,
        weight_bytes=BYTES_PER_PARAMETER * runs[0].parameters,
        peak_memory=fmean(peaks) if peaks else None,
        seconds=fmean(run.seconds for run in runs),
        seconds_per_1000_steps=1000 * sum(run.seconds for run in runs) / steps if steps else None,
    )


def cost_table(results: StudyResults) -> Table:
    """Return size, memory and time of each cell beside its main metric, and what an improvement over base costs.

    Improvements are positive. An improvement per MB or second is ``–`` if the cell adds none to base.
    """
    metric = main_metric(results)
    names = ["model", "size", "parameters", "embedding parameters", "weights, MB", "peak memory, MB", "s per run"]
    names += ["s per 1000 steps", metric, "gain over base", "gain per added MB", "gain per added s"]
    rows = [
        (cell.model, cell.title, *_format_cost(measure_cost(cell)), *_format_gains(results, cell, metric))
        for cell in results.cells
        if cell.runs
    ]
    note = (
        "1 MB is 1,000,000 bytes; weights take 4 bytes per parameter. A run that stops early costs less. Gains are "
        "differences of means, without a test."
    )
    return Table("Cost and accuracy", names, "ll" + "r" * 10, rows, (note,))


def _format_cost(cost: Cost) -> tuple[str, ...]:
    return (
        format_number(cost.parameters, 0),
        format_number(cost.embedding_parameters, 0),
        format_number(cost.weight_bytes / 1e6, 1),
        format_number(None if cost.peak_memory is None else cost.peak_memory / 1e6, 0),
        format_number(cost.seconds, 1),
        format_number(cost.seconds_per_1000_steps, 2),
    )


def _format_gains(results: StudyResults, cell: CellResult, metric: str) -> tuple[str, ...]:
    """Return the metric, its gain over base, and the gain per added MB of weights and per added second."""
    base = results.cell(cell.model, BASE, 1)
    mean, of_base = (mean_and_sd(list(values_by_seed(c, metric).values()))[0] if c else None for c in (cell, base))
    if base is None or cell is base or mean is None or of_base is None:
        return format_number(mean), MISSING, MISSING, MISSING
    gain = of_base - mean if is_lower_better(metric) else mean - of_base
    cost, base_cost = measure_cost(cell), measure_cost(base)
    megabytes = (cost.weight_bytes - base_cost.weight_bytes) / 1e6
    added = megabytes, cost.seconds - base_cost.seconds
    return format_number(mean), format_signed(gain), *(_format_ratio(gain, more) for more in added)


def _format_ratio(gain: float, added: float) -> str:
    return f"{gain / added:+.1e}".replace("-", "−") if added > 0 else MISSING
