"""Sets in a notebook: one line, a bounded picture, equality by content, devices."""

from __future__ import annotations

import base64
import copy
import dataclasses
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from reference.synthetic import real, small, soft, whitened
from reference.trees import random_graphs, summary_by_hand

import dd
from dd.base.markup import Pictures
from dd.base.seeding import child
from dd.data.graphs.codes import fit_codes
from dd.errors import InputError
from dd.synthetic import (
    AnySet,
    CompensatedImages,
    LabelRecord,
    LabelStore,
    SyntheticImages,
    TrainRecipe,
    TreeSummary,
    digest_of,
)
from dd.synthetic.file import Kept, mark_kept
from dd.synthetic.labels import digest
from dd.synthetic.tree_views import CLASSES, telling
from dd.transforms.views import draw_mix, draw_views
from dd.transforms.whiten import Normalise

PLAIN = Normalise((0.0,), (1.0,))


def labelled() -> SyntheticImages:
    """Two pictures with stored labels of one batch."""
    pictures = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8, generator=child(0, "pictures"))
    views, mix = draw_views(2, (8, 8), child(0, "views")), draw_mix("none", 2, (8, 8), child(0, "mix"))
    record = LabelRecord(torch.arange(2, dtype=torch.int32), views, mix, torch.eye(2).half())
    return SyntheticImages(
        images=pictures.float() / 255,
        labels=torch.arange(2),
        classes=("a", "b"),
        recipe=TrainRecipe(loss="kl"),
        transform=PLAIN,
        store=LabelStore((record,), digest(pictures)),
    )


def canvases() -> SyntheticImages:
    images = torch.rand(2, 1, 8, 8, generator=child(0, "canvas"))
    fixed: dict[str, Any] = {"classes": ("a", "b"), "recipe": TrainRecipe(), "transform": PLAIN}
    return SyntheticImages(images=images, labels=torch.arange(2), canvas=2, canvas_samples=2, **fixed)


def compensated(classes: int = 3, side: int = 8) -> CompensatedImages:
    return CompensatedImages(
        base=torch.randint(0, 256, (2, classes, 3, side, side), dtype=torch.uint8, generator=child(0, "base")),
        compensators=torch.randn(2, 2, 3, side, side, generator=child(0, "u")).half(),
        logits=torch.randn(2, 3, classes, classes, generator=child(0, "z")).half(),
        classes=tuple(f"c{k}" for k in range(classes)),
        recipe=TrainRecipe(loss="kl"),
        transform=Normalise((0.5,) * 3, (0.2,) * 3),
        method={"name": "infer"},
    )


def trees() -> TreeSummary:
    drawn = random_graphs(0, [5, 6, 7, 5, 6, 7, 5, 6], features=(3, 2), edge_features=(2,), probability=0.3)
    made = summary_by_hand(drawn, fit_codes(drawn), 2)
    return dataclasses.replace(made, classes=("no", "<script>"), published=512)


SETS: dict[str, Callable[[], AnySet]] = {
    "hard": small,
    "soft": lambda: small(labels=soft()),
    "whitened": lambda: whitened(real()),
    "labelled": labelled,
    "canvases": canvases,
    "compensated": compensated,
    "trees": trees,
}


@pytest.fixture(params=SETS)
def made(request: pytest.FixtureRequest) -> AnySet:
    return SETS[request.param]()


def pictures_of(html: str) -> list[Image.Image]:
    found = re.findall(r"data:image/png;base64,([^\"]+)", html)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


# At the prompt


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("hard", "SyntheticImages('mtt', 6 images, 3 classes, 2 a class, 2x4x5, {} bytes on disk)"),
        ("soft", "SyntheticImages('mtt', 6 images, soft labels, 3 classes, 2 a class, 2x4x5, {} bytes on disk)"),
        (
            "labelled",
            "SyntheticImages(None, 2 images (uint8), labels of 1 stored batch, 2 classes, 1 a class, 1x8x8, "
            "{} bytes on disk)",
        ),
        ("canvases", "SyntheticImages(None, 2 canvases of 2², 2 classes, 1 a class, 1x8x8, {} bytes on disk)"),
        (
            "compensated",
            "CompensatedImages('infer', 6 images, 4 compensators, soft labels, 3 classes, 6 composed a class, 3x8x8, "
            "{} bytes on disk)",
        ),
        (
            "trees",
            "TreeSummary(None, 8 patterns, 41 trees of depth 2, 2 classes, 4 a class, 512 bytes published, "
            "{} bytes on disk)",
        ),
    ],
)
def test_it_is_one_line(kind: str, text: str, tmp_path: Path) -> None:
    value = SETS[kind]()
    assert repr(value) == text.format(f"{value.nbytes.total:,}")
    value.save(tmp_path / "set.safetensors")
    assert sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file()) == value.nbytes.total


