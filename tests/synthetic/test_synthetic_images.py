"""Synthetic image sets: what they accept, what a file keeps, and that no damaged file is ever used."""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader

import dd
from dd import files
from dd.augment import DSA
from dd.data import Images
from dd.errors import DamagedError, InputError, MissingError, WriteError
from dd.synthetic import SyntheticImages, SyntheticSet, TrainRecipe
from dd.whiten import Normalise, fit_zca

GOLDEN = Path(__file__).resolve().parents[1] / "data"


def small(**fields: Any) -> SyntheticImages:
    """6 images 2×4×5 of 3 classes, normalised."""
    base: dict[str, Any] = {
        "images": torch.randn(6, 2, 4, 5, generator=torch.Generator().manual_seed(0)),
        "labels": torch.arange(6) // 2,
        "classes": ("a", "b", "ü"),
        "recipe": TrainRecipe(model="convnet(width=4)", steps=7, lr=0.03, augment="flip"),
        "transform": Normalise((0.5, 0.4), (0.25, 0.2)),
        "method": {"name": "mtt", "ipc": 2},
        "provenance": {"data": "toy", "seed": 0},
    }
    return SyntheticImages(**{**base, **fields})


def soft() -> Tensor:
    return torch.randn(6, 3, generator=torch.Generator().manual_seed(1)).softmax(1)


