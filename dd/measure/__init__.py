"""Measures of a set beyond accuracy: robustness, calibration, privacy, adversarial examples, nearest real images."""

from dd.measure.bench import Bench, Options, open_bench
from dd.measure.membership import Membership, membership
from dd.measure.neighbours import Neighbours, neighbours
from dd.measure.networks import Adversarial, Calibration, adversarial, calibration
from dd.measure.robust import robustness

__all__ = [
    "Adversarial",
    "Bench",
    "Calibration",
    "Membership",
    "Neighbours",
    "Options",
    "adversarial",
    "calibration",
    "membership",
    "neighbours",
    "open_bench",
    "robustness",
]
