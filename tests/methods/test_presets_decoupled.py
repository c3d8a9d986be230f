"""Rows of sre2l, sre2l++, cvdd, rded and infer against the specification: constants, pairs, compensators and steps."""

from __future__ import annotations

import math
from typing import Any

import pytest

from dd.methods import METHODS
from dd.methods.presets import preset, rows
from dd.teachers import MEMBERS, PUBLISHED_FIRST_PAIR, PUBLISHED_PRIORS

CIFAR10 = (0.4914, 0.4822, 0.4465)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CVDD: dict[str, Any] = {
    "cifar10": (CIFAR10, (0.247, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}
# What differs from the card's own: CIFAR-10's mean with std .2023 .1994 .2010 for both, ImageNet's for the others.
CONSTANTS: dict[str, dict[str, Any]] = {
    "sre2l": {"tiny-imagenet": ((0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262))},
    "sre2l++": CVDD,
    "cvdd": CVDD,
    "rded": {"cifar10": IMAGENET, "cifar100": IMAGENET},
    "infer": {"cifar100": CVDD["cifar100"]},
}
CLASSES = {"cifar10": 10, "cifar100": 100, "imagenet": 1000}


def published(method: str) -> list[tuple[str, int, Any]]:
    cells = [(row["dataset"], row["ipc"]) for row in rows(method) if row["tier"] == "paper"]
    return [(name, ipc, METHODS[method](**preset(method, name, ipc, "paper").fields)) for name, ipc in cells]


@pytest.mark.parametrize("method", CONSTANTS)
def test_published_rows_have_their_own_constants(method: str) -> None:
    for name, _, value in published(method):
        assert (value.teacher.mean, value.teacher.std) == CONSTANTS[method].get(name, (None, None))
    for row in rows(method):
        if row["tier"] == "cpu":
            assert not {"mean", "std"} & row["teacher"].keys()


def test_one_image_a_class_has_the_published_pair() -> None:
    seen = 0
    for name, ipc, value in published("cvdd"):
        assert value.priors == PUBLISHED_PRIORS[name]
        assert (value.pairs is not None) == (ipc == 1)
        if value.pairs is not None:
            ((a, b),) = value.pairs
            short = [str(value.committee[m]).removeprefix("tv:").partition("(")[0] for m in (a, b)]
            told = [one.removesuffix("_x1_0") for one in short]
            assert tuple(told) == PUBLISHED_FIRST_PAIR[name] == (MEMBERS[a], MEMBERS[b])
            seen += 1
    assert seen == len(PUBLISHED_FIRST_PAIR)


def test_infer_has_every_member_make_compensators_and_400_epochs() -> None:
    for name, ipc, value in published("infer"):
        members, classes = len(value.committee), CLASSES[name]
        assert value.compensators == members == (3 if name == "imagenet" else 4)
        images = ipc * classes // (classes + members) * (members + 1) * classes
        assert value.train.steps == 400 * math.ceil(images / 64)
    steps = [value.train.steps for name, _, value in published("infer") if name == "imagenet"]
    assert steps == [225_200, 1_225_200]
    for row in rows("infer"):
        assert row["tier"] == "paper" or row["compensators"] == "auto"
