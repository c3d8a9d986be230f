"""Recorded student steps: the derivatives of the other engines, by calls whose tensors stay in their places."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from test_inner_adjoint import close, problem
from torch import Tensor

import dd
from dd.errors import InputError
from dd.inner import Problem, Student, adjoint
from dd.inner.recorded import Call, Steps, adjoint_recorded
from dd.inner.sweep import sweep
from dd.methods import Run
from dd.models import build


class Recording:
    """As a CUDA graph: it reads where its first tensors were, and writes its results into the same places."""

    made = 0

    def __init__(self, function: Call, given: Sequence[Tensor]) -> None:
        Recording.made += 1
        self._function, self._given = function, [t.clone() for t in given]
        self._found = tuple(t.clone() for t in function(*self._given))

    def __call__(self, *given: Tensor) -> tuple[Tensor, ...]:
        for place, tensor in zip(self._given, given, strict=True):
            place.copy_(tensor)
        for place, tensor in zip(self._found, self._function(*self._given), strict=True):
            place.copy_(tensor)
        return self._found


VARIED: list[dict[str, Any]] = [
    {},
    {"momentum": 0.9},
    {"gradient": "detached"},
    {"truncate": 2},
    {"labels": torch.softmax(torch.arange(21.0, dtype=torch.float64).view(7, 3) % 4, 1)},
    {"labels": torch.full((7, 3), 1 / 3, dtype=torch.float64), "labels_constant": True},
]


@pytest.mark.parametrize("fields", VARIED, ids=["plain", "momentum", "detached", "truncated", "learned", "assigned"])
def test_gradients_are_those_of_the_generic_engine(fields: dict[str, Any]) -> None:
    given, wanted = problem(4, **fields), adjoint(problem(4, **fields))
    for found in (adjoint_recorded(given), sweep(given, Steps(given, Recording), 0)):
        close(found, wanted)
        assert (found.labels is None) == (wanted.labels is None)
        if found.labels is not None:
            torch.testing.assert_close(found.labels, wanted.labels)


def test_a_pass_is_recorded_once_a_shape() -> None:
    given = problem(4)
    Recording.made = 0
    first = sweep(given, Steps(given, Recording), 0)
    assert Recording.made == 2
    again = sweep(given, Steps(given, Recording), 0)
    assert Recording.made == 2
    assert torch.equal(first.images, again.images)
    other = problem(2, batch=3)
    other = dataclasses.replace(other, student=given.student)
    sweep(other, Steps(other, Recording), 0)
    assert Recording.made == 4


def test_recordings_end_with_their_student() -> None:
    def used() -> weakref.ref[Student]:
        given: Problem = problem(1)
        sweep(given, Steps(given, Recording), 0)
        return weakref.ref(given.student)

    found = used()
    gc.collect()
    assert found() is None


def test_batch_statistics_are_those_of_the_whole_batch() -> None:
    net = build("convnet(width=4, norm=batch)", channels=3, classes=3, size=(8, 8), seed=0, dtype=torch.float64)
    student = Student(net)
    end = dataclasses.replace(problem(2).targets[0], theta=student.initial + 0.1)
    given = problem(2, student=student, theta=student.initial, targets=[end])
    close(adjoint_recorded(given), adjoint(given))


def test_without_cuda_it_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"`engine` must be .* on a CPU; got 'recorded'. Leave it out, or give device='cuda'"
    ):
        Run(engine="recorded")
    with pytest.raises(InputError, match="got 'recorded'"):
        dd.distill("digits", "mtt", ipc=1, engine="recorded", device="cpu", progress=False)
    with pytest.raises(InputError, match="`micro_batch` must be None with engine='recorded'; got 5"):
        Run(engine="recorded", micro_batch=5, device=torch.device("cuda"))
