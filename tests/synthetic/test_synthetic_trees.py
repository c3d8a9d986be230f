"""Summaries of trees: what a file keeps, that no damaged file is used, weights and draws by hand."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.trees import (
    levels_by_hand,
    random_graphs,
    summary_by_hand,
)
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from dd.base.files import load_tensors, save_tensors
from dd.base.seeding import child
from dd.data.graphs.codes import fit_codes
from dd.data.graphs.graphs import GraphSplit
from dd.errors import DamagedError, InputError, MissingError
from dd.evaluation import TreeLearner
from dd.synthetic import Level, SyntheticImages, SyntheticSet, TreeRecipe, TreeSummary, load_set

ROOT = Path(__file__).resolve().parents[2]
RECIPE = TreeRecipe(model="gin(width=8)", steps=6, lr=0.01)


def split(seed: int = 0, **options: Any) -> GraphSplit:
    given = {"features": (3, 2), "edge_features": (2,), "probability": 0.3} | options
    return random_graphs(seed, [5, 6, 7, 5, 6, 7, 5, 6], **given)


def summary(real: GraphSplit | None = None, **options: Any) -> TreeSummary:
    """Every graph as a pattern of trees of depth 2, with all that a file keeps."""
    real = split() if real is None else real
    made = summary_by_hand(real, fit_codes(real), 2, recipe=options.pop("recipe", RECIPE), **options)
    return dataclasses.replace(
        made,
        classes=("no", "jä"),
        method={"name": "mirage", "budget_bytes": 512, "min_support": None},
        provenance={"dataset": "toy", "split": 0, "rule": "random", "seed": 1},
        published=512,
        figures={
            "coverage": 1.0,
            "coverage_by_class": [1.0, 1.0],
            "uncovered_graphs": [0, 0],
            "distinct_trees": [1, 2, 3],
            "thresholds": [1, None],
            "patterns_by_class": [4, 4],
        },
    )


def four(recipe: TreeRecipe = RECIPE) -> TreeSummary:
    """Four patterns of one tree each, with supports that are easy to count with: three of class 0, one of class 1."""
    real = split()
    codes = fit_codes(real, "constant")
    _, ids = levels_by_hand(real, codes, 1)
    trees = [t for t in ids[1].unique().tolist() if len(set(real.graph[ids[1] == t].tolist())) > 2][:4]
    small = summary_by_hand(real, codes, 1, [(0, [trees[0]])] * 3 + [(1, [trees[1]])], recipe=recipe)
    support = torch.tensor([[4, 1], [3, 0], [1, 8], [2, 10]])
    return dataclasses.replace(small, support=support, graphs=torch.tensor([10, 20]))


def tensors_of(small: TreeSummary) -> dict[str, Tensor]:
    found = {
        name: getattr(small, name)
        for name in ("leaf_degree", "pattern_ptr", "pattern_tree", "pattern_count", "support", "labels")
    }
    found |= {"tree_support": small.tree_support, "graphs": small.graphs, "table": small.codes.table}
    found |= {"edge_table": small.codes.edge_table}
    found |= {f"values{i}": v for i, v in enumerate((*small.codes.values, *small.codes.edge_values))}
    for d, level in enumerate(small.levels):
        found |= {f"{d}.{f.name}": getattr(level, f.name) for f in dataclasses.fields(Level)}
    return found


# The file


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"edge_features": ()},
        {"features": ()},
        {"directed": True},
        {"features": (300,), "isolated": 0},
    ],
)
@pytest.mark.parametrize("leaf_degree", [False, True])
def test_a_file_gives_back_the_summary_and_the_same_bytes(
    tmp_path: Path, options: dict[str, Any], leaf_degree: bool
) -> None:
    small = summary(split(**options), leaf_degree=leaf_degree)
    assert small.save(tmp_path / "one") == tmp_path / "one"
    read = load_set(tmp_path / "one")
    assert isinstance(read, TreeSummary)
    a, b = tensors_of(small), tensors_of(read)
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name
        assert a[name].dtype == b[name].dtype, name
    for name in ("classes", "recipe", "directed", "published"):
        assert getattr(small, name) == getattr(read, name)
    for name in ("method", "provenance", "figures"):
        assert dict(getattr(small, name)) == dict(getattr(read, name))
    assert small.codes.kind == read.codes.kind
    read.save(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("options", [{}, {"edge_features": ()}, {"features": ()}])
def test_reported_bytes_are_those_on_disk(tmp_path: Path, options: dict[str, Any]) -> None:
    """Invariant 25."""
    small = summary(split(**options))
    small.save(tmp_path / "small")
    sizes = small.nbytes
    assert sizes.total == (tmp_path / "small").stat().st_size
    assert sizes.trees + sizes.patterns + sizes.extras == sizes.total
    assert sizes.published == small.published == 512
    with safe_open(tmp_path / "small", framework="pt") as file:
        held = {name: file.get_tensor(name) for name in file.keys()}
    trees = sum(t.numel() * t.element_size() for name, t in held.items() if name.startswith("level"))
    assert sizes.trees == trees > 0
    assert all(t.dtype == torch.uint8 for name, t in held.items() if name.endswith((".label", ".child")))


def test_wide_numbers_are_kept(tmp_path: Path) -> None:
    small = summary()
    for top in (255, 256, 2**15, 2**31, 2**40):
        wide = dataclasses.replace(small, graphs=torch.tensor([top, 1]))
        wide.save(tmp_path / "wide")
        assert TreeSummary.load(tmp_path / "wide").graphs.tolist() == [top, 1]
        assert wide.nbytes.total == (tmp_path / "wide").stat().st_size
    values = (torch.tensor([-5, 2, 70_000]), *small.codes.values[1:])
    codes = dataclasses.replace(small.codes, values=values)
    dataclasses.replace(small, codes=codes).save(tmp_path / "wide")
    assert TreeSummary.load(tmp_path / "wide").codes.values[0].tolist() == [-5, 2, 70_000]


def rewritten(path: Path, tensors: dict[str, Tensor] | None = None, **meta: Any) -> None:
    """The file again with some tensors and metadata replaced, and the checksum of these."""
    held, told = load_tensors(path)
    kept = {k: v for k, v in (told | meta).items() if v is not None}
    save_tensors(path, held | (tensors or {}), kept)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    small = summary()
    small.save(path)
    whole = path.read_bytes()
    for cut in (0, 7, 100, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(DamagedError, match="not a whole safetensors file"):
            TreeSummary.load(path)
    changed = bytearray(whole)
    changed[-1] ^= 1
    path.write_bytes(changed)
    with pytest.raises(DamagedError, match=r"the tensors of .* do not match their checksum"):
        TreeSummary.load(path)
    path.write_bytes(whole)
    rewritten(path, {"extra": torch.zeros(1)})
    with pytest.raises(DamagedError, match=r"tensor `extra` is none of its own"):
        TreeSummary.load(path)
    with pytest.raises(MissingError, match="no file"):
        TreeSummary.load(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("meta", "text"),
    [
        ({"format": 3}, "has format version 3; this version reads 2. Upgrade dd"),
        ({"format": 1}, "has format version 1; this version reads 2. It is older .* distil again"),
        ({"format": None}, "has format version None"),
        ({"kind": "clouds"}, "is not a summary of trees but 'clouds'"),
        ({"kind": None}, "is not a synthetic set: its metadata names no kind"),
        ({"classes": None}, "is no summary of trees: `classes` must be a list of at least one; got nothing"),
        ({"recipe": {}}, "is not a whole summary of trees: `recipe` must be whole; got one without balance, "),
        ({"recipe": {"steps": 3, "warmup": 2}}, "is not a whole summary of trees: .*warmup"),
        (
            {"recipe": dataclasses.asdict(TreeRecipe()) | {"steps": 0}},
            "is not a whole summary of trees: `steps` must be a whole number",
        ),
        (
            {"recipe": dataclasses.asdict(TreeRecipe()) | {"model": "gon"}},
            "is not a whole summary of trees: unknown graph network 'gon'",
        ),
        ({"classes": ["one"]}, r"is not a whole summary of trees: `support` must be of shape"),
    ],
)
def test_foreign_and_newer_files_are_refused(tmp_path: Path, meta: dict[str, Any], text: str) -> None:
    path = summary().save(tmp_path / "small")
    rewritten(path, **meta)
    with pytest.raises(DamagedError, match=text):
        TreeSummary.load(path)


def test_a_set_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = summary().save(tmp_path / "small")
    with pytest.raises(DamagedError, match=r"is not a .* but 'trees'"):
        SyntheticImages.load(path)
    save_file({"x": torch.zeros(1)}, tmp_path / "foreign")
    with pytest.raises(DamagedError, match="was not written by this library"):
        TreeSummary.load(tmp_path / "foreign")


OTHER = """
import sys, dd
from dd.evaluation import TreeLearner
from dd.base.files import load_tensors, save_tensors
from safetensors.torch import save_file
sys.path.insert(0, "tests")
from reference.trees import random_graphs
small = dd.load(sys.argv[1])
real = random_graphs(5, [6, 7, 6, 7], features=(3, 2), edge_features=(2,), probability=0.3)
save_file({"scores": TreeLearner(model=sys.argv[2]).fit(small, 3).scores(real)}, sys.argv[3])
"""


@pytest.mark.parametrize("model", ["gin(width=8)", "gcn(width=8)"])
def test_another_process_trains_the_same_network(tmp_path: Path, model: str) -> None:
    """Invariant 24."""
    small = summary()
    small.save(tmp_path / "small")
    words = [sys.executable, "-c", OTHER, str(tmp_path / "small"), model, str(tmp_path / "scores")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7"}
    subprocess.run(words, check=True, cwd=ROOT, env=environment, capture_output=True)
    there = load_file(tmp_path / "scores")["scores"]
    real = random_graphs(5, [6, 7, 6, 7], features=(3, 2), edge_features=(2,), probability=0.3)
    assert torch.equal(there, TreeLearner(model=model).fit(small, 3).scores(real))


def test_shapes_that_do_not_fit_are_refused() -> None:
    small = summary()
    with pytest.raises(InputError, match=r"`support` must be of shape \[8, 2\]; got \[8, 3\]"):
        dataclasses.replace(small, support=torch.zeros(8, 3, dtype=torch.int64))
    with pytest.raises(InputError, match=r"`leaf_degree` must be of shape"):
        dataclasses.replace(small, leaf_degree=torch.zeros(1))
    nothing: dict[str, Any] = {"pattern_ptr": torch.zeros(1), "support": torch.zeros(0, 2), "labels": torch.zeros(0)}
    nothing |= {"pattern_tree": torch.zeros(0), "pattern_count": torch.zeros(0)}
    with pytest.raises(InputError, match=r"`labels` must be at least one pattern; got none. Lower `min_support`"):
        dataclasses.replace(small, **nothing)


# The examples


def test_weights_and_targets_by_hand() -> None:
    """Own supports 4, 3, 1 of class 0 and 10 of class 1; 10 and 20 training graphs."""
    small = four()
    wanted = {
        "support": [4 / 18, 3 / 18, 1 / 18, 10 / 18],
        "class": [4 / 16, 3 / 16, 1 / 16, 1 / 2],
        "uniform": [1 / 4] * 4,
    }
    for balance, weights in wanted.items():
        found = small.with_recipe(balance=balance).weights()
        assert found.dtype == torch.float64
        assert found.tolist() == pytest.approx(weights, abs=1e-15)
    assert small.with_recipe(targets="hard").targets().tolist() == [[1, 0], [1, 0], [1, 0], [0, 1]]
    # relative supports 0.4 and 0.05, 0.3 and 0, 0.1 and 0.4, 0.2 and 0.5
    soft = [[8 / 9, 1 / 9], [1, 0], [1 / 5, 4 / 5], [2 / 7, 5 / 7]]
    for row, by_hand in zip(small.with_recipe(targets="soft").targets().tolist(), soft, strict=True):
        assert row == pytest.approx(by_hand, abs=1e-15)


def test_a_class_without_patterns_leaves_the_weight_to_the_others() -> None:
    small = four(TreeRecipe(balance="class"))
    alone = dataclasses.replace(small, labels=torch.zeros(4, dtype=torch.int64))
    assert alone.weights().tolist() == pytest.approx([0.4, 0.3, 0.1, 0.2], abs=1e-15)


@pytest.mark.parametrize("balance", ["support", "class", "uniform"])
def test_patterns_are_drawn_as_often_as_their_weight_says(balance: str) -> None:
    """Invariant 19: chi-square with three degrees of freedom, of which 16.3 is the 99.9 % point."""
    small = four().with_recipe(balance=balance)
    n = 20_000
    drawn = torch.bincount(small.sample(n, child(0, "test")), minlength=4).double()
    expected = n * small.weights()
    assert float(((drawn - expected) ** 2 / expected).sum()) < 16.3
    assert torch.equal(small.sample(50, child(0, "test")), small.sample(50, child(0, "test")))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # torch-geometric 2.8, 2026
def test_it_is_a_set_of_pyg_graphs() -> None:
    from torch_geometric.loader import DataLoader

    small = summary()
    assert isinstance(small, SyntheticSet)
    assert (len(small), small.depth, small.num_classes) == (8, 2, 2)
    data, label = small[-1]
    assert label == 1
    assert type(label) is int
    assert torch.equal(data.x, small[7][0].x)
    with pytest.raises(IndexError):
        small[8]
    assert sum(1 for _ in small) == 8
    batch, labels = next(iter(DataLoader(small, batch_size=8)))
    assert torch.equal(labels, small.labels)
    assert int(batch.root.sum()) == len(small.pattern_tree)


def test_an_epoch_of_batches_is_a_permutation() -> None:
    small = summary()
    graphs = small.to_pyg()
    for size, lengths in ((3, [3, 3, 2]), (8, [8]), (100, [8])):
        batches = list(small.batches(size, torch.Generator().manual_seed(1)))
        assert [batch.num_graphs for batch, _ in batches] == lengths
        order = torch.randperm(8, generator=torch.Generator().manual_seed(1)).tolist()
        seen = [one for batch, _ in batches for one in batch.to_data_list()]
        for data, row in zip(seen, order, strict=True):
            assert torch.equal(data.x, graphs[row].x)
            assert torch.equal(data.edge_index, graphs[row].edge_index)
        assert torch.cat([labels for _, labels in batches]).tolist() == small.labels[order].tolist()


# The recipe


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"model": "gon"}, "unknown graph network 'gon'; known: gat, gcn, gin, sage"),
        ({"model": "gin(depth=3)"}, "depth"),
        ({"model": 3}, r"`model` must be a text such as gin\(width=128\); got 3"),
        ({"pool": "max"}, "`pool` must be"),
        ({"steps": 0}, "`steps` must be a whole number of at least 1"),
        ({"lr": -1.0}, "`lr` must be"),
        ({"dropout": 1.0}, "`dropout` must be less than 1"),
    ],
)
def test_recipes_are_checked(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        TreeRecipe(**fields)


def test_a_model_has_one_text() -> None:
    assert TreeRecipe().model == TreeRecipe(model="gin(width=64)").model == "gin"
    assert TreeRecipe(model="gat( heads = 2,width=64 )").model == "gat(heads=2)"
    assert (TreeRecipe(pool="msum").readout, TreeRecipe(pool="mmean").readout) == ("sum", "mean")
