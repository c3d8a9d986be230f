"""AlexNet, VGG-11, LeNet and MLP in the small forms of the dataset-distillation literature.

Each is `classifier(flatten(features(x)))`. The first convolution of AlexNet and LeNet and the last pool of
VGG have stride 2 from 64 px on, as in the published 64 px variants. At sizes nobody published the linear
layer takes whatever map is left.
"""

from __future__ import annotations

from typing import Final, final

from torch import Tensor, nn

from dd.models.images.convnet import Size, is_mnist, map_size, norm_layer
from dd.models.images.resnet import first_stride

VGG11: Final = (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0)
"""Widths of the convolutions; 0 is a 2×2 maximum pool."""


@final
class FeatureNet(nn.Module):
    """`features` (a `Sequential`, possibly empty) and `classifier` on the flattened map."""

    def __init__(self, features: nn.Sequential, classifier: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        """Logits `[N, K]` of pictures `[N, C, H, W]`."""
        return self.classifier(self.features(x).flatten(1))


def alexnet(channels: int, classes: int, size: Size) -> FeatureNet:
    """AlexNet without norm, dropout and hidden linear layers: five convolutions, linear 192·4·4 at 32 px.

    Args:
        channels: C; one-channel 28×28 pictures are padded to 32×32 by the first convolution.
        classes: K.
        size: height and width in pixels, at least 8.

    Raises:
        InputError: pictures too small.
    """
    padding = 4 if is_mnist(channels, size) else 2
    features = nn.Sequential(
        nn.Conv2d(channels, 128, kernel_size=5, stride=first_stride(size), padding=padding),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(128, 192, kernel_size=5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(192, 256, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 192, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(192, 192, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )
    height, width = map_size(features, size, "alexnet")
    return FeatureNet(features, nn.Linear(192 * height * width, classes))


def vgg11(channels: int, classes: int, size: Size, *, norm: str = "instance") -> FeatureNet:
    """VGG-11 with a norm after every convolution and a single linear layer, 512 wide at 32 and 64 px.

    From 64 px on the last pool is a 1×1 average pool of stride 2, which keeps every second value (at 64 px:
    the upper left one of four). That is the published 64 px variant, odd as it is.

    Args:
        channels: C; one-channel 28×28 pictures are padded to 32×32 by the first convolution.
        classes: K.
        size: height and width in pixels, at least 32.
        norm: `instance`, `batch`, `layer`, `group` or `none`; the first two are published.

    Raises:
        InputError: an unknown norm, or pictures too small.
    """
    layers: list[nn.Module] = []
    inputs = channels
    for width in VGG11:
        if width == 0:
            layers.append(nn.MaxPool2d(2))
            continue
        padding = 3 if not layers and is_mnist(channels, size) else 1
        convolution = nn.Conv2d(inputs, width, kernel_size=3, padding=padding)
        layers += [convolution, norm_layer(norm, width), nn.ReLU()]
        inputs = width
    if first_stride(size) == 2:
        layers.append(nn.AvgPool2d(kernel_size=1, stride=2))
    height, width = map_size(layers, size, "vgg11")
    return FeatureNet(nn.Sequential(*layers), nn.Linear(512 * height * width, classes))


def lenet(channels: int, classes: int, size: Size) -> FeatureNet:
    """LeNet-5 with ReLU and maximum pools: 6 and 16 filters of 5×5, linear 120, 84, K.

    Args:
        channels: C; with one channel the first convolution has padding 2, so 28×28 acts as 32×32.
        classes: K.
        size: height and width in pixels, at least 16 (12 with one channel).

    Raises:
        InputError: pictures too small.
    """
    padding = 2 if channels == 1 else 0
    features = nn.Sequential(
        nn.Conv2d(channels, 6, kernel_size=5, stride=first_stride(size), padding=padding),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, kernel_size=5),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )
    height, width = map_size(features, size, "lenet")
    classifier = nn.Sequential(
        nn.Linear(16 * height * width, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, classes),
    )
    return FeatureNet(features, classifier)


def mlp(channels: int, classes: int, size: Size) -> FeatureNet:
    """Two hidden layers of 128 on the flattened picture; any size, no padding.

    Args:
        channels: C.
        classes: K.
        size: height and width in pixels.
    """
    classifier = nn.Sequential(
        nn.Linear(channels * size[0] * size[1], 128),
        nn.ReLU(),
        nn.Linear(128, 128),
        nn.ReLU(),
        nn.Linear(128, classes),
    )
    return FeatureNet(nn.Sequential(), classifier)
