"""One evaluation for every method: fresh networks, the set's own recipe, a fixed number of optimiser steps."""

from dd.evaluation.learners import (
    LR_GRID,
    Learner,
    NetworkLearner,
    NetworkPredictor,
    Predictor,
    model_name,
    tune_lr,
)
from dd.evaluation.loop import accuracy, fit, fresh
from dd.evaluation.report import EvalReport, Row, mean_std, origin

__all__ = [
    "LR_GRID",
    "EvalReport",
    "Learner",
    "NetworkLearner",
    "NetworkPredictor",
    "Predictor",
    "Row",
    "accuracy",
    "fit",
    "fresh",
    "mean_std",
    "model_name",
    "origin",
    "tune_lr",
]
