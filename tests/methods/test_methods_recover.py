"""Recovery: the published loop step by step, votes that do not change what they must not, resumption (7, 8, 25, 38)."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dd
from dd.errors import DamagedError, DivergedError, InputError, MissingError
from dd.methods import METHODS, Run, rebuild
from dd.methods.decoupled import recover, relabel
from dd.methods.decoupled.recover import Recover
from dd.methods.decoupled.recovery import Recovery, recover_block, step_size
from dd.models import build
from dd.synthetic import SyntheticImages, TrainRecipe
from dd.teachers import Teacher, TeacherRecipe, TeacherStore, label
from dd.transforms.whiten import Normalise

GENERATOR = torch.Generator().manual_seed(0)
LABELS = torch.arange(90) % 3
PIXELS = torch.randint(0, 80, (90, 3, 8, 8), generator=GENERATOR, dtype=torch.uint8)
for k in range(3):
    PIXELS[LABELS == k, k] += 150  # class k is bright in channel k
REAL = dd.load_images(dd.Images(train=(PIXELS, LABELS), test=(PIXELS[:30].flip(-1), LABELS[:30])))
NET = "convnet(width=4, depth=1, norm=batch)"
METHOD = Recover(
    ipc=2,
    committee=(NET,),
    teacher=TeacherRecipe(epochs=3, batch_size=16, augment=""),
    iterations=5,
    train=TrainRecipe(model=NET, steps=10, lr=0.05),
)
SAME = Normalise(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
HOW = Recovery(
    iterations=4, lr=0.1, bn_weight=0.5, first_bn=10.0, bn_norm="sum", crop=False, shared_crop=True, jitter=0
)


def teacher(seed: int = 0, transform: Normalise = SAME) -> Teacher:
    net = build("convnet(width=4, depth=2, norm=batch)", channels=3, classes=3, size=(8, 8), seed=seed)
    return Teacher(f"t{seed}", net.double(), transform)


def start() -> Tensor:
    return torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def plain_loop(net: nn.Module, x: Tensor, y: Tensor, steps: int, lr: float, bn_weight: float) -> Tensor:
    """The published loop by hand: hooks on batch norms, Adam written out, clipping; no augmentation."""
    layers = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    low, high = (SAME.forward(torch.full((1, 3, 1, 1), v, dtype=torch.float64)) for v in (0.0, 1.0))
    m, v = torch.zeros_like(x), torch.zeros_like(x)
    for t in range(steps):
        x = x.detach().requires_grad_()
        seen: list[Tensor] = []
        handles = [layer.register_forward_hook(lambda _, i, o, seen=seen: seen.append(i[0])) for layer in layers]
        loss = F.cross_entropy(net(x), y)
        for handle in handles:
            handle.remove()
        for place, (layer, a) in enumerate(zip(layers, seen, strict=True)):
            gap = (a.var((0, 2, 3), unbiased=False) - layer.running_var).norm()
            gap = gap + (a.mean((0, 2, 3)) - layer.running_mean).norm()
            loss = loss + bn_weight * (10.0 if place == 0 else 1.0) * gap
        (g,) = torch.autograd.grad(loss, x)
        m, v = 0.5 * m + 0.5 * g, 0.9 * v + 0.1 * g * g
        size = 0.5 * lr * (1 + math.cos(math.pi * t / steps))
        x = x.detach() - size * (m / (1 - 0.5 ** (t + 1))) / ((v / (1 - 0.9 ** (t + 1))).sqrt() + 1e-8)
        x = torch.minimum(torch.maximum(x, low), high)
    return SAME.inverse(x)


def test_equals_the_published_loop_written_out() -> None:
    one, y = teacher(), torch.arange(3)
    fast = recover_block([(one, 1.0)], start(), y, SAME, HOW, 0, (0,))
    slow = plain_loop(one.module, start(), y, 4, 0.1, 0.5)
    assert torch.allclose(fast, slow, rtol=0, atol=1e-10)
    assert float((fast - SAME.inverse(start()).clamp(0, 1)).abs().max()) > 1e-3


def test_one_voter_weighs_one_and_two_equal_ones_are_one() -> None:
    one, y = teacher(), torch.arange(3)
    how = dataclasses.replace(HOW, crop=True, jitter=2)
    alone = recover_block([(one, 1.0)], start(), y, SAME, how, 0, (0,))
    twice = recover_block([(one, 0.5), (teacher(), 0.5)], start(), y, SAME, how, 0, (0,))
    assert torch.allclose(alone, twice, rtol=0, atol=1e-9)
    other = recover_block([(one, 0.5), (teacher(3), 0.5)], start(), y, SAME, how, 0, (0,))
    assert float((alone - other).abs().max()) > 1e-3


def test_a_teacher_with_other_constants_sees_its_own_space() -> None:
    shifted = Normalise(mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.5))

    class Moved(nn.Module):
        """The first teacher behind the change of constants, so that both say the same of the same pixels."""

        def __init__(self) -> None:
            super().__init__()
            self.net = teacher().module

        def forward(self, z: Tensor) -> Tensor:
            return self.net(SAME.forward(shifted.inverse(z)))

    y = torch.arange(3)
    plain = recover_block([(teacher(), 1.0)], start(), y, SAME, HOW, 0, (0,))
    moved = recover_block([(Teacher("moved", Moved(), shifted), 1.0)], start(), y, SAME, HOW, 0, (0,))
    assert torch.allclose(plain, moved, rtol=0, atol=1e-9)


def test_step_sizes() -> None:
    assert step_size(0.25, 0, 1000) == 0.25
    assert step_size(0.25, 999, 1000) == pytest.approx(0.125 * (1 + math.cos(math.pi * 0.999)))
    assert step_size(0.25, 999, 1000) < 1e-6


def test_votes_of_one_member_change_nothing(tmp_path: Path) -> None:
    plain = list(METHOD.distill(REAL, Run(store=tmp_path)))[-1].candidates[0].set
    voted = dataclasses.replace(METHOD, priors=(12.0,), tau=0.1, schedule="random")
    again = list(voted.distill(REAL, Run(store=tmp_path)))[-1].candidates[0].set
    assert torch.equal(plain.images, again.images)  # type: ignore[attr-defined]
    assert torch.equal(plain.labels, again.labels)  # type: ignore[attr-defined]


def test_the_road_from_pictures_to_a_trained_network(tmp_path: Path) -> None:
    small = dd.distill(REAL, METHOD, store=tmp_path / "store", out=tmp_path / "run")
    assert small.images.shape == (6, 3, 8, 8)
    levels = 255 * small.pixels()
    assert float((levels - levels.round()).abs().max()) < 1e-3  # what is labelled is what an 8-bit file holds
    assert small.labels.shape == (6, 3)
    assert torch.equal(small.labels.argmax(1), torch.arange(3).repeat_interleave(2))
    report = dd.evaluate(small, REAL, repeats=2, baselines=())
    assert report.mean > 0.5
    assert (tmp_path / "run/preview.png").read_bytes().startswith(b"\x89PNG")
    again = dd.distill(REAL, METHOD, store=tmp_path / "store", out=tmp_path / "again")
    assert (tmp_path / "run/synthetic.safetensors").read_bytes() == (
        tmp_path / "again/synthetic.safetensors"
    ).read_bytes()
    assert torch.equal(small.images, again.images)


STORED = dataclasses.replace(
    METHOD,
    labels="stored",
    bn_mode="batch",
    label_epochs=8,
    train=TrainRecipe(
        model=NET,
        steps=24,
        lr=0.02,
        optimizer="adamw",
        decay="weights",
        schedule="cosine",
        loss="kl",
        temperature=4.0,
        batch_size=4,
        accumulate=2,
    ),
)


def test_stored_labels_are_replayed_after_a_round_trip(tmp_path: Path) -> None:
    out = tmp_path / "run"
    small = dd.distill(REAL, STORED, store=tmp_path / "store", out=out)
    assert small.store is not None
    assert small.store.made["bn_mode"] == "batch"
    assert small.store.made["micro_batch"] == 2
    back = dd.load(out)
    for (x, z), (y, w) in zip(small.batches(1, GENERATOR), back.batches(99, GENERATOR), strict=True):
        assert torch.equal(z, w)
        assert torch.allclose(x, y, rtol=0, atol=1e-5)
    files = [out / "synthetic.safetensors", *(out / "labels").rglob("*.*")]
    assert sum(f.stat().st_size for f in files) == small.nbytes.total == back.nbytes.total
    assert small.nbytes.labels == small.store.nbytes + 8 * len(small)
    assert dd.evaluate(back, REAL, repeats=2, baselines=()).mean > 0.5
    teachers = TeacherStore(tmp_path / "store" / "teachers", REAL)
    net = teachers.get(dataclasses.replace(STORED.teacher, model=NET))
    for one, (x, _) in zip(back.store.records, back.store.replay(back.pictures().float() / 255), strict=True):  # type: ignore[union-attr]
        again = label([net.as_module()], [1.0], x, bn_mode="batch", micro_batch=2)
        assert torch.equal(again.half(), one.logits)  # the teacher gives the same to the replayed batch
    next((out / "labels").rglob("00000-*")).unlink()
    with pytest.raises(MissingError, match="is missing"):
        dd.load(out)


def test_a_byte_budget_keeps_a_part_of_the_labels_for_all_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = list(STORED.distill(REAL, Run(store=tmp_path)))[-1].candidates[0].set
    assert isinstance(whole, dd.SyntheticImages)
    assert whole.store is not None
    budget = whole.store.nbytes // 3
    method, wanted = dataclasses.replace(STORED, label_bytes=budget), whole.store.pruned(budget)
    with monkeypatch.context() as patch:
        seen: list[Tensor] = []
        patch.setattr(relabel, "label", lambda *a, **options: seen.append(a[2]) or label(*a, **options))
        part = dd.distill(REAL, method, store=tmp_path, out=tmp_path / "run")
    assert isinstance(part, dd.SyntheticImages)
    assert part.store is not None
    assert len(seen) == 1 + len(part.store)  # a look at the number of classes, and what is kept
    assert part.store.made == wanted.made
    assert part.store.nbytes <= budget
    for one, two in zip(part.store.records, wanted.records, strict=True):
        assert torch.equal(one.logits, two.logits)
        assert torch.equal(one.views.boxes, two.views.boxes)
    seen = []
    given = SyntheticImages.batches
    for seed in (0, 0, 1):
        monkeypatch.setattr(SyntheticImages, "batches", lambda *a: (seen.append(z) or (x, z) for x, z in given(*a)))
        dd.train(dd.load(tmp_path / "run"), seed=seed)
    count, steps = len(part.store), STORED.train.steps
    first, again, other = (torch.stack([z.sum() for z in seen[i * steps : (i + 1) * steps]]) for i in range(3))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    sums = sorted(float(r.logits.float().sum()) for r in part.store.records)
    passes = first[: steps // count * count].view(-1, count)
    assert len(passes) > 1
    assert all(sorted(one.tolist()) == pytest.approx(sums) for one in passes)  # each kept batch once a pass
    assert not torch.equal(passes[0], passes[1])
    with pytest.raises(InputError, match="`label_bytes` must be None where no batches are stored; got 9 with 'static'"):
        Recover(label_bytes=9)
    with pytest.raises(InputError, match=r"`label_bytes` must be None, or at least \d+, .*; got 9\. Raise it"):
        list(dataclasses.replace(STORED, label_bytes=9).distill(REAL, Run(store=tmp_path)))


def test_rded_shuffles_the_patches_of_its_images(tmp_path: Path) -> None:
    fields = {"ipc": 2, "committee": (NET,), "teacher": METHOD.teacher, "candidates": 20, "label_epochs": 3}
    method = METHODS["rded"](
        **fields, factor=2, scale=(0.5, 1.0), train=dataclasses.replace(STORED.train, accumulate=1)
    )
    small = dd.distill(REAL, method, store=tmp_path, out=tmp_path / "run")
    back = dd.load(tmp_path / "run")
    assert isinstance(small, SyntheticImages)
    assert isinstance(back, SyntheticImages)
    assert back.store is not None
    assert back.store.made["shuffle"] == 2
    net = TeacherStore(tmp_path / "teachers", REAL).get(dataclasses.replace(METHOD.teacher, model=NET))
    moved = 0
    for record, (x, z) in zip(back.store.records, back.store.replay(back.pictures().float() / 255), strict=True):
        assert torch.equal(net(x).half().float(), z)  # what is labelled is what a student sees
        assert record.shuffle is not None
        moved += int((record.shuffle.rows[:, 0] == 1).sum())
    assert 0 < moved < 3 * len(back)
    assert torch.equal(small.images, back.images)
    for plain in (method.of_random_images(), dataclasses.replace(method, factor=1)):  # type: ignore[union-attr]
        made = list(plain.distill(REAL, Run(store=tmp_path)))[-1].candidates[0].set
        assert isinstance(made, SyntheticImages)
        assert made.store is not None
        assert all(record.shuffle is None for record in made.store.records)


def test_labels_of_other_images_are_refused(tmp_path: Path) -> None:
    small = list(STORED.distill(REAL, Run(store=tmp_path)))[-1].candidates[0].set
    with pytest.raises(DamagedError, match="made for other images"):
        dataclasses.replace(small, images=small.images.flip(0))  # type: ignore[type-var,attr-defined]
    hard = small.hard()  # type: ignore[attr-defined]
    assert hard.store is None
    assert hard.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_given_pairs_vote_in_turn_whatever_the_priors(tmp_path: Path) -> None:
    names = tuple(f"convnet(depth=1, norm=batch, width={width})" for width in (4, 5, 6))
    fields = {"ipc": 3, "committee": names, "priors": (50.0, 60.0, 90.0), "labels": "hard", "iterations": 1}
    method = dataclasses.replace(METHOD, **fields, pairs=((2, 0), (0, 1)))
    steps = list(method.distill(REAL, Run(store=tmp_path)))
    told = [str(step.metrics["members"]).split("+") for step in steps]
    assert told == [[names[2], names[0]], [names[0], names[1]], [names[2], names[0]]]
    best = list(dataclasses.replace(method, pairs=None, ipc=1).distill(REAL, Run(store=tmp_path)))
    same = list(dataclasses.replace(method, pairs=((1, 2),), ipc=1).distill(REAL, Run(store=tmp_path)))
    other = list(dataclasses.replace(method, pairs=((0, 1),), ipc=1).distill(REAL, Run(store=tmp_path)))
    images = [made[-1].candidates[0].set.images for made in (best, same, other)]  # type: ignore[attr-defined]
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])
    assert rebuild(json.loads(json.dumps(method.describe()))) == method
    for wrong in ((), ((0,),), ((0, 3),), ((1, 1),), ((0, -1),), ((True, 0),), (0, 1), "ab", ((0.0, 1),)):
        with pytest.raises(InputError, match="`pairs` must be pairs of two different places in the committee, 0 to 2"):
            dataclasses.replace(method, pairs=wrong)
    for also in ({"schedule": "top"}, {"voters": 3}):
        with pytest.raises(InputError, match="`pairs` must be given without `voters` and `schedule`"):
            dataclasses.replace(method, **also)


@pytest.mark.parametrize(
    "change", [{"committee": None}, {"committee": 3}, {"train": {"x": 1}}, {"teacher": {"x": 1}}, {"ipc": "x"}]
)
def test_a_record_that_names_the_class_and_is_none_of_it_is_damaged(change: dict[str, object]) -> None:
    with pytest.raises(DamagedError, match="the set says that its method is Recover, "):
        rebuild({**METHOD.describe(), **change})


def test_the_teachers_constants_are_the_space_of_the_set(tmp_path: Path) -> None:
    own = dataclasses.replace(METHOD.teacher, mean=(0.2, 0.3, 0.4), std=(0.5, 0.6, 0.7))
    small = list(dataclasses.replace(METHOD, teacher=own).distill(REAL, Run(store=tmp_path)))[-1].candidates[0].set
    assert isinstance(small, SyntheticImages)
    assert small.transform == Normalise(mean=(0.2, 0.3, 0.4), std=(0.5, 0.6, 0.7))
    assert 0 <= float(small.pixels().min()) <= float(small.pixels().max()) <= 1
    plain = list(METHOD.distill(REAL, Run(store=tmp_path)))[-1].candidates[0].set
    assert plain.transform == Normalise(mean=tuple(REAL.mean), std=tuple(REAL.std))
    wrong = dataclasses.replace(own, mean=(0.5,), std=(0.5,))
    with pytest.raises(InputError, match=r"`teacher\.mean` must be 3 numbers, one a channel; got 1"):
        list(dataclasses.replace(METHOD, teacher=wrong).distill(REAL, Run(store=tmp_path)))


def test_blocks_of_classes_cover_all_of_them(tmp_path: Path) -> None:
    parts = dataclasses.replace(METHOD, batch=2, ipc=1, labels="hard", init="noise")
    small = list(parts.distill(REAL, Run(store=tmp_path)))[-1].candidates[0].set
    assert small.labels.tolist() == [0, 1, 2]  # type: ignore[attr-defined]


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`committee` must be one or more of"):
        Recover(committee=())
    with pytest.raises(InputError, match="`priors` must be 1 numbers, one a member; got 2"):
        Recover(priors=(1.0, 2.0))
    with pytest.raises(InputError, match="`init` must be `noise` or `real` or `rded` or `medium`"):
        Recover(init="patch")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="`jitter`"):
        Recover(jitter=-1)
    with pytest.raises(InputError, match=r"`train.loss` must be `kl` or `gift` with stored labels"):
        Recover(labels="stored")
    with pytest.raises(InputError, match="without `augment` and `mix`"):
        Recover(labels="stored", train=TrainRecipe(loss="kl", augment="flip"))
    with pytest.raises(InputError, match="model"):
        Recover(committee=("resnot",))
    instance = dataclasses.replace(METHOD, committee=("convnet(width=4, depth=1)",))
    with pytest.raises(InputError, match="batch norms that keep running statistics"):
        list(instance.distill(REAL, Run(store=tmp_path)))
    broken = teacher()
    broken.module.classifier.bias.data[0] = math.inf  # type: ignore[union-attr]
    with pytest.raises(DivergedError, match="not finite at iteration 0"):
        recover_block([(broken, 1.0)], start(), torch.arange(3), SAME, HOW, 0, (0,))


def large(each: int = 24, side: int = 64) -> tuple[dd.Images, Teacher]:
    """Pictures of three classes by their brightest channel, and who tells them apart with few activations."""
    labels = torch.arange(3 * (each + 4)) % 3
    pixels = torch.randint(0, 80, (len(labels), 3, side, side), generator=GENERATOR, dtype=torch.uint8)
    pixels[torch.arange(len(labels)), labels] += 150
    net = nn.Sequential(nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    one = Teacher("channels", net, Normalise(mean=(0.5,) * 3, std=(0.01,) * 3))
    return dd.load_images(dd.Images(train=(pixels, labels))), one


@pytest.mark.parametrize(
    "fields", [{"labels": "hard"}, {"labels": "stored", "label_epochs": 1}], ids=["hard", "stored"]
)
def test_a_run_takes_at_most_twice_the_set_in_floats(
    fields: dict[str, Any],
    tmp_path: Path,
    peak_of: Callable[[Callable[[], object]], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, one = large()
    monkeypatch.setattr(Teacher, "check", lambda *_: 1.0)  # which looks at a batch of real images, whatever the set is
    train = dataclasses.replace(STORED.train, batch_size=6, accumulate=1) if len(fields) > 1 else METHOD.train
    plain: dict[str, Any] = {"committee": (one,), "iterations": 1, "crop": False, "jitter": 0, "train": train, **fields}
    given: dict[str, Any] = {"store": tmp_path, "progress": False, "device": "cpu"}
    dd.distill(real, Recover(ipc=1, **plain), out=tmp_path / "small", **given)  # what is imported and kept once
    peak = peak_of(lambda: dd.distill(real, Recover(ipc=24, **plain), out=tmp_path / "run", **given))
    assert peak < 2 * 4 * 72 * 3 * 64**2
    assert peak_of(lambda: dd.load(tmp_path / "run")) < 2 * 4 * 72 * 3 * 64**2


def test_static_labels_are_made_a_batch_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(METHOD.distill(REAL, Run(store=tmp_path)))[-1].candidates[0].set
    seen: list[int] = []
    monkeypatch.setattr(recover, "label", lambda *a, **options: seen.append(len(a[2])) or label(*a, **options))
    monkeypatch.setattr(recover, "_BATCH", 4)
    parts = list(METHOD.distill(REAL, Run(store=tmp_path)))[-1].candidates[0].set
    assert seen == [4, 2]
    torch.testing.assert_close(parts.labels, whole.labels)  # type: ignore[attr-defined]
    seen.clear()
    list(dataclasses.replace(METHOD, bn_mode="batch").distill(REAL, Run(store=tmp_path)))
    assert seen == [6]  # whose statistics are those of all


def test_patches_are_of_real_images() -> None:
    for init in ("noise", "real"):
        text = rf"`factor` must be 1 with init=\"{init}\", whose images are whole; got 2\. .*give init=\"medium\""
        with pytest.raises(InputError, match=text):
            Recover(init=init, factor=2)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="`factor` must be 1 with init"):
        dd.distill("digits", "sre2l", ipc=1, factor=2, progress=False)
    assert METHODS["sre2l"](factor=2, init="medium").factor == Recover(init="rded", factor=2).factor == 2
