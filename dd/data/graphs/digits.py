"""Handwritten digits as graphs of their inked pixels: data that comes with a dependency and runs offline in seconds."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from dd.data.graphs.graphs import graph_split
from dd.data.graphs.sources import Unsplit
from dd.data.graphs.splits import held_out_rows
from dd.data.images.sources import digits

LEVELS: Final = 2
INK: Final = 16
"""Values of a pixel are 0 (no node) … 16."""


def digits_graphs() -> Unsplit:
    """The images of the card `digits` as graphs, with its 360 test images, and a tenth of train held out.

    A node is a pixel that is not blank, its label its ink in two levels (1 … 8 and 9 … 16 as 0 and 1). Edges join
    pixels that share a side, in both directions; label 0 side by side, 1 one above the other. Where a pixel lies is not
    told.
    """
    (x, y), (test_x, test_y) = digits()
    ink = (torch.cat([x, test_x])[:, 0].double() * INK / 255).round().to(torch.int64)
    labels = torch.cat([y, test_y])
    inked = ink > 0
    number = inked.flatten().cumsum(0).view_as(ink) - 1
    beside = _pairs(inked[:, :, :-1] & inked[:, :, 1:], number[:, :, :-1], number[:, :, 1:])
    below = _pairs(inked[:, :-1] & inked[:, 1:], number[:, :-1], number[:, 1:])
    edges = torch.cat([beside, below], dim=1)
    kind = torch.arange(2).repeat_interleave(torch.tensor([beside.shape[1], below.shape[1]]))
    graphs = graph_split(
        ((ink[inked] - 1) * LEVELS // INK)[:, None],
        torch.cat([edges, edges.flip(0)], dim=1),
        kind.repeat(2)[:, None],
        torch.cat([torch.zeros(1, dtype=torch.int64), inked.flatten(1).sum(1).cumsum(0)]),
        labels,
    )
    first, last = torch.arange(len(y)), torch.arange(len(y), len(labels))
    return Unsplit(graphs, held_out_rows(labels, first, last, 10), ("ink",), ("side",))


def _pairs(both: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Numbers of the two pixels of each pair that is inked on `both` sides, `[2, E]`."""
    return torch.stack([a[both], b[both]])
