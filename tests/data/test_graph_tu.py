"""Raw TU text of sets that have no card: what is read, what is refused, and the way out of each refusal."""

from __future__ import annotations

import re
import shutil
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch

import dd
from dd.data.graphs.load import load_graphs
from dd.data.kinds import about, is_graph_data
from dd.errors import DamagedError, InputError, MissingError

NAME = "FRAGMENTS"


def write(folder: Path, classes: int = 3, graphs: int = 30, **changed: str) -> Path:
    """Paths of three to five nodes, no two alike; graph g has the label 10 · (g mod classes), its first node 10 + g."""
    folder.mkdir(parents=True, exist_ok=True)
    edges, kinds, owner, nodes, start = [], [], [], [], 1
    for g in range(graphs):
        size = 3 + g % classes
        for v in range(start, start + size - 1):
            edges += [f"{v}, {v + 1}", f"{v + 1}, {v}"]
            kinds += [str(g % 2)] * 2
        owner += [str(g + 1)] * size
        nodes += [str(10 + g), *(str(7 - v % 2) for v in range(1, size))]
        start += size
    texts = {
        "A": "\n".join(edges),
        "edge_labels": "\n".join(kinds),
        "graph_indicator": "\n".join(owner),
        "node_labels": "\n".join(nodes),
        "graph_labels": "\n".join(str(10 * (g % classes)) for g in range(graphs)),
    } | changed
    for what, text in texts.items():
        (folder / f"{NAME}_{what}.txt").write_text(text + "\n")
    return folder


@pytest.mark.parametrize("place", ["tu/FRAGMENTS/raw", "FRAGMENTS/raw", "FRAGMENTS", "raw", "."])
def test_text_is_read_from_every_usual_place(tmp_path: Path, place: str) -> None:
    write(tmp_path / place)
    real = load_graphs(NAME, root=tmp_path)
    assert (real.name, real.rule, real.split, real.classes) == (NAME, "random", 0, ("0", "10", "20"))
    assert (real.node_names, real.edge_names, real.directed) == (("label",), ("edge label",), False)
    assert [len(part) for part in (real.train, real.val, real.test) if part is not None] == [24, 3, 3]
    for part in (real.train, real.val, real.test):
        assert part is not None
        assert torch.equal(part.ptr.diff(), 3 + part.labels)  # the labels 0, 10, 20 are classes 0, 1, 2
        assert set(part.x[:, 0].tolist()) == {6, 7, *part.x[part.ptr[:-1], 0].tolist()}  # labels keep their values
        assert part.num_edges == int((2 * (part.ptr.diff() - 1)).sum())
    firsts = [part.x[part.ptr[:-1], 0] for part in (real.train, real.val, real.test) if part is not None]
    assert sorted(torch.cat(firsts).tolist()) == list(range(10, 40))
    assert load_graphs(NAME, root=tmp_path, split=1).fingerprint != real.fingerprint


def test_labels_are_read_where_there_are_any(tmp_path: Path) -> None:
    folder = write(tmp_path / NAME)
    (folder / f"{NAME}_edge_labels.txt").unlink()
    assert load_graphs(NAME, root=tmp_path).train.edge_attr.shape[1] == 0
    (folder / f"{NAME}_node_labels.txt").unlink()
    assert load_graphs(NAME, root=tmp_path).train.x.shape[1] == 0


def test_attributes_are_left_out_and_told(tmp_path: Path) -> None:
    folder = write(tmp_path / NAME)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = load_graphs(NAME, root=tmp_path)
    (folder / f"{NAME}_node_attributes.txt").write_text("0.5, 1.5\n")
    with pytest.warns(UserWarning, match="FRAGMENTS_node_attributes.txt: continuous attributes are left out"):
        assert load_graphs(NAME, root=tmp_path).fingerprint == plain.fingerprint


def test_a_card_is_read_as_its_card_says(tmp_path: Path) -> None:
    for file in write(tmp_path / "MUTAG").iterdir():
        file.rename(file.with_name(file.name.replace(NAME, "MUTAG")))
    with pytest.raises(DamagedError, match=r"graph labels \[0, 10, 20\], not \[-1, 1\]"):
        load_graphs("MUTAG", root=tmp_path)


