"""`Nodes`: a graph whose nodes have classes, and which of them are for training, validation and test."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, final

import torch
from torch import Tensor

from dd.base.process import under_own_settings
from dd.base.shapes import check_names
from dd.base.texts import a_class, clean_name
from dd.data.nodes.graph import NodeGraph

SETTINGS: Final = ("transductive", "inductive")
"""What a method sees: all nodes and edges, and the classes of training nodes; or training nodes and the edges between
them alone. Networks are tested on the whole graph."""


@final
@dataclass(frozen=True, eq=False)
class NodeSplit:
    """Some nodes of a graph and their classes.

    Attributes:
        rows: int64 `[N]`, rising.
        labels: int64 `[N]`, classes.
    """

    rows: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def items(self) -> None:
        """Nodes of one graph are told apart by their place in it, and by nothing else."""
        return


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class Nodes:
    """A data set for node classification: one graph, with disjoint training, validation and test nodes.

    Attributes:
        kind: `nodes`, of the class: which methods and which judge it is for.
        x: features, float32 `[V, F]`.
        edge_index: int64 `[2, E]`, as in `NodeGraph`.
        y: every class that is known, int64 `[V]`, else -1; methods read those of training nodes alone, by `seen`.
        train, val, test: nodes; `None` where there are none.
        classes: class names in label order.
        name: of the data set.
        split: number of the split.
        rule: how it was drawn: `given` (masks), or `random` (see `random_masks`).
        said: what was changed in the graph when it was read.
    """

    kind: ClassVar[Literal["nodes"]] = "nodes"
    x: Tensor
    edge_index: Tensor
    y: Tensor
    train: NodeSplit
    val: NodeSplit | None = None
    test: NodeSplit | None = None
    classes: tuple[str, ...]
    name: str = "nodes"
    split: int = 0
    rule: str = "given"
    said: tuple[str, ...] = ()

    @under_own_settings
    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", check_names(self.classes, "classes"))
        object.__setattr__(self, "name", clean_name(self.name))

    def __repr__(self) -> str:
        sizes = {"train": self.train, "val": self.val, "test": self.test}
        counts = ", ".join(f"{len(split):,} {key}" for key, split in sizes.items() if split is not None)
        graph = (
            f"one graph of {len(self.x):,} nodes, {self.edge_index.shape[1] // 2:,} edges, {self.x.shape[1]:,} features"
        )
        classes = f"{self.num_classes} classes, {a_class(self.nodes_per_class.tolist())}"
        said = "".join(f", {one}" for one in self.said)
        return f"Nodes({self.name!r}, {graph}, {classes}, {counts}, split {self.split} ({self.rule}){said})"

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.classes)

    @property
    @under_own_settings
    def nodes_per_class(self) -> Tensor:
        """Training nodes of each class, int64 `[K]`."""
        return torch.bincount(self.train.labels, minlength=self.num_classes)

    @property
    def drawn(self) -> dict[str, Any]:
        """What was chosen when it was read, as sets made of it remember: the split, its rule, and of which graph."""
        return {"split": self.split, "rule": self.rule, "graph_sha256": self.graph_fingerprint}

    @property
    def twins(self) -> None:
        """Masks are disjoint, so no test node is a training node."""
        return

    @property
    def whole(self) -> NodeGraph:
        """The whole graph with every class that is known, as networks are tested on it."""
        return NodeGraph(self.x, self.edge_index, self.y)

    @under_own_settings
    def seen(self, setting: str = "transductive") -> NodeGraph:
        """What a method may read, in an order that does not depend on how nodes and edges are numbered."""
        y = torch.full((len(self.x),), -1, dtype=torch.int64)
        y[self.train.rows] = self.train.labels
        graph = NodeGraph(self.x, self.edge_index, y)
        return (graph.subgraph(self.train.rows) if setting == "inductive" else graph).ordered()

    @cached_property
    @under_own_settings
    def graph_fingerprint(self) -> str:
        """SHA-256 of features and edges."""
        return _digest(self.x, self.edge_index)

    @cached_property
    @under_own_settings
    def fingerprint(self) -> str:
        """SHA-256 of all that a method or its selection reads, and of which nodes are tests, not of their classes.

        So the file of a set is the same whatever the classes of test nodes are.
        """
        parts = [part for split in (self.train, self.val) if split for part in (split.rows, split.labels)]
        parts += [] if self.test is None else [self.test.rows]
        told = f"{self.classes} {[split is not None for split in (self.val, self.test)]} {self.graph_fingerprint}"
        return hashlib.sha256(f"{told} {_digest(*parts)}".encode()).hexdigest()

    @property
    @under_own_settings
    def test_fingerprint(self) -> str:
        """SHA-256 of the classes of test nodes, which an evaluation alone reads."""
        return _digest() if self.test is None else _digest(self.test.labels)

    def all_train(self) -> Nodes:
        """The same: a split is fixed by its rule, whatever the protocol."""
        return self

    @property
    def masks(self) -> tuple[Tensor, Tensor, Tensor]:
        """Those of training, validation and test nodes, bool `[V]`."""
        made = [torch.zeros(len(self.x), dtype=torch.bool) for _ in range(3)]
        for mask, split in zip(made, (self.train, self.val, self.test), strict=True):
            if split is not None:
                mask[split.rows] = True
        return made[0], made[1], made[2]

    @under_own_settings
    def to_pyg(self) -> Any:
        """A PyG `Data` with `x`, `edge_index`, `y` (-1 where no class is known) and the masks."""
        from torch_geometric.data import Data

        names = ("train_mask", "val_mask", "test_mask")
        return Data(x=self.x, edge_index=self.edge_index, y=self.y, **dict(zip(names, self.masks, strict=True)))

    @under_own_settings
    def save(self, path: str | Path) -> Path:
        """Write it as the arrays that cards and `nodes:PATH.npz` are read from: no pickle, equal bytes.

        The split is written as masks (`dd.data.nodes.arrays`).

        Raises:
            WriteError: the disk refuses; an earlier file is intact.
        """
        from dd.data.nodes.arrays import write_arrays

        return write_arrays(path, NodeGraph(self.x, self.edge_index, self.y), self.masks, self.classes)


def _digest(*tensors: Tensor) -> str:
    sums = hashlib.sha256()
    for tensor in tensors:
        sums.update(f"{tensor.dtype} {list(tensor.shape)}".encode())
        sums.update(tensor.contiguous().numpy().tobytes())
    return sums.hexdigest()
