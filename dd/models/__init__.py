"""Networks by name: `build("convnet(width=32)", channels=3, classes=10, size=(32, 32), seed=0)`."""

from dd.models.convnet import Block, ConvNet, convnet
from dd.models.spec import (
    MODELS,
    Model,
    ModelSpec,
    as_spec,
    build,
    count_parameters,
    uses_batch_stats,
)

__all__ = [
    "MODELS",
    "Block",
    "ConvNet",
    "Model",
    "ModelSpec",
    "as_spec",
    "build",
    "convnet",
    "count_parameters",
    "uses_batch_stats",
]
