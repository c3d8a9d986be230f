"""Files: whole or not at all, equal content equal bytes, damage named, locks that die with their process."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import pickle
import resource
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save as pack_foreign

from dd.base import files, locks
from dd.base import tensors as reading
from dd.errors import DamagedError, InputError, MissingError, WriteError


@contextlib.contextmanager
def disk_of(size: int) -> Iterator[None]:
    """Any file that grows beyond `size` bytes fails half way, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def read_only_folder(*names: str) -> Iterator[Path]:
    """A folder with the files `names` that this process cannot write to, even when it is run by root."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in names:
            (folder / file).write_bytes(b"old")
        folder.chmod(0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            if user == 0:
                os.seteuid(0)
            folder.chmod(0o755)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Checksums and JSON


def test_digest_is_sha256_of_the_bytes_of_the_values() -> None:
    assert files.digest(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # FIPS 180-4
    values = torch.arange(12, dtype=torch.float32).view(3, 4)
    assert files.digest(values) == hashlib.sha256(values.numpy().tobytes()).hexdigest()
    assert files.digest(values.T) == hashlib.sha256(values.numpy().T.tobytes()).hexdigest()
    assert files.digest(values[1]) == files.digest(values[1].clone())
    assert files.digest(torch.tensor(3)) == hashlib.sha256((3).to_bytes(8, "little")).hexdigest()
    assert files.digest(torch.empty(0)) == files.digest(b"")
    assert files.digest(values.bfloat16().requires_grad_()) == files.digest(values.bfloat16())


def test_json_is_sorted_and_refuses_what_others_cannot_read() -> None:
    assert files.dump_json({"b": 1, "a": [True, None, "θ"]}) == '{"a": [true, null, "θ"], "b": 1}'
    assert files.dump_json("\udcff") == r'"\udcff"'  # a file name that is no UTF-8
    for value in (float("nan"), float("inf"), {"x": [-float("inf")]}, {"x": torch.zeros(1)}):
        with pytest.raises(InputError, match="`value` must be finite numbers, texts, lists and objects for JSON"):
            files.dump_json(value)


def test_json_file_round_trip_and_damage(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    files.write_json(path, {"θ": 1.5})
    assert files.read_json(path) == {"θ": 1.5}
    path.write_bytes(b'{"a": 1')
    with pytest.raises(DamagedError, match=r"a.json is not JSON .*Restore it, or remove it and run again"):
        files.read_json(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DamagedError, match=r"a.json is not JSON"):
        files.read_json(path)
    with pytest.raises(DamagedError, match="it is a folder, not a file"):
        files.read_json(tmp_path)
    for absent in (tmp_path / "b.json", path / "c.json"):
        with pytest.raises(MissingError, match="no file"):
            files.read_json(absent)


# Whole or not at all


def test_write_makes_folders_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "x.bin"
    files.write_bytes(path, b"one")
    files.write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert names(path.parent) == ["x.bin"]


def test_write_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        files.write_bytes(tmp_path / "x", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


def test_a_file_in_the_place_of_a_folder_is_not_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / "set.safetensors").write_bytes(b"old")
    with pytest.raises(WriteError, match=r"run\.json: .*\. Name another folder; what was there before is intact"):
        files.write_bytes(tmp_path / "set.safetensors" / "run.json", b"new")
    assert (tmp_path / "set.safetensors").read_bytes() == b"old"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_refused_write_keeps_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "x"
    files.write_bytes(path, b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(WriteError, match=r"could not write .*x: No space left on device\. Free some space"):
        files.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


def test_write_that_fails_half_way_keeps_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    files.write_bytes(path, b"old")
    with disk_of(1000), pytest.raises(WriteError, match="File too large"):
        files.write_bytes(path, bytes(100_000))
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


def test_read_only_folder(tmp_path: Path) -> None:
    with read_only_folder("x") as folder:
        with pytest.raises(WriteError, match=r"could not write .*x: Permission denied"):
            files.write_bytes(folder / "x", b"new")
        with pytest.raises(WriteError, match="Permission denied"):
            files.append_jsonl(folder / "log.jsonl", [{}])
        with pytest.raises(WriteError, match="Permission denied"), locks.locked(folder / "lock"):
            pass
        assert (folder / "x").read_bytes() == b"old"
        assert names(folder) == ["x"]


def test_read_only_file_in_a_folder_that_is_not(tmp_path: Path) -> None:
    """A rename could replace it, say the object behind a link into the cache of a data versioning tool."""
    with read_only_folder("x") as folder:
        user = os.geteuid()
        os.seteuid(0) if os.getuid() == 0 else None
        folder.chmod(0o777)
        (folder / "x").chmod(0o444)
        os.seteuid(user)
        for path in (folder / "x", folder / "link"):
            if path.name == "link":
                path.symlink_to("x")
            with pytest.raises(WriteError, match=r"could not write .*: Permission denied, it is .*Make it writable"):
                files.write_bytes(path, b"new")
            assert (folder / "x").read_bytes() == b"old"


def test_a_path_that_cannot_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    for path in (tmp_path / "file" / "x", tmp_path, Path(".")):
        with pytest.raises(WriteError, match="could not write"):
            files.write_bytes(path, b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_interrupted_write_keeps_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "x"
    files.write_bytes(path, b"old")
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


# JSON lines


def test_log_rows_come_back_and_an_unfinished_one_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "log.jsonl"
    assert files.read_jsonl(path) == []
    rows: list[dict[str, Any]] = [{"i": 0}, {"i": 1, "text": "a\u2028b\x85c\n"}, {"i": 2}]
    files.append_jsonl(path, rows[:2])
    files.append_jsonl(path, rows[2:])
    assert files.read_jsonl(path) == rows
    whole = path.read_bytes()
    for cut in range(whole.index(b"\n") + 1, len(whole)):  # also in the middle of a letter
        path.write_bytes(whole[:cut])
        found = files.read_jsonl(path)
        assert found == rows[: len(found)]
        assert len(found) >= whole[:cut].count(b"\n")


def test_log_on_a_full_disk_keeps_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    files.append_jsonl(path, [{"i": 0}])
    with disk_of(1000), pytest.raises(WriteError, match=r"log.jsonl: File too large.*before is intact"):
        files.append_jsonl(path, [{"i": i} for i in range(1, 1000)])
    files.append_jsonl(path, [{"i": 1}])
    assert path.read_text().count("\n") == 2
    assert files.read_jsonl(path) == [{"i": 0}, {"i": 1}]


# Tensors


def test_tensors_round_trip(tmp_path: Path) -> None:
    base = torch.arange(6, dtype=torch.float32).view(2, 3)
    tensors = {
        "a": base,
        "same": base,  # shares its memory
        "turned": base.T,
        "int": torch.tensor([-1, 2**40]),
        "half": base.half(),
        "scalar": torch.tensor(7),
        "none": torch.empty(0, 4),
        "grad": base.clone().requires_grad_(),
    }
    path = tmp_path / "x.safetensors"
    files.save_tensors(path, tensors, {"b": [1, 2.5], "a": None})
    back, meta = files.load_tensors(path)
    assert meta == files.read_meta(path) == {"a": None, "b": [1, 2.5]}
    assert back.keys() == tensors.keys()
    for name, value in tensors.items():
        assert back[name].dtype == value.dtype
        assert torch.equal(back[name], value.detach()), name


def test_equal_content_is_equal_bytes(tmp_path: Path) -> None:
    a, b = torch.rand(3), torch.rand(2, 2)
    files.save_tensors(tmp_path / "1", {"a": a, "b": b}, {"x": 1, "y": {"p": 1, "q": 2}})
    files.save_tensors(tmp_path / "2", {"b": b.T.contiguous().T, "a": a.clone()}, {"y": {"q": 2, "p": 1}, "x": 1})
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_bytes_are_those_of_safetensors(tmp_path: Path) -> None:
    """The header is ours: its order, blanks and escapes are the format's own."""
    types = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.float16, torch.bfloat16)
    types += (torch.int32, torch.float32, torch.float64, torch.int64)  # type: ignore[assignment]
    path = tmp_path / "x.safetensors"
    for extra in range(9):  # as many letters more fill the header up to 8
        held = {f"é{'x' * extra}{i}": torch.ones(i, 3).to(dtype) for i, dtype in enumerate(types)}
        held |= {"one": torch.tensor(3.5), "Z": torch.arange(5), "a/b": torch.arange(4.0)[::2]}
        files.save_tensors(path, held, {"θ": ['"', "\\", "\n\t\b\f\r\x01\x7f\u2028", "😀"]})
        told = json.loads(path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")])["__metadata__"]
        theirs = pack_foreign({name: t.contiguous() for name, t in held.items()}, metadata=told)
        assert path.read_bytes() == theirs


def test_saving_copies_nothing_and_loading_once(tmp_path: Path, peak_of: Callable[[Callable[[], object]], int]) -> None:
    path, held = tmp_path / "x", {"a": torch.rand(500, 500), "b": torch.zeros(250_000, dtype=torch.uint8)}
    assert peak_of(lambda: files.save_tensors(path, held, {})) < 100_000
    assert 1_250_000 <= peak_of(lambda: files.load_tensors(path)) < 1_350_000


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "not a whole safetensors file"),
        (b"\x80\x02}q\x00.", "not a whole safetensors file"),
        (pickle.dumps({"a": list(range(100))}), "not a whole safetensors file"),
        (pack_foreign({"a": torch.zeros(3)}), "was not written by this library: its metadata has no key `dd`"),
        (pack_foreign({"a": torch.zeros(3)}, metadata={"format": "pt"}), "not written by this library"),
        (pack_foreign({"a": torch.zeros(3)}, metadata={"dd": "{"}), "unreadable metadata"),
        (pack_foreign({"a": torch.zeros(3)}, metadata={"dd": "[1]"}), "metadata without a checksum"),
    ],
)
def test_foreign_files_are_named(tmp_path: Path, data: bytes, text: str) -> None:
    path = tmp_path / "their.safetensors"
    path.write_bytes(data)
    for read in (files.read_meta, files.load_tensors):
        with pytest.raises(DamagedError, match=rf"their\.safetensors .*{text}|their\.safetensors {text}"):
            read(path)


