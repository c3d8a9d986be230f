"""Every container of the same images or graphs through `distill` and `evaluate`: the same set, the same accuracy."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference.graphs import some_graphs
from reference.pictures import Items, pixels
from torch.utils.data import ConcatDataset, Subset, TensorDataset

import dd
from dd.errors import InputError
from dd.methods import CoverageWarning

N = 24
X, Y = pixels(N, h=8, w=8), torch.arange(4).repeat_interleave(N // 4)
LAST = X.movedim(1, -1).contiguous().numpy()


def pictures() -> list[Any]:
    from PIL import Image

    return [Image.fromarray(image) for image in LAST]


def folder(path: Path) -> Any:
    from torchvision.datasets import ImageFolder

    for i, picture in enumerate(pictures()):
        place = path / "train" / str(int(Y[i]))
        place.mkdir(parents=True, exist_ok=True)
        picture.save(place / f"{i:02d}.png")
    return ImageFolder(path / "train")


def to_tensors(path: Path) -> Any:
    from torchvision.transforms import ToTensor

    made = folder(path)
    made.transform = ToTensor()
    return made


def padded(data: Any) -> Any:
    """A set whose rows from 3 on are these."""
    return Subset(ConcatDataset([data, data]), range(N, 2 * N))


IMAGES: dict[str, Callable[[Path], Any]] = {
    "array NHWC": lambda _: (LAST, Y.numpy()),
    "array NCHW": lambda _: (X.numpy(), Y.numpy()),
    "floats NHWC": lambda _: ((LAST / 255).astype("float32"), Y.tolist()),
    "floats NCHW": lambda _: (X.numpy() / 255, Y.numpy()[:, None]),
    "float tensors": lambda _: (X / 255, Y[:, None]),
    "TensorDataset": lambda _: TensorDataset(X, Y),
    "PIL items": lambda _: Items(pictures(), Y.tolist()),
    "HWC items": lambda _: Items(LAST, Y.numpy()),
    "CHW items": lambda _: Items(X.numpy(), Y.numpy()[:, None]),
    "tensor items": lambda _: Items(X / 255, Y[:, None]),
    "list": lambda _: list(zip(LAST, Y, strict=True)),
    "ImageFolder": folder,
    "ImageFolder of tensors": to_tensors,
    "Subset of PIL": lambda _: padded(Items(pictures(), Y)),
    "Subset of arrays": lambda _: padded(Items(X.numpy(), Y)),
    "Subset of ImageFolder": lambda path: padded(folder(path)),
    "Subset of TensorDataset": lambda _: padded(TensorDataset(X, Y)),
}


def distil(data: Any) -> dd.SyntheticImages:
    return dd.distill(data, "random", ipc=2, progress=False)


def measured(small: Any, data: Any) -> dd.EvalReport:
    """Two networks after three steps; most test images here are the set's own."""
    quick: dict[str, Any] = {"models": "convnet(width=4)", "repeats": 2, "steps": 3, "baselines": (), "progress": False}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`data`: the test images are those that the set was made from")
        return dd.evaluate(small, data, **quick)


def values(small: Any, data: Any) -> tuple[float, ...]:
    """Accuracies of the networks."""
    return measured(small, data).rows[0].values


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, tuple[float, ...]]:
    """The file and the accuracies of plain uint8 tensors."""
    small = distil((X, Y))
    assert all((small.pixels()[i] - X / 255).abs().amax((1, 2, 3)).min() < 1e-6 for i in range(8))
    accuracies = values(small, (X, Y))
    for other in (X.flip(1), X.transpose(2, 3), X.flip(0)):  # the accuracies tell these images from others
        assert values(small, (other, Y)) != accuracies
    return small.save(tmp_path_factory.mktemp("oracle") / "a").read_bytes(), accuracies


