"""Splits that are read when asked for give what splits in memory give, and keep what tests read again."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.folders import folder, tree
from torch import Tensor

from dd.data import Images, LazySplit, Split, TensorSplit, statistics
from dd.data.images import load, reading
from dd.data.images.custom import as_split
from dd.data.images.folders import Files
from dd.data.images.splits import JoinedSplit
from dd.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:.*under more than one class")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tree(tmp_path_factory.mktemp("tree"), {"train": 20, "val": 4, "test": 5})


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers for more than ten images."""
    monkeypatch.setattr(reading, "FEW", 10)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows that were read from files of this process."""
    rows, usual = list[int](), Files.__getitem__

    def read(self: Files, i: int) -> Any:
        rows.append(i)
        return usual(self, i)

    monkeypatch.setattr(Files, "__getitem__", read)
    return rows


def batches(split: Split) -> Iterator[Tensor]:
    for epoch in range(3):
        yield from torch.randperm(len(split), generator=torch.Generator().manual_seed(epoch)).split(16)


def streams(images: Images) -> list[Split]:
    assert images.test is not None
    assert images.val is not None
    pairs = JoinedSplit(images.val, images.train).subset(torch.arange(1, 70, 2))
    return [images.train, images.all_train().train, images.test.subset(torch.tensor([3, 14, 3, 0])), pairs]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_is_that_of_the_split_in_memory(base: Path, workers: int) -> None:
    memory, lazy = folder(base), folder(base, limit=10, workers=workers)
    assert isinstance(lazy.all_train().train, JoinedSplit)
    for eager, read in zip(streams(memory), streams(lazy), strict=True):
        found = list(read.stream(batches(eager)))
        wanted = list(batches(eager))
        assert len(found) == len(wanted)
        for rows, (given, pixels) in zip(wanted, found, strict=True):
            assert torch.equal(given, rows)
            assert torch.equal(pixels, eager.pixels(rows))
            assert torch.equal(pixels, next(eager.stream([rows]))[1])
        for given, pixels in read.stream([slice(1, 3)]):
            assert torch.equal(pixels, eager.pixels(given))
    for one, other in zip(statistics(memory.train), statistics(lazy.train), strict=True):
        assert one == pytest.approx(other)
    assert not multiprocessing.active_children()


def test_images_for_tests_are_decoded_once_where_half_the_limit_holds_them(base: Path, decoded: list[int]) -> None:
    room = 2 * 15 * 192  # twice the bytes of the test images; all images are 87
    kept, read = (folder(base, limit=limit, workers=0) for limit in (room, room - 2))
    assert kept.test is not None
    assert kept.val is not None
    for split, times in ((kept.test, 1), (kept.val, 1), (read.test, 3), (kept.train, 3)):
        assert isinstance(split, LazySplit)
        decoded.clear()
        found = [torch.cat([x for _, x in split.stream(torch.arange(len(split)).split(4))]) for _ in range(2)]
        found.append(split.pixels())
        assert len(decoded) == times * len(split)
        assert torch.equal(found[0], found[1])
        assert torch.equal(found[0], found[2])
    decoded.clear()
    rows = torch.tensor([7, 2, 7])
    part = kept.test.subset(rows)
    assert torch.equal(part.pixels(), kept.test.pixels()[rows])
    changed = part.pixels().zero_()  # what is kept is not what is given
    assert part.pixels().any()
    assert not changed.any()
    assert not decoded


def test_a_part_that_was_read_is_kept_for_the_whole(base: Path, decoded: list[int]) -> None:
    test = folder(base, limit=10**4, workers=0).test
    assert isinstance(test, LazySplit)
    part = test.subset(torch.tensor([4, 1]))
    decoded.clear()  # some were looked at when the data was opened
    part.pixels()
    assert decoded == [4, 1]
    part.pixels()
    assert len(decoded) == 2
    whole = test.pixels()
    assert torch.equal(whole[[4, 1]], part.pixels())
    decoded.clear()
    test.pixels()
    assert not decoded


def test_workers_bring_what_is_kept(base: Path, decoded: list[int]) -> None:
    test = folder(base, limit=10**4, workers=2).test
    assert test is not None
    decoded.clear()
    first = test.pixels()
    assert decoded == [0]  # a first one, for what it imports; all by others
    assert torch.equal(test.pixels(), first)
    assert decoded == [0]


def test_floats_are_not_kept() -> None:
    floats = torch.rand(6, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    split = LazySplit(floats, torch.zeros(6), (1, 2, 2), list("abcdef"), keep=10**6).kept()
    for _ in range(2):
        assert torch.equal(split.pixels(), floats)


def test_by_default_one_cpu_has_no_process_for_reading(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for cpus, workers in ((1, 0), (2, 2), (64, 4)):
        monkeypatch.setattr(load, "usable_cpus", lambda cpus=cpus: cpus)
        train = folder(base, limit=10).train
        assert isinstance(train, LazySplit)
        assert train.workers == workers
    assert isinstance(folder(base).train, TensorSplit)


class Shared:
    """Reads from one open file, as many Datasets do; `changed`, as it may where processes share its place in it."""

    def __init__(self, path: Path) -> None:
        self.file, self.changed = path.open("rb"), False

    def __len__(self) -> int:
        return 40

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        place = 39 - i if self.changed and i > 30 else i
        self.file.seek(place * 12)
        return torch.frombuffer(bytearray(self.file.read(12)), dtype=torch.uint8).view(3, 2, 2), i % 2


@pytest.mark.parametrize("workers", [0, 2])
def test_other_pixels_than_those_that_were_loaded_are_refused(workers: int, tmp_path: Path) -> None:
    pixels = torch.randint(0, 256, (480,), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    (tmp_path / "pictures").write_bytes(pixels.numpy().tobytes())
    data = Shared(tmp_path / "pictures")
    split = as_split(data, limit=10, workers=workers)
    assert torch.equal(split.subset(torch.arange(3)).pixels(), pixels[:36].view(3, 3, 2, 2) / 255)
    data.changed = True
    with pytest.raises(InputError, match=r"`data\[31\] image` must be the same pixels .*`workers=0`"):
        split.pixels()
    data.file.close()
