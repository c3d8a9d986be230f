"""Tables of molecules as graphs: columns, rows left out, splits by scaffold, and a cache of what rdkit read."""

from __future__ import annotations

import contextlib
import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from dd.base.files import load_tensors, read_foreign_json, save_tensors
from dd.base.home import home
from dd.base.paths import is_file, reading
from dd.data.graphs.card import GraphCard
from dd.data.graphs.graphs import graph_split
from dd.data.graphs.molecules import (
    ATOM_NAMES,
    BOND_NAMES,
    FEW,
    Molecules,
    rdkit_version,
    read_molecules,
    scaffold_rows,
    unmapped,
)
from dd.data.graphs.sources import Unsplit
from dd.data.graphs.splits import Rows
from dd.data.images.checks import some
from dd.errors import DamagedError, DDError, MissingError, WriteError, refuse, warn

SMILES_COLUMNS: Final = ("smiles", "SMILES", "mol")
CACHE_FORMAT: Final = 2
_TYPES: Final = (torch.int16, torch.int32, torch.int8, torch.int32, torch.int32, torch.int32, torch.int64)


def read_table(file: Path, column: str | None = None) -> tuple[list[str], list[int]]:
    """SMILES and labels of a CSV file with a header.

    Args:
        file: has a column `smiles` (or `mol`).
        column: that of the labels; by default the only other one.

    Raises:
        MissingError: no such file.
        DamagedError: not text, or rows of another length than the header.
        InputError: columns that are not there or cannot be told, labels that are no integers.
    """
    try:
        header, *rows = reading(file, _rows_of)
    except (ValueError, csv.Error) as error:
        if isinstance(error, DDError):
            raise
        raise DamagedError(f"{file} is not a CSV file with a header ({error})") from error
    if wrong := [i for i, row in enumerate(rows) if len(row) != len(header)]:
        raise DamagedError(f"{file}: rows of another length than the header: {some(wrong)} (counted from 0)")
    smiles = next((name for name in SMILES_COLUMNS if name in header), None)
    others = [name for name in header if name != smiles]
    if smiles is None or (column is None and len(others) != 1) or (column is not None and column not in others):
        way = "Name the column of labels: `smiles:PATH.csv#COLUMN`."
        raise refuse("data", f"a table with columns `smiles` and {column or 'one of labels'}", some(header, 20), way)
    at, place = header.index(smiles), header.index(column or others[0])
    labels = [_whole(row[place]) for row in rows]
    if bad := [i for i, label in enumerate(labels) if label is None]:
        got = ", ".join(f"{rows[i][place]!r} in row {i}" for i in bad[:3])
        raise refuse("labels", "an integer in every row", got, "Leave the rows without a label out.")
    return [row[at] for row in rows], [label for label in labels if label is not None]


def _rows_of(file: Path) -> list[list[str]]:
    with file.open(encoding="utf-8-sig", newline="") as text:
        return [row for row in csv.reader(text) if row]


def table_source(file: Path, column: str | None, chirality: bool) -> Unsplit:
    """The graphs of a table and their scaffold split: `<stem>_scaffold_split.json` if it is beside the table."""
    smiles, labels = read_table(file, column)
    return molecule_source(smiles, labels, file=file, chirality=chirality)


def card_source(card: GraphCard, folder: Path) -> Unsplit:
    """The graphs of a card's table.

    Raises:
        InputError: other counts than the card's, of all rows and of those that were read.
    """
    file = folder / card.marker
    smiles, raw = read_table(file, card.columns[1])
    if not set(raw) <= set(card.labels):
        raise DamagedError(f"{file}: labels {sorted(set(raw))}, not {list(card.labels)}. Get it again.")
    labels = np.searchsorted(np.array(card.labels), raw).tolist()
    source = molecule_source(smiles, labels, file=file, chirality=card.chirality)
    sizes = np.bincount(labels, minlength=len(card.classes)).tolist()
    read = torch.bincount(source.graphs.labels, minlength=len(card.classes)).tolist()
    if list(card.per_class) not in (sizes, read):
        way = "Get the table again, or use `smiles:PATH.csv` for one of your own."
        raise refuse(card.name, f"{list(card.per_class)} molecules a class", f"{sizes} in {file}", way)
    return source


