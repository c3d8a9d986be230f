"""The exact engine's fast path for the field's ConvNet: layers with written-out tangents, no second-order graph."""

from typing import TYPE_CHECKING

from dd.base.lazy import door

__all__ = [
    "WAY_OUT",
    "FastNet",
    "Kernels",
    "NotCompiledError",
    "adjoint_fast",
    "block_forward",
    "builds",
    "compiler_present",
    "library",
    "loss_gradient",
    "maps",
    "penalty_gradient",
    "supported",
]

if TYPE_CHECKING:
    from dd.inner.fast.block import block_forward
    from dd.inner.fast.compile import Kernels, compiler_present
    from dd.inner.fast.engine import adjoint_fast
    from dd.inner.fast.gradient import loss_gradient
    from dd.inner.fast.native import WAY_OUT, NotCompiledError, builds, library
    from dd.inner.fast.network import FastNet, maps, supported
    from dd.inner.fast.penalty import penalty_gradient
else:
    __getattr__, __dir__ = door(
        __name__,
        __all__,
        {
            "dd.inner.fast.block": "block_forward",
            "dd.inner.fast.compile": "Kernels compiler_present",
            "dd.inner.fast.engine": "adjoint_fast",
            "dd.inner.fast.gradient": "loss_gradient",
            "dd.inner.fast.native": "WAY_OUT NotCompiledError builds library",
            "dd.inner.fast.network": "FastNet maps supported",
            "dd.inner.fast.penalty": "penalty_gradient",
        },
    )
