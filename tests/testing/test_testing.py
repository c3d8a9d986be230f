"""Every method passes `check_method`, and a method that breaks a promise fails with that promise's message."""

from __future__ import annotations

import dataclasses
import os
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

import dd
from dd.base.seeding import child
from dd.methods import METHODS, Candidate, Mirage, Run, Step
from dd.methods.real.baselines import only_step
from dd.methods.start import pick_real
from dd.testing import check_method, tiny
from dd.testing.made import graphs, pictures

SEEDLESS = ("class_mean", "herding", "k_center", "mirage", "bonsai")
"""Of these the set depends on the data alone."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Experts and teachers that the methods share."""
    return tmp_path_factory.mktemp("store")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_keeps_what_is_promised(name: str, store: Path) -> None:
    check_method(tiny(name), random=name not in SEEDLESS, store=store)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("ftd", {"ema": 0.5, "candidate_every": 1}),
        ("datm", {"init": "correct", "labels": "learned"}),
        (
            "infer",
            {
                "labels": "dynamic",
                "train": {"model": "convnet(norm=batch, width=4, depth=1)", "batch_size": 4, "steps": 2, "mix": "none"},
            },
        ),
    ],
)
def test_options_keep_it_too(name: str, fields: dict[str, Any], store: Path) -> None:
    check_method(dd.methods.presets.replace_fields(tiny(name), fields), store=store)


COUNT = [0]
"""Noise that no seed names."""


