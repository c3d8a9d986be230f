"""Tables of molecules as text: separators, columns, labels, and how they are split. No molecule is read here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dd
from dd.cli.main import main
from dd.data import load_graphs
from dd.data.graphs.moleculenet import read_table
from dd.data.graphs.molecules import Molecules
from dd.errors import DamagedError, InputError, MissingError

SMILES = [f"{'C' * (1 + i // 4)}{'ONFS'[i % 4]}" for i in range(20)]
LABELS = [i % 2 for i in range(20)]


def table(file: Path, header: str = "smiles,active", rows: list[str] | None = None) -> Path:
    mark = ";" if ";" in header else "\t" if "\t" in header else ","
    made = [f"{text}{mark}{label}" for text, label in zip(SMILES, LABELS, strict=True)]
    file.write_text("\n".join([header, *(made if rows is None else rows)]) + "\n", encoding="utf-8")
    return file


def chains(smiles: list[str], *, scaffolds: bool = False, **_: object) -> Molecules:
    """In place of rdkit: an atom a letter, in a chain; the scaffold is whether there is a digit, as of a ring."""
    atoms = np.array([len(text) for text in smiles])
    x = np.array([[ord(letter), *[0] * 7, "1" in text] for text in smiles for letter in text])
    ends = [(i, i + 1) for text in smiles for i in range(len(text) - 1)]
    both = np.array([pair for a, b in ends for pair in ((a, b), (b, a))]).reshape(-1, 2).T
    found = np.array([int("1" in text) for text in smiles]) if scaffolds else np.zeros(0)
    zeros = np.zeros((both.shape[1], 3), np.int64)
    return Molecules(x, both, zeros, atoms, 2 * (atoms - 1), found.astype(np.int64), np.arange(len(smiles)))


@pytest.fixture
def no_rdkit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dd.data.graphs.moleculenet.read_molecules", chains)


@pytest.mark.parametrize(
    "name",
    [
        "smiles",
        "Smiles",
        "SMILES",
        " smiles ",
        "canonical_smiles",
        "Canonical SMILES",
        "isomeric-smiles",
        "mol",
        "Molecule",
    ],
)
@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_columns_of_smiles_however_they_are_called(name: str, mark: str, tmp_path: Path) -> None:
    assert read_table(table(tmp_path / "a.csv", f"{name}{mark}active"))[:2] == (SMILES, LABELS)


def test_a_table_may_have_the_mark_of_byte_order_blank_lines_and_other_ends_of_lines(tmp_path: Path) -> None:
    file = table(tmp_path / "a.csv")
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n") + b"\r\n\r\n")
    assert read_table(file)[:2] == (SMILES, LABELS)


def test_of_other_columns_the_usual_one_has_the_labels(tmp_path: Path) -> None:
    rows = [f"m{i};{text};{label};0.5" for i, (text, label) in enumerate(zip(SMILES, LABELS, strict=True))]
    assert read_table(table(tmp_path / "a.csv", "name;SMILES;Label;weight", rows))[:2] == (SMILES, LABELS)
    other = table(tmp_path / "b.csv", "name;SMILES;toxic;weight", rows)
    with pytest.raises(
        InputError, match=r"one of labels; got name, SMILES, toxic, weight\. .*`smiles:PATH.csv#COLUMN`"
    ):
        read_table(other)
    for column in ("toxic", "Toxic"):
        assert read_table(other, column)[:2] == (SMILES, LABELS)
    with pytest.raises(InputError, match=r"unknown column 'toxik'; known: .* Did you mean toxic\?"):
        read_table(other, "toxik")
    with pytest.raises(InputError, match="unknown column 'SMILES'; known: name, toxic, weight"):
        read_table(other, "SMILES")
    both = table(
        tmp_path / "c.csv", "canonical_smiles,smiles,y", [f"X,{t},{k}" for t, k in zip(SMILES, LABELS, strict=True)]
    )
    assert read_table(both)[:2] == (SMILES, LABELS)  # the plainest name


@pytest.mark.parametrize(
    ("cells", "labels"),
    [
        (["1", "2"], [1, 2]),
        (["1.0", "0.0"], [1, 0]),
        (["active", "inactive"], ["active", "inactive"]),
        ([" yes", "no "], ["yes", "no"]),
        (["True", "False"], ["True", "False"]),
        (["none", "mild"], ["none", "mild"]),
        (["9007199254740992", "9007199254740993"], [2**53, 2**53 + 1]),
        (["1e3", "2."], [1000, 2]),
        (["1_0", "x"], ["1_0", "x"]),
        (["-1", "+1"], [-1, 1]),
    ],
)
def test_labels_of_a_table(cells: list[str], labels: list[Any], tmp_path: Path) -> None:
    file = table(tmp_path / "a.csv", rows=[f"C,{cell}" for cell in cells])
    assert read_table(file)[1] == labels


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", DamagedError, r"is not a CSV file with a header \(it is empty\)"),
        ("\n \n", DamagedError, "it is empty"),
        ("smiles,active\n", InputError, "a molecule in each row below the header; got a header alone"),
        ("smiles;active", InputError, "a header alone"),
        ("C,1\nCC,0\n", InputError, r"columns `smiles` .*; got C, 1\. The first row has the names of the columns"),
        ("smiles\nC\n", InputError, r"one of labels; got smiles\. Name the column of labels"),
        (
            "smiles,active\nC\nCC,1\n",
            DamagedError,
            r"of another length than the header: line 2 \(counted from 1, with the header\)",
        ),
        (
            "smiles,active\nC,yes\nCC,\n",
            InputError,
            r"a class in every row; got '' in line 3 \(counted from 1, with the header\)\. Leave",
        ),
        ("smiles,active\nC,1\nCC,NA\nCC,0\n", InputError, r"got 'NA' in line 3 \("),
        ('\nsmiles,active\n\n"C\n",1\nCC,NA\nCC,0\nC,\n', InputError, r"got 'NA', '' in lines 6, 8 \("),
        ("smiles,active\nC,1\nCC,?\nCC,0\n", InputError, r"got '\?' in line 3"),
        ("smiles,active\nC,nan\nCC,1\n", InputError, "got 'nan' in line 2"),
        ("smiles,active\nC,0.5\nCC,1\n", InputError, "`labels` must be classes; got 0.5, which are no whole numbers"),
    ],
)
def test_tables_are_refused(text: str, error: type[Exception], message: str, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text(text)
    with pytest.raises(error, match=message):
        read_table(file)


def test_what_is_no_table_of_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"no file .*none\.csv"):
        load_graphs(f"smiles:{tmp_path / 'none.csv'}")
    (tmp_path / "a.csv").write_bytes("smiles,active\nC,1\n".encode("utf-16"))
    with pytest.raises(DamagedError, match=r"is not a text in UTF-8 .* Save it as one\."):
        load_graphs(f"smiles:{tmp_path / 'a.csv'}")
    with pytest.raises(InputError, match=r"`smiles:PATH.csv`"):
        load_graphs("smiles:")


@pytest.mark.usefixtures("no_rdkit")
def test_splits_of_a_table(tmp_path: Path) -> None:
    name = f"smiles:{table(tmp_path / 'chains.csv')}"
    with pytest.raises(
        InputError, match=r"got 20 of 20 with the same one, none: they have no ring\..*`--split random`"
    ):
        load_graphs(name)
    for split, number in (("random", 0), ("random:0", 0), ("random:7", 7)):
        real = load_graphs(name, split=split)
        assert (real.rule, real.split, real.classes) == ("random", number, ("0", "1"))
        order = np.random.RandomState(number).permutation(20)
        assert real.train.labels.tolist() == [LABELS[i] for i in np.sort(order[:16])]
    for wrong in ("published", None, "random:", "random:-1", "random:x", "randomly", "random:99999999999", ""):
        with pytest.raises(InputError, match="`split` must be"):
            load_graphs(name, split=wrong)
    with pytest.raises(InputError, match="`root`"):
        load_graphs(name, root=tmp_path)
    with pytest.raises(InputError, match="unknown column 'toxic'"):
        load_graphs(f"{name}#toxic")


def test_a_list_of_graphs_is_split_at_random_by_name_too() -> None:
    from reference.graphs import some_graphs

    given = some_graphs()
    for number, split in ((0, "random"), (5, "random:5")):
        assert load_graphs(given, split=split).fingerprint == load_graphs(given, split=number).fingerprint


@pytest.mark.usefixtures("no_rdkit")
def test_classes_of_a_table_keep_their_names(tmp_path: Path) -> None:
    for cells, names in ((("toxic", "safe"), ("safe", "toxic")), (("1", "2"), ("1", "2")), (("10", "9"), ("9", "10"))):
        rows = [f"{text},{cells[k]}" for text, k in zip(SMILES, LABELS, strict=True)]
        real = load_graphs(f"smiles:{table(tmp_path / 'a.csv', rows=rows)}", split="random")
        assert real.classes == names
    with pytest.raises(InputError, match="graphs of at least two classes; got only safe"):
        load_graphs(f"smiles:{table(tmp_path / 'a.csv', rows=[f'{text},safe' for text in SMILES])}", split="random")


@pytest.mark.usefixtures("no_rdkit")
def test_a_random_split_goes_through_the_verbs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "chains.csv")
    words = ["distill", "smiles:chains.csv", "mirage", "--depth", "1", "--out", "run", "--quiet"]
    assert main(words) == 2
    assert "`--split random`" in capsys.readouterr().err
    assert main([*words, "--split", "random:2"]) == 0
    assert main(["evaluate", "run", "smiles:chains.csv", "--repeats", "1", "--steps", "1", "--quiet"]) == 0
    summary = dd.load("run")
    assert (summary.provenance["rule"], summary.provenance["split"]) == ("random", 2)
    with pytest.raises(InputError, match=r"that of the summary, split 2 \(random\); got split 1 \(random\)"):
        dd.evaluate("run", "smiles:chains.csv", split="random:1", repeats=1, steps=1)
    assert torch.is_tensor(load_graphs("smiles:chains.csv", split="random").train.x)
