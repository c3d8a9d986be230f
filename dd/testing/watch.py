"""Which files a thread writes, as Python hears of them."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, wraps
from pathlib import Path
from typing import Any, Final

import torch

_WRITES: Final = {"open": 1, "os.mkdir": 1, "os.rename": 2, "os.link": 2, "os.symlink": 2, "os.truncate": 1}
"""Events of Python that write, and how many paths they name."""
_OTHERS: Final = ("__pycache__", "torchinductor_", "matplotlib")
"""Parts of paths that Python, torch and matplotlib write when they are imported or compile a kernel."""
_HEARD: Final = threading.local()


@contextmanager
def watched(allowed: Sequence[Path]) -> Iterator[set[str]]:
    """Paths outside `allowed` that this thread writes inside the block, as Python hears of them."""
    _listen()
    _HEARD.paths, _HEARD.allowed = set(), tuple(os.path.realpath(path) for path in allowed)
    kept = torch.save
    torch.save = _told(kept)
    try:
        yield _HEARD.paths
    finally:
        torch.save = kept
        _HEARD.allowed = None


def _told(save: Callable[..., None]) -> Callable[..., None]:
    """`torch.save`, which opens its file where Python does not hear of it."""

    @wraps(save)
    def told(value: object, place: Any, *args: Any, **options: Any) -> None:
        save(value, place, *args, **options)
        if isinstance(place, str | os.PathLike):
            _hear("open", (place, "w", os.O_WRONLY))

    return told


@cache
def _listen() -> None:
    """Hear of writes from now on; such a hook cannot be removed, and does nothing outside a check."""
    sys.addaudithook(_hear)


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    allowed = getattr(_HEARD, "allowed", None)
    if allowed is None or event not in _WRITES:
        return
    if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
        return
    _HEARD.allowed = None  # the next lines are not heard
    try:
        for path in arguments[: _WRITES[event]]:
            if isinstance(path, str | bytes | os.PathLike):
                place = os.path.realpath(os.fsdecode(path))
                inside = any(place == one or place.startswith(one + os.sep) for one in allowed)
                if (
                    not inside
                    and not any(part in place for part in _OTHERS)
                    and not place.startswith(("/dev/", "/proc/"))
                ):
                    _HEARD.paths.add(place)
    finally:
        _HEARD.allowed = allowed
