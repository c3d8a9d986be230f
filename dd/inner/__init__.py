"""The inner loop: training a student on synthetic images, and gradients through that training."""

from typing import TYPE_CHECKING

from dd.base.lazy import door

__all__ = [
    "ENGINES",
    "EngineName",
    "Road",
    "solve",
    "worth_compiling",
    "InnerStep",
    "Matching",
    "NotCompiledError",
    "Problem",
    "Student",
    "Target",
    "adjoint",
    "check_student",
    "compiler_present",
    "cross_entropy",
    "freeze_batch_statistics",
    "scores_alone",
    "unroll",
]

if TYPE_CHECKING:
    from dd.inner.adjoint_pass import adjoint
    from dd.inner.check import check_student, scores_alone
    from dd.inner.engines import ENGINES, EngineName, Road, solve, worth_compiling
    from dd.inner.fast import NotCompiledError, compiler_present
    from dd.inner.problem import InnerStep, Matching, Problem, Target
    from dd.inner.student import Student, cross_entropy, freeze_batch_statistics
    from dd.inner.unrolled import unroll
else:
    __getattr__, __dir__ = door(
        __name__,
        __all__,
        {
            "dd.inner.adjoint_pass": "adjoint",
            "dd.inner.check": "check_student scores_alone",
            "dd.inner.engines": "ENGINES EngineName Road solve worth_compiling",
            "dd.inner.fast": "NotCompiledError compiler_present",
            "dd.inner.problem": "InnerStep Matching Problem Target",
            "dd.inner.student": "Student cross_entropy freeze_batch_statistics",
            "dd.inner.unrolled": "unroll",
        },
    )
