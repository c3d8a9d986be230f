"""What one outer iteration asks of an engine, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dd.errors import refuse
from dd.inner.student import Student
from dd.transforms.dsa import Draw


@dataclass(frozen=True)
class InnerStep:
    """One student step: the synthetic images it sees (`index` int64 `[b]`) and their augmentation draw."""

    index: Tensor
    draw: Draw


@dataclass(frozen=True)
class Target:
    """A matching point: after `step` student steps θ should be `theta` `[P]`; its ratio counts `weight` times."""

    step: int
    theta: Tensor
    weight: float = 1.0


@dataclass(frozen=True)
class Problem:
    """`L(x, y, β) = Σ_k w_k ‖θ_{s_k} − θ*_k‖² / ‖θ_0 − θ*_k‖²` with heavy-ball student steps
    `v_i = μ v_{i−1} + g_i`, `θ_{i+1} = θ_i − β v_i`, `g_i = ∇_θ ℓ(θ_i; A_i(x[B_i]), y[B_i])`.

    Attributes:
        student: the network as a function of θ.
        theta: θ_0 `[P]`.
        targets: matching points, at least one; MTT has one, at step N.
        images: x `[n, C, H, W]` in model space.
        labels: y int64 `[n]`, or probabilities `[n, K]` (then their gradient is given too).
        lr: β, a scalar tensor.
        steps: B_i and A_i for i = 0…N−1.
        momentum: μ in [0, 1).
        gradient: `exact`, or `detached`: every g_i is taken at a constant θ_i, so that Hessian terms are dropped;
            what TESLA computes (its released code takes half of it for the images).
        truncate: K, the last steps whose graph counts: g_i of the earlier ones are constants, as AST's code has it, so
            that they have no part in the gradients of x and y, but β still multiplies them. `None` or K ≥ N is all.
        labels_constant: soft labels that get no gradient.
    """

    student: Student
    theta: Tensor
    targets: Sequence[Target]
    images: Tensor
    labels: Tensor
    lr: Tensor
    steps: Sequence[InnerStep]
    momentum: float = 0.0
    gradient: Literal["exact", "detached"] = "exact"
    truncate: int | None = None
    labels_constant: bool = False

    def __post_init__(self) -> None:
        if not self.steps:
            raise refuse("steps", "at least one student step", 0)
        if not self.targets:
            raise refuse("targets", "at least one matching point", 0)
        if self.gradient not in ("exact", "detached"):
            raise refuse("gradient", "`exact` or `detached`", repr(self.gradient))
        if self.truncate is not None and self.truncate < 1:
            raise refuse("truncate", "None or at least 1", self.truncate)
        for target in self.targets:
            if not 1 <= target.step <= len(self.steps):
                raise refuse("target.step", f"in 1…{len(self.steps)}, the student steps", target.step)
        for theta in (self.theta, *(t.theta for t in self.targets)):
            if theta.shape != (self.student.size,):
                raise refuse("theta", f"[P] with P = {self.student.size}", list(theta.shape))
        if not all(bool(self._apart(target) > 0) for target in self.targets):  # here, since it waits for a GPU
            raise refuse("target", "different from the start", "equal parameters", "The buffer repeats a snapshot.")

    @property
    def soft(self) -> bool:
        """Whether the labels are probabilities."""
        return self.labels.dtype != torch.int64

    @property
    def wants_labels(self) -> bool:
        """Whether the labels' gradient is asked for."""
        return self.soft and not self.labels_constant

    @property
    def first(self) -> int:
        """The first step whose g_i is differentiated: 0, or N − K of `truncate`."""
        return 0 if self.truncate is None else max(0, len(self.steps) - self.truncate)

    def scale(self, target: Target) -> Tensor:
        """`w / ‖θ_0 − θ*‖²` of a matching point."""
        return target.weight / self._apart(target)

    def _apart(self, target: Target) -> Tensor:
        return (self.theta - target.theta).detach().square().sum()


@dataclass(frozen=True)
class Matching:
    """An engine's answer: L, its gradients and the student's end point θ_N `[P]`."""

    loss: Tensor
    images: Tensor
    lr: Tensor
    labels: Tensor | None
    theta: Tensor
