"""Figures: real neighbours beside synthetic images, equal bytes in PNG and SVG, nothing where there is nothing."""

from __future__ import annotations

import dataclasses
import io
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dd
from dd.base.curves import accuracy_by, heat_map, loss_curve, scores_of
from dd.errors import InputError
from dd.synthetic import SyntheticImages, TrainRecipe
from dd.synthetic.figures import figures, gallery, neighbours
from dd.transforms.whiten import Normalise

PLAIN = Normalise((0.0,), (1.0,))
LOG = [{"iteration": i, "loss": 1 / i, "lr": 0.1} for i in range(1, 9)]


def small(levels: list[float], labels: list[int]) -> SyntheticImages:
    images = torch.stack([torch.full((1, 4, 4), level) for level in levels])
    return SyntheticImages(
        images=images, labels=torch.tensor(labels), classes=("a", "b"), recipe=TrainRecipe(), transform=PLAIN
    )


def real() -> dd.Images:
    """Images of one grey each: 0, 20, …, 180; the first five of class a."""
    pixels = torch.arange(0, 200, 20).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).contiguous()
    return dd.Images(train=(pixels, (torch.arange(10) >= 5).long()), classes=("a", "b"))


def greys(picture: Image.Image) -> list[int]:
    """Opaque greys that fill at least one image at its scale of 12, in order of their place."""
    rgba = np.asarray(picture)
    solid = [int(v) for v in rgba[..., 0][rgba[..., 3] == 255]]
    return [v for v in dict.fromkeys(solid) if solid.count(v) >= 16 * 144]


def test_each_image_has_the_nearest_of_its_class_beside_it() -> None:
    made = small([0.5, 0.99], [0, 1])  # 127.5 is nearest to 120 of class b, of class a to 80
    assert greys(neighbours(made, real().train)) == [128, 80, 252, 180]


def test_classes_without_images_and_more_than_are_shown() -> None:
    picture = neighbours(small([0.1] * 8, [0] * 8), real().train)
    assert picture.width > 0
    assert greys(picture) == [26, 20]


def test_a_gallery_has_a_row_a_set_and_the_first_image_of_each_class() -> None:
    sets = {"ours 50.0 %": small([0.2, 0.4, 0.6], [1, 1, 0]), "bare": small([0.8], [1])}
    assert greys(gallery(sets)) == [153, 51, 0, 204]
    with pytest.raises(InputError, match="`sets` must be one or more of equal classes and sizes; got none"):
        gallery({})
    other = dataclasses.replace(sets["bare"], classes=("a", "c"))
    with pytest.raises(InputError, match="equal classes and sizes; got bare, other"):
        gallery({"bare": sets["bare"], "other": other})


def test_a_canvas_has_no_neighbours() -> None:
    images = torch.zeros(2, 1, 8, 8)
    canvas = SyntheticImages(
        images=images,
        labels=torch.tensor([0, 1]),
        classes=("a", "b"),
        recipe=TrainRecipe(),
        transform=PLAIN,
        canvas=2,
    )
    with pytest.raises(InputError, match="`small` must be a set without canvases"):
        neighbours(canvas, real().train)
    assert set(figures(canvas, real=real())) == {"grid"}


POINTS = [("mtt", 100, 0.3, 0.01), ("mtt", 1000, 0.5, None), ("random", 1000, 0.2, 0.02)]
SCORES = {"mtt": {"convnet": 0.5, "mlp": 0.25}, "random <b>": {"convnet": 0.3}}


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_equal_input_gives_equal_bytes(kind: str) -> None:
    for make in (
        lambda: accuracy_by(POINTS, kind),
        lambda: heat_map(SCORES, kind),
        lambda: loss_curve(LOG, kind),
    ):
        first = make()
        assert first is not None
        assert first == make()
        assert first.startswith(b"\x89PNG" if kind == "png" else b"<?xml")
        assert b"<b>" not in first
        if kind == "svg":
            assert b"<dc:date>" not in first