def test_it_is_shown_whatever_it_is_made_of() -> None:
    broken = dataclasses.replace(small(), method={"name": "<b>\x1b\n", "alpha": float("nan")})
    assert repr(broken).endswith("not to be written)")
    assert "\n" not in repr(broken)
    assert "\x1b" not in repr(broken)
    assert "<b>" not in broken._repr_html_()
    assert len(repr(dataclasses.replace(small(), method={"name": 900 * "long"}))) < 250


# In a notebook


def test_a_notebook_shows_its_line_and_a_picture(made: AnySet) -> None:
    html = made._repr_html_()
    assert len(pictures_of(html)) == 1
    assert type(made).__name__ in html
    assert "<script" not in html


def test_the_picture_is_small_however_large_the_set(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    whole = SyntheticImages.pixels

    def pixels(self: SyntheticImages, index: torch.Tensor | None = None) -> torch.Tensor:
        assert index is not None  # never all of them
        drawn.append(len(index))
        return whole(self, index)

    monkeypatch.setattr(SyntheticImages, "pixels", pixels)
    for classes, each, side in ((1000, 2, 8), (10, 100, 32), (30, 4, 64), (2, 3, 256)):
        value = SyntheticImages(
            images=torch.rand(classes * each, 3, side, side, generator=child(0, "noise", side)),
            labels=torch.arange(classes).repeat_interleave(each),
            classes=tuple(str(k) for k in range(classes)),
            recipe=TrainRecipe(),
            transform=Normalise((0.0,) * 3, (1.0,) * 3),
        )
        html = value._repr_html_()
        assert len(html) < 450_000
        (shown,) = pictures_of(html)
        assert max(shown.size) < 2000
    assert drawn == [40, 60, 20, 6]


def test_of_compensated_sets_only_what_is_shown_is_composed() -> None:
    value = compensated(classes=25)
    value._repr_html_()
    assert "images" not in vars(value)
    some = torch.tensor([3, 80, 149])
    torch.testing.assert_close(value.pixels(some), value.pixels()[some], rtol=0, atol=0)


def test_a_set_without_its_matrix_says_how_to_see_it(tmp_path: Path) -> None:
    whitened(real()).save(tmp_path / "set.safetensors")
    html = dd.load(tmp_path / "set.safetensors")._repr_html_()
    assert "Use `small.attach(train_split)`" in html
    assert "<img" not in html


def test_plot_is_shown_too(made: AnySet) -> None:
    found = made.plot()
    assert isinstance(found, Pictures)
    assert found.keys() == {"trees" if made.kind == "graphs" else "grid"}
    assert len(pictures_of(found._repr_html_())) == 1


def test_names_of_classes_are_no_formula_and_no_format() -> None:
    odd = dataclasses.replace(trees(), classes=("$x_$", "{0.a}"))
    assert odd.draw().startswith(b"\x89PNG")


def test_only_so_many_classes_are_drawn_and_no_empty_column() -> None:
    drawn = random_graphs(0, [5] * 23, features=(3,), probability=0.3)
    drawn = dataclasses.replace(drawn, labels=torch.arange(23))
    two, own = summary_by_hand(drawn, fit_codes(drawn), 1), torch.eye(23).long()
    fields: dict[str, Any] = {"support": own, "labels": torch.arange(23), "graphs": torch.ones(23).long()}
    kept = torch.zeros(0, 23).long()
    value = dataclasses.replace(two, classes=tuple(map(str, range(23))), tree_support=kept, **fields)
    shown = max(map(len, telling(value, 50)[:CLASSES]))
    whole, alone = (Image.open(io.BytesIO(value.draw(per_class=n))) for n in (50, 1))
    assert whole.width == 280 * shown < 50 * 280
    assert alone.width == 280
    assert 250 * CLASSES <= alone.height < 250 * 21


# Equality


def test_equal_is_what_would_be_the_same_file(made: AnySet, tmp_path: Path) -> None:
    path = made.save(tmp_path / "set.safetensors")
    back = dd.load(path)
    assert made == back
    assert hash(made) == hash(back)
    assert len({made, back}) == 1
    assert mark_kept(copy.copy(made), Kept(tmp_path, "0")) == made
    other = dataclasses.replace(made, provenance={**made.provenance, "seed": 99})
    assert made != other
    assert made != path
    assert made in [other, back]


def test_zeros_that_are_written_otherwise_are_not_equal() -> None:
    zeros = dataclasses.replace(small(), images=torch.zeros_like(small().images))
    other = dataclasses.replace(zeros, images=-zeros.images)
    assert digest_of(zeros) != digest_of(other)
    assert zeros != other


def test_what_a_network_would_see_counts() -> None:
    value = small()
    one = value.images.clone()
    one[0, 0, 0, 0] += 1e-6
    others = [
        {"images": one},
        {"labels": soft()},
        {"labels": value.labels.flip(0)},
        {"classes": ("x", "y", "z")},
        {"recipe": dataclasses.replace(value.recipe, lr=0.5)},
        {"method": {"name": "other"}},
        {"transform": Normalise((0.0, 0.0), (1.0, 1.0)), "transform_record": {}},
    ]
    for fields in others:
        assert dataclasses.replace(value, **fields) != value, fields
    assert dataclasses.replace(value, method={"parts": (1, 2)}) == dataclasses.replace(value, method={"parts": [1, 2]})
    nan = dataclasses.replace(value, method={"alpha": float("nan")})
    assert nan != value
    assert nan == nan
    bare = dataclasses.replace(labelled(), store=None, recipe=TrainRecipe())
    assert bare != labelled()
    assert labelled() == labelled()
    assert canvases() != dataclasses.replace(canvases(), canvas_samples=3)


def test_sets_of_different_kinds_differ() -> None:
    values = [make() for make in SETS.values()]
    assert len(set(values)) == len(values)


# Devices


def test_to_the_device_where_it_is_gives_itself(made: AnySet) -> None:
    assert made.to("cpu") is made
    assert made.to(torch.device("cpu")) is made


@pytest.mark.parametrize(
    ("device", "text"), [("meta", "keeps numbers"), ("gpu", "a torch device"), ("cuda:99", "of this machine")]
)
def test_devices_that_are_not_there_are_refused(made: AnySet, device: str, text: str) -> None:
    with pytest.raises(InputError, match=f"`device` must be .*{text}"):
        made.to(device)


def test_elsewhere_its_tensors_are_there_and_it_knows_its_run(made: AnySet, tmp_path: Path) -> None:
    mark_kept(made, Kept(tmp_path, "0"))
    away = made._on(torch.device("meta"))  # the one other device that every machine has: shapes without numbers
    assert away is not made
    assert away.kept == made.kept
    assert len(away) == len(made)
    if isinstance(away, TreeSummary):
        assert away[0][0].x.is_meta
        assert next(away.batches(2, child(0, "order")))[0].x.is_meta
        assert away.with_recipe(lr=0.5)[0][0].x.is_meta
        assert repr(away) == repr(made)
        assert away._repr_html_() == made._repr_html_()
        assert away == made
        return
    assert away.images.is_meta
    assert away.labels.is_meta
    assert away.nbytes == made.nbytes
    if away.labels.ndim == 2:  # an int has to be read
        assert away[0][0].is_meta
    if made.store is not None:  # whose pictures are read, and replayed on the CPU
        assert all(x.is_cpu for x, _ in made.batches(2, child(0, "order")))
        return
    for size in (2, 100):
        x, y = next(away.batches(size, child(0, "order")))
        assert x.is_meta
        assert y.is_meta


def test_verbs_bring_a_set_to_where_they_compute() -> None:
    from dd.synthetic import need_images, need_set, need_trees

    seen: list[str] = []

    class Away(SyntheticImages):
        def to(self, device: str | torch.device) -> Away:
            seen.append(str(device))
            return self

    fields = {f.name: getattr(small(), f.name) for f in dataclasses.fields(SyntheticImages) if f.init}
    need_set(Away(**fields))
    need_images(Away(**fields))
    assert seen == ["cpu", "cpu"]
    assert need_trees(trees()._on(torch.device("meta"))).device == torch.device("cpu")


def whitened_labels() -> SyntheticImages:
    """Stored labels beside whitened pictures."""
    plain = whitened(real())
    pictures = plain.pictures()
    views, mix = draw_views(2, plain.size, child(0, "views")), draw_mix("mixup", 2, plain.size, child(0, "mix"))
    record = LabelRecord(torch.arange(2).int(), views, mix, torch.eye(len(plain.classes))[:2].half())
    exact = plain.ready_transform().forward(pictures.float() / 255)
    kept = LabelStore((record,) * 5, digest(dataclasses.replace(plain, images=exact).pictures()), {"name": "θ"})
    return dataclasses.replace(plain, images=exact, store=kept)


def dynamic() -> CompensatedImages:
    """Compensated images with stored labels."""
    plain = dataclasses.replace(compensated(), logits=None)
    views, mix = draw_views(2, plain.size, child(0, "views")), draw_mix("mixup", 2, plain.size, child(0, "mix"))
    record = LabelRecord(torch.arange(2).int(), views, mix, torch.eye(len(plain.classes))[:2].half())
    return dataclasses.replace(plain, store=LabelStore((record,) * 3, digest(plain.pictures())))


@pytest.mark.parametrize("make", [*SETS.values(), whitened_labels, dynamic], ids=[*SETS, "whitened labels", "dynamic"])
def test_bytes_are_counted_as_they_are_written_without_a_look_at_tensors(
    make: Callable[[], AnySet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make()
    with monkeypatch.context() as patch:
        patch.setattr("dd.base.seals._bytes", None)  # of a tensor, to be hashed or written
        counted = made.nbytes
    made.save(tmp_path / "set.safetensors")
    assert counted.total == sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file())
