"""Data of other libraries as map-style Datasets of (image, label): Hugging Face's, and tar shards of WebDataset."""

from __future__ import annotations

import io
import lzma
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, final

import numpy as np

from dd.base.paths import need_file
from dd.base.process import under_own_settings
from dd.data.images.checks import some
from dd.data.images.pictures import UNREADABLE, extensions, open_picture, unreadable
from dd.errors import DamagedError, DDError, find_name, refuse

IMAGE_COLUMNS: Final = ("image", "img", "picture", "photo", "pixels", "pixel_values")
LABEL_COLUMNS: Final = ("label", "labels", "class", "target", "y")
"""What columns are called, in any letters, where their types do not tell."""
UNLABELLED: Final = -1
"""What stands for no label in a column of classes."""


@final
class HubImages:
    """A Hugging Face dataset (one split, map-style) as (image, label) pairs, read when they are asked for.

    Attributes:
        classes: names of a `ClassLabel` column; absent where the labels have no names.
    """

    def __init__(self, data: Any, image: str, label: str) -> None:
        self._data, self._image, self._label = data, image, label
        features = _features(data)
        self._dtype = getattr(features.get(image), "dtype", None)
        names = getattr(features.get(label), "names", None)
        if names:
            self.classes = list(names)

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        row = self._data[int(index)]
        missing = [name for name in (self._image, self._label) if name not in row]
        if missing:
            raise refuse(f"data[{index}]", f"a row with {missing[0]!r}", some(list(row), 20))
        image, label = row[self._image], row[self._label]
        if isinstance(image, Mapping) and isinstance(image.get("bytes"), bytes):  # a picture that was not decoded
            image = open_picture(io.BytesIO(image["bytes"]), f"the picture of row {index}")
        elif isinstance(image, list):
            image = np.asarray(image, dtype=self._dtype if self._dtype in ("uint8", "float32", "float64") else None)
        unlabelled = hasattr(self, "classes") and isinstance(label, int) and label == UNLABELLED
        return image, None if unlabelled else label


def is_rows(data: object) -> bool:
    """Whether it is a Hugging Face dataset, or a list of rows that are dicts, as it has them."""
    listed = isinstance(data, list) and bool(data) and isinstance(data[0], Mapping)
    return listed or (hasattr(data, "column_names") and hasattr(data, "features") and not isinstance(data, Mapping))


def check_no_graph(data: object, argument: str) -> None:
    """Refuse a graph of PyG, or a list of some, where images are read.

    Raises:
        InputError: with what reads it.
    """
    first = data[0] if isinstance(data, list) and data else data
    if hasattr(first, "edge_index"):
        way_out = "`dd.load_graphs` reads it, and verbs take it as it is with a method for graphs or nodes."
        raise refuse(argument, "images", f"a graph (`{type(first).__name__}`)", way_out)


@under_own_settings
def from_hf(data: Any, image: str | None = None, label: str | None = None) -> HubImages | dict[str, HubImages]:
    """A Hugging Face image dataset whose columns are to be named; others are data as they are.

    Args:
        data: one split, or several as a `DatasetDict`, not streamed.
        image, label: columns; `None`: the only one of pictures, and of classes, else the one called `image` or `img`,
            and `label` or `labels` and so on.

    Returns:
        What verbs take as data; of several splits one for each, as `dd.load_images` takes them.

    Raises:
        InputError: a stream, no row, or columns that are not there or cannot be told.
    """
    check_no_graph(data, "data")
    if isinstance(data, Mapping):
        return {str(name): _hub_split(part, image, label, f"data[{str(name)!r}]") for name, part in data.items()}
    return _hub_split(data, image, label, "data")


def _hub_split(data: Any, image: str | None, label: str | None, argument: str) -> HubImages:
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        way_out = "Load it without streaming."
        raise refuse(argument, "a map-style dataset", type(data).__name__, way_out)
    if not len(data):
        raise refuse(argument, "at least one row", "none")
    columns = [str(name) for name in getattr(data, "column_names", None) or data[0]]
    kinds = {name: type(kind).__name__ for name, kind in _features(data).items()}
    pictures = _column("image", image, IMAGE_COLUMNS, columns, [name for name in columns if kinds.get(name) == "Image"])
    named = [name for name in columns if kinds.get(name) == "ClassLabel"]
    return HubImages(data, pictures, _column("label", label, LABEL_COLUMNS, columns, named))


