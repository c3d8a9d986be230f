"""Many processes, one store: rank and world size from torchrun, and the share of a work list that is ours.

A single process is world size 1. There is no scheduler: work items are files, and whoever finds one missing and
unlocked makes it.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, Final, TypeVar

from dd.base.version import __version__
from dd.errors import MissingError, refuse

T = TypeVar("T")

_PATIENCE: Final = timedelta(days=30)  # torch's 30 minutes are less than one expert may take


_OF_A_MACHINE: Final = ("out", "store", "root", "device", "threads", "progress", "executor", "download", "fields")
_ALONE: Final = ContextVar("alone", default=False)
_CREW: Final[ContextVar[tuple[int, int]]] = ContextVar("crew", default=(0, 1))


@contextmanager
def alone() -> Iterator[None]:
    """Inside the block this process is a world of its own: what is made there is no work of all ranks of a torchrun."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


@contextmanager
def together(asked: Mapping[str, Any]) -> Iterator[tuple[int, int]]:
    """All processes of a torchrun in one verb: they meet before it and wait for each other after it.

    Inside each is a world of its own, and work is shared by locks and parts in folders (`dd.base.parts`), so that it is
    no matter how many there are. Yields rank and world size; a process alone neither meets nor waits.

    Args:
        asked: the arguments of the verb; but for places and devices, which are of a machine, they are equal everywhere.

    Raises:
        InputError: processes ask for different things, or are of different versions.
        MissingError: a process never came, or ended before the others.
    """
    whole = world()
    meet()
    if whole[1] > 1:
        _check_same(asked)
    token = _CREW.set(whole)
    try:
        with alone():
            yield whole
    finally:
        _CREW.reset(token)
    barrier()


def _check_same(asked: Mapping[str, Any]) -> None:
    import torch.distributed as dist

    if dist.get_backend() != "gloo":  # a group that the caller formed
        return
    told = {name: _text(value) for name, value in asked.items() if name not in _OF_A_MACHINE}
    told |= {name: _text(value) for name, value in asked.get("fields", {}).items()}
    own = {**told, "version": __version__}
    others: list[dict[str, str]] = [{} for _ in range(world()[1])]
    try:
        dist.all_gather_object(others, own)
    except RuntimeError as error:
        raise _ended(error) from error
    for rank, other in enumerate(others):
        for name in sorted({*others[0], *other}):
            here, there = (one.get(name, "nothing") for one in (others[0], other))
            if here != there:
                way_out = "Start all of them with the same words and the same version."
                raise refuse(name, f"the same in all processes, {here} in rank 0", f"{there} in rank {rank}", way_out)


def _text(value: object) -> str:
    """A plain value as text; of others, which may be different objects of equal content, the type alone."""
    if isinstance(value, list | tuple):
        return f"({', '.join(map(_text, value))})"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{name}: {_text(one)}' for name, one in value.items())}}}"
    if isinstance(value, str):
        return value.partition(":")[0]  # of `imagefolder:PATH` the place is of a machine
    return repr(value) if value is None or isinstance(value, int | float) else type(value).__name__


def crew() -> tuple[int, int]:
    """Rank and number of the processes that are in one verb, inside `together`; `(0, 1)` elsewhere."""
    return _CREW.get()


@contextmanager
def training_group(device: str) -> Iterator[Any]:
    """A group of the whole crew for what they train as one: by NCCL on CUDA, else by gloo. All of them enter it.

    It waits for a month: between two of its calls one rank may do alone what takes long.

    Raises:
        MissingError: another process has ended.
    """
    import torch.distributed as dist

    backend = "nccl" if device == "cuda" and dist.is_nccl_available() else "gloo"
    try:
        group = dist.new_group(backend=backend, timeout=_PATIENCE)
        try:
            yield group
        finally:
            dist.destroy_process_group(group)
    except RuntimeError as error:
        if _is_of_processes(error):
            raise _ended(error) from error
        raise