def test_truncated_or_longer_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    files.save_tensors(path, {"a": torch.rand(50)}, {})
    whole = path.read_bytes()
    for data in (whole[:-1], whole[:100], whole[:20], whole[:4], whole + b"\0"):
        path.write_bytes(data)
        with pytest.raises(DamagedError, match=r"x\.safetensors is not a whole safetensors file.*truncated or foreign"):
            files.load_tensors(path)
    with pytest.raises(MissingError, match="no file"):
        files.load_tensors(tmp_path / "y")
    with pytest.raises(DamagedError, match="it is a folder, not a file"):
        files.load_tensors(tmp_path)


def test_rows_are_read_without_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.safetensors"
    theta = torch.rand(6, 5)
    files.save_tensors(path, {"theta": theta}, {})
    asked: list[slice] = []
    real_open = reading.safe_open

    class Slice:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __getitem__(self, rows: slice) -> torch.Tensor:
            asked.append(rows)
            return self.inner[rows]

    class Handle:  # has no `get_tensor`: reading the whole tensor would fail
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def get_slice(self, name: str) -> Slice:
            return Slice(self.inner.get_slice(name))

    @contextlib.contextmanager
    def counting(*args: Any, **options: Any) -> Iterator[Handle]:
        with real_open(*args, **options) as handle:
            yield Handle(handle)

    monkeypatch.setattr(reading, "safe_open", counting)
    first, second = files.read_rows(path, "theta", (4, 1))
    assert torch.equal(first, theta[4])
    assert torch.equal(second, theta[1])
    assert asked == [slice(4, 5), slice(1, 2)]
    with pytest.raises(DamagedError, match=r"x\.safetensors.*does not contain tensor other"):
        files.read_rows(path, "other", (0,))


