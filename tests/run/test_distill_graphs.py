"""Graphs through the door: lists of PyG's `Data`, pairs, run folders, splits, and what does not go together."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.trees import random_graphs
from torch import nn

import dd
from dd.base.files import read_json, read_jsonl
from dd.data.graphs.graphs import Graphs, GraphSplit
from dd.errors import InputError, MissingError
from dd.methods import CoverageWarning
from dd.models import GraphNet
from dd.synthetic import TreeSummary

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch_geometric.data import Data

TINY: dict[str, Any] = {"depth": 1, "budget_bytes": 400, "model": "gin(width=8)", "steps": 4}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CoverageWarning)
        yield


def split(seed: int = 0, count: int = 40, **options: Any) -> GraphSplit:
    given = {"features": (3,), "edge_features": (2,), "probability": 0.3} | options
    return random_graphs(seed, [5 + i % 4 for i in range(count)], **given)


def as_list(made: GraphSplit) -> list[Data]:
    """The same graphs as PyG's, one by one."""
    found = []
    for g in range(len(made)):
        one = made.slice(g, g + 1)
        found.append(Data(x=one.x, edge_index=one.edge_index, edge_attr=one.edge_attr, y=one.labels))
    return found


def distil(data: object, method: Any = "mirage", **options: Any) -> TreeSummary:
    fields = TINY if method == "mirage" else {}
    made = dd.distill(data, method, progress=False, **{**fields, **options})
    assert isinstance(made, TreeSummary)
    return made


def bytes_of(small: TreeSummary, path: Path) -> bytes:
    return small.save(path).read_bytes()


def evaluate(small: Any, data: object, **options: Any) -> dd.EvalReport:
    return dd.evaluate(small, data, progress=False, **{"repeats": 2, "baselines": (), **options})


# The data argument


def test_a_list_is_split_and_evaluated_on_graphs_that_were_not_seen(tmp_path: Path) -> None:
    graphs = as_list(split())
    small = distil(graphs)
    assert int(small.graphs.sum()) == 32
    told = small.provenance
    assert (told["dataset"], told["split"], told["rule"], told["selection"]) == ("graphs", 0, "random", "last iterate")
    report = evaluate(small, graphs, baselines=None)
    assert report.split == "test graphs of split 0, random"
    assert [row.set for row in report.rows] == ["mirage", "random", "naive_bayes", "node_count", "edges_per_node"]
    other = distil(graphs, split=3)
    assert other.provenance["split"] == 3
    assert bytes_of(other, tmp_path / "a") != bytes_of(small, tmp_path / "b")
    assert evaluate(other, graphs).split == "test graphs of split 3, random"
    with pytest.raises(InputError, match=r"`split` must be that of the summary, split 3 \(random\); got split 0"):
        evaluate(other, graphs, split=0)


def test_a_pair_keeps_its_own_test_graphs() -> None:
    train, test = as_list(split(0)), as_list(split(1, 16))
    small = distil((train, test))
    assert (small.provenance["rule"], int(small.graphs.sum())) == ("given", 36)  # a tenth of each class held out
    report = evaluate(small, (train, test), baselines=("random",), early_stop=True)
    assert report.split == "test graphs of split 0, given"
    assert len(report.rows) == 4
    # a bare list is all test graphs, as with images: the same networks and graphs, but nothing to draw from
    bare = evaluate(small, test, baselines=None)
    assert bare.rows[0].values == report.rows[0].values
    assert [row.set for row in bare.rows] == ["mirage", "naive_bayes"]
    assert "no random row: the data has no training graphs" in bare.notes


def test_graphs_are_taken_as_they_are() -> None:
    real = Graphs(train=split(0), val=split(1, 10), test=split(2, 14), classes=("no", "yes"))
    small = distil(real)
    assert small.classes == ("no", "yes")
    assert int(small.graphs.sum()) == 40
    assert evaluate(small, real).rows[0].values == evaluate(small, real).rows[0].values
    assert dd.load_graphs(real).fingerprint == real.fingerprint


def test_no_validation_graphs_are_needed_where_nothing_is_chosen() -> None:
    real = Graphs(train=split(0), test=split(2, 14), classes=("no", "yes"))
    assert len(evaluate(distil(real), real).rows[0].values) == 2
    assert len(distil(Graphs(train=split(0), classes=("no", "yes")))) > 0


def test_lists_and_pyg_graphs_without_features() -> None:
    bare = [Data(edge_index=d.edge_index, y=d.y, num_nodes=d.num_nodes) for d in as_list(split())]
    small = distil(bare)
    assert small.codes.kind == "degree"
    assert evaluate(small, bare, models="gcn(width=8)").rows[0].model == "gcn(width=8)"


