"""Fusing the pointwise kernels with `torch.compile`, one compilation a shape."""

from __future__ import annotations

import os
import shutil
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
    return any(shutil.which(name) for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++") if name)


def _copy(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function with a code object of its own: torch keeps its compilations, at most eight, by code object."""
    assert isinstance(function, types.FunctionType)
    made = types.FunctionType(function.__code__.replace(), function.__globals__, function.__name__)
    made.__kwdefaults__ = function.__kwdefaults__
    return made


class Kernels:
    """The four kernels of `dd.inner.fast.kernels`, as they are or compiled for each shape that comes."""

    def __init__(self, compiled: bool) -> None:
        self.compiled = compiled

    def run(self, name: str, z: torch.Tensor, *rest: Any) -> Any:
        """Kernel `name` on a map z and its other arguments."""
        if not self.compiled:
            return getattr(kernels, name)(z, *rest)
        return _compiled(name, tuple(z.shape), z.stride(), z.dtype, str(z.device))(z, *rest)


@lru_cache(maxsize=256)
def _compiled(
    name: str, shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype, device: str
) -> Callable[..., Any]:
    del shape, stride, dtype, device  # the key
    return torch.compile(_copy(getattr(kernels, name)), dynamic=False, fullgraph=True, options=dict(_FUSE_MORE))
