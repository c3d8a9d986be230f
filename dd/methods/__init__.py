"""The methods. To add one: a file (or a function over an existing one), a line in `METHODS`, a card, a test."""

from typing import TYPE_CHECKING

from dd.base.lazy import door

__all__ = [
    "Coreset",
    "Herding",
    "KCenter",
    "CoverageWarning",
    "Mirage",
    "AST",
    "DATM",
    "DELT",
    "DM",
    "DistributionMatching",
    "FTD",
    "IDM",
    "INFER",
    "Infer",
    "METHODS",
    "MTT",
    "CDA",
    "NCFM",
    "CVDD",
    "Candidate",
    "ClassMean",
    "FromExperts",
    "Method",
    "RDED",
    "RandomReal",
    "Recover",
    "Run",
    "RunOptions",
    "SRE2L",
    "SRE2LPP",
    "Step",
    "TESLA",
    "TrajectoryMatching",
    "class_of",
    "kind_of",
    "list_methods",
    "names_of",
    "need_method",
    "need_told",
    "own_network",
    "one_of",
    "reads_experts",
    "of_teachers",
    "rebuild",
]

if TYPE_CHECKING:
    from dd.methods.base import (
        Candidate,
        FromExperts,
        Method,
        Run,
        RunOptions,
        Step,
        need_method,
        need_told,
        own_network,
        reads_experts,
    )
    from dd.methods.decoupled.infer import Infer
    from dd.methods.decoupled.papers import CDA, CVDD, DELT, INFER, RDED, SRE2L, SRE2LPP, of_teachers, rebuild
    from dd.methods.decoupled.recover import Recover
    from dd.methods.distribution.matching import DistributionMatching
    from dd.methods.distribution.papers import DM, IDM, NCFM
    from dd.methods.mirage import CoverageWarning, Mirage
    from dd.methods.real.baselines import ClassMean, RandomReal
    from dd.methods.real.coresets import Coreset, Herding, KCenter
    from dd.methods.table import METHODS, class_of, kind_of, list_methods, names_of, one_of
    from dd.methods.trajectory.matching import TrajectoryMatching
    from dd.methods.trajectory.papers import AST, DATM, FTD, MTT, TESLA
else:
    __getattr__, __dir__ = door(
        __name__,
        __all__,
        {
            "dd.methods.base": "Candidate FromExperts Method Run RunOptions Step need_method need_told own_network "
            "reads_experts",
            "dd.methods.decoupled.infer": "Infer",
            "dd.methods.decoupled.papers": "CDA CVDD DELT INFER RDED SRE2L SRE2LPP of_teachers rebuild",
            "dd.methods.decoupled.recover": "Recover",
            "dd.methods.distribution.matching": "DistributionMatching",
            "dd.methods.distribution.papers": "DM IDM NCFM",
            "dd.methods.mirage": "CoverageWarning Mirage",
            "dd.methods.real.baselines": "ClassMean RandomReal",
            "dd.methods.real.coresets": "Coreset Herding KCenter",
            "dd.methods.trajectory.matching": "TrajectoryMatching",
            "dd.methods.trajectory.papers": "AST DATM FTD MTT TESLA",
            "dd.methods.table": "METHODS class_of kind_of list_methods names_of one_of",
        },
    )