def test_continuous_features_need_bins(capsys: pytest.CaptureFixture[str]) -> None:
    made = split()
    graphs = as_list(made)
    generator = torch.Generator().manual_seed(0)
    for one in graphs:
        one.x = one.x + torch.rand(one.x.shape, generator=generator)
    way_out = (
        r"`data` must be of categorical node features; got continuous ones\. Give `dd.load_graphs\(data, bins=8\)`"
    )
    for verb in (dd.distill, dd.estimate):
        with pytest.raises(InputError, match=way_out):
            verb(graphs, "mirage", budget_bytes=500)
    assert "mirage" not in capsys.readouterr().err  # no preset and no cost of what cannot be
    assert len(distil(dd.load_graphs(graphs, bins=8))) > 0
    real = dd.load_graphs(graphs, bins=4)
    small = distil(real)
    assert small.codes.sizes == (5,)
    assert evaluate(small, real).rows[0].mean > 0
    assert evaluate(small, dd.load_graphs(graphs, bins=real.bins, role="evaluate")).rows[0].mean > 0
    with pytest.raises(InputError, match="categorical node features, like the summary; got continuous ones"):
        evaluate(small, graphs)


# Fields


def test_a_threshold_alone_is_enough_and_a_budget_too() -> None:
    data = split()
    graphs = as_list(data)
    small = distil(graphs, "mirage", budget_bytes=None, min_support=3)
    only = dd.distill(graphs, "mirage", depth=1, min_support=3, progress=False)
    assert only.method["min_support"] == 3
    assert only.method["budget_bytes"] is None
    assert only.figures == small.figures
    assert min(t for t in only.figures["thresholds"] if t is not None) >= 3
    assert dd.distill(graphs, "mirage", depth=1, progress=False).method["budget_bytes"] == 2048
    with pytest.raises(InputError, match=r"given, or `min_support`, and not both; got both \(400, 3\)"):
        distil(graphs, min_support=3)
    by_value = dd.distill(graphs, dd.Mirage(depth=1, budget_bytes=None, min_support=3), progress=False)
    assert by_value.figures == only.figures


def test_fields_of_the_recipe_go_without_its_name() -> None:
    small = distil(as_list(split()), pool="mmean", lr=0.02, train={"dropout": 0.0})
    recipe = small.recipe
    assert (recipe.model, recipe.pool, recipe.lr, recipe.dropout, recipe.steps) == ("gin(width=8)", "mmean", 0.02, 0, 4)
    with pytest.raises(InputError, match="unknown field 'ipc' of mirage; known: "):
        distil(as_list(split()), ipc=1)
    with pytest.raises(InputError, match="unknown graph network 'convnet'"):
        distil(as_list(split()), model="convnet")


# Run folders, files, training


def test_a_run_folder_is_read_again_and_nothing_else_goes_into_it(tmp_path: Path) -> None:
    graphs, out = as_list(split()), tmp_path / "run"
    small = distil(graphs, out=out)
    assert {p.name for p in out.iterdir()} == {"synthetic.safetensors", "log.jsonl", "run.json"}
    (row,) = read_jsonl(out / "log.jsonl")
    assert row["patterns"] == len(small)
    run = read_json(out / "run.json")
    assert run["finished"]
    assert run["request"]["method"]["budget_bytes"] == 400
    first = (out / "synthetic.safetensors").read_bytes()
    stamp = (out / "synthetic.safetensors").stat().st_mtime_ns
    again = distil(graphs, out=out)
    assert (out / "synthetic.safetensors").stat().st_mtime_ns == stamp
    assert bytes_of(again, tmp_path / "again") == first == bytes_of(small, tmp_path / "small")
    with pytest.raises(InputError, match=r"holds another run \(method.budget_bytes: 400 there, 300 asked for\)"):
        distil(graphs, out=out, budget_bytes=300)
    with pytest.raises(InputError, match="holds another run"):
        distil(graphs, out=out, split=1)
    distil(graphs, out=out, split=1, resume=False)
    assert dd.load(out).provenance["split"] == 1
    assert "patterns of trees, 2 classes" in dd.verify(out)
    assert dd.verify(out / "synthetic.safetensors").endswith("every checksum matches")
    report = evaluate(out, graphs)
    assert report.bytes["total"] == (out / "synthetic.safetensors").stat().st_size


