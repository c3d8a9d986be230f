"""Image trees: any ImageFolder, the stock Tiny-ImageNet download, ILSVRC trees and their ten-class subsets.

Files are only listed and read: a tree that is laid out differently is re-ordered by an index, never on disk. `walk`
says which files are pictures, `pictures` how they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar, final

import torch
from torch import Tensor

from dd.base import seeding
from dd.base.paths import is_file, is_folder, names_in, need_file, need_folder, read_text
from dd.base.progress import announce
from dd.data.card import Card
from dd.data.images.checks import some
from dd.data.images.hashes import file_hashes
from dd.data.images.lazy import LazySplit
from dd.data.images.pictures import RULE, UNREADABLE, extensions, open_picture, picture, shown_size, unreadable
from dd.data.images.reading import read_ahead
from dd.data.images.resize import fit, rule
from dd.data.images.splits import Split, TensorSplit
from dd.data.images.walk import LeftOut, Samples, class_folders, has_splits, other_splits, pictures_in
from dd.data.items import text_items
from dd.errors import DamagedError, DDError, MissingError, refuse

T = TypeVar("T")

TREE: Final = (
    "PATH/train/<class>/*.jpg (or png, …), PATH/test/<class>/*, PATH/val/<class>/* (or valid, validation; "
    "it is the test split where there is no test folder), or class folders alone, PATH/<class>/*, "
    "of which a fifth is for tests"
)
TESTED: Final = 0.2
"""Share of each class that is for tests where nobody has divided the pictures."""
VAL: Final = ("val", "valid", "validation")
"""Folders of validation images; a tree may have one of them."""


@final
@dataclass(frozen=True)
class Tree:
    """An indexed image tree: class names in label order and the files of its splits."""

    base: Path
    classes: tuple[str, ...]
    train: Samples
    test: Samples | None
    left: LeftOut
    val: Samples | None = None

    @property
    def within(self) -> Path:
        """The folder of the training classes."""
        train = self.base / "train"
        return train if is_folder(train) else self.base


@final
class Files:
    """Map-style reader of files: item i is a uint8 `[3, H, W]` tensor, or the error that says what is wrong.

    Pictures are read by the rule of `pictures`; grey ones have three equal channels.
    """

    def __init__(self, base: Path, names: Sequence[str], size: tuple[int, int] | None, aspect: str = "crop") -> None:
        self._base, self._names, self._size, self._aspect = base, names, size, aspect

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, i: int) -> Tensor | DDError:
        pixels = self.original(i)
        return pixels if isinstance(pixels, DDError) else fit(pixels, self._size, self._aspect)

    def original(self, i: int) -> Tensor | DDError:
        """Item i as its file has it, uint8 `[3, h, w]`."""
        return self._of(i, lambda image, where: picture(image, where).expand(3, -1, -1).contiguous())

    def original_size(self, i: int) -> tuple[int, int] | DDError:
        """(h, w) of `original`, by the header where it says them."""
        return self._of(i, lambda image, where: shown_size(image))

    def _of(self, i: int, read: Callable[[Any, str], T]) -> T | DDError:
        path = self._base / self._names[i]
        try:
            with open_picture(path, f"image {path}") as image:
                return read(image, f"image {path}")
        except DDError as error:
            return error
        except UNREADABLE as error:
            return unreadable(f"image {path}", error)


def index_imagefolder(path: Path) -> Tree:
    """The index of `PATH/train/<class>/*`, `PATH/test/<class>/*` and `PATH/val/<class>/*` (or valid, validation).

    The validation folder is the validation split, and nothing is held out of train; where there is no test folder it is
    the test split. Classes are the sorted folder names of `train`; other folders are matched by name, not by position.
    Where class folders lie in `PATH` itself, without any split, a fifth of each class is for tests (`_divided`).

    Raises:
        MissingError: no such folder, no `train`, or no class folder in it.
        InputError: several validation folders, a class folder without images, or other class folders than in train.
    """
    left = LeftOut()
    need_folder(path, way_out=f"Expected layout: {TREE}.")
    if not is_folder(path / "train"):
        flat = _flat(path)
        if flat and not has_splits(path):
            return _divided(path, flat, left)
        into = f" Class folders lie in {path} itself: move {some(flat)} into {path / 'train'}." if flat else ""
        into = into or _deeper(path)
        if not into and not has_splits(path):
            raise _no_classes(path)
        need_folder(path / "train", way_out=f"Expected layout: {TREE}.{into}")
    other_splits(path, ("train", "test", *VAL), left)
    classes = _class_folders(path, "train", left)
    label = {name: k for k, name in enumerate(classes)}
    given = [name for name in VAL if is_folder(path / name)]
    if len(given) > 1:
        way_out = (
            "Rename or remove the others; the one of them is the validation split, or without `test` the test split."
        )
        raise refuse(
            "data", f"a tree with one of the folders {', '.join(VAL)}", f"{', '.join(given)} in {path}", way_out
        )
    train = pictures_in(path, "train", label, left)
    for name in ("test", *given):
        _check_classes(path, name, classes, left)
    test = pictures_in(path, "test", label, left) if is_folder(path / "test") else None
    val = pictures_in(path, given[0], label, left) if given else None
    return Tree(path, classes, train, test, left, val) if test is not None else Tree(path, classes, train, val, left)


def _flat(path: Path) -> list[str]:
    """Folders with pictures in `path` itself, as other libraries have class folders."""
    try:
        names = [p.name for p in sorted(path.iterdir()) if p.is_dir() and p.name not in ("test", *VAL)]
        return [name for name in names if _has_pictures(path / name)]
    except OSError:
        return []


def _has_pictures(folder: Path) -> bool:
    """Whether pictures lie directly in a folder."""
    readable = extensions()
    return any(p.suffix.lower() in readable for p in folder.iterdir())


def _no_classes(folder: Path) -> MissingError:
    """Why a folder has no class folders to read."""
    text = f"no class folder in {folder}"
    if _has_pictures(folder):
        text = f"pictures lie in {folder} itself: put them into class folders"
    elif found := class_folders(folder, "", LeftOut()):
        text = f"no pictures directly in the folders of {folder}: {some(found)}"
    return MissingError(f"{text}. Expected layout: {TREE}.")


def _deeper(path: Path) -> str:
    """A way out where the class folders lie in one folder of `path`."""
    folders = [p for p in (path.iterdir() if is_folder(path) else ()) if p.is_dir() and not p.name.startswith(".")]
    inner = [p for p in folders if (p / "train").is_dir() or len(_flat(p)) > 1]
    return f" Give `imagefolder:{inner[0]}`." if len(inner) == 1 else ""


def _divided(path: Path, names: list[str], left: LeftOut) -> Tree:
    """The index of class folders without splits: of each class, in the order of names, a fifth drawn for tests.

    What is drawn depends on the number of pictures of the class alone; of fewer than three none is.
    """
    found = class_folders(path, "", left)
    classes = tuple(name for name in found if name in names)
    for name in set(found) - set(classes):
        left.add("folder without pictures", name)
    train, test = Samples(), Samples()
    samples = pictures_in(path, "", {name: k for k, name in enumerate(classes)}, left)
    for k in range(len(classes)):
        own = [sample for sample in samples if sample[1] == k]
        share = max(1, int(len(own) * TESTED + 0.5)) if len(own) > 2 else 0
        drawn = set(torch.randperm(len(own), generator=seeding.child(0, "test", k))[:share].tolist())
        test += [sample for i, sample in enumerate(own) if i in drawn]
        train += [sample for i, sample in enumerate(own) if i not in drawn]
    announce(
        f"{path} has no train and test: of {len(train) + len(test):,} pictures in {len(classes)} class folders "
        f"{len(test):,} are for tests, always the same ones"
    )
    return Tree(path, classes, train, test or None, left)


def _check_classes(path: Path, folder: str, classes: tuple[str, ...], left: LeftOut) -> None:
    """Refuse a folder, where it is there, that has other class folders than train."""
    if not is_folder(path / folder):
        return
    if is_file(path / folder / "val_annotations.txt"):
        raise refuse(
            "data",
            f"an image tree ({TREE})",
            f"the stock Tiny-ImageNet layout in {path}",
            "Use the card: data 'tiny-imagenet' with `root=` this folder.",
        )
    found = _class_folders(path, folder, left)
    if found != classes:
        other = sorted(set(found) ^ set(classes))
        raise refuse(
            f"class folders of {path / folder}",
            f"the {len(classes)} of {path / 'train'}",
            f"{len(found)} folders; only in one of them: {some(other)}",
            "Rename or complete them; they are matched by name.",
        )


def index_tiny(card: Card, base: Path) -> Tree:
    """The index of Tiny-ImageNet, as downloaded or re-foldered by class.

    The stock download keeps all validation images in `val/images` and their classes in
    `val/val_annotations.txt`.

    Raises:
        InputError: no annotation for an image, or another class than in train.
        DamagedError: `val_annotations.txt` is not what it should be.
        MissingError: no validation images.
    """
    left = LeftOut()
    classes = _class_folders(base, "train", left)
    label = {name: k for k, name in enumerate(classes)}
    train = pictures_in(base, "train", label, left)
    annotations = base / "val/val_annotations.txt"
    flat = sorted(file.name for file in names_in(base / "val/images", "[!.]*.JPEG"))
    if not flat:
        inner = "val/images" if is_folder(base / "val/images") else "val"
        need_folder(base / inner, way_out=f"Expected layout:\n{card.layout}")
        return Tree(base, classes, train, pictures_in(base, inner, label, left), left)
    need_file(annotations, way_out=f"Expected layout:\n{card.layout}")
    rows = [line.split("\t") for line in read_text(annotations).splitlines() if line]
    if any(len(row) < 2 for row in rows):
        raise DamagedError(f"{annotations} must have a file name and a class on each line. Get it again.")
    wnid = {row[0]: row[1] for row in rows}
    if orphans := [name for name in flat if wnid.get(name) not in label]:
        raise refuse(
            str(annotations),
            "a class of the train folder for every image in val/images",
            f"none for {some(orphans)}",
            f"Get the archive again from {card.url}.",
        )
    return Tree(base, classes, train, [(f"val/images/{name}", label[wnid[name]]) for name in flat], left)


def index_ilsvrc(card: Card, base: Path) -> Tree:
    """The index of an ILSVRC tree `train/<wnid>/*`, `val/<wnid>/*`, or of the classes of a subset's card.

    Class k of ILSVRC is the k-th sorted WordNet id. A subset needs only the folders of its own ten classes;
    where these are not there under their ids, a tree of exactly 1,000 folders is read by position.

    Raises:
        MissingError: class folders or `val` are not there.
    """
    for split in ("train", "val"):
        need_folder(base / split, way_out=f"Expected layout:\n{card.layout}")
    left = LeftOut()
    folders = _class_folders(base, "train", left)
    wanted, names = card.wnids, card.classes
    if isinstance(names, int):
        wanted = names = folders
    elif not set(wanted) <= set(folders) and len(folders) == 1000:
        wanted = tuple(folders[k] for k in card.ilsvrc)
    label = dict(sorted((wnid, k) for k, wnid in enumerate(wanted)))
    for split in ("train", "val"):
        if lacking := [wnid for wnid in wanted if not is_folder(base / split / wnid)]:
            raise MissingError(
                f"no folder {base / split / lacking[0]} ({len(lacking)} of {len(wanted)} classes of "
                f"{card.name!r} have none). Expected layout:\n{card.layout}"
            )
    train, test = (pictures_in(base, split, label, left) for split in ("train", "val"))
    return Tree(base, names, train, test, left)


def split_files(
    tree: Tree, size: tuple[int, int] | None, aspect: str, limit: int, workers: int
) -> tuple[Split, Split | None, Split | None]:
    """Train, validation and test of a tree: in memory as uint8 when all fit in `limit` bytes, else read when asked for.

    The fingerprint of each is of the bytes of its files in their order, the labels, and the rules of reading and
    resizing; the files' names and the place of the tree are not in it.

    Raises:
        InputError: images of unequal size and no `size`, or of a mode whose full scale is not known.
        DamagedError: a file cannot be read; named.
    """
    tree.left.warn(tree.base)
    everything = [sample for samples in (tree.train, tree.val, tree.test) for sample in samples or ()]
    keys = file_hashes(tree.base, [name for name, _ in everything], workers)
    h, w = size if size is not None else _common_size(tree.base, everything)
    in_memory, words = len(everything) * 3 * h * w <= limit, f"{RULE}; {rule((h, w), aspect)}"

    def split(samples: Samples, keys: list[str]) -> Split:
        labels = torch.tensor([label for _, label in samples], dtype=torch.int64)
        files = Files(tree.base, [name for name, _ in samples], (h, w), aspect)
        if not in_memory:
            return LazySplit(files, labels, (3, h, w), keys, words, workers, text_items(keys), keep=limit // 2)
        (pixels,) = read_ahead(files, [torch.arange(len(files))], (3, h, w), workers)
        return TensorSplit(pixels, labels, keys, words)

    start, made = 0, list[Split | None]()
    for samples in (tree.train, tree.val, tree.test):
        n = len(samples or ())
        made.append(None if samples is None else split(samples, keys[start : start + n]))
        start += n
    assert made[0] is not None
    return made[0], made[1], made[2]


def _class_folders(base: Path, folder: str, left: LeftOut) -> tuple[str, ...]:
    """The class folders of a split, sorted; at least one."""
    names = class_folders(base, folder, left)
    if not names:
        raise _no_classes(base / folder)
    return names


def _common_size(base: Path, samples: Samples) -> tuple[int, int]:
    """(H, W) of all files as they are shown, read from their headers; stops at the first that differs."""
    first: tuple[int, int] | None = None
    for name, _ in samples:
        try:
            with open_picture(base / name, f"image {base / name}") as image:
                h, w = shown_size(image)
        except DDError:
            raise
        except UNREADABLE as error:
            raise unreadable(f"image {base / name}", error) from error
        if first is None:
            first = (h, w)
        elif (h, w) != first:
            raise refuse(
                "data",
                f"images of one size ({first[0]}x{first[1]} like {samples[0][0]})",
                f"{h}x{w} in {name}",
                "Give `size=`: images are then resized and cropped to it.",
            )
    assert first is not None  # class folders are never empty
    return first
