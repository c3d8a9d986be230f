"""Validation splits, and what is refused of users' images: one clear message each before anything is trained."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from reference.pictures import Items, labels, pixels
from torch import Tensor
from torch.utils.data import Dataset

from dd.data import Images, TensorSplit, check_ipc, hold_out, load_images
from dd.errors import InputError

# --- validation


def test_val_is_a_stratified_tenth_of_train() -> None:
    y = torch.cat([torch.zeros(100), torch.ones(33), torch.full((2,), 2)]).long()
    images = load_images((pixels(135), y))
    assert images.val is not None
    assert torch.bincount(images.val.labels).tolist() == [10, 3, 1]
    assert torch.bincount(images.train.labels).tolist() == [90, 30, 1]


def test_train_and_val_are_disjoint_and_all() -> None:
    # Every image is its own number, so membership can be read off the pixels.
    x = torch.arange(120, dtype=torch.uint8)[:, None, None, None].expand(120, 1, 2, 2).contiguous()
    images = load_images((x, labels(120)))
    assert images.val is not None
    train, val = (split.pixels()[:, 0, 0, 0].mul(255).round().int().tolist() for split in (images.train, images.val))
    assert not set(train) & set(val)
    assert sorted(train + val) == list(range(120))
    assert train == sorted(train)  # the original order is kept
    assert val == sorted(val)
    assert torch.equal(images.all_train().train.pixels(), x / 255)
    assert images.all_train().val is None


def test_val_depends_on_the_data_alone() -> None:
    x, y = pixels(), labels()
    torch.manual_seed(1)
    first = load_images((x, y))
    torch.manual_seed(2)
    assert load_images((x, y)).fingerprint == first.fingerprint
    # Loading what is already loaded, or was put back together, changes nothing.
    assert load_images(first) is first
    assert load_images(first.all_train()).fingerprint == first.fingerprint
    assert first.all_train().fingerprint != first.fingerprint


def test_own_val_is_kept() -> None:
    x, y = pixels(), labels()
    images = load_images(Images(train=(x, y), val=(x[:8].flip(0), y[:8].flip(0)), test=Items(255 - x, y), name="mine"))
    assert images.name == "mine"
    assert (len(images.train), len(images.val or ()), len(images.test or ())) == (40, 8, 40)
    whole = images.all_train().train
    assert torch.equal(whole.pixels(), torch.cat([x, x[:8].flip(0)]) / 255)
    assert len(whole.fingerprint) == 64


def test_constants_are_those_of_the_train_split_in_use() -> None:
    x, y = pixels(), labels()
    images = load_images((x, y))
    assert images.mean == pytest.approx(images.train.pixels().mean((0, 2, 3)).tolist(), abs=1e-6)
    assert images.all_train().mean == pytest.approx((x / 255.0).mean((0, 2, 3)).tolist(), abs=1e-6)
    given = load_images(Images(train=(x, y), mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)))
    assert given.mean == given.all_train().mean == (0.5, 0.5, 0.5)


def test_check_ipc() -> None:
    y = torch.cat([torch.zeros(30), torch.ones(12)]).long()
    images = load_images((pixels(42), y), classes=["cat", "dog"])
    check_ipc(images, 1)
    check_ipc(images, 11)
    with pytest.raises(
        InputError,
        match=r"`ipc` must be at most 11, the images of the smallest class 1 \('dog'\) \(another 1 are held out\); "
        r"got 12. Lower `ipc`, or add images\.",
    ):
        check_ipc(images, 12)
    check_ipc(images.all_train(), 12)
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(InputError, match=r"`ipc` must be a whole number of images a class"):
            check_ipc(images, wrong)  # type: ignore[arg-type]


# --- refusals: each is one clear message before anything is trained

X, Y = pixels(), labels()


def nan_at(i: int) -> Tensor:
    x = X.float() / 255
    x[i, 0, 0, 0] = float("nan")
    return x


def jittery() -> Dataset[tuple[Any, Any]]:
    class Random(Items):
        def __getitem__(self, i: int) -> tuple[Any, Any]:
            image, label = super().__getitem__(i)
            return np.random.default_rng().permutation(image.numpy().ravel()).reshape(image.shape), label

    return Random(X, Y)


REFUSALS: dict[str, tuple[Any, str]] = {
    "empty pair": ((X[:0], Y[:0]), r"`data` must be a set with images; got an empty one"),
    "empty Dataset": (Items([], []), r"`data` must be a set with images; got an empty one"),
    "one class": ((X, Y * 0), r"`data` must be a set of at least two classes; got only 0"),
    "split with labels from 1": (
        TensorSplit(X, Y + 1),
        r"`train labels` must be 0 … 4 with every class present; got no image of class 0\. "
        r"Subtract 1",
    ),
    "split with a gap": (TensorSplit(X, torch.where(Y == 2, 4, Y)), r"no image of class 2\. Add images, or renumber"),
    "split of negative labels": (TensorSplit(X, Y - 1), r"`labels` must be 0 … K−1; got -1"),
    "label of 70 bits": (Items(X, [2**70] * 40), r"`data\[0\] label` must be one class.*; got 1\.18e\+21"),
    "split with a huge label": (TensorSplit(X, Y * 10**12), r"got label 3000000000000 in a set of 40"),
    "label of 70 bits in a list": ((X, [2**70] * 40), r"`data labels\[0\]` must be one class.*; got 1\.18e\+21"),
    "huge float": ((X, Y * 1e30), r"`data labels` must be one class"),
    "broken labels": (
        (X, Y / 2),
        r"`data labels` must be one class an image, a whole number or a name; got 0\.5, 1\.5 among them\. .* quantity",
    ),
    "NaN labels": ((X, Y * float("nan")), r"`data labels` must be .*; got 40 NaN or infinite of 40\. Leave"),
    "one-hot labels": (
        (X, torch.eye(4)[Y]),
        r"`data labels` must be one class an image.*; got shape \[40, 4\], one-hot rows\..*argmax",
    ),
    "multi-label": (
        (X, torch.eye(4).add(torch.eye(4).roll(1, 0))[Y]),
        r"got shape \[40, 4\], rows of several classes or none \(multi-label\)\. Choose one class each",
    ),
    "two labels an image": (
        (X, torch.stack([Y, Y], 1)),
        r"got shape \[40, 2\], rows of numbers\. Choose one class each",
    ),
    "ragged labels": ((X, [[0, 1]] + [[0]] * 39), r"`data labels\[0\]` must be one class.*; got \[0, 1\] \(list\)"),
    "no labels": ((X, None), r"`data labels` must be .*; got NoneType"),
    "one name": ((X, ["a"] * 40), r"at least two classes; got only a\. Add images of another class"),
    "one name of items": (Items(X, ["cat"] * 40), r"at least two classes; got only cat\."),
    "no name": ((X, ["a", " "] * 20), r"`data labels\[1\]` must be one class .*; got ' ' \(str\)\. Leave out"),
    "label None": (
        (X, ["a", None] * 20),
        r"`data labels\[1\]` must be one class .*; got None \(NoneType\)\. Leave out",
    ),
    "names and numbers": ((X, ["a", 1] * 20), r"labels of one kind; got 'a' \(str\) and 1 \(int\)\. Write them alike"),
    "names and truth": (Items(X, ["a", True] * 20), r"labels of one kind; got 'a' \(str\) and True \(bool\)"),
    "name and NaN": ((X, ["a", float("nan")] * 20), r"`data labels\[1\]` must be one class .*; got nan .*Leave out"),
    "a label of its own kind": (Items(X, [{}] * 40), r"`data\[0\] label` must be one class .*; got \{\} \(dict\)"),
    "sparse labels": (
        (X, Y.to_sparse()),
        r"`data labels` must be one class .*; got a tensor that is not dense\. Give `.to_d",
    ),
    "labels without numbers": (
        (X, Y.to("meta")),
        r"`data labels` must be one class .*; got a tensor without its numbers",
    ),
    "masked labels": (
        (X, np.ma.array(Y.numpy(), mask=[1] + [0] * 39)),
        r"`data labels` must be one class .*; got 1 masked of 40\. Leave out",
    ),
    "labels of 64 bits": ((X, np.array([2**64 - 1, 0] * 20, np.uint64)), r"got numbers of 2\^63 or more\. Number"),
    "NaN as text": ((X, ["nan", "a"] * 20), r"`data labels\[0\]` must be one class .*; got 'nan' \(str\)\. Leave out"),
    "rows without columns": ([{}], "one column of pictures, called 'image'; got no column"),
    "complex labels": ((X, Y * 1j), r"`data labels` must be one class .*; got torch\.complex64"),
    "broken label": (
        Items(X, [1.5] * 40),
        r"`data\[0\] label` must be one class.* got 1\.5 \(float\)\. .* no quantity",
    ),
    "NaN label": (
        Items(X, [float("nan")] * 40),
        r"`data\[0\] label` must be one class.* got nan \(float\)\. Leave out",
    ),
    "multi-label item": (Items(X, np.ones((40, 4))), r"`data\[0\] label` must be .* shape \[4\], .*multi-label"),
    "too few labels": ((X, Y[:-3]), r"`data labels` must be as many as there are images, 40; got 37"),
    "no channel axis": (
        (X.flatten(1), Y),
        r"`data images` must be a tensor \[N, C, H, W\], .*; got shape \[40, 90\]",
    ),
    "channels last": (
        (X.movedim(1, -1), Y),
        r"`data images` must be \[…, C, H, W\]; got \[40, 6, 5, 3\], .*movedim",
    ),
    "no channel": ((X[:, :0], Y), r"at least one channel and one pixel; got shape \[40, 0, 6, 5\]"),
    "integers": (
        (X.long(), Y),
        r"`data images` must be uint8 0 … 255, or float in \[0, 1\]; got torch.int64",
    ),
    "0 to 255 floats": (
        (X.float(), Y),
        r"`data images` must be floats in \[0, 1\]; got 0 … 255\. Divide by the largest value .*: `x / 255` of 8 bits,",
    ),
    "0 to 16 floats": (
        (X.float() / 16, Y),
        r"`x / 255` of 8 bits, which may also be given as uint8; the largest of this data is 15\.9",
    ),
    "normalised": (
        (X.float() / 100 - 1, Y),
        r"must be floats in \[0, 1\]; got -1 … 1\.55\. Undo the normalisation",
    ),
    "NaN": ((nan_at(7), Y), r"`data images` must be finite; got 1 NaN or infinite of 3600 values"),
    "NaN item": (
        Items(nan_at(7), Y),
        r"`data\[7\] image` must be finite; got 1 NaN or infinite of 90 values",
    ),
    "constant": ((torch.full_like(X, 7), Y), r"the same constant everywhere in channel 0, 1, 2 of 3"),
    "constant channel": (
        (X * torch.tensor([1, 0, 1], dtype=torch.uint8).view(3, 1, 1), Y),
        r"in channel 1 of 3",
    ),
    "unequal sizes": (
        Items([*X[:9], X[9, :, :4]], Y),
        r"`data\[9\] image` must be of the shape of the first, "
        r"\[3, 6, 5\]; got \[3, 4, 5\]\. Give `size=`",
    ),
    "unequal channels": (
        Items([*X[:9], X[9, :1]], Y),
        r"`data\[9\] image` .* got \[1, 6, 5\]\. Convert all to one mode",
    ),
    "class of one": (
        (X, Y.clone().index_fill_(0, torch.tensor([0]), 4)),
        r"`train` must be at least 2 images a class, "
        r"since some are held out for validation; got 1 of class 4",
    ),
    "three items": (
        Items(list(zip(X, Y, strict=True)), Y),
        r"`data\[0\] image` must be a PIL image.* got tuple",
    ),
    "no pair": (list(X), r"`data\[0\]` must be \(image, label\); got Tensor"),
    "one label": ((list(X), 3), r"`data\[0\]` must be \(image, label\); got list of 40"),
    "one label tensor": ((list(X), torch.tensor(3)), r"`data\[0\]` must be \(image, label\); got list of 40"),
    "no data": (None, r"`data` must be a map-style Dataset of \(image, label\), .* got NoneType"),
    "an iterator": (iter([(X[0], 0)]), r"`data` must be a map-style Dataset"),
    "random transform": (
        jittery(),
        r"the same pixels each time it is read; got another image when item 0 was read",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_is_refused(case: str) -> None:
    data, message = REFUSALS[case]
    with pytest.raises(InputError, match=message):
        load_images(data)


def test_named_classes_set_the_range() -> None:
    with pytest.raises(InputError, match=r"`train labels` must be 0 … 2 \(there are 3 classes\); got 3\. Number"):
        load_images((X, Y), classes=["a", "b", "c"])
    with pytest.raises(InputError, match=r"no image of class 4 \('e'\)"):
        load_images((X, Y), classes=list("abcde"))
    with pytest.raises(InputError, match=r"`test labels` must be 0 … 2"):
        load_images((X, Y), role="evaluate", classes=3)


def test_splits_must_agree() -> None:
    with pytest.raises(InputError, match=r"`train` must be a map-style Dataset .* got NoneType"):
        Images(train=None, test=(X, Y))
    with pytest.raises(InputError, match=r"`test images` must be of train's shape \[3, 6, 5\]; got \[1, 6, 5\]"):
        Images(train=(X, Y), test=(X[:, :1], Y))
    with pytest.raises(InputError, match=r"`test labels` must be 0 … 3 \(there are 4 classes\); got 4, 5"):
        Images(train=(X, Y), test=(X, Y + 2))
    with pytest.raises(InputError, match=r"`mean, std` must be both or neither"):
        Images(train=(X, Y), mean=(0.5,) * 3)
    with pytest.raises(InputError, match=r"`mean, std` must be 3 numbers each, std above 0"):
        Images(train=(X, Y), mean=(0.5,) * 3, std=(0.5, 0.5, 0.0))


def test_arguments_that_make_no_sense_together() -> None:
    with pytest.raises(InputError, match=r"`root` must be left out unless `data` is the name of a card"):
        load_images((X, Y), root="/data")
    with pytest.raises(InputError, match=r"`classes` must be left out for a named data set or `Images`"):
        load_images("digits", classes=10)


def test_a_split_checks_itself() -> None:
    with pytest.raises(InputError, match=r"`images` must be uint8, or float32 in \[0, 1\]; got torch.float64"):
        TensorSplit(X.double(), Y)
    with pytest.raises(InputError, match=r"`images` must be floats in \[0, 1\]; got 0 … 2.55. Scale|Divide"):
        TensorSplit(X.float() / 100, Y)
    with pytest.raises(InputError, match=re.escape("`labels` must be a tensor [N] with N = 40; got shape [39]")):
        TensorSplit(X, Y[:-1])


def test_an_error_of_the_users_dataset_names_the_item() -> None:
    class Breaks(Items):
        def __getitem__(self, i: int) -> tuple[Any, Any]:
            if i == 5:
                raise KeyError("mine")
            return super().__getitem__(i)

    with pytest.raises(KeyError, match="mine") as caught:
        load_images(Breaks(X, Y))
    assert caught.value.__notes__ == ["while reading data[5]"]


def test_images_are_printable_and_frozen() -> None:
    images = hold_out(Images(train=(X, Y), name="mine"))
    assert repr(images) == "Images('mine', 4 classes, 9 a class, 36 train, 4 val, 3x6x5, 3,600 bytes in memory)"
    with pytest.raises(AttributeError):
        images.name = "other"  # type: ignore[misc]
