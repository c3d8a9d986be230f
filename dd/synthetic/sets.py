"""Every kind of set, and reading a file that may hold any of them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from dd.files import read_meta
from dd.synthetic.compensated import CompensatedImages
from dd.synthetic.images import SyntheticImages
from dd.synthetic.trees import TreeSummary

ImageSet = SyntheticImages | CompensatedImages
"""What the evaluation loop trains image networks on."""

AnySet = SyntheticImages | CompensatedImages | TreeSummary
"""What `dd.distill` returns and `dd.load` reads."""

_KINDS: Final[dict[str, type[AnySet]]] = {"compensated": CompensatedImages, "trees": TreeSummary}


def load_set(path: str | Path) -> AnySet:
    """Read a set of whatever kind; every checksum is compared.

    Raises:
        MissingError, DamagedError: see `SyntheticImages.load`.
    """
    kind = str(read_meta(Path(path)).get("kind"))
    return _KINDS.get(kind, SyntheticImages).load(path)
