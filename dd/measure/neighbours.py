"""`dd.neighbours`: the real training image nearest to each synthetic one, and whether that is nearer than usual."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Unpack, final

import torch
from torch import Tensor, nn

from dd.base.markup import Told
from dd.base.process import under_own_settings
from dd.data.images.nearest import Embed, flat, nearest
from dd.errors import DDError, refuse
from dd.measure.bench import AnyImageSet, Options, open_bench, some_rows
from dd.measure.values import table
from dd.models.features import features
from dd.run.keep import kept
from dd.transforms.whiten import Transform

_USUAL = 200


@final
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Neighbours(Told):
    """What `dd.neighbours` answers; `print` is a table.

    Attributes:
        index: row of the training split nearest to each synthetic image, int64 `[n]`.
        distance: Euclidean, float32 `[n]`: of pixels in [0, 1], or of features.
        labels: class of each synthetic image, int64 `[n]`.
        real_labels: class of its neighbour, int64 `[n]`.
        usual: the same distance of up to 200 held-out real images, float32 `[m]`; empty where there are none.
        space: `pixels` or `features`.
        dataset, method, origin: what was measured, and where.
    """

    index: Tensor
    distance: Tensor
    labels: Tensor
    real_labels: Tensor
    usual: Tensor
    space: str
    dataset: str
    method: str
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def closer(self) -> float | None:
        """Share of synthetic images that are nearer to a training image than 95 % of real ones are; 5 % is usual."""
        if not len(self.usual):
            return None
        return float((self.distance < torch.quantile(self.usual, 0.05)).double().mean())

    @property
    def same_class(self) -> float:
        """Share of synthetic images whose neighbour has their class."""
        return float((self.labels == self.real_labels).double().mean())

    def to_json(self) -> dict[str, Any]:
        """Every figure as JSON-able values."""
        return {
            "measure": "neighbours",
            "dataset": self.dataset,
            "method": self.method,
            "space": self.space,
            "index": self.index.tolist(),
            "distance": self.distance.tolist(),
            "labels": self.labels.tolist(),
            "real_labels": self.real_labels.tolist(),
            "same_class": self.same_class,
            "closer_than_usual": self.closer,
            "usual": _quartiles(self.usual),
            "origin": dict(self.origin),
        }

    def __str__(self) -> str:
        rows = []
        for name, values in (("synthetic", self.distance), ("held-out real", self.usual)):
            if len(values):
                told = _quartiles(values)
                rows.append((name, *(f"{told[k]:.3f}" for k in ("least", "median", "most")), str(len(values))))
        lines = [f"{self.method} on {self.dataset}: distance to the nearest training image, {self.space}"]
        lines += table(("images", "least", "median", "most", "n"), rows)
        lines.append(f"{100 * self.same_class:.1f} % of the neighbours have the synthetic image's class")
        if self.closer is not None:
            lines.append(f"{100 * self.closer:.1f} % are nearer than all but 5 % of real images")
        return "\n".join(lines)


def features_of(net: nn.Module, transform: Transform, device: torch.device | None = None) -> Embed:
    """What goes into the last linear layer of `net`, in eval mode, as an embedding of pixels."""
    where = torch.device("cpu") if device is None else device

    @torch.no_grad()
    def embed(pixels: Tensor) -> Tensor:
        net.eval()
        return features(net, lambda: net(transform.forward(pixels.to(where)))).cpu()

    return embed


def _quartiles(values: Tensor) -> dict[str, float]:
    if not len(values):
        return {}
    return {"least": float(values.min()), "median": float(values.median()), "most": float(values.max())}


@under_own_settings
@kept("neighbours")
def neighbours(
    small: AnyImageSet,
    data: object,
    *,
    net: nn.Module | None = None,
    same_class: bool = False,
    **options: Unpack[Options],
) -> Neighbours:
    """The real training image nearest to each synthetic one, in pixels or in the features of a network.

    Compared with how near held-out real images come to training images: a set of copies is nearer than that. Canvases
    are cut into their pictures. Real images are read a thousand at a time.

    Args:
        small: an image set, its file or its run folder.
        data: as in `dd.distill`, with the training images that the set was made from.
        net: compare what goes into its last linear layer (of images in the set's model space); `None`: pixels.
        same_class: look only among real images of the synthetic image's class.
        **options: see `dd.measure.bench.Options`; nothing is trained: model, repeats, steps and lr are not read.

    Raises:
        InputError: no training images, or a network without a linear layer.
    """
    bench = open_bench(small, data, test=False, **options)
    ready = bench.small
    pixels, labels = _pictures(ready.pixels(), ready.canvas), _classes(ready.labels)
    labels = labels.repeat_interleave(ready.canvas**2)
    where = bench.learner.device
    embed = flat if net is None else features_of(net.to(where), ready.ready_transform(), where)
    index, distance = nearest(pixels, bench.train, embed, labels if same_class else None)
    held = bench.real.val if bench.real.val is not None else bench.real.test
    usual = torch.zeros(0)
    if held is not None and len(held):
        some = some_rows(held, _USUAL, bench.seed, "usual")
        try:
            usual = nearest(some.pixels(), bench.train, embed, some.labels if same_class else None)[1]
        except DDError as error:  # a class without training images
            raise refuse("same_class", "False for this data", "True") from error
    about = bench.about
    about.pop("model")
    return Neighbours(
        index=index,
        distance=distance,
        labels=labels,
        real_labels=bench.train.labels[index],
        usual=usual,
        space="pixels" if net is None else "features",
        **about,
    )


def _classes(labels: Tensor) -> Tensor:
    return labels if labels.ndim == 1 else labels.argmax(1)


def _pictures(pixels: Tensor, canvas: int) -> Tensor:
    """Canvases `[n, C, c·H, c·W]` as their pictures `[n·c², C, H, W]`, row by row."""
    if canvas == 1:
        return pixels
    n, c, height, width = pixels.shape
    parts = pixels.reshape(n, c, canvas, height // canvas, canvas, width // canvas).permute(0, 2, 4, 1, 3, 5)
    return parts.reshape(-1, c, height // canvas, width // canvas)
