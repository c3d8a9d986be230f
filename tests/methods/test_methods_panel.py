"""Committees: names, ready teachers, bare modules; class ids; what a record can bring back; baselines by the door."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import dd
from dd.errors import InputError
from dd.methods import METHODS, Run, rebuild
from dd.methods.decoupled.recover import Recover
from dd.methods.panel import seat
from dd.synthetic import TrainRecipe
from dd.teachers import Teacher, TeacherRecipe, TeacherStore
from dd.transforms.whiten import Normalise

GENERATOR = torch.Generator().manual_seed(0)
LABELS = torch.arange(120) % 3
PIXELS = torch.randint(0, 80, (120, 3, 8, 8), generator=GENERATOR, dtype=torch.uint8)
for k in range(3):
    PIXELS[LABELS == k, k] += 150
REAL = dd.load_images(dd.Images(train=(PIXELS, LABELS), test=(PIXELS[:30].flip(-1), LABELS[:30])))
NET = "convnet(width=4, depth=1, norm=batch)"
RECIPE = TeacherRecipe(epochs=4, batch_size=16, augment="")
METHOD = Recover(
    ipc=2,
    committee=(NET,),
    teacher=RECIPE,
    iterations=3,
    labels="stored",
    label_epochs=4,
    train=TrainRecipe(model=NET, steps=16, lr=0.02, optimizer="adamw", loss="kl", temperature=4.0, batch_size=4),
)


class Own(nn.Module):
    """The user's module: six outputs, of which 5, 1 and 3 are red, green and blue."""

    def __init__(self, order: tuple[int, ...] = (5, 1, 3)) -> None:
        super().__init__()
        self.norm, self.order = nn.BatchNorm2d(3), order

    def forward(self, z: Tensor) -> Tensor:
        out = torch.full((len(z), 6), -9.0)
        out[:, list(self.order)] = 8 * self.norm(z).mean((2, 3))
        return out


def test_an_own_module_with_class_ids(tmp_path: Path) -> None:
    panel = seat([Own()], RECIPE, None, (5, 1, 3), REAL, Run(store=tmp_path))
    scores = panel.score(REAL.train.pixels(torch.arange(30)), 10.0, REAL.size)
    assert scores.shape == (30, 3)
    assert float((scores.argmax(1) == REAL.train.labels[:30]).double().mean()) == 1.0
    assert panel.priors == (0.0,)  # one member's prior is never read
    with pytest.raises(InputError, match=r"class order or its mean and std are not those"):
        seat([Own()], RECIPE, None, (3, 5, 1), REAL, Run(store=tmp_path))
    with pytest.raises(InputError, match="of 3 classes"):
        seat([Own()], RECIPE, None, None, REAL, Run(store=tmp_path))
    with pytest.raises(InputError, match="`class_ids` must be below 6"):
        seat([Own()], RECIPE, None, (0, 1, 9), REAL, Run(store=tmp_path))
    with pytest.raises(InputError, match="`class_ids` must be different numbers"):
        Teacher("t", Own(), Normalise(mean=(0.5,) * 3, std=(0.2,) * 3), class_ids=(1, 1, 2))


def test_a_committee_of_all_kinds_measures_its_priors(tmp_path: Path) -> None:
    ready = Teacher("ready", Own((0, 1, 2)), Normalise(mean=(0.5,) * 3, std=(0.25,) * 3), class_ids=(0, 1, 2))
    panel = seat([NET, ready], RECIPE, None, None, REAL, Run(store=tmp_path))
    named = TeacherStore(tmp_path / "teachers", REAL).get(dataclasses.replace(RECIPE, model=NET))
    assert panel.priors[0] == 100 * named.accuracy
    assert panel.priors[1] == 100.0
    weights = [weight for _, weight in panel.all_votes(5.0)]
    assert sum(weights) == pytest.approx(1)
    assert seat([NET, ready], RECIPE, (1.0, 2.0), None, REAL, Run(store=tmp_path)).priors == (1.0, 2.0)


def test_a_run_with_an_own_module_to_the_end(tmp_path: Path) -> None:
    method = dataclasses.replace(METHOD, committee=[Own((0, 1, 2))], class_ids=(0, 1, 2))  # type: ignore[arg-type]
    small = dd.distill(REAL, method, store=tmp_path, out=tmp_path / "run")
    assert small.method["committee"] == [{"name": "Own"}]
    assert rebuild(small.method) is None
    report = dd.evaluate(small, REAL, repeats=2, baselines=("random_labels", "hard"))
    assert [row.set for row in report.rows] == ["recover", "hard"]
    assert any("no random_labels row" in note for note in report.notes)
    again = dd.evaluate(small, REAL, repeats=2, committee=[Own((0, 1, 2))], store=tmp_path)
    assert [row.set for row in again.rows] == ["recover", "random", "random_labels", "hard"]
    with pytest.raises(InputError, match="`committee` must be 1 teachers, those of the set; got 2"):
        dd.evaluate(small, REAL, repeats=1, committee=[Own(), Own()])


