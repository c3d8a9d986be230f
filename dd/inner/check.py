"""Whether a network can be a student: one function of θ and x, whose second derivative autograd gets right."""

from __future__ import annotations

import random
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from dd.base.seeding import child, isolated
from dd.errors import refuse
from dd.inner.student import Student

_STEPS: Final = (1e-8, 1e-9, 1e-10)
"""h of the differences, as a share of the weights. Rounding leaves them 1e-16 / h of relative error; a kink (ReLU, max
pooling) between θ − hv and θ + hv spoils one, and is the rarer the smaller h is."""
_TOLERANCE: Final = 1e-3
"""Relative error of a weight's part of the second derivative: 1e-5 is rounding, a wrong formula gives 1e-2 or more."""
_SPREAD: Final = 10.0
"""A wrong derivative is off by more than so many times what the differences of the two sides are apart."""
_ALONE: Final = 1e-3
"""Scores of a picture with and without others differ by less, as a share of the largest: by rounding."""
_SMALL: Final = 1e-3
"""A part shorter than this share of the whole (by root mean square) is compared with the whole."""

LARGEST: Final = 20_000_000
"""Weights up to which the second derivative is compared; of more, that it exists must do (129 million take
minutes)."""
WAY_OUT: Final = "Use layers whose backward pass can be differentiated, or another model."


def check_student(student: Student, x: Tensor, y: Tensor, name: str) -> None:
    """Refuse a network through whose training no exact gradient can be taken. Four pictures do: a batch norm of two
    is nearly a step.

    Two passes must give the same scores, draw no random numbers and change no buffer. The double backward pass of the
    adjoint must exist. In float64, and up to `LARGEST` weights, it must agree with differences of the gradient: along
    one v, for every weight and the pictures, ∂⟨v, ∇_θ ℓ⟩ against (∇ℓ(θ + hv) − ∇ℓ(θ − hv)) / 2h. How far the
    differences ahead and behind are apart says how far they can be trusted; only what two h contradict, which agree,
    is refused.

    Args:
        student: the network, on its device.
        x: pictures `[N, C, H, W]` in model space, noise for choice: black areas lie on the kinks of a ReLU.
        y: int64 `[N]`.
        name: how the message calls it.

    Raises:
        InputError: with what was seen, and the way out.
        Exception: what the network or autograd raises: the dtype is not the network's, or there is no double backward.
    """
    theta, scale = _somewhere(student)
    with isolated(0, "check", device=x.device):
        _check_pass(student, theta, x, name)
        _check_second(student, theta, scale, x, y, name)