@dataclass(frozen=True, kw_only=True)
class Broken:
    """Real images with more noise in each of three steps; `fault` says what is wrong with it."""

    kind: ClassVar[str] = "images"
    budget: ClassVar[str] = "ipc"
    name: str = "broken"
    ipc: int = 2
    lr: float = 0.125
    fault: str = ""
    leaves: str = ""

    def distill(self, real: dd.Images, run: Run, state: Any = None) -> Iterator[Step]:
        fault = self.fault
        if fault != "unchecked":
            dd.data.check_ipc(real, self.ipc)
        seed = 0 if fault == "seedless" else run.seed
        x = state["pixels"] if state else real.train.pixels(pick_real(real, self.ipc, seed))
        done = int(state["iteration"]) if state else 0
        try:
            for passed, i in enumerate(range(done, 3)):
                at = passed if fault == "since the start" else i
                noise = torch.rand(x.shape, generator=child(seed, "noise", at)) * self.lr * self.other(real)
                x = x.mul_(0.5).add_(noise) if fault == "in place" else (x + noise) / 2
                yield self.step(i, x, real)
        except GeneratorExit:
            COUNT[0] += 1
            raise

    def other(self, real: Any) -> float:
        """A factor of the noise, and what a fault does beside it."""
        if self.fault == "torch":
            torch.rand(1)
        elif self.fault == "numpy":
            np.random.rand()
        elif self.fault == "python":
            random.random()
        elif self.fault == "data":
            real.train._images.bitwise_xor_(1)
        elif self.fault == "reads the global state":
            return 1 + int(torch.get_rng_state()[:64].sum()) / 10**5
        elif self.fault == "knows of interruptions":
            return 1 + COUNT[0] / 10
        if self.leaves:
            Path(self.leaves).write_text("mine")
        return 1.0

    def step(self, i: int, x: Tensor, real: dd.Images) -> Step:
        fault, shown = self.fault, x.clamp(0, 1)
        base = dd.methods.RandomReal(ipc=max(1, len(x) // 3), train=dd.TrainRecipe(model="mlp", steps=1))
        if fault == "fewer":
            base, shown = dataclasses.replace(base, ipc=1), shown[::2]
        if fault == "smaller":
            shown = shown[..., 1:]
        small: Any = only_step(base, real, shown.contiguous()).candidates[0].set
        small = dataclasses.replace(small, method=self.describe())
        if fault == "classes":
            small = dataclasses.replace(small, classes=("x", "y", "z"))
        if fault == "labels":
            small = dataclasses.replace(small, labels=small.labels.clone().fill_(1))
        if fault == "infinite":
            small.images[0, 0, 0, 0] = torch.inf
        candidates = () if i < 2 or fault == "none" else (Candidate("last", i + 1, small),)
        total = 4 if fault == "total" else 3
        state = {"iteration": torch.tensor(i + 1), "pixels": x, **({"done/x": x} if fault == "finished" else {})}
        return Step(i + (fault != "from 0"), total, {}, state, candidates)

    def describe(self) -> dict[str, Any]:
        told = dataclasses.asdict(self)
        if self.fault == "forgets":
            told.pop("lr")
        if self.fault == "rounds":
            told["lr"] = round(self.lr, 1)
        if self.fault == "no json":
            told["lr"] = torch.tensor(self.lr)
        if self.fault == "nameless":
            told.pop("name")
        return told


PROMISES = {
    "forgets": "`description`: expected every field; got none of lr",
    "rounds": "`description`: expected an equal value when made again from it; got another lr",
    "no json": "`description`: expected values that JSON can hold; got",
    "nameless": "`description`: expected a dict with name 'broken'; got {",
    "torch": "`global random state`: expected that of torch, numpy and random as it was; got another one",
    "numpy": "`global random state`: expected",
    "python": "`global random state`: expected",
    "data": "`real data`: expected the same data after a run; got other data",
    "from 0": "`steps`: expected iterations 1, 2, … to their total; got [0, 1, 2] of [3]",
    "total": "`steps`: expected iterations 1, 2, … to their total; got [1, 2, 3] of [4]",
    "none": "`steps`: expected a candidate in one of them; got none",
    "classes": "`candidates`: expected the classes 0, 1, 2; got x, y, z",
    "smaller": "`candidates`: expected images of shape [3, 8, 8]; got [3, 8, 7]",
    "infinite": "`candidates`: expected finite values; got NaN or infinite ones in 'images'",
    "fewer": "`budget`: expected 2 images of each of 3 classes; got [1, 1, 1] of 3",
    "labels": "`budget`: expected 2 images of each of 3 classes; got [0, 6, 0] of 6",
    "in place": "`state`: expected tensors that stay as they were given; got those of step 1 changed later",
    "finished": "`state`: expected tensors under `done/` in all later states; got others in step 2",
    "since the start": "`resume`: expected from the state of step 1 the steps of an unbroken run; got another state",
    "reads the global state": "`same seed`: expected the same bytes, whatever the global random state is; got other",
    "seedless": "`another seed`: expected other samples; got the same ones; give random=False where that is meant",
    "knows of interruptions": "`resume`: expected the bytes of an unbroken run after `dd.distill` was stopped; got",
    "unchecked": "`refusals`: expected an InputError that names `ipc` for ipc=0; got",
}


def test_without_a_fault_it_passes(tmp_path: Path) -> None:
    check_method(Broken(), store=tmp_path)
    check_method(Broken(ipc=1), dd.Images(train=pictures().train, test=pictures().test, name="given"))


@pytest.mark.parametrize("fault", PROMISES)
def test_a_broken_promise_is_named(fault: str) -> None:
    with pytest.raises(AssertionError, match="^broken breaks the promise " + re.escape(PROMISES[fault])):
        check_method(Broken(fault=fault))
    if fault == "data":
        pictures.cache_clear()


def test_a_file_outside_of_its_folders_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    with pytest.raises(AssertionError, match=f"`files`: expected none outside .*; got {re.escape(os.fspath(path))}"):
        check_method(Broken(leaves=os.fspath(path)))


def test_a_set_without_chance_says_so() -> None:
    check_method(Broken(fault="seedless"), random=False)
    with pytest.raises(AssertionError, match="`another seed`: expected the same samples, as random=False says"):
        check_method(Broken(), random=False)


def test_a_value_that_can_be_changed_is_named() -> None:
    @dataclass
    class Loose(Broken.__base__):  # type: ignore[name-defined, misc]
        kind: ClassVar[str] = "images"
        budget: ClassVar[str] = "ipc"
        name: str = "loose"
        ipc: int = 2
        distill: Any = None
        describe: Any = None

    with pytest.raises(
        AssertionError, match="loose breaks the promise `frozen value`: expected a frozen dataclass; go"
    ):
        check_method(Loose())


@dataclass(frozen=True, kw_only=True)
class Greedy:
    """Trees of twice the bytes that were asked for, or a set of another kind."""

    kind: ClassVar[str] = "graphs"
    budget: ClassVar[str] = "budget_bytes"
    name: str = "greedy"
    budget_bytes: int = 200
    kind_of_set: str = "graphs"

    def distill(self, real: Any, run: Run, state: Any = None) -> Iterator[Step]:
        if self.kind_of_set == "images":
            yield only_step(
                dd.methods.RandomReal(name=self.name, ipc=1), pictures(), pictures().train.pixels(torch.arange(3))
            )
        else:
            for step in Mirage(depth=1, budget_bytes=2 * self.budget_bytes).distill(real, run, state):
                yield of_set(step, method=self.describe())

    def describe(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def test_too_many_bytes_and_another_kind_of_set_are_named() -> None:
    with pytest.raises(
        AssertionError, match=r"greedy breaks the promise `budget`: expected at most 200 bytes; got \d+"
    ):
        check_method(Greedy())
    with pytest.raises(AssertionError, match="`candidates`: expected a set of kind 'graphs'; got 'images'"):
        check_method(Greedy(kind_of_set="images"))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (lambda step: None, "`steps`: expected a stream of `dd.methods.Step` values from `distill`; got None"),
        (lambda step: [7], "`steps`: expected a stream of `dd.methods.Step` values from `distill`; got a int"),
        (lambda step: [changed(step, iteration=1.0)], "`steps`: expected a whole number as `iteration`; got a float"),
        (lambda step: [changed(step, state=None)], "`state`: expected tensors by name; got None"),
        (lambda step: [changed(step, state={"x": 1.0})], "`state`: expected tensors by name; got a float as 'x'"),
        (lambda step: [changed(step, preview=torch.rand(3, 8))], "`preview`: expected a tensor [K, n, C, H, W]; got a"),
        (lambda step: [changed(step, candidates=None)], "`candidates`: expected a tuple of `dd.methods.Candidate` val"),
        (lambda step: [changed(step, candidates=(7,))], "`candidates`: expected a tuple of `dd.methods.Candidate` val"),
        (lambda step: [of_set(step, None)], "`candidates`: expected a set of kind 'images'; got None"),
        (lambda step: [of_set(step, torch.rand(3))], "`candidates`: expected a set of kind 'images'; got a Tensor"),
        (lambda step: [of_set(step, trees())], "`candidates`: expected a set of kind 'images'; got 'graphs'"),
        (lambda step: [of_set(step, classes=("x", "y", "z"))], "`candidates`: expected the classes 0, 1, 2; got x, y"),
        (
            lambda step: [of_set(step, images=step.candidates[0].set.images[..., :4])],
            "`candidates`: expected images of shape [3, 8, 8]; got [3, 8, 4]",
        ),
    ],
)
def test_what_is_no_step_for_the_data_is_named_by_the_check_and_by_distill(given: Any, text: str) -> None:
    """`distill` keeps no set that could not be judged on the data that it is of."""

    class Strange(Broken):
        def distill(self, real: dd.Images, run: Run, state: Any = None) -> Any:
            dd.data.check_ipc(real, self.ipc)
            return given(only_step(dd.methods.RandomReal(ipc=1), real, real.train.pixels(torch.arange(3))))

    with pytest.raises(AssertionError, match="^broken breaks the promise " + re.escape(text)):
        check_method(Strange())
    with pytest.raises(dd.InputError, match="^method 'broken' breaks the promise " + re.escape(text)):
        dd.distill(pictures(), Strange(), progress=False)


def changed(step: Step, **fields: Any) -> Step:
    return dataclasses.replace(step, **fields)


def of_set(step: Step, *given: Any, **fields: Any) -> Step:
    """The step with another set in its candidate, or the same one with other fields."""
    candidate = step.candidates[0]
    small = given[0] if given else dataclasses.replace(candidate.set, **fields)  # type: ignore[type-var]
    return changed(step, candidates=(dataclasses.replace(candidate, set=small),))


class Given(Broken):
    """Broken in what `base`, its first step, is made into."""

    given: ClassVar[Any]

    def distill(self, real: dd.Images, run: Run, state: Any = None) -> Iterator[Step]:
        dd.data.check_ipc(real, self.ipc)
        mine = dd.methods.RandomReal(name=self.name, ipc=self.ipc, train=dd.TrainRecipe(model="mlp", steps=1))
        yield from self.given(real, mine, run)


def first(real: dd.Images, method: Any, run: Run) -> Step:
    return next(method.distill(real, run))


def a_test_image(real: Any, method: Any, run: Run) -> Iterator[Step]:
    rows = torch.cat([(real.test.labels == k).nonzero()[: method.ipc, 0] for k in range(3)])
    yield only_step(method, real, real.test.pixels(rows))


def another_name(real: Any, method: Any, run: Run) -> Iterator[Step]:
    yield first(real, dataclasses.replace(method, name="other"), run)


def a_folder(real: Any, method: Any, run: Run) -> Iterator[Step]:
    os.chdir(os.environ["TMPDIR"])
    yield first(real, method, run)


def a_file(real: Any, method: Any, run: Run) -> Iterator[Step]:
    torch.save(1, Path(os.environ["TMPDIR"]) / "mine.pt")
    yield first(real, method, run)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (a_test_image, "`test data`: expected the same sets and states, whatever they are; got other ones"),
        (another_name, "`candidates`: expected a set whose `method` has the name 'broken'; got 'other'"),
        (
            a_folder,
            "`global settings`: expected those of torch and the working folder as they were; got working folder",
        ),
        (a_file, "`files`: expected none outside its run folder and its store; got "),
    ],
)
def test_what_a_method_does_beside_its_steps_is_named(
    given: Any, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path)  # and back
    own: Any = type("Own", (Given,), {"given": staticmethod(given)})
    with pytest.raises(AssertionError, match="^broken breaks the promise " + re.escape(text)):
        check_method(own(), random=given is not a_test_image, store=tmp_path / "store")


