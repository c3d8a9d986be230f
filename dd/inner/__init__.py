"""The inner loop: training a student on synthetic images, and gradients through that training."""

from dd.inner.adjoint_pass import adjoint
from dd.inner.check import check_student
from dd.inner.engines import ENGINES, EngineName, Road, solve, worth_compiling
from dd.inner.fast import compiler_present
from dd.inner.problem import InnerStep, Matching, Problem, Target
from dd.inner.student import Student, cross_entropy, freeze_batch_statistics
from dd.inner.unrolled import unroll

__all__ = [
    "ENGINES",
    "EngineName",
    "Road",
    "solve",
    "worth_compiling",
    "InnerStep",
    "Matching",
    "Problem",
    "Student",
    "Target",
    "adjoint",
    "check_student",
    "compiler_present",
    "cross_entropy",
    "freeze_batch_statistics",
    "unroll",
]