@torch.no_grad()
def scores_alone(student: Student, x: Tensor) -> bool:
    """Whether the scores of a picture are the same whatever pictures are beside it: only then may a step be split.

    It is seen by what the network does, so that a norm over the batch that is no layer counts too.

    Args:
        student: the network, on its device.
        x: pictures `[N, C, H, W]` in model space, N ≥ 2, noise for choice.
    """
    theta, _ = _somewhere(student)
    with isolated(0, "check", device=x.device):
        whole = student.logits(theta, x)
        parts = torch.cat([student.logits(theta, part) for part in x.split(-(-len(x) // 2))])
    return bool(((whole - parts).abs() <= _ALONE * whole.abs().max()).all())


def _somewhere(student: Student) -> tuple[Tensor, Tensor]:
    """(θ away from zeros, where derivatives vanish, and the typical size of each weight), both `[P]`."""
    scale = torch.cat([_typical(p).expand(p.numel()) for p in student.views(student.initial).values()])
    return student.initial + 0.1 * scale * _noise(student.initial, child(0, "check")), scale


def _typical(part: Tensor) -> Tensor:
    """Root mean square of a weight, 0.1 where it is all zero; a scalar."""
    size = part.square().mean().sqrt()
    return torch.where(size > 0, size, torch.full_like(size, 0.1))


def _noise(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like)


def _streams() -> tuple[Any, ...]:
    """The states of the global random streams, as values that compare."""
    cuda = [tuple(s.tolist()) for s in torch.cuda.get_rng_state_all()] if torch.cuda.is_available() else []
    kind, keys, *rest = np.random.get_state()
    return torch.get_rng_state().numpy().tobytes(), cuda, random.getstate(), kind, np.asarray(keys).tobytes(), rest


@torch.no_grad()
def _check_pass(student: Student, theta: Tensor, x: Tensor, name: str) -> None:
    first = student.logits(theta, x)  # a first pass may still fill a cache
    streams, buffers = _streams(), {k: v.clone() for k, v in student.module.named_buffers()}
    second = student.logits(theta, x)
    changed = [k for k, v in student.module.named_buffers() if k not in buffers or not torch.equal(v, buffers[k])]
    exact = torch.finfo(first.dtype).eps ** 0.5
    if streams != _streams():
        seen = "draws random numbers in a pass"
        way_out = "Make it a layer nn.Dropout, which students leave out, or give it the rate 0."
    elif changed:
        seen = f"changes `{changed[0]}` in a pass"
        way_out = "Leave out layers that keep something from pass to pass, such as spectral norm."
    elif not torch.allclose(first, second, rtol=exact, atol=exact * float(first.abs().max()), equal_nan=True):
        seen = "gives other scores at a second pass"
        way_out = "Leave out what it keeps from pass to pass."
    else:
        return
    expected = "a function of its weights and pictures alone, since a trajectory is matched through its training"
    raise refuse("model", expected, f"{name}, which {seen}", way_out)


def _gradient(student: Student, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """∇ℓ in θ and x, `[P + N·C·H·W]`."""
    leaf, pictures = theta.detach().requires_grad_(), x.detach().requires_grad_()
    return _flat(torch.autograd.grad(student.loss(leaf, pictures, y), [leaf, pictures], **_UNUSED))


def _flat(parts: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([part.detach().reshape(-1) for part in parts])


_UNUSED: Final[dict[str, Any]] = {"allow_unused": True, "materialize_grads": True}


def _double(student: Student, theta: Tensor, x: Tensor, y: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """(∇ℓ, ∂⟨v, ∇_θ ℓ⟩) in θ and x, by the adjoint's double backward pass."""
    leaf, pictures = theta.detach().requires_grad_(), x.detach().requires_grad_()
    loss = student.loss(leaf, pictures, y)
    first = torch.autograd.grad(loss, [leaf, pictures], create_graph=True, **_UNUSED)
    second = torch.autograd.grad(torch.dot(first[0], v), [leaf, pictures], **_UNUSED)
    return _flat(first), _flat(second)


def _check_second(student: Student, theta: Tensor, scale: Tensor, x: Tensor, y: Tensor, name: str) -> None:
    v = scale * _noise(theta, child(0, "check", "along"))
    here, second = _double(student, theta, x, y, v)
    if theta.dtype != torch.float64 or student.size > LARGEST:
        return  # differences are too rough, or too dear
    sizes, suspects = [*student.sizes, x.numel()], dict[str, Tensor]()
    for h in _STEPS:
        ahead = (_gradient(student, theta + h * v, x, y) - here) / h
        behind = (here - _gradient(student, theta - h * v, x, y)) / h
        whole, before, unsure = float(ahead.square().mean().sqrt()), suspects, False
        suspects = {}
        parts = zip(second.split(sizes), ahead.split(sizes), behind.split(sizes), strict=True)
        for place, (found, a, b) in zip((*student.names, "the pictures"), parts, strict=True):
            centre = (a + b) / 2
            unit = max(float(centre.norm()), _SMALL * whole * centre.numel() ** 0.5) or 1.0
            spread, error = float((a - b).norm()) / unit, float((found - centre).norm()) / unit
            if not spread < _TOLERANCE:
                unsure = True
            elif not error <= max(_TOLERANCE, _SPREAD * spread):
                suspects[place] = centre
                if place in before and float((centre - before[place]).norm()) / unit < 0.1 * error:
                    raise _wrong(name, place, error)
        if not (suspects or unsure):
            return


def _wrong(name: str, place: str, error: float) -> Exception:
    way_out = WAY_OUT
    if place.endswith(("weight_v", "weight_g", "original0", "original1")):
        way_out = (
            "The second derivative of torch's weight_norm is wrong: leave it out, or write g·v/‖v‖ yourself by "
            "torch.nn.utils.parametrize."
        )
    expected = "a network whose second derivative is that of its gradient"
    return refuse("model", expected, f"{name}, where that of {place} is off by {100 * error:.0f} %", way_out)
