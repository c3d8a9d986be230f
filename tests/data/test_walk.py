"""What an image tree is: splits by the names of folders, links, formats, and a word on what is left out."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, features
from reference.folders import folder, paint, tree

import dd
from dd.data.images.walk import LeftOut, class_folders, pictures_in
from dd.errors import DamagedError, InputError, MissingError
from dd.exchange.importers import import_folder

# --- splits


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_a_validation_folder_is_the_validation_split(tmp_path: Path, name: str) -> None:
    base = tree(tmp_path, {"train": 4, name: 3})
    images = folder(base)  # without `test` it is the test split, and some of train is held out
    assert (len(images.train), len(images.val or ()), len(images.test or ())) == (9, 3, 9)
    tree(tmp_path, {"test": 2})
    images = folder(base)
    assert (len(images.train), len(images.val or ()), len(images.test or ())) == (12, 9, 6)
    assert images.val is not None
    assert images.val.pixels().equal(images.train.pixels(images.train.labels.new_tensor([0, 1, 2, 4, 5, 6, 8, 9, 10])))
    assert len(images.all_train().train) == 21
    shutil.rmtree(base / "test")
    shutil.rmtree(base / name)
    assert folder(base).test is None
    with pytest.raises(InputError, match=r"`data` must be a set with test images"):
        folder(base, role="evaluate")


def test_one_validation_folder_at_most(tmp_path: Path) -> None:
    base = tree(tmp_path, {"train": 3, "val": 1, "valid": 1, "test": 1})
    with pytest.raises(
        InputError, match=r"one of the folders val, valid, validation; got val, valid in .*Rename or re"
    ):
        folder(base)
    shutil.rmtree(base / "valid")
    assert len(folder(base).val or ()) == 3


def test_a_validation_folder_has_the_classes_of_train(tmp_path: Path) -> None:
    base = tree(tmp_path, {"train": 3, "test": 1, "validation": 1})
    shutil.rmtree(base / "validation/owl")
    with pytest.raises(InputError, match=r"class folders of .*validation` must be the 3 of .*only in one of them: owl"):
        folder(base)


@pytest.mark.parametrize("name", ["Test", "testing", "VAL", "dev"])
def test_a_folder_that_is_no_split_by_its_name_is_told(tmp_path: Path, name: str) -> None:
    base = tree(tmp_path, {"train": 3, name: 1, "labels": 1})
    with pytest.warns(
        UserWarning, match=rf"1 left out of .*: 1 × folder beside the splits \({name}\)\. Rename it"
    ) as seen:
        assert folder(base).test is None
    assert "Pillow" not in str(seen[0].message)
    (base / name).rename(base / "test")  # the way out
    assert len(folder(base).test or ()) == 3
    (base / "Testing").symlink_to("test")  # read already
    assert len(folder(base).test or ()) == 3


def test_bytes_of_names_that_are_no_text_are_escaped(tmp_path: Path) -> None:
    """As old disks have them: Latin-1 in a folder's name."""
    base = tree(tmp_path / "b\udce4ume", {"train": 3, "test": 2}, ("b\udceer", "cat"))
    options: dict[str, Any] = {"ipc": 1, "progress": False, "device": "cpu", "out": tmp_path / "run"}
    small = dd.distill(f"imagefolder:{base}", "random", **options)
    assert dd.load(tmp_path / "run").classes == small.classes == ("b\\udceer", "cat")
    dd.evaluate(small, f"imagefolder:{base}", models="mlp", steps=1, repeats=1, baselines=(), progress=False)
    assert (tmp_path / "run" / "index.html").exists()
    dd.to_imagefolder(small, tmp_path / "out")
    assert sorted(os.listdir(os.fsencode(tmp_path / "out" / "train"))) == [b"0-b_udceer", b"1-cat", b"set.json"]


def test_the_layout_is_told_where_train_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"PATH/val/<class>/\* \(or valid, validation; it is the test split where"):
        folder(tmp_path)


# --- links


def test_a_link_to_a_folder_above_adds_nothing(tmp_path: Path) -> None:
    base = tree(tmp_path / "pets", {"train": 8})
    before = folder(base)
    (base / "train/cat/up").symlink_to(base / "train")
    (base / "train/dog/top").symlink_to("../../..")
    (base / "train/loop").symlink_to(base)
    with pytest.warns(
        UserWarning, match=r"3 left out of .*pets: 3 × linked folder that is read already or lies above \([^(]*\)\.$"
    ):
        images = folder(base)
    assert len(images.all_train().train) == 24
    assert images.fingerprint == before.fingerprint


def test_every_real_folder_is_read_once_under_its_own_class(tmp_path: Path) -> None:
    base = tree(tmp_path / "pets", {"train": 2})
    paint(base / "train/dog/sub/x.png", seed=7)
    paint(tmp_path / "else/deep/y.png", seed=8)
    paint(tmp_path / "else/z.png", seed=9)
    (base / "train/cat/of_dog").symlink_to(base / "train/dog/sub")  # the real one keeps its class
    (base / "train/cat/a").symlink_to(tmp_path / "else/deep")
    (base / "train/cat/b").symlink_to(tmp_path / "else")  # holds the former
    (base / "train/owl/self").symlink_to(".")
    left = LeftOut()
    found = pictures_in(base, "train", {"cat": 0, "dog": 1, "owl": 2}, left)
    assert found == [
        ("train/cat/0.png", 0),
        ("train/cat/1.png", 0),
        ("train/cat/a/y.png", 0),
        ("train/cat/b/z.png", 0),
        ("train/dog/0.png", 1),
        ("train/dog/1.png", 1),
        ("train/dog/sub/x.png", 1),
        ("train/owl/0.png", 2),
        ("train/owl/1.png", 2),
    ]
    assert str(left).startswith("3 × linked folder that")
    assert {word for word in ("cat/b/deep", "cat/of_dog", "owl/self") if word in str(left)} == {
        "cat/b/deep",
        "cat/of_dog",
        "owl/self",
    }


