"""Where the networks of distribution matching come from: fresh ones, a queue that is trained, or experts' ends.

Each source is a function of the run's seed, the iteration and the state, so that a run goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, Protocol, final

import torch
from torch import Tensor

from dd.base.seeding import child, child_seed
from dd.data import Images
from dd.errors import DivergedError
from dd.experts import ExpertStore, ExpertTrainer, make_student
from dd.inner import Student
from dd.methods.base import Run
from dd.methods.outer import State
from dd.transforms.whiten import Transform

if TYPE_CHECKING:
    from dd.methods.distribution.matching import DistributionMatching


class Drawn(NamedTuple):
    """The network of an iteration.

    Attributes:
        number: which of the source's; for the log.
        theta: its weights `[P]`.
        trained: those of the trained end, where there is one.
    """

    number: int
    theta: Tensor
    trained: Tensor | None = None


class Source(Protocol):
    """Networks by iteration."""

    def draw(self, iteration: int, state: Mapping[str, Tensor]) -> Drawn:
        """The network of an iteration."""
        ...

    def after(self, iteration: int, drawn: Drawn, state: Mapping[str, Tensor]) -> State:
        """The source's part of the next state."""
        ...


def source_of(method: DistributionMatching, real: Images, run: Run, transform: Transform) -> Source:
    """The source that the method's `networks` names; experts that are missing are trained.

    Raises:
        DivergedError: an expert is not finite.
    """
    dtype = run.dtype
    if method.networks == "interpolated":
        store = ExpertStore(run.store, method.expert, real)
        store.ensure(transform, snapshots=method.snapshots_read, device=run.device, progress=run.progress)
        return Interpolated(method, run, store, dtype)
    if method.networks == "queue":
        return Queue(method, real, run, transform, dtype)
    return Fresh(method, real, run, dtype)


@final
class Fresh:
    """A new random network each iteration."""

    def __init__(self, method: DistributionMatching, real: Images, run: Run, dtype: torch.dtype) -> None:
        self._recipe, self._real, self._run, self._dtype = method.expert, real, run, dtype

    def draw(self, iteration: int, state: Mapping[str, Tensor]) -> Drawn:
        """See `Source`."""
        del state
        student = make_student(self._recipe, self._real, child_seed(self._run.seed, "network", iteration), self._dtype)
        return Drawn(iteration, student.initial.to(self._run.device))

    def after(self, iteration: int, drawn: Drawn, state: Mapping[str, Tensor]) -> State:
        """Nothing is kept."""
        del iteration, drawn, state
        return {}


@final
class Queue:
    """At most `queue` networks: a random one enters every `queue_every` iterations, and the oldest leaves.

    One of them, any, serves an iteration, and then takes `queue_steps` SGD steps on real images, as an expert of the
    recipe does. Only networks that have been trained are in the state; the others are what their number says.
    """

    def __init__(
        self, method: DistributionMatching, real: Images, run: Run, transform: Transform, dtype: torch.dtype
    ) -> None:
        self._method, self._real, self._run, self._dtype = method, real, run, dtype
        self._trainer = ExpertTrainer(method.expert, real, transform, run.device)

    def alive(self, iteration: int) -> range:
        """Numbers of the networks in the queue."""
        newest = iteration // self._method.queue_every
        return range(max(0, newest - self._method.queue + 1), newest + 1)

    def _seed(self, number: int) -> int:
        return child_seed(self._run.seed, "network", number)

    def _student(self, number: int) -> Student:
        return make_student(self._method.expert, self._real, self._seed(number))

    def draw(self, iteration: int, state: Mapping[str, Tensor]) -> Drawn:
        """See `Source`."""
        alive = self.alive(iteration)
        place = torch.randint(len(alive), (), generator=child(self._run.seed, "queue", iteration))
        number = alive[int(place)]
        theta = state.get(f"network/{number}.theta")
        theta = self._student(number).initial if theta is None else theta
        return Drawn(number, theta.to(self._run.device, self._dtype))

    def after(self, iteration: int, drawn: Drawn, state: Mapping[str, Tensor]) -> State:
        """The queue with the drawn network trained, without those that have left.

        Raises:
            DivergedError: its weights are not finite.
        """
        number, alive = drawn.number, self.alive(iteration + 1)
        kept = {key: value for key, value in state.items() if _number(key) in alive}
        if number not in alive or not self._method.queue_steps:
            return kept
        student, name = self._student(number), f"network/{number}"
        theta = state.get(f"{name}.theta", student.initial).to(self._run.device)
        velocity, done = state.get(f"{name}.velocity"), state.get(f"{name}.steps")
        velocity = torch.zeros_like(theta) if velocity is None else velocity
        steps = 0 if done is None else int(done)
        walk = self._trainer.walk(student, self._seed(number), theta, velocity, steps)
        for steps, theta, velocity in islice(walk, self._method.queue_steps):  # noqa: B007
            pass
        if not bool(torch.isfinite(theta).all()):
            lr = self._method.expert.lr
            raise DivergedError(f"network {number} of the queue is not finite. Lower the `expert`'s `lr` (now {lr:g}).")
        return {
            **kept,
            f"{name}.theta": theta,
            f"{name}.velocity": velocity,
            f"{name}.steps": torch.tensor(steps),
        }


def _number(key: str) -> int:
    """The number of the network that a key of the state is of; −1 for other keys."""
    head, _, tail = key.partition("/")
    return int(tail.partition(".")[0]) if head == "network" else -1


@final
class Interpolated:
    """θ = l θ_0 + (1 − l) θ_T with l ~ U(0, 1), between the first and a trained snapshot of an expert."""

    def __init__(self, method: DistributionMatching, run: Run, store: ExpertStore, dtype: torch.dtype) -> None:
        self._method, self._run, self._store, self._dtype = method, run, store, dtype

    def draw(self, iteration: int, state: Mapping[str, Tensor]) -> Drawn:
        """See `Source`; the experts take turns in random order."""
        del state
        experts, seed = self._method.expert.experts, self._run.seed
        order = torch.randperm(experts, generator=child(seed, "experts", iteration // experts))
        number = int(order[iteration % experts])
        ends = self._store.read(number, [0, self._method.snapshots_read])
        first, last = (theta.to(self._run.device, self._dtype) for theta in ends)
        share = float(torch.rand((), generator=child(seed, "share", iteration), dtype=torch.float64))
        return Drawn(number, share * first + (1 - share) * last, last)

    def after(self, iteration: int, drawn: Drawn, state: Mapping[str, Tensor]) -> State:
        """Nothing is kept."""
        del iteration, drawn, state
        return {}
