"""Graph cards and their sources: fields, counts, layouts, TU text, downloads, digits."""

from __future__ import annotations

import shutil
import tomllib
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dd.data import GraphCard, Graphs, list_cards, load_graph_card, load_graphs, load_images
from dd.data.graphs.card import parse_graph_card
from dd.data.graphs.sources import find_graphs, tu_graphs
from dd.errors import DamagedError, InputError, MissingError

ROOT = Path(__file__).resolve().parents[2]
TU = ("NCI1", "IMDB-BINARY", "DD", "MUTAG", "PROTEINS")
NAMES = (*TU, "BACE", "BBBP", "HIV", "digits-graphs")
TINY = """
name = "TINY"
title = "Two small molecules"
domain = "graphs"
kind = "tu"
loader = "raw"
classes = ["no", "yes"]
labels = [-1, 1]
metric = "auroc"
rule = "random"
published = ""
per_class = [10, 10]
labelled = ["nodes", "edges"]
columns = []
chirality = false
url = "https://example.org"
archive = ""
licence = "none"
marker = "TINY_A.txt"
folders = ["tu/TINY/raw", "TINY/raw", "TINY", "raw", ""]
layout = "ROOT/TINY/raw/TINY_A.txt"
notes = "made for a test"
counts = { graphs = 20, nodes = 60, edges = 60 }
"""


def tiny_card(**changes: Any) -> GraphCard:
    return replace(parse_graph_card(tomllib.loads(TINY), Path("TINY.toml")), **changes)


def write_tiny(folder: Path, graphs: int = 20) -> Path:
    """MUTAG-like text: 1 – 2, 2 – 3 with an edge label, a self-loop and a duplicate; graph i has the label ±1."""
    folder.mkdir(parents=True, exist_ok=True)
    edges, kinds, owner, nodes = [], [], [], []
    for g in range(graphs):
        a, b, c = 3 * g + 1, 3 * g + 2, 3 * g + 3
        rows = [(a, b, 0), (b, a, 0), (b, c, 2), (c, b, 2), (a, a, 1), (a, b, 0)]
        if g == 7:  # one without edges, and so without any of the others' lines
            rows = []
        edges += [f"{s}, {t}" for s, t, _ in rows]
        kinds += [str(z) for _, _, z in rows]
        owner += [str(g + 1)] * 3
        nodes += ["4", "6", str(g % 2)]
    values = {
        "A": edges,
        "edge_labels": kinds,
        "graph_indicator": owner,
        "node_labels": nodes,
        "graph_labels": [str(2 * (g % 2) - 1) for g in range(graphs)],
    }
    for what, lines in values.items():
        (folder / f"TINY_{what}.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> GraphCard:
    """A card called TINY, with the counts of `write_tiny`."""
    card = tiny_card(counts={"graphs": 20, "nodes": 60, "edges": 76})
    monkeypatch.setattr("dd.data.graphs.load.load_graph_card", lambda name, root=None: card)
    return card


def test_every_card_is_there() -> None:
    assert set(NAMES) <= set(list_cards("graphs"))
    assert not set(NAMES) & set(list_cards())


@pytest.mark.parametrize("name", NAMES)
def test_card_has_every_field_and_makes_sense(name: str) -> None:
    values = tomllib.loads((ROOT / "datasets" / f"{name}.toml").read_text())
    assert set(values) == {field.name for field in fields(GraphCard)}
    card = load_graph_card(name.lower())
    assert card.name == name
    assert card.url.startswith("http")
    assert all(text for text in (card.title, card.licence, card.layout, card.notes))
    assert sum(card.per_class) == card.counts["graphs"]
    assert card.downloadable == (card.kind != "embedded")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"extra": 1}, "unknown extra"),
        ({"name": "other"}, "`name` must be 'TINY'"),
        ({"domain": "images"}, "`domain`"),
        ({"kind": "pyg"}, "`kind`"),
        ({"loader": "rdkit"}, "`loader`"),
        ({"rule": "stratified"}, "`rule`"),
        ({"published": "jax"}, "`published`"),
        ({"labels": [1, -1]}, "must rise"),
        ({"labels": [1]}, "must have 2 values"),
        ({"counts": {}}, "`graphs`"),
        ({"labelled": ["graphs"]}, "`labelled` must be of nodes, edges"),
        ({"columns": ["smiles", "y"]}, "`columns`"),
        ({"classes": ["one"]}, "at least 2"),
    ],
)
def test_bad_cards_are_refused(change: dict[str, Any], text: str) -> None:
    with pytest.raises(DamagedError, match=text):
        parse_graph_card({**tomllib.loads(TINY), **change}, Path("TINY.toml"))
    missing = tomllib.loads(TINY)
    del missing["marker"]
    with pytest.raises(DamagedError, match="missing marker"):
        parse_graph_card(missing, Path("TINY.toml"))


