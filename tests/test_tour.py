"""The tour of the house: who follows data through `distill`, a call at a time, enters a file at most 20 times."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

import dd

HOUSE = str(Path(dd.__file__).parent)
MOST = 20
LARGE = 200
"""Numbers from which on a tensor is taken for data: pixels, labels, hashes."""


class Arrived(Exception):
    """The method has the data."""


def carries(value: object, data: object) -> bool:
    """Whether a value is the data as given, something of `dd.data`, or a large tensor; or holds one of these."""
    if value is data or type(value).__module__.startswith("dd.data"):
        return True
    if isinstance(value, tuple | list) and len(value) < 6:
        return any(carries(one, data) for one in value)
    return value == data if isinstance(value, str) else isinstance(value, Tensor) and value.numel() > LARGE


def tour(data: object, **options: Any) -> list[str]:
    """Every way into another file that data takes in a run, once: the file left, the file entered, the function.

    A property is a call like any other. Calls without data among their arguments are passed over.
    """
    entered: dict[str, None] = {}

    def follow(frame: FrameType, event: str, _: object) -> None:
        code, caller = frame.f_code, frame.f_back
        if event != "call" or not code.co_filename.startswith(HOUSE) or code.co_name.startswith("<"):
            return
        while caller is not None and not caller.f_code.co_filename.startswith(HOUSE):
            caller = caller.f_back
        own = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        left = code.co_filename if caller is None else caller.f_code.co_filename
        if left != code.co_filename and any(carries(frame.f_locals.get(name), data) for name in own):
            ways = (Path(file).relative_to(HOUSE).as_posix() for file in (left, code.co_filename))
            entered[f"{' -> '.join(ways)} {code.co_name}"] = None
        if code.co_name == "distill" and f"{HOUSE}/methods/" in code.co_filename:
            raise Arrived

    before = sys.getprofile()
    try:
        sys.setprofile(follow)
        with suppress(Arrived):
            dd.distill(data, "random", ipc=1, progress=False, **options)
            pytest.fail("no method was reached")
    finally:
        sys.setprofile(before)
    return list(entered)


def pair() -> tuple[Tensor, Tensor]:
    images = torch.randint(0, 256, (300, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return images, torch.arange(300) % 4


class Own(Dataset[tuple[Tensor, int]]):
    """A user's Dataset."""

    def __init__(self) -> None:
        self.images, self.labels = pair()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.images[i], int(self.labels[i])


FORMS: dict[str, Callable[[], object]] = {
    "a card's name": lambda: "digits",
    "a pair": pair,
    "a pair of floats": lambda: (pair()[0].sqrt() / 16, pair()[1]),
    "a Dataset": Own,
    "Images": lambda: dd.Images(train=pair()),
}


@pytest.mark.parametrize("form", FORMS)
def test_data_enters_few_files_on_its_way_to_the_method(form: str) -> None:
    ways = tour(FORMS[form]())
    assert ways[-1] == "base/process.py -> methods/real/baselines.py distill"
    assert len(ways) <= MOST, "\n".join(ways)


@pytest.mark.parametrize("form", ["a card's name", "a pair"])
def test_a_resize_is_on_the_way_too(form: str) -> None:
    ways = tour(FORMS[form](), size=12)
    assert any(way.endswith("fit_all") for way in ways)
    assert len(ways) <= MOST, "\n".join(ways)


def test_the_tour_of_contributing_has_eight_stops_and_names_files_that_are_there() -> None:
    text = (Path(__file__).resolve().parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    stops = re.findall(r"^\d\. .*", text.split("## The tour of the house")[1].split("\n## ")[0], re.M)
    assert len(stops) == 8
    for stop in stops:
        folder = ""
        for name in re.findall(r"`([\w/]+\.py)`", stop):
            folder = name.rpartition("/")[0] or folder  # a name alone lies beside the one before
            assert (Path(HOUSE) / folder / Path(name).name).is_file(), name
