"""Tables of molecules as graphs: columns, rows left out, splits by scaffold, and a cache of what rdkit read."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dd.base.files import load_tensors, read_foreign_json, save_tensors
from dd.base.home import home
from dd.base.paths import is_file, reading
from dd.base.texts import clean_names
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
from dd.data.labels import NO_CLASS, Encoding, Labels
from dd.errors import DamagedError, DDError, MissingError, WriteError, find_name, refuse, warn

SMILES_COLUMNS: Final = ("smiles", "canonicalsmiles", "isomericsmiles", "smilesstring", "mol", "molecule", "structure")
"""What a column of SMILES is called, letters and digits alone, small; the first of these that there is."""
LABEL_COLUMNS: Final = ("label", "labels", "class", "target", "y", "activity", "active")
"""What a column of labels is called where there are others, likewise."""
SEPARATORS: Final = (",", ";", "\t")
RING: Final = ATOM_NAMES.index("in a ring")
CACHE_FORMAT: Final = 2
_NUMBER: Final = re.compile(r"[+-]?(\d{1,300}(\.\d*)?|\.\d+)(e[+-]?\d{1,4})?", re.ASCII | re.IGNORECASE)
_MISSING: Final = ("", "nan", "na", "n/a", "null")
_Row = tuple[int, list[str]]  # line of the file, cells
_TYPES: Final = (torch.int16, torch.int32, torch.int8, torch.int32, torch.int32, torch.int32, torch.int64)


class Table(NamedTuple):
    """SMILES, labels and lines of a table, one a molecule; the first line of a file is 1."""

    smiles: list[str]
    labels: Labels
    lines: list[int]


def read_table(file: Path, column: str | None = None) -> Table:
    """SMILES and labels of a table of text: rows below a header, columns separated by commas, semicolons or tabs.

    Args:
        file: has a column of SMILES: `smiles`, `canonical_smiles` or another name of `SMILES_COLUMNS`, however it is
            written.
        column: that of the labels; by default the only other one, or the one called as in `LABEL_COLUMNS`.

    Returns:
        Labels are whole numbers where all are, else texts. The line of a row is the first that it has in the file.

    Raises:
        MissingError: no such file.
        DamagedError: not text, or rows of another length than the header.
        InputError: no rows, columns that are not there or cannot be told, rows without a label, other numbers.
    """
    try:
        (_, header), *numbered = reading(file, _rows_of)
    except (ValueError, csv.Error) as error:
        if isinstance(error, DDError):
            raise
        raise DamagedError(f"{file} is not a CSV file with a header ({error})") from error
    if wrong := [line for line, row in numbered if len(row) != len(header)]:
        raise DamagedError(f"{file}: rows of another length than the header: {_told(wrong)}")
    at, place = _columns(header, column)
    if not numbered:
        raise refuse("data", "a table with a molecule in each row below the header", f"a header alone in {file}")
    lines, rows = [line for line, _ in numbered], [row for _, row in numbered]
    return Table([row[at] for row in rows], _labels([row[place].strip() for row in rows], lines), lines)


def _told(lines: list[int], most: int = 5) -> str:
    """Lines of a file, for a message."""
    return f"line{'s' if len(lines) > 1 else ''} {some(lines, most)} (counted from 1, with the header)"


def _rows_of(file: Path) -> list[_Row]:
    """Header and rows, cut at the separator that gives a column of SMILES, with their lines."""
    with file.open(encoding="utf-8-sig", newline="") as text:
        lines = text.read().splitlines(keepends=True)
    if not any(line.strip() for line in lines):
        raise ValueError("it is empty")
    tables = [_cut(lines, mark) for mark in SEPARATORS]
    headers = (table[0][1] for table in tables)
    right = (k for k, header in enumerate(headers) if len(header) > 1 and any(map(_smiles_rank, header)))
    return tables[next(right, 0)]


def _cut(lines: list[str], mark: str) -> list[_Row]:
    """The rows that are not empty, each with the first of its lines."""
    rows, line, reader = list[_Row](), 1, csv.reader(lines, delimiter=mark)
    for row in reader:
        if row:
            rows.append((line, row))
        line = reader.line_num + 1
    return rows


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name)).casefold()


def _smiles_rank(name: str) -> int:
    """Place among `SMILES_COLUMNS` from 1 on; 0 of another name."""
    return SMILES_COLUMNS.index(_plain(name)) + 1 if _plain(name) in SMILES_COLUMNS else 0


def _columns(header: list[str], column: str | None) -> tuple[int, int]:
    """Places of the SMILES and of the labels."""
    names = [name.strip() for name in header]
    of_smiles = sorted((rank, i) for i, rank in enumerate(map(_smiles_rank, names)) if rank)
    others = [name for i, name in enumerate(names) if i not in {i for _, i in of_smiles}]
    if column is None and len(others) > 1:
        usual = [name for name in others if _plain(name) in LABEL_COLUMNS]
        others = usual if len(usual) == 1 else others
    if not of_smiles:
        way_out = "The first row has the names of the columns, separated by commas, semicolons or tabs."
        raise refuse("data", "a table with columns `smiles` and one of labels", some(names, 20), way_out)
    if column is None and len(others) != 1:
        way_out = "Name the column of labels: `smiles:PATH.csv#COLUMN`."
        raise refuse("data", "a table with columns `smiles` and one of labels", some(names, 20), way_out)
    at = of_smiles[0][1]
    left = [name for i, name in enumerate(names) if i != at]
    found = others[0] if column is None else column if column in left else find_name("column", column, left)
    return at, names.index(found)


def _labels(cells: list[str], lines: list[int]) -> Labels:
    """The labels of a column: whole numbers where all are, else texts."""
    missing = [i for i, cell in enumerate(cells) if cell.casefold() in _MISSING]
    numbers = [number for cell in cells if (number := _number(cell)) is not None]
    if numbers and not missing:  # of numbers and words it is the words that are no labels
        missing = [i for i, cell in enumerate(cells) if _number(cell) is None] if len(numbers) < len(cells) else []
    if missing:
        got = f"{', '.join(repr(cells[i]) for i in missing[:3])} in {_told([lines[i] for i in missing], 3)}"
        raise refuse("labels", "a class in every row", got, "Leave the rows without a label out.")
    if numbers and (broken := [number for number in numbers if number != int(number)]):
        raise refuse("labels", "classes", f"{some(broken)}, which are no whole numbers", NO_CLASS)
    return [int(number) for number in numbers] if numbers else list(cells)


def _number(text: str) -> float | int | None:
    """A number in plain digits; whole ones are exact."""
    if _NUMBER.fullmatch(text) is None:
        return None
    if text.lstrip("+-").isdecimal():
        return int(text)
    number = float(text)
    return number if math.isfinite(number) else None


def table_source(
    file: Path, column: str | None, *, chirality: bool, scaffold: bool = True
) -> tuple[Unsplit, tuple[str, ...]]:
    """The graphs of a table and the names of their classes, see `read_table`.

    With their scaffold split if asked for: `<stem>_scaffold_split.json` if it is beside the table.
    """
    smiles, labels, lines = read_table(file, column)
    encoding = Encoding.of(labels, None, "labels")
    y = encoding.classes_of(labels, "labels")
    source = molecule_source(smiles, y, file=file, lines=lines, chirality=chirality, scaffold=scaffold)
    return source, clean_names(encoding.names)


def card_source(card: GraphCard, folder: Path) -> Unsplit:
    """The graphs of a card's table.

    Raises:
        InputError: other counts than the card's, of all rows and of those that were read.
    """
    file = folder / card.marker
    smiles, raw, lines = read_table(file, card.columns[1])
    if not set(raw) <= set(card.labels):
        raise DamagedError(f"{file}: labels {some(sorted(set(map(str, raw))))}, not {list(card.labels)}. Get it again.")
    labels = np.searchsorted(np.array(card.labels), raw).tolist()
    source = molecule_source(smiles, labels, file=file, lines=lines, chirality=card.chirality)
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
    lines: list[int] | None = None,
    chirality: bool = False,
    workers: int | None = None,
) -> Unsplit:
    """Molecules as graphs, with their scaffold split if asked for.

    Args:
        smiles, labels: one a molecule.
        scaffold: find the split.
        file: table they are from; rows of the split are taken from `<stem>_scaffold_split.json` if it is beside it.
        lines: of the table, one a molecule, by which warnings count; without them they count rows from 0.
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
    _warn_left(len(smiles), set(range(len(smiles))) - set(found.rows.tolist()), "rdkit does not read", lines)
    ptr = np.concatenate([[0], np.cumsum(found.atoms)])
    edge_index = found.edge_index + np.repeat(ptr[:-1], found.bonds)
    parts = (found.x, edge_index, found.edge_attr, ptr)
    x, edges, attr, offsets = (torch.from_numpy(np.ascontiguousarray(part)) for part in parts)
    graphs = graph_split(x, edges, attr, offsets, y.to(torch.int64)[torch.from_numpy(found.rows)])
    rows = None
    if given is not None and scaffold:
        rows = _shipped_rows(given, found.rows, len(smiles), lines)
    elif scaffold:
        rows = scaffold_rows(found.scaffolds.tolist(), total=len(smiles))
        _check_scaffolds(found, rows, graphs.labels)
    return Unsplit(graphs, rows, ATOM_NAMES, BOND_NAMES)


