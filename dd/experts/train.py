"""Training one expert: a stream of snapshots that can be stopped and continued at any of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dd.base.devices import moved
from dd.base.seeding import child, child_seed, isolated
from dd.data import Images, Split, TensorSplit
from dd.errors import DDError, DivergedError, refuse
from dd.experts.fast import Road
from dd.experts.recipe import ExpertRecipe
from dd.experts.smooth import ramp_factor, step_size
from dd.experts.steps import gsam_direction, sgd_update
from dd.inner import Student, check_student
from dd.inner.check import WAY_OUT
from dd.models import MODELS, ModelSpec, as_spec, build, no_single_values
from dd.transforms.whiten import Transform

_ACCURACY_IMAGES = 1000
_ROOM = 4 * 2**30  # bytes of training pictures that an accelerator keeps


@dataclass(frozen=True)
class Snapshot:
    """θ `[P]` after `step` optimiser steps, its accuracy on at most 1,000 held-out images, and the velocity."""

    step: int
    theta: Tensor
    velocity: Tensor
    accuracy: float


def make_student(
    recipe: ExpertRecipe,
    real: Images,
    seed: int,
    dtype: torch.dtype = torch.float32,
    autocast: torch.dtype | None = None,
) -> Student:
    """The recipe's network for this data, initialised from the stream of `seed`.

    Dropout and stochastic depth are switched off: a trajectory is matched by a deterministic function of θ.
    """
    module = build(
        recipe.model,
        channels=real.channels,
        classes=real.num_classes,
        size=real.size,
        seed=child_seed(seed, "expert"),
        dtype=dtype,
    )
    return Student(_without_chance(module), autocast)


def _without_chance(module: nn.Module) -> nn.Module:
    """The module with every dropout rate at 0, where `train()` cannot bring it back."""
    for layer in module.modules():
        if isinstance(layer, nn.modules.dropout._DropoutNd) or type(layer).__name__ == "StochasticDepth":
            vars(layer)["p"] = 0.0
        elif isinstance(layer, nn.MultiheadAttention):
            layer.dropout = 0.0
    return module


def check_model(recipe: ExpertRecipe, real: Images, device: torch.device) -> None:
    """Refuse a network that cannot be matched, before an expert of it is trained; the library's own are known.

    It costs about a dozen passes of four pictures in float64, or in float32 where the network or the device has no
    other: milliseconds of a small network, some seconds of a ResNet-18 on one core. See `dd.inner.check_student`.

    Raises:
        InputError: a network that is no function of θ and x, or whose second derivative is missing or wrong.
    """
    spec = as_spec(recipe.model)
    if isinstance(spec, ModelSpec) and spec.name in MODELS:
        return
    noise = torch.randn((4, real.channels, *real.size), generator=child(0, "check", "pictures"))
    y = (torch.arange(4) % real.num_classes).to(device)
    for dtype in (torch.float64, torch.float32):
        student = make_student(recipe, real, 0, dtype)
        try:
            student = Student(student.module.to(device))
            check_student(student, noise.to(device, dtype), y, str(spec))
            return
        except DDError:
            raise
        except Exception as error:
            if dtype == torch.float32:
                cause = (str(error).splitlines() or [""])[0]
                expected = "a network through whose training autograd can differentiate"
                raise refuse("model", expected, f"{spec}: {type(error).__name__}: {cause}", WAY_OUT) from error


class ExpertTrainer:
    """Trains experts of one recipe on one data set.

    Permutations come from the stream (expert, epoch), augmentation draws from (expert, step), so a trajectory
    continued from a snapshot equals the unbroken one, on the same road.

    Attributes:
        road: `Road(True, …)` for the compiled loss; may be exchanged between experts.

    Args:
        recipe, real, transform, device: what is trained, on what, pixels to model space, and where.
        compile: take the compiled loss, and a penalty's compiled passes, where that is possible.
    """

    def __init__(
        self, recipe: ExpertRecipe, real: Images, transform: Transform, device: torch.device, compile: bool = False
    ) -> None:
        self.road = Road(compile, recipe.batch_size)
        self.recipe, self.real, self.transform, self.device = recipe, real, transform, device
        self._dsa = recipe.dsa()
        count = len(real.train)
        self.steps_per_epoch = -(-count // recipe.batch_size)
        held_out = real.val if real.val is not None else real.test
        self._check = _sample(held_out) if held_out is not None and len(held_out) else None
        self._stream = on_device(real.train, device)
        self._labels = real.train.labels.to(device)
        self.autocast = torch.bfloat16 if recipe.autocast == "bf16" else None

    @property
    def stride(self) -> int:
        """Optimiser steps a snapshot."""
        unit = self.steps_per_epoch if self.recipe.snapshot_unit == "epoch" else 1
        return self.recipe.snapshot_every * unit

    def snapshots(self, seed: int, start: Snapshot | None = None) -> Iterator[Snapshot]:
        """Snapshots after `start` (or from the initialisation on), for ever; each is a copy on the CPU."""
        student = make_student(self.recipe, self.real, seed, autocast=self.autocast)
        if start is None:
            first = student.initial.to(self.device)
            still, done = torch.zeros_like(first), 0
            yield self._snapshot(student, done, first, still)
        else:
            first, still = start.theta.to(self.device), start.velocity.to(self.device)
            done = start.step
        every = self.stride
        for step, theta, velocity in self.walk(student, seed, first, still, done):
            if step % every == 0:
                if not bool(torch.isfinite(theta).all()):
                    raise DivergedError(
                        f"expert {seed} of recipe {self.recipe.name!r} is not finite after {step} steps. "
                        f"Lower `lr` (now {self.recipe.lr:g}), or `rho` for gsam."
                    )
                yield self._snapshot(student, step, theta, velocity)

    def walk(
        self, student: Student, seed: int, theta: Tensor, velocity: Tensor, step: int
    ) -> Iterator[tuple[int, Tensor, Tensor]]:
        """(steps done, θ, velocity) after each step of expert `seed` from `step` on, for ever; always new tensors."""
        name = str(as_spec(self.recipe.model))
        for rows, pixels in self._stream(self._batches(seed, step)):
            alone = no_single_values("expert.batch_size", name)
            with alone, isolated(seed, "layers", step, device=self.device):  # some networks draw on their own
                theta, velocity = self._step(student, theta, velocity, rows, pixels, seed, step)
            step += 1
            yield step, theta, velocity

    def _batches(self, seed: int, step: int) -> Iterator[Tensor]:
        """Rows of the batches from `step` on, for ever: an order an epoch."""
        epoch, place = divmod(step, self.steps_per_epoch)
        while True:
            order = torch.randperm(len(self.real.train), generator=child(seed, "order", epoch))
            yield from order.split(self.recipe.batch_size)[place:]
            epoch, place = epoch + 1, 0

    def _step(
        self, student: Student, theta: Tensor, velocity: Tensor, rows: Tensor, pixels: Tensor, seed: int, step: int
    ) -> tuple[Tensor, Tensor]:
        recipe = self.recipe
        clean = self.transform.forward(pixels)
        x = self._dsa.draw(len(rows), self.real.size, child(seed, "draw", step))(clean)
        y = self._labels[moved(rows, self.device)]
        factor = ramp_factor(recipe, step, self.steps_per_epoch)
        lr, forget = step_size(recipe, step, self.steps_per_epoch)

        def grad(at: Tensor) -> Tensor:
            found = self.road.gradient(student, at, x, y, factor)
            if recipe.penalty:
                exact = student if self.autocast is None else Student(student.module)
                found = found + recipe.penalty * self.road.penalty(exact, at, clean, y, recipe.penalty_form)
            return found

        if recipe.step == "gsam":
            direction = gsam_direction(theta, grad, recipe.rho, recipe.alpha, recipe.adaptive)
        else:
            direction = grad(theta)
        velocity = torch.zeros_like(velocity) if forget else velocity
        return sgd_update(theta, direction, velocity, lr, recipe.momentum, recipe.weight_decay)

    def _snapshot(self, student: Student, step: int, theta: Tensor, velocity: Tensor) -> Snapshot:
        with isolated(0, "accuracy", device=self.device):
            accuracy = float("nan") if self._check is None else self._accuracy(student, theta, self._check)
        # `.clone()`: on the CPU `.cpu()` is the live tensor itself, and every snapshot would be the last one.
        return Snapshot(step, theta.detach().cpu().clone(), velocity.detach().cpu().clone(), accuracy)

    @torch.no_grad()
    def _accuracy(self, student: Student, theta: Tensor, split: Split) -> float:
        right = 0
        for rows, pixels in split.stream(torch.arange(len(split)).split(256)):
            x = self.transform.forward(moved(pixels, self.device))
            right += int((student.logits(theta, x).argmax(1).cpu() == split.labels[rows]).sum())
        return right / len(split)


Stream = Callable[[Iterable[Tensor]], Iterator[tuple[Tensor, Tensor]]]
"""From batches of rows, int64 `[n]`, to (rows, their pixels), float32 `[n, C, H, W]` in [0, 1]; see `Split.stream`."""


def on_device(split: Split, device: torch.device, room: int = _ROOM) -> Stream:
    """`split.stream` whose pixels are on `device`.

    What is in memory and takes at most `room` bytes moves to an accelerator once, as the bytes that it is; a batch is
    then picked and scaled there. Anything else, and all of it on a CPU, comes batch by batch from the split.
    """
    if device.type == "cpu" or not isinstance(split, TensorSplit) or split.images.nbytes > room:
        return lambda batches: ((rows, moved(pixels, device)) for rows, pixels in split.stream(batches))
    pick = _resident(split.images.to(device))
    return lambda batches: ((rows, pick(rows)) for rows in batches)


def _resident(stored: Tensor) -> Callable[[Tensor], Tensor]:
    def pixels(rows: Tensor) -> Tensor:
        picked = stored[moved(rows, stored.device)]
        return picked.float().div_(255) if stored.dtype == torch.uint8 else picked

    return pixels


def _sample(split: Split) -> Split:
    """At most 1,000 images, the same ones every time."""
    if len(split) <= _ACCURACY_IMAGES:
        return split
    return split.subset(torch.randperm(len(split), generator=child(0, "accuracy"))[:_ACCURACY_IMAGES])
