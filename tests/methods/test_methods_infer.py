"""INFER: compensators by the loop written out, its labels and its bytes, the road to a trained network (30 to 35)."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dd
from dd.errors import DamagedError, InputError
from dd.methods import Run, rebuild
from dd.methods.decoupled.infer import Infer
from dd.methods.decoupled.recovery import Recovery, compensator
from dd.models import build
from dd.synthetic import CompensatedImages, TrainRecipe, base_sets, most_compensators
from dd.teachers import Teacher, TeacherRecipe, TeacherStore, label
from dd.transforms.whiten import Normalise

GENERATOR = torch.Generator().manual_seed(0)
LABELS = torch.arange(120) % 3
PIXELS = torch.randint(0, 80, (120, 3, 8, 8), generator=GENERATOR, dtype=torch.uint8)
for k in range(3):
    PIXELS[LABELS == k, k] += 150  # class k is bright in channel k
REAL = dd.load_images(dd.Images(train=(PIXELS, LABELS), test=(PIXELS[:30].flip(-1), LABELS[:30])))
NET, OTHER = "convnet(width=4, depth=1, norm=batch)", "convnet(width=6, depth=1, norm=batch)"
TRAIN = TrainRecipe(
    model=NET, steps=60, lr=0.02, optimizer="adamw", loss="kl", temperature=4.0, mix="mixup", batch_size=16
)
METHOD = Infer(
    ipc=4,
    committee=(NET, OTHER),
    compensators=2,
    teacher=TeacherRecipe(epochs=4, batch_size=16, augment=""),
    iterations=4,
    lr=0.05,
    train=TRAIN,
)
DYNAMIC = dataclasses.replace(
    METHOD, labels="dynamic", label_epochs=3, train=dataclasses.replace(TRAIN, mix="none", steps=40)
)
SAME = Normalise(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
HOW = Recovery(
    iterations=4, lr=0.1, bn_weight=0.5, first_bn=10.0, bn_norm="sum", crop=False, shared_crop=True, jitter=0
)


def made(method: Infer, store: Path, seed: int = 0) -> CompensatedImages:
    found = list(method.distill(REAL, Run(store=store, seed=seed)))[-1].candidates[0].set
    assert isinstance(found, CompensatedImages)
    return found


def teacher() -> Teacher:
    net = build("convnet(width=4, depth=2, norm=batch)", channels=3, classes=3, size=(8, 8), seed=0)
    return Teacher("t", net.double(), SAME)


def base() -> Tensor:
    pixels = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return SAME.forward(pixels)


def one_loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """CE + λ R of the published loop, with hooks by hand."""
    seen: list[tuple[nn.Module, Tensor]] = []
    layers = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    handles = [layer.register_forward_hook(lambda m, i, o: seen.append((m, i[0]))) for layer in layers]
    loss = F.cross_entropy(net(x), y)
    for handle in handles:
        handle.remove()
    for place, (layer, a) in enumerate(seen):
        gap = (a.var((0, 2, 3), unbiased=False) - layer.running_var).norm()  # type: ignore[operator]
        gap = gap + (a.mean((0, 2, 3)) - layer.running_mean).norm()  # type: ignore[operator]
        loss = loss + 0.5 * (10.0 if place == 0 else 1.0) * gap
    return loss


def test_equals_the_loop_written_out() -> None:
    one, y, steps = teacher(), torch.arange(3), 4
    fast = compensator([(one, 1.0)], base(), y, SAME, HOW, 0, (0, 0))
    assert fast.shape == (1, 3, 8, 8)
    low, high = (SAME.forward(torch.full((1, 3, 1, 1), v, dtype=torch.float64)) for v in (0.0, 1.0))
    u = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    m, v = torch.zeros_like(u), torch.zeros_like(u)
    for t in range(steps):
        # invariant 32: the gradient of u is the sum over classes of those of the images
        x = torch.minimum(torch.maximum(base() + u, low), high).requires_grad_()
        (each,) = torch.autograd.grad(one_loss(one.module, x, y), x)
        inside = (base() + u >= low) & (base() + u <= high)
        g = (each * inside).sum(0, keepdim=True)
        m, v = 0.5 * m + 0.5 * g, 0.9 * v + 0.1 * g * g
        size = 0.5 * 0.1 * (1 + math.cos(math.pi * t / steps))
        u = u - size * (m / (1 - 0.5 ** (t + 1))) / ((v / (1 - 0.9 ** (t + 1))).sqrt() + 1e-8)
    assert torch.allclose(fast, u, rtol=0, atol=1e-9)
    assert float(u.abs().max()) > 1e-2


def test_the_set_has_its_budget_and_static_labels(tmp_path: Path) -> None:
    small = made(METHOD, tmp_path)
    k = base_sets(4, 3, 2)
    assert (k, small.members, len(small)) == (2, 2, k * 3 * 3)
    assert small.ipc == 4  # ceil((2·3 + 2·2) / 3)
    assert small.logits is not None
    assert small.nbytes.labels == k * 3 * 3 * 3 * 2  # invariant 33: k (M + 1) K · K fp16 numbers
    teachers = TeacherStore(tmp_path / "teachers", REAL)
    nets = [teachers.get(dataclasses.replace(METHOD.teacher, model=name)).as_module() for name in (NET, OTHER)]
    with torch.no_grad():
        wanted = torch.stack([net(small.pixels()) for net in nets]).mean(0)
    assert torch.allclose(small.labels, wanted, atol=5e-3)


def test_one_member_makes_compensators_and_all_of_them_label(tmp_path: Path) -> None:
    both, small = made(METHOD, tmp_path), made(dataclasses.replace(METHOD, compensators=1), tmp_path)
    k = base_sets(4, 3, 1)
    assert (k, small.members, len(small)) == (3, 1, k * 2 * 3)
    assert k * 3 + k * 1 <= 4 * 3 < (k + 1) * 4  # images stored, in whole ones
    assert small.nbytes.images == k * 3 * 192 + k * 2 * 192  # uint8, and float16 for the compensator
    wanted = made(dataclasses.replace(METHOD, compensators=1, committee=(NET,)), tmp_path)
    assert torch.equal(small.compensators, wanted.compensators)  # the first member's, and no other's
    teachers = TeacherStore(tmp_path / "teachers", REAL)
    nets = [teachers.get(dataclasses.replace(METHOD.teacher, model=name)).as_module() for name in (NET, OTHER)]
    with torch.no_grad():
        mean = torch.stack([net(small.pixels()) for net in nets]).mean(0)
    assert torch.allclose(small.labels, mean, atol=5e-3)
    assert not torch.allclose(small.labels, wanted.labels, atol=0.1)
    assert both.members == 2
    whole = list(dataclasses.replace(METHOD, compensators=1).distill(REAL, Run(store=tmp_path)))
    rest = list(dataclasses.replace(METHOD, compensators=1).distill(REAL, Run(store=tmp_path), whole[0].state))
    assert torch.equal(rest[-1].candidates[0].set.compensators, small.compensators)  # type: ignore[attr-defined]


def test_auto_leaves_nine_tenths_of_the_budget_to_real_images(tmp_path: Path) -> None:
    for classes in (2, 3, 10, 100, 1000):
        for ipc in (*range(2, 60), 100, 200):
            for count in (1, 3, 5):
                chosen = most_compensators(ipc, classes, count)
                fits = [m for m in range(1, count + 1) if ipc * classes // (classes + m) >= 0.9 * ipc - 1e-9]
                assert chosen == (fits[-1] if fits else 1)
    assert (most_compensators(10, 10, 3), most_compensators(50, 10, 3)) == (1, 1)
    assert (most_compensators(10, 100, 4), most_compensators(10, 1000, 3)) == (4, 3)
    auto = dataclasses.replace(METHOD, compensators="auto")
    assert (Infer().compensators, auto.makers(3), dataclasses.replace(auto, ipc=10).makers(100)) == ("auto", 1, 2)
    assert made(auto, tmp_path).members == 1
    told = auto.describe()
    again = rebuild(told)
    assert again is not None
    assert again.describe() == told
    assert told["compensators"] == "auto"


def test_without_iterations_all_copies_are_the_base_set(tmp_path: Path) -> None:
    small = made(dataclasses.replace(METHOD, iterations=0), tmp_path)  # invariant 30
    images = small.images.view(2, 3, 3, 3, 8, 8)
    assert torch.equal(images[:, 0], images[:, 1])
    assert small.logits is not None
    assert torch.equal(small.logits[:, 0], small.logits[:, 2])


def test_random_images_under_the_same_labels(tmp_path: Path) -> None:
    small = made(METHOD.of_random_images(), tmp_path)
    assert (small.members, len(small), small.ipc) == (0, 12, 4)
    assert small.logits is not None
    assert dd.load(small.save(tmp_path / "random.safetensors")).labels.shape == (12, 3)


def test_dynamic_labels_are_stored_and_replayed(tmp_path: Path) -> None:
    out = tmp_path / "run"
    small = dd.distill(REAL, DYNAMIC, store=tmp_path / "store", out=out)
    assert isinstance(small, CompensatedImages)
    assert small.store is not None
    images = sum(len(record.ids) for record in small.store.records)
    assert images == 3 * len(small)  # invariant 33: dynamic over static labels is the number of epochs
    back = dd.load(out)
    assert isinstance(back, CompensatedImages)
    for (x, z), (y, w) in zip(small.batches(1, GENERATOR), back.batches(99, GENERATOR), strict=True):
        assert torch.equal(z, w)
        assert torch.equal(x, y)
    files = [out / "synthetic.safetensors", *(out / "labels").rglob("*.*")]
    assert sum(f.stat().st_size for f in files) == small.nbytes.total == back.nbytes.total
    teachers = TeacherStore(tmp_path / "store" / "teachers", REAL)
    nets = [teachers.get(dataclasses.replace(METHOD.teacher, model=name)).as_module() for name in (NET, OTHER)]
    assert back.store is not None
    for record, (x, _) in zip(back.store.records, back.store.replay(back.pictures().float() / 255), strict=True):
        assert torch.equal(label(nets, [0.5, 0.5], x).half(), record.logits)
    with pytest.raises(DamagedError, match="made for other images"):
        dataclasses.replace(back, base=back.base.flip(0))


def test_dynamic_labels_within_a_byte_budget(tmp_path: Path) -> None:
    whole = made(DYNAMIC, tmp_path)
    assert whole.store is not None
    budget = whole.store.nbytes // 2
    part = made(dataclasses.replace(DYNAMIC, label_bytes=budget), tmp_path)
    assert part.nbytes.labels == whole.store.pruned(budget).nbytes <= budget
    one, two = (torch.cat([z for _, z in part.batches(1, torch.Generator().manual_seed(s))]) for s in (0, 1))
    assert sorted(one.flatten().tolist()) == sorted(two.flatten().tolist())
    assert not torch.equal(one, two)
    with pytest.raises(InputError, match="`label_bytes` must be None"):
        dataclasses.replace(METHOD, label_bytes=100)


def test_the_road_to_a_table(tmp_path: Path) -> None:
    out = tmp_path / "run"
    small = dd.distill(REAL, METHOD, store=tmp_path / "store", out=out)
    again = dd.distill(REAL, METHOD, store=tmp_path / "store", out=tmp_path / "again")
    first, second = ((folder / "synthetic.safetensors").read_bytes() for folder in (out, tmp_path / "again"))
    assert first == second
    assert isinstance(again, CompensatedImages)
    report = dd.evaluate(out, REAL, repeats=2, store=tmp_path / "store")
    assert [row.set for row in report.rows] == ["infer", "random", "random_labels", "hard"]
    assert report.mean > 0.5
    assert report.bytes["labels"] == small.nbytes.labels
    hard = small.hard()
    assert isinstance(hard, CompensatedImages)
    assert (hard.logits, hard.recipe.loss, hard.recipe.mix) == (None, "ce", "none")
    assert hard.labels.tolist() == [0, 1, 2] * 6


def test_refusals(tmp_path: Path) -> None:
    told = "`ipc` must be at least 2 for {} over 3 classes; got 1. Or give fewer `compensators`: 0 for real images"
    for compensators, many in ((2, "2 compensators"), ("auto", "1 compensator")):
        value: Any = dataclasses.replace(METHOD, ipc=1, compensators=compensators)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=re.escape(told.format(many))):
            list(value.distill(REAL, Run(store=tmp_path)))
    assert len(made(dataclasses.replace(METHOD, ipc=1, compensators=0), tmp_path)) == 3  # the way out
    for wrong in (3, -1, True, 1.0, "all", None):
        with pytest.raises(InputError, match="`compensators` must be `auto`, or a whole number of at most 2"):
            dataclasses.replace(METHOD, compensators=wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"`train.loss` must be `ce` with hard labels"):
        Infer(labels="hard")
    with pytest.raises(InputError, match="without `augment` and `mix` with dynamic labels"):
        Infer(labels="dynamic")
    with pytest.raises(InputError, match="`iterations` must be a whole number of at least 0"):
        Infer(iterations=-1)
    with pytest.raises(InputError, match="`labels` must be `hard` or `static` or `dynamic`"):
        Infer(labels="stored")  # type: ignore[arg-type]
