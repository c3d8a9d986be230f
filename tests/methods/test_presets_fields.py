"""`replace_fields`: where a name goes, what merges, what is refused."""

import dataclasses
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import dd
from dd.errors import InputError, MissingError
from dd.experts import ExpertRecipe, load_recipe
from dd.methods import FTD, METHODS, MTT, ClassMean, RandomReal, TrajectoryMatching
from dd.methods.presets import replace_fields
from dd.synthetic import TrainRecipe


def test_a_field_of_the_method_comes_first() -> None:
    made = replace_fields(MTT(), {"iterations": 3, "momentum": 0.5, "name": "mine"})
    assert isinstance(made, TrajectoryMatching)
    assert (made.iterations, made.momentum, made.name) == (3, 0.5, "mine")
    assert made.expert == ExpertRecipe()


def test_a_field_of_the_recipe_goes_to_the_recipe() -> None:
    given = {
        "model": "convnet(width=8)",
        "whiten": True,
        "augment": "crop",
        "rho": 0.1,
        "lr": 0.02,
        "experts": 2,
    }
    made = replace_fields(FTD(), {**given, "ema": 0.5})
    assert isinstance(made, TrajectoryMatching)
    assert {name: getattr(made.expert, name) for name in given} == given
    assert (made.expert.step, made.ema, made.train) == ("gsam", 0.5, TrainRecipe())


def test_without_an_expert_it_goes_to_train() -> None:
    made = replace_fields(RandomReal(), {"ipc": 2, "whiten": True, "model": "mlp", "steps": 7, "augment": "flip"})
    assert made == RandomReal(ipc=2, whiten=True, train=TrainRecipe(model="mlp", steps=7, augment="flip"))
    assert replace_fields(ClassMean(), {"steps": 7}) == ClassMean(train=TrainRecipe(steps=7))


def test_a_dict_merges_into_a_recipe_and_loose_fields_join_it() -> None:
    start = MTT(expert=ExpertRecipe(lr=0.5), train=TrainRecipe(steps=9))
    made = replace_fields(start, {"expert": {"batch_size": 4}, "train": {"lr": 0.1}, "whiten": True})
    assert isinstance(made, TrajectoryMatching)
    assert made.expert == ExpertRecipe(lr=0.5, batch_size=4, whiten=True)
    assert made.train == TrainRecipe(steps=9, lr=0.1)
    whole = replace_fields(start, {"experts": 3, "expert": ExpertRecipe(lr=0.25)})
    assert isinstance(whole, TrajectoryMatching)
    assert whole.expert == ExpertRecipe(lr=0.25, experts=3)


def test_a_recipe_by_name_or_path(tmp_path: Path) -> None:
    made = replace_fields(MTT(), {"expert": "mtt-zca", "experts": 3})
    assert isinstance(made, TrajectoryMatching)
    assert made.expert == dataclasses.replace(load_recipe("mtt-zca"), experts=3)
    file = tmp_path / "own.toml"
    file.write_text("lr = 0.3\n")
    own = replace_fields(MTT(), {"expert": str(file)})
    assert isinstance(own, TrajectoryMatching)
    assert (own.expert.name, own.expert.lr) == ("own", 0.3)
    with pytest.raises(InputError, match=r"unknown recipe 'mtt-zzz'; known: .*mtt-zca"):
        replace_fields(MTT(), {"expert": "mtt-zzz"})
    with pytest.raises(MissingError, match="no recipe file"):
        replace_fields(MTT(), {"expert": str(tmp_path / "none.toml")})


def test_refusals_of_replace_fields() -> None:
    with pytest.raises(
        InputError, match=r"unknown field 'itrations' of mtt; known: .*iterations.* Of its expert: .*rho"
    ):
        replace_fields(MTT(), {"itrations": 3})
    with pytest.raises(InputError, match=r"unknown field 'iterations' of random; known: .*ipc.* Of its train: .*steps"):
        replace_fields(RandomReal(), {"iterations": 3})
    with pytest.raises(InputError, match=r"unknown field of expert 'steps'; known: .*snapshots"):
        replace_fields(MTT(), {"expert": {"steps": 3}})
    with pytest.raises(InputError, match="`whiten` must be given once, by itself or inside `expert`; got both"):
        replace_fields(MTT(), {"expert": {"whiten": True}, "whiten": False})
    with pytest.raises(InputError, match="`train` must be a TrainRecipe or a dict of its fields; got 5"):
        replace_fields(MTT(), {"train": 5})
    with pytest.raises(InputError, match=r"`teacher` must be .*; got a ReLU\. .*committee=\[network\]"):
        replace_fields(METHODS["sre2l"](), {"teacher": torch.nn.ReLU()})
    with pytest.raises(InputError, match="`max_start_epoch` must be at most"):
        replace_fields(MTT(), {"snapshots": 5})
    with pytest.raises(InputError, match="`method` must be a frozen dataclass"):
        replace_fields(object(), {"ipc": 1})  # type: ignore[arg-type]


