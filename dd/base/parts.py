"""Parts of one piece of work that several processes make together: each is a file of a folder that all of them see.

Blocks of recovered images, batches of labels, networks of an evaluation: independent of each other, and the same bytes
whoever makes them. Who finds a part missing and unlocked makes it; what another one is making is waited for. So it
does not matter how many processes there are, or whether one of them ends in the middle.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, final

from torch import Tensor

from dd.base.files import clear, load_tensors, save_tensors
from dd.base.locks import locked
from dd.base.paths import is_there
from dd.errors import DamagedError, MissingError

Tensors = Mapping[str, Tensor]
_NAMES: Final = r"\.?[a-z]+-\d{6}\.(safetensors|lock)(\.lease)?"


@final
class Enough(Exception):
    """The one part that was asked for is there: there is nothing else to do."""


@final
class Parts:
    """Where parts are kept; without a folder they are made in this process, and not kept.

    Args:
        folder: of one piece of work, named by all that it depends on.
        only: (kind, place) of the one part that this process is to make; then `Enough` is raised. What that part
            needs, parts of kinds before it, is made too, or waited for.
    """

    def __init__(self, folder: Path | None = None, only: tuple[str, int] | None = None) -> None:
        self.folder, self._only = folder, only

    @property
    def shared(self) -> bool:
        """Whether other processes may make some of them."""
        return self.folder is not None

    def each(
        self, kind: str, places: Sequence[int], make: Callable[[int], Tensors], about: Sequence[str] = ()
    ) -> Iterator[Tensors]:
        """The parts of some places in their order, on the CPU; those that are missing are made first.

        Args:
            kind: a word of small letters.
            places: numbers below a million.
            make: the part of a place; independent of all others.
            about: what parts depend on beside the folder's name, such as hashes of teachers; parts of another one are
                made anew.

        Raises:
            Enough: see `only`.
        """
        if self.folder is None:
            yield from map(make, places)
            return
        told = {"kind": "part", "about": list(about)}
        own = [self._only[1]] if self._only is not None and self._only[0] == kind else None
        if own is not None and own[0] not in places:
            return
        self._make(self.folder, kind, places if own is None else own, make, told)
        if own is not None:
            raise Enough
        for place in places:
            yield self._read(self._path(kind, place), told) or make(place)

    def _make(
        self, folder: Path, kind: str, places: Sequence[int], make: Callable[[int], Tensors], told: Mapping[str, object]
    ) -> None:
        busy: list[int] = []
        for wait, some in ((False, places), (True, busy)):  # what another process works on comes last
            for place in some:
                path = self._path(kind, place)
                if self._read(path, told) is not None:
                    continue
                with locked(folder / f".{path.stem}.lock", wait=wait) as free:
                    if not free:
                        busy.append(place)
                    elif not wait or self._read(path, told) is None:
                        save_tensors(path, {name: t.cpu().contiguous() for name, t in make(place).items()}, told)

    def _path(self, kind: str, place: int) -> Path:
        assert self.folder is not None
        return self.folder / f"{kind}-{place:06d}.safetensors"

    @property
    def begun(self) -> bool:
        """Whether there is a folder with parts."""
        return self.folder is not None and is_there(self.folder)

    def has(self, kind: str, place: int) -> bool:
        """Whether a part is there."""
        return self.folder is not None and is_there(self._path(kind, place))

    def _read(self, path: Path, told: Mapping[str, object]) -> Tensors | None:
        """A part that is there, is whole, and depends on the same."""
        with contextlib.suppress(MissingError, DamagedError):
            tensors, found = load_tensors(path, "part")
            return tensors if found == told else None
        return None

    def forget(self) -> None:
        """Remove the folder: what the parts were for is there."""
        if self.folder is not None:
            clear(self.folder, _NAMES)


ALONE: Final = Parts()
"""Nothing is shared, and nothing kept."""
