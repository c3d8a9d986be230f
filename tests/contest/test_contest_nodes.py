"""Sets of nodes beside real nodes and readings: rows, equal bytes, validation nodes, and what does not go together."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.nodes import own, shuffled

import dd
from dd.cli.main import main
from dd.contest.baselines_nodes import NODE_BASELINES, BesideNodes
from dd.data.nodes.graph import NodeGraph
from dd.data.nodes.load import load_nodes
from dd.data.nodes.propagate import propagated
from dd.errors import DivergedError, InputError
from dd.evaluation.nodes import NodeLearner, WholeGraph
from dd.synthetic import NodeRecipe, NodeSet, stored_bytes

QUICK = NodeRecipe(model="gcn(width=4)", steps=6, every=2, lr=0.05)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def small() -> NodeSet:
    made = dd.distill(own(), "node_means", budget_bytes=150, train=QUICK, progress=False)
    assert isinstance(made, NodeSet)
    return made


def test_rows_of_all_baselines(small: NodeSet) -> None:
    report = dd.evaluate(small, own(), models=["gcn(width=4)", "sgc"], repeats=2, baselines=list(NODE_BASELINES))
    sets = [(row.set, row.model) for row in report.rows]
    trained = ("node_means", "random", "random_egos", "herding", "k_center")
    both = [(name, model) for name in trained for model in ("gcn(width=4)", "sgc")]
    read = [("features", "mlp"), ("label_propagation", "no network"), ("class_means", "no network")]
    assert sets == [*both, *read, ("full", "gcn(width=4)"), ("full", "sgc")]
    assert report.split == "test nodes of split 0, given, transductive"
    assert "best step on the validation nodes" in report.selection
    assert report.bytes["counted"] == small.nbytes.counted
    spent = {row.set: row.bytes for row in report.rows}
    assert spent["node_means"] == small.nbytes.counted
    assert all(0 < (spent[name] or 0) <= small.nbytes.counted for name in trained)
    assert {spent[name] for name in ("features", "label_propagation", "class_means", "full")} == {None}
    assert list(report.about) == list(NODE_BASELINES)
    assert any("of the graph stored alike" in note for note in report.notes)
    assert report.support == {"0": 10, "1": 10}


def test_baselines_have_at_most_the_bytes_of_the_set(small: NodeSet) -> None:
    beside = BesideNodes(small, load_nodes(own()))
    for name in ("random", "random_egos", "herding", "k_center"):
        one = NODE_BASELINES[name]
        graph = one.stand(beside).graphs[0]
        size = stored_bytes(graph, 2)
        assert 0 < size <= small.nbytes.counted
        assert size > small.nbytes.counted / 2
        found = set(graph.y[graph.y >= 0].tolist())
        assert found == {0, 1} or (name == "random_egos" and found)  # one ego net may be all that fits
    egos = NODE_BASELINES["random_egos"].stand(beside).graphs[0]
    assert egos.num_edges


def test_nothing_fits_a_few_bytes(small: NodeSet) -> None:
    tiny = dataclasses.replace(small, graph=NodeGraph(torch.eye(2, 8), torch.zeros(2, 0).long(), torch.arange(2)))
    beside = BesideNodes(tiny, load_nodes(own(x=torch.rand(60, 8))))
    with pytest.raises(InputError, match="`baselines` must be without random: no node fits the"):
        NODE_BASELINES["random"].stand(beside)


def test_baselines_do_not_depend_on_the_order_of_nodes(small: NodeSet) -> None:
    for name in ("random", "random_egos", "herding", "k_center"):
        graphs = [
            NODE_BASELINES[name].stand(BesideNodes(small, load_nodes(d))).graphs[0] for d in (own(), shuffled(own()))
        ]
        assert torch.equal(graphs[0].x, graphs[1].x)
        assert torch.equal(graphs[0].edge_index, graphs[1].edge_index)


def test_herding_takes_what_brings_the_mean_nearest_and_k_center_what_is_farthest(small: NodeSet) -> None:
    beside = BesideNodes(small, load_nodes(own()))
    features = propagated(beside.seen, 2, "rows")[-1]
    own_rows = beside.lists[0]
    from dd.contest.baselines_nodes import _herding, _k_center

    taken: list[int] = []
    for part in _herding(features, own_rows):
        left = [r for r in own_rows.tolist() if r not in taken]
        mean = features[own_rows].mean(0)
        away = [float((mean - features[[*taken, r]].mean(0)).norm()) for r in left]
        assert int(part) == left[away.index(min(away))]
        taken.append(int(part))
    taken = []
    for part in _k_center(features, own_rows):
        if taken:
            left = [r for r in own_rows.tolist() if r not in taken]
            away = [min(float((features[r] - features[t]).norm()) for t in taken) for r in left]
            assert away[left.index(int(part))] == pytest.approx(max(away))
        taken.append(int(part))


def test_label_propagation_is_the_slow_one(small: NodeSet) -> None:
    from reference.nodes import operator

    real = load_nodes(own())
    matrix = operator(NodeGraph(real.x, real.edge_index, real.y), "both")
    start = torch.zeros(60, 2, dtype=torch.float64)
    for row, label in zip(real.train.rows.tolist(), real.train.labels.tolist(), strict=True):
        start[row, label] = 1
    held = start
    for _ in range(50):
        held = 0.9 * matrix @ held + 0.1 * start
    found = NODE_BASELINES["label_propagation"].make(BesideNodes(small, real), 0)
    assert isinstance(found, torch.Tensor)
    assert real.test is not None
    assert found.argmax(1).tolist() == held[real.test.rows].argmax(1).tolist()


def test_the_step_is_chosen_on_validation_nodes_and_not_on_test_nodes(small: NodeSet) -> None:
    real = load_nodes(own())
    whole = WholeGraph.of(real, small.recipe.scale, CPU)
    assert real.val is not None
    predictor = NodeLearner().fit(small, 0, whole)
    last = NodeLearner().fit(small.with_recipe(stop="last"), 0, whole)
    assert predictor.step % 2 == 0
    assert last.step == 6
    assert predictor.val == predictor.score(whole, real.val)
    assert predictor.val >= (last.val or 0)
    assert real.test is not None
    flipped = dataclasses.replace(real, test=dataclasses.replace(real.test, labels=1 - real.test.labels))
    again = NodeLearner().fit(small, 0, WholeGraph.of(flipped, small.recipe.scale, CPU))
    assert (again.step, again.val) == (predictor.step, predictor.val)
    other = own(val_mask=None)
    alone = dd.distill(other, "node_means", budget_bytes=150, train=QUICK, progress=False)
    assert ", last step of training" in dd.evaluate(alone, other, repeats=1, baselines=[]).selection


def test_candidates_are_chosen_on_validation_nodes_whatever_the_protocol(small: NodeSet) -> None:
    for protocol in ("clean", "paper"):
        fields: dict[str, Any] = {"protocol": protocol, "train": QUICK, "progress": False}
        made = dd.distill(own(), "node_means", budget_bytes=300, **fields)
        assert "candidates on the validation nodes" in made.provenance["selection"]


def test_another_split_of_the_graph_is_refused(small: NodeSet) -> None:
    with pytest.raises(InputError, match=r"`split` must be that of the set, split 0 \(given\); got split 0 \(random\)"):
        dd.evaluate(small, own(), split="random")
    noted = dd.evaluate(small, shuffled(own()), repeats=1, baselines=[])
    assert any("not the graph that the set was distilled from" in note for note in noted.notes)
    drawn = dd.distill(own(), "node_means", split="random:2", budget_bytes=150, train=QUICK, progress=False)
    assert "split 2, random" in dd.evaluate(drawn, own(), repeats=1, baselines=[]).split


@pytest.mark.parametrize(
    ("data", "options", "text"),
    [
        ("digits-graphs", {}, "`data` must be one graph whose nodes have classes, for a set of nodes; got graphs"),
        ("digits", {}, "for a set of nodes; got images"),
        ("blocks", {}, "`data` must be of 2 classes, like the set; got 4"),
        (None, {"early_stop": True}, "`early_stop` must be left out for nodes"),
        (None, {"models": "gin(norm=batch)"}, "unknown option of gin 'norm'"),
        (None, {"models": "convnet"}, "unknown network for nodes"),
        (None, {"baselines": ["naive_bayes"]}, "unknown baseline for nodes 'naive_bayes'"),
        (None, {"metric": "f1"}, "f1"),
        ("features", {}, "`data` must be of 8 features a node, like the set; got 3"),
    ],
)
def test_what_does_not_go_together(small: NodeSet, data: Any, options: dict[str, Any], text: str) -> None:
    given = own() if data is None else own(x=torch.rand(60, 3)) if data == "features" else data
    with pytest.raises(InputError, match=text.replace("(", r"\(").replace(")", r"\)")):
        dd.evaluate(small, given, repeats=1, **options)


def test_a_summary_of_trees_is_not_tested_on_nodes() -> None:
    graphs = dd.distill("digits-graphs", "mirage", depth=1, patterns="single", progress=False)
    with pytest.raises(InputError, match="`data` must be graphs for a summary of trees; got Nodes"):
        dd.evaluate(graphs, "blocks")


def test_a_network_of_another_form_is_named(small: NodeSet) -> None:
    class Wrong(torch.nn.Linear):
        def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
            return x

    with pytest.raises(InputError, match=r"`model` must be a network that gives logits \[\d+, 2\]; got \[\d+, 8\]"):
        dd.evaluate(small, own(), models=Wrong, repeats=1, baselines=[])
    with pytest.raises(DivergedError, match="Give a lower `lr`"):
        dd.evaluate(small, own(), lr=1e30, repeats=1, baselines=[])


def test_tuning_is_by_validation_nodes(small: NodeSet) -> None:
    report = dd.evaluate(small, own(), lr="tuned", repeats=1, baselines=["random"])
    assert {row.lr for row in report.rows} <= {0.001, 0.003, 0.01, 0.03}
    bare = own(val_mask=None)
    made = dd.distill(bare, "node_means", budget_bytes=150, train=QUICK, progress=False)
    with pytest.raises(InputError, match="`lr` must be `recipe` or a number, since this data has no validation nodes"):
        dd.evaluate(made, bare, lr="tuned")


def test_train_gives_a_network(small: NodeSet) -> None:
    from dd.models import NodeInput

    net = dd.train(small, "gat(width=4, heads=2)", steps=2)
    assert not net.training
    assert net(NodeInput.of(small.graph, small.recipe.scale, CPU)).shape == (len(small), 2)


def test_as_good_readings_are_told() -> None:
    from dd.contest.nodes import as_good
    from dd.evaluation import Row

    told: dict[str, Any] = {"model": "gcn", "steps": 1, "lr": 0.1, "seconds": 0.0}
    rows = [Row(set=name, values=(value,), **told) for name, value in (("own", 0.7), ("features", 0.7))]
    assert as_good(rows) == ["a network that sees no edges (features) is as good: 70.0 % beside 70.0 %"]
    assert as_good([rows[0], dataclasses.replace(rows[1], values=(0.6,))]) == []


def test_the_file_of_a_set_does_not_depend_on_classes_of_test_nodes(tmp_path: Path) -> None:
    data = own()
    other = own(y=torch.where(data.test_mask, 1 - data.y, data.y))
    for method in ("node_means", "bonsai"):
        files = [
            dd.distill(one, method, budget_bytes=150, train=QUICK, progress=False).save(tmp_path / f"{method}-{i}")
            for i, one in enumerate((data, other))
        ]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_a_benchmark_of_nodes(tmp_path: Path) -> None:
    given: dict[str, Any] = {"budget_bytes": [120], "models": ["gcn(width=4)", "sgc"], "repeats": 1, "steps": 3}
    method = dd.NodeMeans(train=QUICK)
    board = dd.benchmark(own(), method, out=tmp_path, progress=False, **given)
    sets = {cell["set"] for cell in board.cells}
    assert {"node_means", "random", "features", "full"} <= sets
    assert not [cell["refused"] for cell in board.cells if cell.get("refused")]
    assert board.unit == "bytes"
    assert f"takes {stored_bytes(load_nodes(own()).seen(), 2):,} bytes, stored alike" in board.notes[0]
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
    dd.benchmark(own(), method, out=tmp_path, progress=False, **given)
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
    data = own()
    other = own(y=torch.where(data.test_mask, 1 - data.y, data.y))  # other classes of test nodes are other tests
    with pytest.raises(InputError, match=r"of another benchmark \(other test_sha256\)"):
        dd.benchmark(other, method, out=tmp_path, progress=False, **given)


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = ["--train.steps", "3", "--train.model", "gcn(width=4)", "--quiet"]
    assert main(["distill", "blocks", "node_means", "--budget-bytes", "300", *tiny, "--out", "run", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["bytes"]["counted"] <= 300
    assert {p.name for p in (tmp_path / "run").iterdir()} >= {"synthetic.safetensors", "graph.png", "run.json"}
    words = ["evaluate", "run", "blocks", "--repeats", "1", "--quiet", "--baselines", "label_propagation"]
    assert main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["set"] for row in report["rows"]] == ["node_means", "label_propagation"]
    page = (tmp_path / "run" / "index.html").read_text()
    assert "The small graph" in page
    assert "ddistill distill blocks node_means" in page
    assert main(["verify", "run"]) == 0
    assert main(["distill", "blocks", "mirage", "--quiet"]) == 2
    assert "which is one graph whose nodes have classes" in capsys.readouterr().err
    assert main(["list"]) == 0
    assert "nodes: CiteSeer, Cora, blocks" in capsys.readouterr().out


def test_a_share_is_of_what_the_method_saw_and_a_set_as_large_is_told() -> None:
    fields: dict[str, Any] = {"train": QUICK, "progress": False, "nodes": 10, "budget_bytes": None}
    made = dd.distill(own(), "node_means", setting="inductive", **fields)
    shown = made.report()
    assert "bytes of the training nodes and the edges between them, all that was seen, stored alike" in shown
    assert "it is no smaller than what it was made of: lower `budget_bytes`" in shown
    assert "no smaller" not in dd.distill(own(), "node_means", **{**fields, "nodes": 1}).report()
    assert set(shown.splitlines()[-2:]) < set(dd.evaluate(made, own(), repeats=1, baselines=[]).notes)


def test_who_chose_is_told_and_the_bar_shows_it() -> None:
    told: list[tuple[int, int, str]] = []
    fields: dict[str, Any] = {"train": QUICK, "progress": lambda *one: told.append(one)}
    made = dd.distill(own(), "node_means", budget_bytes=300, **fields)
    choosing = [one for one in told if one[2].startswith("networks choose: ")]
    assert len(choosing) > 1
    assert choosing[0] == (0, len(choosing), "networks choose: 1 node a class, 8 entries")
    assert made.provenance["selection"].endswith(" entries")
    bonsai = dd.distill(own(), "bonsai", budget_bytes=300, train=QUICK, progress=False)
    assert bonsai.provenance["selection"] == "the only candidate"


def test_other_masks_of_the_graph_are_refused_and_called_so(small: NodeSet) -> None:
    data = own()
    data.train_mask, data.test_mask = data.test_mask, data.train_mask
    with pytest.raises(
        InputError, match=r"got other masks of this graph.*Give it with the masks that it was distilled"
    ):
        dd.evaluate(small, data, repeats=1)


def test_a_network_that_takes_no_edges_is_named(small: NodeSet) -> None:
    with pytest.raises(
        InputError, match=r"`model` must be a network that is called as net\(x, edge_index\); got .*2 pos"
    ):
        dd.evaluate(small, own(), models=lambda f, k: torch.nn.Linear(f, k), repeats=1, baselines=[])
