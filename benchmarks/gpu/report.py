"""The results of the GPU benchmark as tables of Markdown."""


def report(results: list[dict]) -> str:
    """Return the tables, one per kind of cell; a cell that was measured twice counts as it was last.

    Args:
        results: lines of results.jsonl: ``key``, ``cell`` and ``result``.
    """
    latest = {}
    for line in results:
        if line["result"] != {"done": True}:
            kind = tuple(line["result"].get(name) for name in ("evaluation", "kind", "ids", "K"))
            latest[line["key"], kind, "ms" in line["result"]] = line["cell"], line["result"]
    right = [(cell, result) for cell, result in latest.values() if "failed" not in result]
    failed = [(cell, result) for cell, result in latest.values() if "failed" in result]
    tables = [environment(right), steps(right), epochs(right), evaluations(right), abundance(right), updates(right)]
    tables += [checks(right), kernels(right)]
    tables += [f"**Failed**: {cell}\n\n```\n{result['failed'].strip()}\n```" for cell, result in failed]
    return "\n\n".join(table for table in tables if table)


def table_of(title: str, columns: list[str], rows: list[list]) -> str:
    """Return a table of Markdown, or nothing where it has no rows."""
    if not rows:
        return ""
    lines = [columns, ["---"] * len(columns), *[[_shown(x) for x in row] for row in rows]]
    return "\n".join([f"**{title}**", "", *(f"| {' | '.join(line)} |" for line in lines)])


def _shown(x: object) -> str:
    if x is None:
        return ""
    if isinstance(x, float):
        return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"
    return f"{x:,}" if isinstance(x, int) and not isinstance(x, bool) else str(x)


def _of_part(results: list[tuple], *parts: str) -> list[tuple]:
    return [(cell, result) for cell, result in results if cell["part"] in parts]


def environment(results: list[tuple]) -> str:
    """Return a line that names the machine."""
    found = _of_part(results, "environment")
    return ", ".join(f"{name} {value}" for name, value in found[-1][1].items() if name != "memory") if found else ""


def steps(results: list[tuple]) -> str:
    """Return the table of training steps, their ratio to plain, their floor, and their memory."""
    found = [(cell, result) for cell, result in _of_part(results, "step") if "ms" in result]
    plain = {_place(cell): result["ms"] for cell, result in found if cell["contestant"] == "plain"}
    rows = []
    for cell, result in sorted(found, key=lambda line: _order(line[0])):
        predicted, mb = result.get("predicted_mb"), result["mb"] or None
        ratio = plain[_place(cell)] / result["ms"] if _place(cell) in plain else None
        share = f"{result['share_of_floor']:.0%}" if "share_of_floor" in result else None
        rows.append([cell["family"], cell["M"], cell["batch"], cell["ids"], cell["contestant"], result["ms"], ratio])
        rows[-1] += [share, result.get("expected_ms"), mb, predicted, predicted / mb if predicted and mb else None]
        rows[-1] += [{True: "yes", False: "no"}.get(result.get("recorded"))]
    columns = ["model", "M", "batch", "ids", "contestant", "ms a step", "plain / this", "share of the floor"]
    columns += ["expected by plan, ms", "peak, MB", "predicted, MB", "predicted / peak", "recorded"]
    return table_of("Training steps, pipelined", columns, rows)


def _place(cell: dict) -> tuple:
    return cell["family"], cell["M"], cell["batch"], cell["ids"]


def _order(cell: dict) -> tuple:
    return (cell["family"] != "DCNv2", cell["family"], -cell["M"], cell["batch"], cell["ids"])


def epochs(results: list[tuple]) -> str:
    """Return the table of epochs; those of a part of the rows are extrapolated, and named so."""
    from cells import EPOCH_ROWS

    rows = []
    for cell, result in _of_part(results, "epoch"):
        if "s" in result:
            whole = result["s"] * EPOCH_ROWS / cell["rows"]
            how = "measured" if cell["rows"] == EPOCH_ROWS else "extrapolated"
            rows.append([f"ME {cell['M']}x10, {cell['contestant']}", cell["batch"], cell["rows"], result["s"]])
            rows[-1] += [f"{whole:.1f}, {how}", result["ms_a_step"], "yes" if result["recorded"] else "no"]
    columns = ["model", "batch", "rows", "s", f"s of {EPOCH_ROWS:,} rows", "ms a step, feeding included", "recorded"]
    return table_of("Epochs of training", columns, rows)


def evaluations(results: list[tuple]) -> str:
    """Return the table of evaluations."""
    rows = [
        [f"ME {cell['M']}x10", cell["evaluated"], result["evaluation"], result["evaluation_s"]]
        for cell, result in _of_part(results, "epoch")
        if "evaluation" in result
    ]
    return table_of("Evaluations at batches of 10,000", ["model", "rows", "which", "s"], rows)


def abundance(results: list[tuple]) -> str:
    """Return the table of InformationAbundance, as a share of an epoch of ``compile, tf32`` at the same shape."""
    from cells import EPOCH_ROWS

    ms = {
        _place(cell): result["ms"]
        for cell, result in _of_part(results, "step")
        if cell["contestant"] == "compile, tf32" and "ms" in result
    }
    rows = []
    for cell, result in _of_part(results, "abundance"):
        seconds = ms[_place(cell)] / 1e3 * -(-EPOCH_ROWS // cell["batch"]) if _place(cell) in ms else None
        share = f"{result['next_s'] / seconds:.2%}" if seconds else None
        rows.append([f"ME {cell['M']}x10", cell["ids"], result["first_s"], result["next_s"], seconds, share])
        rows[-1].append(result["error"])
    columns = ["model", "ids", "first, s", "next, s", "steps of an epoch, s", "share", "error against QR"]
    return table_of("InformationAbundance at an evaluation", columns, rows)


def updates(results: list[tuple]) -> str:
    """Return the table of table updates by themselves."""
    rows = [
        [result["ids"], result["K"], result["kind"], result["ms"], result["mb"] or None]
        for _, result in _of_part(results, "table times")
    ]
    columns = ["ids", "numbers a row", "updates", "ms of a replayed step", "peak, MB"]
    return table_of("A table by itself: look-up, gradients, update", columns, rows)


def checks(results: list[tuple]) -> str:
    """Return the table of checks: what was compared, by how much it was off, and whether that is within tolerance."""
    rows = []
    for cell, result in results:
        if "right" in result:
            name = " ".join(str(x) for x in (cell["part"], cell.get("family"), result.get("kind")) if x)
            figures = ", ".join(
                f"{key} {value:.1e}" if isinstance(value, float) else f"{key} {value}"
                for key, value in result.items()
                if key not in ("right", "kind")
            )
            rows.append([name, figures, "yes" if result["right"] else "NO"])
    return table_of("Checks", ["what", "differences", "right"], rows)


def kernels(results: list[tuple]) -> str:
    """Return the kernels of a step that were profiled."""
    found = [(cell, result) for cell, result in _of_part(results, "step") if "kernels" in result]
    title = "Kernels of a step: {family}, M = {M}, {contestant}"
    return "\n\n".join(
        table_of(title.format(**cell), ["ms a step", "launches a step", "kernel"], result["kernels"])
        for cell, result in found
    )
