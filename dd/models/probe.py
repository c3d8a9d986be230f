"""What a network does, told from outside: whether it fits the data, its size, whether rows of a batch are alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn

from dd.base.seeding import isolated
from dd.errors import DDError, refuse
from dd.models.images.convnet import Size

_SINGLE: Final = "more than 1 value per channel"
"""How torch tells that a batch norm has no statistics."""


def check_network(
    net: nn.Module, name: str, channels: int, classes: int, size: Size, way_out: str, train: bool = False
) -> None:
    """Refuse a network that does not map two black pictures to logits `[2, classes]`; leaves its modes as they were.

    Args:
        net: the network, on any device.
        name: how the message calls it.
        channels, classes, size: of the data.
        way_out: where the logits are others.
        train: whether it is asked in train mode as well, where some networks answer with a tuple; its buffers are kept.

    Raises:
        InputError: it raises an error, or answers something else.
    """
    like = next((p for p in net.parameters() if p.dtype.is_floating_point), torch.zeros(()))
    images = torch.zeros(2, channels, *size, dtype=like.dtype, device=like.device)
    with torch.no_grad(), _same_modes(net):
        _check_logits(net.eval(), images, name, classes, way_out, "")
        if train:
            with _same_buffers(net):
                _check_logits(net.train(), images, name, classes, way_out, " in train mode")


@contextmanager
def no_single_values(argument: str, name: str) -> Iterator[None]:
    """Refuse a batch of one picture for batch norms on maps of one pixel, which torch tells as a `ValueError`.

    Args:
        argument: what says the size of the batch.
        name: of the network.

    Raises:
        InputError: that.
    """
    try:
        yield
    except ValueError as error:
        if _SINGLE not in str(error):
            raise
        expected = "such that no batch is a single picture, where batch norms see maps of one pixel"
        way_out = "Give more pictures to a batch, larger ones, or a network without batch norms."
        raise refuse(argument, expected, f"one picture for {name}", way_out) from error


def takes_one(net: nn.Module, channels: int, size: Size) -> bool:
    """Whether a network in train mode takes a batch of one picture, which batch norms on maps of one pixel refuse.

    A network without batch norms is not asked. It is left as it was, and so is the global stream.
    """
    if not any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in net.modules()):
        return True
    like = next((p for p in net.parameters() if p.dtype.is_floating_point), torch.zeros(()))
    with torch.no_grad(), _same_modes(net), _same_buffers(net), isolated(0, "layers", device=like.device):
        try:
            net.train()(torch.zeros(1, channels, *size, dtype=like.dtype, device=like.device))
        except ValueError as error:
            return _SINGLE not in str(error)
    return True


def check_there(net: nn.Module, name: str) -> None:
    """Refuse a network that has shapes and no numbers.

    Raises:
        InputError: a parameter or buffer on the device "meta".
    """
    if empty := [key for key, value in (*net.named_parameters(), *net.named_buffers()) if value.is_meta]:
        way_out = "Make it on a real device: `.to_empty(device=…)`, then load its weights."
        raise refuse("model", "a network with weights", f"{name}, whose {empty[0]} is on the device meta", way_out)


def _check_logits(net: nn.Module, images: Tensor, name: str, classes: int, way_out: str, mode: str) -> None:
    try:
        out = net(images)
    except DDError:
        raise
    except Exception as error:
        cause = (str(error).splitlines() or [""])[0]
        expected = f"a network that takes pictures {list(images.shape[1:])}{mode}"
        other = "Choose another model, or resize the pictures."
        raise refuse("model", expected, f"{name}: {type(error).__name__}: {cause}", other) from error
    got = f"shape {list(out.shape)}" if isinstance(out, Tensor) else f"a {type(out).__name__}"
    if not isinstance(out, Tensor) or out.shape != (2, classes):
        expected = f"a network that gives logits [2, {classes}] for two pictures{mode}"
        raise refuse("model", expected, f"{got} from {name}", way_out)


@contextmanager
def _same_modes(net: nn.Module) -> Iterator[None]:
    """Train and eval modes of every part are after the block what they were before it."""
    modes = [(module, module.training) for module in net.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def _same_buffers(net: nn.Module) -> Iterator[None]:
    """Buffers are after the block the same tensors with the same values."""
    kept = [
        (module, name, buffer, buffer.clone())
        for module in net.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    try:
        yield
    finally:
        for module, name, buffer, value in kept:
            buffer.copy_(value)
            setattr(module, name, buffer)


def count_parameters(module: nn.Module) -> int:
    """P, the number of parameters, frozen ones included; buffers such as running means are none."""
    return sum(p.numel() for p in module.parameters())


def uses_batch_stats(module: nn.Module) -> bool:
    """Whether a row of the output, in the modes as they are now, depends on the other rows or on chance.

    True for batch norm that normalises with its batch (in train mode, or without running statistics) and for
    active dropout or stochastic depth. A batch may be split into micro-batches exactly only if this is False.
    Known by layer types and by the usual names of a rate; a function that draws on its own is not seen.
    """
    return any(_mixes(layer) for layer in module.modules())


def _mixes(layer: nn.Module) -> bool:
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        return layer.training or layer.running_mean is None
    if not layer.training:
        return False
    if isinstance(layer, nn.RReLU):
        return True
    dropout = isinstance(layer, nn.modules.dropout._DropoutNd) or type(layer).__name__ == "StochasticDepth"
    names = ("p",) if dropout else ("dropout", "attention_dropout", "drop_prob", "drop_rate")
    rates = [getattr(layer, name, None) for name in names]
    return any(isinstance(rate, int | float) and rate > 0 for rate in rates)
