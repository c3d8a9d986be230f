"""The reading of a summary as bags of trees: draws, multiplicities and losses against loops over all bags."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.summaries import distil, graphs
from reference.trees import explicit_tree, match_by_hand, tree_of
from torch import Tensor, nn

import dd
from dd.base.seeding import child
from dd.data.graphs.codes import fit_codes
from dd.data.graphs.graphs import Graphs
from dd.errors import InputError
from dd.evaluation import NaiveBayesLearner, TreeLearner
from dd.evaluation.tasks import BagTask
from dd.methods import Mirage
from dd.models import build_graph_net, plain_graphs
from dd.synthetic import TreeRecipe, TreeSummary

CPU, DOUBLE = torch.device("cpu"), torch.float64
BAGS = TreeRecipe(model="gin(width=8)", reading="bags", steps=5, lr=0.01, batch_size=12)


@pytest.fixture(scope="module")
def real() -> Graphs:
    return graphs(classes=3)


def summary(real: Graphs, recipe: TreeRecipe = BAGS, **fields: Any) -> TreeSummary:
    """Few trees, so that all bags can be listed."""
    given = {"patterns": "single", "budget_bytes": 260, "node_label": "constant"}
    return distil(real, train=recipe, **{**given, **fields})


@pytest.fixture(scope="module")
def small(real: Graphs) -> TreeSummary:
    made = summary(real)
    assert 3 <= len(made.levels[-1]) <= 8
    return made


def net(small: TreeSummary, **options: Any) -> nn.Module:
    given = {"node_sizes": small.codes.sizes, "edge_sizes": small.codes.edge_sizes, "classes": 3, "depth": 1, "seed": 3}
    return build_graph_net("gin(width=8)", dtype=DOUBLE, **given | options).eval()


def chances(small: TreeSummary) -> list[list[float]]:
    """n_rk / n_k, `[K][R]`."""
    graphs_of, held = small.graphs.tolist(), small.tree_support.tolist()
    return [[held[r][k] / graphs_of[k] for r in range(len(held))] for k in range(len(graphs_of))]


def loss_by_hand(made: nn.Module, roots: Tensor, bag: list[float], label: int, how: str) -> float:
    pooled = sum((n * root for n, root in zip(bag, roots, strict=True)), torch.zeros_like(roots[0]))
    if how == "mean" and sum(bag):
        pooled = pooled / sum(bag)
    logits = made.head(pooled[None])[0]
    return float((logits.logsumexp(0) - logits[label]).detach())


def expected(small: TreeSummary, task: BagTask, made: nn.Module) -> tuple[float, list[float]]:
    """(the expectation over all 2^R bags of every class, the variance of one bag of each), weights as defined."""
    roots, recipe = made.roots(task._dag).detach(), small.recipe
    graphs_of = small.graphs.tolist()
    weights = [1 / 3] * 3 if recipe.balance == "class" else [n / sum(graphs_of) for n in graphs_of]
    total, spreads = 0.0, []
    for k, row in enumerate(chances(small)):
        times = small.multiplicities()[k].tolist() if recipe.pool.startswith("m") else [1.0] * len(row)
        mean = square = 0.0
        for there in itertools.product((0, 1), repeat=len(row)):
            chance = math.prod(p if x else 1 - p for p, x in zip(row, there, strict=True))
            if chance:
                bag = [x * n for x, n in zip(there, times, strict=True)]
                value = loss_by_hand(made, roots, bag, k, recipe.readout)
                mean, square = mean + chance * value, square + chance * value**2
        total += weights[k] * mean
        spreads.append(weights[k] ** 2 * max(square - mean**2, 0.0))
    return total, spreads


@pytest.mark.parametrize(("pooling", "balance"), [("msum", "class"), ("sum", "support"), ("mmean", "uniform")])
def test_the_drawn_loss_is_that_over_all_bags_in_expectation(small: TreeSummary, pooling: str, balance: str) -> None:
    told = small.with_recipe(pool=pooling, balance=balance)
    task, made = BagTask(told, CPU, DOUBLE), net(small)
    wanted, spreads = expected(told, task, made)
    n = 30_000
    drawn = float(task.sampled_loss(made, n, child(0, "test")).detach())
    assert abs(drawn - wanted) < 5 * math.sqrt(sum(spreads) / (n // 3))
    assert sum(spreads) > 0


def test_a_loss_and_its_gradient_by_a_loop(small: TreeSummary) -> None:
    task, made = BagTask(small, CPU, DOUBLE), net(small)
    bags = task.bags(4, child(1, "test"))
    roots, total = made.roots(task._dag), torch.zeros((), dtype=DOUBLE)
    for k, own in enumerate(bags):
        for bag in own:
            logits = made.head((bag[:, None] * roots).sum(0, keepdim=True))[0]
            total = total + (logits.logsumexp(0) - logits[k]) / 4 / 3
    loss = task.loss_of(made, bags)
    assert float(loss.detach()) == pytest.approx(float(total.detach()), abs=1e-10)
    both = (torch.autograd.grad(value, list(made.parameters()), allow_unused=True) for value in (loss, total))
    for a, b in zip(*both, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_trees_are_drawn_with_their_chances_and_multiplicities(small: TreeSummary) -> None:
    bags = BagTask(small, CPU).bags(20_000, child(2, "test"))
    times = small.multiplicities()
    for k, row in enumerate(chances(small)):
        for r, p in enumerate(row):
            values = bags[k, :, r]
            assert set(values.tolist()) <= {0.0, float(times[k, r])}
            share = float((values > 0).double().mean())
            assert abs(share - p) <= 5 * math.sqrt(p * (1 - p) / 20_000), (k, r)
    there = (bags[0] > 0).double()
    free = [r for r, p in enumerate(chances(small)[0]) if 0.1 < p < 0.9]
    together = float((there[:, free[0]] * there[:, free[1]]).mean())
    assert together == pytest.approx(chances(small)[0][free[0]] * chances(small)[0][free[1]], abs=0.02)  # independent


@pytest.mark.parametrize("kind", ["single", "closed"])
def test_multiplicities_are_counted_in_the_graphs(real: Graphs, kind: str) -> None:
    """Of single trees by hand; of sets, that of the one of most support; of a class without any, the others' mean."""
    made = summary(real, patterns=kind, budget_bytes=420)
    codes = fit_codes(real.train, "constant")
    bags: list[list[Any]] = [[] for _ in range(len(real.train))]
    for v in range(real.train.num_nodes):
        bags[int(real.train.graph[v])].append(explicit_tree(real.train, codes, v, 1))
    found, labels = made.multiplicities(), real.train.labels.tolist()
    assert found.shape == (3, len(made.levels[-1]))
    missing = 0
    for r in range(found.shape[1]):
        tree, known = tree_of(made.levels, r), {}
        for k in range(3):
            own = [p for p in range(len(made)) if int(made.labels[p]) == k and r in made.trees(p)]
            if not own:
                continue
            best = max(own, key=lambda p: (int(made.support[p, made.labels[p]]), p))
            trees = [tree_of(made.levels, t) for t in made.trees(best)]
            held = [b.count(tree) for b, y in zip(bags, labels, strict=True) if y == k and all(t in b for t in trees)]
            known[k] = sum(held) / len(held)
        weights = {k: int(made.tree_support[r, k]) for k in known}
        others = sum(weights[k] * known[k] for k in known) / sum(weights.values())
        missing += 3 - len(known)
        for k in range(3):
            assert float(found[k, r]) == pytest.approx(known.get(k, others), rel=1e-6)
    assert missing