def test_linked_class_folders_and_files_are_read(tmp_path: Path) -> None:
    real = tree(tmp_path / "real", {"train": 3})
    base = tmp_path / "linked"
    (base / "train").mkdir(parents=True)
    for name in ("cat", "dog"):
        (base / "train" / name).symlink_to(real / "train" / name)
    (base / "train/owl").mkdir()
    for i in range(3):
        (base / f"train/owl/{i}.png").symlink_to(real / f"train/owl/{i}.png")
    assert folder(base).fingerprint == folder(real).fingerprint
    (base / "train/owl/gone.png").symlink_to(real / "gone.png")
    with pytest.raises(DamagedError, match=r"^image .*owl/gone\.png cannot be read .*No such file"):
        folder(base)


# --- what is read and what is left out


def test_every_format_of_this_pillow_is_read(tmp_path: Path) -> None:
    base = tree(tmp_path, {"train": 2})
    kinds = {"JPG": "JPEG", "jfif": "JPEG", "gif": "GIF", "Png": "PNG", "tga": "TGA", "ico": "ICO", "pcx": "PCX"}
    kinds |= {name: name.upper() for name in ("avif", "webp") if name in features.get_supported()}
    for name, kind in kinds.items():
        Image.new("RGB", (16, 16), "teal").save(base / f"train/cat/x.{name}", kind)
    found = pictures_in(base, "train", {"cat": 0}, LeftOut())
    assert len(found) == 2 + len(kinds)
    assert len(folder(base, size=8).all_train().train) == 6 + len(kinds)


def test_what_is_left_out_is_counted_and_named(tmp_path: Path) -> None:
    base = tree(tmp_path / "pets", {"train": 3, "test": 1})
    for i in range(4):
        (base / f"train/cat/{i}.heic").write_bytes(b"")
    for name in ("train/dog/a.SVG", "test/dog/b.svg", "train/owl/photo"):
        (base / name).write_bytes(b"")
    paint(base / "train/loose.png")
    os.mkfifo(base / "train/owl/pipe.png")
    with pytest.warns(UserWarning, match="left out") as told:
        images = folder(base)
    assert len(told) == 1
    assert str(told[0].message) == (
        f"9 left out of {base}: 4 × .heic (train/cat/0.heic, train/cat/1.heic, train/cat/2.heic, …); "
        "2 × .svg (train/dog/a.SVG, test/dog/b.svg); 1 × beside the class folders (train/loose.png); "
        "1 × no regular file (train/owl/pipe.png); 1 × without an extension (train/owl/photo). "
        "Convert pictures to PNG or another format that Pillow reads, and put them into class folders."
    )
    assert (len(images.all_train().train), len(images.test or ())) == (9, 3)


def test_hidden_files_texts_and_litter_go_without_saying(tmp_path: Path) -> None:
    base = tree(tmp_path, {"train": 3})
    for name in (".DS_Store", "._0.png", "Thumbs.db", "desktop.ini", "0.txt", "0.json", "labels.CSV", "0.xml"):
        (base / "train/cat" / name).write_bytes(b"no picture")
    for name in ("train/.cache", "train/cat/.ipynb_checkpoints", "train/__MACOSX", "train/cat/@eaDir"):
        paint(base / name / "0.png")
    assert len(folder(base).all_train().train) == 9  # a warning would be an error here


def test_a_class_without_a_picture_says_what_is_there(tmp_path: Path) -> None:
    base = tree(tmp_path, {"train": 3})
    for i in range(3):
        (base / f"train/dog/{i}.png").rename(base / f"train/dog/{i}.heic")
    with pytest.raises(
        InputError, match=r"got none in dog; left out: 3 × \.heic \(train/dog/0\.heic, .*\)\. Add images"
    ):
        folder(base)


def test_an_import_says_what_it_leaves_out(tmp_path: Path) -> None:
    base = tree(tmp_path, {"train": 2}) / "train"
    (base / "cat/0.heic").write_bytes(b"")
    (base / "owl/up").symlink_to("..")
    with pytest.warns(
        UserWarning, match=r"2 left out of .*: 1 × \.heic \(cat/0\.heic\); 1 × linked folder .*\(owl/up\)"
    ):
        small = import_folder(base, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert len(small) == 6


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tree(tmp_path, {"train": 2})
    scan = os.scandir

    def refused(path: str) -> object:
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refused)
    assert class_folders(base, "train", LeftOut()) == ("cat", "dog", "owl")
    with pytest.raises(DamagedError, match=r"^folder .*train/dog cannot be read \(Permission denied\)"):
        folder(base)
