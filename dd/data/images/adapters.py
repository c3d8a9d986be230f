"""Data of other libraries as map-style Datasets of (image, label): Hugging Face's, and tar shards of WebDataset."""

from __future__ import annotations

import io
import lzma
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, final

from dd.base.paths import need_file
from dd.base.process import under_own_settings
from dd.data.images.pictures import UNREADABLE, extensions, open_picture, unreadable
from dd.errors import DamagedError, DDError, refuse


@final
class HubImages:
    """A Hugging Face dataset (one split, map-style) as (PIL image, int label) pairs, read when they are asked for.

    Attributes:
        classes: names of a `ClassLabel` column; absent where the labels have no names.
    """

    def __init__(self, data: Any, image: str, label: str) -> None:
        self._data, self._image, self._label = data, image, label
        names = getattr((getattr(data, "features", None) or {}).get(label), "names", None)
        if names:
            self.classes = list(names)

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        row = self._data[int(index)]
        return row[self._image], int(row[self._label])


@under_own_settings
def from_hf(data: Any, image: str | None = None, label: str | None = None) -> HubImages:
    """A Hugging Face image dataset for `dd.distill`, or for `dd.Images(train=…, test=…)`.

    Args:
        data: one split, not streamed: `load_dataset(NAME, split="train")`.
        image, label: columns; `None`: the one called `image` or `img`, and `label` or `labels`.

    Raises:
        InputError: several splits, a stream, no row, or no such column.
    """
    if isinstance(data, Mapping):
        raise refuse(
            "data", "one split of a Hugging Face dataset", f"splits {', '.join(map(str, data))}", "Choose one."
        )
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        raise refuse("data", "a map-style dataset", type(data).__name__, "Load it without streaming.")
    if not len(data):
        raise refuse("data", "at least one row", "none")
    columns = list(getattr(data, "column_names", None) or data[0])
    return HubImages(data, _column(image, ("image", "img"), columns), _column(label, ("label", "labels"), columns))


def _column(given: str | None, usual: tuple[str, ...], columns: list[str]) -> str:
    found = [name for name in ((given,) if given is not None else usual) if name in columns]
    if not found:
        wanted = repr(given) if given is not None else " or ".join(map(repr, usual))
        raise refuse("data", f"a dataset with a column {wanted}", ", ".join(columns), "Name it.")
    return found[0]


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
