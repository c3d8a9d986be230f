"""The steps of a method, looked at before anything is made of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from dd.base.progress import Progress, announce
from dd.errors import InputError
from dd.methods.base import Candidate, Method, Run, Step
from dd.synthetic import AnySet, SyntheticImages


class Fault(NamedTuple):
    """What is wrong with a step.

    Attributes:
        promise: what of it, as `dd.testing.check_method` calls it.
        expected, got: for a message.
    """

    promise: str
    expected: str
    got: str


def steps_of(method: Method, real: Any, run: Run, state: Mapping[str, Tensor] | None = None) -> Iterator[Step]:
    """The steps of a method; what could not be kept, scored or trained on later is refused at once.

    Raises:
        InputError: what it yields is no `Step`, or has a candidate that is no set for this data.
    """
    given: Any = method.distill(real, run, state)
    fault = None if isinstance(given, Iterable) else Fault("steps", STREAM, _a(given))
    for step in each(given) if fault is None else ():
        if (fault := fault_of(step, method, real)) is not None:
            break
        yield step
    if fault is not None:
        raise InputError(
            f"method {method.name!r} breaks the promise `{fault.promise}`: expected {fault.expected}; got {fault.got}. "
            "`dd.testing.check_method` tries every promise."
        )


def each(given: Iterable[Step]) -> Iterator[Step]:
    """Steps, each computed in the gradient mode that the last one left; their reader keeps his own.

    So a method may yield inside `torch.no_grad()`, without its candidates being scored in it.
    """
    steps, own = iter(given), torch.is_grad_enabled()
    while True:
        reader = torch.is_grad_enabled()
        torch.set_grad_enabled(own)
        try:
            step = next(steps)
        except StopIteration:
            return
        finally:
            own = torch.is_grad_enabled()
            torch.set_grad_enabled(reader)
        yield step


def announce_skipped(step: Step | None, progress: bool | Progress | None) -> None:
    """Say how many iterations of a run have changed nothing, where its method counts them in its state as `skipped`."""
    count = step.state.get("skipped") if step is not None else None
    if step is not None and count is not None and int(count):
        announce(f"{int(count)} of {step.total} iterations changed nothing", progress)


STREAM: Final = "a stream of `dd.methods.Step` values from `distill`"


def fault_of(step: object, method: Method, real: Any) -> Fault | None:
    """What is wrong with a step of a method on that data; `None` where nothing is."""
    if not isinstance(step, Step):
        return Fault("steps", STREAM, _a(step))
    for name in ("iteration", "total"):
        if type(value := getattr(step, name)) is not int:
            return Fault("steps", f"a whole number as `{name}`", _a(value))
    state: Any = step.state
    metrics: Any = step.metrics
    if not isinstance(metrics, Mapping):
        return Fault("metrics", "numbers and texts by name", _a(metrics))
    if wrong := [name for name, value in metrics.items() if not isinstance(value, int | float | str)]:
        way_out = ", its `.item()` is a number" if isinstance(metrics[wrong[0]], Tensor) else ""
        return Fault("metrics", "numbers and texts by name", f"{_a(metrics[wrong[0]])} as {wrong[0]!r}{way_out}")
    if not isinstance(state, Mapping):
        return Fault("state", "tensors by name", _a(state))
    if wrong := [name for name, value in state.items() if not isinstance(value, Tensor)]:
        return Fault("state", "tensors by name", f"{_a(state[wrong[0]])} as {wrong[0]!r}")
    if step.preview is not None and not (isinstance(step.preview, Tensor) and step.preview.ndim == 5):
        return Fault("preview", "a tensor [K, n, C, H, W]", _a(step.preview))
    candidates: Any = step.candidates
    if not isinstance(candidates, tuple | list):
        return Fault("candidates", "a tuple of `dd.methods.Candidate` values", _a(candidates))
    found = (_of_candidate(candidate, method, real) for candidate in candidates)
    return next((fault for fault in found if fault is not None), None)


def _of_candidate(candidate: object, method: Method, real: Any) -> Fault | None:
    """Its kind, classes and shapes; of the data's own size, as networks of that size are trained on it."""
    if not isinstance(candidate, Candidate):
        return Fault("candidates", "a tuple of `dd.methods.Candidate` values", f"{_a(candidate)} in it")
    small: Any = candidate.set
    if not isinstance(small, AnySet):
        return Fault("candidates", f"a set of kind {method.kind!r}", _a(small))
    if small.kind != method.kind:
        return Fault("candidates", f"a set of kind {method.kind!r}", repr(small.kind))
    if tuple(small.classes) != tuple(real.classes):
        return Fault("candidates", f"the classes {', '.join(real.classes)}", ", ".join(small.classes))
    if small.kind == "images":
        edge = small.canvas if isinstance(small, SyntheticImages) else 1
        wanted = [real.channels, real.size[0] * edge, real.size[1] * edge]
        found = small.images.shape[1:] if isinstance(small, SyntheticImages) else small[0][0].shape
        if list(found) != wanted:
            return Fault("candidates", f"images of shape {wanted}", str(list(found)))
    return None


def _a(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
