"""`dd.adversarial`: networks trained on the set, under attack by FGSM and PGD in the L∞ ball, in pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Unpack, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dd.base.markup import Told
from dd.base.process import under_own_settings
from dd.base.seeding import child
from dd.base.shapes import as_list, check, check_number, check_whole
from dd.data import Split
from dd.errors import refuse
from dd.measure.bench import AnyImageSet, Options, open_bench, some_rows
from dd.measure.values import Values, table
from dd.run.keep import kept
from dd.transforms.whiten import Transform


def pixel_gradient(net: nn.Module, transform: Transform, x: Tensor, y: Tensor) -> Tensor:
    """Gradient of the summed cross-entropy of net(transform(x)) by pixels, like `x`; parameters get none."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        loss = F.cross_entropy(net(transform.forward(x)), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x)
    return gradient


def fgsm(net: nn.Module, transform: Transform, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """clip(x + ε sign ∇ₓ loss) to [0, 1]: the fast gradient sign method (Goodfellow, Shlens and Szegedy, ICLR 2015).

    Args:
        net: in eval mode, since a batch norm in train mode would mix the images.
        transform: pixels → model space.
        x: pixels in [0, 1], `[N, C, H, W]`.
        y: classes, int64 `[N]`.
        eps: ε in pixel units, 8/255 is the custom; in [0, 1].

    Returns:
        Pixels in [0, 1], at most ε from `x` each.

    Raises:
        InputError: another shape, ε outside [0, 1], a network in train mode.
    """
    _check(net, x, y, eps)
    return (x + eps * pixel_gradient(net, transform, x, y).sign()).clamp(0, 1)


def pgd(
    net: nn.Module,
    transform: Transform,
    x: Tensor,
    y: Tensor,
    eps: float,
    *,
    steps: int = 10,
    step_size: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Projected gradient ascent by the sign (Madry et al., ICLR 2018).

        x_{t+1} = clip(x_t + α sign ∇ loss(x_t)) to the ball of ε around x, and to [0, 1].

    Args:
        net, transform, x, y, eps: as in `fgsm`.
        steps: gradient steps.
        step_size: α in pixel units; `None`: 2.5 ε / steps, but at most ε.
        generator: draws the start uniformly in the ball; `None` starts from `x`, and then one step of α = ε is FGSM.

    Returns:
        Pixels in [0, 1], at most ε from `x` each.

    Raises:
        InputError: as `fgsm`; a step size below 0.
    """
    _check(net, x, y, eps)
    check_whole(steps, "steps")
    alpha = min(eps, 2.5 * eps / steps) if step_size is None else check_number(step_size, "step_size", 0)
    low, high = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
    now = x.detach()
    if generator is not None:
        now = x + eps * (2 * torch.rand(x.shape, generator=generator, dtype=x.dtype).to(x.device) - 1)
        now = torch.minimum(torch.maximum(now, low), high)
    for _ in range(steps):
        now = now + alpha * pixel_gradient(net, transform, now, y).sign()
        now = torch.minimum(torch.maximum(now, low), high)
    return now


def _check(net: nn.Module, x: Tensor, y: Tensor, eps: float) -> None:
    check(x, "x", "N C H W")
    check(y, "y", "N", N=len(x))
    if not check_number(eps, "eps", 0) <= 1:
        raise refuse("eps", "in [0, 1], in units of pixels in [0, 1]", eps, "8/255 is customary.")
    if net.training:
        raise refuse("net", "in eval mode", "one in train mode", "Call `net.eval()`.")


def attacked_accuracy(
    net: nn.Module,
    transform: Transform,
    split: Split,
    eps: float,
    *,
    attack: str = "pgd",
    steps: int = 10,
    step_size: float | None = None,
    generator: torch.Generator | None = None,
    device: torch.device | None = None,
    batch: int = 250,
) -> float:
    """Share of a split that is still classified correctly after an attack, a fraction; `net` is left in eval mode.

    Args:
        net, transform, eps, steps, step_size, generator: as in `pgd`.
        split: real images with their classes.
        attack: `fgsm`, `pgd` or `none`.
        device: where `net` is; the CPU.
        batch: images at once.

    Raises:
        InputError: as `pgd`; another attack.
    """
    if attack not in ("fgsm", "pgd", "none"):
        raise refuse("attack", "`fgsm`, `pgd` or `none`", repr(attack))
    net.eval()
    device = torch.device("cpu") if device is None else device
    right = 0
    for rows, pixels in split.stream(torch.arange(len(split)).split(batch)):
        x, y = pixels.to(device), split.labels[rows].to(device)
        if attack == "fgsm":
            x = fgsm(net, transform, x, y, eps)
        elif attack == "pgd":
            x = pgd(net, transform, x, y, eps, steps=steps, step_size=step_size, generator=generator)
        with torch.no_grad():
            right += int((net(transform.forward(x)).argmax(1) == y).sum())
    return right / len(split)


EPS: Final = (2 / 255, 8 / 255)
"""Radii in pixel units that papers report."""


@final
@dataclass(frozen=True, kw_only=True)
class AttackedRow:
    """Accuracy (fractions) under one attack with radius `eps` in pixel units."""

    attack: str
    eps: float
    accuracy: Values


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class Adversarial(Told):
    """What `dd.adversarial` answers; `print` is a table.

    Attributes:
        rows: first without attack, then by attack and radius.
        steps: of PGD.
        images: test images.
        dataset, method, model, origin: what was measured, and where.
    """

    rows: tuple[AttackedRow, ...]
    steps: int
    images: int
    dataset: str
    method: str
    model: str
    origin: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Every figure as JSON-able values."""
        return {
            "measure": "adversarial",
            "dataset": self.dataset,
            "method": self.method,
            "model": self.model,
            "norm": "Linf",
            "steps": self.steps,
            "images": self.images,
            "rows": [{"attack": r.attack, "eps": r.eps, "accuracy": r.accuracy.to_json()} for r in self.rows],
            "origin": dict(self.origin),
        }

    def __str__(self) -> str:
        rows = [(r.attack, f"{255 * r.eps:.3g}", r.accuracy.text(), str(r.accuracy.n)) for r in self.rows]
        head = f"{self.method} on {self.dataset}, {self.model}: {self.images} test images, PGD of {self.steps} steps"
        return "\n".join([head, *table(("attack", "eps · 255", "accuracy %", "n"), rows)])


@under_own_settings
@kept("adversarial")
def adversarial(
    small: AnyImageSet,
    data: object,
    *,
    eps: Sequence[float] = EPS,
    attack_steps: int = 10,
    step_size: float | None = None,
    random_start: bool = True,
    images: int = 1000,
    **options: Unpack[Options],
) -> Adversarial:
    """Accuracy of networks trained on the set when every test image is moved against them, at most ε a pixel.

    White box: the attacker has the network and the set's transform. See `fgsm` and `pgd` for the equations.

    Args:
        small: an image set, its file or its run folder.
        data: as in `dd.evaluate`.
        eps: radii in L∞, in units of pixels in [0, 1].
        attack_steps, step_size: of PGD.
        random_start: PGD starts at a random point of the ball.
        images: at most so many test images, drawn at random.
        **options: see `dd.measure.bench.Options`.

    Returns:
        Accuracies without attack, under FGSM and under PGD, each with mean, sample std and n over networks.

    Raises:
        InputError: a radius outside [0, 1], or another argument out of range.
        DivergedError: a training is not finite.
    """
    eps = as_list(eps)
    for radius in eps:
        if not check_number(radius, "eps", 0) <= 1:
            raise refuse("eps", "in [0, 1], in units of pixels in [0, 1]", radius, "8/255 is customary.")
    check_whole(attack_steps, "attack_steps")
    bench = open_bench(small, data, **options)
    split = some_rows(bench.test, images, bench.seed, "attacked")
    asked = [("none", 0.0), *((attack, radius) for attack in ("fgsm", "pgd") for radius in eps)]
    found: dict[tuple[str, float], list[float]] = {key: [] for key in asked}
    for i, trained in enumerate(bench.networks()):
        for place, (attack, radius) in enumerate(asked):
            start = child(bench.seed, "start", i) if random_start else None
            value = attacked_accuracy(
                trained.net,
                trained.small.ready_transform(),
                split,
                radius,
                attack=attack,
                steps=attack_steps,
                step_size=step_size,
                generator=start,
                device=bench.learner.device,
            )
            found[attack, radius].append(value)
            bench.progress(i * len(asked) + place + 1, bench.repeats * len(asked), f"{attack} {100 * value:.1f} %")
    rows = tuple(AttackedRow(attack=a, eps=e, accuracy=Values(tuple(v))) for (a, e), v in found.items())
    return Adversarial(rows=rows, steps=attack_steps, images=len(split), **bench.about)