def test_graph_cards_are_no_images() -> None:
    with pytest.raises(InputError, match="unknown data set 'NCI1'"):
        load_images("NCI1")


# TU text


def test_tu_text(tmp_path: Path) -> None:
    source = tu_graphs(write_tiny(tmp_path), tiny_card())
    graphs = source.graphs
    assert len(graphs) == 20
    assert graphs.labels.tolist() == [0, 1] * 10
    assert graphs.x[:3].tolist() == [[4], [6], [0]]
    one = graphs.subset(torch.tensor([1]))
    assert one.edge_index.tolist() == [[1, 0, 2, 1], [0, 1, 1, 2]]  # by target; no self-loop, no duplicate
    assert one.edge_attr[:, 0].tolist() == [0, 0, 2, 2]
    assert graphs.subset(torch.tensor([7])).num_edges == 0
    assert (source.node_names, source.edge_names) == (("label",), ("edge label",))


@pytest.mark.parametrize("place", ["tu/TINY/raw", "TINY/raw", "TINY", "raw", "."])
def test_every_layout_is_found(tmp_path: Path, tiny: GraphCard, place: str) -> None:
    write_tiny(tmp_path / place)
    real = load_graphs("TINY", root=tmp_path)
    assert (real.name, real.rule, real.classes, real.directed) == ("TINY", "random", ("no", "yes"), False)
    assert [len(part) for part in (real.train, real.val, real.test) if part is not None] == [16, 2, 2]


def test_missing_files_are_explained(tmp_path: Path, tiny: GraphCard) -> None:
    with pytest.raises(MissingError, match=r"looked for TINY_A.txt in .*tu/TINY/raw.*\n.*\n.*download=True"):
        load_graphs("TINY", root=tmp_path)


