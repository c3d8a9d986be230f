"""Teachers of the decoupled methods: their statistics, and how a committee votes."""

from typing import TYPE_CHECKING

from dd.base.lazy import door

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
    "Teacher",
    "TeacherRecipe",
    "TeacherStore",
    "accuracy",
    "batch_statistics",
    "keeps_statistics",
    "label",
    "pretrained_teacher",
    "train_teacher",
    "tried_on",
    "vote_weights",
    "voters",
]

if TYPE_CHECKING:
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
    from dd.teachers.pretrained import pretrained_teacher
    from dd.teachers.recipe import TeacherRecipe
    from dd.teachers.squeeze import TeacherStore
    from dd.teachers.statistics import LayerGap, StatisticsMatch, keeps_statistics
    from dd.teachers.teacher import Teacher, accuracy, tried_on
    from dd.teachers.train import train_teacher
else:
    __getattr__, __dir__ = door(
        __name__,
        __all__,
        {
            "dd.teachers.committee": (
                "LABEL_TAU MEMBERS PUBLISHED_FIRST_PAIR PUBLISHED_PRIORS RECOVER_TAU vote_weights voters"
            ),
            "dd.teachers.labelling": "BN_MODES BNMode batch_statistics label",
            "dd.teachers.pretrained": "pretrained_teacher",
            "dd.teachers.recipe": "TeacherRecipe",
            "dd.teachers.squeeze": "TeacherStore",
            "dd.teachers.statistics": "LayerGap StatisticsMatch keeps_statistics",
            "dd.teachers.teacher": "Teacher accuracy tried_on",
            "dd.teachers.train": "train_teacher",
        },
    )
