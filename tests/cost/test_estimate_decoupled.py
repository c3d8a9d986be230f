"""Estimates of the methods of teachers, of baselines and of Mirage: what they count is what a run does."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import dd
from dd.cost import decoupled, known
from dd.cost.forward import Forward
from dd.cost.trees import estimate_mirage
from dd.cost.work import Work, stages
from dd.data import Images, load_images
from dd.data.graphs.blank import blank_graphs
from dd.data.graphs.card import load_graph_card
from dd.errors import MissingError
from dd.methods import METHODS, Coreset, Infer, Mirage, Recover, kind_of
from dd.methods.decoupled import infer, recover, relabel
from dd.methods.panel import Panel
from dd.models import ConvNet
from dd.synthetic import TrainRecipe
from dd.teachers import TeacherRecipe
from dd.testing.made import graphs

CPU = torch.device("cpu")
CLASSES, TRAIN, HELD = 3, 54, 6


@pytest.fixture(scope="module")
def real() -> Images:
    """Three classes that a tiny network tells apart by their brightness, at 8 px."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(TRAIN + HELD) % CLASSES
    noise = torch.randint(0, 40, (len(labels), 3, 8, 8), generator=generator)
    return load_images(((noise + 80 * labels.view(-1, 1, 1, 1)).to(torch.uint8), labels))


TEACHER = TeacherRecipe(model="convnet(width=4,depth=1,norm=batch)", epochs=2, min_steps=30, batch_size=16, lr=0.05)
PAIR = ("convnet(width=4,depth=1,norm=batch)", "convnet(width=6,depth=1,norm=batch)")
STUDENT = TrainRecipe(loss="kl", batch_size=4, steps=5, accumulate=2)
SMALL: dict[str, Any] = {"ipc": 2, "teacher": TEACHER, "committee": PAIR}
METHOD: dict[str, Any] = {
    "noise": Recover(**SMALL, init="noise", labels="stored", label_epochs=3, iterations=4, train=STUDENT),
    "patches": Recover(
        **SMALL, init="rded", candidates=7, crops=2, iterations=0, labels="stored", label_epochs=2, train=STUDENT
    ),
    "blocks": Recover(**SMALL, iterations=3, batch=2, voters=1, labels="hard", train=TrainRecipe(steps=5)),
    "static": Recover(**SMALL, iterations=2, train=TrainRecipe(steps=5)),
    "compensators": Infer(**{**SMALL, "ipc": 4}, compensators=1, iterations=3),
    "dynamic": Infer(
        **{**SMALL, "ipc": 4}, compensators=2, iterations=2, labels="dynamic", label_epochs=2, train=STUDENT
    ),
}


