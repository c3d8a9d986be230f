"""Where cards, recipes, downloads and buffers live. Opens folders by path; never imports them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from dd.base.paths import as_path, expanded, is_there
from dd.base.progress import Progress, announce
from dd.errors import MissingError, refuse, unknown

# Kind of thing -> the folder of that name inside an installed package. In site-packages a sibling folder
# `datasets/` would be Hugging Face's, so the shipped copy is always looked at first.
SHIPPED: Final = {"datasets": "_cards", "expert_trajectories": "_recipes"}

_PACKAGE: Final = Path(__file__).resolve().parents[1]


def home(kind: str, explicit: str | os.PathLike[str] | None = None) -> Path:
    """The folder where downloads or buffers are kept; it need not exist yet.

    The first of: `explicit`; `$DD_HOME/<kind>`; `<kind>/store` of the checkout this package runs from;
    `~/.cache/dd/<kind>`.

    Args:
        kind: `"datasets"` or `"expert_trajectories"`.
        explicit: what the caller asked for (`root=`, `store=`), used as it is.

    Raises:
        InputError: another kind; nothing of these, as there is no home folder.
    """
    _check(kind)
    if explicit is not None:
        return expanded(as_path(explicit, "root or store"))
    if base := os.environ.get("DD_HOME"):
        return expanded(Path(base)) / kind
    if (checkout := _checkout(kind)) is not None:
        return checkout / "store"
    own = expanded(Path("~"))
    if not own.is_absolute():
        way_out = "Name a folder for what is kept, such as DD_HOME=/tmp/dd."
        raise refuse("DD_HOME", "set where there is no home folder", "neither it nor HOME", way_out)
    return own / ".cache" / "dd" / kind


def default_store(explicit: str | os.PathLike[str] | None, progress: bool | Progress | None) -> Path:
    """The folder of experts and teachers; where nobody named one and it is made now, it is said which one it is."""
    folder = home("expert_trajectories", explicit)
    if explicit is None and not is_there(folder):
        how = "`store=` (`--store`) names another folder, $DD_HOME one for all that is kept."
        announce(f"experts and teachers are kept in {folder}; {how}", progress)
    return folder


def shipped(kind: str) -> Path:
    """The folder of the TOML files that come with the library: the shipped copy first, the checkout second.

    Args:
        kind: `"datasets"` (cards) or `"expert_trajectories"` (recipes).

    Raises:
        InputError: another kind.
        MissingError: neither is there, so the installation is incomplete.
    """
    _check(kind)
    inside = _PACKAGE / SHIPPED[kind]
    if inside.is_dir():
        return inside
    if (checkout := _checkout(kind)) is not None:
        return checkout
    raise MissingError(
        f"the TOML files of {kind!r} are missing: neither {inside} nor a checkout's {kind}/ is there. "
        "Install the library again."
    )


def _checkout(kind: str) -> Path | None:
    """The folder `kind` of the checkout that this package is part of, if it is part of one."""
    root = _PACKAGE.parent
    return root / kind if (root / "setup.py").is_file() and (root / kind).is_dir() else None


def _check(kind: str) -> None:
    if kind not in SHIPPED:
        raise unknown("kind of store", kind, SHIPPED)
