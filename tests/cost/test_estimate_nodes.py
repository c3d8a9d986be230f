"""What small graphs will cost: the networks that choose among the sets of a budget are in it."""

from __future__ import annotations

import pytest
import torch
from reference.nodes import own

from dd.cost.nodes import estimate_nodes
from dd.data.nodes.load import load_nodes
from dd.methods.nodes.bonsai import Bonsai
from dd.methods.nodes.means import NodeMeans
from dd.synthetic import NodeRecipe

CPU = torch.device("cpu")


def choosing(method: NodeMeans | Bonsai, calibrate: bool = False, **changes: object) -> float:
    return estimate_nodes(method, load_nodes(own(**changes)), CPU, calibrate).stages.get("selection", 0.0)


@pytest.mark.parametrize("calibrate", [False, True])
def test_networks_that_choose_are_in_the_estimate(calibrate: bool) -> None:
    few, many = (NodeMeans(budget_bytes=300, train=NodeRecipe(steps=steps)) for steps in (30, 3000))
    assert choosing(few, calibrate) > 0
    assert choosing(many) == pytest.approx(100 * choosing(few))


def test_one_set_is_not_chosen() -> None:
    assert choosing(Bonsai()) == 0
    assert choosing(NodeMeans(budget_bytes=None, nodes=2)) == 0
    assert choosing(NodeMeans(budget_bytes=30)) == 0
    assert choosing(NodeMeans(budget_bytes=300), val_mask=None) == 0
