"""Executors for tests: one that works at once, and a worker that is killed in the middle of its first unit."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class AtOnce:
    """Does in this process what is submitted, and keeps what that was."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def submit(self, function: Callable[..., Any], *given: Any) -> Done:
        self.seen.append(given)
        return Done(function(*given))


class Done:
    """A finished future."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def result(self) -> Any:
        return self._value


class Killing:
    """Submits to a pool; the worker that has `unit` first is killed once it has begun it."""

    def __init__(self, pool: Any, unit: str, flag: Path) -> None:
        self._pool, self._unit, self._flag = pool, unit, str(flag)

    def submit(self, function: Callable[..., Any], plan: str, unit: str) -> Any:
        if unit == self._unit:
            return self._pool.submit(die_once, self._flag, function, plan, unit)
        return self._pool.submit(function, plan, unit)


def die_once(flag: str, function: Callable[..., Any], plan: str, unit: str) -> Any:
    """The function's work, in the middle of which this process is killed, unless `flag` is there."""
    if not Path(flag).exists():
        Path(flag).touch()
        threading.Thread(target=_die_after, args=(Path(f"{plan}.work") / f"{unit}.json",), daemon=True).start()
    return function(plan, unit)


def _die_after(note: Path) -> None:
    while not note.exists():
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)
