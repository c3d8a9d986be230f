"""The way out of each refusal, followed to the letter: code in a message is run, and leads to the right set."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from reference.pictures import Items, labels, pixels
from torch.utils.data import DataLoader, Dataset, IterableDataset

import dd
from dd.data import Images, TensorSplit, as_split, check_ipc, load_images
from dd.errors import InputError

X, Y = pixels(), labels()
LAST = X.movedim(1, -1)
ONE_HOT = torch.eye(4)[Y]
NAMES = ["ant", "bee", "cat", "dog"]
WHOLE = TensorSplit(X, Y)


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises(InputError) as caught:
        call()
    return str(caught.value)


def code_of(message: str, number: int = 0) -> str:
    """Piece `number` of the code in the way out, which stands behind what was got."""
    return re.findall("`([^`]+)`", message.split("; got ", 1)[1])[number]


def run(code: str, **names: Any) -> Any:
    """The value of an expression, or of the last name that an assignment makes."""
    space = {"dd": dd, "torch": torch, "numpy": numpy, **names}
    target, equals, _ = code.partition(" = ")
    if not equals:
        return eval(code, space)
    exec(code, space)
    return space[target.split(", ")[-1]]


def is_whole(images: Images, expected: TensorSplit = WHOLE, test: bool = False) -> None:
    """The set is the expected one, with its pixels and labels in order."""
    split = images.test if test else images.all_train().train
    assert split is not None
    assert torch.equal(split.pixels(), expected.pixels())
    assert split.labels.tolist() == expected.labels.tolist()


# --- images

PIXELS: dict[str, tuple[Any, str, TensorSplit]] = {
    "tensor with channels last": (LAST, "x.movedim(-1, -3)", WHOLE),
    "four channels last": (pixels(c=4).movedim(1, -1), "x.movedim(-1, -3)", TensorSplit(pixels(c=4), Y)),
    "grey narrow": (pixels(c=1, w=3)[:, 0], "torch.as_tensor(x)[:, None]", TensorSplit(pixels(c=1, w=3), Y)),
    "grey narrow array": (
        pixels(c=1, w=3)[:, 0].numpy(),
        "torch.as_tensor(x)[:, None]",
        TensorSplit(pixels(c=1, w=3), Y),
    ),
    "flat": (X.flatten(1), "x.reshape(-1, C, H, W)", WHOLE),
    "flat array": (X.flatten(1).numpy(), "x.reshape(-1, C, H, W)", WHOLE),
    "flat channels": (X.flatten(2), "x.reshape(-1, C, H, W)", WHOLE),
    "array of objects": (LAST.double().numpy().astype(object) / 255, "x.astype('float64')", WHOLE),
    "int64": (X.long(), "torch.as_tensor(x) / 255", WHOLE),
    "int64 array": (X.long().numpy(), "torch.as_tensor(x) / 255", WHOLE),
    "uint16": ((X.long() * 257).numpy().astype("uint16"), "torch.as_tensor(x) / 65535", WHOLE),
    "bool": (X > 99, "torch.as_tensor(x) / 1", TensorSplit((X > 99).float(), Y)),
    "floats to 255": (X.float(), "x / 255", WHOLE),
    "array to 255": (LAST.double().numpy(), "x / 255", WHOLE),
    "overshoot": (X / 255 * 1.04 - 0.02, "x.clip(0, 1)", TensorSplit((X / 255 * 1.04 - 0.02).clip(0, 1), Y)),
}


@pytest.mark.parametrize("case", PIXELS)
def test_code_for_images(case: str) -> None:
    x, expected_code, expected = PIXELS[case]
    message = refused(lambda: load_images((x, Y)))
    pieces = re.findall("`([^`]+)`", message.split("; got ", 1)[1])
    assert expected_code in pieces
    made = run(expected_code, x=x, C=3, H=6, W=5)
    is_whole(load_images((made, Y)), expected)
    if x.ndim == 4:  # so for an item of a Dataset
        message = refused(lambda: load_images(Items(x, Y)))
        assert expected_code in message
        is_whole(load_images(Items([run(expected_code, x=one) for one in x], Y)), expected)


def test_code_for_an_array_of_arrays() -> None:
    x = numpy.empty(len(X), object)
    for i, image in enumerate(LAST):
        x[i] = image.numpy()
    is_whole(load_images((run(code_of(refused(lambda: load_images((x, Y)))), x=x), Y)))


@pytest.mark.parametrize("shape", [(40, 3, 4, 3), (40, 2, 6, 5)])
@pytest.mark.parametrize("make", [tuple, lambda pair: Items(*pair)])
def test_code_for_layouts(shape: tuple[int, int, int, int], make: Any) -> None:
    x = pixels(*shape)
    for number, array in enumerate((x.numpy(), x.movedim(1, -1).contiguous().numpy())):
        data = make((array, Y))
        for role in ("distill", "evaluate"):
            code = code_of(refused(lambda: load_images(data, role=role)), number)  # noqa: B023
            is_whole(run(code, data=data), TensorSplit(x, Y), test=role == "evaluate")
        code = code_of(refused(lambda: Images(train=data, test=data)), number)  # noqa: B023
        made = run(code.replace("…", "data, test=data"), data=data)
        is_whole(made, TensorSplit(x, Y))
        is_whole(made, TensorSplit(x, Y), test=True)
        code = code_of(refused(lambda: as_split(data)), number)  # noqa: B023
        assert run(code, data=data, as_split=as_split).fingerprint == TensorSplit(x, Y).fingerprint


def test_code_for_narrow_tensors_of_many_channels() -> None:
    x = pixels(40, 13, 8, 3)
    for data in ((x, Y), Items(x, Y)):
        code = code_of(refused(lambda: load_images(data)), 1)  # noqa: B023
        is_whole(run(code, data=data), TensorSplit(x, Y))
    code = code_of(refused(lambda: load_images((LAST, Y), layout="NHWC")))
    is_whole(load_images((run(code, x=LAST), Y)))


def test_normalised_pixels_are_undone() -> None:
    mean, std = (X / 255).mean((0, 2, 3), keepdim=True), (X / 255).std((0, 2, 3), keepdim=True)
    assert "Undo the normalisation" in refused(lambda: load_images((X / 255 - mean, Y)))
    assert "Undo the normalisation" in refused(lambda: load_images(((X / 255 - mean) / std, Y)))
    assert "Scale the pixels to [0, 1]" in refused(lambda: load_images((X * 300.0, Y)))


def test_sizes_are_made_equal() -> None:
    uneven = Items([*X[:9], X[9, :, :4], *X[10:]], Y)
    assert "Give `size=`." in refused(lambda: load_images(uneven))
    assert load_images(uneven, size=4).size == (4, 4)
    assert "Give `size=`." in refused(lambda: Images(train=uneven))
    assert Images(train=uneven, test=uneven, size=4).size == (4, 4)
    assert "Give `size=`." in refused(lambda: as_split(uneven))
    assert as_split(uneven, size=4).shape == (3, 4, 4)
    assert "Give `size=`." in refused(lambda: Images(train=(X, Y), test=(X[..., :4], Y)))
    assert Images(train=(X, Y), test=(X[..., :4], Y), size=(4, 3)).size == (4, 3)
    assert "Give `size=` when you make them." in refused(lambda: load_images(Images(train=(X, Y)), size=4))
    assert load_images(Images(train=(X, Y), size=4), size=4).size == (4, 4)


def test_channels_are_made_equal() -> None:
    from PIL import Image

    mixed = [Image.fromarray(image) for image in LAST.contiguous().numpy()]
    mixed[9] = mixed[9].convert("L")
    message = refused(lambda: load_images(Items(mixed, Y)))
    assert "`.convert('RGB')`" in message
    made = load_images(Items([image.convert("RGB") for image in mixed], Y)).all_train().train.pixels()
    assert torch.equal(made[10:], X[10:] / 255)
    assert "Convert them alike." in refused(lambda: Images(train=(X, Y), test=(X[:, :1], Y)))
    flat = X * torch.tensor([1, 0, 1], dtype=torch.uint8).view(3, 1, 1)
    assert "leave that channel out" in refused(lambda: load_images((flat, Y)))
    is_whole(load_images((flat[:, [0, 2]], Y)), TensorSplit(X[:, [0, 2]], Y))


# --- labels


@pytest.mark.parametrize("given", [ONE_HOT, ONE_HOT.numpy(), ONE_HOT.long(), ONE_HOT.tolist(), ONE_HOT.bool()])
def test_code_for_one_hot_labels(given: Any) -> None:
    code = code_of(refused(lambda: load_images((X, given))))
    is_whole(load_images((X, run(code, labels=given))))
    if not isinstance(given, list):
        code = code_of(refused(lambda: load_images(Items(X, given))))
        is_whole(load_images(Items(X, [run(code, label=label) for label in given])))


@pytest.mark.parametrize("given", [Y + 0.5, (Y + 0.5).numpy(), (Y + 0.5).tolist()])
def test_code_for_quantities(given: Any) -> None:
    for data in ((X, given), Items(X, given)):
        code = code_of(refused(lambda: load_images(data)))  # noqa: B023
        assert code == "numpy.digitize(labels, edges)"
    is_whole(load_images((X, run(code, labels=torch.as_tensor(given), edges=[1, 2, 3]))))


def test_ways_out_of_missing_labels_and_several_tasks() -> None:
    some = Y.float().where(torch.arange(40) != 3, torch.nan)
    for data in ((X, some), (X, some.tolist()), Items(X, some)):
        assert "Leave out what has no label." in refused(lambda: load_images(data))  # noqa: B023
    kept = torch.isfinite(some)
    is_whole(load_images((X[kept], some[kept])), TensorSplit(X[kept], Y[kept]))
    several = torch.stack([Y, Y.flip(0)], 1)
    assert code_of(refused(lambda: load_images((X, several)))) == "labels[:, 0]"
    is_whole(load_images((X, several[:, 0])))
    mixed = ["one" if k == 1 else int(k) for k in Y]
    assert code_of(refused(lambda: load_images((X, mixed)))) == "[str(label) for label in labels]"
    assert load_images((X, [str(label) for label in mixed])).classes == ("0", "2", "3", "one")


def test_code_for_numbers_below_0_of_splits() -> None:
    """Splits are taken as they are: their labels are numbers of classes."""
    message = refused(lambda: load_images(TensorSplit(X, Y - 1)))
    code = next(piece for piece in re.findall("`([^`]+)`", message) if piece.startswith("torch.unique"))
    assert "train and test alike" in message
    is_whole(load_images(TensorSplit(X, run(code, labels=Y - 1))))


def test_other_ways_out_of_labels() -> None:
    assert "Subtract 1" in refused(lambda: load_images((X, Y + 1), classes=5))
    is_whole(load_images((X, Y), classes=4))
    assert "Lower `classes=`" in refused(lambda: load_images((X, Y), classes=5))
    is_whole(load_images((X, Y), classes=4))
    # The first of these names has no image: numbering from 0 alone would call an ant a bee.
    message = refused(lambda: load_images((X, Y + 1), classes=["none", *NAMES]))
    assert "leave its name out and number the others from 0" in message
    assert "Subtract" not in message
    is_whole(load_images((X, Y), classes=NAMES))
    assert "those of `classes=`, else those of train" in refused(lambda: Images(train=(X, Y), test=(X, Y + 1)))


def test_code_for_test_sets_without_some_classes() -> None:
    for given in (Y * 0, Y * 30):
        message = refused(lambda: load_images((X, given), role="evaluate"))  # noqa: B023
        code = next(piece for piece in re.findall("`([^`]+)`", message) if piece.startswith("dd."))
        made = run(code.replace("…", "91"), data=(X, given))
        is_whole(made, TensorSplit(X, given), test=True)
        assert made.num_classes == 91
    assert "Add images of another class" in refused(lambda: load_images((X, Y * 0)))
    few = torch.cat([Y[:37] % 3, torch.tensor([3, 3, 3])])[:38]
    message = refused(lambda: load_images((X[:38], few)))
    assert "`dd.Images(train=…, val=…)`" in message
    assert load_images(Images(train=(X[:38], few), val=(X[38:], Y[38:]))).val is not None
    assert "Lower `ipc`" in refused(lambda: check_ipc(WHOLE_SET, 10))
    check_ipc(WHOLE_SET, 9)


WHOLE_SET = load_images((X, Y))


# --- containers


def test_code_for_containers() -> None:
    pairs = list(zip(X, Y.tolist(), strict=True))
    loader = DataLoader(Items(X, Y), batch_size=8)

    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(pairs)

        def __len__(self) -> int:
            return len(pairs)

    for data in (loader, iter(pairs), (pair for pair in pairs), Stream()):
        code = code_of(refused(lambda: load_images(data)))  # noqa: B023
        is_whole(load_images(run(code, data=data)))
    code = code_of(refused(lambda: Images(train=loader)))
    is_whole(Images(train=run(code, train=loader)))
    images = list(X)
    for given in (Y, Y.tolist(), Y.numpy()):
        code = code_of(refused(lambda: load_images((images, given))))  # noqa: B023
        is_whole(load_images(run(code, data=(images, given))))
        nested = (X.tolist(), given)
        is_whole(load_images(run(code_of(refused(lambda: load_images(nested))), data=nested)))  # noqa: B023
    assert "Wrap the Dataset so that it gives these two." in refused(lambda: load_images(images))
    is_whole(load_images(pairs))


def test_code_for_several_sets() -> None:
    held = (X[:20], Y[:20])
    for sets in ((Items(X, Y), Items(*held)), [(X, Y), held], (WHOLE, held), (list(zip(X, Y, strict=True)), held)):
        code = code_of(refused(lambda: load_images(sets)))  # noqa: B023
        made = run(code, data=sets)
        is_whole(made)
        is_whole(made, TensorSplit(*held), test=True)
    code = code_of(refused(lambda: load_images((X, Y, *held))))
    assert code == "dd.Images(train=(images, labels), test=(images, labels))"
    assert "`dd.Images(train=data[…], test=data[…])`" in refused(lambda: load_images({"a": (X, Y), "b": held}))
    made = Images(train=(X, Y), test=held)
    is_whole(made)
    assert "`dd.Images(train=…, test=…)`" in refused(lambda: load_images(Images(train=(X, Y)), role="evaluate"))
    is_whole(load_images(made, role="evaluate"), TensorSplit(*held), test=True)


def test_code_for_names_of_sets(tmp_path: Path) -> None:
    code = code_of(refused(lambda: Images(train="digits")))
    digits = load_images("digits")
    assert torch.equal(run(code, NAME="digits").labels, digits.train.labels)
    from PIL import Image

    for k in range(2):
        (tmp_path / "train" / str(k)).mkdir(parents=True)
        for i in range(2):
            Image.fromarray(LAST[2 * k + i].contiguous().numpy()).save(tmp_path / "train" / str(k) / f"{i}.png")
    assert "`imagefolder:PATH`" in refused(lambda: load_images(tmp_path))
    is_whole(load_images(f"imagefolder:{tmp_path}"), TensorSplit(X[:4], torch.tensor([0, 0, 1, 1])))


def test_random_transforms_are_taken_out() -> None:
    class Jitter(Dataset[Any]):
        flip = True

        def __len__(self) -> int:
            return len(X)

        def __getitem__(self, i: int) -> Any:
            Jitter.turn = not getattr(Jitter, "turn", False)
            return X[i].flip(2) if self.flip and Jitter.turn else X[i], Y[i]

    assert "Take random transforms out" in refused(lambda: load_images(Jitter()))
    Jitter.flip = False
    is_whole(load_images(Jitter()))


@pytest.mark.parametrize("kind", [tuple, list])
@pytest.mark.parametrize("images", [X.numpy()[:, 0], X.numpy()], ids=["grey", "colour"])
def test_two_pairs_of_arrays_are_train_and_test(kind: Callable[[Any], Any], images: Any) -> None:
    data = kind([(images, Y.numpy()), (images, Y.numpy())])
    text = refused(lambda: load_images(data))
    with pytest.warns(UserWarning, match="also among the training images"):
        made = run(code_of(text), data=data)
    assert torch.equal(made.train.pixels(), made.test.pixels())
    assert made.train.labels.tolist() == Y.tolist()
