"""The matching loop: step size, skipping, averaging, schedules, initialisation, divergence."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import dd
from dd.base.files import digest, load_tensors, save_tensors
from dd.experts import ExpertStore, ExpertTrainer
from dd.inner import Matching
from dd.inner.fast import native
from dd.methods import Run, Step
from dd.methods.trajectory import loop
from dd.methods.trajectory.loop import Loop
from dd.transforms.whiten import make_transform

FEW: dict[str, Any] = {"augment": "", "batch_size": 64, "snapshot_every": 2, "snapshot_unit": "step"}
RECIPE = dd.ExpertRecipe(model="convnet(width=4)", lr=0.05, experts=3, snapshots=4, **FEW)


def method(**fields: Any) -> dd.TrajectoryMatching:
    base: dict[str, Any] = {
        "ipc": 1,
        "expert": RECIPE,
        "iterations": 3,
        "student_steps": 2,
        "expert_epochs": 1,
        "max_start_epoch": 3,
        "lr_img": 10.0,
        "train": dd.TrainRecipe(steps=2),
    }
    return dd.TrajectoryMatching(**{**base, **fields})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def real() -> dd.Images:
    return dd.load_images("digits")


def steps(value: dd.TrajectoryMatching, real: dd.Images, store: Path, **run: Any) -> list[Step]:
    return list(value.distill(real, Run(store=store, **run)))


def _loop(value: dd.TrajectoryMatching, real: dd.Images, store: Path, **run: Any) -> Loop:
    transform = make_transform(real, value.expert.whiten)
    experts = ExpertStore(store, value.expert, real)
    return Loop(value, real, Run(store=store, **run), transform, experts)


def test_both_engines_give_the_same_images_in_float64(real: dd.Images, store: Path) -> None:
    ends = [steps(method(momentum=0.9), real, store, precision="fp64", engine=e)[-1] for e in ("adjoint", "unroll")]
    a, b = (end.state["images"] for end in ends)
    assert a.dtype == torch.float64
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(ends[0].state["lr"], ends[1].state["lr"], rtol=1e-10, atol=0)


def pushing(gradients: list[float], loss: float = 0.5) -> Any:
    """An engine whose ∂L/∂β are those of a list, and which leaves the images."""
    left = iter(gradients)

    def push(problem: Any, _: Any) -> Matching:
        slope = torch.tensor(next(left), dtype=problem.lr.dtype)
        return Matching(torch.tensor(loss), torch.zeros_like(problem.images), slope, None, problem.theta)

    return push


def step_sizes(value: dd.TrajectoryMatching, real: dd.Images, store: Path) -> list[float]:
    return [float(step.state["lr"]) for step in steps(value, real, store, precision="fp64")]


def test_step_size_follows_the_published_rule_until_it_would_fall_below_half(
    real: dd.Images, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients, beta, velocity, expected = [2.0, -3.0, 1.0, 9.0, 0.0, -1.0], 0.01, 0.0, []
    for slope in gradients:  # by hand: v ← v / 2 + g, β ← max(β − lr_lr v, β / 2)
        velocity = velocity / 2 + slope
        beta = max(beta - 1e-3 * velocity, beta / 2)
        expected.append(beta)
    assert expected[3] == expected[2] / 2  # one of them is halved
    value = method(lr_lr=1e-3, lr_init=0.01, iterations=6)
    monkeypatch.setattr("dd.methods.trajectory.loop.solve", pushing(gradients))
    found = step_sizes(value, real, store)
    assert found == pytest.approx(expected, rel=1e-12)
    monkeypatch.setattr("dd.methods.trajectory.loop.solve", pushing(gradients[:3]))
    assert step_sizes(method(lr_lr=1e-3, lr_init=0.01, lr_mode="raw"), real, store) == found[:3]


def test_step_size_stays_positive_where_the_published_rule_turns_negative(
    real: dd.Images, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dd.methods.trajectory.loop.solve", pushing([100.0]))
    assert step_sizes(method(lr_lr=1e-3, iterations=1), real, store) == [0.005]
    monkeypatch.setattr("dd.methods.trajectory.loop.solve", pushing([100.0, 0.0]))
    raw = steps(method(lr_lr=1e-3, iterations=2, lr_mode="raw"), real, store)[0]
    assert raw.metrics["skipped"] == "step size"  # −0.09 is refused, and β halved instead
    assert float(raw.state["lr"]) == pytest.approx(0.005)


@pytest.mark.parametrize("options", [{}, {"intermediate": "equal", "expert_epochs": 2, "max_start_epoch": 2}])
def test_student_that_does_not_move_for_fifty_iterations_ends_the_run(
    real: dd.Images, store: Path, options: dict[str, Any]
) -> None:
    value = method(lr_init=1e-9, lr_lr=0.0, iterations=60, **options)
    stream = value.distill(real, Run(store=store))
    assert [step.iteration for step in itertools.islice(stream, 49)][-1] == 49
    with pytest.raises(dd.DivergedError, match=r"not moved for 50 outer.* 1\.0000.* of 1e-09.*Raise `lr_init`"):
        next(stream)


def test_student_that_moves_now_and_then_goes_on(real: dd.Images, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([1.0] * 49 + [1.001] + [1.0] * 49)
    monkeypatch.setattr(
        "dd.methods.trajectory.loop.solve", lambda problem, road: pushing([0.0], next(losses))(problem, road)
    )
    assert len(steps(method(iterations=99, lr_lr=0.0), real, store)) == 99


def test_loss_above_the_threshold_changes_nothing(real: dd.Images, store: Path) -> None:
    frozen = list(itertools.islice(method(skip_above=1e-9, ema=0.9).distill(real, Run(store=store)), 2))
    start = frozen[0].state["images"]
    assert all("skipped" in step.metrics for step in frozen)
    assert torch.equal(frozen[-1].state["images"], start)
    assert torch.equal(frozen[-1].state["ema"], start)
    free, default = (steps(method(**f), real, store)[-1] for f in ({"skip_above": math.inf}, {}))
    assert torch.equal(free.state["images"], default.state["images"])
    assert not torch.equal(free.state["images"], start)


def test_not_finite_keeps_images_halves_beta_and_gives_up_after_ten(
    real: dd.Images, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(problem: Any, _: Any) -> Matching:
        nan = torch.full_like(problem.images, math.nan)
        return Matching(torch.tensor(math.nan), nan, torch.tensor(math.nan), None, problem.theta)

    monkeypatch.setattr("dd.methods.trajectory.loop.solve", broken)
    stream = method(iterations=50).distill(real, Run(store=store))
    first = next(stream)
    assert first.metrics["skipped"] == "not finite; step size halved"
    assert first.state["images"].isfinite().all()
    assert float(first.state["lr"]) == pytest.approx(0.005)
    with pytest.raises(dd.DivergedError, match=r"10 outer iterations in a row were not finite.*Lower `lr_img`"):
        list(stream)


@pytest.mark.parametrize("gamma", [0.0, 0.7, 1.0])
def test_average_of_the_images(real: dd.Images, store: Path, gamma: float) -> None:
    path = steps(method(ema=gamma), real, store)
    if gamma == 0:
        assert "ema" not in path[-1].state
        return
    expected = _loop(method(ema=gamma), real, store).start()["images"]
    for step in path:
        expected = gamma * expected + (1 - gamma) * step.state["images"]
        torch.testing.assert_close(step.state["ema"], expected)
    assert [candidate.name for candidate in path[-1].candidates] == ["last", "ema"]


@pytest.mark.parametrize(("batch", "count"), [(None, 3), (10, 4), (7, 5), (30, 2), (99, 2)])
def test_every_image_is_drawn_equally_often(real: dd.Images, store: Path, batch: int | None, count: int) -> None:
    loop = _loop(method(ipc=3, batch_syn=batch, student_steps=count), real, store)
    schedule = loop._steps(torch.Generator().manual_seed(0))
    size = min(batch or 30, 30)
    chunks = -(-30 // size)
    drawn = torch.bincount(torch.cat([s.index for s in schedule]), minlength=30)
    assert drawn.min() >= count // chunks
    assert drawn.max() <= count // chunks + 1
    assert len(schedule[0].index) == (30 % size or size)  # the remainder comes first
    assert all(s.draw.n == len(s.index) for s in schedule)


def test_experts_are_walked_through_before_any_comes_again(real: dd.Images, store: Path) -> None:
    logs = [step.metrics for step in steps(method(iterations=9, student_steps=1), real, store)]
    experts = [log["expert"] for log in logs]
    for block in (experts[:3], experts[3:6], experts[6:]):
        assert sorted(block) == [0, 1, 2]  # type: ignore[type-var]
    assert {log["start"] for log in logs} <= {0, 1, 2}
    other = [s.metrics["expert"] for s in steps(method(iterations=9, student_steps=1), real, store, seed=5)]
    assert other != experts


def test_initialisation(real: dd.Images, store: Path) -> None:
    state = _loop(method(ipc=5), real, store).start()
    transform = make_transform(real, False)
    pixels = transform.forward(real.train.pixels())
    for row, image in enumerate(state["images"]):
        match = (pixels == image).flatten(1).all(1).nonzero().flatten()
        assert row // 5 in real.train.labels[match].tolist()
    assert len({tuple(i.flatten().tolist()) for i in state["images"]}) == 50  # distinct
    noise = _loop(method(ipc=5, init="noise"), real, store).start()["images"]
    assert abs(float(noise.mean())) < 0.1
    assert abs(float(noise.std()) - 1) < 0.1


def test_equal_snapshots_are_refused_by_name(real: dd.Images, tmp_path: Path) -> None:
    value = method(iterations=1, max_start_epoch=1)
    steps(value, real, tmp_path)
    for file in tmp_path.rglob("*.safetensors"):
        tensors, meta = load_tensors(file)
        tensors["theta"][:] = tensors["theta"][-1].clone()  # what a buffer of aliases looks like
        meta["rows"] = [digest(row) for row in tensors["theta"]]
        save_tensors(file, tensors, meta)
    with pytest.raises(dd.DamagedError, match=r"expert \d of .* has equal snapshots 0 and 1"):
        steps(value, real, tmp_path)


def test_micro_batches_and_batch_statistics_exclude_each_other(real: dd.Images, tmp_path: Path) -> None:
    recipe = dd.ExpertRecipe(model="convnet(width=4, norm=batch)", experts=1, snapshots=2, **FEW)
    value = method(expert=recipe, max_start_epoch=1)
    with pytest.raises(dd.InputError, match=r"`micro_batch` must be None for a network with batch statistics"):
        steps(value, real, tmp_path, micro_batch=5)
    assert steps(value, real, tmp_path)[-1].candidates


class OwnBatchNorm(torch.nn.Module):
    """Normalises by its batch in a call, where no layer tells it."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.conv, self.head = torch.nn.Conv2d(channels, 4, 3), torch.nn.Linear(4, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.nn.functional.batch_norm(self.conv(x), None, None, training=True)
        return self.head(h.tanh().mean((2, 3)))


