"""Molecules: features worked by hand, splits by scaffold, tables and what is left out of them."""

from __future__ import annotations

import json
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dd.data import GraphSplit, load_graph_card, load_graphs, smiles_graphs
from dd.data.graphs.moleculenet import Molecules, _read, molecule_source, read_table
from dd.data.graphs.molecules import read_molecules, scaffold_rows, unmapped
from dd.data.graphs.splits import random_rows
from dd.errors import DamagedError, InputError, MissingError

pytest.importorskip("rdkit", reason="needs the extra `mol`")

DRUGS = (
    "c1ccccc1",
    "Cc1ccccc1",
    "CCc1ccccc1",
    "Oc1ccccc1",
    "CCO",
    "CCN",
    "CCCl",
    "C1CC1",
    "c1ccncc1",
    "Cc1ccncc1",
    "C1CCCCC1",
    "CC1CCCCC1",
    "C[C@H](N)C(=O)O",
    "c1ccc2ccccc2c1",
    "C1CCNC1",
    "O=C1CCCN1",
    "c1ccoc1",
    "c1ccsc1",
    "C#CC",
    "CC(C)=O",
)
LABELS = tuple(i % 2 for i in range(len(DRUGS)))


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DD_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "datasets"


def graph_of(smiles: str) -> GraphSplit:
    return molecule_source([smiles], [0], scaffold=False).graphs


# Features, in the order: atomic number − 1, chirality, degree with hydrogens, charge + 5, hydrogens, radical electrons,
# hybridisation (sp, sp2, sp3, sp3d, sp3d2), aromatic, in a ring; and bond type, stereo, conjugated.


def test_benzene() -> None:
    one = graph_of("c1ccccc1")
    assert one.x.tolist() == [[5, 0, 3, 5, 1, 0, 1, 1, 1]] * 6
    ring = {(i, (i + 1) % 6) for i in range(6)}
    assert set(zip(*one.edge_index.tolist(), strict=True)) == ring | {(b, a) for a, b in ring}
    assert one.edge_attr.tolist() == [[3, 0, 1]] * 12
    assert torch.equal(graph_of("C1=CC=CC=C1").x, one.x)  # however it is written


@pytest.mark.parametrize(("smiles", "turn"), [("C[C@H](N)C(=O)O", 2), ("C[C@@H](N)C(=O)O", 1), ("CC(N)C(=O)O", 0)])
def test_alanine_and_its_mirror_image(smiles: str, turn: int) -> None:
    one = graph_of(smiles)
    assert one.x.tolist() == [
        [5, 0, 4, 5, 3, 0, 2, 0, 0],
        [5, turn, 4, 5, 1, 0, 2, 0, 0],
        [6, 0, 3, 5, 2, 0, 2, 0, 0],
        [5, 0, 3, 5, 0, 0, 1, 0, 0],
        [7, 0, 1, 5, 0, 0, 1, 0, 0],
        [7, 0, 2, 5, 1, 0, 1, 0, 0],  # rdkit: the oxygen of the acid is conjugated, hence sp2
    ]
    bonds = {(0, 1): [0, 0, 0], (1, 2): [0, 0, 0], (1, 3): [0, 0, 0], (3, 4): [1, 0, 1], (3, 5): [0, 0, 1]}
    got = dict(zip(zip(*one.edge_index.tolist(), strict=True), one.edge_attr.tolist(), strict=True))
    assert got == bonds | {(b, a): z for (a, b), z in bonds.items()}


@pytest.mark.parametrize(
    ("smiles", "atom", "features"),
    [
        ("C[N+](=O)[O-]", 1, [6, 0, 3, 6, 0, 0, 1, 0, 0]),
        ("C[N+](=O)[O-]", 3, [7, 0, 1, 4, 0, 0, 1, 0, 0]),
        ("[CH3]", 0, [5, 0, 3, 5, 3, 1, 2, 0, 0]),  # a radical
        ("C#C", 0, [5, 0, 2, 5, 1, 0, 0, 0, 0]),
        ("FP(F)(F)(F)F", 1, [14, 0, 5, 5, 0, 0, 3, 0, 0]),
        ("FS(F)(F)(F)(F)F", 1, [15, 0, 6, 5, 0, 0, 4, 0, 0]),
        ("*C", 0, [118, 0, 1, 5, 0, 0, 5, 0, 0]),  # no element, no hybridisation: after the last ones
        ("[C+6]C", 0, [5, 0, 1, 11, 0, 5, 2, 0, 0]),  # charge and radical electrons beyond the lists
    ],
)
def test_atoms(smiles: str, atom: int, features: list[int]) -> None:
    assert graph_of(smiles).x[atom].tolist() == features