@pytest.mark.parametrize("what", ["graph_labels", "graph_indicator", "node_labels", "edge_labels"])
def test_a_file_that_the_set_has_as_published_is_asked_for(
    tmp_path: Path, tiny: GraphCard, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Without its labels a set would be another one, of graphs without features. Both ways out are walked."""
    fake_download(tmp_path, monkeypatch)
    root = tmp_path / "store"
    whole = load_graphs("TINY", root=root, download=True)
    file = root / "tu" / "TINY" / "raw" / f"TINY_{what}.txt"
    content = file.read_text()
    for way_out in ("put it there", "get it again"):
        file.unlink()
        text = rf"TINY_{what}\.txt is not there, though 'TINY' has it as published\. Put it beside TINY_A\.txt, or .*"
        with pytest.raises(MissingError, match=text + "remove that .* `download=True`.*https://example.org"):
            load_graphs("TINY", root=root, download=True)
        if way_out == "put it there":
            file.write_text(content)
        else:
            file.with_name("TINY_A.txt").unlink()
        assert load_graphs("TINY", root=root, download=True).fingerprint == whole.fingerprint


@pytest.mark.parametrize("labelled", [(), ("nodes",), ("edges",)])
def test_sets_without_labels_as_published_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labelled: tuple[str, ...]
) -> None:
    card = tiny_card(counts={"graphs": 20, "nodes": 60, "edges": 76}, labelled=labelled)
    monkeypatch.setattr("dd.data.graphs.load.load_graph_card", lambda name, root=None: card)
    write_tiny(tmp_path)
    for what in {"nodes", "edges"} - set(labelled):
        (tmp_path / f"TINY_{what[:-1]}_labels.txt").unlink()
    real = load_graphs("TINY", root=tmp_path)
    assert (real.train.x.shape[1], real.train.edge_attr.shape[1]) == ("nodes" in labelled, "edges" in labelled)


@pytest.mark.parametrize(
    ("what", "text", "message"),
    [
        ("A", "1, 2\nx, 3\n", "TINY_A.txt holds something else than integers"),
        ("A", "1\n2\n", "damaged"),
        ("graph_indicator", "\n".join(["1"] * 59 + ["99"]), "of graphs that have no label"),
        ("graph_indicator", "\n".join(["2"] + ["1"] * 59), "not listed graph by graph"),
        ("node_labels", "1\n2\n", "2 node labels of 60"),
        ("edge_labels", "1\n", "1 edge labels of 114"),
        ("graph_labels", "\n".join(["3", "1"] * 10), r"graph labels \[1, 3\], not \[-1, 1\]"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, tiny: GraphCard, what: str, text: str, message: str) -> None:
    write_tiny(tmp_path)
    (tmp_path / f"TINY_{what}.txt").write_text(text)
    with pytest.raises(DamagedError, match=message):
        load_graphs("TINY", root=tmp_path)


def test_other_counts_are_refused(tmp_path: Path, tiny: GraphCard) -> None:
    write_tiny(tmp_path, graphs=18)
    with pytest.raises(InputError, match="`TINY` must be 20 graphs, as its card says; got 18"):
        load_graphs("TINY", root=tmp_path)


def test_splits_of_cards(tmp_path: Path, tiny: GraphCard) -> None:
    write_tiny(tmp_path)
    for wrong in ("published", None):
        with pytest.raises(InputError, match="`split` must be a whole number from 0 on for 'TINY'"):
            load_graphs("TINY", root=tmp_path, split=wrong)
    with pytest.raises(InputError, match="`classes` must be left out"):
        load_graphs("TINY", root=tmp_path, classes=2)


# Downloads


def test_download_is_pygs_archive(tmp_path: Path, tiny: GraphCard, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = fake_download(tmp_path, monkeypatch)
    root = tmp_path / "store"
    real = load_graphs("TINY", root=root, download=True)
    assert asked == ["https://www.chrsmrrs.com/graphkerneldatasets/TINY.zip"]
    assert len(real.train) == 16
    assert sorted(path.name for path in (root / "tu" / "TINY").iterdir()) == ["raw"]  # nothing else is left
    load_graphs("TINY", root=root, download=True)
    assert len(asked) == 1


def test_a_failed_download_says_where_to_get_it(
    tmp_path: Path, tiny: GraphCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_download(tmp_path, monkeypatch, OSError("no route"))
    with pytest.raises(MissingError, match=r"could not be fetched into .* \(no route\).*https://example.org"):
        load_graphs("TINY", root=tmp_path / "store", download=True)
    assert not list((tmp_path / "store").rglob("*.txt"))


def test_an_archive_of_something_else_is_refused(
    tmp_path: Path, tiny: GraphCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_download(tmp_path, monkeypatch)
    with pytest.raises((DamagedError, MissingError), match=r"has no OTHER_A\.txt"):
        find_graphs(replace(tiny, marker="OTHER_A.txt"), str(tmp_path / "store"), download=True)


def fake_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> list[str]:
    """PyG's `download_url` without a network: it copies a zip of TINY; gives the list of what was asked for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch-geometric 2.8 uses the deprecated torch.jit.script, 2026
        import torch_geometric.data as pyg
    write_tiny(tmp_path / "made" / "TINY")
    archive = tmp_path / "TINY.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted((tmp_path / "made" / "TINY").iterdir()):
            file.write(path, f"TINY/{path.name}")
    asked: list[str] = []

    def download(url: str, folder: str) -> str:
        if error is not None:
            raise error
        asked.append(url)
        return shutil.copy(archive, folder)

    monkeypatch.setattr(pyg, "download_url", download)
    return asked


# Digits


def test_digits_as_graphs() -> None:
    from sklearn.datasets import load_digits

    from dd.data.images.sources import digits

    real = load_graphs("Digits-Graphs", split=4)
    assert (real.rule, real.split, real.directed) == ("given", 4, False)
    assert [len(part) for part in (real.train, real.val, real.test) if part is not None] == [1292, 145, 360]
    assert real.fingerprint == load_graphs("digits-graphs").fingerprint
    (_, _), (images, labels) = digits()
    assert real.test is not None
    assert real.test.labels.tolist() == labels.tolist()
    raw = {image.astype(int).tobytes(): image for image in load_digits().images}
    for i in (0, 1, 200, 359):
        pixels = (images[i, 0].double() * 16 / 255).round().long().numpy()
        assert pixels.tobytes() in raw
        inked = [(r, c) for r in range(8) for c in range(8) if pixels[r, c] > 0]
        one = real.test.subset(torch.tensor([i]))
        assert one.x[:, 0].tolist() == [int(pixels[p] > 8) for p in inked]
        expected = {
            (inked.index((r, c)), inked.index((r + down, c + right)), abs(down))
            for r, c in inked
            for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0))
            if (r + down, c + right) in inked
        }
        assert set(zip(*one.edge_index.tolist(), one.edge_attr[:, 0].tolist(), strict=True)) == expected