def test_an_interrupted_run_starts_again_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs, out = as_list(split()), tmp_path / "run"
    whole = bytes_of(distil(graphs), tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(TreeSummary, "save", lambda self, path: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            distil(graphs, out=out)
    assert not read_json(out / "run.json")["finished"]
    distil(graphs, out=out)
    assert (out / "synthetic.safetensors").read_bytes() == whole


def test_seeds_change_nothing_but_their_record(tmp_path: Path) -> None:
    """Nothing is drawn."""
    graphs = as_list(split())
    one, two = distil(graphs, seed=0), distil(graphs, seed=1)
    assert (one.provenance["seed"], two.provenance["seed"]) == (0, 1)
    sets = dd.distill_many(graphs, "mirage", seeds=(0, 1), out=tmp_path, progress=False, split=2, **TINY)
    assert [s.provenance["split"] for s in sets] == [2, 2]
    assert torch.equal(one.pattern_tree, two.pattern_tree)


def test_training_gives_the_network_of_the_evaluation(tmp_path: Path) -> None:
    small = distil(as_list(split()))
    path = small.save(tmp_path / "small")
    first, again, other = (dd.train(path, seed=s) for s in (1, 1, 2))
    assert isinstance(first, GraphNet)
    assert not first.training
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
    gcn = dd.train(small, "gcn(width=4)", steps=2, lr=0.1)
    assert sum(p.numel() for p in gcn.parameters()) < sum(p.numel() for p in first.parameters())
    with pytest.raises(InputError, match="Each run draws its own network"):
        dd.train(small, nn.Linear(2, 2))


# What does not go together


@pytest.mark.parametrize("method", ["mtt", "random", "cvdd"])
def test_methods_for_images_refuse_graphs(method: str) -> None:
    text = rf"`data` must be images for the method '{method}'; got 'graphs'. For this data there are: mirage"
    with pytest.raises(InputError, match=text):
        dd.distill(as_list(split()), method, progress=False)


@pytest.mark.parametrize("method", [dd.MTT(ipc=1), dd.methods.RandomReal(ipc=1)])
def test_values_of_methods_for_images_refuse_graphs(method: Any) -> None:
    with pytest.raises(InputError, match=rf"`data` must be images for the method '{method.name}'; got 'graphs'"):
        dd.distill(as_list(split()), method, progress=False)


@pytest.mark.parametrize("method", ["mirage", dd.Mirage()])
def test_mirage_refuses_images(method: Any) -> None:
    text = "`data` must be graphs for the method 'mirage'; got 'digits'. For this data there are: .*mtt"
    with pytest.raises(InputError, match=text):
        dd.distill("digits", method, progress=False)


def test_other_verbs_refuse_graphs(tmp_path: Path) -> None:
    graphs = as_list(split())
    small = distil(graphs)
    with pytest.raises(InputError, match="`data` must be images for `buffer`; got graphs"):
        dd.buffer(graphs, "mtt", store=tmp_path)
    with pytest.raises(InputError, match="`data` must be images for `teach`; got graphs"):
        dd.teach(graphs, store=tmp_path)
    with pytest.raises(InputError, match="images for the method 'mtt'"):
        dd.estimate(graphs, "mtt")
    with pytest.raises(InputError, match="`data` must be graphs for a summary of trees; got Images"):
        evaluate(small, "digits")
    images = dd.distill("digits", "random", ipc=1, progress=False)
    for wrong in (graphs, "digits-graphs"):
        with pytest.raises(InputError, match="`data` must be images for a set of images; got graphs"):
            dd.evaluate(images, wrong, progress=False)
    for name, value in (("early_stop", True), ("split", 1)):
        with pytest.raises(InputError, match=f"`{name}` must be left out for images"):
            dd.evaluate(images, "digits", progress=False, **{name: value})
    with pytest.raises(InputError, match="`size` must be left out for graphs"):
        distil(graphs, size=32)
    with pytest.raises(InputError, match="`split` must be left out for images"):
        dd.distill("digits", "random", split=2, progress=False)


def test_data_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"the files of 'NCI1' are not there; looked for NCI1_A.txt"):
        distil("nci1", root=tmp_path)
    with pytest.raises(
        InputError, match="`split` must be a whole number from 0 on, 'published', 'random' or 'random:K'; got -1"
    ):
        distil(as_list(split()), split=-1)
    with pytest.raises(InputError, match=r"graphs without any. A graph without edges is a bag of nodes"):
        distil([Data(x=d.x, edge_index=d.edge_index[:, :0], y=d.y) for d in as_list(split())])