def without_gradients(real: Any, method: Any, run: Run) -> Iterator[Step]:
    with torch.no_grad():
        step = first(real, method, run)
        for i in (1, 2):
            assert not torch.is_grad_enabled()
            yield changed(step, iteration=i, total=2)


def test_a_method_may_yield_without_gradients() -> None:
    """Its candidates are scored with them all the same, and it has none after a step either."""
    own: Any = type("Own", (Given,), {"given": staticmethod(without_gradients)})
    assert len(dd.distill(pictures(), own(), progress=False)) == 6
    assert torch.is_grad_enabled()


@dataclass(frozen=True, kw_only=True)
class Part:
    size: int = 1


@dataclass(frozen=True, kw_only=True)
class Composed(Broken):
    """Broken in nothing: fields of every form that JSON can tell, and one that is made of others."""

    parts: list[Part] = dataclasses.field(default_factory=lambda: [Part(size=2)])
    by_name: dict[str, Part] = dataclasses.field(default_factory=lambda: {"x": Part(size=3)})
    pairs: tuple[tuple[int, int], ...] = ((1, 2), (3, 4))
    derived: int = dataclasses.field(default=7, init=False)


def test_fields_of_every_form_are_described() -> None:
    check_method(Composed())


@pytest.mark.parametrize(
    ("metrics", "text"),
    [
        (None, "`metrics`: expected numbers and texts by name; got None"),
        (
            {"loss": torch.tensor(1.0)},
            "`metrics`: expected numbers and texts by name; got a Tensor as 'loss', its `.it",
        ),
    ],
)
def test_metrics_that_no_log_can_hold_are_named(metrics: Any, text: str) -> None:
    own: Any = type("Own", (Given,), {"given": staticmethod(lambda *given: [changed(first(*given), metrics=metrics)])})
    with pytest.raises(AssertionError, match=re.escape(text)):
        check_method(own())
    with pytest.raises(dd.InputError, match=re.escape(text)):
        dd.distill(pictures(), own(), progress=False)