def test_metadata_is_one_key_of_sorted_json(tmp_path: Path) -> None:
    files.save_tensors(tmp_path / "x", {"a": torch.zeros(2)}, {"z": 1, "a": 2})
    data = (tmp_path / "x").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    data, kinds = hashlib.sha256(bytes(8)).hexdigest(), '"tensors": {"a": ["F32", [2]]}'
    covered = f'{{"data": "{data}", "meta": {{"a": 2, "z": 1}}, {kinds}}}'
    seal = hashlib.sha256(covered.encode()).hexdigest()
    assert header["__metadata__"] == {"dd": covered.replace(kinds, f'"sha256": "{seal}"')}


def test_reported_size_is_that_of_the_file_whatever_the_order_of_types(tmp_path: Path) -> None:
    """The digits of the offsets in the header depend on the order of tensors, which is by type, then by name."""
    few = (torch.uint8, torch.int16, torch.int32, torch.float32, torch.float64, torch.int64)
    every = (torch.bool, torch.int8, torch.float16, torch.bfloat16, *few)
    for order in (*itertools.permutations(few), every, every[::-1]):
        held = {f"n{i}": torch.zeros(7 + 100 * i, dtype=dtype) for i, dtype in enumerate(order)}
        shapes = {name: (t.dtype, list(t.shape)) for name, t in held.items()}
        files.save_tensors(tmp_path / "x", held, {"a": 1})
        assert files.packed_size(shapes, {"a": 1}) == (tmp_path / "x").stat().st_size