@pytest.mark.parametrize("box", IMAGES)
def test_a_container_of_images(box: str, oracle: tuple[bytes, tuple[float, ...]], tmp_path: Path) -> None:
    data = IMAGES[box](tmp_path)
    small = distil(data)
    assert small.save(tmp_path / "a").read_bytes() == oracle[0]
    report = measured(small, data)
    assert report.rows[0].values == oracle[1]
    assert report.split == "training data"  # whatever holds them
    whole = dd.Images(train=data, test=data)
    assert distil(whole).save(tmp_path / "b").read_bytes() == oracle[0]
    assert values(small, whole) == oracle[1]


def test_a_folder_by_its_path(oracle: tuple[bytes, tuple[float, ...]], tmp_path: Path) -> None:
    folder(tmp_path)
    small = distil(f"imagefolder:{tmp_path}")
    assert torch.equal(small.images, distil((X, Y)).images)  # its fingerprint, in the file, is of names
    assert values(small, (X, Y)) == oracle[1]


SIZED: dict[str, Callable[[Path], Any]] = {
    **{name: IMAGES[name] for name in ("array NHWC", "TensorDataset", "PIL items", "list", "ImageFolder")},
    "rows": lambda _: [{"image": picture, "label": int(y)} for picture, y in zip(pictures(), Y, strict=True)],
    "splits": lambda _: {"train": (X, Y), "test": (X, Y)},
    "splits of rows": lambda path: {"train": SIZED["rows"](path), "test": SIZED["rows"](path)},
    "Images": lambda _: dd.Images(train=(X, Y), test=(X, Y), size=(4, 6), aspect="squash"),
}


@pytest.mark.parametrize("box", SIZED)
def test_data_of_ones_own_is_judged_at_the_size_and_aspect_of_the_set(box: str, tmp_path: Path) -> None:
    sized: dict[str, Any] = {"size": (4, 6), "aspect": "squash"}
    data = SIZED[box](tmp_path)
    small = dd.distill((X, Y), "random", ipc=2, progress=False, **sized)
    told = measured(small, data)
    assert told.split == "training data"  # resized as they were, the pictures are the same
    assert told.rows[0].values == values(small, dd.Images(train=(X, Y), test=(X, Y), **sized))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert dd.calibration(small, data, networks=(), repeats=1, steps=1, progress=False) is not None


def test_a_size_of_its_own_is_told_with_the_way_out() -> None:
    small = dd.distill("digits", "random", ipc=1, size=16, progress=False)
    refused = (
        r"`data` must be of images \[1, 16, 16\], like the set; got \[1, 8, 8\] \(digits\)\. Give `size=16`, which"
    )
    with pytest.raises(InputError, match=refused):
        values(small, "digits")
    quick: dict[str, Any] = {"models": "mlp", "repeats": 1, "steps": 1, "baselines": (), "progress": False}
    assert dd.evaluate(small, "digits", size=16, **quick).split == "test"

    made = [dd.Images(train=(X, Y), test=(X, Y), size=size) for size in ((6, 4), 8)]
    small = distil(made[0])
    with pytest.raises(
        InputError, match=r"got \[3, 8, 8\] .*\. Give `size=\(6, 4\)`; of `dd.Images`, where they are made"
    ):
        values(small, made[1])
    assert values(small, made[0])
    with pytest.raises(InputError, match=r"got a split of 8x8\. A Split keeps its size: give images and labels\."):
        values(small, dd.load_images((X, Y), role="evaluate").test)


def test_other_channels_are_told_with_what_to_do() -> None:
    grey = [(picture.convert("L"), int(y)) for picture, y in zip(pictures(), Y, strict=True)]
    for small, data, mode in ((distil((X, Y)), grey, "RGB"), (distil(grey), (X, Y), "L")):
        with pytest.raises(
            InputError, match=r"`data` must be of images with \d channels?, like the set; got"
        ) as caught:
            values(small, data)
        assert "size=" not in str(caught.value)
        assert f"`.convert('{mode}')`" in str(caught.value)
        assert values(small, [(picture.convert(mode), int(y)) for picture, y in zip(pictures(), Y, strict=True)])
    with pytest.raises(InputError, match=r"of images with 3 channels, like the set; got 1 \(digits\)\. Judge it on"):
        values(
            dd.distill((X[:20].repeat(2, 1, 1, 1), torch.arange(40) % 10), "random", ipc=1, progress=False), "digits"
        )