def world() -> tuple[int, int]:
    """`(rank, world size)` as torchrun sets them; `(0, 1)` outside it, and inside `alone`.

    Raises:
        InputError: the variables are not numbers with 0 ≤ rank < world size.
    """
    if _ALONE.get():
        return 0, 1
    told = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if not (told[0].isdecimal() and told[1].isdecimal() and int(told[0]) < int(told[1])):
        raise refuse("RANK, WORLD_SIZE", "numbers with 0 ≤ rank < size", told, "Unset them, or use torchrun.")
    return int(told[0]), int(told[1])


def shard(work: Sequence[T]) -> list[T]:
    """Every `world size`-th item, from `rank` on."""
    rank, size = world()
    return list(work[rank::size])


def is_main() -> bool:
    """Whether this process is the one that prints and writes shared files."""
    return world()[0] == 0


def meet() -> None:
    """Wait until every process of a torchrun is there, and form their group (gloo); nothing in a single process.

    Call it before the work: who works on is waited for for long (`barrier`), who never came is not.

    Raises:
        MissingError: a process did not come within 5 minutes, or `DD_MEETING_SECONDS`.
        InputError: that is no number, or the address to meet at is not set.
    """
    (rank, size), patience = world(), _meeting_time()
    if size == 1:
        return
    import torch.distributed as dist

    if dist.is_initialized():
        return
    try:
        store = _store(rank, patience)
        store.set(f"here {rank}", "")
        absent = _absent(store, size, patience)
        if not absent:
            dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=patience)
            return
        told = f"rank {', '.join(map(str, absent))} of {size} did not come"
    except RuntimeError as error:  # also torch's DistError
        told = f"rank 0 of {size} did not come, or another one ended while they met ({str(error).splitlines()[0]})"
    raise MissingError(
        f"{told} within {patience.total_seconds():g} s. Start all processes again; what is stored stays, and a longer "
        "wait is DD_MEETING_SECONDS."
    )


def barrier() -> None:
    """Wait for the other processes of a torchrun to finish their work; nothing in a single process.

    Raises:
        MissingError: one of them has ended before, or did not meet.
    """
    if world()[1] == 1:
        return
    import torch.distributed as dist

    meet()
    try:
        if dist.get_backend() == "gloo":
            dist.monitored_barrier(timeout=_PATIENCE)
        else:  # a group that the caller formed
            dist.barrier()
    except RuntimeError as error:
        raise _ended(error) from error


def _ended(error: RuntimeError) -> MissingError:
    return MissingError(
        "another process of this torchrun ended before its work was done "
        f"({str(error).splitlines()[0]}). What it stored stays; run all of them again."
    )


def _is_of_processes(error: RuntimeError) -> bool:
    """Whether an error is one of the group (gloo's have no class of their own), not of what is computed in it."""
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or "gloo" in str(error).partition("\n")[0].lower()


def _meeting_time() -> timedelta:
    told = os.environ.get("DD_MEETING_SECONDS", "300")
    if not (told.isdecimal() and 0 < int(told) <= _PATIENCE.total_seconds()):
        raise refuse("DD_MEETING_SECONDS", f"seconds from 1 to {_PATIENCE.total_seconds():.0f}", repr(told))
    return timedelta(seconds=int(told))


def _store(rank: int, patience: timedelta) -> Any:
    """Where processes leave word for each other: torchrun's own store, or rank 0's."""
    dist: Any = importlib.import_module("torch.distributed")  # its stores have no types
    host, port = os.environ.get("MASTER_ADDR", ""), os.environ.get("MASTER_PORT", "")
    if not (host and port.isdecimal() and 0 < int(port[:9]) < 65536):
        raise refuse("MASTER_ADDR, MASTER_PORT", "a host and a port", (host, port), "Use torchrun, which sets them.")
    theirs = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    store = dist.TCPStore(
        host, int(port), is_master=rank == 0 and not theirs, timeout=patience, wait_for_workers=False, multi_tenant=True
    )
    return dist.PrefixStore(f"dd {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)


def _absent(store: Any, size: int, patience: timedelta) -> list[int]:
    """Ranks that did not leave word in time."""
    names = [f"here {rank}" for rank in range(size)]
    try:
        store.wait(names, patience)
    except RuntimeError:
        return [rank for rank, name in enumerate(names) if not store.check([name])]
    return []