@pytest.mark.parametrize(
    ("smiles", "ends", "features"),
    [
        ("F/C=C\\F", (1, 2), [1, 1, 0]),
        ("F/C=C/F", (1, 2), [1, 2, 0]),
        ("C=C", (0, 1), [1, 0, 0]),
        ("C#C", (0, 1), [2, 0, 0]),
        ("N->[Cu]", (0, 1), [4, 0, 0]),  # a dative bond: after the last type
        ("C=CC=C", (1, 2), [0, 0, 1]),
    ],
)
def test_bonds(smiles: str, ends: tuple[int, int], features: list[int]) -> None:
    one = graph_of(smiles)
    got = dict(zip(zip(*one.edge_index.tolist(), strict=True), one.edge_attr.tolist(), strict=True))
    assert got[ends] == got[ends[::-1]] == features


def test_molecules_end_to_end_are_the_single_ones() -> None:
    whole = molecule_source(DRUGS, LABELS).graphs
    for i, smiles in enumerate(DRUGS):
        one, part = graph_of(smiles), whole.subset(torch.tensor([i]))
        assert torch.equal(one.x, part.x)
        assert torch.equal(one.edge_index, part.edge_index)
        assert torch.equal(one.edge_attr, part.edge_attr)
        assert int(part.labels) == LABELS[i]


# Atom-map numbers and isotopes

STEMS = ("CC[c:%d]1ccccc1", "CC[CH:%d]1CCNCC1", "CC[CH:%d]1CCC(=O)N1", "C[CH2:%d]O")  # three scaffolds and none
SPELLED = (  # with map numbers, without
    ("[CH3:7][CH2:1][OH:2]", "CCO"),
    ("[H:9][c:1]1[cH:2][cH:3][cH:4][cH:5][c:6]1[CH3:8]", "Cc1ccccc1"),
    ("[CH3:1]/[CH:2]=[C:3](/[CH3:4])[CH3:5]", "CC=C(C)C"),  # a stereo bond if map numbers told its ends apart
    ("[CH2:1]1[CH2:2][C@H:3]([OH:9])[CH2:4][CH2:5]1", "C1CC(O)CC1"),  # a stereo centre likewise
    ("[CH3:5][N:1]([CH3:2])[CH2:3][CH:4]=[C:6]1[CH2:7][CH2:8]1", "CN(C)CC=C1CC1"),
    ("c1:[cH:3]:c:c:c:c:1", "c1ccccc1"),  # a colon outside brackets is an aromatic bond
    ("[Na+:1].[O-:2][C:3](=[O:4])[CH3:10] salt:1]", "[Na+].[O-]C(=O)C"),
    ("[13CH3:1][OH:1]", "[13CH3]O"),
)


