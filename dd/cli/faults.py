"""What the command line says of errors and warnings: one line, never a traceback or a line of somebody's program."""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Final

from dd.base.progress import say
from dd.errors import DDError

PROJECT: Final = "https://pypi.org/project/dd-distillation/"
"""Where faults are reported: as in `setup.py`."""
_FULL: Final = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


def said(error: Exception) -> str:
    """An error in words: the library's own as they are; of others one line, and where to report them."""
    if isinstance(error, DDError):
        return str(error)
    if isinstance(error, MemoryError):
        return "the memory of this machine is not enough. Lower what is asked for: batch, size, images or threads."
    if isinstance(error, OSError) and error.errno in _FULL:
        _let_go()
        return f"the answer could not be written ({error.strerror}). Free some space, or send it elsewhere."
    text = " ".join(str(error).split())
    told = type(error).__name__ + (f": {text[:200]}" if text else "")
    place = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"{told} ({Path(place.filename).name}, line {place.lineno}). This looks like a fault of this library: please "
        f"report it at {PROJECT} with what the same command shows with DD_DEBUG=1."
    )


def _let_go() -> None:
    """Throw away what waits for a stdout that takes no more, so that closing it is no second error."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def short_warnings(verb: str) -> Iterator[None]:
    """Warnings as one line each, without the line of a program that nobody has written."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        say(f"ddistill {verb}: warning: {' '.join(str(message).split())}", sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


@contextmanager
def open_streams() -> Iterator[None]:
    """Where the caller has closed stdout or stderr (`>&-`), what is written there goes nowhere, not to the other."""
    with ExitStack() as stack:
        for stream, redirected in ((sys.stdout, redirect_stdout), (sys.stderr, redirect_stderr)):
            if stream is None:
                stack.enter_context(redirected(io.StringIO()))
        yield
