"""The file of a synthetic set: what it keeps, to the bit, and what is refused of one."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.synthetic import GOLDEN, real, same, small, soft, whitened
from safetensors.torch import save_file
from torch import Tensor

import dd
from dd.base import files
from dd.errors import DamagedError, InputError, MissingError, WriteError
from dd.synthetic import TrainRecipe
from dd.transforms.whiten import Normalise

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


def test_version_2_is_read_for_ever() -> None:
    """`tests/data/synthetic_v2.safetensors` is of format 2; its values have formulas."""
    back = dd.load(GOLDEN / "synthetic_v2.safetensors")
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


def test_version_2_whitened_is_read_for_ever() -> None:
    """The same with probabilities as labels, ZCA (q = 4) and its matrix."""
    back = dd.load(GOLDEN / "synthetic_v2_whitened.safetensors")
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
        ({"format": 3}, r"x\.safetensors has format version 3; this version reads 2\. Upgrade dd"),
        ({"format": 1}, r"x\.safetensors has format version 1; this version reads 2\. It is older .* distil again"),
        ({"format": None}, r"x\.safetensors has format version None"),
        ({"kind": "trees"}, r"x\.safetensors is no summary of trees: `directed` must be true or false; got nothing"),
        ({"kind": "voxels"}, r"x\.safetensors is not a synthetic image set but 'voxels'"),
        (
            {"recipe": {}},
            r"x\.safetensors holds what no set can have \(`recipe` must be whole; got one without accumul",
        ),
        ({"recipe": {"warmup": 1}}, r"x\.safetensors holds what no set can have \(unknown recipe field 'warmup'"),
        (
            {"recipe": {**TrainRecipe().to_json(), "lr": "high"}},
            r"x\.safetensors holds what no set can have \(`lr` must be a finite number",
        ),
        (
            {"recipe": None},
            r"x\.safetensors is no synthetic image set: `recipe` must be an object; got null\. Restore it",
        ),
        ({"classes": ["a"]}, r"x\.safetensors holds what no set can have \(`labels` must be in 0…0"),
        ({"classes": ["a", 3]}, r"x\.safetensors is no synthetic image set: `classes\[1\]` must be a text; got 3"),
        ({"transform": {}}, r"`transform\.kind` must be 'normalise' or 'zca'; got null"),
        ({"transform": {"kind": "zca", "eps": 0.1}}, r"`transform\.shape` must be a list of at least one; got nothing"),
    ],
)
def test_metadata_that_cannot_be_used_is_named(tmp_path: Path, meta: dict[str, Any], text: str) -> None:
    path = edited(tmp_path / "x.safetensors", **meta)
    with pytest.raises(DamagedError, match=text):
        dd.load(path)


@pytest.mark.parametrize("key", ["kind", "classes", "recipe", "transform", "method", "provenance"])
def test_metadata_that_lacks_a_key_is_named(tmp_path: Path, key: str) -> None:
    path = tmp_path / "x.safetensors"
    tensors, meta = files.load_tensors(small().save(path))
    files.save_tensors(path, tensors, {k: v for k, v in meta.items() if k != key})
    with pytest.raises(DamagedError, match=r"x\.safetensors"):
        dd.load(path)


@pytest.mark.parametrize("name", ["images", "labels", "whiten_mean", "whiten_matrix"])
def test_an_altered_tensor_is_refused(tmp_path: Path, name: str) -> None:
    path = whitened(real()).save(tmp_path / "x", whitening_matrix=True)
    tensors, meta = files.load_tensors(path)
    whole = path.read_bytes()
    place = whole.index(bytes(tensors[name].view(-1).view(torch.uint8).numpy()))
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(DamagedError, match=r"the tensors of .*x do not match their checksum.* Restore it, or remove"):
        dd.load(path)
    files.save_tensors(path, {k: t for k, t in tensors.items() if k != name}, meta)
    if name != "whiten_matrix":  # which a set is usually saved without
        with pytest.raises(DamagedError, match=rf"(tensor `{name}` is missing|`{name}` must be a tensor)"):
            dd.load(path)
    files.save_tensors(path, {**tensors, "more": torch.zeros(1)}, meta)
    with pytest.raises(DamagedError, match="tensor `more` is none of its own"):
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
        files.save_tensors(path, {**tensors, name: value}, meta)
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
    with pytest.raises(DamagedError, match=r"x\.safetensors is no set of this library"):
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
