"""The exact engine's fast path for the field's ConvNet: layers with written-out tangents, no second-order graph."""

from dd.inner.fast.compile import Kernels, compiler_present
from dd.inner.fast.engine import adjoint_fast
from dd.inner.fast.network import FastNet, supported
from dd.inner.fast.penalty import penalty_gradient

__all__ = ["FastNet", "Kernels", "adjoint_fast", "compiler_present", "penalty_gradient", "supported"]
