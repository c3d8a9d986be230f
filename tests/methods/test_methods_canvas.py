"""Texture mode: the gradient in the canvases against autograd through rolled crops, and a run from end to end."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.canvas import rolled
from reference.loops import loop
from reference.loops import method as small_method
from reference.matching import matching_loss

import dd
from dd.inner.fast import adjoint_fast
from dd.methods import Run
from dd.methods.start import pick_real
from dd.transforms.whiten import make_transform

method = partial(small_method, canvas=2, init="noise")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def real() -> dd.Images:
    return dd.load_images("digits")


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "samples": {"canvas_samples": 2},
    "chunks": {"ipc": 2, "batch_syn": 7, "student_steps": 4, "canvas_samples": 2},
    "three": {"canvas": 3, "momentum": 0.9, "intermediate": "equal"},
}


@pytest.mark.parametrize("engine", ["adjoint", "unroll", "fast"])
@pytest.mark.parametrize("name", OPTIONS)
def test_gradient_in_the_canvases_is_autograds(real: dd.Images, store: Path, name: str, engine: Any) -> None:
    value = method(**OPTIONS[name])
    road = "adjoint" if engine == "fast" else engine
    made = loop(value, real, store, precision="fp64", engine=road, micro_batch=6)
    state = made.start()
    problem, where = made._problem(state, 0)
    crops = where["crops"]
    answer = adjoint_fast(problem, 6, compiled=False) if engine == "fast" else made._engine(problem)
    leaf = state["images"].clone().requires_grad_()
    lr = problem.lr.clone().requires_grad_()
    places = torch.stack((crops.index, crops.top, crops.left), 1).tolist()
    batches, taken = [], 0
    for step in problem.steps:
        here = places[taken : taken + len(step.index)]
        taken += len(here)
        x = step.draw(rolled(leaf, [tuple(p) for p in here], real.size))
        batches.append((x, made.labels[[p[0] for p in here]]))
    assert taken == len(places)
    targets = {t.step: (t.weight, t.theta) for t in problem.targets}
    loss = matching_loss(problem.student.module, problem.theta, targets, batches, lr, value.momentum)
    gradient, of_lr = torch.autograd.grad(loss, (leaf, lr))
    torch.testing.assert_close(answer.loss, loss.detach(), rtol=1e-10, atol=0)
    torch.testing.assert_close(answer.lr, of_lr, rtol=1e-8, atol=1e-14)
    mine = crops.put(answer.images, state["images"])
    assert bool((gradient.flatten(1).abs().sum(1) > 0).all())
    torch.testing.assert_close(mine, gradient, rtol=1e-8, atol=1e-12 * float(gradient.abs().max()) + 1e-16)
    new, _ = made.iterate(state)
    torch.testing.assert_close(new["images"], state["images"] - value.lr_img * gradient, rtol=1e-8, atol=1e-10)


def test_every_step_sees_each_canvas_of_its_chunk_in_fresh_places(real: dd.Images, store: Path) -> None:
    value = method(ipc=2, batch_syn=7, canvas_samples=2, student_steps=6)
    made = loop(value, real, store)
    state = made.start()
    problem, where = made._problem(state, 0)
    of = [where["crops"].index[s.index] for s in problem.steps]
    assert [len(o) for o in of] == [12, 14, 14, 12, 14, 14]
    for o in of:
        assert torch.equal(o[: len(o) // 2], o[len(o) // 2 :])  # all once, then all again
        assert len(set(o.tolist())) == len(o) // 2
    assert torch.cat(of[:3]).bincount(minlength=20).tolist() == [2] * 20
    assert [s.draw.n for s in problem.steps] == [len(o) for o in of]
    again = made._problem(state, 0)[1]["crops"]
    assert torch.equal(again.top, where["crops"].top)
    assert not torch.equal(made._problem(state, 1)[1]["crops"].top[:40], again.top[:40])


def test_start_from_real_images_tiles_different_ones_of_the_class(real: dd.Images, store: Path) -> None:
    images = loop(method(ipc=2, init="real"), real, store).start()["images"]
    assert images.shape == (20, 1, 16, 16)
    pixels = make_transform(real, False).forward(real.train.pixels())
    found = []
    for row, canvas in enumerate(images):
        for top, left in ((0, 0), (0, 8), (8, 0), (8, 8)):
            part = canvas[:, top : top + 8, left : left + 8]
            match = (pixels == part).flatten(1).all(1).nonzero().flatten()
            assert row // 2 in real.train.labels[match].tolist()
            found.append(int(match[0]))
    assert len(set(found)) == 80
    noise = loop(method(ipc=2), real, store).start()["images"]
    assert noise.shape == images.shape
    assert abs(float(noise.std()) - 1) < 0.1


def test_more_tiles_than_images_take_all_of_a_class_again() -> None:
    pixels = torch.arange(8, dtype=torch.uint8).view(8, 1, 1, 1).expand(8, 1, 4, 4).contiguous()
    data = dd.Images(train=(pixels, torch.arange(2).repeat(4)), test=None)
    rows = pick_real(dd.load_images(data), 9, 0).view(2, 9)
    for k in range(2):
        counts = torch.bincount(rows[k], minlength=8)
        assert sorted(counts[counts > 0].tolist(), reverse=True)[0] - int(counts[counts > 0].min()) <= 1


def test_run_resumes_saves_evaluates_and_keeps_the_canvas(real: dd.Images, store: Path, tmp_path: Path) -> None:
    value = method(canvas_samples=2, iterations=3)
    small = dd.distill(real, value, out=tmp_path / "run", store=store)
    assert small.images.shape == (10, 1, 16, 16)
    assert (small.canvas, small.canvas_samples, small.size) == (2, 2, (8, 8))
    back = dd.load(tmp_path / "run")
    assert torch.equal(back.images, small.images)
    assert (back.canvas, back.canvas_samples) == (2, 2)
    path = list(value.distill(real, Run(store=store)))
    rest = list(value.distill(real, Run(store=store), path[0].state))
    assert torch.equal(rest[-1].state["images"], path[-1].state["images"])
    report = dd.evaluate(back, real, repeats=1, baselines=("random", "class_mean"))
    assert report.method == "mtt, 10 canvases of 2² (uint8)"
    assert any("a canvas counts as 4 images" in note for note in report.notes)
    assert report.bytes["images"] == 10 * 16 * 16
    again = dd.evaluate(back, real, repeats=1, baselines=())
    assert again.mean == report.mean


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"canvas": 0}, "`canvas` must be a whole number of at least 1; got 0"),
        ({"canvas_samples": 1.5}, "`canvas_samples` must be a whole number; got 1.5"),
        ({"canvas": 1, "canvas_samples": 2}, "`canvas_samples` must be 1 without a canvas; got 2. Give `canvas=2`"),
        ({"labels": "assigned"}, "`labels` must be `hard` with a canvas.*got 'assigned'.*or `canvas=1`"),
        ({"labels": "learned", "init": "real"}, "`labels` must be `hard` with a canvas"),
        ({"init": "correct"}, "`init` must be `real` or `noise` with a canvas; got 'correct'"),
        (
            {"expert": dd.ExpertRecipe(whiten=True)},
            "`canvas` must be 1 with a whitened buffer.*got 2. Use an `expert` with whiten=False, or `canvas=1`",
        ),
    ],
)
def test_refusals(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(dd.InputError, match=text):
        method(**fields)