def molecule_source(
    smiles: Sequence[str],
    labels: Sequence[int] | Tensor,
    *,
    scaffold: bool = True,
    file: Path | None = None,
    chirality: bool = False,
    workers: int | None = None,
) -> Unsplit:
    """Molecules as graphs, with their scaffold split if asked for.

    Args:
        smiles, labels: one a molecule.
        scaffold: find the split.
        file: table they are from; rows of the split are taken from `<stem>_scaffold_split.json` if it is beside it.
        chirality, workers: see `read_molecules`.

    Warns:
        UserWarning: rows that rdkit does not read, and those that the split of the table leaves out.
    """
    y = torch.as_tensor(labels)
    if y.shape != (len(smiles),) or y.is_floating_point() or y.dtype == torch.bool:
        raise refuse("labels", f"integers [{len(smiles)}], one a SMILES", f"{y.dtype} {list(y.shape)}")
    shipped = None if file is None else file.with_name(f"{file.stem}_scaffold_split.json")
    given = shipped if shipped is not None and is_file(shipped) else None
    found = _read(smiles, scaffold and given is None, chirality, workers)
    _warn_left(smiles, set(range(len(smiles))) - set(found.rows.tolist()), "rdkit does not read")
    ptr = np.concatenate([[0], np.cumsum(found.atoms)])
    edge_index = found.edge_index + np.repeat(ptr[:-1], found.bonds)
    parts = (found.x, edge_index, found.edge_attr, ptr)
    x, edges, attr, offsets = (torch.from_numpy(np.ascontiguousarray(part)) for part in parts)
    graphs = graph_split(x, edges, attr, offsets, y.to(torch.int64)[torch.from_numpy(found.rows)])
    rows = None
    if given is not None and scaffold:
        rows = _shipped_rows(given, found.rows, smiles)
    elif scaffold:
        rows = scaffold_rows(found.scaffolds.tolist(), total=len(smiles))
    return Unsplit(graphs, rows, ATOM_NAMES, BOND_NAMES)


def _whole(text: str) -> int | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None


def _warn_left(smiles: Sequence[str], left: set[int], why: str) -> None:
    if left:
        text = f"{why} {len(left)} of {len(smiles)} molecules, which are left out: rows {some(sorted(left), 20)}"
        warn(f"{text} (counted from 0).")


def _shipped_rows(file: Path, read: np.ndarray, smiles: Sequence[str]) -> Rows:
    """Rows of a split file, which counts those of the table, as places among the rows that were read."""
    values = read_foreign_json(file, "split")
    place = torch.full((len(smiles),), -1, dtype=torch.int64)
    place[torch.from_numpy(read)] = torch.arange(len(read))
    parts = []
    for key in ("train", "valid", "test"):
        rows = values[key]
        if not all(row < len(smiles) for row in rows):
            raise DamagedError(f"{file}: `{key}` is not a list of rows 0 … {len(smiles) - 1}. Remove the file.")
        parts.append(torch.tensor(sorted(rows), dtype=torch.int64))
    every = torch.cat(parts)
    if len(every.unique()) != len(every):
        raise DamagedError(f"{file}: a row is in two splits, or twice in one. Remove the file.")
    _warn_left(smiles, set(read.tolist()) - set(every.tolist()), f"{file.name} has no split for")
    train, val, test = (place[part][place[part] >= 0] for part in parts)
    return Rows(train, val if len(val) else None, test if len(test) else None)


def _read(smiles: Sequence[str], scaffolds: bool, chirality: bool, workers: int | None) -> Molecules:
    """`read_molecules`, kept in the store: rdkit takes half a minute for HIV, and every run of a benchmark asks again.

    The key holds the SMILES, the version of rdkit and the options, so that what is read is what would be made.
    """
    if len(smiles) <= FEW or not all(isinstance(text, str) for text in smiles):
        return read_molecules(smiles, scaffolds=scaffolds, chirality=chirality, workers=workers)
    text = "\n".join(
        [f"{CACHE_FORMAT} {rdkit_version()} {scaffolds} {scaffolds and chirality}", *map(unmapped, smiles)]
    )
    file = home("datasets") / "molecules" / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.safetensors"
    if is_file(file):
        with contextlib.suppress(DamagedError, MissingError, KeyError):
            tensors, _ = load_tensors(file, "any")
            return Molecules(*(tensors[name].to(torch.int64).numpy() for name in Molecules._fields))
    made = read_molecules(smiles, scaffolds=scaffolds, chirality=chirality, workers=workers)
    ready = {
        name: torch.from_numpy(np.ascontiguousarray(values)).to(kind)
        for name, values, kind in zip(Molecules._fields, made, _TYPES, strict=True)
    }
    with contextlib.suppress(WriteError):  # a store that cannot be written costs time, nothing else
        save_tensors(file, ready, {"rdkit": rdkit_version(), "molecules": len(made.rows)})
    return made