# Real data


@pytest.mark.shared
@pytest.mark.parametrize("name", TU)
def test_real_tu_counts(shared_data: Callable[..., Path], name: str) -> None:
    card, real = load_graph_card(name), load_graphs(name, root=shared_data(name), split=1)
    parts = [part for part in (real.train, real.val, real.test) if part is not None]
    n = card.counts["graphs"]
    assert [len(part) for part in parts] == [n * 8 // 10, n * 9 // 10 - n * 8 // 10, n - n * 9 // 10]
    assert sum(part.num_nodes for part in parts) == card.counts["nodes"]
    assert sum(part.num_edges for part in parts) == card.counts["edges"]
    assert not real.directed
    labels = torch.cat([part.x for part in parts]).unique()
    expected = {"NCI1": 37, "IMDB-BINARY": 0, "DD": 82, "MUTAG": 7, "PROTEINS": 3}[name]
    assert len(labels) == expected
    if name == "DD":
        assert (int(labels.min()), int(labels.max())) == (1, 89)


@pytest.mark.shared
def test_real_published_splits(shared_data: Callable[..., Path]) -> None:
    def sizes(real: Graphs) -> list[int]:
        return [len(part) for part in (real.train, real.val, real.test) if part is not None]

    nci1 = load_graphs("nci1", root=shared_data("NCI1"), split="published")
    assert sizes(nci1) == [3288, 411, 411]
    assert nci1.graphs_per_class.tolist() == [1627, 1661]
    assert nci1.rule == "published"
    imdb = load_graphs("IMDB-BINARY", root=shared_data("IMDB-BINARY"), split="published")
    assert sizes(imdb) == [800, 100, 100]
    dd = load_graphs("DD", root=shared_data("DD"), split="published")
    assert sizes(dd) == [942, 118, 118]
    assert dd.fingerprint == load_graphs("DD", root=shared_data("DD")).fingerprint


@pytest.mark.shared
def test_real_mutag_is_that_of_pyg(shared_data: Callable[..., Path], tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch-geometric 2.8 uses the deprecated torch.jit.script, 2026
        from torch_geometric.datasets import TUDataset
    root = shared_data("MUTAG")
    shutil.copytree(root / "tu" / "MUTAG", tmp_path / "MUTAG")
    ours, theirs = load_graphs("MUTAG", root=root), load_graphs(TUDataset(str(tmp_path), "MUTAG"))
    for name in ("x", "edge_index", "edge_attr", "ptr", "labels"):
        assert torch.equal(getattr(ours.train, name), getattr(theirs.train, name))
