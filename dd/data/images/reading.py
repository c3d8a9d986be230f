"""Reading a map-style dataset ahead of its use: in worker processes where that pays, else in this one."""

from __future__ import annotations

import contextlib
import itertools
import math
import signal
import warnings
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from typing import Any, Final, TypeAlias, cast, final

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dd.data.images.splits import as_float
from dd.data.workers import reading_processes
from dd.errors import DDError, MissingError, refuse

FEW: Final = 256
"""Up to so many items the start of worker processes costs more than they save."""
AHEAD: Final = 2**25
"""Bytes of items that are read before their turn at most: half of the shared memory that a container has by default."""
_PIECE: Final = 64
"""Items that a worker reads at a time at most."""

Shape: TypeAlias = tuple[int, ...]


def read_ahead(
    dataset: Any, batches: Iterable[Tensor], shape: Shape, workers: int, itemsize: int = 1
) -> Generator[Tensor, None, None]:
    """The items of one batch after another, `[n, *shape]` each: uint8 where all of a batch are, else float32.

    The worker processes are started once for all batches, where these have more than `FEW` items, and read ahead of
    what is asked for. They end with the last batch, or where the generator is closed, at an error, at Ctrl-C, and a few
    seconds after this process is gone. Nothing is drawn from the global stream.

    Args:
        dataset: map-style; item i is a tensor of that shape, uint8 or float32 in [0, 1], or the error that says why
            there is none. Sent to the workers, so it must be picklable where these are not forked.
        batches: rows, int64 `[n]` each; taken before their turn, and there may be no end of them.
        shape: of each item.
        workers: how many processes read at most; see `reading_processes`.
        itemsize: bytes of a number in an item, by which `AHEAD` is kept.

    Raises:
        DamagedError, InputError: an item is this error, or raises it.
        InputError: no worker can be started.
        MissingError: a worker was ended by somebody else.
    """
    begun, rest = _begun(iter(batches))
    processes = reading_processes(workers, sum(map(len, begun)), FEW)
    item, sizes = max(1, math.prod(shape) * itemsize), deque[int]()
    piece = max(1, min(_PIECE, AHEAD // (2 * max(processes, 1) * item)))

    def pieces() -> Iterator[list[int]]:
        for rows in itertools.chain(begun, rest):
            sizes.append(len(rows))
            yield from (part.tolist() for part in rows.split(piece))

    source = _Pieces(dataset, shape)
    if processes:
        source[torch.cat(begun)[:1].tolist()]  # what it imports is there before the fork: torchvision is 1.5 s a worker
        batch = max(map(len, begun))
        most = AHEAD // (processes * piece * item)
        read = _in_workers(source, pieces(), processes, max(2, min(-(-batch // (piece * processes)), most)))
    else:
        read = (source[rows] for rows in pieces())
    with closing(read):
        for first in read:
            yield _whole(first, read, sizes.popleft())


def _begun(batches: Iterator[Tensor]) -> tuple[list[Tensor], Iterator[Tensor]]:
    """The first batches, with more than `FEW` items where there are so many, and the others."""
    first, items = list[Tensor](), 0
    for rows in batches:
        first.append(rows)
        items += len(rows)
        if items > FEW:
            break
    return first, batches


def _whole(first: Tensor | DDError, read: Iterator[Tensor | DDError], count: int) -> Tensor:
    """A batch of `count` items, of its first piece and those that follow."""
    images = _checked(first)
    if len(images) == count:
        return images
    out, start = images.new_empty(count, *images.shape[1:]), 0
    while True:
        if images.dtype != out.dtype:
            out, images = as_float(out), as_float(images)
        out[start : start + len(images)] = images
        start += len(images)
        if start == count:
            return out
        images = _checked(next(read))


def _checked(piece: Tensor | DDError) -> Tensor:
    if isinstance(piece, DDError):
        raise piece
    return piece


@final
class _Pieces:
    """A dataset whose items are those of several rows as one tensor, or what is wrong with one of them.

    An error is given, not raised: a raise in a worker would bury the file's name in two tracebacks.
    """

    def __init__(self, dataset: Any, shape: Shape) -> None:
        self._dataset, self._shape = dataset, shape

    def __getitem__(self, rows: list[int]) -> Tensor | DDError:
        images = list[Tensor]()
        for row in rows:
            try:
                item = self._dataset[row]
            except DDError as error:
                item = error
            except StopIteration as error:  # which would be taken for the end of the data
                raise RuntimeError(f"item {row} of the data raised StopIteration") from error
            if isinstance(item, DDError):
                return item
            if item.shape != self._shape:
                expected = f"of shape {list(self._shape)}, as it was when the data was loaded"
                way_out = "Leave data that is in use as it is, and load it again."
                return refuse(f"item {row} of the data", expected, str(list(item.shape)), way_out)
            images.append(item)
        if not images:
            return torch.empty((0, *self._shape), dtype=torch.uint8)
        if all(image.dtype == torch.uint8 for image in images):
            return torch.stack(images)
        return torch.stack([as_float(image) for image in images])


def _in_workers(
    source: _Pieces, pieces: Iterator[list[int]], processes: int, ahead: int
) -> Generator[Tensor | DDError, None, None]:
    """What workers read, in order, each up to `ahead` pieces before its turn."""
    loader: DataLoader[Any] = DataLoader(
        cast("Dataset[Any]", source),
        batch_size=None,
        sampler=pieces,
        num_workers=processes,
        prefetch_factor=ahead,
        collate_fn=_as_it_is,
        worker_init_fn=_settle,
        generator=torch.Generator(),
    )
    read: Any = None
    try:
        with _interrupts_wait():
            read = _started(loader)
        yield from read
    except (RuntimeError, OSError, EOFError) as error:
        if read is None or not _is_gone(read, error):
            raise
        way_out = "Where memory is short give `workers=1`, or `workers=0` to read in this process."
        raise MissingError(
            f"a process that reads data is gone ({str(error) or type(error).__name__}). {way_out}"
        ) from error
    finally:
        if read is not None:
            with contextlib.suppress(RuntimeError):  # torch's own handler, which tells once more of one that is gone
                read._shutdown_workers()  # by the reference count alone a traceback would keep them


def _is_gone(read: Any, error: Exception) -> bool:
    """Whether an error comes of a worker that has not ended by itself; its pipes may tell first."""
    if "DataLoader worker (pid" in str(error):
        return True
    for worker in read._workers:
        worker.join(0.1)
    return any(worker.exitcode for worker in read._workers)


def _started(loader: DataLoader[Any]) -> Iterator[Any]:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Got pickle error")  # the error itself follows
            return iter(loader)
    except Exception as error:  # no memory for a process, or a dataset that cannot be sent to one
        cause = (str(error).splitlines() or [""])[0]
        got = f"{loader.num_workers}, of which none can be started ({type(error).__name__}: {cause})"
        raise refuse("workers", "a number of processes that can read the data", got, "Give `workers=0`.") from error


def _as_it_is(piece: Any) -> Any:
    return piece


def _settle(worker: int) -> None:
    """In a worker: Ctrl-C is for its parent, which ends it; what the parent does at SIGTERM is not for it."""
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Ctrl-C comes after the block; processes started in it never see one, which would print a traceback there."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
