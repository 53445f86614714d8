"""The figure of the toy experiment: IA(E₁) over iterations, for D₃ of few and of many ids (paper, figure 4)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev

import torch
from tqdm import tqdm

from fuxictr_me.collapse.toy import toy
from fuxictr_me.errors import check_positive_int
from fuxictr_me.reports.style import BLUE, DPI, GREEN, ORANGE, PINK, new_figure

PAPERS_D3 = (3, 100)
STYLES = ((ORANGE, "-"), (BLUE, "--"), (GREEN, "-."), (PINK, ":"))


def draw_toy(trajectories: Mapping[int, Sequence[torch.Tensor]], path: str | Path) -> list[Path]:
    """Draw IA(E₁), a thin line for each seed and a thick one for their mean, and save it as PNG and as SVG.

    Args:
        trajectories: D₃ -> one trajectory per seed, see ``fuxictr_me.collapse.toy``; at most four D₃.
        path: of the figure; its suffix becomes ``.png`` and ``.svg``.

    Returns:
        the files that were written.

    Example::

        draw_toy({d3: [toy(d3, seed=seed) for seed in range(5)] for d3 in (3, 100)}, "toy.png")
    """
    figure, axes = new_figure(6.4, 4)
    for (d3, runs), (color, linestyle) in zip(trajectories.items(), STYLES, strict=False):
        for run in runs:
            axes.plot(run.tolist(), color=color, linewidth=0.7, alpha=0.45)
        mean = torch.stack(list(runs)).mean(dim=0)
        axes.plot(mean.tolist(), color=color, linestyle=linestyle, linewidth=2.4, label=f"$D_3$ = {d3:,}")
    axes.set_ylim(bottom=1)
    axes.margins(x=0)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("iterations of full-batch SGD")
    axes.set_ylabel("information abundance of $E_1$,  Σσ / max σ")
    seeds = len(next(iter(trajectories.values())))
    axes.legend(title=f"thin: {seeds} seeds; thick: mean", frameon=False, loc="lower left", alignment="left")
    written = [Path(path).with_suffix(suffix) for suffix in (".png", ".svg")]
    for file in written:
        figure.savefig(file, dpi=DPI)
    return written


def run_toy(out: str | Path, seeds: int = 5, iterations: int = 5_000) -> str:
    """Run the experiment for D₃ = 3 and 100, and draw it.

    Args:
        out: folder for ``toy.png`` and ``toy.svg``.
        seeds: number of seeds, from 0.
        iterations: SGD steps.

    Returns:
        the table of IA(E₁), and where the figures are.
    """
    check_positive_int("seeds", seeds)
    check_positive_int("iterations", iterations)
    Path(out).mkdir(parents=True, exist_ok=True)
    runs = [(d3, seed) for d3 in PAPERS_D3 for seed in range(seeds)]
    trajectories: dict[int, list[torch.Tensor]] = {d3: [] for d3 in PAPERS_D3}
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
