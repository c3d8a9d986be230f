"""Teachers with torchvision's or timm's weights: their own constants travel with them."""

from __future__ import annotations

import torch

from dd.data import Images
from dd.errors import refuse
from dd.models import ModelSpec, as_spec
from dd.models.images.pretrained import ZOOS, split_zoo
from dd.teachers.teacher import Teacher
from dd.transforms.whiten import Normalise

_IMAGENET = 1000


def pretrained_teacher(
    name: str, real: Images, class_ids: tuple[int, ...] | None = None, device: torch.device | None = None
) -> Teacher:
    """A teacher `tv:NAME(weights=…)` or `timm:NAME(weights=…)` for this data, not trained any further.

    Args:
        name: text of the model, with weights.
        real: the data.
        class_ids: which of the weights' outputs are the data's classes; `None` takes those of the data's card where
            there are 1,000 outputs, ImageNet's, else all.
        device: where it runs.

    Raises:
        InputError: of neither package, no weights, or no class ids are known.
        MissingError: the package or the weights are not here and cannot be fetched.
    """
    spec = as_spec(name)
    prefix, short = split_zoo(spec.name) if isinstance(spec, ModelSpec) else ("", "")
    weights = str(dict(spec.options).get("weights", "none")) if isinstance(spec, ModelSpec) else "none"
    if not prefix or weights == "none":
        raise refuse("committee", "tv:NAME(weights=…) or timm:NAME(weights=…) for a pretrained teacher", name)
    trained = ZOOS[prefix].trained(short, weights)
    card = real.card
    if class_ids is None and card is not None and card.ilsvrc and trained.outputs == _IMAGENET:
        class_ids = tuple(card.ilsvrc)
    if class_ids is None and real.num_classes != trained.outputs:
        way_out = "Give `class_ids=`, the place of each class among the outputs."
        expected = f"given for {real.num_classes} classes of a net with {trained.outputs:,} outputs"
        raise refuse("class_ids", expected, None, way_out)
    net = ZOOS[prefix].make(short, real.channels, trained.outputs, real.size, weights=weights)
    transform = Normalise(mean=trained.mean, std=trained.std)
    return Teacher(str(spec), net.to(device or torch.device("cpu")), transform, class_ids=class_ids)