@contextmanager
def spied(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Pictures that go through networks in a run: while they train, under a gradient, and for scores and labels."""
    seen: Counter[str] = Counter()

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, ConvNet):
            key = "training" if module.training else "recovery" if inputs[0].requires_grad else "looked at"
            seen[key] += len(output)

    def scored(panel: Panel, pixels: Tensor, *args: Any) -> Tensor:
        seen["patches"] += len(pixels) * len(panel.teachers)
        return score(panel, pixels, *args)

    def labelled(members: Any, weights: Any, x: Tensor, **options: Any) -> Tensor:
        seen["labels"] += len(x) * len(members)
        return label(members, weights, x, **options)

    score, label = Panel.score, relabel.label
    monkeypatch.setattr(Panel, "score", scored)
    for module in (relabel, recover, infer):
        monkeypatch.setattr(module, "label", labelled)
    handle = nn.modules.module.register_module_forward_hook(hook)  # type: ignore[arg-type]
    yield seen
    handle.remove()


def works_of(method: Any, real: Images, monkeypatch: pytest.MonkeyPatch) -> list[Work]:
    """What the estimate of a method is made of."""
    kept: list[Work] = []

    def stand_in(works: list[Work], *rest: Any) -> tuple[dict[str, float], float]:
        kept.extend(works)
        return stages(works, *rest)

    monkeypatch.setattr(decoupled, "stages", stand_in)
    estimate = known.estimator_of(type(method))
    assert estimate is not None
    estimate(method, real, CPU, False)
    return kept


def pictures(works: list[Work], stage: str, members: int = 1) -> float:
    """Pictures of a stage, each as often as it goes through a network; `members` where these go together."""
    return sum(w.calls * w.images * members for w in works if w.stage == stage)


@pytest.mark.parametrize("name", METHOD)
def test_what_is_counted_is_what_a_run_does(
    name: str, real: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, members = METHOD[name], len(PAIR)
    works = works_of(method, real, monkeypatch)
    with spied(monkeypatch) as seen:
        dd.distill(real, method, store=tmp_path, progress=False)
    trained = sum(w.calls * w.images for w in works if w.stage == "teachers" and w.passes == 3)
    # 54 = 3 · 16 + 6: the last batch of an epoch is short
    assert seen["training"] <= trained < seen["training"] * 64 / 54 + 1
    assert pictures(works, "patches", members) == pytest.approx(seen["patches"])
    assert pictures(works, "recovery") + pictures(works, "compensators") == pytest.approx(seen["recovery"])
    assert pictures(works, "labels", members) == pytest.approx(seen["labels"])


@pytest.mark.parametrize("name", ["noise", "patches", "dynamic"])
def test_bytes_of_stored_labels_are_those_of_the_store(name: str, real: Images, tmp_path: Path) -> None:
    method = METHOD[name]
    small: Any = dd.distill(real, method, store=tmp_path, progress=False)
    pixels = {"storage": "uint8"} if isinstance(method, Recover) else {}
    plain = dataclasses.replace(method, labels="hard", train=TrainRecipe(steps=5), **pixels)
    labels = dd.estimate(real, method).set_bytes - dd.estimate(real, plain).set_bytes
    assert labels == small.store.nbytes
    few = dataclasses.replace(method, label_bytes=labels // 2)
    kept = dd.distill(real, few, store=tmp_path, progress=False).store.nbytes  # type: ignore[union-attr]
    assert kept <= labels // 2
    assert dd.estimate(real, few).set_bytes == dd.estimate(real, plain).set_bytes + kept


def test_the_store_is_what_teachers_take(real: Images, tmp_path: Path) -> None:
    dd.distill(real, METHOD["static"], store=tmp_path, progress=False)
    files = list(tmp_path.rglob("*.safetensors"))
    assert len(files) == 2
    predicted, written = dd.estimate(real, METHOD["static"]).disk_bytes, sum(f.stat().st_size for f in files)
    assert 0 <= written - predicted < 2 * 4096  # their headers


def test_members_that_come_trained_are_not_trained(real: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, CLASSES))
    own = dd.Teacher("own", net, TEACHER.transform(real))
    found = dd.estimate(real, Recover(ipc=1, committee=(own, net), priors=(50.0, 50.0), iterations=0))
    assert found.disk_bytes == 0
    assert "teachers" not in found.stages
    named = Recover(ipc=1, committee=("tv:resnet18(weights=default)",), iterations=2)
    works = works_of(named, real, monkeypatch)  # nothing is fetched
    assert {w.stage for w in works} == {"recovery", "labels"}
    twice = Recover(ipc=1, committee=(PAIR[0], PAIR[0]), teacher=TEACHER, iterations=2)
    once = Recover(ipc=1, committee=(PAIR[0],), teacher=TEACHER, iterations=2)
    assert dd.estimate(real, twice).disk_bytes == dd.estimate(real, once).disk_bytes > 0


def test_pairs_and_voters_share_the_recovery(real: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    three = (*PAIR, "convnet(width=8,depth=1,norm=batch)")
    fields: dict[str, Any] = {"ipc": 2, "teacher": TEACHER, "committee": three, "iterations": 3}
    two = works_of(Recover(**fields, pairs=((0, 1), (1, 2))), real, monkeypatch)
    all_of_them = works_of(Recover(**fields, voters=3), real, monkeypatch)
    calls = [sum(w.calls for w in works if w.stage == "recovery") for works in (two, all_of_them)]
    assert calls == pytest.approx([2 * 3 * 2, 2 * 3 * 3])


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("mtt", "ftd", "ast", "tesla", "datm")])
def test_a_calibration_measures_every_method_and_writes_nothing(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DD_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("dd.cost.work.SECONDS", 0.05)
    monkeypatch.setattr("dd.cost.work._PILOT", 0.005)
    of_graphs = kind_of(method) != "images"
    fields = {"budget_bytes": 2048} if of_graphs else {"ipc": 2 if method == "infer" else 1}
    data = {"graphs": "digits-graphs", "nodes": "blocks"}.get(kind_of(method), "digits")
    assumed, found = (dd.estimate(data, method, calibrate=c, device="cpu", **fields) for c in (False, True))
    assert (assumed.measured, found.measured) == (False, True)
    assert all(seconds > 0 for seconds in found.stages.values())
    assert found.stages.keys() == assumed.stages.keys()
    assert found.peak_bytes == assumed.peak_bytes > 0
    assert not list(tmp_path.iterdir())


def test_trials_are_taken_in_proportion() -> None:
    """A call of 100 pictures at a second each, tried with fewer: its seconds are those of 100."""
    network = Forward(flops=10**9, numbers=1, largest=1, layers=1, parameters=1)
    asked: list[tuple[int, int]] = []

    def trial(images: int, calls: int) -> None:
        asked.append((images, calls))

    work = Work(stage="labels", calls=3, images=100, network=network, passes=1, trial=trial, least=2)
    assert work.assumed(1e9) == pytest.approx(100, rel=1e-3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dd.cost.work.timed", lambda call, device: (call(), float(asked[-1][0] * asked[-1][1]))[::-1])
        assert work.measured(CPU, 1e9, budget=40.0) == pytest.approx(100)
    assert asked[0] == (2, 1)
    assert max(images for images, _ in asked) <= 100


def test_a_card_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DD_HOME", str(tmp_path))
    for data, method in (
        ("cifar10", "mtt"),
        ("imagenette", "sre2l"),
        ("svhn", "random"),
        ("NCI1", "mirage"),
        ("nci-1", "mirage"),
    ):
        found = dd.estimate(data, method, **({} if method == "mirage" else {"ipc": 1}))
        assert found.seconds > 0
    with pytest.raises(MissingError, match=r"the files of 'HIV' are not there"):
        dd.estimate("HIV", "mirage")  # its card does not count nodes
    with pytest.raises(MissingError, match=r"the files of 'NCI1' are not there"):
        dd.estimate("NCI1", "mirage", calibrate=True)  # how often trees repeat is in the graphs
    with pytest.raises(MissingError, match=r"the files of 'cifar10' are not there"):
        dd.distill("cifar10", "random", ipc=1, progress=False)
    with pytest.raises(dd.InputError, match="size"):
        dd.estimate("cifar10", "mtt", ipc=1, size=0)


def test_a_calibration_without_data_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DD_HOME", str(tmp_path))
    monkeypatch.setattr("dd.cost.work.SECONDS", 0.05)
    assert dd.estimate("mnist", "random", ipc=1, calibrate=True).measured
    assert "mnist is not here: measured on noise of its shape" in capsys.readouterr().err


def test_a_cards_counts_are_those_of_its_data() -> None:
    """Where both are here, they tell the same."""
    card = load_graph_card("NCI1")
    blank = blank_graphs(card)
    assert blank is not None
    assert blank.num_classes == 2
    assert blank.train.num_nodes == pytest.approx(0.8 * card.counts["nodes"], rel=0.05)
    assert blank.train.num_edges == pytest.approx(0.8 * card.counts["edges"], rel=0.05)
    assert bool((blank.train.graph[blank.train.edge_index[0]] == blank.train.graph[blank.train.edge_index[1]]).all())


def test_mirage_grows_with_depth() -> None:
    real = blank_graphs(load_graph_card("NCI1"))
    one, three = (Mirage(depth=d) for d in (1, 3))
    few, many = (estimate_mirage(method, real, CPU, False) for method in (one, three))
    assert many.stages["trees"] == pytest.approx(3 * few.stages["trees"])
    assert many.peak_bytes > few.peak_bytes


@pytest.mark.parametrize("kind", ["all", "closed", "maximal", "single"])
def test_mirage_grows_with_the_budget_up_to_what_there_is_to_buy(kind: str) -> None:
    real = blank_graphs(load_graph_card("NCI1"))
    budgets = (10**4, 10**5, 10**9, 10**10)
    a, b, most, more = (estimate_mirage(Mirage(patterns=kind, budget_bytes=n), real, CPU, False) for n in budgets)
    assert a.stages["mining"] < b.stages["mining"] < most.stages["mining"] == more.stages["mining"]
    assert a.stages["trees"] == more.stages["trees"]
    assert a.peak_bytes < b.peak_bytes < most.peak_bytes
    assert ("mining about" in str(a), "mining about" in str(b)) == (False, True)
    half = estimate_mirage(Mirage(patterns=kind, budget_bytes=10**9, max_patterns=50_000), real, CPU, False)
    ratio = 0.5 if kind in ("all", "closed") else 1
    assert half.stages["mining"] == pytest.approx(ratio * most.stages["mining"])


def test_a_calibration_of_mirage_spends_little_of_a_large_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    budgets: list[int | None] = []
    distil = Mirage.distill

    def noted(self: Mirage, *args: Any) -> Any:
        budgets.append(self.budget_bytes)
        return distil(self, *args)

    monkeypatch.setattr(Mirage, "distill", noted)
    small, large = (estimate_mirage(Mirage(budget_bytes=n), graphs(), CPU, True) for n in (500, 10**9))
    assert sorted(set(budgets), key=int) == [500, 10_000]
    assert 0 < small.stages["mining"] < large.stages["mining"]


def test_herding_looks_at_every_training_image(real: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    works = works_of(Coreset(ipc=2, teacher=TEACHER), real, monkeypatch)
    assert pictures(works, "choice") == pytest.approx(len(real.train))


def test_numbers_by_class_are_counted_in_all(real: Images) -> None:
    alike, uneven = (dd.estimate(real, "random", ipc=i).set_bytes for i in (2, {"0": 1, "1": 4, "2": 1}))
    assert alike == uneven > 0
    assert dd.estimate(real, Coreset(ipc={"0": 1, "1": 4, "2": 1}, teacher=TEACHER)).set_bytes == alike
