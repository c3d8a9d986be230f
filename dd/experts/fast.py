"""Compiled steps for long expert runs: the same function with other rounding."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from dd.experts.smooth import PenaltyForm, gradient_penalty
from dd.inner import Student, compiler_present, worth_compiling
from dd.inner.fast import FastNet, Kernels, loss_gradient, penalty_gradient, supported
from dd.models.images.convnet import ConvNet

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(θ `[P]`, pictures `[N, C, H, W]`, labels `[N]`) → mean cross-entropy, differentiable once in θ."""

LONG_ENOUGH: Final = 200_000_000  # training pixels, all experts together; `torch.compile` takes 15 to 40 s

_log = logging.getLogger(__name__)


def long_enough(student: Student, images: int, size: tuple[int, int], device: str) -> bool:
    """Whether training on `images` pictures, all experts together, pays for a compilation."""
    if device == "cpu" and student.autocast is None and supported(student.module, size):
        return worth_compiling(student.module, size, images, device, "gradient")
    return images * size[0] * size[1] >= LONG_ENOUGH


def can_compile(student: Student) -> bool:
    """Whether `compiled_loss` knows the network and finds a compiler."""
    plain = isinstance(student.module, ConvNet) and not list(student.module.buffers())
    return plain and (student.initial.device.type != "cpu" or compiler_present())


def compiled_loss(student: Student) -> Loss | None:
    """`student.loss` compiled, or None where it cannot be: no compiler, or a network other than a plain ConvNet.

    Only structure is taken from `student`, so the function serves every expert of a recipe. It cannot be
    differentiated twice.
    """
    if not can_compile(student):
        return None
    loss: Loss = torch.compile(student.loss, dynamic=False)
    return loss


class Road:
    """Which loss a trainer uses; goes back to the student's own where the compiled one fails.

    Attributes:
        name: `eager` or `compiled`.
    """

    def __init__(self, wanted: bool, batch_size: int, make: Callable[[Student], Loss | None] = compiled_loss) -> None:
        self.name = "compiled" if wanted else "eager"
        self._batch_size, self._make = batch_size, make
        self._loss: Loss | None = None
        self._layers = wanted  # whether gradients go by the network's own layers

    def gradient(self, student: Student, theta: Tensor, x: Tensor, y: Tensor, factor: float = 1.0) -> Tensor:
        """∇_θ `[P]` of `factor` times the mean cross-entropy: by compiled layers that are known, else by `loss`."""
        if x.device.type == "cpu" and student.autocast is None and self._knows(student, x):
            try:
                return loss_gradient(FastNet(student, Kernels(True)), theta, x, y).mul_(factor)
            except Exception as error:
                self._gone(error, "gradient")
        leaf = theta.detach().requires_grad_()
        return torch.autograd.grad(self.loss(student, leaf, x, y) * factor, leaf)[0]

    def _knows(self, student: Student, x: Tensor) -> bool:
        one_shape = x.device.type == "cpu" or len(x) == self._batch_size  # elsewhere each is compiled anew
        known = self._layers and one_shape and can_compile(student)
        return known and supported(student.module, (x.shape[2], x.shape[3]))

    def _gone(self, error: Exception, what: str) -> None:
        cause = type(error.__cause__ or error).__name__
        _log.warning("the compiled %s failed (%s); training goes on without it.", what, cause)
        self._layers = False

    def loss(self, student: Student, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Mean cross-entropy; batches that are not full are not compiled, they would each be compiled anew."""
        if self.name == "eager" or len(x) != self._batch_size:
            return student.loss(theta, x, y)
        try:
            self._loss = self._loss or self._make(student)
            if self._loss is not None:
                return self._loss(theta, x, y)
        except Exception as error:
            _log.warning("the compiled loss failed (%s); training goes on without it.", type(error).__name__)
        self.name = "eager"
        return student.loss(theta, x, y)

    def penalty(self, student: Student, theta: Tensor, x: Tensor, y: Tensor, form: PenaltyForm) -> Tensor:
        """∇_θ `[P]` of `gradient_penalty`: by compiled tangents of known layers, else by autograd twice."""
        if self._knows(student, x):
            try:
                net = FastNet(student, Kernels(True, torch.get_num_threads()))
                return penalty_gradient(net, theta, x, y if form == "label" else None, form == "sample")[1]
            except Exception as error:
                self._gone(error, "penalty")
        leaf = theta.detach().requires_grad_()
        return torch.autograd.grad(gradient_penalty(student, leaf, x, y, form), leaf)[0]
