"""Teachers with torchvision's weights: their own constants travel with them."""

from __future__ import annotations

import torch

from dd.data import Images
from dd.errors import refuse
from dd.models import ModelSpec, as_spec
from dd.models.pretrained import pretrained_constants, torchvision_model
from dd.teachers.squeeze import Teacher
from dd.whiten import Normalise

_IMAGENET = 1000


def pretrained_teacher(
    name: str, real: Images, class_ids: tuple[int, ...] | None = None, device: torch.device | None = None
) -> Teacher:
    """A teacher `tv:NAME(weights=…)` for this data, not trained any further.

    Args:
        name: text of the model, with weights.
        real: the data.
        class_ids: which of the 1,000 outputs are the data's classes; `None` takes those of the data's card.
        device: where it runs.

    Raises:
        InputError: not torchvision's, or no class ids are known.
        MissingError: the weights are not here and cannot be fetched.
    """
    spec = as_spec(name)
    if not isinstance(spec, ModelSpec) or not spec.name.startswith("tv:"):
        raise refuse("committee", "tv:NAME(weights=…) for a pretrained teacher", name)
    weights = str(dict(spec.options)["weights"])
    card = real.card
    if class_ids is None and card is not None and card.ilsvrc:
        class_ids = tuple(card.ilsvrc)
    if class_ids is None and real.num_classes != _IMAGENET:
        way_out = "Give `class_ids=`, the place of each class among the outputs."
        raise refuse("class_ids", f"given for {real.num_classes} classes of a net with 1,000 outputs", None, way_out)
    short = spec.name.removeprefix("tv:")
    net = torchvision_model(short, real.channels, _IMAGENET, real.size, weights=weights)
    mean, std = pretrained_constants(short, weights)
    target = device or torch.device("cpu")
    return Teacher(str(spec), net.to(target), Normalise(mean=mean, std=std), class_ids=class_ids)