@pytest.mark.parametrize("method", METHODS)
def test_every_plain_field_of_every_method_refuses_another_type(method: str) -> None:
    made = METHODS[method]()
    hints = typing.get_type_hints(type(made))
    wrong: dict[object, tuple[object, ...]] = {int: ("5", 5.5, True, None), float: ("5", True), bool: ("no", 1)}
    tried = 0
    for name in (f.name for f in dataclasses.fields(made)):
        for value in wrong.get(hints[name], ()):
            with pytest.raises(InputError, match=f"^`{name}` must be .*; got {re.escape(repr(value))}"):
                replace_fields(made, {name: value})
            tried += 1
    assert tried >= 2


def test_an_optional_field_names_both_its_types() -> None:
    with pytest.raises(InputError, match=r"`batch_syn` must be a whole number or None; got 2\.5"):
        replace_fields(MTT(), {"batch_syn": 2.5})
    with pytest.raises(InputError, match="`seed` must be a whole number; got '1'"):
        dd.distill("digits", "random", ipc=1, seed="1")  # type: ignore[arg-type]


def numbers_of(value: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Places of the numbers among the fields of a method, of its recipes too."""
    hints = typing.get_type_hints(type(value))
    for f in dataclasses.fields(value):
        held = getattr(value, f.name)
        if dataclasses.is_dataclass(held) and f.name != "model":
            yield from numbers_of(held, (*above, f.name))
        elif re.search(r"\b(int|float)\b", str(hints[f.name])):
            yield (*above, f.name)


def with_number(method: Any, place: tuple[str, ...], number: float) -> Any:
    given: Any = number
    for name in reversed(place[1:]):
        given = {name: given}
    return replace_fields(method, {place[0]: given})


MAY_BE_NEGATIVE = {("alpha",), ("beta",), ("gamma",)}
"""Weights of node means."""


@pytest.mark.parametrize("method", METHODS)
def test_no_number_of_a_method_is_negative_or_beyond_all_measure(method: str) -> None:
    made = METHODS[method]()
    places = list(numbers_of(made))
    assert places
    for place in places:
        if not (method == "node_means" and place in MAY_BE_NEGATIVE):
            with pytest.raises(InputError):
                with_number(made, place, -1)
        with pytest.raises(InputError):
            with_number(made, place, 10**30 if typing.get_type_hints(type(made)).get(place[-1]) is int else 1e300)


def test_numbers_that_make_each_iteration_nothing() -> None:
    for value in (0.0, -1.0):
        with pytest.raises(InputError, match=r"`skip_above` must be positive: .*; got .*\. Leave it out, or give inf"):
            replace_fields(MTT(), {"skip_above": value})
    assert replace_fields(MTT(), {"skip_above": float("inf")}) == MTT()
    with pytest.raises(InputError, match="`candidate_every` must be a whole number of at least 0; got -1"):
        replace_fields(MTT(), {"candidate_every": -1})
    for name in ("mirage", "node_means"):
        with pytest.raises(InputError, match="`lr` must be positive; got 0"):
            replace_fields(METHODS[name](), {"train": {"lr": 0.0}})


def test_the_field_that_leaves_the_buffer_is_named_and_its_bound_works() -> None:
    few = {"snapshots": 4, "max_start_epoch": 2, "expert_epochs": 1}
    cases: list[tuple[dict[str, int], str, dict[str, int]]] = [
        (
            {"expert_epochs": 9},
            "`expert_epochs` must be at most 3, .* 4 snapshots .*; got 9. Lower",
            {"expert_epochs": 3},
        ),
        ({"max_start_epoch": 9}, "`max_start_epoch` must be at most 4, .*; got 9. Lower", {"max_start_epoch": 4}),
        (
            {"max_start_epoch": 9, "expert_epochs": 9},
            "`max_start_epoch` must be at most 4, .*; got 9. .* Give `expert_epochs=1` with it",
            {"max_start_epoch": 4, "expert_epochs": 1},
        ),
        (
            {"max_start_epoch": 9, "min_start_epoch": 8},
            "`min_start_epoch` must be below the buffer's 4 snapshots; got 8",
            {"max_start_epoch": 4, "min_start_epoch": 3},
        ),
    ]
    for fields, said, way_out in cases:
        with pytest.raises(InputError, match=said):
            replace_fields(MTT(), {**few, **fields})
        replace_fields(MTT(), {**few, **fields, **way_out})