def real(seed: int = 0) -> Images:
    """2 classes of 20 images 2×4×5."""
    images = torch.randint(0, 256, (40, 2, 4, 5), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return dd.load_images(dd.Images(train=(images, torch.arange(2).repeat(20)), test=None))


def whitened(data: Images) -> SyntheticImages:
    zca = fit_zca(data.train)
    images = zca.forward(data.train.pixels(slice(0, 4)))
    return small(images=images, labels=data.train.labels[:4], classes=data.classes, transform=zca)


def same(a: SyntheticImages, b: SyntheticImages) -> None:
    assert torch.equal(a.images, b.images)
    assert torch.equal(a.labels, b.labels)
    assert a.labels.dtype == b.labels.dtype
    assert (a.classes, a.recipe, dict(a.method), dict(a.provenance)) == (
        b.classes,
        b.recipe,
        dict(b.method),
        dict(b.provenance),
    )


# The set


def test_it_is_a_dataset_that_a_default_loader_collates() -> None:
    value = small()
    assert isinstance(value, SyntheticSet)
    image, label = value[3]
    assert torch.equal(image, value.images[3])
    assert label == 1
    assert type(label) is int
    assert len(value) == 6 == sum(1 for _ in value)
    images, labels = next(iter(DataLoader(value, batch_size=6)))
    assert torch.equal(images, value.images)
    assert torch.equal(labels, value.labels)
    with pytest.raises(IndexError):
        value[6]
    images, labels = next(iter(DataLoader(small(labels=soft()), batch_size=4)))
    assert labels.shape == (4, 3)
    assert labels.dtype == torch.float32
    workers = DataLoader(value, batch_size=2, num_workers=1)
    assert torch.equal(torch.cat([x for x, _ in workers]), value.images)


def test_pixels_are_in_0_1_and_undo_the_transform() -> None:
    value = small()
    pixels = value.pixels()
    expected = value.images * torch.tensor([0.25, 0.2]).view(1, 2, 1, 1) + torch.tensor([0.5, 0.4]).view(1, 2, 1, 1)
    assert float(expected.min()) < 0  # some are clipped
    torch.testing.assert_close(pixels, expected.clamp(0, 1))
    data = real()
    torch.testing.assert_close(whitened(data).pixels(), data.train.pixels(slice(0, 4)), rtol=0, atol=1e-5)


def test_an_epoch_of_batches_is_a_permutation() -> None:
    value = small()
    for size, lengths in ((1, [1] * 6), (4, [4, 2]), (5, [5, 1])):
        generator = torch.Generator().manual_seed(3)
        batches = list(value.batches(size, generator))
        assert [len(x) for x, _ in batches] == lengths
        seen = torch.cat([x for x, _ in batches]).flatten(1)
        order = torch.cdist(seen, value.images.flatten(1)).argmin(1)
        assert order.sort().values.tolist() == list(range(6))
        assert torch.equal(torch.cat([y for _, y in batches]), value.labels[order])
    for size in (6, 256):  # a set that fits one batch is not shuffled
        ((images, labels),) = value.batches(size, torch.Generator())
        assert images is value.images
        assert labels is value.labels


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"images": torch.zeros(6, 4, 5)}, r"`images` must be a tensor \[N C H W\]; got shape \[6, 4, 5\]"),
        ({"images": [1]}, r"`images` must be a tensor \[N C H W\]; got list"),
        ({"images": torch.full((6, 2, 4, 5), torch.nan)}, r"`images` must be finite; got 240 NaN or infinite of 240"),
        ({"images": torch.zeros(6, 2, 4, 5).double()}, r"`images` must be float32; got torch.float64"),
        ({"images": torch.zeros(0, 2, 4, 5), "labels": torch.zeros(0).long()}, r"one for each of 0 ≥ 1 images"),
        ({"labels": torch.arange(5)}, r"`labels` must be one for each of 6 ≥ 1 images; got 5"),
        ({"labels": torch.arange(6)}, r"`labels` must be in 0…2; got 0…5"),
        ({"labels": -torch.arange(6)}, r"`labels` must be in 0…2; got -5…0"),
        ({"labels": torch.zeros(6, 1).long()}, r"`labels` must be a tensor \[N\]; got shape \[6, 1\]"),
        ({"labels": torch.zeros(6).int()}, r"`labels` must be a tensor, int64 \[n\] or float32 .*got torch.int32"),
        ({"labels": [0] * 6}, r"`labels` must be a tensor, int64 \[n\] or float32 \[n, K\]; got list"),
        ({"labels": torch.full((6, 2), 0.5)}, r"`labels` must be a tensor \[N K\] with K = 3; got shape \[6, 2\]"),
        ({"labels": torch.full((6, 3), torch.inf)}, "`labels` must be finite"),
        ({"labels": torch.ones(6, 3)}, "`labels` must be rows of probabilities that sum to 1; got .*off by 2.*softmax"),
        ({"labels": torch.tensor([[2.0, -1.0, 0.0]] * 6)}, "`labels` must be rows of prob.*smallest value of -1"),
        ({"transform": None}, "`transform` must be given; got None"),
    ],
)
def test_refusals(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        small(**fields)


def test_hard_labels_are_the_largest_and_doing_it_twice_is_doing_it_once(tmp_path: Path) -> None:
    rows = soft()
    rows[2] = torch.tensor([0.2, 0.4, 0.4])  # the first of equals
    value = small(labels=rows, canvas=1)
    made = value.hard()
    assert made.labels.dtype == torch.int64
    assert made.labels.tolist() == [max(range(3), key=row.__getitem__) for row in rows.tolist()]
    assert made.labels[2] == 1
    assert torch.equal(made.images, value.images)
    assert (made.recipe, made.classes, made.transform) == (value.recipe, value.classes, value.transform)
    assert made.provenance == {**value.provenance, "labels": "largest of the soft labels"}
    assert torch.equal(value.labels, rows)  # untouched
    assert made.hard() is made
    assert small().hard().provenance == small().provenance
    assert (value.nbytes.labels, made.nbytes.labels) == (6 * 3 * 4, 6 * 8)
    same(dd.load(made.save(tmp_path / "x")), made)
    assert type(made[0][1]) is int


@pytest.mark.parametrize("matrix", [True, False])
def test_hard_labels_of_a_whitened_set_and_of_canvases(tmp_path: Path, matrix: bool) -> None:
    data = real()
    value = dataclasses.replace(whitened(data), labels=torch.tensor([[0.6, 0.4]] * 4))
    back = dd.load(value.save(tmp_path / "x", whitening_matrix=matrix)).hard()
    assert back.labels.tolist() == [0] * 4
    torch.testing.assert_close(back.attach(data.train).pixels(), value.pixels(), rtol=0, atol=1e-5)
    large = small(images=torch.zeros(6, 2, 8, 10), labels=soft(), canvas=2, canvas_samples=3).hard()
    assert (large.canvas, large.canvas_samples) == (2, 3)


def test_hard_labels_train_as_probabilities_of_one() -> None:
    value = small(labels=soft()).hard()
    sure = small(labels=torch.nn.functional.one_hot(value.labels, 3).float())
    nets = [dd.train(s, "mlp", steps=3, device="cpu") for s in (value, sure)]
    for a, b in zip(*(net.parameters() for net in nets), strict=True):
        torch.testing.assert_close(a, b)


# The recipe


def test_recipe_round_trip_and_unknown_fields() -> None:
    recipe = TrainRecipe(lr=0.1, momentum=0, augment="crop_flip", augment_mode="all")
    assert TrainRecipe.from_json(recipe.to_json()) == recipe
    assert TrainRecipe.from_json({}) == TrainRecipe()
    assert recipe.dsa() == DSA(strategy="crop_flip", mode="all")
    with pytest.raises(InputError, match=r"unknown recipe field 'warmup'; known: .*may come from a newer version"):
        TrainRecipe.from_json({"warmup": 3})


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"steps": 0}, "`steps` must be a whole number of at least 1; got 0"),
        ({"steps": 10.0}, "`steps` must be a whole number of at least 1; got 10.0"),
        ({"batch_size": 0}, "`batch_size` must be a whole number of at least 1; got 0"),
        ({"lr": 0.0}, "`lr` must be positive; got 0"),
        ({"lr": float("nan")}, "`lr` must be a finite number of at least 0; got nan"),
        ({"lr": float("inf")}, "`lr` must be a finite number of at least 0; got inf"),
        ({"lr": "tuned"}, "`lr` must be a finite number of at least 0; got 'tuned'"),
        ({"momentum": 1.0}, r"`momentum` must be in \[0, 1\); got 1"),
        ({"weight_decay": -1e-4}, "`weight_decay` must be a finite number of at least 0; got -0.0001"),
        ({"drop_at": 0.0}, r"`drop_at` must be in \(0, 1\]; got 0"),
        ({"drop_at": 1.5}, r"`drop_at` must be in \(0, 1\]; got 1.5"),
        ({"drop_factor": -1}, "`drop_factor` must be a finite number of at least 0; got -1"),
        ({"augment": "spin"}, "unknown augmentation 'spin'"),
        ({"augment_mode": "both"}, "unknown mode 'both'"),
    ],
)
def test_recipe_refusals(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        TrainRecipe(**fields)


# The file


@pytest.mark.parametrize("labels", [None, soft()], ids=["hard", "soft"])
def test_round_trip_and_equal_bytes(tmp_path: Path, labels: Tensor | None) -> None:
    value = small() if labels is None else small(labels=labels)
    first = value.save(tmp_path / "new" / "a.safetensors")
    back = dd.load(first)
    same(back, value)
    assert back.transform == value.transform
    for again in (small(labels=value.labels), back):
        assert again.save(tmp_path / "b").read_bytes() == first.read_bytes()


def test_images_of_any_layout_give_the_same_file(tmp_path: Path) -> None:
    value = small()
    rolled = small(images=value.images.to(memory_format=torch.channels_last))
    alias = small(images=value.images.clone().requires_grad_())
    for other in (rolled, alias):
        assert other.save(tmp_path / "b").read_bytes() == value.save(tmp_path / "a").read_bytes()
        assert other.nbytes == value.nbytes


def test_nbytes_is_the_size_of_the_file(tmp_path: Path) -> None:
    for value in (small(), small(labels=soft()), whitened(real())):
        size = value.save(tmp_path / "x").stat().st_size
        count, labels = value.images.numel(), value.labels
        assert value.nbytes.total == size
        assert value.nbytes.images == 4 * count
        assert value.nbytes.labels == labels.numel() * labels.element_size()
        assert sum(value.nbytes[:3]) == size
        assert dd.load(tmp_path / "x").nbytes == value.nbytes


def test_whitened_set_without_its_matrix_is_refitted(tmp_path: Path) -> None:
    data = real()
    value = whitened(data)
    path = value.save(tmp_path / "x")
    back = dd.load(path)
    same(back, value)
    assert back.transform is None
    for use in (back.pixels, back.ready_transform):
        with pytest.raises(InputError, match=r"saved without its matrix\. Use `small.attach\(train_split\)`"):
            use()
    ready = back.attach(data.train)
    assert torch.equal(ready.pixels(), value.pixels())
    assert ready.attach(data.train) is ready
    for again in (back, ready):
        assert again.save(tmp_path / "y").read_bytes() == path.read_bytes()
    with pytest.raises(InputError, match=r"`split` must be the pictures ZCA was fitted on"):
        back.attach(real(seed=1).train)


def test_whitened_set_with_its_matrix_is_ready(tmp_path: Path) -> None:
    value = whitened(real())
    path = value.save(tmp_path / "x", whitening_matrix=True)
    back = dd.load(path)
    torch.testing.assert_close(back.pixels(), value.pixels(), rtol=0, atol=1e-5)
    assert path.stat().st_size > value.nbytes.total
    assert back.nbytes == value.nbytes  # of `save` as it is by default
    assert back.save(tmp_path / "y", whitening_matrix=True).read_bytes() == path.read_bytes()
    assert back.save(tmp_path / "y").read_bytes() == value.save(tmp_path / "z").read_bytes()


def test_version_1_is_read_for_ever() -> None:
    """`tests/data/synthetic_v1.safetensors` was written by the first version; its values have formulas."""
    back = dd.load(GOLDEN / "synthetic_v1.safetensors")
    assert torch.equal(back.images, ((torch.arange(4 * 2 * 3 * 4) - 48) / 16).view(4, 2, 3, 4))
    assert back.images.dtype == torch.float32
    assert back.labels.tolist() == [0, 0, 1, 1]
    assert back.classes == ("zero", "één")
    assert back.recipe == TrainRecipe(
        model="convnet(width=4)",
        steps=12,
        lr=0.03125,
        momentum=0.5,
        weight_decay=0.001,
        batch_size=3,
        drop_at=0.75,
        drop_factor=0.25,
        augment="crop_flip",
        augment_mode="all",
    )
    assert back.transform == Normalise((0.5, 0.25), (0.25, 0.5))
    assert back.method == {"name": "mtt", "ipc": 2}
    assert back.provenance == {"data": "toy", "protocol": "clean", "seed": 3, "selection": "last iterate"}
    torch.testing.assert_close(back.pixels()[0, 0, 0, 0], torch.tensor(0.0))  # −3 · 0.25 + 0.5, clipped


def test_version_1_whitened_is_read_for_ever() -> None:
    """The same with probabilities as labels, ZCA (q = 4) and its matrix."""
    back = dd.load(GOLDEN / "synthetic_v1_whitened.safetensors")
    assert torch.equal(back.images, ((torch.arange(3 * 4) - 6) / 8).view(3, 1, 2, 2))
    assert torch.equal(back.labels, torch.tensor([[1.0, 0.0], [0.25, 0.75], [0.5, 0.5]]))
    assert back.transform is not None
    assert (back.transform_record["kind"], back.transform_record["eps"]) == ("zca", 0.1)
    first = [0.15874, 0.26617, 0.300114, 0.339929, 0.349689, 0.480694, 0.512761, 0.552015]
    expected = torch.tensor([*first, 0.540638, 0.695217, 0.725408, 0.764101]).view(3, 1, 2, 2)
    torch.testing.assert_close(back.pixels(), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(back.transform.forward(back.transform.inverse(back.images)), back.images)


def edited(path: Path, **meta: Any) -> Path:
    """The file of `small()` with other metadata."""
    tensors, old = files.load_tensors(small().save(path))
    files.save_tensors(path, tensors, {**old, **meta})
    return path


@pytest.mark.parametrize(
    ("meta", "text"),
    [
        ({"format": 2}, r"x\.safetensors has format version 2; this version reads 1\. Upgrade dd"),
        ({"format": None}, r"x\.safetensors has format version None"),
        ({"kind": "trees"}, r"x\.safetensors is not a whole summary of trees: 'level.sizes'"),
        ({"kind": "voxels"}, r"x\.safetensors is not a synthetic image set but 'voxels'"),
        ({"sha256": {}}, r"tensor `images` of .*x\.safetensors does not match its checksum"),
        ({"recipe": {"warmup": 1}}, r"x\.safetensors holds what no set can have \(unknown recipe field 'warmup'"),
        ({"recipe": {"lr": "high"}}, r"x\.safetensors holds what no set can have \(`lr` must be a finite number"),
        ({"recipe": None}, r"x\.safetensors holds what no set can have"),
        ({"classes": ["a"]}, r"x\.safetensors holds what no set can have \(`labels` must be in 0…0"),
        ({"classes": None}, r"x\.safetensors holds what no set can have"),
        ({"transform": {}}, r"x\.safetensors holds what no set can have \(unknown transform None"),
        ({"transform": {"kind": "zca", "eps": 0.1}}, r"the whitening lacks fitted_on, hash, shape, whiten_mean"),
    ],
)
def test_metadata_that_cannot_be_used_is_named(tmp_path: Path, meta: dict[str, Any], text: str) -> None:
    path = edited(tmp_path / "x.safetensors", **meta)
    with pytest.raises(DamagedError, match=text):
        dd.load(path)


@pytest.mark.parametrize("key", ["kind", "classes", "recipe", "transform", "method", "provenance", "sha256"])
def test_metadata_that_lacks_a_key_is_named(tmp_path: Path, key: str) -> None:
    path = tmp_path / "x.safetensors"
    tensors, meta = files.load_tensors(small().save(path))
    files.save_tensors(path, tensors, {k: v for k, v in meta.items() if k != key})
    with pytest.raises(DamagedError, match=r"x\.safetensors"):
        dd.load(path)


@pytest.mark.parametrize("name", ["images", "labels", "whiten_mean", "whiten_matrix"])
def test_an_altered_tensor_is_named(tmp_path: Path, name: str) -> None:
    path = whitened(real()).save(tmp_path / "x", whitening_matrix=True)
    tensors, meta = files.load_tensors(path)
    changed = tensors[name].clone()
    changed.view(-1)[0] += 1
    files.save_tensors(path, {**tensors, name: changed}, meta)
    text = rf"tensor `{name}` of .*x does not match its checksum; restore the file"
    with pytest.raises(DamagedError, match=text):
        dd.load(path)
    files.save_tensors(path, {k: t for k, t in tensors.items() if k != name}, meta)
    with pytest.raises(DamagedError, match=text):
        dd.load(path)
    files.save_tensors(path, {**tensors, "more": torch.zeros(1)}, meta)
    with pytest.raises(DamagedError, match="tensor `more`"):
        dd.load(path)


def test_values_that_no_set_has_are_named_even_with_their_checksum(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    tensors, meta = files.load_tensors(small().save(path))
    for name, value, text in (
        ("images", torch.full((6, 2, 4, 5), torch.nan), "`images` must be finite"),
        ("images", torch.zeros(6, 2, 4, 5).half(), "`images` must be float32"),
        ("labels", torch.full((6,), 9), "`labels` must be in 0…2"),
        ("labels", torch.zeros(3).long(), "one for each of 6"),
    ):
        sums = {**meta["sha256"], name: files.digest(value)}
        files.save_tensors(path, {**tensors, name: value}, {**meta, "sha256": sums})
        with pytest.raises(DamagedError, match=rf"x\.safetensors holds what no set can have \(.*{text}"):
            dd.load(path)


def test_truncated_and_foreign_files_are_named(tmp_path: Path) -> None:
    path = small().save(tmp_path / "x.safetensors")
    whole = path.read_bytes()
    for data in (b"", whole[:50], whole[:-1]):
        path.write_bytes(data)
        with pytest.raises(DamagedError, match=r"x\.safetensors is not a whole safetensors file.*truncated or foreign"):
            dd.load(path)
    save_file({"images": torch.zeros(1)}, path)
    with pytest.raises(DamagedError, match=r"x\.safetensors was not written by this library"):
        dd.load(path)
    with pytest.raises(MissingError, match=r"y\.safetensors"):
        dd.load(tmp_path / "y.safetensors")


def test_full_disk_keeps_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small().save(tmp_path / "x.safetensors")
    before = path.read_bytes()

    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match=r"could not write .*x\.safetensors: No space left on device.*is intact"):
        small(labels=soft()).save(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.safetensors"]


def test_what_json_has_no_word_for_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    value = small(provenance={"loss": float("nan")})
    with pytest.raises(InputError, match="for JSON"):
        value.save(tmp_path / "x")
    assert not list(tmp_path.iterdir())
