"""`train`: a fresh network on a synthetic set."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from dd.base.process import keeping_pages, under_own_settings
from dd.evaluation import NetworkLearner, check_own, fit, fresh, model_of
from dd.evaluation.fast import asked_forward
from dd.evaluation.nodes import NodeLearner
from dd.evaluation.trees import TreeLearner
from dd.run.load import load
from dd.run.resolve import resolve_device
from dd.synthetic import AnySet, need_set


@under_own_settings
@keeping_pages
def train(
    small: AnySet | str | Path,
    model: str | nn.Module | None = None,
    *,
    seed: int = 0,
    steps: int | None = None,
    lr: float | None = None,
    device: str | torch.device | None = None,
    compile: bool | None = None,
) -> nn.Module:
    """Train a fresh network on a synthetic set by the recipe that it carries; in eval mode.

    Args:
        small: a set or its path.
        model: a name, `tv:NAME`, `dd.Model`, a factory f(channels, classes, size), or an untrained module that is
            trained in place; `None` takes the one it was distilled for, if that is no network of yours. Of nodes a name
            or a factory f(features, classes); the network is called with a `dd.models.NodeInput`, or as PyG's are,
            with features scaled as the set's recipe says and `edge_index`.
        seed: of initialisation, order and augmentation.
        steps, lr: replace the recipe's.
        device: where to train.
        compile: of images, as in `dd.evaluate`.

    Raises:
        InputError: a network that does not give logits for the set's pictures and classes, or has nothing to train.
        DivergedError: the loss or a weight is not finite.
    """
    if isinstance(small, str | Path):
        small = load(small)
    small, target = need_set(small), resolve_device(device)
    if small.kind == "graphs":
        return TreeLearner(model=model, steps=steps, lr=lr, device=target).fit(small, seed).net
    if small.kind == "nodes":
        return NodeLearner(model=model, steps=steps, lr=lr, device=target).fit(small, seed).net
    learner = NetworkLearner(steps=steps, lr=lr)
    recipe = learner.recipe(small)
    if isinstance(model, nn.Module):
        check_own(model, small, seed)
        net = model
    else:
        net = fresh(small, model or model_of(recipe), seed, target)
    return fit(small, net.to(target), recipe, seed, target, asked_forward(compile))
