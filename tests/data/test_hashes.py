"""The fingerprint of an image tree is the content of its files; what is known of unchanged files is kept."""

from __future__ import annotations

import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from reference.folders import folder, paint, tree

from dd.data.images import hashes
from dd.data.images.hashes import file_hashes
from dd.errors import DamagedError


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DD_HOME", str(tmp_path / "home"))
    return tmp_path / "home/datasets/hashes"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths that are read and hashed."""
    paths: list[str] = []
    real = hashes._hash

    def spy(path: str) -> Any:
        paths.append(path)
        return real(path)

    monkeypatch.setattr(hashes, "_hash", spy)
    return paths


def twin(base: Path, names: list[str]) -> list[str]:
    return [hashlib.sha256((base / name).read_bytes()).hexdigest()[:32] for name in names]


def files(base: Path, n: int = 5) -> list[str]:
    for i in range(n):
        (base / f"{i % 2}").mkdir(parents=True, exist_ok=True)
        (base / f"{i % 2}/{i}").write_bytes(bytes([i]) * (70 * i))
    return [f"{i % 2}/{i}" for i in range(n)]


def replace_in_place(path: Path) -> None:
    """Other bytes, as many, in the same file, with its old time of modification; the clock has ticked since."""
    stat, other = path.stat(), bytes(255 - b for b in path.read_bytes())
    while path.stat().st_ctime_ns == stat.st_ctime_ns:
        path.write_bytes(other)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


# --- the fingerprint


def test_other_pixels_of_as_many_bytes_are_other_data(tmp_path: Path) -> None:
    base = tree(tmp_path, {"train": 4, "test": 1}, ("cat", "dog"))
    for path in base.rglob("*.png"):
        paint(path.with_suffix(".bmp"), seed=int(path.stem))
        path.unlink()
    before = folder(base)
    size = (base / "train/cat/0.bmp").stat().st_size
    paint(base / "train/cat/0.bmp", seed=99)
    assert (base / "train/cat/0.bmp").stat().st_size == size
    after = folder(base)
    assert before.all_train().fingerprint != after.all_train().fingerprint
    assert before.test is not None
    assert after.test is not None
    assert before.test.fingerprint == after.test.fingerprint
    paint(base / "train/cat/0.bmp", seed=0)
    assert folder(base).fingerprint == before.fingerprint


def test_the_fingerprint_is_content_order_classes_and_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tree(tmp_path / "a", {"train": 4})
    first = folder(base).fingerprint
    moved = base.rename(tmp_path / "b")
    assert folder(moved).fingerprint == first
    shutil.copytree(moved, tmp_path / "c")
    assert folder(tmp_path / "c").fingerprint == first
    assert folder(moved, size=8).fingerprint == first
    assert folder(moved, size=4).fingerprint != folder(moved, size=4, aspect="squash").fingerprint
    (moved / "train/cat/0.png").rename(moved / "train/cat/00.png")  # the order stays
    assert folder(moved).fingerprint == first
    (moved / "train/cat/00.png").rename(moved / "train/cat/7.png")  # now the last
    assert folder(moved).fingerprint != first
    (tmp_path / "c/train/cat").rename(tmp_path / "c/train/cats")
    assert folder(tmp_path / "c").fingerprint != first
    (tmp_path / "c/train/cats").rename(tmp_path / "c/train/cat")
    assert folder(tmp_path / "c").fingerprint == first
    monkeypatch.setattr("dd.data.images.folders.RULE", "on black")
    assert folder(tmp_path / "c").fingerprint != first


# --- what is kept


def test_hashes_are_those_of_the_bytes_and_files_are_read_once(tmp_path: Path, store: Path, read: list[str]) -> None:
    base = tmp_path / "tree"
    names = [*files(base), "a\nb", os.fsdecode(b"\xff.png")]
    for name in names[-2:]:
        (base / name).write_bytes(name.encode("utf-8", "surrogateescape"))
    for threads in (0, 1, 3):
        assert file_hashes(base, names, threads) == twin(base, names)
        assert len(read) == len(names)
    link = tmp_path / "link"
    link.symlink_to(base)
    assert file_hashes(link, names[::-1]) == twin(base, names)[::-1]
    assert len(read) == len(names)
    assert len(list(store.iterdir())) == 1


def test_a_file_that_changed_is_read_again_alone(tmp_path: Path, store: Path, read: list[str]) -> None:
    base = tmp_path / "tree"
    names = files(base)
    file_hashes(base, names)
    changes = {
        "in place": lambda: replace_in_place(base / names[3]),
        "longer": lambda: (base / names[3]).write_bytes(b"longer" * 99),
        "touched": lambda: os.utime(base / names[3], ns=(5, 5)),
        "another inode": lambda: (
            shutil.copy2(base / names[3], base / "new"),
            os.replace(base / "new", base / names[3]),
        ),
    }
    for change in changes.values():
        read.clear()
        change()
        assert file_hashes(base, names) == twin(base, names)
        assert read == [str(base / names[3])]


def test_other_folders_of_a_tree_are_remembered_and_gone_ones_forgotten(
    tmp_path: Path, store: Path, read: list[str]
) -> None:
    base = tmp_path / "tree"
    names = files(base, 6)
    even, odd = names[::2], names[1::2]
    file_hashes(base, even)
    file_hashes(base, odd)
    file_hashes(base, even)
    assert len(read) == 6
    (kept,) = store.iterdir()
    assert hashes._load(kept)[0] == odd + even
    file_hashes(base, [*odd[1:], *files(base, 1)])  # a listed folder is as it was listed
    shutil.rmtree(base / "1")
    (base / "0/new").write_bytes(b"new")
    file_hashes(base, ["0/new"])
    assert hashes._load(kept)[0] == ["0/new"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign", "a folder", "empty"])
def test_a_damaged_cache_costs_time_and_nothing_else(tmp_path: Path, store: Path, read: list[str], damage: str) -> None:
    base = tmp_path / "tree"
    names = files(base)
    expected = file_hashes(base, names)
    (kept,) = store.iterdir()
    data = kept.read_bytes()
    if damage == "a folder":
        kept.unlink()
        kept.mkdir()
    else:
        flipped = data[:-1] + bytes([data[-1] ^ 1])
        kept.write_bytes({"cut": data[:-9], "flipped": flipped, "foreign": b"hello", "empty": b""}[damage])
    assert file_hashes(base, names) == expected
    assert len(read) == 10
    assert damage == "a folder" or kept.read_bytes() == data  # whole again


def test_a_store_that_cannot_be_written_costs_time_and_nothing_else(tmp_path: Path, store: Path) -> None:
    base = tmp_path / "tree"
    (tmp_path / "home").write_text("a file in its place")
    for _ in range(2):
        assert file_hashes(base, files(base)) == twin(base, files(base))


def test_writers_side_by_side_leave_a_whole_cache(tmp_path: Path, store: Path) -> None:
    base = tmp_path / "tree"
    names = files(base, 40)
    parts = [names[k::4] for k in range(4)] * 4
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda part: file_hashes(base, part), parts))
    assert found == [twin(base, part) for part in parts]
    (kept,) = store.iterdir()  # no temporary file either
    assert hashes._load(kept)[0]


def test_a_file_that_is_gone_is_named(tmp_path: Path, store: Path) -> None:
    base = tmp_path / "tree"
    names = files(base)
    (base / names[2]).unlink()
    with pytest.raises(DamagedError, match=r"^image .*tree/0/2 cannot be read \(.*No such file"):
        file_hashes(base, names)
