"""Reading ahead: the same tensors in the same order with any number of workers, and no process is left behind."""

from __future__ import annotations

import functools
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dd.data.images import reading
from dd.data.images.reading import read_ahead
from dd.errors import DamagedError, InputError, MissingError, refuse

ROOT = Path(__file__).resolve().parents[2]
SHAPE = (1, 2, 3)


class Numbers:
    """Item i is full of i, as uint8, or as a float where `floats` has it; where `bad` has it there is an error."""

    def __init__(self, floats: tuple[int, ...] = (), bad: tuple[int, ...] = (), raises: tuple[int, ...] = ()) -> None:
        self.floats, self.bad, self.raises = floats, bad, raises

    def __getitem__(self, i: int) -> Tensor | DamagedError:
        if i in self.raises:
            raise refuse(f"data[{i}]", "a picture", "none")
        if i in self.bad:
            return DamagedError(f"picture {i} is cut off.")
        return torch.full(SHAPE, i / 255) if i in self.floats else torch.full(SHAPE, i, dtype=torch.uint8)


def children() -> list[Any]:
    return multiprocessing.active_children()


def endless(size: int = 7) -> Iterator[Tensor]:
    """Batches of an order an epoch of 200 items, for ever."""
    generator = torch.Generator().manual_seed(0)
    while True:
        yield from torch.randperm(200, generator=generator).split(size)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers for more than ten items."""
    monkeypatch.setattr(reading, "FEW", 10)


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("size", [1, 7, 64, 65, 200])
def test_batches_are_those_asked_for_in_their_order(workers: int, size: int) -> None:
    wanted = list(islice(endless(size), 30 if size < 64 else 5))
    state = torch.get_rng_state()
    read = read_ahead(Numbers(), endless(size), SHAPE, workers)
    for rows, images in zip(wanted, read, strict=False):
        assert images.dtype == torch.uint8
        assert images.shape == (len(rows), *SHAPE)
        assert torch.equal(images[:, 0, 0, 0].long(), rows)
        assert torch.equal(images, images[:, :, :1, :1].expand_as(images))
    read.close()
    assert torch.equal(torch.get_rng_state(), state)
    assert not children()


@pytest.mark.parametrize("workers", [0, 2])
def test_floats_among_them_make_their_batch_floats(workers: int) -> None:
    """Also where they come after the first piece of it."""
    batches = [torch.arange(70), torch.arange(70, 140), torch.empty(0, dtype=torch.int64), torch.arange(3)]
    first, second, nothing, last = read_ahead(Numbers(floats=(68, 69)), batches, SHAPE, workers)
    assert (first.dtype, second.dtype, last.dtype) == (torch.float32, torch.uint8, torch.uint8)
    assert torch.equal(first[:, 0, 0, 0], torch.arange(70) / 255)
    assert torch.equal(second[:, 0, 0, 0].long(), batches[1])
    assert nothing.shape == (0, *SHAPE)
    assert not children()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("dataset", [Numbers(bad=(150,)), Numbers(raises=(150,))], ids=["given", "raised"])
def test_an_item_that_cannot_be_read_is_told_as_it_is(dataset: Numbers, workers: int) -> None:
    with pytest.raises((DamagedError, InputError)) as error:
        list(read_ahead(dataset, torch.arange(200).split(20), SHAPE, workers))
    assert re.fullmatch(r"picture 150 is cut off\.|`data\[150\]` must be a picture; got none\.", str(error.value))
    assert not children()


class Odd:
    """Ends as an iterator does at item 150, or has another shape there."""

    def __init__(self, ends: bool) -> None:
        self.ends = ends

    def __getitem__(self, i: int) -> Tensor:
        if i == 150 and self.ends:
            return next(iter(()))
        return torch.zeros(1, 2, 4 if i == 150 else 3)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_item_that_ends_as_an_iterator_does_not_end_the_data(workers: int) -> None:
    with pytest.raises(RuntimeError, match="item 150 of the data raised StopIteration"):
        list(read_ahead(Odd(ends=True), torch.arange(200).split(20), SHAPE, workers))
    assert not children()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_item_of_another_shape_is_told(workers: int) -> None:
    with pytest.raises(InputError, match=r"`item 150 of the data` must be of shape \[1, 2, 3\].* got \[1, 2, 4\]"):
        list(read_ahead(Odd(ends=False), torch.arange(200).split(20), SHAPE, workers))
    assert not children()


class Starts:
    """Counts loaders that start processes, and the pieces that they were given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told, loader = list[dict[str, Any]](), reading.DataLoader
        monkeypatch.setattr(reading, "DataLoader", lambda *given, **told: self._add(told) or loader(*given, **told))

    def _add(self, told: dict[str, Any]) -> None:
        self.told.append(told)


def test_processes_are_started_once_for_all_batches_and_not_for_few(monkeypatch: pytest.MonkeyPatch) -> None:
    starts = Starts(monkeypatch)
    assert len(list(read_ahead(Numbers(), torch.arange(200).repeat(3).split(7), SHAPE, 2))) == 86
    assert len(starts.told) == 1
    list(read_ahead(Numbers(), torch.arange(10).split(1), SHAPE, 2))
    assert len(starts.told) == 1
    monkeypatch.setattr(reading, "reading_processes", lambda wanted, items, few: 0)
    list(read_ahead(Numbers(), torch.arange(200).split(7), SHAPE, 2))
    assert len(starts.told) == 1


