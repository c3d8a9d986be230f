"""The batch-norm statistics regulariser R of recovery: a batch's statistics against those that a teacher keeps."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Final, Literal, NamedTuple

import torch
from torch import Tensor, nn

from dd.errors import InputError, refuse
from dd.shapes import check_number

StatisticsNorm = Literal["sum", "layer", "channel"]
STATISTICS_NORMS: Final = ("sum", "layer", "channel")


class LayerGap(NamedTuple):
    """One batch norm that ran: its name, r (a scalar with its graph) and its number of channels."""

    name: str
    value: Tensor
    channels: int


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
        self._gaps: list[LayerGap] = []
        self._handles: list[Any] = []

    def __enter__(self) -> StatisticsMatch:
        self._handles.append(self._module.register_forward_pre_hook(lambda *_: self._gaps.clear()))
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
        def hook(layer: Any, args: tuple[Any, ...]) -> None:
            a: Tensor = args[0]
            over = [0, *range(2, a.dim())]
            variance, mean = torch.var_mean(a, over, correction=0)
            gap = torch.linalg.vector_norm(variance - layer.running_var)
            gap = gap + torch.linalg.vector_norm(mean - layer.running_mean)
            self._gaps.append(LayerGap(name, gap, a.shape[1]))

        return hook

    @property
    def gaps(self) -> list[LayerGap]:
        """The batch norms that ran in the last forward pass, in registration order."""
        return sorted(self._gaps, key=lambda gap: self._order[gap.name])

    def value(self) -> Tensor:
        """R of the last forward pass, a scalar with its graph.

        Raises:
            InputError: the teacher has not run inside the block.
        """
        gaps = self.gaps
        if not gaps:
            raise InputError("`StatisticsMatch.value` needs a forward pass of the teacher inside the `with` block.")
        weights = [self._first if gap.name == gaps[0].name else 1.0 for gap in gaps]
        scaled = [gap.value / gap.channels**0.5 if self._norm == "channel" else gap.value for gap in gaps]
        total = torch.stack([w * r for w, r in zip(weights, scaled, strict=True)]).sum()
        return total if self._norm == "sum" else total / max(sum(weights), 1e-12)


def keeps_statistics(layer: nn.Module) -> bool:
    """Whether the layer is a batch norm with running statistics."""
    return isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is not None
