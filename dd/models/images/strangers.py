"""Three networks that a set has not seen: of another depth, another norm and another family."""

from __future__ import annotations

from typing import Any, Final

from dd.models.images.convnet import Size, default_depth
from dd.models.images.spec import AnyModel, ModelSpec, as_spec

UNSEEN: Final = "unseen"
"""The word that stands for the three of them among the models of images."""


def strangers(model: AnyModel, size: Size) -> list[ModelSpec]:
    """[another depth, another norm, another family] than a set's own network.

    Of a ConvNet its own width and pooling stay: one block less (one more where it has one), and batch norm for any
    other norm (instance norm for batch norm); the family is `resnet9` of a quarter of its width, at least 8, as the
    default of both is (128 and 32). Of any other network they are the ConvNet of width 64, the same with batch norm,
    and `resnet9`, or `vgg11` where the set's own is that.

    Args:
        model: the set's own.
        size: height and width of its pictures, in pixels.
    """
    own = as_spec(model)
    if not isinstance(own, ModelSpec) or own.name != "convnet":
        family = "vgg11" if isinstance(own, ModelSpec) and own.name == "resnet9" else "resnet9"
        two = [ModelSpec.of("convnet", width=64), ModelSpec.of("convnet", width=64, norm="batch")]
        return [*two, ModelSpec.of(family)]
    told: dict[str, Any] = dict(own.options)
    depth = told.get("depth") or default_depth(size)
    norm = "instance" if told.get("norm") == "batch" else "batch"
    slim = max(8, told["width"] // 4) if "width" in told else None
    return [
        ModelSpec.of("convnet", **{**told, "depth": depth - 1 if depth > 1 else 2}),
        ModelSpec.of("convnet", **{**told, "norm": norm}),
        ModelSpec.of("resnet9") if slim is None else ModelSpec.of("resnet9", width=slim),
    ]
