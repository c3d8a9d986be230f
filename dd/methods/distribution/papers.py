"""Three papers, one loop: the fields that make `DistributionMatching` each of them.

DM: Zhao and Bilen, Dataset Condensation with Distribution Matching, WACV 2023. IDM: Zhao et al., Improved Distribution
Matching for Dataset Condensation, CVPR 2023. NCFM: Wang et al., Dataset Distillation with Neural Characteristic
Function: A Minmax Perspective, CVPR 2025.
"""

from __future__ import annotations

from typing import Any

from dd.experts import ExpertRecipe
from dd.methods.distribution.matching import DistributionMatching
from dd.methods.named import by_fields
from dd.synthetic import TrainRecipe

_AUGMENT = "color_crop_cutout_flip_scale_rotate"


@by_fields
def DM(**fields: Any) -> DistributionMatching:
    """Distribution matching: the mean features of each class, in fresh random networks; nothing is trained."""
    return DistributionMatching(**{"name": "dm", "train": TrainRecipe(augment=_AUGMENT), **fields})


@by_fields
def IDM(**fields: Any) -> DistributionMatching:
    """Improved distribution matching: channel means, in networks that are trained as they wait in a queue, and a class
    term with the weight of their accuracy.

    One step of the optimiser moves all classes, where the authors' code takes one a class; the accuracy is that on the
    real images of the iteration. On two cores the preset compares whole features, and the class term weighs more:
    channel means of a ConvNet, whose norm levels them, were worth little there.
    """
    trained = ExpertRecipe(name="idm", momentum=0.9, weight_decay=5e-4)
    defaults = {"name": "idm", "expert": trained, "features": "channel", "networks": "queue", "lr_img": 0.2}
    return DistributionMatching(
        **{**defaults, "class_term": "accuracy", "train": TrainRecipe(augment=_AUGMENT), **fields}
    )


@by_fields
def NCFM(**fields: Any) -> DistributionMatching:
    """Neural characteristic function matching: characteristic functions of features of length 1, in networks between
    the ends of trained ones, and a class term by the trained end.

    Frequencies are normal: the network that would choose them is off in every published configuration. One step of the
    optimiser moves all classes; the authors' code takes two a class, with a weight decay that pulls all pixels to black
    at each, and lowers its step size on plateaus. Here there is neither.
    """
    trained = ExpertRecipe(name="ncfm", augment="color_crop_cutout", snapshot_every=60, snapshots=1, experts=20)
    defaults = {"name": "ncfm", "expert": trained, "statistic": "cf", "networks": "interpolated", "weight": 300.0}
    own = {"class_term": "trained", "class_weight": 1.0, "batch_real": 1024}
    pixels = {"pixel_optimizer": "adam", "lr_img": 0.04, "clip": True}
    return DistributionMatching(**{**defaults, **own, **pixels, "train": TrainRecipe(augment=_AUGMENT), **fields})