def test_the_same_name_goes_through_every_verb(tmp_path: Path) -> None:
    write(tmp_path / NAME, graphs=60)
    assert is_graph_data(NAME, tmp_path)
    assert not is_graph_data(NAME)
    assert about(NAME, tmp_path) == ("graphs", NAME, False)
    train = dd.TreeRecipe(model="gin(width=8)", steps=3)
    small = dd.distill(NAME, dd.Mirage(depth=1, budget_bytes=600, train=train), root=tmp_path, progress=False)
    assert small.provenance["dataset"] == NAME
    report = dd.evaluate(small, NAME, root=tmp_path, baselines=("naive_bayes",), repeats=1, progress=False)
    assert report.rows[1].mean == 1.0  # the class is the length of a path, and so the trees that it has
    method = dd.Mirage(depth=1, train=train)
    given = {"root": tmp_path, "budget_bytes": 600, "baselines": ("naive_bayes",), "repeats": 1, "progress": False}
    board = dd.benchmark(NAME, method, **given)
    assert {cell["set"] for cell in board.cells} == {"mirage", "naive_bayes"}


@pytest.mark.parametrize("what", ["A", "graph_indicator", "graph_labels"])
def test_a_missing_file_is_named_and_putting_it_there_helps(tmp_path: Path, what: str) -> None:
    folder = write(tmp_path / NAME)
    whole = load_graphs(NAME, root=tmp_path)
    file = folder / f"{NAME}_{what}.txt"
    file.rename(tmp_path / "away")
    message = rf"{file.name} of the set 'FRAGMENTS' not there, in .*(\n.*)+Put what is missing beside the rest"
    with pytest.raises(MissingError, match=message):
        load_graphs(NAME, root=tmp_path)
    (tmp_path / "away").rename(file)
    assert load_graphs(NAME, root=tmp_path).fingerprint == whole.fingerprint


def test_an_unknown_name_says_how_such_a_set_is_given(tmp_path: Path) -> None:
    for name, root in ((NAME, tmp_path), (NAME, None), (NAME.lower(), tmp_path), ("../FRAGMENTS", tmp_path / "x")):
        with pytest.raises(InputError, match=r"unknown graph data set .* or the NAME of a TU set with .* as `root=`"):
            load_graphs(name, root=root)
    with pytest.raises(
        InputError, match=r"unknown data set 'FRAGMENTS'.* the NAME of raw TU text, NAME_A.txt and so on"
    ):
        dd.distill(NAME, "mirage", root=tmp_path, progress=False)
    gone = tmp_path / "elsewhere"
    text = rf"unknown .*The folder {re.escape(str(gone))} \(`root`\) is not there\. "
    for verb in (load_graphs, partial(dd.distill, method="mirage", progress=False), dd.load_images):
        with pytest.raises(InputError, match=text):
            verb(NAME, root=gone)
        with pytest.raises(InputError) as told:
            verb(NAME, root=tmp_path)
        assert "is not there" not in str(told.value)
    write(gone)
    assert load_graphs(NAME, root=tmp_path / "elsewhere").name == NAME
    shutil.rmtree(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("what", "text", "message"),
    [
        ("graph_labels", "1.5\n2\n", "FRAGMENTS_graph_labels.txt holds something else than integers"),
        ("graph_labels", "", "FRAGMENTS_graph_labels.txt is empty"),
        ("graph_labels", "1\n2\n", "of graphs that have no label"),
        ("A", "", "FRAGMENTS_A.txt is empty"),
        ("A", "1, 4000\n", "an edge joins nodes of two graphs, or one that is not among the"),
        ("A", "0, 1\n", "an edge joins nodes of two graphs, or one that is not among the"),
        ("A", "1, 100\n", "an edge joins nodes of two graphs, or one that is not among the"),
        ("graph_indicator", "\n".join(["2"] * 30 + ["1"] * 90), "not listed graph by graph"),
        ("node_labels", "1\n2\n", "2 node labels of 120"),
        ("edge_labels", "a\n", "FRAGMENTS_edge_labels.txt holds something else than integers"),
    ],
)
def test_damaged_text_is_named(tmp_path: Path, what: str, text: str, message: str) -> None:
    folder = write(tmp_path / NAME)
    (folder / f"{NAME}_{what}.txt").write_bytes(text.encode("utf-8", "surrogateescape"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DamagedError, match=rf"the files of 'FRAGMENTS' in .* are damaged: .*{message}"):
            load_graphs(NAME, root=tmp_path)


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    (write(tmp_path / NAME) / f"{NAME}_A.txt").write_bytes(b"\xff\xfe1, 2\n")
    with pytest.raises(DamagedError, match=r"FRAGMENTS_A\.txt is not a text in UTF-8"):
        load_graphs(NAME, root=tmp_path)


def test_one_class_alone_is_refused(tmp_path: Path) -> None:
    write(tmp_path / NAME, classes=1)
    with pytest.raises(InputError, match=r"`FRAGMENTS` must be of two or more classes of graphs; got 1, \['0'\]"):
        load_graphs(NAME, root=tmp_path)
