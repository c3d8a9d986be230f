"""Computation trees written out: nested tuples, interned by a dictionary, expanded again. Slow and obvious.

The tree of depth d at node v is `(label of v, children)`, children being the sorted tuple of `(edge label, tree of
depth d - 1 at u)` over the edges u → v: the canonical form of Aho, Hopcroft and Ullman. A tree of depth 0 is
`(label, leaf)`: leaf is 0, or with `leaf_degree` the number of edges into the node, which tells leaves apart. Two
trees of one depth are isomorphic, with labels, exactly where their tuples are equal. An isolated node has
`(label, ())` at every depth but 0. Directed graphs have trees along their edges; an undirected edge is two directed
ones, so trees go back the way they came.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dd.data.graphs.codes import Codes
from dd.data.graphs.graphs import GraphSplit, graph_split
from dd.synthetic.tree_recipe import TreeRecipe
from dd.synthetic.trees import Level, TreeSummary

Tree = tuple[int, Any]


def into(split: GraphSplit, codes: Codes) -> list[list[tuple[int, int]]]:
    """(edge label, source) of every edge into each node."""
    found: list[list[tuple[int, int]]] = [[] for _ in range(split.num_nodes)]
    for (u, v), z in zip(split.edge_index.t().tolist(), codes.edges(split).tolist(), strict=True):
        found[v].append((z, u))
    return found


def explicit_tree(split: GraphSplit, codes: Codes, node: int, depth: int, leaf_degree: bool = False) -> Tree:
    """The tree of a depth at a node of the split, every child written out."""
    return _grower(split, codes, leaf_degree)(node, depth)


def _grower(split: GraphSplit, codes: Codes, leaf_degree: bool) -> Callable[[int, int], Tree]:
    labels, sources = codes.nodes(split).tolist(), into(split, codes)

    def tree(v: int, d: int) -> Tree:
        if d == 0:
            return labels[v], len(sources[v]) if leaf_degree else 0
        return labels[v], tuple(sorted((z, tree(u, d - 1)) for z, u in sources[v]))

    return tree


def tree_size(tree: Tree) -> int:
    """Nodes of a tree."""
    return 1 if isinstance(tree[1], int) else 1 + sum(tree_size(child) for _, child in tree[1])


def truncated(tree: Tree, depth: int) -> Tree:
    """The first `depth` levels of a deeper tree, with leaves that tell nothing but their label."""
    label, children = tree
    if depth == 0:
        return label, 0
    return label, tuple(sorted((z, truncated(child, depth - 1)) for z, child in children))


def levels_by_hand(
    split: GraphSplit, codes: Codes, depth: int, leaf_degree: bool = False
) -> tuple[tuple[Level, ...], list[Tensor]]:
    """(levels 0 … depth, ids `[V]` of every node's tree in each of them); ids in order of first appearance."""
    ids: list[dict[Tree, int]] = []
    levels, per_node = [], []
    grow = _grower(split, codes, leaf_degree)
    for d in range(depth + 1):
        trees = [grow(v, d) for v in range(split.num_nodes)]
        table: dict[Tree, int] = {}
        for tree in trees:
            table.setdefault(tree, len(table))
        ids.append(table)
        per_node.append(torch.tensor([table[tree] for tree in trees], dtype=torch.int64))
        first = {table[tree]: v for v, tree in reversed(list(enumerate(trees)))}
        trunc = [int(per_node[d - 1][first[i]]) if d else tree[1] for i, tree in enumerate(table)]
        levels.append(_level(list(table), trunc, ids[d - 1] if d else {}))
    return tuple(levels), per_node


def _level(trees: Sequence[Tree], trunc: Sequence[int], below: dict[Tree, int]) -> Level:
    ptr, runs = [0], []
    for _, children in trees:
        if not isinstance(children, int):
            runs += [(z, i, n) for (z, i), n in sorted(Counter((z, below[child]) for z, child in children).items())]
        ptr.append(len(runs))
    edge, child, count = (torch.tensor([run[k] for run in runs], dtype=torch.int64) for k in range(3))
    label = torch.tensor([tree[0] for tree in trees], dtype=torch.int64)
    return Level(label, torch.tensor(trunc), torch.tensor(ptr), child, edge, count)


def tree_of(levels: Sequence[Level], place: int) -> Tree:
    """The nested tuple of a tree of the last level."""
    level = levels[-1]
    label = int(level.label[place])
    if len(levels) == 1:
        return label, int(level.trunc[place])
    children = []
    for run in range(int(level.ptr[place]), int(level.ptr[place + 1])):
        child = tree_of(levels[:-1], int(level.child[run]))
        children += [(int(level.edge[run]), child)] * int(level.count[run])
    return label, tuple(sorted(children))


class Forest(NamedTuple):
    """Trees as one graph of V nodes with edges child → parent: labels `[V]`, edges `[2, E]`, their labels `[E]`, the
    roots, and `[V]` how many children a node has or, a leaf, what its tuple says."""

    label: Tensor
    edge_index: Tensor
    edge_label: Tensor
    root: Tensor
    degree: Tensor


def expanded(trees: Iterable[Tree]) -> Forest:
    """Trees as an explicit graph: a node for every walk."""
    labels, edges, edge_labels, degree, roots = [], [], [], [], []

    def add(tree: Tree) -> int:
        label, children = tree
        own = len(labels)
        labels.append(label)
        degree.append(children if isinstance(children, int) else len(children))
        for z, child in () if isinstance(children, int) else children:
            edges.append((add(child), own))
            edge_labels.append(z)
        return own

    for tree in trees:
        roots.append(add(tree))
    ends = torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).t()
    return Forest(_long(labels), ends, _long(edge_labels), _long(roots), _long(degree))