def _check_scaffolds(found: Molecules, rows: Rows, labels: Tensor) -> None:
    """Refuse a scaffold split that leaves no training molecule of a class."""
    lacking = set(labels.tolist()) - set(labels[rows.train].tolist())
    if not lacking:
        return
    largest = np.bincount(found.scaffolds).argmax()
    share = found.scaffolds == largest
    rings = bool(found.x[np.repeat(share, found.atoms), RING].any())
    got = f"{int(share.sum()):,} of {len(share):,} with the same one" + ("" if rings else ", none: they have no ring")
    way_out = 'Draw the split at random: `split="random"` (`--split random`), or `rule="random"` of `smiles_graphs`.'
    raise refuse("data", "molecules of many scaffolds, each of which a scaffold split keeps together", got, way_out)


def _warn_left(n: int, left: set[int], why: str, lines: list[int] | None) -> None:
    if left:
        rows = sorted(left)
        where = f"rows {some(rows, 20)} (counted from 0)" if lines is None else _told([lines[i] for i in rows], 20)
        warn(f"{why} {len(left)} of {n} molecules, which are left out: {where}.")


def _shipped_rows(file: Path, read: np.ndarray, n: int, lines: list[int] | None) -> Rows:
    """Rows of a split file, which counts those of the table, as places among the rows that were read."""
    values = read_foreign_json(file, "split")
    place = torch.full((n,), -1, dtype=torch.int64)
    place[torch.from_numpy(read)] = torch.arange(len(read))
    parts = []
    for key in ("train", "valid", "test"):
        rows = values[key]
        if not all(row < n for row in rows):
            raise DamagedError(f"{file}: `{key}` is not a list of rows 0 … {n - 1}. Remove the file.")
        parts.append(torch.tensor(sorted(rows), dtype=torch.int64))
    every = torch.cat(parts)
    if len(every.unique()) != len(every):
        raise DamagedError(f"{file}: a row is in two splits, or twice in one. Remove the file.")
    _warn_left(n, set(read.tolist()) - set(every.tolist()), f"{file.name} has no split for", lines)
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