def _features(data: Any) -> Mapping[str, Any]:
    features = getattr(data, "features", None)
    return features if isinstance(features, Mapping) else {}


def _column(what: str, given: str | None, usual: tuple[str, ...], columns: list[str], typed: list[str]) -> str:
    """The column that was named, else the only one of its type, else the first of the usual names."""
    if given is not None:
        return find_name("column", given, columns)
    called = sorted((usual.index(name.casefold()), name) for name in columns if name.casefold() in usual)
    called = [(k, name) for k, name in called if name in typed or not typed]
    if len(typed) == 1:
        return typed[0]
    if not called or (typed and called[0][1] not in ("image", "label")):
        expected = f"a dataset with one column of {'pictures' if what == 'image' else 'classes'}, called {usual[0]!r}"
        raise refuse(
            "data", expected, some(typed or columns or ["no column"], 20), f'Name it: `dd.from_hf(data, {what}="…")`.'
        )
    return called[0][1]


MOST_MEMBER: Final = 2**28
"""Bytes of a file in a shard; larger ones are no pictures, whatever they are packed to."""


@final
class TarImages:
    """Pictures and labels of WebDataset tar shards, kept as the compressed bytes that they are."""

    def __init__(self, samples: list[tuple[str, bytes, int]]) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        key, data, label = self._samples[index]
        try:
            image = open_picture(io.BytesIO(data), f"the picture of sample {key!r}")
            image.load()
        except DDError:
            raise
        except UNREADABLE as error:
            raise unreadable(f"the picture of sample {key!r}", error) from error
        return image, label


@under_own_settings
def from_webdataset(shards: str | Path | Iterable[str | Path], label: str = "cls") -> TarImages:
    """Tar shards in the layout of WebDataset: files of one name are a sample, `KEY.png` (or jpg, …) and `KEY.cls`.

    The picture is in any format that Pillow reads; of several in one sample the PNG, else the first by extension.

    Args:
        shards: tar files, in order. They are read once; nothing is unpacked onto the disk.
        label: the extension that holds the class, a whole number as text.

    Raises:
        InputError: no sample.
        MissingError, DamagedError: a shard is not there or no tar file, or a sample without picture or label.
    """
    paths = [Path(shards)] if isinstance(shards, str | Path) else [Path(shard) for shard in shards]
    samples = [sample for path in paths for sample in _read(path, label)]
    if not samples:
        raise refuse("shards", "tar files with at least one sample", "none")
    return TarImages(samples)


def _read(path: Path, label: str) -> list[tuple[str, bytes, int]]:
    parts: dict[str, dict[str, bytes]] = {}
    need_file(path)
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                stem, _, extension = name.partition(".")
                file = tar.extractfile(member) if member.isfile() else None
                if member.size > MOST_MEMBER:
                    way_out = "Take it out of the shard; pictures and labels are smaller."
                    raise refuse(
                        f"{member.name}` in `{path}", f"of at most {MOST_MEMBER:,} bytes", f"{member.size:,}", way_out
                    )
                if file is not None and not name.startswith("."):
                    parts.setdefault(f"{folder}/{stem}", {})[extension.lower()] = file.read()
    except DDError:
        raise
    except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DamagedError(f"{path} is not a tar file ({error}).") from error
    samples, readable = [], extensions()
    for key, found in parts.items():
        kinds = sorted((kind for kind in found if f".{kind}" in readable), key=lambda kind: (kind != "png", kind))
        if not kinds or label not in found:
            raise DamagedError(
                f"sample {key!r} of {path} has {', '.join(sorted(found))}; it needs a picture and .{label}."
            )
        try:
            samples.append((key, found[kinds[0]], int(found[label])))
        except ValueError as error:
            raise DamagedError(f"the label of sample {key!r} in {path} is not a whole number.") from error
    return samples
