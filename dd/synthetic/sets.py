"""Every kind of image set, and reading a file that may hold any of them."""

from __future__ import annotations

from pathlib import Path

from dd.files import read_meta
from dd.synthetic.compensated import CompensatedImages
from dd.synthetic.images import SyntheticImages

ImageSet = SyntheticImages | CompensatedImages
"""What the evaluation loop trains networks on."""


def load_set(path: str | Path) -> ImageSet:
    """Read a set of whatever kind; every checksum is compared.

    Raises:
        MissingError, DamagedError: see `SyntheticImages.load`.
    """
    kind = CompensatedImages if read_meta(Path(path)).get("kind") == "compensated" else SyntheticImages
    return kind.load(path)
