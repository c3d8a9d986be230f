"""Settings that a verb computes under, whatever its caller has set; and threads and allocator of the process."""

from __future__ import annotations

import ctypes
import functools
import inspect
import os
import platform
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar, cast

import numpy as np
import torch
from PIL import ImageFile

from dd.base.shapes import check_options, check_whole
from dd.errors import refuse

P = ParamSpec("P")
R = TypeVar("R")

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -3, -4, -8
_KEPT: Final = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**30))
"""Inside a verb: blocks of all sizes in the heap, of which a gigabyte may lie free."""
_USUAL: Final = ((_M_MMAP_MAX, 65536), (_M_MMAP_THRESHOLD, 2**25), (_M_TRIM_THRESHOLD, 2**26))
"""After it: what glibc's own thresholds grow to in a process that has freed blocks of 32 MB."""
_NORMAL: Final = 2.0**-1022  # the smallest float64 that is no denormal
_NUMPY: Final[dict[str, Any]] = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
_DEVICES: Final = ("cpu", "cuda", "mps", "xpu")
_FULL: Final = ("ieee", "none")
_TF32: Final = "tf32"


def tune_process(threads: int | None = None, allocator: bool = True) -> dict[str, object]:
    """Set threads and keep freed memory in the process; returns what was set, for the record.

    glibc gives large blocks back to the kernel and faults them in again: on CPU that is up to half the time of a
    create-graph loop. `M_MMAP_MAX=0` and no trimming keep the pages; the further arenas that glibc would give to
    other threads know neither, so there is one. The command line does so; in Python, verbs keep up to a gigabyte for
    as long as they compute (`keeping_pages`), and this is for a process that does little else. It holds for the whole
    process and cannot be taken back.

    Only on glibc; `allocator=False`, `DD_ALLOCATOR=0`, settings of one's own (`MALLOC_…`, `GLIBC_TUNABLES`) and another
    allocator (`LD_PRELOAD`) leave all as it is.

    Args:
        threads: intra-op threads of torch, ≥ 1; `None` leaves them.
        allocator: whether to set the allocator.

    Raises:
        InputError: fewer than one thread.
    """
    done: dict[str, object] = {}
    if threads is not None:
        torch.set_num_threads(check_whole(threads, "threads"))
        done["threads"] = threads
    if allocator and _own_allocator():
        done["allocator"] = _mallopt((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_ARENA_MAX, 1))
        _PAGES.tuned = True
    return done


def _own_allocator() -> bool:
    """Whether the allocator is glibc's, and nobody has said what it should do."""
    preloaded = "alloc" in os.environ.get("LD_PRELOAD", "")
    told = any(name.startswith("MALLOC_") for name in os.environ) or "malloc" in os.environ.get("GLIBC_TUNABLES", "")
    wanted = os.environ.get("DD_ALLOCATOR", "1") != "0"
    return wanted and not preloaded and not told and platform.libc_ver()[0] == "glibc"


def _mallopt(*options: tuple[int, int]) -> bool:
    """Set options of malloc; whether all were taken."""
    mallopt, taken = ctypes.CDLL(None).mallopt, True
    for option, value in options:
        taken = bool(mallopt(option, value)) and taken
    return taken


@contextmanager
def own_settings(threads: int | None = None) -> Iterator[None]:
    """What changes the bytes of a result, as torch has it from the start, inside the block; given back at its end.

    Of this thread: gradients on, inference mode and autocast off, tensors on the CPU where no device is told, denormal
    numbers kept, numpy's errors as warnings. Of the process: float32 as the default type and as the precision of
    products, oneDNN on, no choice of convolutions by the clock, pictures that are cut off refused; where several
    threads compute, the last one to end gives these back. What else differs is the caller's road: threads,
    deterministic algorithms, anomaly detection.

    A block inside another finds all as it should be, and takes microseconds.

    In a process that was forked after such a block, torch would wait for ever for threads that only the parent has:
    there it is one thread.

    Args:
        threads: intra-op threads of torch inside the block, ≥ 1; `None` leaves them. They are given back too.

    Raises:
        InputError: fewer than one thread, or several in such a process.
    """
    before, threads = torch.get_num_threads(), _threads_after_fork(threads)
    with ExitStack() as stack:
        _SHARED.take()
        stack.callback(_SHARED.give_back)
        _enter_thread(stack)
        try:
            if threads is not None:
                tune_process(threads, allocator=False)
            yield
        finally:
            if torch.get_num_threads() != before:
                torch.set_num_threads(before)


