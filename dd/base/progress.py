"""Progress bars that are quiet when nobody watches."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

from dd.base.parallel import is_main
from dd.base.texts import printable, shown
from dd.errors import refuse

if TYPE_CHECKING:
    from tqdm import tqdm

Progress = Callable[[int, int, str], None]
"""(done, total, text) → None."""


def silent(done: int, total: int, text: str) -> None:
    """The progress that tells nothing."""
    del done, total, text


class Screen:
    """Standard error as it is now, which no run ends for: not by its encoding, nor because nobody reads it any more."""

    def __init__(self) -> None:
        self._file = sys.stderr

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, text: str) -> None:
        """Write, other letters than the encoding has as escapes."""
        with contextlib.suppress(OSError, ValueError, AttributeError):  # gone, closed, or none at all, as on Windows
            try:
                self._file.write(text)
            except UnicodeEncodeError:
                self._file.write(text.encode("ascii", "backslashreplace").decode())

    def flush(self) -> None:
        """Flush."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._file.flush()


class Bars:
    """One tqdm bar at a time, on stderr; a new total or a step backwards opens the next one.

    Args:
        label: shown before the bar.
        shown: `None` shows bars on a terminal only, `True` and `False` say so.
    """

    def __init__(self, label: str, shown: bool | None = None) -> None:
        shown = False if sys.stderr is None else shown
        self._label, self._disable = label, None if shown is None else not shown
        self._bar: tqdm[None] | None = None

    def __call__(self, done: int, total: int, text: str) -> None:
        bar = self._bar
        if bar is None or bar.total != total or done < bar.n:
            from tqdm import tqdm

            self.close()
            bar = self._bar = tqdm(total=total, desc=printable(self._label), disable=self._disable, file=Screen())
        bar.set_postfix_str(printable(text), refresh=False)
        bar.update(done - bar.n)
        if done >= total:
            self.close()

    def close(self) -> None:
        """Finish the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def reporter(label: str, progress: bool | Progress | None) -> Progress:
    """The user's own callable, or bars.

    Raises:
        InputError: something else.
    """
    if callable(progress):
        return progress
    if progress is not None and not isinstance(progress, bool):
        raise refuse("progress", "True, False, None or a callable (done, total, text)", shown(progress))
    return Bars(label, progress)


def announce(text: str, progress: bool | Progress | None = None) -> None:
    """One line on stderr, unless progress was switched off."""
    if progress is not False:
        Screen().write(printable(f"{text}\n"))
        Screen().flush()


def say(text: object, stream: TextIO | None = None) -> None:
    """A line on stdout or another stream; what it quotes cannot steer a terminal. Of a torchrun one process says it."""
    if stream is not None or is_main():
        print(printable(str(text)), file=stream, flush=True)
