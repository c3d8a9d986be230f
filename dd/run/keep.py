"""Where the answer of a measurement is kept: in the set's run folder, or where `out=` says."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, cast, final

from dd.base.files import check_writable, read_json, write_json
from dd.base.paths import as_path, is_folder, is_there, kind_at
from dd.errors import DDError, WriteError, refuse, warn
from dd.run.folder import REPORT
from dd.synthetic.file import SET, Kept

Out = str | Path | Literal[False] | None
"""A folder, a `.json` file, nowhere, or the set's own run folder where it has one."""
FORMAT: Final = 1
Measure = TypeVar("Measure", bound=Callable[..., Any])


@final
@dataclass(frozen=True)
class Place:
    """One answer's place.

    Attributes:
        path: the JSON file; `None`: it is kept nowhere.
        run: the set's own run folder, where that is what holds the file.
    """

    path: Path | None = None
    run: Path | None = None

    @property
    def page(self) -> Path | None:
        """The page that is written beside a report in the run folder."""
        return self.run / "index.html" if self.run is not None and self.path == self.run / REPORT else None

    def keep(self, answer: object, write: Callable[[Path], object]) -> None:
        """Write the answer.

        Raises:
            WriteError: the disk refuses; the message has the numbers, and `error.answer` is what was measured.
        """
        if self.path is None:
            return
        try:
            write(self.path)
        except WriteError as error:
            failed = WriteError(f"{error} What was measured:\n{answer}")
            failed.answer = answer
            raise failed from error


def place_of(small: object, out: Out, name: str) -> Place:
    """Where an answer about a set goes, refused before anything is computed.

    Args:
        small: the set, its file or its run folder.
        out: a folder, which gets `name`; a file that ends in `.json`; `None`: the run folder that the set was distilled
            into, or that its path names, and nowhere for other sets; `False`: nowhere.
        name: of the file in a folder.

    Raises:
        InputError: `out` is something else, the run folder of another set, or a file that is no such answer.
        WriteError: `out` cannot be written. A run folder that nobody named only warns: it may be another one's.
    """
    own = _own_folder(small)
    if out is False or (out is None and own is None):
        return Place()
    if not isinstance(out, str | os.PathLike | None):
        raise refuse("out", "a folder, a `.json` file, None or False", repr(out))
    path = as_path(own if out is None else out, "out")
    if path.suffix != ".json":
        if kind_at(path) not in (None, "a folder"):
            raise refuse("out", "a folder or a file that ends in `.json`", path)
        path /= name
    try:
        check_writable(path)
    except WriteError as error:
        if out is not None:
            raise
        warn(f"The answer is not kept: {error} Give `out=`.")
        return Place()
    ours = own is not None and os.path.realpath(path.parent) == os.path.realpath(own)
    if not ours and path.name == name and is_there(path.parent / SET):
        raise refuse("out", "a folder of its own, or this set's run folder", f"{path.parent}, which has another set")
    if not (ours and path.name == name) and not _may_be_replaced(path):
        way_out = "Name another one, or move that file away."
        raise refuse("out", "a new file, or an answer that a later one replaces", f"{path}, which is neither", way_out)
    return Place(path, path.parent if ours else None)


def set_aside(path: Path, dataset: str, split: str) -> str:
    """What is said of an earlier report at `path` before one on such data replaces it; of other data it is kept beside.

    Returns:
        A sentence; empty where no report is there.

    Raises:
        WriteError: the disk refuses; the report is where it was.
    """
    try:
        old = read_json(path, "report")
    except DDError:
        return ""
    own = old["rows"][0]
    was = f"{own['metric']} {100 * own['mean']:.1f} % with {own['model']} on {old['dataset']} ({old['split']})"
    if (old["dataset"], old["split"]) == (dataset, split):
        return f"{path} is replaced; it had {was}."
    places = (path.with_name(f"{path.stem}-{number}.json") for number in itertools.count(1))
    aside = next(place for place in places if not is_there(place))
    write_json(aside, old)
    return f"{path} is replaced; what it had is kept as {aside}: {was}."


def _may_be_replaced(path: Path) -> bool:
    """Whether nothing is lost by a new answer at `path`: nothing is there, or an answer that nobody has changed."""
    if not is_there(path) or not path.stat().st_size:
        return True
    for kind in ("report", "measures"):
        with contextlib.suppress(DDError):
            read_json(path, kind)
            return True
    return False


def _own_folder(small: object) -> Path | None:
    """The run folder that holds a set, as it should be named: below the current folder without that."""
    if isinstance(small, str | Path):
        return Path(small) if is_folder(as_path(small, "small")) else None
    kept = getattr(small, "kept", None)
    if not isinstance(kept, Kept) or not kept.current:
        return None
    with contextlib.suppress(FileNotFoundError):  # the current folder was removed
        here = Path.cwd()
        return kept.folder.relative_to(here) if kept.folder.is_relative_to(here) else kept.folder
    return kept.folder


def write_measures(path: Path, measures: Mapping[str, Any]) -> None:
    """The file of measures by name: `{format, measures: {name: …}}`."""
    write_json(path, {"format": FORMAT, "measures": dict(measures)})


def kept(name: str) -> Callable[[Measure], Measure]:
    """A measure `f(small, data, …)` that also takes `out=`, and keeps its answer as `NAME.json` (see `place_of`)."""

    def decorate(measure: Measure) -> Measure:
        @functools.wraps(measure)
        def call(small: object, data: object, *args: Any, out: Out = None, **options: Any) -> Any:
            place = place_of(small, out, f"{name}.json")
            answer = measure(small, data, *args, **options)
            place.keep(answer, lambda path: write_measures(path, {name: answer.to_json()}))
            return answer

        return cast(Measure, call)

    return decorate
