"""What the papers add to the loop: AST's, TESLA's and DATM's parts, each on its own."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import dd
from dd.base.seeding import child
from dd.errors import InputError
from dd.experts import ExpertStore
from dd.inner import cross_entropy
from dd.methods import METHODS, Run, Step, TrajectoryMatching
from dd.methods.start import committee_logits, correct, points_of, representative, scores
from dd.methods.trajectory.loop import Loop
from dd.methods.trajectory.terms import balance, matching_points, perturb, softmax_pull, window_end
from dd.transforms.whiten import make_transform

FEW: dict[str, Any] = {"augment": "", "batch_size": 64, "snapshot_every": 4, "snapshot_unit": "step"}
RECIPE = dd.ExpertRecipe(model="convnet(width=4)", lr=0.05, experts=2, snapshots=5, **FEW)
BASE: dict[str, Any] = {
    "ipc": 2,
    "expert": RECIPE,
    "iterations": 2,
    "student_steps": 4,
    "expert_epochs": 2,
    "max_start_epoch": 3,
    "current_start_epoch": None,
    "lr_img": 10.0,
    "train": dd.TrainRecipe(steps=2),
}


@pytest.fixture(scope="module")
def real() -> dd.Images:
    return dd.load_images("digits")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


def run(value: Any, real: dd.Images, store: Path, **road: Any) -> list[Step]:
    return list(value.distill(real, Run(store=store, **road)))


def loop(value: Any, real: dd.Images, store: Path, **road: Any) -> Loop:
    transform = make_transform(real, value.expert.whiten)
    experts = ExpertStore(store, value.expert, real)
    experts.ensure(transform, snapshots=value.snapshots_read)
    return Loop(value, real, Run(store=store, **road), transform, experts)


def test_balance_has_the_published_values() -> None:
    assert [round(balance(t, 30), 3) for t in (0, 14, 15, 29)] == [0.513, 0.732, 1.292, 1.921]


def test_window_grows_to_its_end_and_stays() -> None:
    ends = [window_end(10, 20, i, 1000) for i in range(0, 1500, 10)]
    assert ends[0] == 10
    assert ends == sorted(ends)
    assert all(end == 20 for end in ends[100:])
    assert window_end(None, 20, 0, 1000) == window_end(10, 20, 0, 0) == 20


def test_matching_points() -> None:
    assert matching_points(30, 2, "none") == [(30, 2, 1.0)]
    assert matching_points(20, 3, "equal") == [(6, 1, 1.0), (12, 2, 1.0), (20, 3, 1.0)]
    assert [w for _, _, w in matching_points(20, 3, "adaptive")] == [1 / 3, 2 / 3, 1.0]
    assert matching_points(20, 1, "equal") == matching_points(20, 1, "none")


@pytest.mark.parametrize("norm", ["tensor", "filter"])
def test_perturbation_touches_convolutions_only(norm: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = {"conv": (64, 32, 3, 3), "bias": (64,), "linear": (10, 64)}
    views = {k: torch.randn(s, generator=generator) for k, s in shapes.items()}
    flat = torch.cat([v.reshape(-1) for v in views.values()])
    assert torch.equal(perturb(views, 0.0, norm, child(0, "p")), flat)
    moved = perturb(views, 0.5, norm, child(0, "p"))
    count = views["conv"].numel()
    assert torch.equal(moved[count:], flat[count:])
    size = float((moved[:count] - flat[:count]).norm() / flat[:count].norm())
    assert size == pytest.approx(0.5 / math.sqrt(count) if norm == "tensor" else 0.5, rel=0.05)


def test_softmax_pull_is_autograd_and_sums_to_zero() -> None:
    z = torch.randn(5, 4, dtype=torch.float64, generator=child(0, "z")).requires_grad_()
    f = torch.randn(5, 4, dtype=torch.float64, generator=child(0, "f"))
    loss = cross_entropy(f, z.softmax(1))
    (true,) = torch.autograd.grad(loss, z)
    (g,) = torch.autograd.grad(cross_entropy(f, p := z.detach().softmax(1).requires_grad_()), p)
    mine = softmax_pull(p.detach(), g)
    torch.testing.assert_close(mine, true, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(mine.sum(1), torch.zeros(5, dtype=torch.float64), rtol=0, atol=1e-14)
    torch.testing.assert_close(cross_entropy(f, (z + 3).softmax(1)), loss)
    hard = torch.tensor([0, 1, 2, 3, 0])
    sure = (100 * torch.nn.functional.one_hot(hard, 4)).double().softmax(1)
    torch.testing.assert_close(cross_entropy(f, sure), cross_entropy(f, hard))


@pytest.mark.parametrize("space", ["logit", "feature"])
def test_representative_images_are_distinct_right_and_repeatable(real: dd.Images, store: Path, space: Any) -> None:
    made = loop(TrajectoryMatching(**BASE), real, store)
    theta = made._last(0)
    args = (made.student, theta, real, made.transform, 3, space)
    rows = representative(*args, 0)
    assert len(set(rows.tolist())) == 30
    assert torch.equal(real.train.labels[rows], torch.arange(10).repeat_interleave(3))
    assert torch.equal(rows, representative(*args, 0))
    one = representative(*args[:4], 1, space, 0)  # one cluster: the image nearest to the class mean
    of_class = real.class_index(4)
    points = points_of(made.student, theta, real, made.transform, of_class, space).double()
    assert int(one[4]) == int(of_class[(points - points.mean(0)).square().sum(1).argmin()])


def test_first_labels_come_from_the_experts_that_are_right(real: dd.Images, store: Path) -> None:
    made = loop(TrajectoryMatching(**BASE), real, store)
    thetas = [made._last(e) for e in (0, 1)]
    rows, y = torch.arange(300), real.train.labels[:300]
    each = [scores(made.student, t, real, made.transform, rows) for t in thetas]
    z = committee_logits(each, y)
    for i in range(300):
        right = [s[i] for s in each if int(s[i].argmax()) == int(y[i])]
        torch.testing.assert_close(z[i], torch.stack(right or [s[i] for s in each]).mean(0))
    assert z.isfinite().all()
    picked = correct(made.student, thetas[0], real, made.transform, 2, 0)
    assert torch.equal(real.train.labels[picked], torch.arange(10).repeat_interleave(2))
    good = scores(made.student, thetas[0], real, made.transform, picked).argmax(1) == real.train.labels[picked]
    every = scores(made.student, thetas[0], real, made.transform, torch.arange(len(real.train))).argmax(1)
    available = [int(((every == real.train.labels) & (real.train.labels == k)).sum()) for k in range(10)]
    assert good.view(10, 2).sum(1).tolist() == [min(2, a) for a in available]


@pytest.mark.parametrize("start", [{"init": "correct"}, {"init": "representative"}, {"labels": "learned"}])
def test_start_is_made_with_the_last_snapshot_of_an_expert_where_that_is_asked_for(
    real: dd.Images, tmp_path: Path, start: dict[str, Any]
) -> None:
    read, last = (
        TrajectoryMatching(**{**BASE, **start, "max_start_epoch": 2, "init_snapshot": word})
        for word in ("read", "last")
    )
    assert (read.snapshots_read, last.snapshots_read, last.snapshots_matched) == (3, 5, 3)
    made = loop(last, real, tmp_path)
    assert torch.equal(made._last(0), made.store.read(0, [5])[0])
    assert torch.equal(loop(read, real, tmp_path)._last(0), made.store.read(0, [3])[0])


def test_start_without_an_expert_needs_no_snapshot_beyond_the_matching() -> None:
    value = TrajectoryMatching(**{**BASE, "init": "real", "labels": "hard", "init_snapshot": "last"})
    assert value.snapshots_read == value.snapshots_matched == 4


OPTIONS: dict[str, dict[str, Any]] = {
    "momentum": {"momentum": 0.9, "lr_init": 0.001},
    "balance": {"balance": True},
    "equal": {"intermediate": "equal"},
    "adaptive": {"intermediate": "adaptive"},
    "perturb": {"perturb": 1.0, "perturb_norm": "filter"},
    "detached": {"gradient": "detached"},
    "truncate": {"truncate": 2},
    "assigned": {"labels": "assigned"},
    "learned": {"labels": "learned", "init": "correct"},
    "representative": {"init": "representative"},
    "window": {"current_start_epoch": 1, "window_iterations": 2},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_alone_changes_the_run_and_engines_agree(real: dd.Images, store: Path, name: str) -> None:
    value = TrajectoryMatching(**{**BASE, "iterations": 3, **OPTIONS[name]})
    plain = run(TrajectoryMatching(**{**BASE, "iterations": 3}), real, store, precision="fp64")[-1]
    ends = [run(value, real, store, precision="fp64", engine=e)[-1] for e in ("adjoint", "unroll")]
    assert not torch.equal(ends[0].state["images"], plain.state["images"])
    for key in ("images", "lr", *(("logits",) if name == "learned" else ())):
        torch.testing.assert_close(ends[0].state[key], ends[1].state[key], rtol=1e-9, atol=1e-11)


def test_balance_equals_a_scaled_step_size(real: dd.Images, store: Path) -> None:
    made = loop(TrajectoryMatching(**{**BASE, "balance": True, "lr_mode": "raw"}), real, store, precision="fp64")
    state = made.start()
    problem, where = made._problem(state, 0)
    assert float(problem.lr) == pytest.approx(0.01 * balance(where["start"], 3), rel=1e-12)
    delta, ends = 1e-6, []
    for lr in (0.01 + delta, 0.01 - delta):
        ends.append(
            float(made._engine(made._problem({**state, "lr": torch.tensor(lr, dtype=torch.float64)}, 0)[0]).loss)
        )
    _, log = made.iterate(state)
    assert float(made._engine(problem).lr) * where["phi"] == pytest.approx((ends[0] - ends[1]) / (2 * delta), rel=1e-5)
    assert log["start"] == where["start"]


@pytest.mark.parametrize("name", ["ast", "tesla", "datm"])
def test_papers_run_save_load_and_evaluate(real: dd.Images, tmp_path: Path, store: Path, name: str) -> None:
    value = dd.methods.METHODS[name](**{**BASE, "skip_above": 99.0, "batch_syn": None})
    small = dd.distill(real, value, out=tmp_path / "run", store=store)
    again = dd.load(tmp_path / "run")
    assert torch.equal(small.images, again.images)
    assert torch.equal(small.labels, again.labels)
    assert again.labels.is_floating_point() == (name == "datm")
    assert dd.evaluate(again, real, repeats=1, baselines=()).rows


def test_learned_labels_move(real: dd.Images, store: Path) -> None:
    value = TrajectoryMatching(**{**BASE, "iterations": 4, "labels": "learned", "init": "correct"})
    whole = run(value, real, store)
    first = whole[0].state["logits"]
    assert not torch.equal(first, whole[-1].state["logits"])


def test_every_field_is_described() -> None:
    value = TrajectoryMatching(**BASE, factor=2, mirror=True, storage="fp16")  # plain ones are not told
    for one in (value, value.expert):
        assert one.describe().keys() == {f.name for f in dataclasses.fields(one)}
    assert value.train.to_json().keys() == {f.name for f in dataclasses.fields(value.train)}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"current_start_epoch": 9}, "current_start_epoch.*at most 3"),
        ({"truncate": 5}, "truncate.*at most student_steps = 4"),
        ({"student_steps": 1, "intermediate": "equal"}, "student_steps.*at least expert_epochs = 2"),
        ({"labels": "learned", "init": "noise"}, "init.*real images"),
        ({"labels": "soft"}, "`labels` must be `hard` or `assigned` or `learned`; got"),
        ({"perturb": -1.0}, "perturb.*at least 0"),
        ({"max_start_epoch": 5}, "max_start_epoch.*at most 4"),
    ],
)
def test_refusals(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(dd.InputError, match=message):
        TrajectoryMatching(**{**BASE, **fields})


@pytest.mark.parametrize("name", ["mtt", "ftd", "datm", "dm", "idm", "ncfm", "sre2l", "cda", "rded", "infer"])
def test_a_field_that_is_none_is_refused_with_the_nearest(name: str) -> None:
    paper = METHODS[name].__name__  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=rf"^unknown field of {paper} 'ipcs'; known: .*\. Did you mean ipc\?$"):
        METHODS[name](ipcs=1)
    with pytest.raises(InputError, match=rf"by name; got 1 without a name\. Give them by name: `{paper}\(ipc=1\)`"):
        METHODS[name](1)


def test_a_paper_that_was_not_called_is_told_how() -> None:
    with pytest.raises(InputError, match=r"got the function DM\. Call it: `dd\.DM\(ipc=1\)`\.$"):
        dd.distill("digits", dd.DM, ipc=1)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"got the class Mirage\. Call it: `dd\.Mirage\(\)`\.$"):
        dd.distill("mutag", dd.Mirage)  # type: ignore[arg-type]
