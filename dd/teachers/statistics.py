"""The batch-norm statistics regulariser R of recovery: a batch's statistics against those that a teacher keeps."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Final, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from dd.errors import InputError, refuse
from dd.shapes import check_number

StatisticsNorm = Literal["sum", "layer", "channel"]
STATISTICS_NORMS: Final = ("sum", "layer", "channel")


class LayerGap(NamedTuple):
    """One batch norm that ran: its name, r (a scalar with its graph) and its number of channels."""

    name: str
    value: Tensor
    channels: int


class _Statistics(torch.autograd.Function):
    """(a, its mean and biased variance a channel `[2, C]`) of a batch norm's input a `[N, C, …]`.

    With n values a channel, the gradient g of the mean and h of the variance add (g + 2 h (a − μ)) / n to what comes
    back through a. By hand, since on a CPU `torch.var_mean` takes ten times as long as two passes of sums, and with its
    derivative took a third of recovery's time.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor) -> tuple[Tensor, Tensor]:
        over, each = [0, *range(2, a.dim())], a.shape[1] / a.numel()
        mean = a.sum(over, keepdim=True).mul_(each)
        variance = F.mse_loss(a, mean.expand_as(a), reduction="none").sum(over).mul_(each)
        ctx.save_for_backward(a, mean)
        return a.view_as(a), torch.stack([mean.flatten(), variance])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_a: Tensor, grad_statistics: Tensor) -> Tensor:
        a, mean = ctx.saved_tensors
        scaled = grad_statistics * (a.shape[1] / a.numel())
        of_mean, of_variance = scaled.view(2, 1, -1, *[1] * (a.dim() - 2))
        slope = 2 * of_variance
        return torch.addcmul(grad_a, a, slope).add_(of_mean - slope * mean)


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
        self._handles: list[Any] = []

    def __enter__(self) -> StatisticsMatch:
        self._handles.append(self._module.register_forward_pre_hook(lambda *_: self._ran.clear()))
        for name, layer in self._layers.items():
            self._handles.append(layer.register_forward_pre_hook(self._watch(name)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _watch(self, name: str) -> Any:
        def hook(layer: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
            a, batch = _Statistics.apply(args[0])
            self._ran.append(_Ran(name, batch, torch.stack([layer.running_mean, layer.running_var])))
            return (a, *args[1:])

        return hook

    def _values(self) -> tuple[list[_Ran], Tensor]:
        """What ran in the last forward pass, in registration order, and the r of each, `[L]`."""
        ran = sorted(self._ran, key=lambda one: self._order[one.name])
        if not ran:
            raise InputError("`StatisticsMatch` needs a forward pass of the teacher inside the `with` block.")
        gaps = torch.cat([one.batch for one in ran], dim=1) - torch.cat([one.kept for one in ran], dim=1)
        channels = torch.tensor([one.batch.shape[1] for one in ran], device=gaps.device)
        layer = torch.repeat_interleave(channels)
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
        total = values @ values.new_tensor(scale if self._norm == "channel" else weights)
        return total if self._norm == "sum" else total / max(sum(weights), 1e-12)


def keeps_statistics(layer: nn.Module) -> bool:
    """Whether the layer is a batch norm with running statistics."""
    return isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is not None