def test_a_ready_teacher_is_known_by_its_weights() -> None:
    def ready(bias: float) -> Teacher:
        own = Own((0, 1, 2))
        own.norm.bias.data += bias
        return Teacher("ready", own, Normalise(mean=(0.5,) * 3, std=(0.25,) * 3))

    record = dataclasses.replace(METHOD, committee=(ready(0.0),)).describe()
    assert rebuild(record, [ready(0.0)]) is not None
    with pytest.raises(InputError, match="`committee` must be ready with weights"):
        rebuild(record, [ready(1.0)])


def test_pretrained_without_class_ids_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`class_ids` must be given for 3 classes"):
        seat(["tv:resnet18(weights=default)"], RECIPE, None, None, REAL, Run(store=tmp_path))


def test_what_is_no_committee() -> None:
    with pytest.raises(InputError, match="`committee` must be one or more of"):
        Recover(committee=())
    with pytest.raises(InputError, match=r"of model names, dd\.Teacher values or trained modules; got int"):
        Recover(committee=(3,))  # type: ignore[arg-type]
    assert Recover(committee=[NET]).committee == (NET,)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["sre2l", "sre2l++", "cvdd", "rded", "infer"])
def test_names_describe_and_come_back(name: str) -> None:
    value = METHODS[name](ipc=3)
    assert value.name == name
    back = rebuild(value.describe())
    assert back == value


@pytest.mark.parametrize("init", ["noise", "real", "rded", "medium"])
def test_every_first_image(init: str, tmp_path: Path) -> None:
    method = dataclasses.replace(METHOD, init=init, iterations=0, candidates=10, labels="hard", train=TrainRecipe())
    small = list(method.distill(REAL, Run(store=tmp_path)))[-1].candidates[0].set
    assert small.images.shape == (6, 3, 8, 8)  # type: ignore[attr-defined]


def test_a_set_stands_beside_the_same_labels_and_hard_ones(tmp_path: Path) -> None:
    small = dd.distill(REAL, METHOD, store=tmp_path, out=tmp_path / "run")
    report = dd.evaluate(tmp_path / "run", REAL, repeats=2, store=tmp_path)
    assert [row.set for row in report.rows] == ["recover", "random", "random_labels", "hard"]
    assert {row.steps for row in report.rows} == {16}
    assert small.hard().recipe.loss == "ce"
    plain = dd.distill(REAL, "random", ipc=2, model=NET, steps=3)
    assert [row.set for row in dd.evaluate(plain, REAL, repeats=1).rows] == ["random", "random (baseline)"]


class Fails(Own):
    """Has forgotten what it knew after the first calls."""

    def __init__(self, calls: int) -> None:
        super().__init__((0, 1, 2))
        self.calls = calls

    def forward(self, z: Tensor) -> Tensor:
        self.calls -= 1
        if self.calls < 0:
            raise RuntimeError("forgotten")
        return super().forward(z)


def test_the_user_s_modules_stay_as_they_are(tmp_path: Path) -> None:
    """Of a bare module and of a `dd.Teacher`, in both verbs, and where the call fails."""
    own, bad, given = Own((0, 1, 2)).train(), Fails(3).train(), Own((0, 1, 2)).train()
    own.norm.eval()
    ready = Teacher("ready", given, Normalise(mean=(0.5,) * 3, std=(0.25,) * 3), class_ids=(0, 1, 2))
    watched = (own, bad, given, ready.module)

    def state() -> list[object]:
        found: list[object] = []
        for net in watched:
            found += [part.training for part in net.modules()]
            found += [(p.requires_grad, id(p), p.data_ptr()) for p in net.parameters()]
            found += [(id(b), b.tolist()) for b in net.buffers()]
        return found

    before = state()
    fields = {"class_ids": (0, 1, 2), "committee": (own, ready)}
    small = dd.distill(REAL, dataclasses.replace(METHOD, **fields), store=tmp_path)  # type: ignore[arg-type]
    dd.evaluate(small, REAL, repeats=1, committee=[own, ready], baselines=("random_labels",), store=tmp_path)
    with pytest.raises(RuntimeError, match="forgotten"):
        dd.distill(REAL, dataclasses.replace(METHOD, **{**fields, "committee": (bad,)}), store=tmp_path)  # type: ignore[arg-type]
    assert state() == before
    own(torch.zeros(2, 3, 8, 8)).sum().backward()
    assert own.norm.bias.grad is not None
