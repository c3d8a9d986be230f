"""Hugging Face datasets as data: a stand-in that has what is read of them, and the package itself where it is there."""

from __future__ import annotations

import importlib
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pictures

import dd
from dd.data import Images, load_images
from dd.data.images.adapters import from_hf
from dd.errors import InputError

NAMES = ("cat", "dog", "owl")
ORDER = [2, 0, 1, 1, 0, 2] * 5
PIXELS = np.random.default_rng(0).integers(0, 256, (30, 6, 6, 3), dtype=np.uint8)


class Image:
    """A feature of that name."""


class ClassLabel:
    """A feature of that name."""

    def __init__(self, names: tuple[str, ...] = NAMES) -> None:
        self.names = list(names)


class Rows:
    """A split as far as it is read: its columns and their types, its length and its rows."""

    def __init__(self, columns: dict[str, list[Any]], features: dict[str, Any]) -> None:
        self._columns, self.features, self.column_names = columns, features, list(columns)

    def __len__(self) -> int:
        return len(next(iter(self._columns.values())))

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {name: values[i] for name, values in self._columns.items()}


def pictures(count: int = 30) -> list[Any]:
    return [Pictures.fromarray(pixels) for pixels in PIXELS[:count]]


def rows(image: str = "image", label: str = "label", labels: list[Any] | None = None, typed: bool = True) -> Rows:
    """30 pictures with their labels."""
    given = ORDER if labels is None else labels
    features = {image: Image(), label: ClassLabel() if labels is None else SimpleNamespace(dtype="int64")}
    return Rows({image: pictures(len(given)), label: given}, features if typed else {})


def same(made: Images, names: tuple[str, ...] = NAMES) -> None:
    whole = made.all_train()
    assert made.classes == names
    assert torch.equal(whole.train.labels, torch.tensor(ORDER))
    assert torch.equal(whole.train.pixels(), torch.from_numpy(PIXELS).movedim(-1, 1).float() / 255)


def test_a_split_is_data() -> None:
    same(load_images(rows()))
    same(load_images(from_hf(rows())))
    lazy = load_images(rows(), limit=10)
    assert torch.equal(lazy.all_train().train.labels, torch.tensor(ORDER))
    tested = load_images(rows(), role="evaluate").test
    assert tested is not None
    assert tested.labels.tolist() == ORDER
    same(load_images(Images(train=rows(), test=rows("img"))))
    same(load_images([rows()[i] for i in range(30)]), ("0", "1", "2"))


@pytest.mark.parametrize("image", ["image", "Image", "img", "picture", "pixel_values", "whatever"])
@pytest.mark.parametrize("label", ["label", "Labels", "class", "target", "whatever else"])
def test_columns_are_found_by_their_types_then_by_their_names(image: str, label: str) -> None:
    same(load_images(rows(image, label)))
    if "whatever" not in image + label:
        same(load_images(rows(image, label, typed=False)), ("0", "1", "2"))


@pytest.mark.parametrize(
    ("labels", "names"),
    [([NAMES[k] for k in ORDER], NAMES), ([3 + 4 * k for k in ORDER], ("3", "7", "11")), (ORDER, ("0", "1", "2"))],
)
def test_labels_without_a_type_are_classes(labels: list[Any], names: tuple[str, ...]) -> None:
    same(load_images(rows(labels=labels)), names)


def test_columns_that_cannot_be_told_are_asked_for_and_named() -> None:
    both = Rows(
        {"img": pictures(), "fine_label": ORDER, "coarse_label": [0] * 30},
        {"img": Image(), "fine_label": ClassLabel(), "coarse_label": ClassLabel(("all",))},
    )
    with pytest.raises(InputError, match=r"one column of classes.*got fine_label, coarse_label\. .*label=\"…\"\)`"):
        load_images(both)
    same(load_images(from_hf(both, label="fine_label")))
    two = Rows({"left": pictures(), "right": pictures(), "label": ORDER}, {"left": Image(), "right": Image()})
    with pytest.raises(
        InputError, match=r"one column of pictures.*got left, right\. Name it: `dd.from_hf\(data, image="
    ):
        load_images(two)
    same(load_images(from_hf(two, image="right")), ("0", "1", "2"))
    with pytest.raises(InputError, match=r"unknown column 'lable'; known: image, label. Did you mean label\?"):
        from_hf(rows(), label="lable")
    with pytest.raises(InputError, match=r"one column of classes, called 'label'; got image, text"):
        load_images(Rows({"image": pictures(), "text": ["x"] * 30}, {}))


def test_splits_of_a_dict_are_used() -> None:
    whole = {"train": rows(), "validation": rows(labels=None), "test": rows("img")}
    with pytest.warns(UserWarning, match="30 of 30 test images are also"):
        made = load_images(whole)
    same(Images(train=made.train, classes=made.classes))
    assert made.val is not None
    assert made.test is not None
    assert (len(made.train), len(made.val), len(made.test)) == (30, 30, 30)
    with pytest.warns(UserWarning, match="also among the training"):
        two = load_images({"train": rows(), "valid": rows()})  # as of a folder without `test`
    assert two.test is not None
    assert len(two.train) + len(two.val or ()) == 30
    alone = load_images({"train": rows()})
    assert alone.test is None
    tested = load_images({"test": rows()}, role="evaluate")
    assert len(tested.train) == 0
    with pytest.warns(UserWarning, match="splits left out of the data: unsupervised"):
        load_images({"train": rows(), "unsupervised": rows()})
    for wrong, text in (
        ({"train_a": rows(), "b": rows()}, r"splits with `train` among them; got train_a, b\. Say which is which"),
        (
            {"train": rows(), "val": rows(), "dev": rows()},
            "splits with one of validation, valid, val, dev; got val, dev",
        ),
        ({"train": rows()[0:0] if False else Rows({"image": [], "label": []}, {})}, "at least one row"),
        ({}, "got dict"),
    ):
        with pytest.raises(InputError, match=text):
            load_images(wrong)
    with pytest.raises(InputError, match="a set with test images"):
        load_images({"train": rows()}, role="evaluate")


