"""Multi-embedding on several GPUs, on paper: memory of a rank, bytes that it sends, and the floor of a step.

    python benchmarks/scale.py [--gpus 8 64] [--write benchmarks/scale.md]

DCNv2 with the paper's settings on Criteo's 39 fields. What a rank holds and sends is counted by ``scale_formulas.py``;
what its networks take is simulated by ``fuxictr_me.estimates``, on tensors without data. Nothing here was measured.

It takes minutes: models of each number of sets and dimension are simulated at two batch sizes.
"""

import argparse
import datetime
import itertools
import textwrap
from collections import Counter
from pathlib import Path

import torch
from scale_formulas import (
    BATCHES,
    DIMS,
    ENGINES,
    FIELDS,
    GPU,
    IDS,
    LARGE,
    SETS,
    Case,
    by_columns,
    by_rows,
    ddp,
    dtensor_rows,
    floor,
    memory,
    mesh,
    set_parallel,
    total,
)

from fuxictr_me.distributed.auto_engine import NEAR
from fuxictr_me.estimates.collectives import ALL_GATHER, ID, NUMBER, sent

PAGE = """# Multi-embedding on several GPUs, on paper

This page estimates the memory of each GPU, the bytes that it sends, and the least time of a step on 8 and 64 GPUs.
**Nothing here was measured.** Measured figures of one GPU are in [RESULTS.md](RESULTS.md). Times are lower bounds. They
follow from the data sheets in `fuxictr_me/estimates/gpus.py`, and from steps that `fuxictr_me/estimates` simulates on
tensors without data. The page is the output of this command (a test compares the two):
`python benchmarks/scale.py --gpus {gpus} --write benchmarks/scale.md`, {date}, torch {torch}.

The model is DCNv2 with the paper's settings: 4 cross layers, hidden layers of 400 and 400, batch norm, and Adam with
weight decay, hence dense updates. It has F = 39 fields, D ids, and M sets of dimension K (MxK). A step of all R ranks
together has B rows. H = 400, and P(m) is the number of parameters of m sets and the head, without the tables. These
assumptions are made:

- An H100 has 80 GB, 3.35 TB/s, and 67 TFLOP/s in float32. There are 8 per node, with ranks in order. In each direction
  a GPU has 450 GB/s of NVLink within the node and 50 GB/s (400 Gb/s) beyond it. There is no latency, no time for
  launches and feeding, and no traffic for packing and unpacking.
- The floor of a step is a sum. It adds the longer of products and memory traffic to the time of the links, because a
  step waits for its exchanges. The letter names the largest part: p products, m memory, l links. If all three overlap,
  only this part remains.
- The all-reduce of a ring sends 2(R − 1)/R of its payload. All-to-all, all-gather and reduce-scatter send (R − 1)/R of
  theirs.
- Ids are distributed evenly over the shards, and an id is sent as often as it occurs. Each rank reads the rows whose
  ids it needs. If all ids were gathered from shares instead, each rank would send {ids_gathered} more at B = 10,000 on
  {first} GPUs.
- Gradients are reduced in place. Not included are the statistics of batch norm for a divided batch, the counts of
  all-to-all, the CUDA context, the memory of the allocator, and data on the GPU.

| engine | exchanges of a step, payloads in bytes |
|---|---|
| ddp: everything on every rank | all-reduce 4(DMK + P(M)) |
{mesh_formula}
| set-parallel (x rows) | S = min(M, R), G = max(1, R div M): for R ≤ M all-reduce 4HB and 8, and nothing of a table |
| rows | S = 1, G = R |
| columns | twice all-to-all 4FB⌈MK/R⌉; all-reduce 4P(M) and 8 |
| rows by DTensor | reduce-scatter and all-gather 4FKMB; all-reduce 4P(M) and 8 |

## Megabytes that a rank sends in a step

{bytes_table}

{sending}

## Memory of a rank, and the floor of a step with dense updates

A cell has the GB at B = 10,000, and the milliseconds at B = {batches}.
Bold times are within 5 % of the least. A case in parentheses does not fit. set-parallel is combined with rows if R > M.
Memory is 12 B per parameter, a buffer for received embeddings, and the larger of two amounts: the activations of the
backward pass, or 4 B per number of the tables and the activations of the update.

{dense_tables}

## Updates by rows

The setting is `embedding_updates: catch_up`, without weight decay. A cell has the milliseconds at
B = {batches}, for any D. Memory is as above, plus 4 B per row. `lazy` does not need the
4 B per number of the gradient.

{by_rows_table}

## What limits each engine, and which to choose

{conclusions}
"""

MESH = (
    "over G: all-to-all 8FB/G and twice 4FK⌈M/S⌉B/G, all-reduce 4P(⌈M/S⌉); over S: all-reduce 4HB/G; "
    "over S·G: all-reduce 8"
)