@pytest.mark.parametrize("shape", [(N, 3, 4, 3), (N, 2, 8, 8)])
def test_a_layout_that_is_not_clear_is_refused_with_the_way_out_of_each_verb(shape: tuple[int, ...]) -> None:
    x = pixels(*shape)
    small = distil((x, Y))
    for number, array in enumerate((x.numpy(), x.movedim(1, -1).contiguous().numpy())):
        data = (array, Y)
        for refused in (lambda: distil(data), lambda: values(small, data)):  # noqa: B023
            with pytest.raises(InputError, match=r"`data images` must be an array with 1, 3 or 4 channels") as caught:
                refused()
            code = str(caught.value).split("give ")[1].split("`")[1::2][number]
            given = eval(code, {"dd": dd, "data": data})
            if "evaluate" in code:
                assert values(small, given) == values(small, (x, Y))
            else:
                assert torch.equal(distil(given).images, small.images)


def test_a_test_set_without_some_classes() -> None:
    small, few = distil((X, Y)), (X[:12], Y[:12])
    code = r'dd.load_images(data, role="evaluate", classes=4)'
    with pytest.raises(InputError, match=r"`data` must be of 4 classes, like the set; got 2 \(custom\)\. .*") as caught:
        values(small, few)
    assert f"`{code}`" in str(caught.value)
    assert values(small, eval(code, {"dd": dd, "data": few})) == values(small, dd.Images(train=(X, Y), test=few))


# --- graphs


def graphs() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch-geometric 2.8 uses the deprecated torch.jit.script, 2026
        from torch_geometric.data import Data
    return [Data(x=g.x, edge_index=g.edge_index, edge_attr=g.edge_attr, y=g.y) for g in some_graphs(40)]


def in_memory(given: list[Any]) -> Any:
    from torch_geometric.data import InMemoryDataset

    class Mine(InMemoryDataset):
        def __init__(self) -> None:
            super().__init__(None)
            self.data, self.slices = self.collate(given)

    return Mine()


def on_disk(given: list[Any]) -> Any:
    from torch_geometric.data import Dataset

    class Mine(Dataset):
        def len(self) -> int:
            return len(given)

        def get(self, idx: int) -> Any:
            return given[idx]

    return Mine()


GRAPHS: dict[str, Callable[[list[Any]], Any]] = {
    "tuple": tuple,
    "InMemoryDataset": in_memory,
    "Dataset": on_disk,
    "slice": lambda given: in_memory(given + given)[: len(given)],
    "rows": lambda given: in_memory(given + given)[np.arange(len(given), 2 * len(given))],
    "Subset": lambda given: Subset(in_memory(given + given), range(len(given))),
}


def summary(data: Any) -> tuple[Any, list[float]]:
    """A summary of the data, and its scores and those of random graphs after two steps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CoverageWarning)
        tiny: dict[str, Any] = {"depth": 1, "budget_bytes": 1000, "model": "gin(width=8)", "steps": 2}
        small = dd.distill(data, "mirage", progress=False, **tiny)
        report = dd.evaluate(small, data, repeats=1, baselines=("random", "node_count"), progress=False)
    return small, [value for row in report.rows for value in row.values]


@pytest.mark.parametrize("box", GRAPHS)
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_a_container_of_graphs(box: str, parts: int, tmp_path: Path) -> None:
    given = graphs()
    cuts = {1: [given], 2: [given[:30], given[30:]], 3: [given[:20], given[20:30], given[30:]]}[parts]
    boxes = tuple(GRAPHS[box](cut) for cut in cuts)
    expected, told = summary(tuple(cuts) if parts > 1 else given)
    small, scores = summary(boxes if parts > 1 else boxes[0])
    assert small.save(tmp_path / "a").read_bytes() == expected.save(tmp_path / "b").read_bytes()
    assert scores == told
    assert len(scores) > 1
