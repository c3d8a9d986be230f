"""The batch-norm statistics regulariser R of recovery: a batch's statistics against those that a teacher keeps."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Final, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from dd.base.devices import moved
from dd.base.shapes import check_number
from dd.errors import InputError, refuse

StatisticsNorm = Literal["sum", "layer", "channel"]
STATISTICS_NORMS: Final = ("sum", "layer", "channel")


class LayerGap(NamedTuple):
    """One batch norm that ran: its name, r (a scalar with its graph) and its number of channels."""

    name: str
    value: Tensor
    channels: int


_CANCELS: Final = 16.0
"""Channels whose squared mean is more than that many variances are summed twice: once loses their digits."""


def batch_moments(a: Tensor) -> Tensor:
    """Mean and biased variance of each channel of a `[N, C, …]`: `[2, C]`.

    Single precision on a CPU takes one pass, ‖a‖² − n μ², and a second over the few channels where that cancels: on a
    CPU `torch.var_mean` takes ten times as long, and two passes three times.
    """
    rows = a.flatten(2) if a.dim() > 2 else a.unsqueeze(2)
    each = 1 / (rows.shape[0] * rows.shape[2])
    mean = rows.sum((0, 2)) * each

    def about_mean(channels: Tensor, centre: Tensor) -> Tensor:
        return F.mse_loss(channels, centre.view(-1, 1).expand_as(channels), reduction="none").sum((0, 2)) * each

    if a.dtype != torch.float32 or a.device.type != "cpu":
        return torch.stack([mean, about_mean(rows, mean)])
    norms = torch.linalg.vector_norm(rows, dim=2)
    variance = norms.square().sum(0) * each - mean.square()
    cancelled = (mean.square() > _CANCELS * variance).nonzero().flatten()  # also where rounding made it negative
    if len(cancelled):
        variance[cancelled] = about_mean(rows[:, cancelled], mean[cancelled])
    return torch.stack([mean, variance])


class _Statistics(torch.autograd.Function):
    """(y, mean and biased variance a channel of a batch norm's input a `[N, C, …]`).

    y is what the frozen batch norm made of a, an affine map of each channel with the given slopes, or a itself where
    `slopes` is `None` and the batch norm comes after. Of n values a channel, the gradient g of the mean and h of the
    variance add (g + 2 h (a − μ)) / n to what comes back through y. One affine map of a and one fused
    multiply-add do it all, less than the batch norm's own derivative costs.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, y: Tensor, slopes: Tensor | None) -> tuple[Tensor, Tensor]:
        moments = batch_moments(a)
        ctx.save_for_backward(a, moments[0], slopes)
        if slopes is not None:
            ctx.mark_dirty(y)  # not written to, but handed on: the next layer may work in place
        return y, moments

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_moments: Tensor) -> tuple[Tensor, None, None]:
        a, mean, slopes = ctx.saved_tensors
        of_mean, of_variance = grad_moments * (a.shape[1] / a.numel())
        slope = 2 * of_variance
        grad = F.batch_norm(a, mean, torch.ones_like(mean), slope, of_mean, eps=0.0)
        if slopes is None:
            return grad.add_(grad_y), None, None
        return grad.addcmul_(grad_y, slopes.view(-1, *[1] * (a.dim() - 2))), None, None


class _Ran(NamedTuple):
    """A batch norm that ran: its name, its batch's statistics and those it keeps, `[2, C]`."""

    name: str
    batch: Tensor
    kept: Tensor


