"""The weight gradient of a 3×3 convolution by a kernel of our own, `wgrad.cpp`, built by the compiler that is there.

On processors with AVX2 alone the convolution library reaches two thirds of its own forward speed in this gradient, a
third of the work of a matching step; the kernel reaches nine tenths. It sums in the same order.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dd.errors import warn
from dd.inner.fast.compile import compiler

SOURCE = Path(__file__).with_name("wgrad.cpp")
FEW_CHANNELS = 16
"""Below it a panel is mostly empty, and the library's kernel is faster."""

_ROWS, _COLUMNS, _SHIFTS, _BLOCK = 6, 16, 9, 4
_CHANNELS_LAST = torch.channels_last


@lru_cache(maxsize=1)
def library() -> Any:
    """The compiled kernel, or `None` without a compiler or where it fails, which is told once."""
    command = compiler()
    if command is None or os.name != "posix":
        return None
    with tempfile.TemporaryDirectory(prefix="dd-") as folder:
        made = Path(folder) / "wgrad.so"
        options = ["-O3", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC", "-o", str(made)]
        try:
            subprocess.run([command, *options, str(SOURCE)], check=True, capture_output=True, text=True)
            loaded = ctypes.CDLL(str(made))
        except (OSError, subprocess.CalledProcessError) as error:
            told = getattr(error, "stderr", "") or str(error)
            warn(f"`{command}` could not build {SOURCE.name}; slower without: {told[:300]}")
            return None
    loaded.dd_wgrad.argtypes = [ctypes.c_void_p] * 5 + [ctypes.c_long] * 7
    loaded.dd_wgrad.restype = None
    return loaded


def suits(g: Tensor, x: Tensor, w: Tensor) -> bool:
    """Whether the kernel is the faster one: one thread, AVX2 and no more, single precision, maps channels-last."""
    return (
        all(t.dtype == torch.float32 and t.device.type == "cpu" for t in (g, x))
        and w.shape[1] >= FEW_CHANNELS
        and all(t.is_contiguous(memory_format=_CHANNELS_LAST) for t in (g, x))
        and torch.get_num_threads() == 1
        and torch.backends.cpu.get_cpu_capability() == "AVX2"
        and library() is not None
    )


def weight_gradient(g: Tensor, x: Tensor, padding: int) -> Tensor:
    """∂⟨g, conv(x, w)⟩/∂w `[K, C, 3, 3]`, stride 1, of g `[n, K, H + 2p − 2, W + 2p − 2]` and x `[n, C, H, W]`.

    Both are float32 and channels-last in CPU memory; the compiled library is there. One thread computes; the
    interpreter's lock is free meanwhile.
    """
    (n, c, h, w), k, block = x.shape, g.shape[1], min(_BLOCK, x.shape[0])
    c_panels, k_panels = -(-c // _ROWS), -(-k // _COLUMNS)
    height, width = h + 2 * padding, w + 2 * padding
    sums = x.new_empty(k_panels * c_panels * _SHIFTS * _ROWS * _COLUMNS)
    packed = x.new_empty(block * (c_panels * height * width * _ROWS + k_panels * (height - 2) * (width - 2) * _COLUMNS))
    made = torch.empty(k, c, 3, 3, dtype=x.dtype, device=x.device, memory_format=_CHANNELS_LAST)
    tensors = (t.data_ptr() for t in (x, g, made, sums, packed))
    library().dd_wgrad(*tensors, n, h, w, c, k, padding, block)
    return made
