"""Images: a labelled image data set with its splits, and the validation split held out of train."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Final, Literal, final

import torch
from torch import Tensor

from dd.base import seeding
from dd.base.process import under_own_settings
from dd.base.shapes import check_names
from dd.base.texts import a_class, clean_name, clean_names
from dd.data.card import Card
from dd.data.images.checks import check_labels, name_of, some
from dd.data.images.custom import read_split
from dd.data.images.lazy import LazySplit
from dd.data.images.resize import CROP, check_aspect, parse_size
from dd.data.images.splits import JoinedSplit, Split, TensorSplit, constant_channels
from dd.data.images.statistics import statistics
from dd.data.items import Twins, check_twins, twins
from dd.data.labels import HOW_MANY
from dd.errors import refuse

Constants = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and std, a number a channel each."""

HELD_OUT: Final = 0.1
"""Share of each class of train that is held out for validation."""


@final
@dataclass(frozen=True, init=False, eq=False, repr=False)
class Images:
    """A labelled image data set.

    Give it to `distill` or `evaluate` as it is; `load_images` completes it (a validation split is held out
    of train).

    Its `kind`, of the class, says which methods and which judge it is for: `images`.

    Args:
        train: a map-style Dataset of (image, label), a pair (images, labels) of tensors or numpy arrays, or a Split;
            see `as_split` for every form.
        test: likewise, or None.
        classes: class names in label order, or their number. By default those of the train Dataset's
            `classes` attribute, else what the labels say: "0" … "K−1" where they are these numbers; others are sorted,
            and the classes are called as the labels are written. Test and validation labels go by those of train.
        name: what reports call it.
        val: likewise; by default `load_images` holds some of train out.
        mean: per-channel constants for pixels in [0, 1]; by default those of the train split in use.
        std: likewise.
        card: the card, for sets that have one.
        whole: train before `val` was held out of it, in the original order.
        size: bring every image to this size, a number or (H, W); left out for Splits.
        aspect: `"crop"` or `"squash"`, see `load_images`.
        layout: `"NCHW"` or `"NHWC"`: where numpy arrays have their channels. `None`: on the axis, first or last, that
            has 1, 3 or 4 entries. Tensors are `[N, C, H, W]` always.

    Raises:
        InputError: anything that could not be trained on: an empty set, one class, a class without images, test
            labels that train does not have, unequal shapes, arrays whose channels cannot be told, NaN, images that are
            all the same constant.

    Warns:
        UserWarning: test images that are also training images, and images under more than one class, counted;
            not where the splits are `Split`s already.
    """

    kind: ClassVar[Literal["images"]] = "images"
    name: str
    classes: tuple[str, ...]
    train: Split
    val: Split | None
    test: Split | None
    card: Card | None
    aspect: str
    _constants: Constants | None
    _whole: Split | None

    @under_own_settings
    def __init__(
        self,
        *,
        train: object,
        test: object = None,
        classes: Sequence[str] | int | None = None,
        name: str = "custom",
        val: object = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        card: Card | None = None,
        whole: Split | None = None,
        size: int | tuple[int, int] | None = None,
        aspect: str = "crop",
        layout: str | None = None,
    ) -> None:
        pair, call = parse_size(size), "dd.Images(train=…, "
        options: dict[str, Any] = {"size": pair, "aspect": check_aspect(aspect), "layout": layout, "call": call}
        first, encoding = read_split(train, classes, argument="train", **options)
        splits: dict[str, Split | None] = {"train": first}
        for key, data in (("val", val), ("test", test)):
            splits[key] = None if data is None else read_split(data, encoding, argument=key, **options)[0]
        names = clean_names(encoding.names)
        if (mean is None) != (std is None):
            raise refuse("mean, std", "both or neither", "one of them")
        constants = None if mean is None or std is None else (tuple(mean), tuple(std))
        own = any(data is not None and data is not splits[key] for key, data in (("train", train), ("test", test)))
        self._take(splits, names, name, constants, card, aspect, whole, own)

    @classmethod
    @under_own_settings
    def of(
        cls,
        *,
        train: Split,
        test: Split | None = None,
        val: Split | None = None,
        classes: Sequence[str],
        name: str = "custom",
        constants: Constants | None = None,
        card: Card | None = None,
        aspect: str = CROP,
        own: bool = False,
    ) -> Images:
        """The data set of splits that were read just now: checked once, `val` held out, and nothing else asked.

        Args:
            train, test, val, name, card, aspect: as of the class.
            classes: their names.
            constants: mean and std of pixels in [0, 1]; by default those of the train split in use.
            own: whether the owner of the data is told what is there twice.

        Raises:
            InputError: as the class, and as `hold_out`.
        """
        made = object.__new__(cls)
        splits = {"train": train, "val": val, "test": test}
        names = check_names(classes, "classes")
        made._take(splits, names, name, constants, card, aspect, None, own)
        return _held_out(made)

    def __repr__(self) -> str:
        sizes = {"train": self.train, "val": self.val, "test": self.test}
        counts = ", ".join(f"{len(split)} {key}" for key, split in sizes.items() if split is not None)
        each = f", {a_class(torch.bincount(self.train.labels, minlength=self.num_classes).tolist())}"
        shape, there = "x".join(map(str, self.train.shape)), [s for s in sizes.values() if s is not None]
        held = sum(split.nbytes for split in there if isinstance(split, TensorSplit))
        kept = f"{held:,} bytes in memory" if all(isinstance(s, TensorSplit) for s in there) else "read when asked for"
        return f"Images({self.name!r}, {self.num_classes} classes{each}, {counts}, {shape}, {kept})"

    @property
    def drawn(self) -> dict[str, Any]:
        """What was chosen when it was read, as sets made of it remember: the aspect, where it is not the default."""
        return {} if self.aspect == CROP else {"aspect": self.aspect}

    @property
    def channels(self) -> int:
        """C."""
        return self.train.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.train.shape[1], self.train.shape[2]

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.classes)

    @property
    def mean(self) -> tuple[float, ...]:
        """Per-channel mean of pixels in [0, 1]: the card's or the given constant, else that of the train
        split.

        0 where there is no train split (a bare test set): nothing is ever fitted on test images, and a
        synthetic set carries its own normalisation.
        """
        return self._fitted[0]

    @property
    def std(self) -> tuple[float, ...]:
        """Per-channel population std, likewise; 1 where there is no train split."""
        return self._fitted[1]

    @cached_property
    @under_own_settings
    def _fitted(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        if self._constants is not None:
            return self._constants
        if not len(self.train):
            return (0.0,) * self.channels, (1.0,) * self.channels
        return statistics(self.train)

    @property
    @under_own_settings
    def fingerprint(self) -> str:
        """sha256 hex of the train split in use, the class names, and the mean and std that a user gave.

        So it tells val held out or not apart. A card's own constants go without saying.
        """
        total = hashlib.sha256(self.train.fingerprint.encode())
        total.update("\n".join(self.classes).encode(errors="surrogatepass"))
        if self.card is None and self._constants is not None:
            total.update(f" {self.mean} {self.std}".encode())
        return total.hexdigest()

    @cached_property
    @under_own_settings
    def twins(self) -> Twins | None:
        """How many images are there twice; `None` where their content is not known."""
        return twins(self.train, self.val, self.test)

    @under_own_settings
    def class_index(self, k: int) -> Tensor:
        """Rows of train that belong to class k, int64, ascending."""
        return (self.train.labels == k).nonzero().flatten()

    @under_own_settings
    def all_train(self) -> Images:
        """The same set with val put back where it was in train, and no val (for `protocol="paper"`)."""
        if self.val is None:
            return self
        whole = self._whole if self._whole is not None else JoinedSplit(self.train, self.val)
        return self._with(whole, None, None)

    def _with(self, train: Split, val: Split | None, whole: Split | None) -> Images:
        made = object.__new__(Images)
        splits = {"train": train, "val": val, "test": self.test}
        made._take(splits, self.classes, self.name, self._constants, self.card, self.aspect, whole, own=False)
        return made

    def _take(
        self,
        splits: Mapping[str, Split | None],
        classes: tuple[str, ...],
        name: str,
        constants: Constants | None,
        card: Card | None,
        aspect: str,
        whole: Split | None,
        own: bool,
    ) -> None:
        """Fill and check an empty one; tell the owner of data what is there twice."""
        values = {
            "name": clean_name(name) if card is None else card.name,
            "classes": classes,
            **{key: _kept(split) if key != "train" else split for key, split in splits.items()},
            "card": card,
            "aspect": aspect,
            "_constants": constants,
            "_whole": whole,
        }
        for key, value in values.items():
            object.__setattr__(self, key, value)
        self._check()
        if own:
            check_twins(self.train, self.val, self.test, "images")

    def _check(self) -> None:
        """All refusals that concern more than one image."""
        shape, trained = self.train.shape, len(self.train.labels)
        if len(self.classes) < 2:
            got = ", ".join(self.classes) or "none"
            way = "Add images of another class." if trained else f"Say how many there are: {HOW_MANY}."
            raise refuse("data", "a set of at least two classes", f"only {got}", way)
        for key, split in (("train", self.train), ("val", self.val), ("test", self.test)):
            if split is None:
                continue
            check_labels(split.labels, self.classes, f"{key} labels", 1 if key == "train" and trained else 0)
            if split.shape != shape:
                channels = split.shape[0] != shape[0]
                raise refuse(
                    f"{key} images",
                    f"of train's shape {list(shape)}",
                    str(list(split.shape)),
                    "Convert them alike." if channels else "Give `size=`.",
                )
        if self._constants is not None:
            mean, std = self._constants
            if {len(mean), len(std)} != {shape[0]} or min(std) <= 0:
                raise refuse("mean, std", f"{shape[0]} numbers each, std above 0", f"{mean}, {std}")
        elif trained and (flat := constant_channels(self.train)):
            raise refuse(
                "train images",
                "images that differ",
                f"the same constant everywhere in channel {some(flat)} of {shape[0]}",
                "Check how the images are read, or leave that channel out.",
            )


def _kept(split: Split | None) -> Split | None:
    """A split for tests, whose images are not decoded again where they fit in memory."""
    return split.kept() if isinstance(split, LazySplit) else split


@under_own_settings
def hold_out(images: Images) -> Images:
    """The same set with `val` held out of train: a tenth of each class, at least one, fixed by the data
    alone.

    Which rows is drawn for each class by a generator that knows the class and nothing else, so that no run's
    seed changes it; both parts keep the original order. A set that has a val, or no train, is returned as it
    is.

    Raises:
        InputError: a class with one image.
    """
    return _held_out(images)


def _held_out(images: Images) -> Images:
    labels = images.train.labels
    if images.val is not None or not len(labels):
        return images
    check_labels(labels, images.classes, "train", at_least=2)
    held = torch.zeros(len(labels), dtype=torch.bool)
    by_class = labels.argsort(stable=True).split(labels.bincount(minlength=len(images.classes)).tolist())
    for k, rows in enumerate(by_class):
        n = max(1, int(len(rows) * HELD_OUT + 0.5))
        held[rows[torch.randperm(len(rows), generator=seeding.child(0, "val", k))[:n]]] = True
    train, val = (images.train.subset(part.nonzero().flatten()) for part in (~held, held))
    return images._with(train, val, images.train)


def check_ipc(images: Images, ipc: int) -> None:
    """Refuse a number of images a class that is not in 1 … the smallest class of train.

    Raises:
        InputError: names the class that is too small.
    """
    if isinstance(ipc, bool) or not isinstance(ipc, int) or ipc < 1:
        raise refuse("ipc", "a whole number of images a class, at least 1", repr(ipc))
    counts = torch.bincount(images.train.labels, minlength=images.num_classes)
    k = int(counts.argmin())
    if ipc > int(counts[k]):
        held = "" if images.val is None else f" (another {int((images.val.labels == k).sum())} are held out)"
        raise refuse(
            "ipc",
            f"at most {int(counts[k])}, the images of the smallest class {name_of(k, images.classes)}{held}",
            str(ipc),
            "Lower `ipc`, or add images.",
        )