def test_a_step_is_not_split_for_a_batch_norm_that_is_no_layer(real: dd.Images, tmp_path: Path) -> None:
    model = dd.Model(lambda channels, classes, size: OwnBatchNorm(channels, classes), name="own-batch-norm")
    recipe = dd.ExpertRecipe(model=model, experts=1, snapshots=2, **FEW)
    value = method(expert=recipe, max_start_epoch=1)
    with pytest.raises(dd.InputError, match=r"`micro_batch` must be None for a network with batch statistics"):
        steps(value, real, tmp_path, micro_batch=5)
    run = Run(store=tmp_path)
    made = Loop(value, real, run, make_transform(real, False), ExpertStore(tmp_path, recipe, real))
    assert made.road.micro_batch is None
    plain = method(max_start_epoch=1)
    assert Loop(plain, real, run, made.transform, made.store).road.micro_batch == 50


def test_ftd_is_mtt_with_other_fields() -> None:
    mtt, ftd = dd.MTT(), dd.FTD()
    assert type(mtt) is type(ftd)
    assert (ftd.expert.step, ftd.ema) == ("gsam", 0.9995)
    assert (mtt.expert.step, mtt.ema) == ("sgd", 0.0)
    assert dd.FTD(ema=0.5, expert=mtt.expert, name="mtt") == dd.MTT(ema=0.5)
    with pytest.raises(AttributeError):
        mtt.ipc = 3  # type: ignore[misc]


