"""Recipes: what the key tells apart, what is refused, what a TOML file gives."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import dd
from dd.base.files import dump_json
from dd.errors import DamagedError, InputError, MissingError
from dd.experts import ExpertRecipe, load_recipe, recipe_names


def factory(channels: int, classes: int, size: tuple[int, int]) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], classes))


def test_key_is_the_same_for_ever() -> None:
    # golden: made by format 1; another value would orphan every stored trajectory
    plain = ExpertRecipe(model="convnet(width=16)", lr=0.02, momentum=0.5, batch_size=32, augment="crop_flip")
    assert plain.key("data") == "255891568a2ad8ee"
    assert dataclasses.replace(plain, step="gsam", rho=0.1).key("data") == "f476c38a6ac5130c"


OTHER: dict[str, Any] = {
    "model": "convnet(width=8)",
    "step": "sgd",
    "lr": 0.02,
    "momentum": 0.5,
    "weight_decay": 0.1,
    "batch_size": 128,
    "rho": 0.5,
    "alpha": 0.5,
    "adaptive": False,
    "augment": "flip",
    "augment_mode": "all",
    "whiten": True,
    "ramp": False,
    "ramp_every": 5,
    "penalty": 0.5,
    "penalty_form": "label",
    "drop_epochs": 3,
    "drop_factor": 0.5,
    "snapshot_every": 2,
    "snapshot_unit": "step",
    "autocast": "bf16",
}
FREE: dict[str, Any] = {"name": "other", "experts": 3, "snapshots": 2, "title": "t", "source": "s"}


def test_every_field_is_in_the_key_or_free() -> None:
    assert {f.name for f in dataclasses.fields(ExpertRecipe)} == OTHER.keys() | FREE.keys()


@pytest.mark.parametrize("field", OTHER)
def test_key_changes_with_what_changes_a_trajectory(field: str) -> None:
    base = ExpertRecipe(step="gsam", ramp=True, penalty=1.0, drop_epochs=2)
    assert dataclasses.replace(base, **{field: OTHER[field]}).key("data") != base.key("data")


@pytest.mark.parametrize("field", FREE)
def test_key_does_not_change_with_number_length_and_names(field: str) -> None:
    base = ExpertRecipe()
    assert dataclasses.replace(base, **{field: FREE[field]}).key("data") == base.key("data")


def test_key_of_equal_recipes_is_equal() -> None:
    base = ExpertRecipe(lr=1.0, momentum=0.0, model="convnet")
    assert ExpertRecipe(lr=1, momentum=0, model="convnet(width=128)").key("x") == base.key("x")
    assert ExpertRecipe(rho=0.5, alpha=0.1, adaptive=False, lr=1).key("x") == base.key("x")  # sgd has none of them
    assert base.key("y") != base.key("x")


def test_key_of_a_users_network_needs_a_name() -> None:
    named = ExpertRecipe(model=dd.Model(factory, name="mine"))
    assert named.key("x") != ExpertRecipe(model=dd.Model(factory, name="yours")).key("x")
    assert dump_json(named.describe())
    with pytest.raises(InputError, match="named where a store key is made"):
        ExpertRecipe(model=dd.Model(factory)).key("x")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"autocast": "fp16"}, "`autocast` must be `none` or `bf16`; got 'fp16'"),
        ({"step": "adam"}, "`step` must be `sgd` or `gsam`; got 'adam'"),
        ({"snapshot_unit": "hour"}, "`snapshot_unit` must be `epoch` or `step`; got 'hour'"),
        ({"lr": 0}, "`lr` must be positive; got 0"),
        ({"lr": float("inf")}, "`lr` must be a finite number of at least 0; got inf"),
        ({"lr": "fast"}, "`lr` must be a finite number of at least 0; got 'fast'"),
        ({"momentum": 1.0}, r"`momentum` must be in \[0, 1\); got 1"),
        ({"momentum": -0.1}, "`momentum` must be a finite number of at least 0; got -0.1"),
        ({"weight_decay": float("nan")}, "`weight_decay` must be a finite number of at least 0; got nan"),
        ({"rho": -1}, "`rho` must be a finite number of at least 0; got -1"),
        ({"alpha": -1}, "`alpha` must be a finite number of at least 0; got -1"),
        ({"batch_size": 0}, "`batch_size` must be a whole number of at least 1; got 0"),
        ({"batch_size": 2.5}, "`batch_size` must be a whole number of at least 1; got 2.5"),
        ({"experts": 0}, "`experts` must be a whole number of at least 1; got 0"),
        ({"snapshots": True}, "`snapshots` must be a whole number of at least 1; got True"),
        ({"snapshot_every": 0}, "`snapshot_every` must be a whole number of at least 1; got 0"),
        ({"whiten": "no"}, "`whiten` must be true or false; got 'no'"),
        ({"name": "a/b"}, "`name` must be a text that can name a folder.*got 'a/b'"),
        ({"name": ".."}, r"`name` must be a text that can name a folder.*got '\.\.'"),
        ({"name": ""}, "`name` must be a text that can name a folder"),
        ({"model": "convnot"}, "unknown model 'convnot'.*Did you mean convnet"),
        ({"augment": "crop_spin"}, "unknown augmentation 'spin'"),
    ],
)
def test_refusals(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        ExpertRecipe(**fields)


def test_shipped_recipes_load_under_their_names() -> None:
    assert {"mtt", "ftd-alpha0.3"} <= set(recipe_names())
    for name in recipe_names():
        recipe = load_recipe(name)
        assert recipe.name == name
        assert dump_json(recipe.describe())
    # mtt-distillation's buffer.py: SGD, lr 0.01, momentum 0, weight decay 0, batch 256, DSA, 50 epochs, 100 experts
    assert load_recipe("mtt").key("x") == ExpertRecipe().key("x")
    assert (load_recipe("mtt").experts, load_recipe("mtt").snapshots) == (100, 50)


def test_recipe_files_of_a_user(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('lr = 1\nmodel = "convnet(width=8)"\n')
    assert load_recipe(str(path)) == ExpertRecipe(name="mine", lr=1.0, model="convnet(width=8)")
    path.write_text("lr = = 1")
    with pytest.raises(DamagedError, match=r"mine\.toml is not TOML"):
        load_recipe(str(path))
    path.write_bytes(b"\xff")
    with pytest.raises(DamagedError, match=r"mine\.toml is not TOML"):
        load_recipe(str(path))
    path.write_text("learning_rate = 1")
    with pytest.raises(InputError, match=r"unknown field in mine\.toml 'learning_rate'; known: .*lr, "):
        load_recipe(str(path))
    path.write_text('batch_size = "big"')
    with pytest.raises(InputError, match=r"mine\.toml: `batch_size` must be a whole number"):
        load_recipe(str(path))
    with pytest.raises(MissingError, match=r"no recipe file .*other\.toml"):
        load_recipe(str(tmp_path / "other.toml"))
    with pytest.raises(InputError, match=r"unknown recipe 'mttt'; known: .*mtt.*path that ends in \.toml works too"):
        load_recipe("mttt")