def test_a_graph_without_kept_trees_is_the_empty_bag(real: Graphs) -> None:
    made = summary(real, budget_bytes=150, node_label="features")
    trained = TreeLearner().fit(made, 0)
    assert real.test is not None
    kept = match_by_hand(made, real.test) >= 0
    rows = plain_graphs(made.codes.node_fields(real.test), real.test.edge_index, made.codes.edge_fields(real.test))
    nodes, bare = trained.net.nodes(rows), 0
    for g, row in enumerate(trained.scores(real.test)):
        own = nodes[(real.test.graph == g) & kept]
        bare += not len(own)
        wanted = trained.net.head(own.sum(0, keepdim=True)).double().log_softmax(1)[0]
        torch.testing.assert_close(row, wanted.detach(), rtol=0, atol=1e-5)
    assert bare


def test_what_auto_reads_is_told_by_the_summary_alone(real: Graphs) -> None:
    made = summary(real, dataclasses.replace(BAGS, reading="auto"))
    assert (made.reading, made.filtered) == ("bags", True)
    for changes in ({"pool": "mean"}, {"pool": "mmean"}, {"targets": "soft"}, {"reading": "sets"}):
        assert (made.with_recipe(**changes).reading, made.with_recipe(**changes).filtered) == ("sets", False)
    assert made.with_recipe(filtered=False).filtered is False
    assert made.with_recipe(reading="sets", filtered=True).filtered is True
    bare = summary(real, dataclasses.replace(BAGS, reading="auto"), keep_supports=False)
    assert (bare.reading, bare.filtered) == ("sets", False)
    assert "networks read it as bags, and test graphs by nodes with a kept tree" in made.report()
    assert "networks read it as sets, and test graphs by all nodes" in bare.report()
    assert Mirage().train.reading == "auto"


