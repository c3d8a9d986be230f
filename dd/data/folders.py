"""Image trees: any ImageFolder, the stock Tiny-ImageNet download, ILSVRC trees and their ten-class subsets.

Files are only listed and read: a tree that is laid out differently is re-ordered by an index, never on disk.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import numpy as np
import torch
from torch import Tensor

from dd.data.card import Card
from dd.data.checks import some
from dd.data.resize import fit, rule
from dd.data.splits import LazySplit, Split, TensorSplit, read_rows
from dd.errors import DamagedError, MissingError, refuse

TREE: Final = "PATH/train/<class>/*.jpg (or png, …), PATH/test/<class>/* (else PATH/val/<class>/*)"

Samples = list[tuple[str, int]]  # path relative to the root of the tree, label


@final
@dataclass(frozen=True)
class Tree:
    """An indexed image tree: class names in label order and the files of its splits."""

    base: Path
    classes: tuple[str, ...]
    train: Samples
    test: Samples | None


@final
class Files:
    """Map-style reader of files: item i is a uint8 `[3, H, W]` tensor, or a str saying what is wrong."""

    def __init__(self, base: Path, names: Sequence[str], size: tuple[int, int] | None, aspect: str = "crop") -> None:
        self._base, self._names, self._size, self._aspect = base, names, size, aspect

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, i: int) -> Tensor | str:
        from PIL import Image

        path = self._base / self._names[i]
        try:
            with Image.open(path) as image:
                if image.mode in ("I", "F") or image.mode.startswith("I;"):
                    return f"image {path} has more than 8 bits a channel ({image.mode}). Convert it."
                pixels = np.array(image.convert("RGB"))  # grey and CMYK files are in every big tree
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            return f"image {path} cannot be read ({error}). Restore it from the source, or remove it."
        return fit(torch.from_numpy(pixels).movedim(-1, 0).contiguous(), self._size, self._aspect)


def index_imagefolder(path: Path) -> Tree:
    """The index of `PATH/train/<class>/*` and `PATH/test/<class>/*`, else `PATH/val/<class>/*` as test.

    Classes are the sorted folder names of `train`; the test folders are matched by name, not by position.

    Raises:
        MissingError: no `train`, or no class folder in it.
        InputError: a class folder without images, or other class folders in test than in train.
    """
    if not (path / "train").is_dir():
        raise MissingError(f"no folder {path / 'train'}. Expected layout: {TREE}.")
    classes = _class_folders(path / "train")
    label = {name: k for k, name in enumerate(classes)}
    train = _index(path, "train", label)
    held_out = next((name for name in ("test", "val") if (path / name).is_dir()), None)
    if held_out is None:
        return Tree(path, classes, train, None)
    if (path / held_out / "val_annotations.txt").is_file():
        raise refuse(
            "data",
            f"an image tree ({TREE})",
            f"the stock Tiny-ImageNet layout in {path}",
            "Use the card: data 'tiny-imagenet' with `root=` this folder.",
        )
    found = _class_folders(path / held_out)
    if found != classes:
        other = sorted(set(found) ^ set(classes))
        raise refuse(
            f"class folders of {path / held_out}",
            f"the {len(classes)} of {path / 'train'}",
            f"{len(found)} folders; only in one of them: {some(other)}",
            "Rename or complete them; they are matched by name.",
        )
    return Tree(path, classes, train, _index(path, held_out, label))


def index_tiny(card: Card, base: Path) -> Tree:
    """The index of Tiny-ImageNet, as downloaded or re-foldered by class.

    The stock download keeps all validation images in `val/images` and their classes in
    `val/val_annotations.txt`.

    Raises:
        InputError: no annotation for an image, or another class than in train.
        DamagedError: `val_annotations.txt` is not what it should be.
        MissingError: no validation images.
    """
    classes = _class_folders(base / "train")
    label = {name: k for k, name in enumerate(classes)}
    train = _index(base, "train", label)
    annotations = base / "val/val_annotations.txt"
    flat = sorted(file.name for file in (base / "val/images").glob("*.JPEG"))
    if not flat:
        inner = "val/images" if (base / "val/images").is_dir() else "val"
        if not (base / inner).is_dir():
            raise MissingError(f"no folder {base / inner}. Expected layout:\n{card.layout}")
        return Tree(base, classes, train, _index(base, inner, label))
    if not annotations.is_file():
        raise MissingError(f"no file {annotations}. Expected layout:\n{card.layout}")
    rows = [line.split("\t") for line in annotations.read_text(encoding="utf-8").splitlines() if line]
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
    return Tree(base, classes, train, [(f"val/images/{name}", label[wnid[name]]) for name in flat])


def index_ilsvrc(card: Card, base: Path) -> Tree:
    """The index of an ILSVRC tree `train/<wnid>/*`, `val/<wnid>/*`, or of the classes of a subset's card.

    Class k of ILSVRC is the k-th sorted WordNet id. A subset needs only the folders of its own ten classes;
    where these are not there under their ids, a tree of exactly 1,000 folders is read by position.

    Raises:
        MissingError: class folders or `val` are not there.
    """
    for split in ("train", "val"):
        if not (base / split).is_dir():
            raise MissingError(f"no folder {base / split}. Expected layout:\n{card.layout}")
    folders = _class_folders(base / "train")
    wanted, names = card.wnids, card.classes
    if isinstance(names, int):
        wanted = names = folders
    elif not set(wanted) <= set(folders) and len(folders) == 1000:
        wanted = tuple(folders[k] for k in card.ilsvrc)
    label = {wnid: k for k, wnid in enumerate(wanted)}
    for split in ("train", "val"):
        if lacking := [wnid for wnid in wanted if not (base / split / wnid).is_dir()]:
            raise MissingError(
                f"no folder {base / split / lacking[0]} ({len(lacking)} of {len(wanted)} classes of "
                f"{card.name!r} have none). Expected layout:\n{card.layout}"
            )
    return Tree(base, names, _index(base, "train", label), _index(base, "val", label))


def split_files(
    tree: Tree, size: tuple[int, int] | None, aspect: str, limit: int, workers: int
) -> tuple[Split, Split | None]:
    """Train and test of a tree: in memory as uint8 when both fit in `limit` bytes, else read when asked for.

    Raises:
        InputError: images of unequal size and no `size`.
        DamagedError: a file cannot be read; named.
    """
    everything = tree.train + (tree.test or [])
    h, w = size if size is not None else _common_size(tree.base, everything)
    in_memory = len(everything) * 3 * h * w <= limit

    def split(samples: Samples) -> Split:
        names = [name for name, _ in samples]
        labels = torch.tensor([label for _, label in samples], dtype=torch.int64)
        keys = [f"{Path(name).as_posix()}:{(tree.base / name).stat().st_size}" for name in names]
        files, words = Files(tree.base, names, (h, w), aspect), rule((h, w), aspect)
        if not in_memory:
            return LazySplit(files, labels, (3, h, w), keys, words, workers)
        pixels = read_rows(files, torch.arange(len(names)), (3, h, w), workers)
        return TensorSplit(pixels, labels, keys, words)

    return split(tree.train), None if tree.test is None else split(tree.test)


def _class_folders(path: Path) -> tuple[str, ...]:
    """Names of the folders in `path`, sorted; hidden ones left out."""
    names = sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise MissingError(f"no class folder in {path}. Expected layout: {TREE}.")
    return tuple(names)


def _index(base: Path, folder: str, label: dict[str, int]) -> Samples:
    """Image files of the classes in `label` under `base/folder`, by class name and then path."""
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

    found = make_dataset(str(base / folder), label, extensions=IMG_EXTENSIONS, allow_empty=True)
    samples = [(os.path.relpath(path, base), k) for path, k in found if not os.path.basename(path).startswith(".")]
    present = {k for _, k in samples}
    if empty := [name for name, k in label.items() if k not in present]:
        raise refuse(
            f"class folders of {base / folder}",
            f"folders with images ({', '.join(IMG_EXTENSIONS)})",
            f"none in {some(empty)}",
            "Add images or remove the folder from every split.",
        )
    return samples


def _common_size(base: Path, samples: Samples) -> tuple[int, int]:
    """(H, W) of all files, read from their headers; stops at the first that differs."""
    from PIL import Image

    first: tuple[int, int] | None = None
    for name, _ in samples:
        try:
            with Image.open(base / name) as image:
                w, h = image.size
        except (OSError, SyntaxError, ValueError) as error:
            raise DamagedError(
                f"image {base / name} cannot be read ({error}). Restore it from the source, or remove it."
            ) from error
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
