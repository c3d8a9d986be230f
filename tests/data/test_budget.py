"""Numbers of images by class: which methods take them, what is made, and that all that reads a budget reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import dd
from dd.base.shapes import BY_CLASS
from dd.data import class_counts, given_ipc
from dd.methods import METHODS, class_of
from dd.synthetic import SyntheticImages
from dd.synthetic.figures import gallery, grid, neighbours
from dd.testing import check_method
from dd.testing.made import pictures

TINY = dd.TrainRecipe(model="mlp", steps=2)
TEACHER = dd.TeacherRecipe(model="convnet(width=4, depth=1, norm=batch)", epochs=1)
IPC = {"0": 5, "1": 1, "2": 2}


def made(name: str, ipc: Any, store: Path) -> SyntheticImages:
    fields: dict[str, Any] = {} if name == "random" else {"teacher": TEACHER}
    found = dd.distill(pictures(), name, ipc=ipc, train=TINY.to_json(), store=store, **fields)
    assert isinstance(found, SyntheticImages)
    return found


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.mark.parametrize("name", BY_CLASS)
def test_each_class_gets_its_number(name: str, store: Path) -> None:
    small = made(name, IPC, store)
    assert small.labels.tolist() == [0, 0, 0, 0, 0, 1, 2, 2]
    assert small.method["ipc"] == IPC
    whole = made(name, 5, store)
    assert torch.equal(small.images[:5], whole.images[:5])
    assert torch.equal(small.images[5], whole.images[5])
    assert made(name, {0: 5, 1: 1, 2: 2}, store).method == small.method
    assert made(name, {**IPC, "1": 0}, store).counts == (5, 0, 2)


@pytest.mark.parametrize("name", [name for name in METHODS if class_of(name).budget == "ipc"])
def test_all_other_methods_name_those_that_take_them(name: str) -> None:
    if name in BY_CLASS:
        assert METHODS[name](ipc=IPC).describe()["ipc"] == IPC
        return
    told = r"`ipc` must be a whole number.* Numbers by class are for the methods random, herding, k_center\."
    with pytest.raises(dd.InputError, match=told):
        METHODS[name](ipc=IPC)
    with pytest.raises(dd.InputError, match=told):
        dd.distill("digits", name, ipc=IPC)


@pytest.mark.parametrize(
    ("ipc", "message"),
    [
        ({}, "at least one image of some class; got none"),
        ({"0": 0, "1": 0, "2": 0}, "at least one image of some class"),
        ({"0": -1}, r"`ipc\['0'\]` must be a whole number of at least 0; got -1"),
        ({"0": 1.5}, r"`ipc\['0'\]` must be a whole number"),
        ({"0": True}, r"`ipc\['0'\]` must be a whole number"),
        ({"0": 10**9}, "at most 1,000,000"),
        ({0: 1, "0": 2}, "one number for each class; got 0 and '0'"),
        ({None: 1}, "numbers by the names or numbers of classes; got one of None"),
        ({np.int64(0): 1}, r"got one of np.int64\(0\). Give plain numbers: `{int\(k\): n for k, n in ipc.items\(\)}`"),
        ("5", "a whole number"),
    ],
)
def test_what_is_no_budget_is_refused(ipc: Any, message: str) -> None:
    with pytest.raises(dd.InputError, match=message):
        given_ipc(ipc)


@pytest.mark.parametrize("ipc", [{}, {"0": 0, "1": 0, "2": 0}])
def test_no_image_of_any_class_is_refused_as_such_by_name_too(ipc: dict[str, int]) -> None:
    with pytest.raises(dd.InputError, match="at least one image of some class; got none"):
        dd.distill(pictures(), "random", ipc=ipc)


def test_classes_are_meant_by_name_and_then_by_number() -> None:
    found = pictures()
    pixels, labels = (found.train.pixels() * 255).round().to(torch.uint8), found.train.labels
    named = dd.load_images(dd.Images(train=(pixels, labels), classes=("2", "dog", "cat")))
    assert class_counts(named, {"2": 7, "dog": 1, "cat": 3}) == [7, 1, 3]
    assert class_counts(named, {"2": 7, "1": 1, "cat": 3}) == [7, 1, 3]
    for ipc, message in (
        ({"2": 1, "0": 1, "dog": 1, "cat": 1}, "one number for each class; got two of class 0"),
        ({"2": 1, "dog": 1, "bird": 1}, r"names of classes \(2, dog, cat\), or by 0…2; got 'bird'"),
        ({"2": 1, "3": 1, "cat": 1}, "got '3'"),
        ({"2": 1, "cat": 1}, "a number for every class; got none for dog. Give 0 where none is meant"),
        ({"2": 1, "dog": 1, "cat": 999}, r"at most 32 of class 2 \('cat'\), its training images; got 999"),
    ):
        with pytest.raises(dd.InputError, match=message):
            class_counts(named, ipc)


def test_the_promises_of_methods_hold() -> None:
    check_method(dd.methods.RandomReal(ipc=IPC, train=TINY), pictures())


def test_runs_are_told_and_gone_on_with(tmp_path: Path) -> None:
    for _ in range(2):
        dd.distill(pictures(), "random", ipc=IPC, train=TINY.to_json(), out=tmp_path)
    assert json.loads((tmp_path / "run.json").read_text())["request"]["method"]["ipc"] == IPC
    with pytest.raises(dd.InputError, match=r"another run \(method\.ipc\.1: 1 there, 2 asked for\)"):
        dd.distill(pictures(), "random", ipc={**IPC, "1": 2}, train=TINY.to_json(), out=tmp_path)
    report = dd.evaluate(tmp_path, pictures(), repeats=1)
    assert (tmp_path / "index.html").is_file()
    assert [row.set for row in report.rows] == ["random", "random (baseline)"]
    assert dd.load(tmp_path).counts == (5, 1, 2)  # type: ignore[union-attr]


def test_baselines_have_as_many_images_of_each_class(monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    from dd.contest import baselines_images

    drawn, draw = [], baselines_images._distilled

    def seen(*args: Any) -> Any:
        drawn.append(draw(*args))
        return drawn[-1]

    monkeypatch.setattr(baselines_images, "_distilled", seen)
    small = made("random", {**IPC, "1": 0}, store)
    report = dd.evaluate(small, pictures(), repeats=1, baselines=("random", "random_tuned", "class_mean"))
    assert {one.counts for one in drawn} == {(5, 0, 2)}
    assert report.notes[-1] == "no class_mean row: it has one image a class, the set has 0 to 5"
    one_each = made("random", {"0": 1, "1": 1, "2": 1}, store)
    rows = dd.evaluate(one_each, pictures(), repeats=1, baselines=("class_mean",)).rows
    assert [row.set for row in rows] == ["random", "class_mean"]


def test_more_images_than_the_data_has_leave_the_baseline_out(store: Path) -> None:
    many = dd.merge(
        [made("random", {"0": 30, "1": 1, "2": 1}, store), made("herding", {"0": 20, "1": 1, "2": 1}, store)]
    )
    report = dd.evaluate(many, pictures(), repeats=1)
    assert [row.set for row in report.rows] == ["merged"]
    assert "no random row: the data cannot give as many images: `ipc` must be at most 36 of class 0" in report.notes[-1]


@pytest.mark.parametrize("ipc", [IPC, {**IPC, "1": 0}])
def test_figures_and_files(ipc: dict[str, int], store: Path, tmp_path: Path) -> None:
    small = made("random", ipc, store)
    assert f"{min(ipc.values())} to 5 a class" in repr(small)
    for picture in (grid(small), neighbours(small, pictures().train), gallery({"a": small, "b": small})):
        assert isinstance(picture, Image.Image)
    back = dd.load(small.save(tmp_path / "a.safetensors"))
    assert back.counts == small.counts  # type: ignore[union-attr]
    if 0 in small.counts:
        with pytest.raises(
            dd.InputError, match=r"an image of every class; got none of '1', .*`small.save` keeps every"
        ):
            dd.to_imagefolder(small, tmp_path / "out")
        return
    dd.to_imagefolder(small, tmp_path / "out")
    assert dd.import_folder(tmp_path / "out" / "train").counts == small.counts


def test_measures_take_them(store: Path) -> None:
    small = made("random", IPC, store)
    told = dd.continual(small, pictures(), tasks=1, repeats=2, steps=2)
    assert told.notes == ("1 to 5 images a class in the memory",)
    dd.neighbours(small, pictures())
    dd.calibration(small, pictures(), repeats=2, steps=2)
