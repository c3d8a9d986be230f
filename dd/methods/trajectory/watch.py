"""When a run of trajectory matching has come to nothing, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from dd.base.seeding import child
from dd.errors import DivergedError
from dd.experts.steps import sgd_update
from dd.inner import Student
from dd.methods.base import Run
from dd.methods.outer import FAR, State, largest
from dd.synthetic import SyntheticImages

if TYPE_CHECKING:
    from dd.methods.trajectory.matching import TrajectoryMatching

Log = Mapping[str, float | int | str]

ABOVE: Final = "loss above"
NOT_FINITE: Final = "not finite; step size halved"
UPDATE: Final = "update not finite; step size halved"
STEP_SIZE: Final = "step size"
"""Why an iteration has changed nothing, as its row of the log begins."""

_GIVE_UP_AFTER: Final = 10
_STILL_AFTER: Final = 50
_STILL: Final = 1e-4
"""How near to 1 the ratio of a student is that does not move."""
_TOO_LARGE: Final = 1e3
"""A step size by which some networks are not finite after a few steps, and none learns anything."""
_STRANGE: Final = 1e3, 1.0
"""From such a picture, or step size, on it is tried whether a network can be trained."""
_TRIED: Final = 100
"""Steps of that, at most."""


def skipped(state: State) -> int:
    """Iterations so far that have changed nothing."""
    return int(state["skipped"]) if "skipped" in state else 0  # no state of an earlier version has it


def still(m: TrajectoryMatching, state: State, ratio: float) -> Tensor:
    """Iterations in a row in which the student ended where it started, so that nothing can be learned from it."""
    count = int(state["still"]) + 1 if abs(ratio - 1) < _STILL else 0
    if count >= min(_STILL_AFTER, m.iterations):
        beta = float(state["lr"])
        raise DivergedError(
            f"the student has not moved for {count} outer iterations: the loss stays at {ratio:.6f} of 1, with a step "
            f"size of {beta:.3g} (it started at {m.lr_init:g}). {_way_to_move(m, state, beta)}; "
            "the last good state is kept."
        )
    return torch.tensor(count)


def _way_to_move(m: TrajectoryMatching, state: State, beta: float) -> str:
    if largest(state["images"]) > _STRANGE[0]:  # of such pictures norms make nothing
        return _lower("lr_img")
    return f"{_lower('lr_lr')}, or raise `lr_init`" if m.lr_lr > 0 and beta < m.lr_init else "Raise `lr_init`"


def failed(m: TrajectoryMatching, state: State, where: Mapping[str, object]) -> State:
    """The state after an iteration that was not finite: β is halved; ten in a row are the end."""
    failures = int(state["failures"]) + 1
    if failures >= _GIVE_UP_AFTER:
        raise DivergedError(
            f"{failures} outer iterations in a row were not finite (last: expert {where['expert']}, start "
            f"{where['start']}). {_lower(*_sizes(m))}; the last good state is kept."
        )
    return {**state, "failures": torch.tensor(failures), "lr": state["lr"] / 2}


def trains(student: Student, small: SyntheticImages, run: Run) -> bool:
    """Whether a fresh network stays finite in the first steps of its training on a set, which are not augmented."""
    recipe, theta, loss = small.recipe, student.initial, torch.zeros(())
    if recipe.optimizer != "sgd":
        return True
    velocity, drop, done = torch.zeros_like(theta), max(1, round(recipe.steps * recipe.drop_at)), 0
    while done < (count := min(recipe.steps, _TRIED)):
        for x, y in islice(small.batches(recipe.batch_size, child(run.seed, "trial", done)), count - done):
            if recipe.schedule == "drop" and done == drop:
                velocity = torch.zeros_like(theta)
            lr = recipe.lr * (recipe.drop_factor if recipe.schedule == "drop" and done >= drop else 1.0)
            leaf = theta.detach().requires_grad_()
            loss = student.loss(leaf, x.to(theta), y.to(theta.device))
            (gradient,) = torch.autograd.grad(loss, leaf)
            theta, velocity = sgd_update(theta, gradient, velocity, lr, recipe.momentum, recipe.weight_decay)
            done += 1
    return bool(torch.isfinite(theta).all() & torch.isfinite(loss))


def check_end(m: TrajectoryMatching, state: State, log: Log, trains: Callable[[], bool]) -> None:
    """Refuse a last state that is the first one, or whose set nobody can train on, where no set was offered before.

    Args:
        m: the method.
        state: after the last iteration.
        log: its row.
        trains: whether a network can be trained on its set; asked only where the set is out of the ordinary.

    Raises:
        DivergedError: says which fields are to be changed.
    """
    if skipped(state) >= m.iterations:
        raise DivergedError(
            f"each of {m.iterations} outer iterations changed nothing (the last: {log['skipped']}). "
            f"{_way_to_change(m, str(log['skipped']))}."
        )
    if 0 < m.candidate_every < m.iterations:
        return  # what was offered before may be good, and networks choose
    far, beta = largest(state["images"]), float(state["lr"])
    if far > FAR:
        raise DivergedError(
            f"the images that were made reach {far:.3g} standard deviations, and no network can be trained on "
            f"them. {_lower('lr_img')} (now {m.lr_img:g})."
        )
    strange = int(state["failures"]) > 0 or far > _STRANGE[0] or beta > _STRANGE[1]
    if beta > _TOO_LARGE or (strange and not trains()):
        names = _sizes(m)
        if beta > _STRANGE[1] and far <= _STRANGE[0]:
            names = ["lr_lr"] if beta > m.lr_init else ["lr_init"]
        raise DivergedError(
            f"networks that are trained on the set by its step size, {beta:.3g} (it started at {m.lr_init:g}), are not "
            f"finite; {skipped(state)} of {m.iterations} outer iterations changed nothing. {_lower(*names)}."
        )


def _way_to_change(m: TrajectoryMatching, why: str) -> str:
    if why.startswith(ABOVE):
        return f"Raise `skip_above` (now {m.skip_above:g}), or lower `lr_init` (now {m.lr_init:g})"
    if why.startswith(UPDATE):
        return _lower("lr_img", *(["lr_label"] if m.labels == "learned" else []))
    return _lower("lr_lr") if why.startswith(STEP_SIZE) else f"{_lower('lr_init')} (now {m.lr_init:g})"


def _sizes(m: TrajectoryMatching) -> list[str]:
    """The fields that are step sizes, where they do something."""
    return ["lr_img", *(["lr_lr"] if m.lr_lr > 0 else []), "lr_init"]


def _lower(*names: str) -> str:
    *first, last = (f"`{name}`" for name in names)
    return f"Lower {', '.join(first)} or {last}" if first else f"Lower {last}"
