"""What stands beside a study's accuracy: its cost, the embeddings' information abundance, and what was tuned."""

from statistics import fmean

from fuxictr_me.reports.study.format import MISSING, number, said, signed, spread
from fuxictr_me.reports.study.metric_values import ABUNDANCE, IA_RATIO, lower_is_better, metrics, values
from fuxictr_me.reports.study.statistics import mean_and_sd
from fuxictr_me.reports.table_layout import Table
from fuxictr_me.study.results import BASE

BYTES_A_PARAMETER = 4


def cost(cell):
    """What the runs of a cell took, on average.

    Args:
        cell (CellResult): with a run at least.

    Returns:
        dict: ``parameters``, ``embedding_parameters``, ``weight_bytes`` (4 a parameter), ``peak_memory`` (bytes; None
        where no run recorded it), ``seconds`` (a run), ``seconds_per_1000_steps``.
    """
    runs = cell.runs
    peaks = [run.peak_memory for run in runs if run.peak_memory is not None]
    steps = sum(run.steps for run in runs)
    return {
        "parameters": runs[0].parameters,
        "embedding_parameters": runs[0].embedding_parameters,
        "weight_bytes": BYTES_A_PARAMETER * runs[0].parameters,
        "peak_memory": fmean(peaks) if peaks else None,
        "seconds": fmean(run.seconds for run in runs),
        "seconds_per_1000_steps": 1000 * sum(run.seconds for run in runs) / steps if steps else None,
    }


def cost_table(results):
    """Size, memory and time of each cell beside its accuracy, and what a gain over base costs.

    Args:
        results (StudyResults)

    Returns:
        Table: the metric is the monitored one. A gain is for the better; ``–`` per MB or second that is not added.
    """
    metric = next(iter(metrics(results)), results.monitor)
    names = ("model", "size", "parameters", "of embeddings", "weights, MB", "peak memory, MB", "s a run")
    names += ("s / 1000 steps", metric, "gain over base", "gain per added MB", "gain per added s")
    rows = []
    for cell in _finished(results):
        base = results.cell(cell.model, BASE, 1)
        rows.append((cell.model, cell.title, *_costs(cost(cell)), *_gains(cell, base, metric)))
    notes = (
        "1 MB is 1,000,000 bytes; weights take 4 bytes a parameter. A run that stops early is a cheap one. Gains are "
        "differences of means, without a test.",
    )
    return Table("Cost and accuracy", tuple(("", name) for name in names), "ll" + "r" * 10, tuple(rows), notes)


def abundance_table(results):
    """Information abundance of each cell: mean over the fields, the sets side by side, ± sd over the seeds.

    Args:
        results (StudyResults)

    Returns:
        Table: of the cells whose runs have an IA file.
    """
    rows = []
    for cell in _finished(results):
        found = {metric: list(values(cell, metric).values()) for metric in ABUNDANCE}
        if any(found.values()):
            digits = {metric: 3 if metric == IA_RATIO else 2 for metric in ABUNDANCE}
            spreads = [spread(*mean_and_sd(found[metric]), digits[metric]) for metric in ABUNDANCE]
            rows.append((cell.model, cell.title, *spreads))
    initial = results.shared.get("embedding_initializer")
    note = "IA grows with min(K, D) by itself: compare sizes by the ratio, and with a random table of the same shape"
    notes = (f"{note} (initialised by {initial})." if initial else f"{note}.",)
    columns = tuple(("", name) for name in ("model", "size", *ABUNDANCE))
    return Table("Information abundance, mean over the fields", columns, "llrrr", tuple(rows), notes)


def tuning_table(results):
    """What was tried for each cell with the first seed, and what its validation chose.

    Args:
        results (StudyResults)

    Returns:
        Table: a row a cell that was tuned.
    """
    rows = [
        (cell.model, cell.title, str(len(cell.tried)), said(cell.chosen), number(_value_of_choice(cell)))
        for cell in results.cells
        if cell.tried
    ]
    names = ("model", "size", "settings tried", "chosen", f"validation {results.monitor}")
    return Table("What was tuned", tuple(("", name) for name in names), "llrlr", tuple(rows))


def _value_of_choice(cell) -> float | None:
    """Return the validation value of the setting that was chosen; None before the choice."""
    return next((value for values, value in cell.tried if values == cell.chosen), None)


def _finished(results):
    return [cell for cell in results.cells if cell.runs]


def _costs(found):
    peak = found["peak_memory"]
    return (
        number(found["parameters"], 0),
        number(found["embedding_parameters"], 0),
        number(found["weight_bytes"] / 1e6, 1),
        number(None if peak is None else peak / 1e6, 0),
        number(found["seconds"], 1),
        number(found["seconds_per_1000_steps"], 2),
    )


def _gains(cell, base, metric):
    mean, _ = mean_and_sd(list(values(cell, metric).values()))
    of_base = mean_and_sd(list(values(base, metric).values()))[0] if base else None
    if cell is base or mean is None or of_base is None:
        return number(mean), MISSING, MISSING, MISSING
    gain = of_base - mean if lower_is_better(metric) else mean - of_base
    ours, its = cost(cell), cost(base)
    added = (ours["weight_bytes"] - its["weight_bytes"]) / 1e6, ours["seconds"] - its["seconds"]
    return number(mean), signed(gain), *(_per(gain, more) for more in added)


def _per(gain, more):
    return f"{gain / more:+.1e}".replace("-", "−") if more > 0 else MISSING
