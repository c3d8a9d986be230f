"""Small real data that is made where a check is given none."""

from __future__ import annotations

from functools import cache
from typing import Final

import torch

from dd.data import Images, load_images
from dd.data.graphs.graphs import Graphs
from dd.data.graphs.load import load_graphs
from dd.data.nodes.nodes import Nodes


@cache
def pictures() -> Images:
    """120 pictures 3×8×8 of three classes, one bright colour each, and 30 for tests."""
    labels = torch.arange(150) % 3
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 80, (150, 3, 8, 8), generator=generator, dtype=torch.uint8)
    for k in range(3):
        pixels[labels == k, k] += 150
    return load_images(Images(train=(pixels[30:], labels[30:]), test=(pixels[:30], labels[:30])))


@cache
def graphs() -> Graphs:
    """40 rings and stars with random labels of their nodes."""
    from torch_geometric.data import Data

    generator, made = torch.Generator().manual_seed(0), []
    for i in range(40):
        n = 5 + i % 4
        ends = torch.arange(n)
        edges = torch.stack([ends, (ends + 1) % n]) if i % 2 else torch.stack([torch.zeros(n - 1).long(), ends[1:]])
        x = torch.nn.functional.one_hot(torch.randint(3, (n,), generator=generator), 3).float()
        made.append(Data(x=x, edge_index=torch.cat([edges, edges.flip(0)], 1), y=torch.tensor([i % 2])))
    return load_graphs(made)


@cache
def nodes() -> Nodes:
    """A graph of 120 nodes of three classes, split at random."""
    from dd.data.nodes.blocks import block_model
    from dd.data.nodes.load import made

    return made(block_model(120, 3, 18, 400, signal=0.6), {}, ("a", "b", "c"))


MADE: Final = {"images": pictures, "graphs": graphs, "nodes": nodes}
"""By kind."""
