"""How far a study is, in words."""

from statistics import fmean

from fuxictr_me.study.progress import progress_of


def status_text(plan, state, folder):
    """A table of the cells: finished runs, validation, the choice so far; then what runs and what failed.

    Args:
        plan (Plan), state (State), folder (Path)

    Returns:
        str: plain text; its first line is the sum of all.
    """
    waiting = state.total - state.counted - len(state.failed) - len(state.running)
    head = f"{plan.name} on {plan.dataset_id}: {state.counted} of {state.total} runs finished"
    for count, word in ((len(state.running), "running"), (len(state.failed), "failed"), (max(0, waiting), "waiting")):
        head += f", {count} {word}" if count else ""
    lines = [head, "", *_cells(plan, state), ""]
    for expid in sorted(state.running):
        lines.append(f"running  {expid} {progress_of(folder, plan.data_folder, expid)}".rstrip())
    lines += [f"failed   {expid}: {record['error']} (logs/{expid}.log)" for expid, record in state.failed.items()]
    return "\n".join(lines).rstrip()


def _cells(plan, state):
    rows = [("cell", "finished", "seconds a run", "validation", "chosen")]
    for name in plan.cells:
        runs = [run for run in plan.of_cell(name) if run.expid in state.results]
        total = len(plan.of_cell(name, plan.seeds[0])) + len(plan.seeds) - 1
        results = [state.results[run.expid] for run in runs]
        seconds = f"{fmean(result['seconds'] for result in results):,.0f}" if results else ""
        chosen = state.chosen.get(name)
        picked = [state.results[run.expid]["valid"] for run in runs if run.values == chosen]
        best = ", ".join(f"{key} {fmean(valid[key] for valid in picked):.4f}" for key in picked[0]) if picked else ""
        values = ", ".join(f"{key} {value}" for key, value in (chosen or {}).items())
        rows.append((name, f"{len(runs)} of {total}", seconds, best, values))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip() for row in rows]