class Chancy(torch.nn.Module):
    """A network that drops out by a call, where no one can see it."""

    def __init__(self, channels: int, classes: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.last = torch.nn.Linear(channels * size[0] * size[1], classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.nn.functional.dropout(x.flatten(1), 0.2, training=self.training))


def test_what_is_no_student_is_refused_before_an_expert_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ExpertTrainer, "snapshots", lambda *a: pytest.fail("an expert was trained"))
    expert = dd.ExpertRecipe(model=dd.Model(Chancy, name="chancy"), experts=1, snapshots=4, **FEW)
    for call in (
        lambda: dd.distill("digits", method(expert=expert), store=tmp_path),
        lambda: dd.buffer("digits", method(expert=expert), store=tmp_path),
        lambda: dd.buffer("digits", expert, store=tmp_path),
    ):
        with pytest.raises(dd.InputError, match="got chancy, which draws random numbers in a pass"):
            call()
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_vision_transformer_is_distilled(tmp_path: Path) -> None:
    from torchvision.models import VisionTransformer

    def small(channels: int, classes: int, size: tuple[int, int]) -> torch.nn.Module:
        net = VisionTransformer(size[0], 4, 1, 2, 8, 8, dropout=0.1, num_classes=classes)
        net.conv_proj = torch.nn.Conv2d(channels, 8, 4, stride=4)
        return net

    expert = dd.ExpertRecipe(model=dd.Model(small, name="small-vit"), lr=0.05, experts=1, snapshots=4, **FEW)
    made = [
        dd.distill("digits", method(expert=expert), store=tmp_path, engine=engine) for engine in ("adjoint", "unroll")
    ]
    assert float(made[0].images.abs().max()) > 0
    torch.testing.assert_close(made[0].images, made[1].images, rtol=1e-4, atol=1e-4)