def test_a_metric_may_be_a_word() -> None:
    words = {"loss": "high", "lr": 0.5}
    own: Any = type("Own", (Given,), {"given": staticmethod(lambda *given: [changed(first(*given), metrics=words)])})
    said: list[str] = []
    dd.distill(pictures(), own(), progress=lambda done, total, text: said.append(text))
    assert said == ["lr 0.5"]


def trees() -> dd.TreeSummary:
    return dd.distill(graphs(), Mirage(depth=1, budget_bytes=300), progress=False)


def test_a_budget_that_is_no_number_is_named() -> None:
    class Named(Broken):
        budget: ClassVar[str] = "name"

    with pytest.raises(AssertionError, match="promise `budget`: expected a whole number as `name`, or None; got 'brok"):
        check_method(Named())


def test_refusals_of_the_check_itself() -> None:
    with pytest.raises(dd.InputError, match="`method` must be a name or a Method value; got an int"):
        check_method(3)  # type: ignore[arg-type]
    with pytest.raises(dd.InputError, match=r"`data` must be `dd\.Images`, .* kind 'images'; got graphs"):
        check_method(Broken(), graphs())

    class Sounds(Broken):
        kind: ClassVar[str] = "sounds"

    with pytest.raises(
        dd.InputError, match=r"`data` must be given for a method for sounds; got None\. Made are images, graphs, nodes"
    ):
        check_method(Sounds())
