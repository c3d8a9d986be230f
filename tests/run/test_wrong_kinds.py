"""What is given for a set, a recipe, a method, a folder or a device and is none: refused by name, never deep inside."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.jobs import DATA, RECIPE, SMALL, TREES

import dd
from dd.base.home import home
from dd.base.paths import expanded
from dd.errors import InputError, MissingError
from dd.run import resolve

FAST: dict[str, Any] = {"repeats": 1, "steps": 1, "progress": False}
CALLS: dict[str, Callable[[Any], object]] = {
    "small": lambda x: dd.train(x),
    "small of evaluate": lambda x: dd.evaluate(x, DATA, **FAST),
    "small of to_imagefolder": lambda x: dd.to_imagefolder(x, "made"),
    "small of to_hf": lambda x: dd.to_hf(x),
    "small of dataset_card": lambda x: dd.dataset_card(x),
    "path of to_imagefolder": lambda x: dd.to_imagefolder(SMALL, x),
    "path of draw": lambda x: TREES.draw(x),
    "recipe": lambda x: dd.load_recipe(x),
    "recipe of buffer": lambda x: dd.buffer(DATA, x, progress=False),
    "store": lambda x: dd.import_buffer("replay_buffer_0.pt", x),
    "method": lambda x: dd.cite(x),
    "method of describe": lambda x: dd.describe(x),
    "method of distill": lambda x: dd.distill(DATA, x, progress=False),
    "methods": lambda x: dd.benchmark(DATA, x, ipc=1, baselines=(), **FAST),
    "runs": lambda x: dd.report(x),
    "device": lambda x: dd.train(SMALL, device=x),
    "root": lambda x: dd.load_images("cifar10", root=x),
    "root of distill": lambda x: dd.distill("digits", "random", ipc=1, root=x, progress=False),
    "root of evaluate": lambda x: dd.evaluate(SMALL, "digits", root=x, **FAST),
    "aspect of evaluate": lambda x: dd.evaluate(SMALL, DATA, aspect=x, **FAST),
    "aspect of distill": lambda x: dd.distill(DATA, "random", ipc=1, aspect=x, progress=False),
    "name of a method": lambda x: dd.estimate("digits", "dm", name=x),
}
WRONG: dict[str, Any] = {
    "a number": 3.5,
    "bytes": b"x",
    "an object": object(),
    "a list": [[]],
    "a dict": {"a": 1},
    "a class": dd.TrainRecipe,
    "a tensor": torch.zeros(2),
}


@pytest.mark.parametrize("name", CALLS)
def test_another_kind_of_thing_is_refused_by_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for what, value in WRONG.items():
        with pytest.raises(InputError) as told:
            CALLS[name](value)
        assert "must be" in str(told.value) or "unknown" in str(told.value), what
    assert not list(tmp_path.iterdir())


def test_trees_are_no_images_and_a_path_says_how_it_is_read() -> None:
    for call in (dd.dataset_card, lambda x: dd.to_imagefolder(x, "made")):
        with pytest.raises(InputError, match="`small` must be a set of images; got a TreeSummary"):
            call(TREES)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=r"got a str. Of a path: `dd.load\(path\)`"):
            call("set.safetensors")  # type: ignore[arg-type]


@pytest.mark.parametrize("small", [SMALL, TREES], ids=["images", "trees"])
def test_no_network_is_refused_before_there_is_a_table_of_none(small: Any) -> None:
    with pytest.raises(InputError, match="`models` must be at least one network, or None for the one of the set"):
        dd.evaluate(small, DATA, models=[], **FAST)


def test_the_home_of_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert expanded(Path("~/x")) == tmp_path / "home" / "x"
    nobody = Path("~no-such-user") / "x"
    assert expanded(nobody) == nobody  # as in a shell
    for call in (
        lambda: dd.load_images("cifar10", root=nobody),
        lambda: dd.load_images(f"imagefolder:{nobody}"),
        lambda: dd.load_graphs(f"smiles:{nobody}"),
    ):
        with pytest.raises(MissingError, match="~no-such-user"):
            call()
    monkeypatch.setenv("DD_HOME", str(nobody))
    assert home("datasets") == nobody / "datasets"
    dd.buffer(DATA, RECIPE, store=nobody, progress=False)
    assert list(nobody.rglob("recipe.json"))


def test_without_a_home_folder_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dd.base.home._checkout", lambda kind: None)
    monkeypatch.delenv("DD_HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", str)  # no HOME, and a user whom the system does not know
    with pytest.raises(InputError, match=r"`DD_HOME` must be set where there is no home folder; .* DD_HOME=/tmp/dd"):
        home("datasets")
    monkeypatch.setenv("DD_HOME", "/tmp/dd")
    assert home("datasets") == Path("/tmp/dd/datasets")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("nonsense", "`train` must be with the name of a network as `model`; got 'nonsense', which is none"),
        ("convnett", "Did you mean convnet\\? A network of your own is given where the set is trained, as `models`"),
        ("convnet(widht=32)", "Did you mean width\\?"),
        ("convnet(depth=9)", "depth"),
    ],
)
@pytest.mark.parametrize("method", ["random", "dm", "rded", "mtt"])
def test_a_network_that_nobody_could_train_is_refused_before_the_set_is_made(
    method: str, model: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said):
        dd.distill(DATA, method, ipc=1, train={"model": model}, preset="cpu", out=tmp_path / "run", progress=False)
    assert not list(tmp_path.iterdir())


def test_the_way_out_for_a_network_of_ones_own() -> None:
    own = dd.Model(lambda c, k, size: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(k)), name="mine")
    small = dd.distill(DATA, "random", ipc=1, progress=False)
    assert dd.evaluate(small, DATA, models=[own], out=False, **FAST).rows[0].model == "mine"
    for method in ("mtt", "dm"):  # whose own network it is: named in the recipe, and known to the method
        value: Any = dd.methods.METHODS[method]()
        value = dataclasses.replace(
            value, expert=dataclasses.replace(value.expert, model=own), train=dd.TrainRecipe(model="mine")
        )
        assert resolve._check_trained(value, DATA) is None
