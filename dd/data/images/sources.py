"""From a card to its splits: the embedded digits, torchvision's loaders, image trees."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from dd.base import seeding
from dd.base.home import home
from dd.base.paths import is_there
from dd.data.card import Card
from dd.data.images.folders import index_ilsvrc, index_tiny, split_files
from dd.data.images.resize import fit_all
from dd.data.images.splits import Split, TensorSplit
from dd.data.missing import missing_files
from dd.errors import DamagedError, MissingError, refuse

Pair = tuple[Tensor, Tensor]  # uint8 [N, C, H, W], int64 [N]

DIGITS_TEST: Final = 360


def load_splits(
    card: Card,
    *,
    size: tuple[int, int] | None,
    root: str | None,
    download: bool,
    aspect: str,
    limit: int,
    workers: int,
) -> tuple[Split, Split, tuple[str, ...]]:
    """Train split, test split and class names of a card's data set; counts are asserted.

    Raises:
        MissingError: the files are not there; the message shows the layout and whether `download` fetches
            them.
        DamagedError: files are there but damaged.
        InputError: other counts than the card's.
    """
    if card.kind == "folder":
        base = find(card, root, download)
        index = {"tiny": index_tiny, "ilsvrc": index_ilsvrc}[card.loader]
        tree = index(card, base)
        assert tree.test is not None  # both index functions insist on validation images
        _assert_counts(card, base, [label for _, label in tree.train], len(tree.test), len(tree.classes))
        train, _, test = split_files(tree, size or card.size, aspect, limit, workers)
        assert test is not None
        return train, test, tree.classes
    if card.kind == "embedded":
        base, pairs = Path("scikit-learn"), digits()
    else:
        base = find(card, root, download)
        pairs = _torchvision(card, base)
    (x, y), (test_x, test_y) = pairs
    names = tuple(map(str, range(card.classes))) if isinstance(card.classes, int) else card.classes
    _assert_counts(card, base, y.tolist(), len(test_y), len(names))
    if size is not None:
        x, test_x = (fit_all(images, size, aspect) for images in (x, test_x))
    return TensorSplit(x, y), TensorSplit(test_x, test_y), names


def find(card: Card, root: str | None, download: bool) -> Path:
    """The folder that has the card's files, fetched if `download` asks for it and it is not there.

    Raises:
        MissingError: not there and not fetched.
    """
    store = home("datasets", root)
    places = [store / folder for folder in card.folders]
    found = next((place for place in places if is_there(place / card.marker)), None)
    if found is not None and not (download and card.kind == "torchvision"):
        return found
    if not download or not card.downloadable:
        raise MissingError(missing_files(card, store, places, download))
    # A root of one's own is used as torchvision uses it; the library's store has a folder for each set. What
    # is there already is completed: torchvision fetches only the files that are missing or damaged.
    target = found or (store if root is not None else store / card.name)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            target.mkdir(parents=True, exist_ok=True)
            _download(card, target)
    except (OSError, RuntimeError) as error:
        raise MissingError(
            f"{card.name!r} could not be fetched into {target} ({error}). Try again, or get it from "
            f"{card.url} and lay it out as\n{card.layout}"
        ) from error
    return find(card, root, download=False)


def _download(card: Card, target: Path) -> None:
    from torchvision import datasets
    from torchvision.datasets.utils import download_and_extract_archive

    if card.kind == "torchvision":
        for split in _SPLITS[card.loader]:
            getattr(datasets, card.loader)(str(target), **split, download=True)
        return
    name = card.archive.rsplit("/", 1)[-1]
    download_and_extract_archive(card.archive, str(target), filename=name, md5=card.checksums[name])


def _assert_counts(card: Card, base: Path, labels: list[int], test: int, classes: int) -> None:
    way_out = "Get the files again"
    if card.kind == "folder":
        way_out = f"Complete the tree; for a tree of your own use the data `imagefolder:{base}`"
    for split, got in (("train", len(labels)), ("test", test)):
        expected = card.counts.get(split, got)
        if got != expected:
            raise refuse(
                f"{card.name} {split}",
                f"{expected} images, as its card says",
                f"{got} in {base}",
                f"{way_out}.",
            )
    if card.kind == "folder" and classes != card.num_classes:  # elsewhere the names are the card's
        raise refuse(f"{card.name} classes", str(card.num_classes), f"{classes} in {base}", f"{way_out}.")
    low, high = card.per_class
    sizes = np.bincount(labels, minlength=classes)
    if high and not (low <= sizes.min() and sizes.max() <= high):
        raise refuse(
            f"{card.name} train",
            f"{low} … {high} images a class, as its card says",
            f"{sizes.min()} … {sizes.max()} in {base}",
            f"{way_out}.",
        )


_TRAIN_TEST: Final = ({"train": True}, {"train": False})
_SPLITS: Final[dict[str, tuple[dict[str, Any], dict[str, Any]]]] = {
    "MNIST": _TRAIN_TEST,
    "FashionMNIST": _TRAIN_TEST,
    "CIFAR10": _TRAIN_TEST,
    "CIFAR100": _TRAIN_TEST,
    "SVHN": ({"split": "train"}, {"split": "test"}),
}


def _torchvision(card: Card, base: Path) -> tuple[Pair, Pair]:
    """Both splits by torchvision's loader, which checks the md5 of CIFAR's files before it unpickles them."""
    from torchvision import datasets

    take: Callable[[Any], Pair] = {"SVHN": _from_svhn}.get(card.loader, _from_data_and_targets)
    try:
        train, test = (take(getattr(datasets, card.loader)(str(base), **split)) for split in _SPLITS[card.loader])
    except (RuntimeError, OSError, ValueError, EOFError, AssertionError, LookupError) as error:
        raise DamagedError(
            f"the files of {card.name!r} in {base} are incomplete or damaged ({error}). Remove them and get "
            f"them again, with `download=True` (`--download`) or from {card.url}. Expected layout:\n"
            f"{card.layout}"
        ) from error
    return train, test


def _from_data_and_targets(dataset: Any) -> Pair:
    """MNIST `[N, H, W]` or CIFAR `[N, H, W, C]` values as `[N, C, H, W]`."""
    data = torch.as_tensor(dataset.data)
    data = data[:, None] if data.ndim == 3 else data.movedim(-1, 1)
    return data.contiguous(), torch.as_tensor(dataset.targets, dtype=torch.int64)


def _from_svhn(dataset: Any) -> Pair:
    """SVHN, whose loader gives `[N, C, H, W]` and label 0 for the digit 0."""
    data = torch.from_numpy(np.ascontiguousarray(dataset.data))
    return data, torch.as_tensor(dataset.labels, dtype=torch.int64)


def digits() -> tuple[Pair, Pair]:
    """scikit-learn's 1,797 handwritten digits, uint8 `[N, 1, 8, 8]`: 1,437 train and 360 test.

    Values 0 … 16 become round(255 v / 16). The data set comes without a split: test images are drawn here, a
    fifth of each class (largest remainder, so that they are 360), by a generator that depends on the class
    alone. Both splits keep the original order.
    """
    images, labels = _read_digits()
    x = torch.from_numpy(images * 255 / 16).round().to(torch.uint8)[:, None]
    y = torch.tensor(labels, dtype=torch.int64)
    sizes = torch.bincount(y)
    share = sizes.double() * DIGITS_TEST / len(y)
    quota = share.floor().to(torch.int64)
    first = torch.argsort(share - quota, descending=True, stable=True)[: DIGITS_TEST - int(quota.sum())]
    quota[first] += 1
    test = torch.zeros(len(y), dtype=torch.bool)
    for k, n in enumerate(quota.tolist()):
        rows = (y == k).nonzero().flatten()
        test[rows[torch.randperm(len(rows), generator=seeding.child(0, "digits", k))[:n]]] = True
    return (x[~test], y[~test]), (x[test], y[test])


@functools.cache
def _read_digits() -> tuple[np.ndarray, np.ndarray]:
    """Values and labels as scikit-learn reads them, from text: once a process."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    return raw.images, raw.target