def page(gpus, date):
    """The whole page.

    Args:
        gpus (list of int): numbers of GPUs.
        date (str)
    """
    first = gpus[0]
    example = Case(IDS[1], 10, 10, 10_000, first)
    in_sets, in_rows, by_dtensor = (engine(example) for engine in (set_parallel, by_rows, dtensor_rows))
    return PAGE.format(
        gpus=" ".join(map(str, gpus)),
        date=date,
        torch=torch.__version__.split("+")[0],
        first=first,
        batches=" / ".join(f"{batch:,}" for batch in BATCHES),
        ids_gathered=size(sent(ALL_GATHER, ID * FIELDS * 10_000, first)),
        mesh_formula=row("S x G: S groups of sets, G shards of the rows of each", MESH),
        bytes_table="\n".join(bytes_table(gpus)),
        sending=wrap(
            f"ddp sends {size(ddp(Case(IDS[0], 10, 1, 10_000, first)).sent)} for 33.8M ids, 1x10, {first} GPUs. For "
            f"10x10 at B = 10,000 on {first} GPUs, rows sends {in_rows.sent / in_sets.sent:.1f} times as much as "
            f"set-parallel, and DTensor {by_dtensor.sent / in_sets.sent:.1f} times as much: its row-wise look-up "
            "(torch 2.13) exchanges the whole batch where an all-to-all exchanges the share of a rank. DTensor also "
            f"computes the gradient of the whole table on every rank: {size(memory(example, by_dtensor))} per rank for "
            f"10x10 of 100M ids, against {size(memory(example, in_rows))}."
        ),
        dense_tables="\n\n".join("\n".join(dense_table(ranks)) for ranks in gpus),
        by_rows_table="\n".join(by_rows_table(gpus)),
        conclusions="\n".join(wrap(text, "- ", "  ") for text in conclusions(gpus)),
    )


def bytes_table(gpus):
    """Megabytes that the fullest rank sends in a step, ddp left out."""
    engines = {"set-parallel": set_parallel, "rows": by_rows, "columns": by_columns, "DTensor": dtensor_rows}
    yield row("MxK", "B", *(f"{R} GPUs: {name}" if i == 0 else name for R in gpus for i, name in enumerate(engines)))
    yield rule(2 + len(gpus) * len(engines))
    for m in SETS:
        for batch in BATCHES:
            cases = [Case(IDS[0], DIMS[0], m, batch, R) for R in gpus]
            sizes = [f"{engine(case).sent / 1e6:,.1f}" for case in cases for engine in engines.values()]
            yield row(f"{m}x{DIMS[0]}", f"{batch:,}", *sizes)


def dense_table(ranks, dims=DIMS, sets=SETS):
    """Memory and floors with dense updates, a line a case."""
    yield row(f"{ranks} GPUs: D", "MxK", *ENGINES)
    yield rule(2 + len(ENGINES))
    for dim in dims:
        for ids in IDS:
            for m in sets:
                yield row(f"{ids / 1e6:,.4g}M", f"{m}x{dim}", *cells(ids, dim, m, ranks))


def by_rows_table(gpus, sets=SETS):
    """Floors with updates by rows, which hardly depend on the number of ids."""
    engines = list(ENGINES)[1:]
    yield row("GPUs", "MxK", *engines)
    yield rule(2 + len(engines))
    for ranks in gpus:
        for m in sets:
            yield row(ranks, f"{m}x{DIMS[0]}", *cells(LARGE, DIMS[0], m, ranks, "catch_up"))


def cells(ids, dim, sets, ranks, updates="dense"):
    """Of each engine the floors at all batch sizes, with dense updates behind the memory at the middle one."""
    cases = [Case(ids, dim, sets, batch, ranks) for batch in BATCHES]
    found = [floors(case, updates) for case in cases]
    for name, engine in ENGINES.items():
        times = " ".join(cell(of_case, name) for of_case in found)
        if name == "set-parallel" and sets == 1:
            yield "is rows"
        elif updates == "dense":
            needed = f"{short(memory(cases[1], engine(cases[1])) / 1e9)} GB"
            yield f"{needed}: {times}" if any(name in of_case for of_case in found) else f"({needed})"
        elif name != "ddp":
            yield times


def floors(case, updates="dense"):
    """Engine -> ``floor``: with dense updates of all that fit, by rows of those that exchange no dense gradients."""
    shares = {name: engine(case) for name, engine in ENGINES.items() if name != "set-parallel" or case.sets > 1}
    if updates == "dense":
        shares = {name: share for name, share in shares.items() if memory(case, share) <= GPU.memory}
    else:
        del shares["ddp"]
    return {name: floor(case, share, updates) for name, share in shares.items()}


def best(found):
    """Of engine -> ``floor``, the engines within ``NEAR`` of the least."""
    least = min(map(total, found.values()), default=0)
    return {name for name, parts in found.items() if total(parts) <= (1 + NEAR) * least}


def cell(found, name):
    """``1.20m``: milliseconds, and what takes most of them."""
    if name not in found:
        return "–"
    parts = found[name]
    text = f"{short(total(parts) * 1e3)}{max(parts, key=parts.get)}"
    return f"**{text}**" if name in best(found) else text