def test_other_data_by_the_names_of_its_splits() -> None:
    x = torch.from_numpy(PIXELS).movedim(-1, 1).contiguous()
    made = load_images({"train": (x[:24], ORDER[:24]), "test": (x[24:], ORDER[24:])})
    assert made.test is not None
    assert made.test.labels.tolist() == ORDER[24:]


def test_columns_of_several_splits_are_named_at_once() -> None:
    given = {"train": rows("a", "b"), "test": rows("a", "b")}
    named = from_hf(given, image="a", label="b")
    with pytest.warns(UserWarning, match="also among the training"):
        same(load_images(Images(train=named["train"], test=named["test"])))  # type: ignore[index]
    with pytest.warns(UserWarning, match="also among the training"):
        load_images(named)


def test_a_test_split_whose_classes_are_ordered_otherwise_goes_by_their_names() -> None:
    other = Rows({"image": pictures(), "label": [2 - k for k in ORDER]}, {"label": ClassLabel(NAMES[::-1])})
    with pytest.warns(UserWarning, match="also among the training"):
        made = load_images({"train": rows(), "test": other})
    assert made.test is not None
    assert made.test.labels.tolist() == ORDER
    strange = Rows({"image": pictures(), "label": ORDER}, {"label": ClassLabel(("cat", "dog", "emu"))})
    with pytest.raises(InputError, match=r"`test labels` must be of the classes 'cat', 'dog', 'owl'; got 'emu'"):
        load_images({"train": rows(), "test": strange})


def test_test_rows_without_labels_are_told() -> None:
    none = Rows({"image": pictures(), "label": [-1] * 30}, {"image": Image(), "label": ClassLabel()})
    with pytest.raises(
        InputError, match=r"`test\[0\] label` must be one class .*; got None .*Leave out what has no label"
    ):
        load_images({"train": rows(), "test": none})
    several = Rows({"image": pictures(), "label": [[0, 1]] * 30}, {})
    with pytest.raises(InputError, match=r"`data\[0\] label` must be one class .*\[0, 1\] \(list\)"):
        load_images(several)


def test_pictures_that_were_not_decoded_and_lists_of_pixels() -> None:
    stored = []
    for picture in pictures():
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG")
        stored.append({"bytes": buffer.getvalue(), "path": None})
    same(load_images(Rows({"image": stored, "label": ORDER}, {"label": ClassLabel()})))
    arrays = Rows(
        {"image": PIXELS.tolist(), "label": ORDER}, {"image": SimpleNamespace(dtype="uint8"), "label": ClassLabel()}
    )
    same(load_images(arrays))
    tensors = Rows({"image": list(torch.from_numpy(PIXELS).movedim(-1, 1)), "label": ORDER}, {"label": ClassLabel()})
    same(load_images(tensors))
    with pytest.raises(InputError, match=r"`data\[0\] image` must be a PIL image"):
        load_images(Rows({"image": ["a.png"] * 30, "label": ORDER}, {}))


def test_streams_are_refused() -> None:
    stream = SimpleNamespace(column_names=["image", "label"], features={})
    for data in (stream, {"train": stream}):
        with pytest.raises(
            InputError, match=r"must be a map-style dataset; got SimpleNamespace\. Load it without stream"
        ):
            load_images(data)


def test_rows_go_through_the_verbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DD_HOME", str(tmp_path))
    train = dd.TrainRecipe(model="mlp", steps=1)
    with pytest.warns(UserWarning, match="also among the training"):
        small = dd.distill({"train": rows(), "test": rows()}, "random", ipc=1, train=train, progress=False)
    assert small.classes == NAMES
    with pytest.warns(UserWarning, match="that the set was made from|are also"):
        report = dd.evaluate(small, rows(), repeats=1, baselines=(), progress=False)
    assert list(report.support) == list(NAMES)


# The package itself


@pytest.fixture
def hub() -> Any:
    """Hugging Face's `datasets`, which a bare folder of that name is not."""
    try:
        module = importlib.import_module("datasets")
    except ImportError:
        module = None  # type: ignore[assignment]
    if not hasattr(module, "DatasetDict"):
        pytest.skip("not installed: pip install datasets")
    return module


@pytest.mark.filterwarnings("default")  # those of the package are its own
def test_datasets_of_the_package_are_data(hub: Any) -> None:
    features = hub.Features({"img": hub.Image(), "label": hub.ClassLabel(names=list(NAMES))})
    data = hub.Dataset.from_dict({"img": pictures(), "label": ORDER}, features=features)
    same(load_images(data))
    same(load_images(data.with_format("torch")))
    same(load_images(data.cast_column("img", hub.Image(decode=False))))
    texts = hub.Dataset.from_dict({"image": pictures(), "label": [NAMES[k] for k in ORDER]})
    same(load_images(texts.cast_column("image", hub.Image())))
    parts = data.train_test_split(test_size=10, shuffle=False)
    made = load_images(parts)
    assert made.test is not None
    assert made.test.labels.tolist() == ORDER[20:]
    assert made.classes == NAMES
    with pytest.raises(InputError, match="Load it without streaming"):
        load_images(data.to_iterable_dataset())
    cubes = hub.Features({"x": hub.Array3D((6, 6, 3), "uint8"), "y": hub.Value("string")})
    arrays = hub.Dataset.from_dict({"x": PIXELS, "y": [NAMES[k] for k in ORDER]}, features=cubes)
    same(load_images(from_hf(arrays, image="x")))