class StatisticsMatch:
    """Watches the inputs of a teacher's batch norms while it runs.

    `with StatisticsMatch(teacher) as match: logits = teacher(x); loss = … + match.value()`. With a the input of batch
    norm l over a batch, μ and v its mean and **biased** variance a channel, μ̂ and σ̂² the running ones:

        r_l = ‖v − σ̂²‖₂ + ‖μ − μ̂‖₂,    R = Σ_l w_l r_l,    w = `first` for the first layer, else 1.

    First is the first in registration order among those that ran: a batch norm that is never executed (the expansion
    of EfficientNet's first block) has no part in it. The norms are plain, not squared; their gradient at 0 is 0.
    The hooks are removed when the block ends. Each forward pass starts anew; a layer that runs twice counts twice.

    Args:
        module: the teacher, in eval mode: it normalises by its running statistics while the regulariser sees the
            batch's own.
        first: w of the first layer; the papers have 10.
        norm: `sum` as published; `layer` divides R by Σ w, so that deep and shallow members weigh alike; `channel`
            divides each r by the square root of its channels as well: r grows with them.

    Raises:
        InputError: a teacher without batch norms that keep statistics, one in training mode, or a bad option.
    """

    def __init__(self, module: nn.Module, first: float = 10.0, norm: StatisticsNorm = "sum") -> None:
        check_number(first, "first", low=0.0)
        if norm not in STATISTICS_NORMS:
            raise refuse("norm", "`sum`, `layer` or `channel`", repr(norm))
        self._layers = {name: part for name, part in module.named_modules() if keeps_statistics(part)}
        if not self._layers:
            raise refuse(
                "teacher",
                "a network with batch norms that keep running statistics",
                type(module).__name__,
                "Use a batch-norm variant such as `convnet(norm=batch)`, or a method without recovery.",
            )
        if module.training:
            raise refuse("teacher", "in eval mode", "a module in training mode", "Call `.eval()`.")
        self._module, self._first, self._norm = module, first, norm
        self._order = {name: i for i, name in enumerate(self._layers)}
        self._ran: list[_Ran] = []
        self._input: Tensor | None = None
        self._handles: list[Any] = []

    def __enter__(self) -> StatisticsMatch:
        self._handles.append(self._module.register_forward_pre_hook(lambda *_: self._ran.clear()))
        for name, layer in self._layers.items():
            if _is_affine(layer):
                self._handles.append(layer.register_forward_pre_hook(self._hold_input))
                self._handles.append(layer.register_forward_hook(self._watch_output(name)))
            else:
                self._handles.append(layer.register_forward_pre_hook(self._watch_input(name)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._input = None

    def _keep(self, name: str, layer: Any, batch: Tensor) -> None:
        self._ran.append(_Ran(name, batch, torch.stack([layer.running_mean, layer.running_var])))

    def _watch_input(self, name: str) -> Any:
        """A batch norm whose own derivative is needed: the statistics' is added in front of it."""

        def hook(layer: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
            a, batch = _Statistics.apply(args[0], args[0].detach(), None)
            self._keep(name, layer, batch)
            return (a, *args[1:])

        return hook

    def _watch_output(self, name: str) -> Any:
        """A frozen batch norm, which has run without a graph: both derivatives in one."""

        def hook(layer: Any, args: tuple[Any, ...], y: Tensor) -> Tensor:
            slopes = (layer.running_var + layer.eps).rsqrt()
            slopes = slopes if layer.weight is None else layer.weight * slopes
            y, batch = _Statistics.apply(self._input, y, slopes)
            self._keep(name, layer, batch)
            return y

        return hook

    def _hold_input(self, layer: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        self._input = args[0]
        return (args[0].detach(), *args[1:])

    def _values(self) -> tuple[list[_Ran], Tensor]:
        """What ran in the last forward pass, in registration order, and the r of each, `[L]`."""
        ran = sorted(self._ran, key=lambda one: self._order[one.name])
        if not ran:
            raise InputError("`StatisticsMatch` needs a forward pass of the teacher inside the `with` block.")
        gaps = torch.cat([one.batch for one in ran], dim=1) - torch.cat([one.kept for one in ran], dim=1)
        layer = moved(torch.repeat_interleave(torch.tensor([one.batch.shape[1] for one in ran])), gaps.device)
        squares = gaps.new_zeros(2, len(ran)).index_add(1, layer, gaps.square())
        apart = squares > 0  # the root has no derivative at 0: there the norm is a constant
        norms = torch.where(apart, torch.where(apart, squares, 1.0).sqrt(), 0.0)
        return ran, norms.sum(0)

    @property
    def gaps(self) -> list[LayerGap]:
        """The batch norms that ran in the last forward pass, in registration order.

        Raises:
            InputError: the teacher has not run inside the block.
        """
        ran, values = self._values()
        return [LayerGap(one.name, value, one.batch.shape[1]) for one, value in zip(ran, values, strict=True)]

    def value(self) -> Tensor:
        """R of the last forward pass, a scalar with its graph.

        Raises:
            InputError: the teacher has not run inside the block.
        """
        ran, values = self._values()
        weights = [self._first if one.name == ran[0].name else 1.0 for one in ran]
        scale = [w / one.batch.shape[1] ** 0.5 for w, one in zip(weights, ran, strict=True)]
        factors = torch.tensor(scale if self._norm == "channel" else weights, dtype=values.dtype)
        total = values @ moved(factors, values.device)
        return total if self._norm == "sum" else total / max(sum(weights), 1e-12)


def keeps_statistics(layer: nn.Module) -> bool:
    """Whether the layer is a batch norm with running statistics."""
    return isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is not None


def _is_affine(layer: nn.Module) -> bool:
    """Whether the layer is torch's own batch norm, frozen: timm's have activations inside, others learn."""
    own = type(layer) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    return own and not any(p.requires_grad for p in layer.parameters())