@pytest.mark.parametrize(("itemsize", "piece"), [(1, 10), (4, 2), (1000, 1)])
def test_what_is_read_before_its_turn_is_bounded_in_bytes(
    monkeypatch: pytest.MonkeyPatch, itemsize: int, piece: int
) -> None:
    monkeypatch.setattr(reading, "AHEAD", 4 * 10 * 6)  # ten items of six bytes, twice for each of two processes
    monkeypatch.setattr(reading, "reading_processes", lambda wanted, items, few: wanted)
    starts = Starts(monkeypatch)
    (images,) = read_ahead(Numbers(), [torch.arange(100)], SHAPE, 2, itemsize)
    assert torch.equal(images[:, 0, 0, 0].long(), torch.arange(100))
    assert starts.told[0]["prefetch_factor"] == 2
    sizes = list[int]()
    monkeypatch.setattr(reading, "_in_workers", lambda source, pieces, *_: _looked(source, pieces, sizes))
    list(read_ahead(Numbers(), [torch.arange(100)], SHAPE, 2, itemsize))
    assert max(sizes) == piece


def _looked(source: Any, pieces: Iterator[list[int]], sizes: list[int]) -> Iterator[Tensor]:
    for rows in pieces:
        sizes.append(len(rows))
        yield source[rows]


def test_a_large_batch_is_read_ahead_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "reading_processes", lambda wanted, items, few: wanted)
    starts = Starts(monkeypatch)
    list(read_ahead(Numbers(), [torch.arange(200).repeat(3)[:512]], SHAPE, 2))
    assert starts.told[0]["prefetch_factor"] == 4  # pieces of 64, two processes


def use(work: Callable[[], object]) -> None:
    """Read for ever, and do some work at each batch."""
    for _ in read_ahead(Numbers(), endless(), SHAPE, 2):
        work()


def test_processes_end_with_the_loop_that_is_left() -> None:
    for number, _ in enumerate(read_ahead(Numbers(), endless(), SHAPE, 2)):
        assert children()
        if number == 3:
            break
    assert not children()
    with pytest.raises(ZeroDivisionError) as error:
        use(lambda: 1 // 0)
    assert not children()  # although the error, which knows the loop, is still there
    assert error.value is not None


def test_a_process_that_others_end_is_told_and_the_way_out_works() -> None:
    handler = signal.getsignal(signal.SIGCHLD)

    def kill() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would raise here, in what the caller does
        for child in children():
            os.kill(child.pid, signal.SIGKILL)

    try:
        with pytest.raises(MissingError, match=r"a process that reads data is gone .*or `workers=0` to read in this"):
            use(kill)
    finally:
        signal.signal(signal.SIGCHLD, handler)
    assert not children()
    assert len(list(islice(read_ahead(Numbers(), endless(), SHAPE, 0), 100))) == 100


def test_data_that_cannot_be_sent_is_told_and_the_way_out_works(monkeypatch: pytest.MonkeyPatch) -> None:
    class Local(Numbers):
        """It has no name that another process could import."""

    spawning = functools.partial(reading.DataLoader, multiprocessing_context="spawn")
    monkeypatch.setattr(reading, "DataLoader", spawning)
    text = r"`workers` must be .*; got [12], of which none can be started \(.*Local.*\)\. Give `workers=0`\."
    with pytest.raises(InputError, match=text):
        list(read_ahead(Local(), endless(), SHAPE, 2))
    assert not children()
    assert len(next(read_ahead(Local(), endless(), SHAPE, 0))) == 7


SCRIPT = """
import multiprocessing, signal, sys, time
from itertools import repeat
import torch
from dd.data.images.reading import read_ahead

signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal, wherever the tests are run

class Slow:
    def __getitem__(self, i):
        time.sleep(0.001)
        return torch.zeros(1, dtype=torch.uint8)

for number, _ in enumerate(read_ahead(Slow(), repeat(torch.arange(300)), (1,), 2)):
    if number == 1:
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
"""


def started(tmp_path: Path) -> tuple[subprocess.Popen[str], list[int]]:
    """A script without a main guard that reads for ever, in a group of its own, and its workers."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment, pipe = {**os.environ, "PYTHONPATH": str(ROOT)}, subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, str(script)], env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )
    assert process.stdout is not None
    return process, [int(pid) for pid in process.stdout.readline().split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_ctrl_c_and_the_death_of_the_parent_leave_no_process(tmp_path: Path, sent: signal.Signals) -> None:
    process, pids = started(tmp_path)
    assert len(pids) in (1, 2)  # of one CPU one
    try:
        if sent == signal.SIGINT:
            os.killpg(process.pid, sent)  # as a terminal does: to the workers too
        else:
            process.kill()
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    if sent == signal.SIGINT:
        assert errors.count("Traceback") == errors.count("KeyboardInterrupt\n") == 1, errors
    else:  # they look for their parent every five seconds
        for _ in range(600):
            if not any(is_alive(pid) for pid in pids):
                break
            time.sleep(0.05)
    assert not any(is_alive(pid) for pid in pids)


IMPORTS = """
import os, sys
import torch
from dd.data.images import reading

class Late:
    def __getitem__(self, i):
        import colorsys
        with open(sys.argv[1], "a") as file:
            file.write(f"{os.getpid()} {'was' if ready else 'new'}\\n")
        return torch.zeros(1, dtype=torch.uint8)

ready = "colorsys" in sys.modules
os.register_at_fork(after_in_child=lambda: globals().update(ready="colorsys" in sys.modules))
for _ in reading.read_ahead(Late(), [torch.arange(300)], (1,), 2):
    pass
"""


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="workers are not forked")
def test_what_an_item_imports_is_imported_once_and_not_by_each_process(tmp_path: Path) -> None:
    script, told = tmp_path / "script.py", tmp_path / "told"
    script.write_text(IMPORTS)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, str(script), str(told)], env=environment, check=True)
    lines = [line.split() for line in told.read_text().splitlines()]
    assert len(lines) == 301
    assert lines[0][1] == "new"
    assert {when for pid, when in lines if pid != lines[0][0]} == {"was"}
