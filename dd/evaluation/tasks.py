"""What a graph network is trained on, patterns of trees or real graphs, and the one loop that trains it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, final

import torch
from torch import Tensor, nn

from dd.base.seeding import child, isolated
from dd.data.graphs.codes import Codes
from dd.data.graphs.graphs import GraphSplit
from dd.errors import DivergedError
from dd.evaluation.graphs import encode, encode_part, pool
from dd.models import rooted, tree_dag
from dd.synthetic.tree_bags import Bags
from dd.synthetic.tree_recipe import TreeRecipe
from dd.synthetic.trees import TreeSummary


def weighted_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """−Σ_S w_S Σ_k y_Sk log softmax(logits_S)_k, a scalar; logits and targets `[P, K]`, weights `[P]`."""
    return -(weights * (targets * logits.log_softmax(1)).sum(1)).sum()


class Task(Protocol):
    """Weighted examples and the loss of a network on them."""

    def step_loss(self, net: nn.Module, recipe: TreeRecipe, generator: torch.Generator) -> Tensor:
        """The loss of one step: E_{S ~ p}[CE(logits(S), y_S)], exactly or by examples drawn from `generator`."""
        ...


@final
class TreeTask:
    """A summary as examples: P patterns on one DAG, with targets `[P, K]` and weights `[P]` by its recipe.

    Args:
        small: the summary.
        device: where the network is.
        dtype: of its parameters.
    """

    def __init__(self, small: TreeSummary, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        codes, pooling = small.codes, small.recipe.pool
        self._dag = tree_dag(small.levels, small.leaf_degree, codes.table, codes.edge_table).to(device, dtype)
        self._tree, self._pattern = small.pattern_tree.to(device), small.pattern_of.to(device)
        self._count = small.pattern_count.to(device, dtype) if pooling in ("msum", "mmean") else None
        self._how = small.recipe.readout
        self.targets, self.weights = small.targets().to(device, dtype), small.weights().to(device, dtype)

    def logits(self, net: nn.Module) -> Tensor:
        """Logits `[P, K]` of all patterns: the roots on the DAG, pooled over the trees of each pattern."""
        roots = rooted(net).roots(self._dag).index_select(0, self._tree)
        return rooted(net).head(pool(roots, self._pattern, len(self.weights), self._how, self._count))

    def loss(self, net: nn.Module) -> Tensor:
        """E_{S ~ p}[CE(logits(S), y_S)], exactly."""
        return weighted_loss(self.logits(net), self.targets, self.weights)

    def sampled_loss(self, net: nn.Module, n: int, generator: torch.Generator) -> Tensor:
        """The mean over `n` patterns drawn with probability p(S), with replacement: `loss` in expectation."""
        return weighted_loss(self.logits(net), self.targets, _shares(_draw(self.weights, n, generator), self.weights))

    def step_loss(self, net: nn.Module, recipe: TreeRecipe, generator: torch.Generator) -> Tensor:
        """`loss`, or with `sampling="proportional"` `sampled_loss`."""
        return self.loss(net) if recipe.sampling == "exact" else self.sampled_loss(net, recipe.batch_size, generator)


@final
class BagTask:
    """A summary as bags of trees, drawn afresh for every step: pseudo-graphs of the size of real ones.

    Embeddings pool those of the roots of a bag's trees, targets are the classes that bags are drawn of; see `Bags`.

    Args:
        small: the summary. `balance="class"` lets classes weigh alike, any other by their training graphs; `sum` and
            `mean` take a tree once, `msum` and `mmean` m_rk times.
        device: where the network is.
        dtype: of its parameters.

    Raises:
        InputError: a summary without the supports of its trees.
    """

    def __init__(self, small: TreeSummary, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        codes, recipe = small.codes, small.recipe
        self._bags = Bags(small, weighted=recipe.pool in ("msum", "mmean"))
        self._dag = tree_dag(small.levels, small.leaf_degree, codes.table, codes.edge_table).to(device, dtype)
        self._how, graphs = recipe.readout, small.graphs.double()
        share = (graphs > 0).double() if recipe.balance == "class" else graphs
        self.weights = (share / share.sum()).to(device, dtype)

    def bags(self, each: int, generator: torch.Generator) -> Tensor:
        """`each` bags of every class: float64 `[K, each, R]`, on the CPU."""
        return self._bags.draw(each, generator)

    def loss_of(self, net: nn.Module, bags: Tensor) -> Tensor:
        """Σ_k w_k mean over the bags of class k of the cross-entropy, a scalar; `bags` as of `bags`."""
        roots = rooted(net).roots(self._dag)
        held = bags.to(roots)
        pooled = held @ roots
        if self._how == "mean":
            mass = held.sum(2, keepdim=True)
            pooled = pooled / torch.where(mass > 0, mass, 1)
        logits = rooted(net).head(pooled.flatten(0, 1)).view(*pooled.shape[:2], -1)
        own = logits.log_softmax(2)[torch.arange(len(logits)), :, torch.arange(len(logits))]
        return -(self.weights * own.mean(1)).sum()

    def sampled_loss(self, net: nn.Module, n: int, generator: torch.Generator) -> Tensor:
        """The loss on ⌈n / K⌉ fresh bags of every class, in expectation that over all bags."""
        return self.loss_of(net, self.bags(-(-n // len(self.weights)), generator))

    def step_loss(self, net: nn.Module, recipe: TreeRecipe, generator: torch.Generator) -> Tensor:
        """`sampled_loss`: there are 2^R bags."""
        return self.sampled_loss(net, recipe.batch_size, generator)


@final
class GraphTask:
    """Real graphs as examples, N of them, pooled over all their nodes.

    Args:
        split: the graphs.
        codes: what features mean.
        classes: K.
        recipe: `balance="class"` lets classes weigh alike, any other lets graphs; `readout` is the pooling.
        device: where the network is.
        dtype: of its parameters.
    """

    def __init__(
        self,
        split: GraphSplit,
        codes: Codes,
        classes: int,
        recipe: TreeRecipe,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._split, self._codes, self._how = split, codes, recipe.readout
        self._device, self._dtype = device, dtype
        self._whole = encode(split, codes) if recipe.sampling == "exact" else None
        sizes = torch.bincount(split.labels, minlength=classes).double()
        share = 1 / (sizes[split.labels] * (sizes > 0).sum()) if recipe.balance == "class" else 1 / sizes.sum()
        self.weights = (share * torch.ones(len(split), dtype=torch.float64)).to(device, dtype)
        self.targets = nn.functional.one_hot(split.labels, classes).to(device, dtype)

    def loss(self, net: nn.Module) -> Tensor:
        """E_{G ~ p}[CE(logits(G), y_G)], exactly."""
        whole = self._whole or encode(self._split, self._codes)
        pooled = [part.to(self._device, self._dtype).pooled(net, self._how) for part in whole.parts]
        return weighted_loss(rooted(net).head(torch.cat(pooled)), self.targets, self.weights)

    def sampled_loss(self, net: nn.Module, n: int, generator: torch.Generator) -> Tensor:
        """The mean over `n` graphs drawn with probability p(G), with replacement; only these go through the network."""
        rows, times = _draw(self.weights, n, generator).unique(return_counts=True)
        part = encode_part(self._split.subset(rows), self._codes).to(self._device, self._dtype)
        logits = rooted(net).head(part.pooled(net, self._how))
        return weighted_loss(logits, self.targets[rows.to(self._device)], times.to(self.weights) / n)

    def step_loss(self, net: nn.Module, recipe: TreeRecipe, generator: torch.Generator) -> Tensor:
        """`loss`, or with `sampling="proportional"` `sampled_loss`."""
        return self.loss(net) if recipe.sampling == "exact" else self.sampled_loss(net, recipe.batch_size, generator)


def _draw(weights: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """`n` rows drawn by weight with replacement, int64 `[n]`, on the CPU."""
    return torch.multinomial(weights.double().cpu(), n, replacement=True, generator=generator)


def _shares(rows: Tensor, weights: Tensor) -> Tensor:
    """Share of each of the rows that `weights` counts, among those drawn."""
    return torch.bincount(rows, minlength=len(weights)).to(weights) / len(rows)


def train_on(
    task: Task,
    net: nn.Module,
    recipe: TreeRecipe,
    seed: int,
    after: Callable[[int], None] = lambda step: None,
) -> nn.Module:
    """Train `net` in place for exactly `recipe.steps` steps of Adam; leaves it in eval mode.

    Args:
        task: what it is trained on.
        net: a fresh network, on the device of the task.
        recipe: steps, lr, weight decay and sampling.
        seed: of the streams "sample" (patterns or bags drawn) and "layers" (dropout); the global stream is left as it
            was.
        after: called with the number of steps made, after each.

    Raises:
        DivergedError: the loss or a parameter stopped being finite.
    """
    optimizer = torch.optim.Adam(net.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    loss = torch.zeros(())
    with isolated(seed, "layers", device=next(net.parameters()).device):  # dropout takes the global stream
        for step in range(recipe.steps):
            net.train()
            loss = task.step_loss(net, recipe, child(seed, "sample", step))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            net.eval()
            after(step + 1)
    if not all(bool(torch.isfinite(t).all()) for t in (loss, *net.parameters(), *net.buffers())):
        raise diverged(recipe)
    return net


def diverged(recipe: TreeRecipe) -> DivergedError:
    """The error of a training that stopped being finite."""
    return DivergedError(f"training diverged (lr {recipe.lr:g}, {recipe.steps} steps). Give a lower `lr`.")
