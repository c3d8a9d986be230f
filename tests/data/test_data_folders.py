"""Image trees: ImageFolder, the stock Tiny-ImageNet layout, ILSVRC subsets; odd files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference.folders import folder, paint, tree

import dd
from dd.data import LazySplit, TensorSplit, load_card, load_images
from dd.errors import DamagedError, InputError, MissingError
from dd.run.resolve import published_aspect

# --- any ImageFolder


def test_imagefolder(tmp_path: Path) -> None:
    base = tree(tmp_path / "pets", {"train": 6, "test": 2})
    images = folder(base)
    assert (images.name, images.classes) == ("pets", ("cat", "dog", "owl"))
    assert (images.channels, images.size) == (3, (8, 8))
    assert images.val is not None
    assert images.test is not None
    assert (len(images.train), len(images.val), len(images.test)) == (15, 3, 6)
    assert isinstance(images.train, TensorSplit)
    assert images.train.images.dtype == torch.uint8
    whole = images.all_train().train
    first = paint(tmp_path / "again.png", seed=0)
    assert torch.equal(whole.pixels(slice(0, 1))[0], torch.from_numpy(first).movedim(-1, 0) / 255)
    assert whole.labels.tolist() == [0] * 6 + [1] * 6 + [2] * 6


def test_above_the_limit_it_is_read_when_asked_for(tmp_path: Path) -> None:
    base = tree(tmp_path, {"train": 100, "test": 2})
    memory, lazy, spread = folder(base), folder(base, limit=10, workers=0), folder(base, limit=10, workers=2)
    assert isinstance(lazy.train, LazySplit)
    order = torch.randperm(270, generator=torch.Generator().manual_seed(0))
    assert torch.equal(memory.train.pixels(order), lazy.train.pixels(order))
    assert torch.equal(memory.train.pixels(order), spread.train.pixels(order))
    # The same files are the same data wherever they are kept.
    assert memory.fingerprint == lazy.fingerprint == spread.fingerprint
    assert memory.mean == pytest.approx(lazy.mean)


def test_grey_and_other_modes_become_rgb(tmp_path: Path) -> None:
    base = tree(tmp_path, {"train": 4})
    grey = paint(base / "train/cat/1.jpg", mode="L")
    for name, mode in (("2.jpg", "CMYK"), ("3.png", "RGBA")):
        paint(base / "train/cat" / name, mode=mode)
    images = folder(base)
    assert images.channels == 3
    assert len(images.all_train().train) == 14  # 1.jpg, 2.jpg beside 1.png, 2.png; 3.png replaced
    names = sorted(file.name for file in (base / "train/cat").iterdir())
    row = images.all_train().train.pixels(torch.tensor([names.index("1.jpg")]))[0]
    assert torch.equal(row[0], row[1])
    assert torch.equal(row[0], row[2])
    assert float((row[0] * 255 - torch.from_numpy(grey)).abs().mean()) < 20  # JPEG of noise


def test_odd_proportions_are_cropped_not_squashed(tmp_path: Path) -> None:
    from PIL import Image

    base = tree(tmp_path, {"train": 2})
    bands = np.zeros((20, 60, 3), dtype=np.uint8)
    bands[:, 20:40] = 200  # the middle third, which is what a centre crop of the short side keeps
    Image.fromarray(bands).save(base / "train/cat/wide.png")
    Image.fromarray(bands.transpose(1, 0, 2)).save(base / "train/cat/ztall.png")
    with pytest.raises(InputError, match=r"images of one size \(8x8 like train/cat/0.png\); got 20x60 .*Give `size=`"):
        folder(base)
    images = folder(base, size=10).all_train().train
    wide, tall = images.pixels(torch.tensor([2, 3]))
    assert float(wide[0, 2:-2, 2:-2].min()) == pytest.approx(200 / 255, abs=0.01)
    assert torch.allclose(wide, tall.transpose(1, 2), atol=1 / 255)
    squashed = folder(base, size=10, aspect="squash").all_train().train.pixels(torch.tensor([2]))[0]
    assert float(squashed[0, :, 0].max()) < 0.1


def test_class_folders_without_splits_are_divided_aloud(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = tree(tmp_path, {"pets": 10}) / "pets"
    made = folder(base)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(
        "/pets has no train and test: of 30 pictures in 3 class folders 6 are for tests, always the same ones"
    )
    assert made.classes == ("cat", "dog", "owl")
    assert made.test is not None
    assert torch.bincount(made.test.labels).tolist() == [2, 2, 2]
    whole = made.all_train()
    assert torch.bincount(whole.train.labels).tolist() == [8, 8, 8]
    every = folder(tree(tmp_path / "same", {"train": 10})).all_train().train
    both = torch.cat([whole.train.pixels(), made.test.pixels()]).flatten(1)
    assert {tuple(row) for row in both.tolist()} == {tuple(row) for row in every.pixels().flatten(1).tolist()}
    for again in (folder(base), folder(base, role="evaluate"), folder(base, limit=10)):
        assert again.fingerprint == made.fingerprint
        assert again.test is not None
        assert again.test.fingerprint == made.test.fingerprint


def test_class_folders_of_few_pictures_keep_them_for_training(tmp_path: Path) -> None:
    made = folder(tree(tmp_path, {"few": 2}) / "few")
    assert made.test is None
    with pytest.raises(InputError, match="a set with test images"):
        folder(tmp_path / "few", role="evaluate")
    three = folder(tree(tmp_path, {"three": 3}) / "three")
    assert three.test is not None
    assert torch.bincount(three.test.labels).tolist() == [1, 1, 1]


def test_what_is_beside_class_folders_is_left_out_aloud(tmp_path: Path) -> None:
    base = tree(tmp_path, {"pets": 4}) / "pets"
    (base / "notes").mkdir()
    (base / "readme.md").write_text("pets")
    with pytest.warns(UserWarning, match=r"1 × folder without pictures \(notes\)"):
        assert folder(base).classes == ("cat", "dog", "owl")


def test_class_folders_one_deeper_are_told(tmp_path: Path) -> None:
    inner = tree(tmp_path / "data", {"pets": 4}) / "pets"
    (tmp_path / "data" / "docs").mkdir()
    with pytest.raises(MissingError, match=rf"Give `imagefolder:{inner}`\."):
        folder(tmp_path / "data")
    assert len(folder(inner).classes) == 3
    divided = tree(tmp_path / "other" / "pets", {"train": 4})
    with pytest.raises(MissingError, match=rf"Give `imagefolder:{divided}`\."):
        folder(tmp_path / "other")
    one = tree(tmp_path, {"one": 4}, classes=("cat",)) / "one"
    with pytest.raises(InputError, match=rf"at least two class folders; got one, 'cat', in {one}"):
        folder(one)


def test_why_a_folder_has_no_classes(tmp_path: Path) -> None:
    base = tmp_path / "data"
    (base / "cats").mkdir(parents=True)
    layout = r"Expected layout: PATH/train/<class>/.*, or class folders alone, PATH/<class>/"
    with pytest.raises(MissingError, match=rf"no pictures directly in the folders of {base}: cats\. {layout}"):
        folder(base)
    picture = tree(tmp_path, {"flat": 1}) / "flat/cat/0.png"
    shutil.copy(picture, base / "a.png")
    text = r"pictures lie in {} itself: put them into class folders\. " + layout
    with pytest.raises(MissingError, match=text.format(base)):
        folder(base)
    shutil.copytree(picture.parent, base / "birds")
    with pytest.raises(InputError, match=r"got one, 'birds', in .*; left out: .*folder without pictures \(cats\)"):
        folder(base)
    (base / "train").mkdir()
    shutil.copy(picture, base / "train")
    with pytest.raises(MissingError, match=text.format(base / "train")):
        folder(base)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingError, match=rf"no class folder in {tmp_path}/empty\. {layout}"):
        folder(tmp_path / "empty")
    (tmp_path / "half/val/cat").mkdir(parents=True)
    with pytest.raises(MissingError, match=rf"no folder {tmp_path}/half/train\. {layout}"):
        folder(tmp_path / "half")
    with pytest.raises(MissingError, match=r"no folder .*png: it is a file, not a folder\. Expected"):
        folder(base / "a.png")


def test_layout_refusals(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"no folder .*/nowhere\. Expected layout: PATH/train/<class>/"):
        folder(tmp_path / "nowhere")
    flat = tree(tmp_path / "flat", {"train": 3}) / "train"
    (flat / "test").mkdir()
    with pytest.raises(MissingError, match=r"Class folders lie in .*/train itself: move .* into .*/train/train\.$"):
        folder(flat)
    (flat / "test").rmdir()
    with pytest.raises(InputError, match=r"a set with test images; .* Put some pictures .* into .*/flat/test/<class>/"):
        load_images(f"imagefolder:{tmp_path / 'flat'}", role="evaluate")
    with pytest.raises(InputError, match=r"`data` must be `imagefolder:PATH`"):
        load_images("imagefolder:")
    with pytest.raises(InputError, match=r"`data` must be `imagefolder:PATH` for a folder"):
        load_images(tmp_path)
    base = tree(tmp_path / "a", {"train": 3, "test": 1})
    (base / "train/empty").mkdir()
    with pytest.raises(InputError, match=r"folders with images \(.*\); got none in empty"):
        folder(base)
    (base / "train/empty").rmdir()
    shutil.rmtree(base / "test/owl")
    with pytest.raises(InputError, match=r"must be the 3 of .*; got 2 folders; only in one of them: owl"):
        folder(base)
    one = tree(tmp_path / "one", {"train": 3}, ("cat",))
    with pytest.raises(InputError, match=r"at least two class folders; got one, 'cat'"):
        folder(one)
    (tmp_path / "bare/train").mkdir(parents=True)
    with pytest.raises(MissingError, match=r"no class folder in"):
        folder(tmp_path / "bare")


def test_a_class_of_one_file_cannot_be_held_out(tmp_path: Path) -> None:
    base = tree(tmp_path, {"train": 1, "test": 1})
    with pytest.raises(InputError, match=r"at least 2 images a class.*; got 1 of class 0 \('cat'\)"):
        folder(base)


@pytest.mark.parametrize("limit", [2**30, 10])
def test_broken_files_are_named(tmp_path: Path, limit: int) -> None:
    base = tree(tmp_path, {"train": 4})
    bad = base / "train/dog/2.png"
    bad.write_bytes(bad.read_bytes()[:60])
    with pytest.raises(DamagedError, match=r"image .*train/dog/2\.png cannot be read .*Restore it") as caught:
        folder(base, size=8, limit=limit).train.pixels()
    assert str(caught.value).count("Traceback") == 0
    bad.write_bytes(b"not an image")
    with pytest.raises(DamagedError, match=r"train/dog/2\.png cannot be read"):
        folder(base, limit=limit)


def test_broken_files_are_named_by_workers_too(tmp_path: Path) -> None:
    base = tree(tmp_path, {"train": 100})
    (base / "train/owl/50.png").write_bytes(b"")
    with pytest.raises(DamagedError, match=r"^image .*train/owl/50\.png cannot be read"):
        folder(base, size=8, workers=2)


# --- cards over trees, with the counts of small trees


def card_with(monkeypatch: pytest.MonkeyPatch, name: str, **changes: object) -> None:
    card = replace(load_card(name), **changes)
    monkeypatch.setattr("dd.data.images.load.load_card", lambda *_: card)


TINY = ("n01443537", "n01629819", "n02002724")


def stock_tiny(base: Path) -> list[str]:
    """The layout of the stock download, three classes; returns the classes of val_0, val_1, …"""
    for k, wnid in enumerate(TINY):
        for i in range(4):
            paint(base / f"train/{wnid}/images/{wnid}_{i}.JPEG", seed=10 * k + i)
        (base / f"train/{wnid}/{wnid}_boxes.txt").write_text("0 0 1 1\n")
    answers = [TINY[k] for k in (2, 0, 1, 1, 0, 2)]
    for i in range(6):
        paint(base / f"val/images/val_{i}.JPEG", seed=50 + i)
    lines = [f"val_{i}.JPEG\t{wnid}\t0\t0\t7\t7\n" for i, wnid in enumerate(answers)]
    (base / "val/val_annotations.txt").write_text("".join(lines))
    return answers


def listing(base: Path) -> list[tuple[str, int]]:
    return sorted((str(file.relative_to(base)), file.stat().st_mtime_ns) for file in base.rglob("*"))


def test_stock_tiny_imagenet_is_refoldered_by_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card_with(monkeypatch, "tiny-imagenet", classes=3, counts={"train": 12, "test": 6}, per_class=(4, 4))
    base = tmp_path / "tiny-imagenet-200"
    answers = stock_tiny(base)
    (base / "val/images/._val_0.JPEG").write_bytes(b"what macOS adds")
    before = listing(base)
    stock = load_images("tiny-imagenet", root=tmp_path, size=8)
    assert listing(base) == before  # nothing moved, nothing deleted
    assert stock.classes == TINY
    assert stock.test is not None
    assert [TINY[k] for k in stock.test.labels.tolist()] == answers
    # Re-folder it by hand, as the published code wants it, both ways: the same test set, by class.
    order = sorted(range(6), key=lambda i: (answers[i], i))
    for inner in ("val/images", "val"):
        for i, wnid in enumerate(answers):
            old = next(base.glob(f"val/**/val_{i}.JPEG"))
            (base / inner / wnid).mkdir(parents=True, exist_ok=True)
            old.rename(base / inner / wnid / old.name)
        (base / "val/val_annotations.txt").unlink(missing_ok=True)
        if inner == "val":
            shutil.rmtree(base / "val/images")
        again = load_images("tiny-imagenet", root=base, size=8)
        assert again.test is not None
        assert torch.equal(again.test.labels, stock.test.labels[order])
        assert torch.equal(again.test.pixels(), stock.test.pixels(torch.tensor(order)))
        assert again.fingerprint == stock.fingerprint


def test_tiny_imagenet_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stock_tiny(tmp_path)
    with pytest.raises(InputError, match=r"`tiny-imagenet train` must be 100000 images, as its card says; got 12"):
        load_images("tiny-imagenet", root=tmp_path)
    with pytest.raises(InputError, match=r"stock Tiny-ImageNet layout .*data 'tiny-imagenet' with `root=`"):
        folder(tmp_path)
    annotations = tmp_path / "val/val_annotations.txt"
    annotations.write_text("\n".join(annotations.read_text().splitlines()[1:]))
    with pytest.raises(InputError, match=r"a class of the train folder for every image.*none for val_0\.JPEG"):
        load_images("tiny-imagenet", root=tmp_path)
    annotations.write_text("damaged\n")
    with pytest.raises(DamagedError, match=r"a file name and a class on each line"):
        load_images("tiny-imagenet", root=tmp_path)
    annotations.unlink()
    with pytest.raises(MissingError, match=r"no file .*val_annotations\.txt\. Expected layout"):
        load_images("tiny-imagenet", root=tmp_path)


def ilsvrc(base: Path, names: list[str], apart: int = 0) -> None:
    """Two training pictures and one of val a folder; without `apart` that of val is a training picture too."""
    for i, name in enumerate(names):
        for split, n, first in (("train", 2, 0), ("val", 1, apart)):
            for j in range(n):
                paint(base / split / name / f"{name}_{j}.JPEG", size=(10, 14), seed=3 * i + j + first)


def test_ilsvrc_subset_takes_its_classes_in_the_order_of_the_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = load_card("imagewoof")
    card_with(monkeypatch, "imagewoof", counts={"train": 20, "test": 10}, per_class=(0, 0))
    ilsvrc(tmp_path / "imagenet", [*sorted(card.wnids), "n09999999"])  # another class is left alone
    images = load_images("imagewoof", root=tmp_path, size=8)
    assert images.classes == card.classes
    assert images.test is not None
    # Class k is the folder of the k-th wnid of the card.
    for k, wnid in enumerate(card.wnids):
        row = images.test.pixels((images.test.labels == k).nonzero().flatten())
        single = tmp_path / f"single{k}"
        for part in ("train", "test"):
            for other, source in enumerate((wnid, "n09999999")):
                shutil.copytree(tmp_path / "imagenet/val" / source, single / part / str(other))
                shutil.copytree(tmp_path / "imagenet/train" / source, single / part / str(other) / "more")
        alone = folder(single, size=8)
        assert alone.test is not None
        assert torch.equal(alone.test.pixels(slice(0, 1)), row)
        if k == 2:
            break


def test_published_row_squashes_and_the_set_remembers_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = load_card("imagewoof")
    card_with(monkeypatch, "imagewoof", counts={"train": 20, "test": 10}, per_class=(0, 0))
    ilsvrc(tmp_path / "imagenet", list(card.wnids), apart=1000)
    given: dict[str, Any] = {"root": tmp_path, "size": 8}
    crop, squash = (load_images("imagewoof", aspect=word, **given) for word in ("crop", "squash"))
    assert crop.fingerprint != squash.fingerprint
    cpu = torch.device("cpu")
    wanted = published_aspect("ImageWoof", "mtt", "paper", cpu, {"ipc": 1})
    assert (wanted, published_aspect("imagewoof", "mtt", "cpu", cpu, {"ipc": 1})) == ("squash", None)
    seen: list[dd.Images] = []
    monkeypatch.setattr(dd.run.distill, "_run", lambda asked, *_: seen.append(asked.real))
    dd.distill("imagewoof", "mtt", ipc=1, preset="paper", progress=False, **given)
    dd.distill("imagewoof", "mtt", ipc=1, preset="paper", progress=False, aspect="crop", **given)
    dd.distill("imagewoof", "mtt", ipc=1, preset="cpu", progress=False, **given)
    assert [one.fingerprint for one in seen] == [squash.fingerprint, crop.fingerprint, crop.fingerprint]
    monkeypatch.undo()
    card_with(monkeypatch, "imagewoof", counts={"train": 20, "test": 10}, per_class=(0, 0))
    small = dd.distill(squash, "random", ipc=1, progress=False)
    assert small.provenance["aspect"] == "squash"
    assert "aspect" not in dd.distill(crop, "random", ipc=1, progress=False).provenance
    fast: dict[str, Any] = {"models": "convnet(width=4, depth=1)", "steps": 1, "repeats": 1, "baselines": ()}
    told = dd.evaluate(small, "imagewoof", progress=False, out=False, **fast, **given)
    assert told.rows[0].values == dd.evaluate(small, squash, progress=False, out=False, **fast).rows[0].values
    with pytest.raises(InputError, match=r"`aspect` must be 'squash' or left out for `Images`; got 'crop'"):
        dd.evaluate(small, squash, aspect="crop", progress=False, **fast)


def test_ilsvrc_tree_of_renamed_folders_is_read_by_position(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = load_card("imagefruit")
    card_with(monkeypatch, "imagefruit", counts={"test": 10}, per_class=(0, 0))
    names = [f"class{k:04d}" for k in range(1000)]
    for name in names:
        (tmp_path / "train" / name).mkdir(parents=True)
    ilsvrc(tmp_path, [names[k] for k in card.ilsvrc])
    images = load_images("imagefruit", root=tmp_path, size=8)
    assert images.classes == card.classes
    assert len(images.all_train().train) == 20


def test_ilsvrc_refusals(tmp_path: Path) -> None:
    card = load_card("imagewoof")
    ilsvrc(tmp_path, list(card.wnids[:9]))
    with pytest.raises(MissingError, match=rf"no folder .*train/{card.wnids[9]} \(1 of 10 classes of 'imagewoof'"):
        load_images("imagewoof", root=tmp_path)
    ilsvrc(tmp_path, [card.wnids[9]])
    with pytest.raises(InputError, match=r"`imagewoof train` must be 12454 images.*got 20 in .*`imagefolder:"):
        load_images("imagewoof", root=tmp_path)
    shutil.rmtree(tmp_path / "val")
    with pytest.raises(MissingError, match=r"no folder .*/val\. Expected layout:\nROOT/train/<wnid>"):
        load_images("imagewoof", root=tmp_path)


def test_bounds_of_a_class_are_asserted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card_with(monkeypatch, "imagemeow", counts={"test": 10})
    ilsvrc(tmp_path, list(load_card("imagemeow").wnids))
    with pytest.raises(InputError, match=r"`imagemeow train` must be 732 … 1300 images a class.*got 2 … 2"):
        load_images("imagemeow", root=tmp_path)


def test_imagenet_names_its_classes_by_wnid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card_with(monkeypatch, "imagenet", classes=4, counts={"train": 8, "test": 4}, per_class=(0, 0))
    ilsvrc(tmp_path, [f"n0000000{k}" for k in range(4)])
    images = load_images("imagenet", root=tmp_path, size=16, limit=100, workers=0)
    assert images.classes == tuple(f"n0000000{k}" for k in range(4))
    assert isinstance(images.train, LazySplit)
    assert images.mean == (0.485, 0.456, 0.406)
    assert images.train.pixels().shape == (4, 3, 16, 16)


# --- real trees


@pytest.mark.shared
def test_tiny_imagenet_20(shared_data: Callable[..., Path]) -> None:
    images = folder(shared_data("tiny-imagenet-20") / "tiny-imagenet-20")
    assert images.test is not None
    assert (len(images.all_train().train), len(images.test)) == (10_000, 1_000)
    assert (images.num_classes, images.size) == (20, (64, 64))
    assert images.all_train().mean == pytest.approx((0.4926, 0.4458, 0.3958), abs=5e-5)
    assert images.all_train().std == pytest.approx((0.2801, 0.2742, 0.2841), abs=5e-5)


@pytest.mark.shared
def test_imagenette_128(shared_data: Callable[..., Path]) -> None:
    base = shared_data("imagenette128") / "imagenette128"
    images = folder(base, size=32)
    assert images.test is not None
    assert (len(images.all_train().train), len(images.test)) == (4_000, 1_000)
    assert images.classes == load_card("imagenette").wnids
    assert folder(base, limit=2**20).size == (128, 128)
    with pytest.raises(InputError, match=r"`imagenette train` must be 12894 images.*`imagefolder:"):
        load_images("imagenette", root=base)
