"""The exact engine's fast path for the field's ConvNet: layers with written-out tangents, no second-order graph."""

from dd.inner.fast.compile import compiler_present
from dd.inner.fast.engine import adjoint_fast
from dd.inner.fast.network import FastNet, supported

__all__ = ["FastNet", "adjoint_fast", "compiler_present", "supported"]
