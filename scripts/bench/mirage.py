"""Seconds and memory of Mirage: refinement, mining and summary, on real sets and on as many graphs as you like.

    python scripts/bench/mirage.py [--root DATA] [--rows nci1,hiv,twin,small,large,star] [--large 1000000] [--json]

Rows, each in a process of its own, one after the other:

    nci1    NCI1's training graphs (split 0), depth 2, 2,048 bytes, the method's defaults
    hiv     HIV's training molecules, depth 3, 2,048 bytes; rdkit makes the graphs first, not timed
    twin    the trees of depth 3 of `--sample` training graphs of NCI1 written out as nested tuples and counted in a
            dictionary, as in the plain way; `library` beside it is refinement of the same graphs
    small   `--small` synthetic graphs like molecules, depth 3, 8,192 bytes, made and forgotten 10,000 at a time
    large   `--large` of them; `ratio` is its time over that of `small`
    star    one star of degree 100,000, depth 3

`seconds` is the fastest of `--repeats` (of `large` one); making synthetic graphs is not in it. `peak_mb` is the
high-water mark of the resident size above that before the work. Rows whose data is missing are left out.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from common import MB, base_mb, command_line, give_back, high_water_mb, parsed, reset_high_water, run_child, tell

ROWS = ("nci1", "hiv", "twin", "small", "large", "star")
PART = 10_000


def molecules(count: int, seed: int) -> Any:
    """`count` connected graphs of 15 to 35 nodes with few rings and few, unequal labels, drawn from a seed."""
    import numpy as np
    import torch

    from dd.data.graphs.graphs import graph_split

    draw = np.random.default_rng(seed)
    sizes = draw.integers(15, 36, count)
    ptr = np.concatenate([[0], np.cumsum(sizes)])
    place = np.arange(ptr[-1]) - np.repeat(ptr[:-1], sizes)
    back = np.minimum(draw.geometric(0.7, len(place)), np.maximum(place, 1))
    chain = np.flatnonzero(place > 0)
    ring = np.flatnonzero((place > 5) & (draw.random(len(place)) < 0.08))
    a, b = np.concatenate([chain, ring]), np.concatenate([chain - back[chain], ring - 5])
    both = np.stack([np.concatenate([a, b]), np.concatenate([b, a])])
    label = draw.choice(9, len(place), p=[0.72, 0.11, 0.1, 0.02, 0.02, 0.01, 0.01, 0.005, 0.005])
    whole = torch.from_numpy
    return graph_split(
        whole(label)[:, None],
        whole(both),
        torch.zeros(both.shape[1], 0, dtype=torch.int64),
        whole(ptr),
        whole(draw.integers(0, 2, count)),
    )


class Stream:
    """Synthetic graphs part by part; the seconds that making them took are kept apart."""

    def __init__(self, count: int) -> None:
        self._count, self.making, self.nodes = count, 0.0, 0

    def __call__(self) -> Iterator[Any]:
        for first in range(0, self._count, PART):
            start = time.perf_counter()
            made = molecules(min(PART, self._count - first), first)
            self.making += time.perf_counter() - start
            self.nodes += made.num_nodes
            yield made


def streamed(count: int) -> Callable[[], dict[str, Any]]:
    """Refinement, mining and summary of synthetic graphs."""
    import torch

    from dd.data.graphs.codes import fit_codes
    from dd.methods.mirage.build import build, entry
    from dd.methods.mirage.select import Costs, Shop
    from dd.methods.mirage.transactions import transactions

    def work() -> dict[str, Any]:
        stream = Stream(count)
        codes = fit_codes(molecules(PART, 0))
        start = time.perf_counter()
        found = transactions(stream, codes, 3, 2)[-1]
        costs = Costs(found, 1, 0, once=True, counts=True, supports=True)
        patterns = Shop(found, "closed", "support", drop_shared=False, limit=100_000).buy(costs, 8192, [1, 1])
        leaves = torch.zeros(len(found.tables[0]))
        small = build(found, [entry(found, p) for p in patterns], codes, leaves, classes=("0", "1"))
        seconds = time.perf_counter() - start - stream.making
        trees = [len(t) for t in found.tables]
        return {"seconds": seconds, "nodes": stream.nodes, "trees": trees, "patterns": len(small)}

    return work


def distilled(args: argparse.Namespace, name: str, depth: int) -> Callable[[], dict[str, Any]]:
    """The method on a real set that is in memory."""
    from dd.data.graphs.load import load_graphs
    from dd.methods import Mirage, Run

    real = load_graphs(name, root=args.root)

    def work() -> dict[str, Any]:
        start = time.perf_counter()
        step = next(iter(Mirage(depth=depth).distill(real, Run())))
        seconds = time.perf_counter() - start
        small: Any = step.candidates[0].set
        trees = small.figures["distinct_trees"]
        return {"seconds": seconds, "nodes": real.train.num_nodes, "trees": trees, "patterns": len(small)}

    return work


def written_out(split: Any, labels: list[int], depth: int) -> int:
    """Distinct trees of a depth, each written out as a nested tuple."""
    sources: list[list[int]] = [[] for _ in labels]
    for u, v in split.edge_index.t().tolist():
        sources[v].append(u)

    def tree(v: int, d: int) -> Any:
        return (labels[v], tuple(sorted(tree(u, d - 1) for u in sources[v]))) if d else (labels[v],)

    return len({tree(v, depth) for v in range(len(labels))})


def twin(args: argparse.Namespace) -> Callable[[], dict[str, Any]]:
    """Written-out trees beside refinement, on the same graphs."""
    import torch

    from dd.data.graphs.codes import fit_codes
    from dd.data.graphs.load import load_graphs
    from dd.data.graphs.refine import Refiner, rows_of

    real = load_graphs("NCI1", root=args.root)
    split = real.train.subset(torch.arange(min(args.sample, len(real.train))))
    codes = fit_codes(split)

    def work() -> dict[str, Any]:
        start = time.perf_counter()
        count = written_out(split, codes.nodes(split).tolist(), 3)
        plain = time.perf_counter() - start
        start = time.perf_counter()
        refiner = Refiner(3)
        refiner.add(rows_of(split, codes))
        library = time.perf_counter() - start
        if len(refiner.tables()[-1]) != count:
            raise SystemExit(f"the twin has {count} trees, refinement {len(refiner.tables()[-1])}")
        return {"seconds": plain, "library": library, "speed_up": plain / library, "nodes": split.num_nodes}

    return work


def star(degree: int) -> Callable[[], dict[str, Any]]:
    """Refinement of one hub."""
    import torch

    from dd.data.graphs.codes import fit_codes
    from dd.data.graphs.graphs import graph_split
    from dd.data.graphs.refine import Refiner, rows_of

    leaf = torch.arange(1, degree + 1)
    hub = torch.zeros_like(leaf)
    edges = torch.stack([torch.cat([leaf, hub]), torch.cat([hub, leaf])])
    none = torch.zeros(2 * degree, 0, dtype=torch.int64)
    x = torch.zeros(degree + 1, 1, dtype=torch.int64)
    split = graph_split(x, edges, none, torch.tensor([0, degree + 1]), torch.tensor([0]))
    codes = fit_codes(split)

    def work() -> dict[str, Any]:
        start = time.perf_counter()
        refiner = Refiner(3)
        refiner.add(rows_of(split, codes))
        trees = [len(t) for t in refiner.tables()]
        return {"seconds": time.perf_counter() - start, "nodes": degree + 1, "trees": trees}

    return work


def child(row: str, args: argparse.Namespace) -> dict[str, Any]:
    """One row: the fastest pass, and the most memory of any."""
    import torch

    from dd.base.process import tune_process
    from dd.errors import MissingError

    tune_process(args.threads)
    torch.set_num_threads(args.threads)
    makers: dict[str, Callable[[], Callable[[], dict[str, Any]]]] = {
        "nci1": lambda: distilled(args, "NCI1", 2),
        "hiv": lambda: distilled(args, "HIV", 3),
        "twin": lambda: twin(args),
        "small": lambda: streamed(args.small),
        "large": lambda: streamed(args.large),
        "star": lambda: star(100_000),
    }
    try:
        work = makers[row]()
    except MissingError as error:
        return {"missing": str(error).splitlines()[0]}
    give_back()
    was_reset = reset_high_water()
    base = base_mb(was_reset)
    passes = [work() for _ in range(1 if row == "large" else args.repeats)]
    best = min(passes, key=lambda p: p["seconds"])
    return {**best, "peak_mb": high_water_mb(was_reset) - base}


def main() -> None:
    """Every row in a process of its own, then the table."""
    parser = command_line(__doc__, ROWS)
    parser.add_argument("--root", default="data", help="folder with tu/ and mol/")
    parser.add_argument("--small", type=int, default=10_000, help="synthetic graphs of the small row")
    parser.add_argument("--large", type=int, default=1_000_000, help="and of the large one")
    parser.add_argument("--sample", type=int, default=500, help="graphs whose trees the twin writes out")
    parser.add_argument("--repeats", type=int, default=3)
    args = parsed(parser, sys.argv[1:], ROWS, small=1, large=1, sample=1, repeats=1)
    if args.child:
        print(json.dumps(child(args.child, args)))
        return
    results: dict[str, Any] = {}
    for row in args.rows:
        print(f"{row} …", file=sys.stderr, flush=True)
        results[row] = run_child(__file__, row, sys.argv[1:], {})
    if "seconds" in results.get("small", {}) and "seconds" in results.get("large", {}):
        results["large"]["ratio"] = results["large"]["seconds"] / results["small"]["seconds"]
    lines = [f"{args.threads} threads; MB = {MB:.0e} bytes"]
    for row, found in results.items():
        cells = (f"{k} {v:,.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in found.items())
        lines.append(f"{row:<7}" + "  ".join(cells))
    tell("\n".join(lines), results, args)


if __name__ == "__main__":
    main()
