"""`replace_fields`: where a name goes, what merges, what is refused."""

import dataclasses
import re
import typing
from pathlib import Path

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
