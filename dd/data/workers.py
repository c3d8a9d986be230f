"""How many processes read: none where starting them would run the user's script once more."""

from __future__ import annotations

import ast
import multiprocessing
import os
import sys
from pathlib import Path


def usable_cpus() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def reading_processes(wanted: int, items: int, few: int) -> int:
    """Processes that read `items` things, at most `wanted`; 0: read in this one.

    Args:
        wanted: how many there may be.
        items: how many things are read.
        few: below this many the start of processes costs more than they save.
    """
    return min(wanted, usable_cpus()) if items > few and wanted > 0 and can_start() else 0


def can_start() -> bool:
    """Whether worker processes can be started here.

    Where they are not forked (Windows, macOS, Linux from Python 3.14 on, or `multiprocessing.set_start_method`), each
    imports the main script again. One that calls this library outside `if __name__ == "__main__":` would be run again
    by every worker, and fail there. Workers of others, as those of a `multiprocessing.Pool`, may not start any.
    """
    if multiprocessing.current_process().daemon:
        return False
    method = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    return method == "fork" or _is_guarded()


def _is_guarded() -> bool:
    """Whether a new process that imports the main script would not come to this call."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if file is None:  # a prompt, a notebook, `-c`: there is nothing to import
        return True
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (OSError, ValueError, SyntaxError):  # a program in an archive, or one that was changed since
        return False
    guards = [node for node in tree.body if isinstance(node, ast.If) and _asks_name(node.test)]
    line = _line_of(vars(main))
    return any(line is None or node.lineno <= line <= (node.end_lineno or node.lineno) for node in guards)


def _asks_name(test: ast.expr) -> bool:
    return any(isinstance(node, ast.Name) and node.id == "__name__" for node in ast.walk(test))


def _line_of(names: dict[str, object]) -> int | None:
    """The line of the main script's own text that led here; `None` in another thread."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_globals is names and frame.f_code.co_name == "<module>":
            return frame.f_lineno
    return None
