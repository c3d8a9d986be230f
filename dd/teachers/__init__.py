"""Teachers of the decoupled methods: their statistics, and how a committee votes."""

from dd.teachers.committee import (
    LABEL_TAU,
    MEMBERS,
    PUBLISHED_FIRST_PAIR,
    PUBLISHED_PRIORS,
    RECOVER_TAU,
    vote_weights,
    voters,
)
from dd.teachers.labelling import BN_MODES, BNMode, batch_statistics, label
from dd.teachers.statistics import LayerGap, StatisticsMatch, keeps_statistics

__all__ = [
    "BN_MODES",
    "LABEL_TAU",
    "MEMBERS",
    "PUBLISHED_FIRST_PAIR",
    "PUBLISHED_PRIORS",
    "RECOVER_TAU",
    "BNMode",
    "LayerGap",
    "StatisticsMatch",
    "batch_statistics",
    "keeps_statistics",
    "label",
    "vote_weights",
    "voters",
]
