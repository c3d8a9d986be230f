"""The one function that makes `Images` from what users give as `data`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from dd.base.paths import as_path, expanded, is_folder
from dd.base.process import under_own_settings
from dd.base.texts import clean_names
from dd.data.card import NODES, SMILES, Card, list_cards, load_card, no_folder
from dd.data.images.checks import some, splits_by_name
from dd.data.images.custom import FORMS, LIMIT, read_split
from dd.data.images.folders import index_imagefolder, split_files
from dd.data.images.images import Images, hold_out
from dd.data.images.resize import CROP, check_aspect, parse_size
from dd.data.images.sources import load_splits
from dd.data.images.splits import TensorSplit
from dd.data.workers import usable_cpus
from dd.errors import DDError, refuse

FOLDER: Final = "imagefolder:"
ROLES: Final = ("distill", "evaluate")


@under_own_settings
def load_images(
    data: object,
    *,
    role: str = "distill",
    size: int | tuple[int, int] | None = None,
    root: str | os.PathLike[str] | None = None,
    download: bool = False,
    classes: Sequence[str] | int | None = None,
    aspect: str | None = None,
    limit: int = LIMIT,
    workers: int | None = None,
    layout: str | None = None,
    like: Sequence[str] | None = None,
) -> Images:
    """Any data argument as `Images` with a validation split.

    Args:
        data: a card's name (`CIFAR-10` is `cifar10`); `"imagefolder:PATH"`, whose folders are train, test and one of
            val, valid, validation (the validation split, so that nothing is held out of train; where there is no test
            folder, the test split), or class folders alone, of which a fifth is for tests; splits by their names, a
            Hugging Face `DatasetDict` or another dict: `train`, `test` and perhaps `validation` (or `valid`, `val`,
            `dev`), each as any of these; a map-style Dataset of (image, label) or a pair (images, labels) of tensors or
            numpy arrays, see `as_split` for every form, all of it training data when distilling and test data when
            evaluating; `Images`.
        role: `"distill"` or `"evaluate"`; the latter needs test images.
        size: bring every image to this size, a number or (H, W).
        root: where a card's files are; by default the store of `dd.base.home.home`.
        download: fetch a card's files if they are not there. Nothing is fetched otherwise.
        classes: class names, or their number, of a Dataset or a pair.
        aspect: `"crop"` keeps proportions, and is the default; `"squash"` is the published resize of the ImageNet
            subsets.
        limit: bytes of pixels up to which a set is held in memory; above, it is read when asked for, and of its
            validation and test images each stay in memory as uint8 from their first reading on, where they take at most
            half of `limit`.
        workers: processes that read files ahead of their use; by default one a CPU, at most four, for files, and none
            for a Dataset or on one CPU. Where the system does not fork them, there are none outside
            `if __name__ == "__main__":`. Few images are read in this process.
        layout: `"NCHW"` or `"NHWC"`: where the numpy arrays of a Dataset or a pair have their channels. `None`: on the
            axis, first or last, that has 1, 3 or 4 entries. Tensors are `[N, C, H, W]` always.
        like: classes of the set that a Dataset or a pair is to test: its labels go by them where they are no numbers of
            classes.

    Raises:
        InputError: an unknown name, another form, or data that cannot be trained on.
        MissingError: files that are not there; the message shows the layout and whether `download` fetches
            them.
        DamagedError: files that cannot be read; the message names them.

    Warns:
        UserWarning: of data of one's own: test images that are also training images, and images under more than
            one class, counted. Cards are as published; `dd.evaluate` notes what they have.
    """
    if role not in ROLES:
        raise refuse("role", "'distill' or 'evaluate'", repr(role))
    pair, given, aspect = parse_size(size), aspect, check_aspect(CROP if aspect is None else aspect)
    readers = _readers() if workers is None else workers
    if isinstance(data, str | Images) and classes is not None:
        raise refuse("classes", "left out for a named data set or `Images`", repr(classes))
    if isinstance(data, str | Images) and layout is not None:
        raise refuse("layout", "left out for a named data set or `Images`", repr(layout))
    if root is not None and (not isinstance(data, str) or data.startswith(FOLDER)):
        raise refuse("root", "left out unless `data` is the name of a card", repr(os.fspath(root)))
    if isinstance(data, str) and data.startswith(FOLDER):
        images = _from_folder(data.removeprefix(FOLDER), pair, aspect, limit, readers)
    elif isinstance(data, str):
        images = _from_card(data, pair, root, download, aspect, limit, readers)
    elif isinstance(data, Images):
        images = _as_given(data, pair, given)
    elif isinstance(data, Mapping) and data:
        images = _from_splits(data, role, pair, classes, aspect, limit, workers or 0, layout, like)
    else:
        images = _from_user(data, role, pair, classes, aspect, limit, workers or 0, layout, like)
    if role == "evaluate" and images.test is None:
        way_out = "Give `dd.Images(train=…, test=…)`."
        if isinstance(data, str) and data.startswith(FOLDER):
            way_out = f"Put some pictures of each class into {Path(data.removeprefix(FOLDER)) / 'test'}/<class>/."
        raise refuse("data", "a set with test images", repr(images), way_out)
    return images


def _readers() -> int:
    """Processes that read files by default: on one CPU they would only take turns with this one."""
    return min(cpus, 4) if (cpus := usable_cpus()) > 1 else 0


def card_of(name: str, root: str | os.PathLike[str] | None = None) -> Card:
    """The card of images of that name. A `root` is only told of.

    Raises:
        InputError: none is called so; lists those there are, and every other form of data.
    """
    graphs = (
        f"Graphs: {', '.join(list_cards('graphs'))}, `{SMILES}PATH.csv` for a table of molecules, "
        "or the NAME of raw TU text, NAME_A.txt and so on, under `root=`; "
        f"{', '.join(list_cards('nodes'))} or `{NODES}PATH.npz` for one graph whose nodes have classes"
    )
    forms = f"{graphs}. Or give `{FOLDER}PATH`, `dd.Images(train=…)`, a Hugging Face Dataset, {FORMS}."
    return load_card(name, forms if name in list_cards() else f"{no_folder(root)}{_as_path(name)}{forms}")


def _as_path(name: str) -> str:
    """How a folder or a table that was given bare is written; empty for other names."""
    if Path(name).suffix.lower() in (".csv", ".tsv"):
        return f"For a table of molecules give `{SMILES}{name}`. "
    if Path(name).suffix.lower() == ".npz":
        return f"For a graph whose nodes have classes give `{NODES}{name}`. "
    with contextlib.suppress(DDError):
        if is_folder(expanded(as_path(name))):
            return f"For a folder of pictures give `{FOLDER}{name}`. "
    return ""


def _as_given(images: Images, size: tuple[int, int] | None, aspect: str | None) -> Images:
    """`Images` of the user's, which nothing brings to another size."""
    if size is not None and images.size != size:
        raise refuse("size", f"{images.size} or left out for `Images`", str(size), "Give `size=` when you make them.")
    if aspect is not None and images.aspect != aspect:
        way_out = "Give `aspect=` when you make them."
        raise refuse("aspect", f"{images.aspect!r} or left out for `Images`", repr(aspect), way_out)
    return hold_out(images)


