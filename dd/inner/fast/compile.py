"""Fusing the pointwise kernels: by `native` on a CPU, elsewhere by `torch.compile`, one compilation a shape."""

from __future__ import annotations

import types
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch

from dd.inner.fast import kernels, native
from dd.inner.fast.native import NotCompiledError, compiler

# Stock settings write the ReLU mask to memory and lose vectorisation; these names exist since torch 2.4.
_FUSE_MORE = {"realize_opcount_threshold": 200, "realize_reads_threshold": 50, "realize_acc_reads_threshold": 50}


@lru_cache
def compiler_present(device: str = "cpu") -> bool:
    """Whether kernels can be made for the device: a C++ compiler for a CPU, Triton for a GPU."""
    if device != "cpu":
        return torch.utils._triton.has_triton()
    return compiler() is not None


def _copy(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function with a code object of its own: torch keeps its compilations, at most eight, by code object."""
    assert isinstance(function, types.FunctionType)
    made = types.FunctionType(function.__code__.replace(), function.__globals__, function.__name__)
    made.__kwdefaults__ = function.__kwdefaults__
    return made


class Kernels:
    """The four kernels of `dd.inner.fast.kernels`, as they are or compiled.

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
        if z.device.type == "cpu":
            return native.block(name, z, *rest, threads=self.threads)
        return _compiled(name, tuple(z.shape), z.stride(), z.dtype, str(z.device))(z, *rest)


def _cause(error: Exception) -> str:
    """The first line of an error that says something."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line and not line.endswith(":")), type(error).__name__)


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
        with native.lock():
            try:
                function = self._function or self._make()
                found = function(*args)
            except Exception as error:  # torch, the compiler and the disk each raise their own
                raise NotCompiledError(_cause(error)) from error
            self._function = function
        return found


@lru_cache(maxsize=256)
def _compiled(name: str, shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype, device: str) -> _Compiled:
    del shape, stride, dtype, device  # the key
    kernel = _copy(getattr(kernels, name))
    return _Compiled(lambda: torch.compile(kernel, dynamic=False, fullgraph=True, options=dict(_FUSE_MORE)))
