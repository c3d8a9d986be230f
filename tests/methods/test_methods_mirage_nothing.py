"""What Mirage says where its fields keep no pattern: the least budget is true to a byte, every way out keeps some."""

from __future__ import annotations

import re
import warnings
from typing import Any

import pytest
import torch
from reference.trees import random_graphs

from dd.data.graphs.graphs import Graphs
from dd.data.graphs.load import load_graphs
from dd.errors import InputError
from dd.methods import Run
from dd.methods.mirage import Mirage
from dd.synthetic import TreeSummary


def ring(n: int, label: int) -> Any:
    """A ring of n nodes."""
    from torch_geometric.data import Data

    ends = torch.arange(n)
    edges = torch.stack([ends, (ends + 1) % n])
    return Data(edge_index=torch.cat([edges, edges.flip(0)], 1), y=torch.tensor([label]), num_nodes=n)


def star(n: int, label: int) -> Any:
    """A star of n nodes."""
    from torch_geometric.data import Data

    edges = torch.stack([torch.zeros(n - 1, dtype=torch.int64), torch.arange(1, n)])
    return Data(edge_index=torch.cat([edges, edges.flip(0)], 1), y=torch.tensor([label]), num_nodes=n)


@pytest.fixture(scope="module")
def rings_and_stars() -> Graphs:
    return load_graphs([made(n, k) for k, made in enumerate((ring, star)) for n in range(6, 36)])


@pytest.fixture(scope="module")
def twins() -> Graphs:
    """The same rings in both classes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that they are twins
        return load_graphs([ring(n, k) for k in range(2) for n in range(6, 36)])


def made(real: Graphs, **fields: Any) -> TreeSummary:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (step,) = Mirage(**fields).distill(real, Run())
    small = step.candidates[0].set
    assert isinstance(small, TreeSummary)
    return small


def refused(real: Graphs, **fields: Any) -> str:
    with pytest.raises(InputError) as told:
        made(real, **fields)
    return str(told.value)


def ways_out(message: str) -> list[dict[str, Any]]:
    """The fields of each `use a=1 and b='x'` of a message."""
    last = re.split(r"; got .*?\. ", message, maxsplit=1)[1]
    ways = [re.findall(r"(\w+)=('\w+'|\w+)", way) for way in re.split(r", or ", last)]
    known = {"True": True, "False": False}
    return [{k: known.get(v, v.strip("'") if "'" in v else v) for k, v in way} for way in ways if way]


def test_a_class_all_of_whose_trees_are_common_has_a_rung_of_maximal_sets(rings_and_stars: Graphs) -> None:
    small = made(rings_and_stars, depth=1, patterns="maximal")
    assert (len(small), small.labels.tolist(), small.published) == (1, [0], 22)
    assert small.figures["thresholds"][0] == int(rings_and_stars.graphs_per_class[0])


@pytest.mark.parametrize("kind", ["all", "closed", "maximal", "single"])
@pytest.mark.parametrize("depth", [1, 2, None])
def test_the_least_budget_that_is_told_is_the_least_that_holds_a_pattern(kind: str, depth: int | None) -> None:
    split = random_graphs(0, [4, 5, 6, 5, 4, 6, 5, 5, 4, 6, 5, 4], features=(2,), edge_features=(2,))
    real = Graphs(train=split, classes=("no", "yes"))
    fields = {"patterns": kind, "depth": depth}
    message = refused(real, **fields, budget_bytes=5)
    told = re.match(
        r"`budget_bytes` must be enough for the first pattern of a class, ([\d,]+) bytes or more of depth (\d) here; "
        r"got 5. Raise it\.$",
        message,
    )
    assert told, message
    least = int(told[1].replace(",", ""))
    small = made(real, **fields, budget_bytes=least)
    assert (len(small) > 0, small.published <= least, small.depth) == (True, True, int(told[2]))
    refused(real, **fields, budget_bytes=least - 1)


def test_fields_that_help_are_named_and_those_that_do_not_are_not(rings_and_stars: Graphs) -> None:
    deep = refused(rings_and_stars, depth=3, budget_bytes=30)
    assert deep.endswith("got 30. Raise it, or use depth=1.")
    assert made(rings_and_stars, depth=1, budget_bytes=30).published <= 30
    assert refused(rings_and_stars, depth=1, budget_bytes=10).endswith("got 10. Raise it.")
    assert refused(rings_and_stars, depth=1, budget_bytes=10, node_label="constant").endswith("got 10. Raise it.")
    wide = random_graphs(2, [6] * 20, features=(9, 9, 9, 9))
    real = Graphs(train=wide, classes=("no", "yes"))
    assert "or use node_label='constant'" in refused(real, depth=1, budget_bytes=40)
    assert made(real, depth=1, budget_bytes=40, node_label="constant").published <= 40


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"rank": "gap", "patterns": "single"}, "`rank` must be `support`, where no tree is more frequent in one"),
        ({"rank": "gap", "patterns": "single", "min_support": 2}, "`rank` must be `support`"),
        ({"rank": "gap", "patterns": "single", "drop_shared": True}, "Use drop_shared=False and rank='support'"),
        ({"drop_shared": True}, "`drop_shared` must be False, where every set of trees is as good as frequent in"),
        ({"drop_shared": True, "patterns": "single"}, "got True. Use drop_shared=False."),
        ({"drop_shared": True, "patterns": "maximal"}, "got True. Use drop_shared=False."),
        ({"drop_shared": True, "patterns": "all"}, "got True. Use drop_shared=False."),
        ({"drop_shared": True, "min_support": 2}, "got True. Use drop_shared=False."),
        ({"drop_shared": True, "budget_bytes": 5}, "Use drop_shared=False and a larger `budget_bytes`."),
    ],
)
def test_where_no_budget_helps_the_field_that_leaves_all_out_is_named(
    twins: Graphs, fields: dict[str, Any], text: str
) -> None:
    fields = {"depth": 1, **fields, **({"budget_bytes": None} if "min_support" in fields else {})}
    message = refused(twins, **fields)
    assert text in message
    (way,) = ways_out(message)
    assert len(made(twins, **{**fields, **way, **({"budget_bytes": 22} if "larger" in message else {})}))


def test_a_threshold_above_every_support_is_refused_as_such(twins: Graphs) -> None:
    message = refused(twins, drop_shared=True, depth=1, budget_bytes=None, min_support=200)
    best = [int(n) for n in twins.graphs_per_class]
    assert message == f"`min_support` must be at most {best}, the best supports of a tree; got 200. Lower it."
