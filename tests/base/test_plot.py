"""Grids and curves: equal bytes, the right pixels, and nothing that breaks on odd sets."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from dd.base.curves import loss_curve
from dd.errors import InputError, WriteError
from dd.synthetic import SyntheticImages, TrainRecipe
from dd.synthetic.figures import PIXELS, grid, grid_png, save_grid
from dd.transforms.whiten import Normalise


def made(ipc=2, classes=("a", "b", "c"), shape=(3, 6, 5), labels=None):
    """Images of class k have the constant pixel (k + 1) / (K + 1), the first one of each class out of range."""
    k = len(classes)
    pixels = torch.stack([torch.full(shape, (c + 1) / (k + 1)) for c in range(k) for _ in range(ipc)])
    pixels[::ipc] = 7.0
    transform = Normalise((0.4,) * shape[0], (0.2,) * shape[0])
    return SyntheticImages(
        images=transform.forward(pixels),
        labels=torch.arange(k).repeat_interleave(ipc) if labels is None else labels,
        classes=tuple(classes),
        recipe=TrainRecipe(),
        transform=transform,
    )


def colours(picture):
    """The opaque grey levels of an RGBA picture that fill at least one image."""
    rgba = np.asarray(picture)
    solid = rgba[rgba[..., 3] == 255][:, 0]
    values, counts = np.unique(solid, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def test_grid_shows_every_image_clipped():
    found = colours(grid(made(), scale=1))
    for k in range(3):
        assert found[round(255 * (k + 1) / 4)] >= 30  # one 6×5 image; letters may add a pixel
    assert found[255] == 90  # the three that were above 1


def test_a_row_for_each_class_in_label_order():
    mixed = made(ipc=1, labels=torch.tensor([2, 0, 1]))
    rgba = np.asarray(grid(SyntheticImages(**{**vars(mixed), "images": made(ipc=2).images[1::2]}), scale=4))
    right = rgba[:, -20, 0][rgba[:, -20, 3] == 255]  # a column through the images
    order = [int(v) for v, before in zip(right[1:], right[:-1], strict=True) if v != before]
    assert [int(right[0]), *order] == [round(255 * k / 4) for k in (2, 3, 1)]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_any_number_of_channels(channels):
    assert grid(made(shape=(channels, 5, 7))).mode == "RGBA"


def test_soft_labels_go_by_the_largest():
    soft = torch.eye(3).repeat_interleave(2, 0) * 0.8 + 0.2 / 3
    assert grid_png(made(labels=soft)) == grid_png(made())


def test_columns_limit_and_what_is_left_out():
    small = made(ipc=4)
    assert grid(small, 2, scale=1).height > grid(small, 4, scale=1).height  # a line that says so
    assert colours(grid(small, 2, scale=1))[round(255 / 4)] < colours(grid(small, 4, scale=1))[round(255 / 4)]


def test_a_large_set_stays_within_the_pixel_budget():
    small = made(ipc=9, classes=[f"class {k}" for k in range(120)], shape=(3, 32, 32))
    picture = grid(small)
    opaque = int((np.asarray(picture)[..., 3] == 255).sum())
    assert opaque <= 4.1 * PIXELS  # shown at twice their size
    assert picture.height < 2 * picture.width


def test_class_without_images_and_odd_names():
    labels = torch.tensor([0, 0, 0, 2, 2, 2])
    assert grid(made(classes=("<b>", "ζεβρα" * 9, "猫"), labels=labels)).width > 0


def test_large_images_are_reduced():
    assert grid(made(ipc=1, shape=(1, 300, 200)), scale=None).height < 3 * 150


def test_equal_input_gives_equal_bytes_without_metadata(tmp_path):
    path = save_grid(made(), tmp_path / "new" / "grid.png")
    assert path.read_bytes() == grid_png(made())
    assert Image.open(io.BytesIO(path.read_bytes())).info == {}


def test_refusals(tmp_path):
    with pytest.raises(InputError, match="`columns` must be at least 1; got 0"):
        grid(made(), 0)
    with pytest.raises(InputError, match="`scale` must be positive"):
        grid(made(), scale=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="could not write"):
        save_grid(made(), tmp_path / "file" / "grid.png")


def log(n=50, **changes):
    rows = [{"iteration": i + 1, "loss": 0.5 * math.exp(-i / 20) + 0.1, "lr": 0.02 + i / 1e4} for i in range(n)]
    return [{**row, **changes} for row in rows]


def test_loss_curve_is_a_png_with_equal_bytes():
    rows = log()
    rows[3] = {"iteration": 4, "lr": 0.02, "skipped": "not finite"}
    rows[5] = {**rows[5], "loss": 1e9, "skipped": "loss above 5"}
    first = loss_curve([*rows, {"accuracy": 0.5}])
    assert first == loss_curve(rows)
    picture = Image.open(io.BytesIO(first))
    assert picture.format == "PNG"
    assert set(picture.info) == {"dpi"}


def test_loss_curve_leaves_matplotlib_as_it_was():
    import matplotlib

    before = dict(matplotlib.rcParams)
    loss_curve(log(5))
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    "rows",
    [log(1), log(2000), log(3, loss=0.0, lr=1e-9), log(3, loss=-1.0, lr=None)],
)
def test_loss_curve_of_odd_logs(rows):
    assert loss_curve(rows).startswith(b"\x89PNG")


def test_no_curve_without_a_loss():
    assert loss_curve([]) is None
    assert loss_curve([{"iteration": 1}, {"iteration": 2, "skipped": "not finite", "lr": 0.1}]) is None
