"""Kernels of our own in C++, built once a process by the compiler that is there, in about a second.

`block.cpp` has the four kernels of `dd.inner.fast.kernels`: each reads its maps once from memory, for any shape, where
a general compiler makes a program a shape. `wgrad.cpp` has the weight gradient of a 3×3 convolution: on processors with
AVX2 alone the convolution library reaches two thirds of its own forward speed there, a third of the work of a matching
step; the kernel reaches nine tenths. It sums in the same order.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

SOURCES: Final = tuple(Path(__file__).with_name(name) for name in ("block.cpp", "wgrad.cpp"))
FEW_CHANNELS: Final = 16
"""Below it a panel of the weight gradient is mostly empty, and the library's kernel is faster."""

_OPTIONS: Final = ("-O3", "-march=native", "-ffp-contract=fast", "-fopenmp", "-shared", "-fPIC")
_ROWS, _COLUMNS, _SHIFTS, _BLOCK = 6, 16, 9, 4
_LAST: Final = torch.channels_last
_PATIENCE: Final = 120
"""Seconds that the compiler may take; a wrapper of it may wait for a server."""
_KERNELS: Final = ("forward", "backward", "tangent_forward", "tangent_backward")
_lock = threading.RLock()


def lock() -> threading.RLock:
    """Held by the thread that compiles."""
    return _lock