def _long(values: Sequence[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def kept_levels(levels: Sequence[Level], roots: Iterable[int]) -> tuple[tuple[Level, ...], list[list[int]]]:
    """(levels that hold the roots and all that is under them, truncations too; the old ids that each level keeps)."""
    wanted = sorted(set(roots))
    kept = [wanted]
    for level in reversed(levels[1:]):  # at depth 0 `trunc` is no place
        below = {int(level.trunc[i]) for i in wanted}
        for i in wanted:
            below |= set(level.child[level.ptr[i] : level.ptr[i + 1]].tolist())
        wanted = sorted(below)
        kept.insert(0, wanted)
    made = []
    for d, (level, own) in enumerate(zip(levels, kept, strict=True)):
        new = {old: i for i, old in enumerate(kept[d - 1])} if d else {}
        runs = [r for i in own for r in range(int(level.ptr[i]), int(level.ptr[i + 1]))]
        sizes = [int(level.ptr[i + 1] - level.ptr[i]) for i in own]
        made.append(
            Level(
                label=level.label[own],
                trunc=torch.tensor([new[int(level.trunc[i])] for i in own]) if d else level.trunc[own],
                ptr=torch.tensor([sum(sizes[:i]) for i in range(len(own) + 1)]),
                child=torch.tensor([new[int(level.child[r])] for r in runs], dtype=torch.int64),
                edge=level.edge[runs],
                count=level.count[runs],
            )
        )
    return tuple(made), kept


def summary_by_hand(
    split: GraphSplit,
    codes: Codes,
    depth: int,
    sets: Sequence[tuple[int, Iterable[int]]] | None = None,
    *,
    classes: int = 2,
    leaf_degree: bool = False,
    recipe: TreeRecipe | None = None,
) -> TreeSummary:
    """A summary of chosen patterns, or without `sets` of every graph as a pattern (θ = 0), isolated nodes included.

    Args:
        split: the training graphs.
        codes: labels.
        depth: L.
        sets: (class, ids of trees in the last level of `levels_by_hand`); a multiplicity is the mean over the graphs of
            that class that hold all of the set. Supports are counted one graph at a time.
        classes: K.
        leaf_degree: tell leaves apart by their degree, which is then exact; else a leaf has the mean degree of the
            nodes of its label.
        recipe: of the summary.
    """
    levels, ids = levels_by_hand(split, codes, depth, leaf_degree)
    labels = split.labels.tolist()
    bags = [Counter(ids[depth][split.graph == g].tolist()) for g in range(len(split))]
    patterns = []  # (class, {tree: mean multiplicity}, support of each class)
    if sets is None:
        for bag, k in zip(bags, labels, strict=True):
            patterns.append((k, {t: float(bag[t]) for t in sorted(bag)}, [int(c == k) for c in range(classes)]))
    else:
        for k, trees in sets:
            chosen = sorted(set(trees))
            holds = [all(t in bag for t in chosen) for bag in bags]
            own = [bag for bag, h, label in zip(bags, holds, labels, strict=True) if h and label == k]
            mean = {t: sum(bag[t] for bag in own) / len(own) for t in chosen}
            found = [sum(h and label == c for h, label in zip(holds, labels, strict=True)) for c in range(classes)]
            patterns.append((k, mean, found))
    small, kept = kept_levels(levels, [t for _, trees, _ in patterns for t in trees])
    place = {old: i for i, old in enumerate(kept[-1])}
    degree = split.degree.double()
    return TreeSummary(
        levels=small,
        leaf_degree=torch.tensor([float(degree[ids[0] == i].mean()) for i in kept[0]]),
        pattern_ptr=torch.tensor([sum(len(p[1]) for p in patterns[:i]) for i in range(len(patterns) + 1)]),
        pattern_tree=torch.tensor([place[t] for _, trees, _ in patterns for t in trees]),
        pattern_count=torch.tensor([n for _, trees, _ in patterns for n in trees.values()]),
        support=torch.tensor([p[2] for p in patterns]),
        labels=torch.tensor([p[0] for p in patterns]),
        tree_support=torch.tensor(
            [
                [sum(t in bag and k == c for bag, k in zip(bags, labels, strict=True)) for c in range(classes)]
                for t in kept[-1]
            ]
        ),
        graphs=torch.bincount(split.labels, minlength=classes),
        codes=codes,
        classes=tuple(f"class {c}" for c in range(classes)),
        recipe=recipe or TreeRecipe(),
    )


def match_by_hand(summary: TreeSummary, split: GraphSplit) -> Tensor:
    """Place in the summary's last level of every node's tree, -1 where it is not kept, int64 `[V]`."""
    table = {tree_of(summary.levels, i): i for i in range(len(summary.levels[-1]))}
    grow = _grower(split, summary.codes, leaf_degree=bool(summary.levels[0].trunc.any()))
    found = [table.get(grow(v, summary.depth), -1) for v in range(split.num_nodes)]
    return torch.tensor(found, dtype=torch.int64)


def random_graphs(
    seed: int,
    sizes: Sequence[int],
    *,
    directed: bool = False,
    features: Sequence[int] = (3,),
    edge_features: Sequence[int] = (),
    probability: float = 0.35,
    isolated: int = 1,
    classes: int = 2,
) -> GraphSplit:
    """Random graphs without self loops; the last `isolated` nodes of each have no edges; undirected edges twice."""
    generator = torch.Generator().manual_seed(seed)

    def draw(high: int) -> int:
        return int(torch.randint(high, (1,), generator=generator))

    x, edges, attr, ptr = [], [], [], [0]
    for size in sizes:
        base = len(x)
        x += [[draw(f) for f in features] for _ in range(size)]
        for u in range(size - isolated):
            for v in range(u):
                for a, b in ((u, v), (v, u)) if directed else ((u, v),):
                    if float(torch.rand(1, generator=generator)) < probability:
                        z = [draw(f) for f in edge_features]
                        both = [(a, b)] if directed else [(a, b), (b, a)]
                        edges += [(base + s, base + t) for s, t in both]
                        attr += [z] * len(both)
        ptr.append(len(x))
    return graph_split(
        torch.tensor(x).reshape(len(x), len(features)),
        torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).t(),
        torch.tensor(attr, dtype=torch.int64).reshape(len(edges), len(edge_features)),
        torch.tensor(ptr),
        torch.arange(len(sizes)) % classes,
    )