@pytest.mark.parametrize("name", [r"$\frac{x}$", "a$b", "_hidden", 300 * "x", r"\$x$"])
def test_names_of_others_are_no_formula_and_none_is_hidden(name: str) -> None:
    heat = heat_map({name: {"mlp": 0.5, name: 0.2}, "other": {"mlp": 0.3}}, "svg")
    curve = accuracy_by([(name, 100, 0.3, 0.01), ("other", 1000, 0.5, None)], "svg")
    assert heat is not None
    assert curve is not None
    assert Image.open(io.BytesIO(heat_map({name: {"mlp": 0.5, "gin": 0.2}}) or b"")).width < 2000
    labels = re.findall("<!-- (.*?) -->", curve.decode())
    assert (name if len(name) < 48 else 47 * "x" + "…") in [label.strip() for label in labels]  # as it is written


def test_costs_within_two_decades_are_plain_numbers() -> None:
    curve = accuracy_by([("mtt", 5, 0.3, 0.01), ("mtt", 60, 0.5, None)], "svg")
    assert curve is not None
    ticks = [text.strip() for text in re.findall("<!-- (.*?) -->", curve.decode())]
    assert {"10", "20", "50"} <= set(ticks)
    assert not [text for text in ticks if "times" in text or "^" in text]


@pytest.mark.parametrize("letters", [4, 24, 36, 200])
@pytest.mark.parametrize("sets", [1, 6, 20])
def test_names_stay_inside_the_figure(letters: int, sets: int) -> None:
    names = [f"{place} {'a' * letters}" for place in range(sets)]
    curve = accuracy_by([(name, size, 0.3, 0.01) for name in names for size in (5, 60)])
    assert curve is not None
    ink = np.asarray(Image.open(io.BytesIO(curve)).convert("RGBA"))[..., 3]
    assert not any(edge.any() for edge in (ink[0], ink[-1], ink[:, 0], ink[:, -1]))


def test_nothing_to_compare_is_no_figure() -> None:
    assert accuracy_by(POINTS[1:]) is None
    assert heat_map({"mtt": {"convnet": 0.5}, "random": {"convnet": 0.3}}) is None
    assert heat_map({}) is None
    assert heat_map({"mtt": {"a": 0.5, "b": 0.5}}) is not None  # equal scores


def test_plot_is_a_method_and_writes_files(tmp_path: Path) -> None:
    report = {"rows": [{"set": "mtt", "model": m, "mean": 0.5} for m in ("convnet", "mlp")]}
    made = small([0.5, 0.9], [0, 1])
    shown = made.plot(tmp_path, real=real(), log=LOG, report=report)
    assert set(shown) == {"grid", "neighbours", "loss", "models"}
    assert {p.name for p in tmp_path.iterdir()} == {f"{name}.png" for name in shown}
    vector = made.plot(tmp_path, real=real(), kind="svg")
    assert set(vector) == {"grid", "neighbours"}
    assert b"data:image/png;base64," in (tmp_path / "grid.svg").read_bytes()
    assert Image.open(io.BytesIO(shown["grid"])).format == "PNG"
    with pytest.raises(InputError, match="`kind` must be `png` or `svg`; got 'pdf'"):
        made.plot(kind="pdf")


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_plot_to_a_file_writes_the_grid_there_in_the_kind_of_its_name(tmp_path: Path, kind: str) -> None:
    made = small([0.5, 0.9], [0, 1])
    place = tmp_path / f"set.{kind.upper()}"
    made.plot(place, real=real())
    assert [p.name for p in tmp_path.iterdir()] == [place.name]
    assert place.read_bytes() == made.plot(kind=kind)["grid"]
    assert made.plot(tmp_path / "runs" / "v1.0").keys() == {"grid"}  # a dot alone makes no file
    assert (tmp_path / "runs" / "v1.0" / "grid.png").is_file()


@pytest.mark.parametrize(("name", "options"), [("set.pdf", {}), ("set.svg", {"kind": "png"})])
def test_plot_refuses_a_file_of_another_kind(tmp_path: Path, name: str, options: dict[str, str]) -> None:
    with pytest.raises(
        InputError, match=r"`path` must be a folder, or a file NAME\.png or NAME\.svg of the `kind` given"
    ):
        small([0.5, 0.9], [0, 1]).plot(tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


def test_scores_of_leaves_out_what_has_none() -> None:
    rows = [
        {"set": "a", "model": "m", "mean": 0.5},
        {"set": "b", "model": "m", "mean": None},
        {"set": "c", "mean": 1.0},
    ]
    assert scores_of(rows) == {"a": {"m": 0.5}}
    assert not math.isnan(scores_of(rows)["a"]["m"])
