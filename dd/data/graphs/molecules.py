"""Molecules from SMILES: the atom and bond features of the Open Graph Benchmark, and splits by scaffold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from dd.data.graphs.splits import Rows
from dd.data.workers import reading_processes, usable_cpus
from dd.errors import not_installed, refuse

Ints = NDArray[np.int64]

# What each place of a feature stands for. A value that is not listed takes the place after the last one.
ATOM_NAMES: Final = (
    "atomic number",  # 1 … 118
    "chirality",
    "degree",  # 0 … 10, hydrogens included
    "formal charge",  # -5 … 5
    "hydrogens",  # 0 … 8
    "radical electrons",  # 0 … 4
    "hybridisation",
    "aromatic",
    "in a ring",
)
CHIRALITY: Final = ("CHI_UNSPECIFIED", "CHI_TETRAHEDRAL_CW", "CHI_TETRAHEDRAL_CCW", "CHI_OTHER")
HYBRIDISATION: Final = ("SP", "SP2", "SP3", "SP3D", "SP3D2")
BOND_NAMES: Final = ("bond type", "stereo", "conjugated")
BOND_TYPE: Final = ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC")
STEREO: Final = ("STEREONONE", "STEREOZ", "STEREOE", "STEREOCIS", "STEREOTRANS", "STEREOANY")

_MAP: Final = re.compile(r":\d+\]")

CHUNK: Final = 256
FEW: Final = 2048
"""Below this many molecules the start of worker processes costs more than they save."""


class Molecules(NamedTuple):
    """M molecules end to end, in the order of their rows: V atoms, E directed bonds.

    `x` int64 `[V, 9]`, `edge_index` `[2, E]` within each molecule, `edge_attr` `[E, 3]`, `atoms` and `bonds` (directed)
    of each molecule `[M]`, the number of its scaffold `[M]` (empty unless asked for), the `rows` that were read `[M]`.
    """

    x: Ints
    edge_index: Ints
    edge_attr: Ints
    atoms: Ints
    bonds: Ints
    scaffolds: Ints
    rows: Ints


def read_molecules(
    smiles: Sequence[str], *, scaffolds: bool = False, chirality: bool = False, workers: int | None = None
) -> Molecules:
    """Atoms and bonds of molecules, hydrogens left implicit.

    Features are numbered as the Open Graph Benchmark does (`ATOM_NAMES`, `BOND_NAMES`): for example carbon is 5, the
    place of 6 in 1 … 118. Atom-map numbers (`[CH3:1]`) are names and no chemistry: a molecule is the same with and
    without. Isotopes are no feature and part of no scaffold, though hydrogens of a stated mass (`[2H]`) are atoms;
    charges and the parts of a salt count, also in a scaffold, as in the Open Graph Benchmark.

    Args:
        smiles: one a molecule; those that rdkit does not read, or that have no atom, are left out.
        scaffolds: also find the Bemis-Murcko scaffold of each.
        chirality: whether scaffolds keep it.
        workers: processes that read; by default one a CPU, at most four, and none for a few molecules. The result does
            not depend on it.

    Raises:
        MissingError: rdkit is not installed.
        InputError: something else than text, or no SMILES that rdkit reads.
    """
    rdkit_version()
    if wrong := [i for i, text in enumerate(smiles) if not isinstance(text, str)]:
        raise refuse("smiles", "text", f"{type(smiles[wrong[0]]).__name__} in row {wrong[0]} (counted from 0)")
    chunks = _Chunks(smiles, scaffolds, chirality)
    count = min(usable_cpus(), 4) if workers is None else workers
    loader: DataLoader[Any] = DataLoader(
        cast("Dataset[Any]", chunks),
        batch_size=None,
        num_workers=reading_processes(count, len(smiles), FEW),
        collate_fn=_as_is,
        generator=torch.Generator(),  # without one a DataLoader draws from the global stream
    )
    parts: list[_Chunk] = list(loader)
    rows = np.concatenate([part.rows + i * CHUNK for i, part in enumerate(parts)]) if parts else np.zeros(0, np.int64)
    if not len(rows):
        raise refuse("smiles", "molecules that rdkit reads", f"none in {len(smiles)} rows")
    return Molecules(
        np.concatenate([part.x for part in parts]),
        np.concatenate([part.edge_index for part in parts], axis=1),
        np.concatenate([part.edge_attr for part in parts]),
        np.concatenate([part.atoms for part in parts]),
        np.concatenate([part.bonds for part in parts]),
        np.unique([name for part in parts for name in part.scaffolds], return_inverse=True)[1].astype(np.int64),
        rows,
    )


def unmapped(smiles: str) -> str:
    """SMILES without atom-map numbers: the `:1` that ends an atom in brackets.

    In the text, as rdkit ranks the ends of stereo bonds by these numbers and writes them into scaffolds. Within
    brackets a colon means nothing else; what follows a blank (a name, ChemAxon's extensions) stays.
    """
    head, *rest = re.split(r"(?=\s)", smiles.strip(), maxsplit=1)
    return "".join([_MAP.sub("]", head), *rest])


def rdkit_version() -> str:
    """Version of rdkit.

    Raises:
        MissingError: it is not installed.
    """
    try:
        import rdkit
    except ImportError as error:
        raise not_installed("Reading molecules", "rdkit", error) from error
    return str(rdkit.__version__)


def scaffold_rows(scaffolds: Sequence[int], total: int | None = None) -> Rows:
    """80/10/10 by scaffold: molecules of one scaffold stay together, common ones go to training, rare ones to test.

    Scaffolds are taken by falling number of molecules, then by falling first row, and go to training as long as they
    fit into 80 %, else to validation as long as both together stay within 90 %, else to test: the rule of the Open
    Graph Benchmark. Nothing is drawn.

    Args:
        scaffolds: number of the scaffold of each molecule.
        total: what 80 % and 90 % are of, where more molecules are in the table than were read.
    """
    groups: dict[int, list[int]] = {}
    for row, scaffold in enumerate(scaffolds):
        groups.setdefault(scaffold, []).append(row)
    n = len(scaffolds) if total is None else total
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for rows in sorted(groups.values(), key=lambda rows: (len(rows), rows[0]), reverse=True):
        if len(parts[0]) + len(rows) <= 0.8 * n:
            parts[0].extend(rows)
        elif len(parts[0]) + len(parts[1]) + len(rows) <= 0.9 * n:
            parts[1].extend(rows)
        else:
            parts[2].extend(rows)
    train, val, test = (torch.tensor(sorted(part), dtype=torch.int64) for part in parts)
    return Rows(train, val if len(val) else None, test if len(test) else None)


class _Chunk(NamedTuple):
    """As `Molecules`, with scaffolds as text and rows counted from the first of the chunk."""

    x: Ints
    edge_index: Ints
    edge_attr: Ints
    atoms: Ints
    bonds: Ints
    scaffolds: list[str]
    rows: Ints


@final
class _Chunks:
    """Map-style: item i is the molecules of rows i CHUNK … (i + 1) CHUNK − 1."""

    def __init__(self, smiles: Sequence[str], scaffolds: bool, chirality: bool) -> None:
        self._smiles, self._scaffolds, self._chirality = list(smiles), scaffolds, chirality

    def __len__(self) -> int:
        return -(-len(self._smiles) // CHUNK)

    def __getitem__(self, i: int) -> _Chunk:
        if i >= len(self):
            raise IndexError(i)
        from rdkit import Chem, rdBase

        atoms: list[Any] = []
        bonds: list[Any] = []
        sizes, names, rows = [], [], []
        with rdBase.BlockLogs():
            for row, text in enumerate(self._smiles[i * CHUNK : (i + 1) * CHUNK]):
                plain = unmapped(text)
                molecule = Chem.MolFromSmiles(plain)
                if molecule is None or not molecule.GetNumAtoms():
                    continue
                atoms += [_atom(atom) for atom in molecule.GetAtoms()]
                bonds += [_bond(bond) for bond in molecule.GetBonds()]
                sizes.append((molecule.GetNumAtoms(), 2 * molecule.GetNumBonds()))
                rows.append(row)
                if self._scaffolds:
                    mapped = plain != text.strip()
                    names.append(_scaffold(molecule, self._chirality, mapped or not self._chirality))
        x = _atom_places(np.array(atoms, np.int64).reshape(-1, 9), Chem.rdchem)
        raw = np.array(bonds, np.int64).reshape(-1, 5)
        ends = np.stack([raw[:, :2], raw[:, 1::-1]], axis=1).reshape(-1, 2).T
        attr = np.repeat(_bond_places(raw[:, 2:], Chem.rdchem), 2, axis=0)
        counts = np.array(sizes, np.int64).reshape(-1, 2)
        return _Chunk(x, ends, attr, counts[:, 0], counts[:, 1], names, np.array(rows, np.int64))


def _as_is(item: Any) -> Any:
    return item


def _scaffold(molecule: Any, chirality: bool, respell: bool) -> str:
    """Bemis-Murcko scaffold as SMILES, of the canonical spelling if asked for.

    An atom in brackets, as every mapped one is, keeps its hydrogens where a side chain is cut off, so `[CH]=` and `C=`
    would be two scaffolds. With chirality the published splits are those of the molecules as they are spelled. rdkit
    would keep isotopes with chirality.
    """
    from rdkit import Chem
    from rdkit.Chem.Scaffolds import MurckoScaffold

    if chirality and any(atom.GetIsotope() for atom in molecule.GetAtoms()):
        molecule = Chem.Mol(molecule)
        for atom in molecule.GetAtoms():
            atom.SetIsotope(0)
        Chem.AssignStereochemistry(molecule, cleanIt=True, force=True)  # centres that differ by isotopes alone are none
    if respell:
        molecule = Chem.MolFromSmiles(Chem.MolToSmiles(molecule)) or molecule
    return str(MurckoScaffold.MurckoScaffoldSmiles(mol=molecule, includeChirality=chirality))


def _atom(atom: Any) -> tuple[int, ...]:
    return (
        atom.GetAtomicNum(),
        int(atom.GetChiralTag()),
        atom.GetTotalDegree(),
        atom.GetFormalCharge(),
        atom.GetTotalNumHs(),
        atom.GetNumRadicalElectrons(),
        int(atom.GetHybridization()),
        atom.GetIsAromatic(),
        atom.IsInRing(),
    )


def _bond(bond: Any) -> tuple[int, ...]:
    return (
        bond.GetBeginAtomIdx(),
        bond.GetEndAtomIdx(),
        int(bond.GetBondType()),
        int(bond.GetStereo()),
        bond.GetIsConjugated(),
    )


def _atom_places(raw: Ints, kinds: Any) -> Ints:
    """Raw values `[V, 9]` as places in the lists of each feature."""
    number, chirality, degree, charge, hydrogens, radicals, hybridisation, aromatic, ring = raw.T
    return np.stack(
        [
            _between(number, 1, 118),
            _listed(chirality, kinds.ChiralType, CHIRALITY),
            _between(degree, 0, 10),
            _between(charge, -5, 5),
            _between(hydrogens, 0, 8),
            _between(radicals, 0, 4),
            _listed(hybridisation, kinds.HybridizationType, HYBRIDISATION),
            aromatic,
            ring,
        ],
        axis=1,
    )


def _bond_places(raw: Ints, kinds: Any) -> Ints:
    """Raw values `[E, 3]` as places in the lists of each feature."""
    kind, stereo, conjugated = raw.T
    places = [_listed(kind, kinds.BondType, BOND_TYPE), _listed(stereo, kinds.BondStereo, STEREO), conjugated]
    return np.stack(places, axis=1)


def _between(values: Ints, low: int, high: int) -> Ints:
    """Place in low … high; the one after the last for what is outside."""
    return np.where((values >= low) & (values <= high), values - low, high - low + 1)


def _listed(values: Ints, enum: Any, names: Sequence[str]) -> Ints:
    """Place of the enum's value in a list of its names; the one after the last for what is not in it."""
    table = np.full(1 + max(int(value) for value in enum.values), len(names), np.int64)
    for place, name in enumerate(names):
        table[int(enum.names[name])] = place
    return table[values]
