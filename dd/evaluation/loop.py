"""The one loop that trains fresh networks on a synthetic set, and the test that follows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor, nn

from dd.base.devices import moved
from dd.base.seeding import child, child_seed, isolated
from dd.data import Split
from dd.errors import DivergedError, refuse
from dd.evaluation.fast import Forward, plain_forward, usual_forward
from dd.evaluation.optim import distillation_loss, make_optimizer, mixed, smoothed_cosine
from dd.evaluation.real import Trainable
from dd.models import AnyModel, as_spec, build, check_network, check_there, no_single_values, takes_one
from dd.synthetic import TrainRecipe
from dd.transforms.whiten import Transform

TEST_BATCH = 500


def fresh(small: Trainable, model: AnyModel, seed: int, device: torch.device) -> nn.Module:
    """A network for the set's shape and classes, initialised from the stream of `seed`."""
    net = build(
        model,
        channels=small.channels,
        classes=len(small.classes),
        size=small.size,
        seed=child_seed(seed, "network"),
    )
    _check_trainable(net, str(as_spec(model)))
    return net.to(device)


def check_own(net: nn.Module, small: Trainable, seed: int) -> None:
    """Refuse a user's module that cannot be trained on the set; it is left as it was, and so is the global stream.

    Raises:
        InputError: no logits `[n, K]` for the set's pictures, in train or in eval mode, or every weight is frozen or of
            inference mode.
    """
    name, classes = type(net).__name__, len(small.classes)
    _check_trainable(net, name)
    way_out = f"Give it {classes} outputs, and wrap it so that it returns the logits alone."
    with isolated(seed, "check", device=next(net.parameters()).device):
        check_network(net, name, small.channels, classes, small.size, way_out, train=True)


def _check_trainable(net: nn.Module, name: str) -> None:
    check_there(net, name)
    if not any(p.requires_grad for p in net.parameters()):
        got = f"{name}, all frozen" if any(True for _ in net.parameters()) else f"{name}, which has none"
        raise refuse("model", "a network with weights to train", got, "Call `.requires_grad_(True)`.")
    if any(t.is_inference() for t in (*net.parameters(), *net.buffers())):
        way_out = "Give a copy, made outside it: `copy.deepcopy(model)`."
        raise refuse("model", "a network made outside `torch.inference_mode`", f"{name}, made inside", way_out)


def fit(
    small: Trainable,
    net: nn.Module,
    recipe: TrainRecipe,
    seed: int,
    device: torch.device,
    forward: Forward | None = None,
) -> nn.Module:
    """Train `net` on the set for exactly `recipe.steps` optimiser steps, in place; `forward` makes its logits.

    `None` is `usual_forward`: on a CPU a long training of a ConvNet goes by built kernels, to other last digits.

    With the schedule `drop`, after `drop_at` of the steps lr is multiplied by `drop_factor` and the optimiser is made
    anew: the published protocol does, and so loses its momentum buffer.

    A batch of one picture, which remains of an epoch, is left out where batch norms on maps of one pixel refuse it.

    Raises:
        DivergedError: the loss or a parameter stopped being finite.
        InputError: batches of one picture, for a network whose batch norms need more.
    """
    net.train()
    dsa = recipe.dsa()
    drop = max(1, round(recipe.steps * recipe.drop_at))
    optimizer = make_optimizer(net, recipe, recipe.lr)
    shown = recipe.steps * min(recipe.batch_size, len(small))
    forward = forward or usual_forward(net, shown, small.size, device)
    loss = torch.zeros(())
    alone = no_single_values("batch_size", "this network")
    with alone, isolated(seed, "layers", device=device):  # dropout takes the global stream
        for step, (given, y) in enumerate(islice(_batches(small, net, recipe, seed), recipe.steps)):
            if recipe.schedule == "cosine":
                for group in optimizer.param_groups:
                    group["lr"] = recipe.lr * smoothed_cosine(step / recipe.steps, recipe.eta)
            elif step == drop:
                optimizer = make_optimizer(net, recipe, recipe.lr * recipe.drop_factor)
            x = dsa.draw(len(given), small.size, child(seed, "draw", step))(moved(given, device))
            x, y = mixed(x, moved(y, device), recipe, child(seed, "mix", step))
            x = x.clone() if x is given else x  # a network may write into its pictures, and these are the set's
            optimizer.zero_grad(set_to_none=True)
            loss = accumulate(net, x, y, recipe, min(recipe.batch_size, len(small)), forward)
            optimizer.step()
    # The last loss does not see the last step, and a network of NaN would quietly score as the first class.
    if not all(bool(torch.isfinite(t).all()) for t in (loss, *net.parameters(), *net.buffers())):
        raise DivergedError(
            f"training on the synthetic set diverged (lr {recipe.lr:g}, {recipe.steps} steps). "
            "Give a lower `lr`, or lr='tuned'."
        )
    return net.eval()


def accumulate(
    net: nn.Module, x: Tensor, y: Tensor, recipe: TrainRecipe, batch: int, forward: Forward = plain_forward
) -> Tensor:
    """Add the gradients of a batch, micro-batch by micro-batch; returns what they are the gradients of.

    Micro-batches are those of a full `batch`: a short one has fewer of them, each with a full one's weight 1 / A.
    """
    size = -(-batch // recipe.accumulate) if recipe.accumulate > 1 else len(x)
    total = torch.zeros((), device=x.device)
    for images, labels in zip(x.split(size), y.split(size), strict=True):
        loss = distillation_loss(forward(net, images), labels, recipe) / recipe.accumulate
        loss.backward()
        total = total + loss.detach()
    return total


def _batches(small: Trainable, net: nn.Module, recipe: TrainRecipe, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Epochs without end. A batch of one picture beside larger ones is left out where the network cannot take it."""
    epoch, larger, takes = 0, False, True
    while True:
        for x, y in small.batches(recipe.batch_size, child(seed, "order", epoch)):
            if len(x) > 1:
                larger = True
            elif larger and takes:
                takes = takes_one(net, x.shape[1], small.size)
            if takes or len(x) > 1:
                yield x, y
        epoch += 1


@torch.no_grad()
def logits(net: nn.Module, split: Split, transform: Transform, device: torch.device) -> Tensor:
    """Outputs of `net` in eval mode on real images, float32 `[N, K]`, on the CPU; images transformed as the set's."""
    net.eval()
    parts = []
    for _, pixels in split.stream(torch.arange(len(split)).split(TEST_BATCH)):
        parts.append(net(transform.forward(moved(pixels, device))).float().cpu())
    return torch.cat(parts)


@torch.no_grad()
def accuracy(net: nn.Module, split: Split, transform: Transform, device: torch.device) -> float:
    """Share of `split` that `net` classifies correctly; images are transformed as the set's own."""
    net.eval()
    right = 0
    for rows, pixels in split.stream(torch.arange(len(split)).split(TEST_BATCH)):
        x = transform.forward(moved(pixels, device))
        right += int((net(x).argmax(1).cpu() == split.labels[rows]).sum())
    return right / len(split)
