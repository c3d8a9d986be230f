"""The inner loop: training a student on synthetic images, and gradients through that training."""

from dd.inner.adjoint import adjoint
from dd.inner.problem import InnerStep, Matching, Problem, Target
from dd.inner.student import Student, cross_entropy, freeze_batch_statistics
from dd.inner.unroll import unroll

__all__ = [
    "InnerStep",
    "Matching",
    "Problem",
    "Student",
    "Target",
    "adjoint",
    "cross_entropy",
    "freeze_batch_statistics",
    "unroll",
]
