"""Seconds and memory of small graphs for node classification, on one generated graph as large as you like.

    python scripts/bench/nodes.py [--rows node_means,bonsai] [--nodes 200000] [--edges 2000000] [--features 100]
                                  [--trained 20000] [--budget 65536] [--json]

Each row in a process of its own: `dd.distill` of a stochastic block model of ten classes with noisy words, `--trained`
training nodes and 2,000 validation nodes, which choose among the sets of `node_means`. Making the graph is not timed.
`peak_mb` is the high-water mark of the whole process, graph and libraries included.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from common import MB, command_line, high_water_mb, parsed, run_child, tell

ROWS = ("node_means", "bonsai")
CLASSES = 10
HELD = 2000


def graph(nodes: int, edges: int, features: int, trained: int) -> Any:
    """A stochastic block model as `dd.Nodes`; which nodes train, validate and test is drawn."""
    import torch

    from dd.base.seeding import child
    from dd.data.nodes.blocks import block_model
    from dd.data.nodes.load import made

    held = min(HELD, nodes - trained - 1)
    found = block_model(nodes, CLASSES, features, edges)
    place = torch.randperm(nodes, generator=child(0, "bench", "nodes"))
    masks = {
        "train_mask": place < trained,
        "val_mask": (place >= trained) & (place < trained + held),
        "test_mask": place >= trained + held,
    }
    return made(found, masks, tuple(map(str, range(CLASSES))), "generated")


def child(row: str, args: argparse.Namespace) -> dict[str, Any]:
    """One row."""
    import dd

    real = graph(args.nodes, args.edges, args.features, args.trained)
    start, cpu = time.perf_counter(), time.process_time()
    small: Any = dd.distill(real, row, budget_bytes=args.budget, progress=False, device="cpu", threads=args.threads)
    told = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
    size = {"nodes": len(small), "counted": small.nbytes.counted, "graph_bytes": small.figures["graph_bytes"]}
    return {**told, **size, "chosen": small.provenance["selection"], "peak_mb": high_water_mb(False)}


def main() -> None:
    """Every row in a process of its own, then the table."""
    parser = command_line(__doc__, ROWS)
    parser.add_argument("--nodes", type=int, default=200_000)
    parser.add_argument("--edges", type=int, default=2_000_000, help="undirected ones that are drawn")
    parser.add_argument("--features", type=int, default=100)
    parser.add_argument("--trained", type=int, default=20_000, help="training nodes")
    parser.add_argument("--budget", type=int, default=65_536, help="bytes of the set")
    args = parsed(parser, sys.argv[1:], ROWS, nodes=100, edges=1, features=CLASSES, trained=CLASSES, budget=1)
    if args.child:
        print(json.dumps(child(args.child, args)))
        return
    results: dict[str, Any] = {}
    for row in args.rows:
        print(f"{row} …", file=sys.stderr, flush=True)
        results[row] = run_child(__file__, row, sys.argv[1:], {})
    lines = [f"{args.threads} threads; MB = {MB:.0e} bytes; {args.nodes:,} nodes, {args.edges:,} edges"]
    for row, found in results.items():
        cells = (f"{k} {v:,.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in found.items())
        lines.append(f"{row:<11}" + "  ".join(cells))
    tell("\n".join(lines), results, args)


if __name__ == "__main__":
    main()