@pytest.mark.parametrize("chirality", [False, True])
def test_atom_map_numbers_are_no_chemistry(chirality: bool) -> None:
    """120 rows as reaction tables have them, each with its own numbers, are of the four scaffolds of their stems."""
    rows = [STEMS[i % 4] % (i + 1) for i in range(120)]
    plain = [unmapped(text) for text in rows]
    assert plain[:2] == ["CC[c]1ccccc1", "CC[CH]1CCNCC1"]
    found = read_molecules(rows, scaffolds=True, chirality=chirality, workers=0)
    assert len(set(found.scaffolds.tolist())) == 4
    assert all(len(set(found.scaffolds[k::4].tolist())) == 1 for k in range(4))
    real = smiles_graphs(rows, [i // 4 % 2 for i in range(120)], chirality=chirality)
    assert real.fingerprint == smiles_graphs(plain, [i // 4 % 2 for i in range(120)], chirality=chirality).fingerprint


@pytest.mark.parametrize("chirality", [False, True])
@pytest.mark.parametrize(("mapped", "plain"), SPELLED)
def test_a_mapped_molecule_is_the_plain_one(mapped: str, plain: str, chirality: bool) -> None:
    found = read_molecules([mapped, plain], scaffolds=True, chirality=chirality, workers=0)
    n = int(found.atoms[0])
    assert sorted(found.x[:n].tolist()) == sorted(found.x[n:].tolist())
    assert found.scaffolds[0] == found.scaffolds[1]
    first, second = (found.edge_attr[: found.bonds[0]], found.edge_attr[found.bonds[0] :])
    assert sorted(first.tolist()) == sorted(second.tolist())


@pytest.mark.parametrize("chirality", [False, True])
def test_isotopes_are_no_scaffolds_of_their_own(chirality: bool) -> None:
    rows = ["Cc1ccccc1", "C[13c]1ccccc1", "[2H]c1ccccc1C", "[2H]C1CCCO1", "C1CCCO1", "[13CH2]1C[C@H]2CC[C@@H]1CC2"]
    found = read_molecules([*rows, "C1CC2CCC1CC2"], scaffolds=True, chirality=chirality, workers=0)
    a, b, c = (found.scaffolds[i] for i in (0, 3, 6))
    assert found.scaffolds.tolist() == [a, a, a, b, b, c, c]
    assert len({int(a), int(b), int(c)}) == 3


def test_the_store_knows_a_molecule_without_its_numbers(monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    monkeypatch.setattr("dd.data.graphs.moleculenet.FEW", 5)
    plain = kept([text for _, text in SPELLED])
    assert len(kept(["[CH3:1][OH:2]", *DRUGS]).x) == len(kept(["[CH3:4][OH:3]", *DRUGS]).x)
    assert len(list((store / "molecules").iterdir())) == 2
    assert len(plain.rows) == len(SPELLED)


def test_workers_and_the_store_change_nothing(monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    many = list(DRUGS) * 30 + ["nonsense"]
    plain = read_molecules(many, scaffolds=True, workers=0)
    for module in ("molecules", "moleculenet"):
        monkeypatch.setattr(f"dd.data.graphs.{module}.FEW", 100)
    for found in (read_molecules(many, scaffolds=True, workers=2), *(kept(many) for _ in range(2))):
        assert all((a == b).all() for a, b in zip(found, plain, strict=True))
    assert len(list((store / "molecules").iterdir())) == 1
    monkeypatch.setattr("dd.data.graphs.moleculenet.read_molecules", None)
    assert (kept(many).x == plain.x).all()  # read from the store


def kept(smiles: list[str]) -> Molecules:
    return _read(smiles, True, False, 0)


def test_a_broken_file_in_the_store_is_made_again(monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    monkeypatch.setattr("dd.data.graphs.moleculenet.FEW", 5)
    plain = kept(list(DRUGS))
    (file,) = (store / "molecules").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:200])
    assert (kept(list(DRUGS)).x == plain.x).all()
    assert file.read_bytes() == whole


# Splits by scaffold


def test_scaffold_rows_keep_scaffolds_together() -> None:
    scaffolds = [0] * 50 + [1] * 20 + [2] * 9 + [3] * 9 + [4] * 6 + [5, 6, 7, 8, 9, 10]
    train, val, test = scaffold_rows(scaffolds)
    assert val is not None
    assert test is not None
    assert sorted([*train.tolist(), *val.tolist(), *test.tolist()]) == list(range(100))
    where = [{scaffolds[row] for row in part.tolist()} for part in (train, val, test)]
    assert not where[0] & where[1] | where[0] & where[2] | where[1] & where[2]
    # By size, then by the later first row: 50 and 20 fit into 80, 9 (number 3) too, number 2 does not and is for
    # validation; number 4 fits nowhere but in test; of the single ones the last fills training to 80, the next but one
    # validation to 90.
    assert where == [{0, 1, 3, 10}, {2, 9}, {4, 5, 6, 7, 8}]


def test_shares_are_of_the_whole_table() -> None:
    scaffolds = list(range(8))
    assert len(scaffold_rows(scaffolds).train) == 6
    assert len(scaffold_rows(scaffolds, total=10).train) == 8


def test_smiles_graphs() -> None:
    real = smiles_graphs(DRUGS, LABELS, split=3, classes=["no", "yes"], name="drugs")
    assert (real.rule, real.split, real.name, real.classes, real.directed) == (
        "scaffold",
        3,
        "drugs",
        ("no", "yes"),
        False,
    )
    assert real.fingerprint == smiles_graphs(DRUGS, LABELS, classes=["no", "yes"]).fingerprint
    assert sum(len(part) for part in (real.train, real.val, real.test) if part is not None) == len(DRUGS)
    assert (len(real.node_names), len(real.edge_names)) == (9, 3)
    drawn = smiles_graphs(DRUGS, LABELS, split=1, rule="random")
    whole = molecule_source(DRUGS, LABELS, scaffold=False).graphs
    assert torch.equal(drawn.train.x, whole.subset(random_rows(len(DRUGS), 1).train).x)


def test_smiles_graphs_refuse() -> None:
    with pytest.raises(InputError, match="`rule`"):
        smiles_graphs(DRUGS, LABELS, rule="stratified")
    with pytest.raises(InputError, match="`split`"):
        smiles_graphs(DRUGS, LABELS, split="published")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"`labels` must be one a SMILES, 20; got 5"):
        smiles_graphs(DRUGS, LABELS[:5])
    with pytest.raises(InputError, match="one class a molecule, a whole number or a name"):
        smiles_graphs(DRUGS, [0.5] * 20)  # type: ignore[list-item]
    with pytest.raises(InputError, match=r"float in row 1 \(counted from 0\)"):
        smiles_graphs(["C", float("nan")], [0, 1])  # type: ignore[list-item]
    with pytest.raises(InputError, match="none in 2 rows"):
        smiles_graphs(["nonsense", "("], [0, 1])
    with pytest.raises(InputError, match="at least two classes"):
        smiles_graphs(DRUGS, [0] * 20)


def test_rows_that_rdkit_refuses_are_named(capfd: pytest.CaptureFixture[str]) -> None:
    smiles = [*DRUGS[:4], "nonsense", *DRUGS[4:], "", "c1ccccc1(C)(C)C"]
    labels = [*LABELS[:4], 1, *LABELS[4:], 0, 1]
    with pytest.warns(UserWarning, match=r"rdkit does not read 3 of 23 molecules.*rows 4, 21, 22 \(counted from 0\)"):
        real = smiles_graphs(smiles, labels, rule="random")
    assert sum(len(part) for part in (real.train, real.val, real.test) if part is not None) == 20
    assert real.fingerprint == smiles_graphs(DRUGS, LABELS, rule="random").fingerprint
    assert capfd.readouterr().err == ""  # rdkit's own complaints are not shown


def test_lines_of_a_table_that_rdkit_refuses_are_named(tmp_path: Path) -> None:
    rows = [f"{smiles},{label}" for smiles, label in zip([*DRUGS, "nonsense"], [*LABELS, 1], strict=True)]
    file = tmp_path / "drugs.csv"
    file.write_text("\n".join(["smiles,active", "", "(,0", *rows]))
    assert file.read_text().splitlines()[23] == "nonsense,1"
    text = r"rdkit does not read 2 of 22 molecules.*: lines 3, 24 \(counted from 1, with the header\)\."
    with pytest.warns(UserWarning, match=text):
        load_graphs(f"smiles:{file}", split="random")


def test_without_rdkit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(MissingError, match=r"^Reading molecules needs the package rdkit \(.*\): pip install rdkit$"):
        smiles_graphs(DRUGS, LABELS)


# Tables


def write_table(file: Path, header: str = "smiles,active", more: str = "") -> Path:
    rows = [f"{smiles},{label}{more}" for smiles, label in zip(DRUGS, LABELS, strict=True)]
    file.write_text("\n".join([header, *rows]) + "\n")
    return file


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    file = write_table(tmp_path / "drugs.csv")
    real = load_graphs(f"smiles:{file}")
    assert (real.name, real.rule) == ("drugs", "scaffold")
    assert real.fingerprint == smiles_graphs(DRUGS, LABELS).fingerprint
    two = write_table(tmp_path / "two.csv", "mol,active,weight", ",1.5")
    assert load_graphs(f"smiles:{two}#active").fingerprint == real.fingerprint


def test_rows_beside_the_table(tmp_path: Path) -> None:
    file = write_table(tmp_path / "drugs.csv")
    beside = tmp_path / "drugs_scaffold_split.json"
    beside.write_text(json.dumps({"train": list(range(14)), "valid": [19, 18], "test": [14, 15, 16]}))
    with pytest.warns(
        UserWarning, match=r"has no split for 1 of 20 molecules.*: line 19 \(counted from 1, with the header\)\."
    ):
        real = load_graphs(f"smiles:{file}")
    assert [part.labels.tolist() for part in (real.train, real.val, real.test) if part is not None] == [
        list(LABELS[:14]),
        [LABELS[18], LABELS[19]],
        list(LABELS[14:17]),
    ]
    for wrong, text in (
        ({"train": [0, 1], "valid": [2], "test": [1]}, "a row is in two splits"),
        ({"train": [0, 99], "valid": [2], "test": [1]}, r"`train` is not a list of rows 0 … 19"),
        ({"train": [0, 1], "valid": [2]}, "`test` must be a list; got nothing"),
        ([1, 2], "is no split of a table"),
    ):
        beside.write_text(json.dumps(wrong))
        with pytest.raises(DamagedError, match=text):
            load_graphs(f"smiles:{file}")


CHAINS = [f"{'C' * n}{end}" for n in range(1, 6) for end in ("O", "N", "F", "Cl")]


def test_molecules_of_one_scaffold_are_split_at_random(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"got 20 of 20 with the same one, none: they have no ring\..*`rule=\"random\"`"
    ):
        smiles_graphs(CHAINS, LABELS)
    real = smiles_graphs(CHAINS, LABELS, rule="random")
    assert len(real.train) == 16
    rings = [f"{'C' * n}c1ccccc1" for n in range(20)]
    with pytest.raises(InputError, match=r"got 20 of 20 with the same one\. Draw the split at random"):
        smiles_graphs(rings, LABELS)
    mixed = [*CHAINS[:11], *rings[:9]]  # 11 of 20 without a ring fit into train: of them no class 1
    with pytest.raises(InputError, match=r"got 11 of 20 with the same one, none"):
        smiles_graphs(mixed, [0] * 11 + [1] * 9)
    file = tmp_path / "chains.csv"
    rows = [f"{text},{label}" for text, label in zip(CHAINS, LABELS, strict=True)]
    file.write_text("\n".join(["smiles,active", *rows]))
    with pytest.raises(InputError, match=r"`split=\"random\"` \(`--split random`\)"):
        load_graphs(f"smiles:{file}")
    assert load_graphs(f"smiles:{file}", split="random").fingerprint == real.fingerprint


def test_a_card_of_scaffolds_is_split_at_random(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = replace(load_graph_card("BACE"), counts={"graphs": 20}, per_class=(10, 10))
    monkeypatch.setattr("dd.data.graphs.load.load_graph_card", lambda _: card)
    file = tmp_path / card.folders[0] / card.marker
    file.parent.mkdir(parents=True, exist_ok=True)
    write_table(file, f"{card.columns[0]},{card.columns[1]}")
    by_scaffold, drawn = (load_graphs("BACE", root=tmp_path, split=split) for split in (3, "random:3"))
    assert (by_scaffold.rule, by_scaffold.split, drawn.rule, drawn.split) == ("scaffold", 3, "random", 3)
    whole = molecule_source(DRUGS, LABELS, scaffold=False).graphs
    assert torch.equal(drawn.train.x, whole.subset(random_rows(len(DRUGS), 3).train).x)


# Real data


@pytest.mark.shared
@pytest.mark.parametrize(("name", "sizes"), [("BACE", [1210, 151, 152]), ("BBBP", [1631, 204, 204])])
def test_real_molecules(shared_data: Callable[..., Path], tmp_path: Path, name: str, sizes: list[int]) -> None:
    root, card = shared_data("mol"), load_graph_card(name)
    real = load_graphs(name, root=root, split="published")
    parts = [part for part in (real.train, real.val, real.test) if part is not None]
    assert [len(part) for part in parts] == sizes
    assert (real.rule, real.classes, real.directed) == ("scaffold", card.classes, False)
    assert Counter(torch.cat([part.labels for part in parts]).tolist()) == dict(enumerate(card.per_class))
    assert load_graphs(name, root=root, split=7).fingerprint == real.fingerprint
    (tmp_path / card.marker).write_bytes((root / "mol" / card.marker).read_bytes())
    assert load_graphs(name, root=tmp_path).fingerprint == real.fingerprint  # scaffolds found here are those shipped
    short = (tmp_path / card.marker).read_text().splitlines(keepends=True)[:-1]
    (tmp_path / card.marker).write_text("".join(short))
    with pytest.raises(InputError, match=f"`{name}` must be .* molecules a class"):
        load_graphs(name, root=tmp_path)


@pytest.mark.shared
@pytest.mark.slow
def test_real_hiv(shared_data: Callable[..., Path]) -> None:
    root = shared_data("mol")
    with pytest.warns(UserWarning, match="does not read 7 of 41127"):
        real = load_graphs("HIV", root=root)
    assert [len(part) for part in (real.train, real.val, real.test) if part is not None] == [32901, 4113, 4106]
    assert real.graphs_per_class.tolist() == [31669, 1232]
    smiles, labels, _ = read_table(root / "mol" / "hiv.csv")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = molecule_source(smiles, labels)
    assert source.rows is not None
    assert torch.equal(source.graphs.subset(source.rows.train).ptr, real.train.ptr)
