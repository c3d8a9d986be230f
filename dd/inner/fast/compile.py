"""Fusing the pointwise kernels with `torch.compile`, one compilation a shape."""

from __future__ import annotations

import os
import shutil
import threading
import types
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch

from dd.inner.fast import kernels

# Stock settings write the ReLU mask to memory and lose vectorisation; these names exist since torch 2.4.
_FUSE_MORE = {"realize_opcount_threshold": 200, "realize_reads_threshold": 50, "realize_acc_reads_threshold": 50}


@lru_cache
def compiler_present(device: str = "cpu") -> bool:
    """Whether `torch.compile` can make kernels for the device: a C++ compiler on a CPU, Triton on a GPU."""
    if device != "cpu":
        return torch.utils._triton.has_triton()
    return compiler() is not None


def compiler() -> str | None:
    """The path of a C++ compiler."""
    names = (os.environ.get("CXX", ""), "c++", "g++", "clang++")
    return next((found for name in names if name and (found := shutil.which(name))), None)


def _copy(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function with a code object of its own: torch keeps its compilations, at most eight, by code object."""
    assert isinstance(function, types.FunctionType)
    made = types.FunctionType(function.__code__.replace(), function.__globals__, function.__name__)
    made.__kwdefaults__ = function.__kwdefaults__
    return made


class Kernels:
    """The four kernels of `dd.inner.fast.kernels`, as they are or compiled for each shape that comes.

    Args:
        compiled: whether to compile.
        threads: of a compiled kernel on a CPU.
    """

    def __init__(self, compiled: bool, threads: int = 1) -> None:
        self.compiled, self.threads = compiled, threads

    def run(self, name: str, z: torch.Tensor, *rest: Any) -> Any:
        """Kernel `name` on a map z and its other arguments."""
        if not self.compiled:
            return getattr(kernels, name)(z, *rest)
        return _compiled(name, tuple(z.shape), z.stride(), z.dtype, str(z.device), self.threads)(z, *rest)


class NotCompiledError(RuntimeError):
    """A kernel cannot be compiled, though a compiler is there: it is broken, or its cache cannot be written."""


def _cause(error: Exception) -> str:
    """The first line of an error that says something."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line and not line.endswith(":")), type(error).__name__)


_LOCK = threading.RLock()


def _renew_lock() -> None:
    """In a forked child: the thread that may have held it is not there."""
    global _LOCK
    _LOCK = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


class _Compiled:
    """A kernel that compiles at its first call; other threads wait for that.

    Raises:
        NotCompiledError: at that call; the message is the cause in one line.
    """

    def __init__(self, make: Callable[[], Callable[..., Any]]) -> None:
        self._make = make
        self._function: Callable[..., Any] | None = None

    def __call__(self, *args: Any) -> Any:
        if self._function is not None:
            return self._function(*args)
        with _LOCK:
            try:
                function = self._function or self._make()
                found = function(*args)
            except Exception as error:  # torch, the compiler and the disk each raise their own
                raise NotCompiledError(_cause(error)) from error
            self._function = function
        return found


@lru_cache(maxsize=256)
def _compiled(
    name: str, shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype, device: str, threads: int
) -> _Compiled:
    del shape, stride, dtype  # the key
    options: dict[str, Any] = dict(_FUSE_MORE)
    if device == "cpu":  # the C++ wrapper lets go of the interpreter's lock while a kernel runs
        options.update({"cpp_wrapper": True, "cpp.threads": threads})
    kernel = _copy(getattr(kernels, name))
    return _Compiled(lambda: torch.compile(kernel, dynamic=False, fullgraph=True, options=options))
