"""How many images of each class: one number for all, or a number for each by its name."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from dd.base.shapes import check_whole
from dd.data.images.checks import name_of, some
from dd.data.images.images import Images, check_ipc
from dd.errors import refuse

Ipc = int | Mapping[str, int]
"""Images a class: a number, or one for each class by its name, or by its number where no class has that name."""


def given_ipc(ipc: object) -> int | dict[str, int]:
    """`ipc` as a method keeps it, with texts for classes.

    Raises:
        InputError: no whole number of at least 1, no such numbers by class (0 for some, not for all), or a class twice.
    """
    if not isinstance(ipc, Mapping):
        return check_whole(ipc, "ipc")
    found = {str(name): check_whole(count, f"ipc[{name!r}]", low=0) for name, count in ipc.items()}
    for name in ipc:
        if isinstance(name, bool) or not isinstance(name, str | int):
            way_out = "Give plain numbers: `{int(k): n for k, n in ipc.items()}`." if hasattr(name, "item") else ""
            raise refuse("ipc", "numbers by the names or numbers of classes", f"one of {name!r}", way_out)
    if len(found) < len(ipc):
        twice = next(name for name in ipc if isinstance(name, int) and str(name) in ipc)
        raise refuse("ipc", "one number for each class", f"{twice!r} and {str(twice)!r}")
    if not any(found.values()):
        raise refuse("ipc", "at least one image of some class", "none")
    for count in found.values():
        check_whole(count, "ipc", low=0)
    return found


def class_counts(images: Images, ipc: Ipc) -> list[int]:
    """Images of each class, in label order, of those that its training images can give.

    Raises:
        InputError: more than there are of a class, a name that no class has, or a class that is not told.
    """
    if not isinstance(ipc, Mapping):
        check_ipc(images, ipc)
        return [ipc] * images.num_classes
    counts, names = dict[int, int](), {name: k for k, name in enumerate(images.classes)}
    for name, count in ipc.items():
        k = names.get(name, int(name) if name.isascii() and name.isdecimal() and len(name) < 10 else -1)
        if not 0 <= k < images.num_classes:
            known = f"numbers by the names of classes ({some(list(images.classes))}), or by 0…{images.num_classes - 1}"
            raise refuse("ipc", known, repr(name))
        if k in counts:
            raise refuse("ipc", "one number for each class", f"two of class {name_of(k, images.classes)}")
        counts[k] = count
    if absent := [name for k, name in enumerate(images.classes) if k not in counts]:
        raise refuse("ipc", "a number for every class", f"none for {some(absent)}", "Give 0 where none is meant.")
    there = torch.bincount(images.train.labels, minlength=images.num_classes).tolist()
    for k, count in sorted(counts.items()):
        if count > there[k]:
            expected = f"at most {there[k]} of class {name_of(k, images.classes)}, its training images"
            raise refuse("ipc", expected, count, "Lower it, or add images.")
    return [counts[k] for k in range(images.num_classes)]
