"""The most that a number may be, by the name of its argument, and what the memory of this machine holds.

One table for the fields of methods, recipes and models, and for the options of verbs and of the command line: a number
beyond it is a slip, and is refused before anything is read, trained or allocated.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from dd.base.texts import shown
from dd.errors import InputError, refuse

_TABLE: Final[tuple[tuple[float, str, str], ...]] = (
    (2**63 - 1, "seed", "Take another whole number."),
    (1024, "threads workers ranks", "Give the number of cores at most."),
    (100, "depth layers heads rounds tasks canvas hops", "Give a smaller one."),
    (8192, "size", "Give the side in pixels."),
    (16_384, "width channels voters crops candidates factor canvas_samples queue", "Give a smaller one."),
    (10_000, "repeats seeds count shadows experts jitter restarts", "Give a smaller one."),
    (100_000, "snapshots bins experiment first", "Give a smaller one."),
    (1_000_000, "ipc classes per_class", "Give a smaller one."),
    (
        10_000_000,
        "iterations steps student_steps full_steps shadow_steps attack_steps epochs label_epochs drop_epochs min_steps "
        "expert_epochs min_start_epoch max_start_epoch current_start_epoch window_iterations candidate_every truncate "
        "ramp_every snapshot_every every queue_every queue_steps batch batch_size batch_real batch_syn micro_batch "
        "reuse images accumulate split frequencies nodes entries k",
        "Give a smaller one.",
    ),
    (10**9, "max_patterns max_distinct", "Give a smaller one."),
    (2**50, "budget_bytes label_bytes limit", "Give bytes."),
)
MOST: Final = {name: (most, way) for most, names, way in _TABLE for name in names.split()}
"""(the most, the way out) by name."""
ANY: Final = (10**38, "Give a smaller one.")
"""Of every other number: float32 holds no larger one."""
_LEAST: Final = {"seed": 0, "micro_batch": 1, "reuse": 0}
_INFINITE: Final = {"skip_above"}
"""Where infinity means never."""


def check_range(argument: str, value: float) -> None:
    """Refuse a number that is not finite, or beyond what the argument of that name may be.

    Raises:
        InputError: with the bound and the way out.
    """
    most, way_out = MOST.get(argument, ANY)
    least = _LEAST.get(argument, -most)
    if value != value or (value == math.inf and argument not in _INFINITE) or value == -math.inf:
        raise refuse(argument, "a finite number", shown(value))
    if value > most and value != math.inf:
        raise refuse(
            argument, f"at most {most:,}" if most < 10**20 else f"at most {float(most):g}", shown(value), way_out
        )
    if value < least:
        raise refuse(
            argument, f"at least {least:,}" if least > -(10**20) else f"at least {float(least):g}", shown(value)
        )


def check_ranges(argument: str, value: Any) -> None:
    """`check_range` of a number, or of each number in a list; whatever else there is, is not looked at."""
    if isinstance(value, list | tuple):
        for one in value:
            check_ranges("seed" if argument == "seeds" else argument, one)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        check_range(argument, value)


def machine_bytes() -> int:
    """Bytes of memory that this process may use at most; a very large number where the system does not say."""
    found = [2**62]
    try:
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        pass  # not on Windows
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = (Path("/sys/fs/cgroup") / name).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdecimal():
            found.append(int(text))
    return min(size for size in found if size > 0)


def check_memory(what: str, shape: Sequence[float], way_out: str, itemsize: int = 4) -> None:
    """Refuse numbers that cannot all be in the memory of this machine.

    Args:
        what: they are, for the message.
        shape: factors of their number.
        way_out: for the message.
        itemsize: bytes of each.

    Raises:
        InputError: with both figures.
    """
    need, there = math.prod(shape) * itemsize, machine_bytes()
    if need > there:
        raise InputError(
            f"{what} would take {need / 2**30:,.1f} GiB of memory, and this machine has {there / 2**30:,.1f} GiB. "
            f"{way_out}"
        )
