"""Measures of a set beyond accuracy: robustness, calibration, privacy, adversarial examples, nearest real images."""

from dd.measure.bench import Options
from dd.measure.robust import robustness

__all__ = ["Options", "robustness"]
