"""Arrays and tensors of every layout: the same set as the plain tensors `[N, C, H, W]`, or a refusal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from reference.pictures import Items, labels, pixels
from torch import Tensor

from dd.data import Images, TensorSplit, as_split, load_images
from dd.errors import InputError

Y = labels()


def channels_last(x: Tensor) -> np.ndarray:
    return x.movedim(1, -1).contiguous().numpy()


def same(made: Any, x: Tensor, y: Tensor = Y) -> None:
    """A split has these pixels and labels and no others, hence their fingerprint."""
    assert isinstance(made, TensorSplit)
    assert made.fingerprint == TensorSplit(x, y).fingerprint
    assert torch.equal(made.pixels(), x / 255)
    assert torch.equal(made.labels, y)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("kind", ["uint8", "float32", "float64"])
def test_the_axis_of_1_3_or_4_is_the_channels(channels: int, kind: str) -> None:
    x = pixels(c=channels)
    for array in (x.numpy(), channels_last(x)):
        values = array if kind == "uint8" else (array / 255).astype(kind)
        same(as_split((values, Y)), x)
        same(as_split(Items(values, Y)), x)
        made = Images(train=(values, Y.numpy()), test=Items(values, Y))
        same(made.train, x)
        same(made.test, x)
        same(load_images((values, Y), role="evaluate").test, x)


@pytest.mark.parametrize("shape", [(40, 3, 6, 5), (40, 3, 6, 3), (40, 2, 6, 5), (40, 5, 7, 13), (40, 3, 3, 3)])
def test_a_layout_is_taken_at_its_word(shape: tuple[int, int, int, int]) -> None:
    x = pixels(*shape)
    for layout, array in (("NCHW", x.numpy()), ("NHWC", channels_last(x))):
        same(as_split((array, Y), layout=layout), x)
        same(as_split(Items(array, Y), layout=layout), x)
        same(Images(train=(array, Y), layout=layout).train, x)
        same(load_images((array, Y), layout=layout).all_train().train, x)
        same(load_images((array, Y), layout=layout, role="evaluate").test, x)
        lazy = as_split(Items(array, Y), layout=layout, limit=10)
        assert torch.equal(lazy.pixels(), x / 255)


@pytest.mark.parametrize(
    ("shape", "which"),
    [((40, 3, 6, 3), "both"), ((40, 1, 6, 4), "both"), ((40, 2, 6, 5), "neither"), ((40, 13, 8, 8), "neither")],
)
def test_arrays_that_do_not_tell_are_refused(shape: tuple[int, int, int, int], which: str) -> None:
    array = pixels(*shape).numpy()
    for data in ((array, Y), Items(array, Y)):
        with pytest.raises(InputError, match=rf"{which} could be the channels'.*layout=\"NCHW\".*layout=\"NHWC\""):
            load_images(data)


def test_grey_images_need_no_axis_of_channels() -> None:
    x = pixels(c=1)
    for flat in (x[:, 0], x[:, 0].numpy(), x[:, 0].double() / 255, x[:, 0].numpy() / np.float32(255)):
        same(as_split((flat, Y)), x)
        same(as_split(Items(flat, Y)), x)
        same(load_images((flat, Y), layout="NHWC").all_train().train, x)


def test_flat_images_are_no_grey_images() -> None:
    for shape in ((40, 1, 30), (40, 30, 1), (40, 3, 10), (40, 10, 4), (40, 30), (40,)):
        for flat in (torch.zeros(shape), np.zeros(shape)):
            with pytest.raises(InputError, match=r"`data images` must be .*grey images \[N, H, W\]; got shape"):
                load_images((flat, Y))


def test_tensors_have_channels_first() -> None:
    x = pixels(40, 13, 8, 5)
    same(as_split((x, Y)), x)
    same(as_split((x, Y), layout="NCHW"), x)
    for last in (1, 3, 4):
        narrow = pixels(40, 13, 8, last)
        for data in ((narrow, Y), Items(narrow, Y)):
            with pytest.raises(InputError, match=r"looks like channels last\. Move the channels"):
                load_images(data)
            same(load_images(data, layout="NCHW").all_train().train, narrow)
            with pytest.raises(InputError, match=r"`layout` must be 'NCHW' or left out for tensors"):
                load_images(data, layout="NHWC")


def test_pil_images_know_their_layout() -> None:
    from PIL import Image

    x = pixels(h=3, w=3)
    data = Items([Image.fromarray(image) for image in channels_last(x)], Y)
    for layout in (None, "NCHW", "NHWC"):
        same(as_split(data, layout=layout), x)


def test_items_of_other_axes_are_refused() -> None:
    for shape in ((40, 5), (40, 1, 3, 6, 5), (40,)):
        for images in (torch.zeros(shape), np.zeros(shape, np.float32)):
            with pytest.raises(InputError, match=r"`data\[0\] image` must be a PIL image, a numpy array"):
                load_images(Items(images, Y))
    with pytest.raises(InputError, match=r"`data images` must be numbers; got an array of object"):
        load_images((np.full((40, 6, 5), None), Y))


def test_layout_is_a_word_and_goes_with_arrays() -> None:
    x = pixels()
    for make in (lambda: load_images((x, Y), layout="HWC"), lambda: Images(train=(x, Y), layout="nchw")):
        with pytest.raises(InputError, match=r"`layout` must be 'NCHW' or 'NHWC'"):
            make()
    for data in ("digits", Images(train=(x, Y))):
        with pytest.raises(InputError, match=r"`layout` must be left out for a named data set or `Images`"):
            load_images(data, layout="NCHW")


def test_foreign_memory_is_read() -> None:
    x = pixels()
    array = channels_last(x)
    array.flags.writeable = False  # as of `np.load(…, mmap_mode="r")`; torch would warn
    frozen = Y.numpy().copy()
    frozen.flags.writeable = False
    same(as_split((array, frozen)), x)
    same(as_split(Items(array, frozen)), x)
    same(as_split((array[:, ::-1, ::-1], Y)), x.flip(2, 3))
    same(as_split(((array / 255).astype(">f4"), Y.numpy().astype(">i8"))), x)


@pytest.mark.parametrize(
    "make",
    [
        lambda y: y[:, None],
        lambda y: y.numpy()[:, None],
        lambda y: y.float(),
        lambda y: y.numpy().astype("float64")[:, None],
        lambda y: y.to(torch.uint8).numpy(),
        lambda y: y.tolist(),
        lambda y: [float(k) for k in y],
        lambda y: list(y),
        lambda y: list(y.numpy()),
        lambda y: list(y[:, None]),
        lambda y: list(y.numpy()[:, None]),
        lambda y: [[int(k)] for k in y],
        lambda y: np.array(y.tolist(), dtype=object),
    ],
)
def test_labels_of_every_kind(make: Any) -> None:
    x = pixels()
    same(as_split((x, make(Y))), x)
    same(as_split(Items(x, make(Y))), x)


def test_truth_is_a_label() -> None:
    x, yes = pixels(), Y > 1
    for given in (yes, yes.numpy(), yes.tolist(), yes[:, None], list(yes.numpy())):
        same(as_split((x, given)), x, yes.long())
        same(as_split(Items(x, given)), x, yes.long())