@pytest.fixture
def broken_compiler(unbuilt: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is there and fails."""

    def run(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(native.subprocess, "run", run)
    monkeypatch.setattr(native, "compiler", lambda: "cxx")
    monkeypatch.setattr(loop, "worth_compiling", lambda *_: True)
    monkeypatch.setattr(loop, "compiler_present", lambda _: True)


@pytest.mark.usefixtures("broken_compiler")
def test_a_compiler_that_fails_is_told_and_matching_goes_on(real: dd.Images, store: Path) -> None:
    with pytest.warns(
        UserWarning, match=r"cannot be compiled \(`cxx`: \[Errno 28\] No space left on device\); .*compile=False"
    ):
        last = steps(method(), real, store)[-1]
    assert torch.equal(last.state["images"], steps(method(), real, store, compile=False)[-1].state["images"])


@pytest.mark.usefixtures("broken_compiler")
@pytest.mark.parametrize(("asked", "name"), [({"compile": True}, "compile"), ({"precision": "hybrid"}, "precision")])
def test_what_needs_a_compiler_that_fails_is_refused(
    asked: dict[str, Any], name: str, real: dd.Images, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(dd.InputError, match=f"`{name}` .*No space left on device.*`CXX`"):
        steps(method(), real, store, **asked)
    monkeypatch.setattr(loop, "compiler_present", lambda _: False)
    with pytest.raises(dd.InputError, match=f"`{name}` .*no compiler is present"):
        steps(method(), real, store, **asked)