class _Pages:
    """Whether freed memory stays in the process: the first verb under way says so, the last one takes it back.

    Attributes:
        tuned: the user has set it for the whole process.
    """

    def __init__(self) -> None:
        self._lock, self._users, self._kept, self.tuned = threading.Lock(), 0, False, False

    def take(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1 and not self.tuned and _own_allocator():
                self._kept = _mallopt(*_KEPT)

    def give_back(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users and self._kept and not self.tuned:
                _mallopt(*_USUAL)
                ctypes.CDLL(None).malloc_trim(0)
            self._kept = self._kept and bool(self._users)

    def fork(self) -> None:
        """In the child: no thread of the parent is there, nor one that could hold the lock."""
        self._lock = threading.Lock()


_PAGES: Final = _Pages()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_PAGES.fork)


def keeping_pages(function: Callable[P, R]) -> Callable[P, R]:
    """Run each call of a function with freed memory kept in the process, up to a gigabyte; then it is given back.

    Only on glibc, and not where someone has said otherwise: see `tune_process`.
    """

    @functools.wraps(function)
    def made(*args: P.args, **kwargs: P.kwargs) -> R:
        _PAGES.take()
        try:
            return function(*args, **kwargs)
        finally:
            _PAGES.give_back()

    return made


def under_own_settings(function: Callable[P, R]) -> Callable[P, R]:
    """Run each call of a function in `own_settings`, with its keyword `threads` where it is given one.

    What it is given by name is compared with the annotations and bounds first (`dd.base.shapes.check_options`).

    A generator computes in them and yields outside, so that its reader keeps the settings that it has.
    """
    if inspect.isgeneratorfunction(function):
        made = _stepwise(function)
    else:

        @functools.wraps(function)
        def made(*args: P.args, **kwargs: P.kwargs) -> Any:
            check_options(function, kwargs)
            with own_settings(cast("int | None", kwargs.get("threads"))):
                return function(*args, **kwargs)

    made.__dict__["own_settings"] = True
    return cast("Callable[P, R]", made)


def _stepwise(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def steps(*args: Any, **kwargs: Any) -> Iterator[Any]:
        generator = function(*args, **kwargs)
        try:
            while True:
                with own_settings():
                    try:
                        item = next(generator)
                    except StopIteration:
                        return
                yield item
        finally:
            with own_settings():
                generator.close()

    return steps


def _threads_after_fork(threads: int | None) -> int | None:
    """The threads asked for; in a process that was forked after a block one, or refuse more."""
    if not _SHARED.forked:
        return threads
    if threads is not None and threads > 1:
        way_out = 'Start it by `multiprocessing.get_context("spawn")`.'
        raise refuse("threads", "1 in a process that was forked after this library had computed", threads, way_out)
    return 1 if threads is None else threads


def _enter_thread(stack: ExitStack) -> None:
    """What belongs to this thread alone; each is given back when `stack` is closed."""
    if torch.is_inference_mode_enabled() or not torch.is_grad_enabled():
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
    for device in _DEVICES:
        if torch.is_autocast_enabled(device):
            stack.callback(torch.clear_autocast_cache)  # weights may have been trained
            stack.callback(torch.set_autocast_enabled, device, True)
            torch.set_autocast_enabled(device, False)
    if torch.get_default_device().type != "cpu":
        stack.enter_context(torch.device("cpu"))
    if _NORMAL / 2 == 0.0:
        stack.callback(torch.set_flush_denormal, True)
        torch.set_flush_denormal(False)
    if np.geterr() != _NUMPY:
        stack.enter_context(np.errstate(**_NUMPY))


class _Setting(NamedTuple):
    """A setting of the process: how it is read and written, and the values that change nothing, ours first."""

    read: Callable[[], Any]
    write: Callable[[Any], Any]
    own: tuple[Any, ...]


def _products() -> str | None:
    """torch's precision of products by its older call; `None` where it was set by the newer ones."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None


def _part(owner: object, name: str) -> Any:
    """A part of torch's back ends that its types do not know of."""
    return getattr(owner, name)


def _of(owner: Any, name: str, *own: Any) -> _Setting:
    return _Setting(lambda: getattr(owner, name), lambda value: setattr(owner, name, value), own)


# The older call comes first, and those that others inherit from before these.
_SETTINGS: Final = (
    _Setting(torch.get_default_dtype, torch.set_default_dtype, (torch.float32,)),
    _Setting(_products, torch.set_float32_matmul_precision, ("highest", None)),
    _of(torch.backends, "fp32_precision", *_FULL),
    _Setting(
        lambda: torch.backends.mkldnn.fp32_precision,
        lambda value: torch.backends.mkldnn.set_flags(_fp32_precision=value),
        _FULL,
    ),
    _of(_part(torch.backends.mkldnn, "matmul"), "fp32_precision", *_FULL),
    _of(_part(torch.backends.mkldnn, "conv"), "fp32_precision", *_FULL),
    _of(torch.backends.cuda.matmul, "fp32_precision", *_FULL),
    # Convolutions on CUDA have 10 bits of mantissa by default (TF32); here they have all of them.
    _of(torch.backends.cudnn, "fp32_precision", *_FULL),
    _of(_part(torch.backends.cudnn, "conv"), "fp32_precision", "ieee"),
    _of(torch.backends.cudnn.rnn, "fp32_precision", "ieee"),
    _of(torch.backends.mkldnn, "enabled", True),
    _of(torch.backends.cudnn, "benchmark", False),
    _of(ImageFile, "LOAD_TRUNCATED_IMAGES", False),  # or else what a cut-off picture lacks is believed to be grey
)


class _Shared:
    """Settings of the process while any thread computes: changed by the first, given back by the last.

    Attributes:
        forked: whether this process is a child of one in which something was computed.
        reduced: blocks of `tf32` that are open.
    """

    def __init__(self) -> None:
        self._lock, self._users = threading.Lock(), 0
        self._used = self.forked = False
        self.reduced = 0
        self._before: list[tuple[_Setting, Any]] = []

    def take(self) -> None:
        with self._lock:
            self._users, self._used = self._users + 1, True
            for setting in _SETTINGS:
                value = setting.read()
                if value not in setting.own and not (self.reduced and value == _TF32):
                    self._before.append((setting, value))
                    setting.write(setting.own[0])

    def give_back(self) -> None:
        with self._lock:
            self._users -= 1
            while not self._users and self._before:
                setting, value = self._before.pop()
                setting.write(value)

    def fork(self) -> None:
        """In the child: no thread of the parent is there, nor one that could hold the lock."""
        self._lock, self.forked = threading.Lock(), self._used


_SHARED: Final = _Shared()


@contextmanager
def tf32() -> Iterator[None]:
    """Products and convolutions on CUDA with 10 bits of mantissa (TF32) inside the block, given back at its end.

    It is a setting of the process: what other threads compute on CUDA meanwhile is reduced too.
    """
    owners: Any = (torch.backends.cuda.matmul, _part(torch.backends.cudnn, "conv"))
    before = [owner.fp32_precision for owner in owners]
    _SHARED.reduced += 1
    try:
        for owner in owners:
            owner.fp32_precision = _TF32
        yield
    finally:
        _SHARED.reduced -= 1
        for owner, value in zip(owners, before, strict=True):
            owner.fp32_precision = value


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_SHARED.fork)
