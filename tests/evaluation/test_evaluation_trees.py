"""Training on a summary of trees: the same as on the graphs where it must be; sampling, stopping, naive Bayes."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from reference.trees import levels_by_hand, match_by_hand, random_graphs, summary_by_hand
from torch import Tensor, nn

from dd.base.seeding import child
from dd.data.graphs.codes import Codes, fit_codes
from dd.data.graphs.graphs import GraphSplit
from dd.errors import DivergedError, InputError
from dd.evaluation import (
    GraphLearner,
    GraphTask,
    NaiveBayesLearner,
    TreeLearner,
    TreeTask,
    encode,
    graphs,
    pool,
    weighted_loss,
)
from dd.models import GNNS, GraphModel, GraphNet, build_graph_net, plain_graphs
from dd.synthetic import TreeRecipe, TreeSummary

CPU = torch.device("cpu")
DOUBLE = torch.float64


def split(seed: int = 0, count: int = 6, classes: int = 2, **options: Any) -> tuple[GraphSplit, Codes]:
    sizes = [5 + (3 * i) % 4 for i in range(count)]
    made = random_graphs(seed, sizes, features=(2, 2), edge_features=(2,), classes=classes, **options)
    return made, fit_codes(made)


def chosen(recipe: TreeRecipe | None = None, seed: int = 0) -> tuple[TreeSummary, GraphSplit]:
    """A summary of depth 1 of six patterns over the trees that most graphs hold, and its training graphs."""
    real, _ = split(seed, 10)
    codes = fit_codes(real, "constant")
    _, ids = levels_by_hand(real, codes, 1)
    held = [set(ids[1][real.graph == g].tolist()) for g in range(len(real))]
    common = sorted(range(int(ids[1].max()) + 1), key=lambda t: -sum(t in bag for bag in held))
    sets = []
    for k in (0, 1):
        own = [bag for bag, label in zip(held, real.labels.tolist(), strict=True) if label == k]
        sets += [(k, s) for s in (common[:1], common[:2], common[1:2], common[2:3]) if any(set(s) <= b for b in own)]
    assert len(sets) >= 5
    return summary_by_hand(real, codes, 1, sets, recipe=recipe), real


def net(kind: str, codes: Codes, classes: int = 2, **options: Any) -> nn.Module:
    given = {"node_sizes": codes.sizes, "edge_sizes": codes.edge_sizes, "classes": classes, "depth": 2, "seed": 3}
    return build_graph_net(kind, dtype=DOUBLE, **given | options).eval()


def number(value: Tensor) -> float:
    return float(value.detach())


def gradient(loss: Tensor, made: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(made.parameters())))


# ----------------------------------------------------------------------------------------------------- invariants


@pytest.mark.parametrize("balance", ["uniform", "class"])
@pytest.mark.parametrize("pooling", ["msum", "mmean"])
@pytest.mark.parametrize("kind", sorted(GNNS))
def test_every_graph_as_a_pattern_trains_as_the_graphs(kind: str, pooling: str, balance: str) -> None:
    """Invariant 12: θ = 0 and multiplicities kept give the loss and the gradient of the graphs."""
    real, codes = split()
    recipe = TreeRecipe(pool=pooling, balance=balance)
    small = summary_by_hand(real, codes, 2, leaf_degree=True, recipe=recipe)
    made = net(kind, codes)
    on_trees = TreeTask(small, CPU, DOUBLE).loss(made)
    on_graphs = GraphTask(real, codes, 2, recipe, CPU, DOUBLE).loss(made)
    torch.testing.assert_close(on_trees, on_graphs, rtol=0, atol=1e-10)
    for a, b in zip(gradient(on_trees, made), gradient(on_graphs, made), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def test_and_trains_to_the_same_network() -> None:
    real, codes = split()
    told = {"reading": "sets", "pool": "msum", "balance": "uniform", "dropout": 0.0, "steps": 5, "lr": 0.01}
    recipe = TreeRecipe(model="gin(width=8)", **told)
    small = summary_by_hand(real, codes, 2, recipe=recipe)
    first = TreeLearner().fit(small, 1)
    second = GraphLearner(recipe=recipe, depth=2).fit(real, codes, 2, 1)
    torch.testing.assert_close(first.scores(real), second.scores(real), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("pooling", "factor"), [("sum", 2.0), ("mean", 1.0)])
def test_pooling_of_a_graph_and_its_copy(pooling: str, factor: float) -> None:
    """Invariant 13: the mean is that of one graph, the sum doubles; by definition for weights."""
    real, codes = split(count=1)
    twice = GraphSplit(
        torch.cat([real.x] * 2),
        torch.cat([real.edge_index, real.edge_index + real.num_nodes], dim=1),
        torch.cat([real.edge_attr] * 2),
        torch.tensor([0, 2 * real.num_nodes]),
        real.labels,
    )
    made = net("gin", codes)
    one, two = (encode(s, codes).parts[0].to(CPU, DOUBLE).pooled(made, pooling) for s in (real, twice))
    torch.testing.assert_close(two, factor * one, rtol=1e-12, atol=1e-12)


def test_pooling_by_definition() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], dtype=DOUBLE)
    group, weights = torch.tensor([0, 0, 2]), torch.tensor([1.0, 3.0, 0.5])
    assert pool(x, group, 3, "sum").tolist() == [[4, 6], [0, 0], [5, 6]]
    assert pool(x, group, 3, "mean").tolist() == [[2, 3], [0, 0], [5, 6]]
    assert pool(x, group, 3, "sum", weights).tolist() == [[10, 14], [0, 0], [2.5, 3]]
    assert pool(x, group, 3, "mean", weights).tolist() == [[2.5, 3.5], [0, 0], [5, 6]]


@pytest.mark.parametrize("pooling", ["sum", "mean", "msum", "mmean"])
def test_logits_of_patterns_by_a_loop(pooling: str) -> None:
    small, _ = chosen(TreeRecipe(pool=pooling))
    made = net("gin", small.codes, depth=1)
    task = TreeTask(small, CPU, DOUBLE)
    roots = made.roots(task._dag)
    for p, logits in enumerate(task.logits(made)):
        trees = small.trees(p)
        counts = small.pattern_count[small.pattern_ptr[p] : small.pattern_ptr[p + 1]].double().tolist()
        if not pooling.startswith("m") or pooling == "mean":
            counts = [1.0] * len(trees)
        pooled = sum((n * roots[t] for n, t in zip(counts, trees, strict=True)), torch.zeros_like(roots[0]))
        pooled = pooled / sum(counts) if "mean" in pooling else pooled
        torch.testing.assert_close(logits, made.head(pooled[None])[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("balance", ["support", "class", "uniform"])
@pytest.mark.parametrize("targets", ["hard", "soft"])
def test_the_loss_by_definition(balance: str, targets: str) -> None:
    small, _ = chosen(TreeRecipe(balance=balance, targets=targets))
    made = net("gat", small.codes, depth=1)
    task = TreeTask(small, CPU, DOUBLE)
    total = 0.0
    for p, logits in enumerate(task.logits(made).detach()):
        own = [int(small.support[q, small.labels[q]]) for q in range(len(small))]
        same = [f for f, k in zip(own, small.labels.tolist(), strict=True) if k == int(small.labels[p])]
        weight = {"support": own[p] / sum(own), "class": own[p] / sum(same) / 2, "uniform": 1 / len(small)}[balance]
        share = [int(s) / int(n) for s, n in zip(small.support[p], small.graphs, strict=True)]
        y = [s / sum(share) for s in share] if targets == "soft" else [float(k == small.labels[p]) for k in range(2)]
        log_p = [float(v - logits.logsumexp(0)) for v in logits]
        total -= weight * sum(a * b for a, b in zip(y, log_p, strict=True))
    assert number(task.loss(made)) == pytest.approx(total, abs=1e-10)


def test_the_sampled_loss_is_the_exact_one_on_average() -> None:
    """Invariant 19: by expectation over the draws of one pattern, and by frequencies."""
    small, _ = chosen(TreeRecipe(balance="support", targets="soft"))
    made = net("gin", small.codes, depth=1)
    task = TreeTask(small, CPU, DOUBLE)
    logits = task.logits(made)
    single = [weighted_loss(logits, task.targets, row) for row in torch.eye(len(small), dtype=DOUBLE)]
    assert number(sum(w * one for w, one in zip(task.weights, single, strict=True))) == pytest.approx(
        number(task.loss(made)), abs=1e-12
    )
    n = 40_000
    drawn = number(task.sampled_loss(made, n, child(0, "test")))
    values = torch.stack(single).detach()
    exact = number(task.loss(made))
    spread = float((task.weights * (values - exact) ** 2).sum().sqrt()) / math.sqrt(n)
    assert abs(drawn - exact) < 5 * spread
    rows = torch.bincount(torch.multinomial(task.weights, n, replacement=True, generator=child(0, "test")))
    by_rows = float((rows.double() / n * values).sum())
    assert drawn == pytest.approx(by_rows, abs=1e-12)
    assert float(((rows - n * task.weights) ** 2 / (n * task.weights)).sum()) < 30  # chi-square, a few dozen at most


def test_sampled_graphs_are_the_exact_loss_on_average() -> None:
    real, codes = split()
    task = GraphTask(real, codes, 2, TreeRecipe(balance="class", sampling="proportional"), CPU, DOUBLE)
    made = net("sage", codes)
    n = 20_000
    rows = torch.multinomial(task.weights, n, replacement=True, generator=child(0, "test"))
    logits = torch.cat([part.to(CPU, DOUBLE).pooled(made, "sum") for part in encode(real, codes).parts])
    losses = -(task.targets * made.head(logits).log_softmax(1)).sum(1)
    assert number(task.sampled_loss(made, n, child(0, "test"))) == pytest.approx(number(losses[rows].mean()), abs=1e-9)
    assert number(task.loss(made)) == pytest.approx(number((task.weights * losses).sum()), abs=1e-10)


# ------------------------------------------------------------------------------------------------------- training


FAST = TreeRecipe(model="gin(width=8)", steps=12, lr=0.01)


@pytest.mark.parametrize("sampling", ["exact", "proportional"])
@pytest.mark.parametrize("kind", sorted(GNNS))
def test_equal_seeds_give_equal_networks_and_leave_the_stream_alone(kind: str, sampling: str) -> None:
    small, real = chosen(dataclasses.replace(FAST, sampling=sampling, batch_size=4))
    learner = TreeLearner(model=f"{kind}(width=8)")
    before = torch.random.get_rng_state()
    first, again, other = (learner.fit(small, seed).scores(real) for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.dtype == DOUBLE
    torch.testing.assert_close(first.exp().sum(1), torch.ones(len(real), dtype=DOUBLE))


def test_looking_at_validation_graphs_changes_nothing() -> None:
    small, real = chosen(FAST)
    seen = TreeLearner(every=1).fit(small, 1, real)
    assert torch.equal(seen.scores(real), TreeLearner().fit(small, 1).scores(real))


def test_training_lowers_the_loss() -> None:
    small, _ = chosen(dataclasses.replace(FAST, steps=60, dropout=0.0, targets="soft"))
    short, long = (TreeLearner(steps=steps).fit(small, 0) for steps in (1, 60))
    task = TreeTask(small, CPU)
    assert number(task.loss(long.net)) < number(task.loss(short.net))


@pytest.mark.parametrize("metric", ["auroc", "accuracy"])
def test_early_stopping_keeps_the_best_step_of_the_one_training(metric: str) -> None:
    small, real = chosen(dataclasses.replace(FAST, steps=23, dropout=0.5))
    val, _ = split(9, 10)
    last = TreeLearner(every=5, metric=metric).fit(small, 4, val)
    figures = {s: TreeLearner(steps=s).fit(small, 4).score(val, metric) for s in (5, 10, 15, 20, 23)}
    assert last.best is not None
    assert (last.step, last.val) == (23, figures[23])
    assert (last.best.step, last.best.val) == (max(figures, key=lambda s: (figures[s], -s)), max(figures.values()))
    assert last.best.score(val, metric) == last.best.val
    assert torch.equal(last.best.scores(real), TreeLearner(steps=last.best.step).fit(small, 4).scores(real))
    assert TreeLearner().fit(small, 4).best is None


def test_recipe_is_the_summarys_unless_told() -> None:
    small, _ = chosen(FAST)
    learner = TreeLearner(model="sage", steps=3, lr=0.5)
    assert (learner.recipe(small).steps, learner.recipe(small).lr, learner.name(small)) == (3, 0.5, "sage")
    assert TreeLearner().recipe(small) == FAST
    assert TreeLearner().name(small) == "gin(width=8)"


def test_scores_do_not_depend_on_the_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    small, real = chosen(FAST)
    trained = TreeLearner().fit(small, 0)
    whole = trained.scores(real)
    assert len(encode(real, small.codes).parts) == 1
    monkeypatch.setattr(graphs, "NODES_AT_ONCE", 13)
    many = trained.encode(real)
    assert len(many.parts) > 3
    torch.testing.assert_close(trained.scores(many), whole, rtol=0, atol=1e-6)
    monkeypatch.setattr(graphs, "NODES_AT_ONCE", 1)
    assert [part.size for part in encode(real, small.codes).parts] == [1] * len(real)


def test_filtered_pooling_by_a_loop() -> None:
    small, real = chosen(dataclasses.replace(FAST, filtered=True, pool="mean"))
    trained = TreeLearner().fit(small, 0)
    kept = match_by_hand(small, real) >= 0
    assert bool(kept.any())
    assert not bool(kept.all())
    fields = plain_graphs(small.codes.node_fields(real), real.edge_index, small.codes.edge_fields(real))
    nodes = trained.net.nodes(fields)
    for g, row in enumerate(trained.scores(real)):
        own = real.graph == g
        rows = nodes[own & kept] if bool((own & kept).any()) else nodes[own]
        expected = trained.net.head(rows.mean(0, keepdim=True)).double().log_softmax(1)[0]
        torch.testing.assert_close(row, expected.detach(), rtol=0, atol=1e-6)
    with pytest.raises(InputError, match="kept trees are unknown"):
        trained.scores(encode(real, small.codes))


def test_more_than_two_classes() -> None:
    real, codes = split(count=9, classes=3)
    small = summary_by_hand(real, codes, 1, classes=3, recipe=FAST)
    trained = TreeLearner().fit(small, 0, real)
    assert trained.scores(real).shape == (9, 3)
    assert 0 <= trained.score(real) <= 1
    assert trained.best is not None


def test_users_factory() -> None:
    def mine(node_sizes: Any, edge_sizes: Any, classes: int, layers: int) -> nn.Module:
        return GraphNet(node_sizes, edge_sizes, classes, kind="sage", layers=layers, width=4)

    small, real = chosen(FAST)
    learner = TreeLearner(model=GraphModel(mine, "mine"))
    assert learner.name(small) == "mine"
    assert torch.equal(learner.fit(small, 0).scores(real), TreeLearner(model=mine).fit(small, 0).scores(real))


def test_refusals() -> None:
    small, real = chosen(FAST)
    one_class = real.subset((real.labels == 0).nonzero()[:, 0])
    with pytest.raises(InputError, match="`layers` must be at most 1, the depth of the trees; got 3"):
        TreeLearner(model="gin(layers=3)").fit(small, 0)
    with pytest.raises(InputError, match=r"got none of class 1\. AUROC needs every class in the split"):
        TreeLearner().fit(small, 0, one_class)
    with pytest.raises(InputError, match="none of class 1"):
        TreeLearner().fit(small, 0).score(one_class)
    with pytest.raises(InputError, match="unknown metric 'f1'"):
        TreeLearner(metric="f1").fit(small, 0, real)
    with pytest.raises(InputError, match="`every` must be a whole number"):
        TreeLearner(every=0).fit(small, 0, real)
    with pytest.raises(InputError, match="at least one graph"):
        GraphLearner(recipe=FAST, depth=1).fit(real.subset(torch.zeros(0, dtype=torch.int64)), small.codes, 2, 0)
    with pytest.raises(DivergedError, match="training diverged"):
        TreeLearner(lr=1e30).fit(small, 0)
    with pytest.raises(DivergedError, match="training diverged"):
        TreeLearner(lr=1e30).fit(small, 0, real)


# ---------------------------------------------------------------------------------------------------- naive Bayes


@pytest.mark.parametrize("prior", ["graphs", "uniform"])
@pytest.mark.parametrize("smoothing", [1.0, 0.25])
def test_naive_bayes_by_a_loop(prior: str, smoothing: float) -> None:
    small, real = chosen()
    trees = match_by_hand(small, real)
    found = NaiveBayesLearner(smoothing=smoothing, prior=prior).fit(small).scores(real)
    for g in range(len(real)):
        held = set(trees[real.graph == g].tolist())
        joint = []
        for k in range(2):
            n = int(small.graphs[k])
            total = math.log(n / int(small.graphs.sum())) if prior == "graphs" else 0.0
            for r, support in enumerate(small.tree_support[:, k].tolist()):
                p = (support + smoothing) / (n + 2 * smoothing)
                total += math.log(p if r in held else 1 - p)
            joint.append(total)
        norm = math.log(sum(math.exp(v) for v in joint))
        assert found[g].tolist() == pytest.approx([v - norm for v in joint], abs=1e-10)


@pytest.mark.parametrize("leaf_degree", [False, True])
@pytest.mark.parametrize("directed", [False, True])
def test_kept_trees_are_found_in_other_graphs(directed: bool, leaf_degree: bool) -> None:
    """With labels that were not seen, isolated nodes, and leaves told apart by degree or not."""
    options: dict[str, Any] = {"features": (2,), "directed": directed, "probability": 0.2}
    real, other = random_graphs(1, (6, 7, 5), **options), random_graphs(2, (8, 6, 7), **options | {"features": (3,)})
    small = summary_by_hand(real, fit_codes(real), 2, leaf_degree=leaf_degree)
    learner = NaiveBayesLearner()
    for given in (real, other):
        by_hand = match_by_hand(small, given)
        assert torch.equal(learner.encode(small, given).trees, by_hand)
        assert bool((by_hand >= 0).any())
    assert bool((by_hand < 0).any())


def test_naive_bayes_reads_graphs_encoded_once() -> None:
    small, real = chosen()
    learner = NaiveBayesLearner()
    trained = learner.fit(small)
    assert torch.equal(trained.scores(learner.encode(small, real)), trained.scores(real))
    assert trained.score(learner.encode(small, real)) == trained.score(real)
    assert torch.equal(learner.encode(small, real).trees, match_by_hand(small, real))
    with pytest.raises(InputError, match="kept trees are unknown"):
        trained.scores(encode(real, small.codes))
    empty = dataclasses.replace(small, graphs=torch.tensor([5, 0]))
    with pytest.raises(InputError, match="at least one training graph of every class; got none of class 1"):
        learner.fit(empty)
    with pytest.raises(InputError, match="`smoothing` must be above 0"):
        NaiveBayesLearner(smoothing=0)
    with pytest.raises(InputError, match="`prior` must be `graphs` or `uniform`"):
        NaiveBayesLearner(prior="class")
