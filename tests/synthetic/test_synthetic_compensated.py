"""INFER's set: its budget, its composition, its bytes and its file (invariants 29 to 31, 33, 35, 38)."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from dd.errors import DamagedError, InputError
from dd.synthetic import CompensatedImages, SyntheticSet, TrainRecipe, base_sets, compose
from dd.transforms.whiten import Normalise

K, M, SETS = 4, 2, 3


def transform() -> Normalise:
    return Normalise(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


def small(scale: float = 0.5, logits: bool = True) -> CompensatedImages:
    generator = torch.Generator().manual_seed(0)
    return CompensatedImages(
        base=torch.randint(0, 256, (SETS, K, 3, 8, 8), generator=generator, dtype=torch.uint8),
        compensators=(scale * torch.randn(SETS, M, 3, 8, 8, generator=generator)).half(),
        logits=torch.randn(SETS, M + 1, K, K, generator=generator).half() if logits else None,
        classes=tuple("abcd"),
        recipe=TrainRecipe(loss="kl", temperature=30.0, mix="mixup"),
        transform=transform(),
        method={"name": "infer"},
    )


def test_at_the_prompt_it_is_one_line() -> None:
    made = small()
    sizes = f"{SETS * K} images, {SETS * M} compensators, soft labels, {K} classes, {SETS * (M + 1)} composed a class"
    assert repr(made) == f"CompensatedImages('infer', {sizes}, 3x8x8, {made.nbytes.total:,} bytes on disk)"


def test_the_budget_is_exact() -> None:
    for classes in (10, 100, 200):
        for members in (1, 3, 4):
            for ipc in range(2, 200):
                k = base_sets(ipc, classes, members)
                assert k * (classes + members) <= ipc * classes < (k + 1) * (classes + members)
                assert k == math.floor(Fraction(ipc) / (1 + Fraction(members, classes)))
    assert base_sets(33, 10, 1) == 30
    assert math.floor(33 / (1 + 1 / 10)) == 29  # the authors' expression in floats
    published = {(10, 10): 7, (10, 50): 35, (100, 10): 9, (100, 50): 48, (100, 100): 96, (200, 10): 9, (200, 50): 49}
    assert {(c, i): base_sets(i, c, 4) for c, i in published} == published
    assert (base_sets(10, 1000, 3), base_sets(50, 1000, 3)) == (9, 49)


def test_too_small_a_budget_names_the_smallest_that_works() -> None:
    with pytest.raises(InputError, match="`ipc` must be at least 2 for 4 compensators over 10 classes; got 1"):
        base_sets(1, 10, 4)
    assert base_sets(2, 10, 4) == 1
    with pytest.raises(InputError, match="at least 3"):
        base_sets(2, 2, 3)
    assert base_sets(3, 2, 3) == 1


def test_composition_by_hand() -> None:
    made = small()
    images, place = made.images, 0
    mean, std = (torch.tensor(t).view(3, 1, 1) for t in (transform().mean, transform().std))
    for j in range(SETS):
        for m in range(M + 1):
            for c in range(K):
                x = (made.base[j, c].float() / 255 - mean) / std
                if m:
                    x = ((x + made.compensators[j, m - 1].float()) * std + mean).clamp(0, 1)
                    x = (x - mean) / std
                assert torch.allclose(images[place], x, rtol=0, atol=1e-5)
                one, label = made[place]
                assert torch.allclose(one, images[place], rtol=0, atol=1e-6)
                assert torch.equal(label, made.logits[j, m, c].float())  # type: ignore[index]
                place += 1
    assert place == len(made) == len(images)
    assert torch.equal(made.labels, torch.stack([made[i][1] for i in range(len(made))]))


def test_one_compensator_serves_all_classes() -> None:
    made = small(scale=1e-3)
    inside = made.base.clamp(20, 235)  # so that nothing is clipped
    images = compose(inside, made.compensators, transform()).view(SETS, M + 1, K, -1)
    moved = images[:, 1:] - images[:, :1]
    for j in range(SETS):
        for m in range(M):
            assert int(torch.linalg.matrix_rank(moved[j, m].double(), atol=1e-4)) == 1
            assert torch.allclose(moved[j, m], made.compensators[j, m].float().flatten().expand(K, -1), atol=1e-5)


def test_zero_compensators_repeat_the_base() -> None:
    images = compose(small().base, torch.zeros(SETS, M, 3, 8, 8).half(), transform()).view(SETS, M + 1, K, -1)
    assert torch.allclose(images, images[:, :1].expand_as(images), rtol=0, atol=1e-6)


def test_composed_pixels_are_pixels() -> None:
    pixels = transform().inverse(small(scale=50.0).images)
    assert float(pixels.min()) >= -1e-5
    assert float(pixels.max()) <= 1 + 1e-5


def test_bytes_are_those_of_the_factors() -> None:
    made = small()
    assert made.nbytes.images == SETS * K * 3 * 64 + SETS * M * 3 * 64 * 2
    assert made.nbytes.labels == SETS * (M + 1) * K * K * 2
    assert small(logits=False).nbytes.labels == 0
    one = CompensatedImages(
        base=made.base,
        compensators=made.compensators[:, :1],
        logits=None,
        classes=made.classes,
        recipe=made.recipe,
        transform=made.transform,
    )
    assert len(one) == 2 * SETS * K  # M = 1: two images a class and base set


def test_file_round_trip(tmp_path: Path) -> None:
    for made in (small(), small(logits=False)):
        path = made.save(tmp_path / "set.safetensors")
        assert path.stat().st_size == made.nbytes.total
        back = CompensatedImages.load(path)
        assert torch.equal(back.images, made.images)
        assert torch.equal(back.labels, made.labels)
        assert (back.recipe, back.classes, back.method) == (made.recipe, made.classes, made.method)
        assert isinstance(back, SyntheticSet)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedError, match="do not match their checksum"):
        CompensatedImages.load(path)


def test_batches_are_an_epoch() -> None:
    made = small()
    ((x, y),) = made.batches(1000, torch.Generator())
    assert torch.equal(x, made.images)
    assert torch.equal(y, made.labels)
    parts = list(made.batches(5, torch.Generator().manual_seed(1)))
    assert sum(len(x) for x, _ in parts) == len(made)
    rows = torch.cat([y for _, y in parts])
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, made.labels.tolist()))


def test_composed_once_for_all_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr("dd.synthetic.compensated.compose", lambda *given: calls.append(1) or compose(*given))
    made = small()
    epochs = [list(made.batches(5, torch.Generator().manual_seed(1))) for _ in range(3)]
    assert len(calls) == 1
    for (x, _), (y, _) in zip(epochs[0], epochs[2], strict=True):
        assert torch.equal(x, y)
    other = dataclasses.replace(made, compensators=torch.zeros_like(made.compensators))
    assert not torch.equal(other.images, made.images)  # another set composes anew
    assert len(calls) == 2


def test_refusals() -> None:
    made = small()
    with pytest.raises(InputError, match=r"`base` must be uint8 \[k, 4, C, H, W\]"):
        dataclasses.replace(made, base=made.base.float())
    with pytest.raises(InputError, match="`compensators` must be float16"):
        dataclasses.replace(made, compensators=made.compensators[:2])
    with pytest.raises(InputError, match="`logits` must be float16"):
        dataclasses.replace(made, logits=made.logits[:, :2])  # type: ignore[index]
    with pytest.raises(InputError, match="compensators"):
        dataclasses.replace(made, compensators=torch.full_like(made.compensators, torch.nan))