def _from_card(
    name: str,
    size: tuple[int, int] | None,
    root: str | os.PathLike[str] | None,
    download: bool,
    aspect: str,
    limit: int,
    workers: int,
) -> Images:
    card = card_of(name, root)
    train, test, classes = load_splits(
        card,
        size=size,
        root=None if root is None else os.fspath(as_path(root, "root")),
        download=download,
        aspect=aspect,
        limit=limit,
        workers=workers,
    )
    constants = card.mean, card.std
    return Images.of(
        train=train, test=test, classes=classes, name=card.name, constants=constants, card=card, aspect=aspect
    )


def _from_folder(path: str, size: tuple[int, int] | None, aspect: str, limit: int, workers: int) -> Images:
    if not path:
        raise refuse("data", f"`{FOLDER}PATH`", f"`{FOLDER}` without a path")
    base = expanded(as_path(path, "data"))
    tree = index_imagefolder(base)
    if len(tree.classes) < 2:
        left = f"; left out: {tree.left}" if str(tree.left) else ""
        raise refuse("data", "at least two class folders", f"one, {tree.classes[0]!r}, in {tree.within}{left}")
    train, val, test = split_files(tree, size, aspect, limit, workers)
    name = base.resolve().name
    return Images.of(train=train, val=val, test=test, classes=tree.classes, name=name, aspect=aspect, own=True)


def _from_user(
    data: object,
    role: str,
    size: tuple[int, int] | None,
    classes: Sequence[str] | int | None,
    aspect: str,
    limit: int,
    workers: int,
    layout: str | None,
    like: Sequence[str] | None,
) -> Images:
    if isinstance(data, os.PathLike):
        raise refuse("data", f"`{FOLDER}PATH` for a folder", repr(data))
    call = "dd.load_images(data, " + ('role="evaluate", ' if role == "evaluate" else "")
    options: dict[str, Any] = {"size": size, "aspect": aspect, "limit": limit, "workers": workers, "layout": layout}
    told: dict[str, Any] = {"aspect": aspect, "own": True}
    if role == "distill":
        train, encoding = read_split(data, classes, argument="data", call=call, **options)
        return Images.of(train=train, classes=clean_names(encoding.names), **told)
    test, encoding = read_split(data, classes, every=False, like=like, argument="data", call=call, **options)
    nothing = TensorSplit(torch.empty((0, *test.shape), dtype=torch.uint8), torch.empty(0, dtype=torch.int64))
    return Images.of(train=nothing, test=test, classes=clean_names(encoding.names), **told)


def _from_splits(data: Mapping[Any, Any], role: str, size: tuple[int, int] | None, *options: Any) -> Images:
    """Splits by their names; where there is no test split, the validation split is it, as in a folder."""
    found = splits_by_name(data)
    if role == "evaluate" and found.keys() == {"test"}:
        return _from_user(found["test"], role, size, *options)
    if "train" not in found:
        way_out = "Say which is which: `dd.Images(train=data[…], test=data[…])`."
        raise refuse("data", "splits with `train` among them", some(list(map(str, data)), 20), way_out)
    classes, aspect, limit, workers, layout, _ = options
    told: dict[str, Any] = {"size": size, "aspect": aspect, "limit": limit, "workers": workers, "layout": layout}
    call = "dd.Images(train=…, "
    train, encoding = read_split(found["train"], classes, argument="train", call=call, **told)
    val, test = (
        None if found.get(split) is None else read_split(found[split], encoding, argument=split, call=call, **told)[0]
        for split in ("val", "test")
    )
    if test is None:
        val, test = None, val
    names = clean_names(encoding.names)
    return Images.of(train=train, val=val, test=test, classes=names, aspect=aspect, own=True)
