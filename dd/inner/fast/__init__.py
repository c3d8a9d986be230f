"""The exact engine's fast path for the field's ConvNet: layers with written-out tangents, no second-order graph."""

from typing import TYPE_CHECKING

from dd.base.lazy import door

__all__ = [
    "FastNet",
    "Kernels",
    "NotCompiledError",
    "adjoint_fast",
    "compiler_present",
    "loss_gradient",
    "maps",
    "penalty_gradient",
    "supported",
]

if TYPE_CHECKING:
    from dd.inner.fast.compile import Kernels, NotCompiledError, compiler_present
    from dd.inner.fast.engine import adjoint_fast
    from dd.inner.fast.gradient import loss_gradient
    from dd.inner.fast.network import FastNet, maps, supported
    from dd.inner.fast.penalty import penalty_gradient
else:
    __getattr__, __dir__ = door(
        __name__,
        __all__,
        {
            "dd.inner.fast.compile": "Kernels NotCompiledError compiler_present",
            "dd.inner.fast.engine": "adjoint_fast",
            "dd.inner.fast.gradient": "loss_gradient",
            "dd.inner.fast.network": "FastNet maps supported",
            "dd.inner.fast.penalty": "penalty_gradient",
        },
    )