def _renew_lock() -> None:
    """In a forked child: the thread that may have held it is not there."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


WAY_OUT: Final = "Mend the compiler (`CXX` names another), or give compile=False."


class NotCompiledError(RuntimeError):
    """Kernels cannot be compiled: there is no compiler, it is broken, or it cannot write its files."""


def compiler() -> str | None:
    """The path of a C++ compiler."""
    names = (os.environ.get("CXX", ""), "c++", "g++", "clang++")
    return next((found for name in names if name and (found := shutil.which(name))), None)


@lru_cache(maxsize=1)
def _built(command: str | None) -> Any:
    """The compiled kernels, or the message of what went wrong."""
    if command is None or os.name != "posix":
        return "no C++ compiler"
    try:
        with tempfile.TemporaryDirectory(prefix="dd-", ignore_cleanup_errors=True) as folder:
            made = str(Path(folder) / "kernels.so")
            told = [command, *_OPTIONS, "-o", made, *map(str, SOURCES)]
            quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, "timeout": _PATIENCE}
            subprocess.run(told, check=True, text=True, errors="replace", **quiet)
            loaded = ctypes.CDLL(made)
        loaded.dd_wgrad.argtypes = [ctypes.c_void_p] * 5 + [ctypes.c_long] * 7
        loaded.dd_block.argtypes = [ctypes.c_int] * 2 + [ctypes.c_void_p] * 2 + [ctypes.c_long, ctypes.c_double]
        loaded.dd_wgrad.restype = loaded.dd_block.restype = None
    except subprocess.TimeoutExpired:
        return f"`{command}`: timed out after {_PATIENCE} s"
    except (OSError, AttributeError, subprocess.SubprocessError) as error:
        lines = (getattr(error, "stderr", "") or str(error)).splitlines()
        said = [line.strip() for line in lines if line.strip()]
        return f"`{command}`: {next((line for line in said if 'error' in line), said[0] if said else 'failed')[:300]}"
    return loaded


@lru_cache(maxsize=1)
def library() -> Any:
    """The compiled kernels; the first call builds them, other threads wait for that.

    Raises:
        NotCompiledError: they cannot be built; the message is the cause in one line.
    """
    with lock():
        made = _built(compiler())
    if isinstance(made, str):
        raise NotCompiledError(made)
    return made


def builds() -> bool:
    """Whether `library` has the kernels, built now if need be."""
    try:
        library()
    except NotCompiledError:
        return False
    return True


def block(name: str, z: Tensor, *rest: Any, threads: int = 1) -> tuple[Tensor, ...]:
    """Kernel `name` of `dd.inner.fast.kernels`, which has its arguments and results, by `threads` workers.

    Tensors are float32 or float64 in CPU memory; maps come back channels-last. The interpreter's lock is free
    meanwhile.

    Raises:
        NotCompiledError: see `library`.
        ValueError: tensors of other shapes, or maps with an odd side.
    """
    n, c, h, w = z.shape
    eps, given = 0.0, list(rest)
    if name == "forward":
        eps = given.pop()
    elif name == "tangent_backward":  # the statistics are one argument
        given[1:2] = given[1]
    full, half, stat, row = (n, c, h, w), (n, c, h // 2, w // 2), (n, c, 1, 1), (1, c, 1, 1)
    wanted, results = {
        "forward": ((full, row, row), (half, stat, stat)),
        "backward": ((full, stat, stat, row, row, half), (full, stat, stat)),
        "tangent_forward": ((full, full, stat, stat, row, row, row, row), (half, stat, stat)),
        "tangent_backward": ((full, full, *4 * (stat,), row, row, row, half, half), (full, full, stat, stat)),
    }[name]
    shapes = tuple(tuple(t.shape) for t in (z, *given))
    if h % 2 or w % 2 or shapes != wanted:
        raise ValueError(f"{name}: tensors of {shapes}, not {wanted} with even sides")
    read = [t.contiguous(memory_format=_LAST) for t in (z, *given)]
    made = tuple(torch.empty(shape, dtype=z.dtype, memory_format=_LAST) for shape in results)
    _call(name, (*read, *made), (n, c, h, w), threads, eps)
    return made


def _call(name: str, tensors: Sequence[Tensor], shape: tuple[int, ...], threads: int, eps: float) -> None:
    if any(t.dtype != tensors[0].dtype or t.device.type != "cpu" for t in tensors):
        raise TypeError(f"{name}: tensors of {sorted({f'{t.dtype} on {t.device}' for t in tensors})}")
    wide = {torch.float32: 0, torch.float64: 1}[tensors[0].dtype]
    pointers = (ctypes.c_void_p * len(tensors))(*(t.data_ptr() for t in tensors))
    library().dd_block(_KERNELS.index(name), wide, pointers, (ctypes.c_long * 4)(*shape), threads, eps)


def suits(g: Tensor, x: Tensor, w: Tensor) -> bool:
    """Whether the weight gradient's kernel is the faster one: one thread, AVX2 and no more, float32, channels-last."""
    return (
        all(t.dtype == torch.float32 and t.device.type == "cpu" for t in (g, x))
        and w.shape[1] >= FEW_CHANNELS
        and all(t.is_contiguous(memory_format=_LAST) for t in (g, x))
        and torch.get_num_threads() == 1
        and torch.backends.cpu.get_cpu_capability() == "AVX2"
    )


def weight_gradient(g: Tensor, x: Tensor, padding: int) -> Tensor:
    """∂⟨g, conv(x, w)⟩/∂w `[K, C, 3, 3]`, stride 1, of g `[n, K, H + 2p − 2, W + 2p − 2]` and x `[n, C, H, W]`.

    Both are float32 and channels-last in CPU memory. One thread computes; the interpreter's lock is free meanwhile.

    Raises:
        NotCompiledError: see `library`.
    """
    (n, c, h, w), k, block = x.shape, g.shape[1], min(_BLOCK, x.shape[0])
    c_panels, k_panels = -(-c // _ROWS), -(-k // _COLUMNS)
    height, width = h + 2 * padding, w + 2 * padding
    sums = x.new_empty(k_panels * c_panels * _SHIFTS * _ROWS * _COLUMNS)
    packed = x.new_empty(block * (c_panels * height * width * _ROWS + k_panels * (height - 2) * (width - 2) * _COLUMNS))
    made = torch.empty(k, c, 3, 3, dtype=x.dtype, device=x.device, memory_format=_LAST)
    tensors = (t.data_ptr() for t in (x, g, made, sums, packed))
    library().dd_wgrad(*tensors, n, h, w, c, k, padding, block)
    return made
