"""The records of node classification: small graphs at shares of a graph's own bytes, beside all they should beat.

    python -m scripts.records.make.nodes --root DATA [--only TEXT] [--threads 1]

One record a data set and split: the public one, with ten networks of a method's sets and three of a baseline's, and ten
random splits with one each. Like `run.py` it resumes, and processes can share the list. Shares are of the bytes of the
whole graph stored in the same form. Steps and sets are chosen on validation nodes; `test` of a row has the accuracies
of its networks on the test nodes, `val` those on the validation nodes, `selection` says which set was taken and
`recipe` of the record which step. The whole grid takes about 60 minutes of a
processor: a public split 10, a random one 2 to 3.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any, Final

import torch

import dd
from dd.base.seeding import child_seed
from dd.contest.baselines_nodes import NODE_BASELINES, BesideNodes
from dd.data.nodes.graph import NodeGraph
from dd.data.nodes.load import load_nodes
from dd.data.nodes.nodes import Nodes
from dd.evaluation import METRICS, origin
from dd.evaluation.nodes import NodeLearner, WholeGraph
from dd.models import NodeInput
from dd.synthetic import NodeSet, stored_bytes
from scripts.records.make import run

DATA: Final = ("Cora", "CiteSeer")
SPLITS: Final = ("published", *(f"random:{k}" for k in range(10)))
SHARES: Final = (0.01, 0.025, 0.05, 0.15)
NETWORKS: Final = ("gcn", "sage", "gat")
METHODS: Final = ("node_means", "bonsai")
BESIDE: Final = ("random", "random_egos", "herding", "k_center")
"""Baselines of the bytes of a set."""
MEANS: Final = "class means as nodes"
"""One dense mean a class, whatever bytes it takes."""
PUBLIC: Final = (10, 3)
"""Networks of a method's row and of a baseline's on the public split; on random splits one of each."""


class Cell:
    """One record of a graph and its split.

    Args:
        real: the data.
        many, few: networks of a method's row and of a baseline's.
        networks, shares: those that are measured.
    """

    def __init__(
        self,
        real: Nodes,
        many: int,
        few: int,
        networks: Sequence[str] = NETWORKS,
        shares: Sequence[float] = SHARES,
        steps: int | None = None,
    ) -> None:
        assert real.val is not None
        assert real.test is not None
        self._real, self._many, self._few, self._shares = real, many, few, shares
        self._networks, self._steps = networks, steps
        self._whole = WholeGraph.of(real, "rows", torch.device("cpu"))
        self.graph_bytes = stored_bytes(real.seen(), real.num_classes)
        self.rows: list[dict[str, Any]] = []
        self.recipe: dict[str, Any] = {}

    def _train(self, told: dict[str, Any], graphs: Sequence[NodeGraph], small: NodeSet, models: Sequence[str]) -> None:
        """A row for each network."""
        n = self._many if told["set"] in (*METHODS, MEANS, "full") else self._few
        inputs = [NodeInput.of(graph, "rows", torch.device("cpu")) for graph in graphs]
        for model in models:
            start, learner = time.process_time(), NodeLearner(model=model, steps=self._steps)
            found = []
            for r in range(n):
                seed = child_seed(0, "record", r)
                fit = learner.fit_graph(inputs[r % len(inputs)], small.num_classes, small.recipe, seed, self._whole)
                assert self._real.test is not None
                found.append((fit.val, fit.score(self._whole, self._real.test)))
            spent = round(time.process_time() - start, 2)
            scores = {"val": [val for val, _ in found], "test": [test for _, test in found], "cpu_seconds": spent}
            self.rows.append({**told, "model": model, **scores})

    def _set(self, told: dict[str, Any], method: str, **fields: Any) -> NodeSet:
        start = time.process_time()
        fields |= {} if self._steps is None else {"train": {"steps": self._steps}}
        made = dd.distill(self._real, method, progress=False, device="cpu", **fields)
        assert isinstance(made, NodeSet)
        about = {"counted": made.nbytes.counted, "disk": made.nbytes.total, "nodes": len(made)}
        about |= {"entries": int((made.graph.x != 0).sum()), "edges": made.graph.num_edges // 2}
        about["selection"] = made.provenance["selection"]
        about["distill_cpu_seconds"] = round(time.process_time() - start, 2)
        self._train(
            {**told, "set": method if "nodes" not in fields else MEANS, **about}, [made.graph], made, self._networks
        )
        return made

    def measure(self) -> None:
        """All rows."""
        small = self._set({}, "node_means", nodes=1)
        self.recipe = dataclasses.asdict(small.recipe)
        for share in self._shares:
            budget = {"share": share, "budget": int(share * self.graph_bytes)}
            sets = {name: self._set(budget, name, budget_bytes=budget["budget"]) for name in METHODS}
            beside = BesideNodes(sets["node_means"], self._real)
            for name in BESIDE:
                graphs = NODE_BASELINES[name].stand(beside).graphs
                size = stored_bytes(graphs[0], self._real.num_classes)
                told = {**budget, "set": name, "counted": size, "nodes": len(graphs[0])}
                self._train(told, graphs, small, self._networks)
        beside = BesideNodes(small, self._real)
        self._train({"set": "full"}, [beside.seen], small, self._networks)
        self._train({"set": "features"}, [beside.seen], small, ["mlp"])
        for name in ("label_propagation", "class_means"):
            scores = NODE_BASELINES[name].make(beside, 0)
            assert isinstance(scores, torch.Tensor)
            found = METRICS["accuracy"](scores, beside.test.labels)
            self.rows.append({"set": name, "model": "none", "val": [None], "test": [found]})


def cell(name: str, split: str, real: Nodes, **less: Any) -> dict[str, Any]:
    """One record."""
    many, few = PUBLIC if split == "published" else (1, 1)
    made = Cell(real, **{"many": many, "few": few, **less})
    made.measure()
    return {
        "job": {"dataset": name, "split": split, "rule": real.rule},
        "metric": "accuracy",
        "graph_bytes": made.graph_bytes,
        "recipe": made.recipe,
        "rows": made.rows,
        "origin": origin(0, torch.device("cpu")),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Work through the list, a split of both data sets before the next one."""
    options = run.options(__doc__, "nodes/", arguments)
    for split in SPLITS:
        for name in DATA:
            record = f"nodes-{name}-{split.replace(':', '-')}"
            if options.only in f"{record}-":
                run.once(record, lambda n=name, s=split: cell(n, s, load_nodes(n, split=s, root=options.root)))


if __name__ == "__main__":
    main()
