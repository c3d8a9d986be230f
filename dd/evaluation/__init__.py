"""One evaluation for every method: fresh networks, the set's own recipe, a fixed number of optimiser steps."""

from typing import TYPE_CHECKING

from dd.base.lazy import door

__all__ = [
    "LR_GRID",
    "METRICS",
    "READERS",
    "BayesPredictor",
    "EncodedGraphs",
    "EvalReport",
    "GraphLearner",
    "GraphPredictor",
    "GraphTask",
    "Interval",
    "Learner",
    "NaiveBayesLearner",
    "NetworkLearner",
    "NetworkPredictor",
    "Predictor",
    "Reader",
    "ReaderLearner",
    "RealImages",
    "Row",
    "Scorer",
    "Trainable",
    "TreeLearner",
    "TreeTask",
    "accuracy",
    "auroc",
    "check_own",
    "corrected_interval",
    "encode",
    "enough_steps",
    "fit",
    "fresh",
    "mean_std",
    "model_name",
    "model_of",
    "origin",
    "origin_lines",
    "pool",
    "reader_of",
    "train_on",
    "tune_lr",
    "weighted_loss",
]

if TYPE_CHECKING:
    from dd.evaluation.graphs import EncodedGraphs, encode, pool
    from dd.evaluation.learners import (
        LR_GRID,
        Learner,
        NetworkLearner,
        NetworkPredictor,
        Predictor,
        enough_steps,
        model_name,
        model_of,
        tune_lr,
    )
    from dd.evaluation.loop import accuracy, check_own, fit, fresh
    from dd.evaluation.readers import READERS, Reader, ReaderLearner, reader_of
    from dd.evaluation.real import Trainable
    from dd.evaluation.report import EvalReport, Row, origin, origin_lines
    from dd.evaluation.scorer import Scorer
    from dd.evaluation.scores import METRICS, Interval, auroc, corrected_interval
    from dd.evaluation.spread import mean_std
    from dd.evaluation.subset import RealImages
    from dd.evaluation.tasks import GraphTask, TreeTask, train_on, weighted_loss
    from dd.evaluation.trees import BayesPredictor, GraphLearner, GraphPredictor, NaiveBayesLearner, TreeLearner
else:
    __getattr__, __dir__ = door(
        __name__,
        __all__,
        {
            "dd.evaluation.graphs": "EncodedGraphs encode pool",
            "dd.evaluation.learners": (
                "LR_GRID Learner NetworkLearner NetworkPredictor Predictor enough_steps model_name model_of tune_lr"
            ),
            "dd.evaluation.loop": "accuracy check_own fit fresh",
            "dd.evaluation.readers": "READERS Reader ReaderLearner reader_of",
            "dd.evaluation.real": "Trainable",
            "dd.evaluation.report": "EvalReport Row origin origin_lines",
            "dd.evaluation.scorer": "Scorer",
            "dd.evaluation.scores": "METRICS Interval auroc corrected_interval",
            "dd.evaluation.spread": "mean_std",
            "dd.evaluation.subset": "RealImages",
            "dd.evaluation.tasks": "GraphTask TreeTask train_on weighted_loss",
            "dd.evaluation.trees": "BayesPredictor GraphLearner GraphPredictor NaiveBayesLearner TreeLearner",
        },
    )
