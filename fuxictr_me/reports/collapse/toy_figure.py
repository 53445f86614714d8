"""The picture of the toy experiment: IA(E₁) against iterations, for a D₃ of few ids and of many (paper, figure 4)."""

from pathlib import Path
from statistics import fmean, stdev

from matplotlib.figure import Figure
from tqdm import tqdm

from fuxictr_me.collapse.toy import toy
from fuxictr_me.errors import check_positive_int

PAPERS_D3 = (3, 100)

STYLES = (("#D55E00", "-"), ("#0072B2", "--"), ("#009E73", "-."), ("#CC79A7", ":"))  # colours of Okabe and Ito


def draw_toy(trajectories, path):
    """Draw IA(E₁), a thin line for each seed and a thick one for their mean, and write it as PNG and as SVG.

    Args:
        trajectories (dict): D₃ -> list of trajectories, one a seed, as ``fuxictr_me.collapse.toy`` gives
            them; four D₃ at most.
        path (str or Path): of the picture; its suffix becomes ``.png`` and ``.svg``.

    Returns:
        list of Path: what was written.

    Example::

        draw_toy({d3: [toy(d3, seed=seed) for seed in range(5)] for d3 in (3, 100)}, "toy.png")
    """
    figure = Figure(figsize=(6.4, 4), layout="constrained", facecolor="white")
    axes = figure.subplots()
    for (d3, runs), (color, linestyle) in zip(trajectories.items(), STYLES, strict=False):
        for run in runs:
            axes.plot(run.tolist(), color=color, linewidth=0.7, alpha=0.45)
        mean = sum(runs) / len(runs)
        axes.plot(mean.tolist(), color=color, linestyle=linestyle, linewidth=2.4, label=f"$D_3$ = {d3:,}")
    axes.set_ylim(bottom=1)
    axes.margins(x=0)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("iterations of full-batch SGD")
    axes.set_ylabel("information abundance of $E_1$,  Σσ / max σ")
    seeds = len(next(iter(trajectories.values())))
    axes.legend(title=f"thin: {seeds} seeds; thick: mean", frameon=False, loc="lower left", alignment="left")
    axes.spines[["top", "right"]].set_visible(False)
    written = [Path(path).with_suffix(suffix) for suffix in (".png", ".svg")]
    for file in written:
        figure.savefig(file, dpi=150)
    return written


def run(out, seeds=5, iterations=5_000):
    """Do the experiment for D₃ = 3 and 100, and draw it.

    Args:
        out (str or Path): folder for ``toy.png`` and ``toy.svg``.
        seeds (int): how many, from 0.
        iterations (int): SGD steps.

    Returns:
        str: the table of IA(E₁), and where the pictures are.
    """
    check_positive_int("seeds", seeds), check_positive_int("iterations", iterations)
    Path(out).mkdir(parents=True, exist_ok=True)
    runs = [(d3, seed) for d3 in PAPERS_D3 for seed in range(seeds)]
    trajectories = {d3: [] for d3 in PAPERS_D3}
    for d3, seed in tqdm(runs, desc="toy"):
        trajectories[d3].append(toy(d3, iterations=iterations, seed=seed))
    written = draw_toy(trajectories, Path(out) / "toy.png")
    lines = [f"Information abundance of E1 (100 ids, K = 10) over {seeds} seeds, {iterations:,} iterations:"]
    for d3, of_d3 in trajectories.items():
        ends = [float(trajectory[-1]) for trajectory in of_d3]
        spread = f" ± {stdev(ends):.2f}" if seeds > 1 else ""
        start = fmean(float(trajectory[0]) for trajectory in of_d3)
        lines.append(f"  D3 = {d3:>3}: {start:.2f} at the start, {fmean(ends):.2f}{spread} at the end")
    return "\n".join([*lines, *map(str, written)])
