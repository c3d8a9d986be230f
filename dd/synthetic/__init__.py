"""Synthetic sets: the protocol, image sets and their files."""

from dd.synthetic.base import NBytes, SyntheticSet
from dd.synthetic.images import SyntheticImages
from dd.synthetic.recipe import TrainRecipe

__all__ = ["NBytes", "SyntheticImages", "SyntheticSet", "TrainRecipe"]
