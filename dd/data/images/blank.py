"""Data of a shape and a size without a picture: what a run costs does not depend on what is on them."""

from __future__ import annotations

from collections.abc import Sequence

from dd.base.bounds import check_memory
from dd.base.process import under_own_settings
from dd.base.shapes import check_names, check_whole
from dd.data.card import Card
from dd.data.images.images import Images
from dd.data.images.noise import BlankSplit
from dd.data.images.resize import parse_size
from dd.errors import refuse


@under_own_settings
def blank_images(
    classes: Sequence[str] | int,
    train: int,
    *,
    size: int | tuple[int, int],
    channels: int = 3,
    test: int = 0,
    name: str = "blank",
) -> Images:
    """Data with a shape and counts and noise for pictures: for `dd.estimate`, before the pictures are there.

    Args:
        classes: class names, or their number K ≥ 2; all have as many images, or one more than others.
        train: training images of all classes together, two a class or more. A tenth of each class is held out of them,
            as of all data.
        size: side, or (H, W).
        channels: C.
        test: test images; 0 for none.
        name: what reports call it.

    Raises:
        InputError: fewer than two classes or than two images a class, or a size, C or count below 1.
    """
    return blank(classes, train, test, channels, size, name, None)


def blank(
    classes: Sequence[str] | int,
    train: int,
    test: int,
    channels: int,
    size: int | tuple[int, int],
    name: str,
    card: Card | None,
) -> Images:
    """`blank_images`, also of a card, which gives the normalisation."""
    count = check_whole(classes, "classes") if isinstance(classes, int) else len(classes)
    pair = parse_size(size)
    if pair is None:
        raise refuse("size", "a side, or (H, W)", repr(size))
    shape = (check_whole(channels, "channels"), *pair)
    if check_whole(train, "train") < 2 * count:
        raise refuse("train", f"at least {2 * count}, two images a class", train)
    check_whole(test, "test", low=0)
    for name_of_split, images in (("train", train), ("test", test)):
        check_memory(f"the labels of `{name_of_split}`, and its rows", [2, images], "Give fewer images.", itemsize=8)
    constants = ((0.5,) * channels, (0.25,) * channels) if card is None else (card.mean, card.std)
    return Images.of(
        train=BlankSplit(train, count, shape),
        test=BlankSplit(test, count, shape) if test else None,
        classes=tuple(map(str, range(count))) if isinstance(classes, int) else check_names(classes, "classes"),
        name=name,
        constants=constants,
        card=card,
    )