def conclusions(gpus):
    """What follows from the tables."""
    yield first_example()
    small = [Case(ids, 10, 4, 10_000, gpus[0]) for ids in (10_000, 100_000, 1_000_000)]
    told = [f"{case.ids:,} ids {milliseconds(case, ddp)} ms (rows {milliseconds(case, by_rows)})" for case in small]
    yield (
        "**ddp** is limited by its links in every case above, and more GPUs do not make it faster, because every "
        "number of a table is sent, used or not. It is for small tables. For 4x10, B = 10,000, "
        f"{gpus[0]} GPUs: {', '.join(told)}. That tables fit is not a reason to choose it."
    )
    yield (
        "**set-parallel** can use at most R = M ranks. Without shards, each rank computes all B rows, so activations "
        "and h do not become smaller. If R does not divide M, some ranks hold one more set than others. S x G with a "
        f"common divisor S of M and R avoids this. For 10x10 of 100M ids: {'; '.join(map(meshes, gpus))}."
    )
    yield (
        "**rows** divides any M by any R. The all-reduce of dense gradients, 4P(M), does not become smaller with R. "
        "set-parallel without shards does not have this all-reduce."
    )
    yield (
        "**columns** can use at most R = M·K ranks. With more, some ranks hold nothing. With fewer, ⌈MK/R⌉ is uneven."
    )
    yield (
        "With dense updates, the floor is memory traffic of 40 B for each number of the fullest rank's tables, so "
        "choose the engine that divides the tables evenly. Number of cases with 4 or 10 sets in which an engine is "
        f"among the best: {'; '.join(map(tally, gpus))}."
    )
    yield (
        "With updates by rows, the tables hardly matter. The products, activations and links of the fullest rank "
        f"matter. For 10x10 at B = 10,000, rows takes {', '.join(map(rows_to_sets, gpus))}."
    )


def wrap(text, first="", rest=""):
    """Return ``text`` in lines of at most 118 characters, which begin with ``first`` and ``rest``."""
    return textwrap.fill(
        text, 118, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def first_example():
    """Return the memory of ten sets of 100M ids, which an earlier estimate put at 480 GB with Adam."""
    numbers, of_adam = Case(IDS[1], 10, 10, 10_000, 1).entries, 3 * NUMBER
    return (
        f"10x10 of 100M ids is {numbers / 1e9:g}e9 numbers: {size(NUMBER * numbers)} of weights, "
        f"{size(of_adam * numbers)} with Adam's moments, and {size((of_adam + NUMBER) * numbers)} with the dense "
        f"gradient. An earlier estimate of 480 GB is {480e9 / numbers:g} B per number, {480e9 / (of_adam * numbers):g} "
        f"times weights and moments: it counts the {NUMBER} B of a float32 twice, or assumes "
        f"K = {10 * 480e9 / (of_adam * numbers):g}."
    )


def milliseconds(case, engine):
    """The floor with dense updates, as text."""
    return short(total(floor(case, engine(case))) * 1e3)


def meshes(ranks):
    """Set-parallel on ten sets of 100M ids, and the S x G nearest to it that divides both sets and ranks."""
    case = Case(IDS[1], 10, 10, 10_000, ranks)
    even = max(S for S in (1, 2, 5, 10) if ranks % S == 0)
    told = []
    for S, G in dict.fromkeys([(min(10, ranks), max(1, ranks // 10)), (even, ranks // even)]):
        share = mesh(case, S, G)
        told.append(f"{S} x {G} {share.entries / 1e9:.3f}e9 numbers on the fullest, {size(share.sent)} sent")
    return f"of {ranks} ranks {', '.join(told)}"


def tally(ranks):
    """How often each engine is among the best, of the cases with several sets that fit somewhere; dense updates."""
    found = [floors(Case(*of_case, ranks)) for of_case in itertools.product(IDS, DIMS, SETS[1:], BATCHES)]
    counts = Counter(name for of_case in found for name in best(of_case))
    told = ", ".join(f"{name} {counts[name]}" for name in ENGINES)
    return f"of {sum(map(bool, found))} cases that fit {ranks} GPUs {told}"


def rows_to_sets(ranks):
    """The floor of rows over that of set-parallel, updates by rows."""
    found = floors(Case(LARGE, 10, 10, 10_000, ranks), "catch_up")
    return f"{total(found['rows']) / total(found['set-parallel']):.2f} times set-parallel's time on {ranks} GPUs"


def row(*values):
    """A line of a markdown table."""
    return f"| {' | '.join(map(str, values))} |"


def rule(columns):
    """The line below a table's heading."""
    return "|" + "---|" * columns


def short(value):
    """Three digits."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def size(count):
    """Bytes as GB, or MB."""
    return f"{count / 1e9:,.3g} GB" if count >= 1e9 else f"{count / 1e6:,.3g} MB"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 64], help="numbers of GPUs (default: 8 64)")
    parser.add_argument("--write", type=Path, help="a file for the page, besides")
    arguments = parser.parse_args()
    text = page(arguments.gpus, datetime.date.today().isoformat())
    print(text, end="")
    if arguments.write:
        arguments.write.write_text(text)


if __name__ == "__main__":
    main()
