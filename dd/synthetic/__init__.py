"""Synthetic sets: the protocol, image sets and their files."""

from dd.synthetic.base import NBytes, SyntheticSet
from dd.synthetic.canvas import Crops, draw_crops, tile
from dd.synthetic.compensated import CompensatedImages, base_sets, compose
from dd.synthetic.images import SyntheticImages
from dd.synthetic.labels import LabelRecord, LabelStore, batch_ids
from dd.synthetic.recipe import TrainRecipe
from dd.synthetic.sets import ImageSet, load_set

__all__ = [
    "CompensatedImages",
    "ImageSet",
    "load_set",
    "Crops",
    "base_sets",
    "batch_ids",
    "compose",
    "LabelRecord",
    "LabelStore",
    "NBytes",
    "SyntheticImages",
    "SyntheticSet",
    "TrainRecipe",
    "draw_crops",
    "tile",
]
