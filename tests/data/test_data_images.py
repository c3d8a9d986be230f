"""Images from users' own data: forms, splits, fingerprints."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from reference.pictures import Items, labels, pixels
from torch import Tensor
from torch.utils.data import TensorDataset

from dd.data import Images, LazySplit, TensorSplit, as_split, load_images, statistics
from dd.data.images.resize import fit
from dd.data.images.splits import JoinedSplit
from dd.errors import InputError

# --- forms


def test_every_form_of_the_same_data_is_the_same_set() -> None:
    from PIL import Image

    x, y = pixels(), labels()
    hwc = x.movedim(1, -1).contiguous().numpy()
    forms: dict[str, object] = {
        "pair": (x, y),
        "list pair": [x, y.tolist()],
        "float pair": (x.float() / 255, y.int()),
        "double pair": (x.double() / 255, y),
        "half pair": ((x.float() / 255).half(), y),
        "half array": ((hwc / 255).astype("float16"), y),
        "half items": Items((x.float() / 255).bfloat16(), y.tolist()),
        "numpy pair": (hwc, y.numpy()),
        "tensor dataset": TensorDataset(x, y),
        "uint8 tensors": Items(x, y),
        "ToTensor tensors": Items(x.float() / 255, y.tolist()),
        "numpy items": Items(hwc, y.numpy()),
        "PIL items": Items([Image.fromarray(image) for image in hwc], y.tolist()),
        "list of pairs": list(zip(x, y, strict=True)),
        "split": TensorSplit(x, y),
        "Images": Images(train=(x, y)),
        "read when asked for": as_split(Items(x, y), limit=10),
    }
    expected = load_images((x, y)).all_train().train
    for name, form in forms.items():
        images = load_images(form)
        whole = images.all_train().train
        assert torch.equal(whole.pixels(), x / 255), name
        assert torch.equal(whole.labels, y), name
        assert images.test is None, name
        assert (images.channels, images.size, images.num_classes) == (3, (6, 5), 4), name
        assert (whole.fingerprint == expected.fingerprint) == (name != "read when asked for"), name


def test_grey_images_have_one_channel() -> None:
    from PIL import Image

    x, y = pixels(c=1), labels()
    flat = x[:, 0]
    for form in (
        Items(flat, y),
        Items(flat.numpy(), y),
        Items([Image.fromarray(im.numpy()) for im in flat], y),
    ):
        assert torch.equal(load_images(form).all_train().train.pixels(), x / 255)


def test_floats_that_are_not_multiples_of_one_255th_stay_floats() -> None:
    x = torch.rand(40, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    split = load_images((x, labels())).all_train().train
    assert isinstance(split, TensorSplit)
    assert split.images.dtype == torch.float32
    assert torch.equal(split.pixels(), x)
    assert torch.equal(load_images(Items(x, labels())).all_train().train.pixels(), x)
    # Half of the items are multiples, half are not: still one set, still exact.
    mixed = torch.cat([pixels(20, 2, 4, 4) / 255, x[:20]])
    assert torch.equal(load_images(Items(mixed, labels())).all_train().train.pixels(), mixed)


def test_role_decides_what_a_bare_set_is() -> None:
    x, y = pixels(), labels()
    for data in ((x, y), Items(x, y)):
        distill, evaluate = load_images(data), load_images(data, role="evaluate")
        assert (len(distill.train), len(distill.val or ()), distill.test) == (36, 4, None)
        assert (len(evaluate.train), evaluate.val, len(evaluate.test or ())) == (0, None, 40)
        assert evaluate.size == (6, 5)
        # Nothing is fitted on test images.
        assert (evaluate.mean, evaluate.std) == ((0.0,) * 3, (1.0,) * 3)
        assert evaluate.all_train() is evaluate
    with pytest.raises(InputError, match=r"`data` must be a set with test images; got Images\('custom'"):
        load_images(Images(train=(x, y)), role="evaluate")
    with pytest.raises(InputError, match=r"`role` must be 'distill' or 'evaluate'; got 'test'"):
        load_images((x, y), role="test")


def test_class_names() -> None:
    x, y = pixels(), labels()
    assert load_images((x, y)).classes == ("0", "1", "2", "3")
    assert load_images(Items(x, y, ["a", "b", "c", "d"])).classes == ("a", "b", "c", "d")
    assert load_images(Items(x, y, ["a", "b", "c", "d"]), classes=list("wxyz")).classes[0] == "w"
    assert load_images((x[:3], y[:3]), role="evaluate", classes=10).num_classes == 10
    with pytest.raises(InputError, match=r"`classes` must be different names"):
        load_images((x, y), classes=["a", "a", "b", "c"])


def test_size_and_aspect() -> None:
    x = pixels(40, 3, 8, 16)
    crop = load_images((x, labels()), size=4)
    squash = load_images((x, labels()), size=(4, 4), aspect="squash")
    lazy = load_images(Items(x, labels()), size=4, limit=10)
    assert crop.size == squash.size == lazy.size == (4, 4)
    assert isinstance(lazy.train, LazySplit)
    assert torch.equal(crop.train.pixels(), lazy.train.pixels())
    assert not torch.equal(crop.train.pixels(), squash.train.pixels())
    for wrong in (0, -1, (4,), True, "8"):
        with pytest.raises(InputError, match=r"`size` must be a positive integer, or a pair"):
            load_images((x, labels()), size=wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"`aspect` must be 'crop'"):
        load_images((x, labels()), aspect="stretch")
    with pytest.raises(InputError, match=r"`size` must be \(8, 16\) or left out for `Images`"):
        load_images(Images(train=(x, labels())), size=4)


def test_fit_keeps_proportions_by_default() -> None:
    # A picture 4 high and 12 wide: left third 0, middle third 90, right third 180.
    x = torch.tensor([0, 90, 180], dtype=torch.uint8).repeat_interleave(4).expand(1, 4, 12)
    assert torch.equal(fit(x, (4, 4)), torch.full((1, 4, 4), 90, dtype=torch.uint8))
    assert fit(x, (4, 4), "squash")[0, 0].tolist()[::3] == pytest.approx([0, 180], abs=30)
    assert fit(x.transpose(1, 2), (4, 4)).unique().tolist() == [90]
    assert fit(x, (4, 12)) is x
    assert fit(x, (2, 6)).shape == (1, 2, 6)
    assert fit(x.float() / 255, (8, 8)).dtype == torch.float32
    assert fit(x, (7, 3)).shape == (1, 7, 3)


def test_an_odd_set_goes_through() -> None:
    images = load_images(Items(pixels(4 * 37, 3, 20, 28), labels(4 * 37)))
    assert (images.size, images.num_classes) == ((20, 28), 4)
    assert [len(images.class_index(k)) for k in range(4)] == [33] * 4


# --- splits


def test_splits_agree_with_plain_indexing() -> None:
    x, y = pixels(), labels()
    whole = TensorSplit(x, y)
    lazy = as_split(Items(x, y), limit=10)
    joined = JoinedSplit(TensorSplit(x[:15], y[:15]), as_split(Items(x[15:], y[15:]), limit=10))
    assert isinstance(lazy, LazySplit)
    rows = torch.tensor([5, 3, 39, 3, 20])
    for split in (whole, lazy, joined):
        assert torch.equal(split.pixels(), x / 255)
        assert torch.equal(split.pixels(rows), x[rows] / 255)
        assert torch.equal(split.pixels(slice(10, 20)), x[10:20] / 255)
        assert split.pixels(slice(0, 0)).shape == (0, 3, 6, 5)
        assert split.pixels().dtype == torch.float32
        part = split.subset(rows).subset(torch.tensor([4, 0, 1]))
        assert torch.equal(part.pixels(), x[[20, 5, 3]] / 255)
        assert part.labels.tolist() == y[[20, 5, 3]].tolist()
        assert part.pixels(slice(1, 2)).shape == (1, 3, 6, 5)
        assert len(part) == 3


def test_what_pixels_gives_is_not_the_store() -> None:
    x = torch.rand(40, 1, 4, 4)
    split = TensorSplit(x.clone(), labels())
    split.pixels().zero_()
    split.pixels(slice(0, 4)).zero_()
    assert torch.equal(split.pixels(), x)


def test_workers_change_nothing() -> None:
    x, y = pixels(600, 1, 4, 4), labels(600)
    order = torch.randperm(600, generator=torch.Generator().manual_seed(3))
    one, two = (as_split(Items(x, y), limit=10, workers=n) for n in (0, 2))
    assert torch.equal(one.pixels(order), x[order] / 255)
    assert torch.equal(two.pixels(order), x[order] / 255)


def test_reading_leaves_the_global_stream_alone() -> None:
    before = torch.get_rng_state()
    images = load_images(Items(pixels(), labels()), limit=10)
    images.train.pixels()
    assert images.mean
    load_images("digits")
    assert torch.equal(torch.get_rng_state(), before)


def test_fingerprint_follows_content() -> None:
    x, y = pixels(), labels()

    def prints(x: Tensor, y: Tensor, **options: Any) -> set[str]:
        return {
            load_images((x, y), **options).fingerprint,
            load_images(Items(x, y), limit=10, **options).fingerprint,
        }

    base = prints(x, y)
    assert len(base) == 2  # bytes of all, or one hash an image
    assert prints(x.clone(), y.clone()) == base
    touched = x.clone()
    touched[load_images((x, y)).class_index(0)[0]] ^= 1
    others = [
        prints(touched, y),
        prints(x.flip(0), y),
        prints(x, y.flip(0)),
        prints(x, y, classes=list("abcd")),
        prints(x, y, size=4),
        prints(x.transpose(2, 3).contiguous(), y),
    ]
    for other in others:
        assert not other & base


def test_statistics_are_those_of_plain_torch() -> None:
    x = pixels(50, 3, 7, 5)
    mean, std = statistics(TensorSplit(x, labels(50)))
    assert mean == pytest.approx((x / 255.0).mean((0, 2, 3)).tolist(), abs=1e-6)
    assert std == pytest.approx((x / 255.0).std((0, 2, 3), unbiased=False).tolist(), abs=1e-6)