def test_the_reading_is_kept_in_the_file_and_both_train_on_it(small: TreeSummary, tmp_path: Path, real: Graphs) -> None:
    read = dd.load(small.save(tmp_path / "small"))
    assert isinstance(read, TreeSummary)
    assert read.recipe == small.recipe
    assert real.test is not None
    first, again = (TreeLearner().fit(s, 7).scores(real.test) for s in (small, read))
    assert torch.equal(first, again)
    assert not torch.equal(first, TreeLearner().fit(small, 8).scores(real.test))
    assert not torch.equal(first, TreeLearner().fit(small.with_recipe(reading="sets"), 7).scores(real.test))
    net_ = dd.train(small, "sage(width=8)")
    assert isinstance(net_, nn.Module)


def test_bags_train_towards_naive_bayes(real: Graphs) -> None:
    """Enough bags of enough trees give a network what naive Bayes reads in the same supports."""
    told = TreeRecipe(model="gin(width=16)", reading="bags", pool="sum", steps=150, lr=0.01, dropout=0.0)
    made = summary(real, told, budget_bytes=1500)
    task = BagTask(made, CPU)
    bags = task.bags(200, child(5, "test"))
    trained = TreeLearner().fit(made, 0).net
    logits = trained.head((bags.float() @ trained.roots(task._dag)).flatten(0, 1)).detach()
    labels = torch.arange(3).repeat_interleave(200)
    bayes = NaiveBayesLearner(smoothing=1e-9, prior="uniform").fit(made)
    scores = bayes.base + (bags > 0).double().flatten(0, 1) @ bayes.present
    best = float((scores.argmax(1) == labels).double().mean())
    assert best > 0.5
    assert float((logits.argmax(1) == labels).double().mean()) > best - 0.1


def test_refusals_and_their_ways_out(real: Graphs) -> None:
    with pytest.raises(InputError, match=r"`keep_supports` must be True for reading='bags'.*train with reading='sets'"):
        Mirage(keep_supports=False, train=BAGS)
    bare = summary(real, dataclasses.replace(BAGS, reading="sets"), keep_supports=False)
    with pytest.raises(InputError, match=r"`tree_support` must be kept, as reading='bags' reads .*keep_supports=True"):
        TreeLearner().fit(bare.with_recipe(reading="bags"), 0)
    TreeLearner().fit(bare, 0)
    with pytest.raises(InputError, match=r"`targets` must be `hard` for reading='bags'.*Read sets"):
        dataclasses.replace(BAGS, targets="soft")
    dataclasses.replace(BAGS, targets="soft", reading="sets")
    with pytest.raises(InputError, match="`reading` must be `auto` or `sets` or `bags`; got 'trees'"):
        TreeRecipe(reading="trees")


def test_bags_in_another_library_are_the_same_examples(small: TreeSummary) -> None:
    """A PyG loop that pools the rows of `root` by `count` has the embeddings of the reading, empty bags included."""
    bags, made = small.bags(3, child(3, "test")), net(small)
    bags[1, 0] = 0
    roots = made.roots(BagTask(small, CPU, DOUBLE)._dag)
    given = small.to_pyg(bags)
    assert [int(data.y) for data in given] == [0] * 3 + [1] * 3 + [2] * 3
    for data, bag in zip(given, bags.flatten(0, 1), strict=True):
        assert int(data.root.sum()) == int((bag > 0).sum())
        expected_ = (bag[:, None] * roots).sum(0)
        if not data.num_nodes:
            assert not bool(bag.any())
            continue
        codes = small.codes
        ones = torch.ones(data.num_nodes, codes.table.shape[1], dtype=torch.int64)
        rows = made.nodes(
            plain_graphs(ones[:, : codes.table.shape[1]], data.edge_index, _places(small, data.edge_attr))
        )
        pooled = (data.count[data.root].double()[:, None] * rows[data.root]).sum(0)
        torch.testing.assert_close(pooled, expected_, rtol=1e-6, atol=1e-8)


def _places(small: TreeSummary, values: Tensor) -> Tensor:
    """Raw edge features as the places that the networks embed."""
    known = small.codes.edge_values
    columns = [torch.searchsorted(k, values[:, j].contiguous()) + 1 for j, k in enumerate(known)]
    return torch.stack(columns, dim=1)
