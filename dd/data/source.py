"""Where and how data is read, as a verb is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where data is and how it is read: what a verb that takes `data` also takes by these names.

    Attributes:
        root: folder of the data set's files.
        download: fetch the data set where it can be fetched.
        size: side of the pictures in pixels, or (height, width).
        aspect: of pictures that are brought to one size: `crop` keeps proportions, `squash` does not; by default what
            the preset's row or the set says.
        split: of graphs and nodes: which random split, `published`, or `random:K`, which draws one where there are
            masks too.
    """

    root: str | Path | None = None
    download: bool = False
    size: int | tuple[int, int] | None = None
    aspect: Literal["crop", "squash"] | None = None
    split: int | str | None = 0
