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
from dd.teachers.statistics import LayerGap, StatisticsMatch, keeps_statistics

__all__ = [
    "LABEL_TAU",
    "MEMBERS",
    "PUBLISHED_FIRST_PAIR",
    "PUBLISHED_PRIORS",
    "RECOVER_TAU",
    "LayerGap",
    "StatisticsMatch",
    "keeps_statistics",
    "vote_weights",
    "voters",
]
