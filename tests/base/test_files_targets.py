"""What a write may replace: regular files, also behind links, and never a FIFO, a socket, a device or a folder."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.evaluation import data, small

import dd
from dd.base import files, locks
from dd.base.files import digest
from dd.base.seeding import child
from dd.errors import WriteError
from dd.exchange.export import to_imagefolder, to_tensorboard
from dd.synthetic.figures import save_grid
from dd.synthetic.labels import LabelRecord, LabelStore
from dd.transforms.views import draw_mix, draw_views


def lock(path: Path) -> None:
    with locks.locked(path):
        pass


def labelled() -> dd.SyntheticImages:
    """A set whose soft labels go into a folder beside its file."""
    base = small(4)
    pictures = base.pictures()
    views, mix = draw_views(4, (8, 8), child(0, "views")), draw_mix("none", 4, (8, 8), child(0, "mix"))
    record = LabelRecord(torch.arange(4), views, mix, torch.zeros(4, 3).half())
    return dataclasses.replace(base, images=pictures.float() / 255, store=LabelStore((record,), digest(pictures)))


WRITERS: dict[str, Callable[[Path], object]] = {
    "bytes": lambda path: files.write_bytes(path, b"new"),
    "rows": lambda path: files.append_jsonl(path, [{"i": 1}]),
    "lock": lock,
    "set": lambda path: small(3).save(path),
    "labels": lambda path: labelled().save(path),
    "grid": lambda path: save_grid(small(3), path),
}
"""The three of `dd.base.files`, and what users call: all others end in one of the three."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


@contextlib.contextmanager
def special(kind: str, path: Path) -> Iterator[Path]:
    """Something at `path` that is no regular file; a device only by its own name."""
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path = Path(os.devnull)
    with socket.socket(socket.AF_UNIX) as server:
        if kind == "socket":
            with contextlib.chdir(path.parent):  # addresses are short
                server.bind(path.name)
        yield path


@pytest.mark.parametrize("kind", ["FIFO", "folder", "device", "socket"])
@pytest.mark.parametrize("writer", WRITERS)
def test_what_is_no_regular_file_is_refused_and_stays(tmp_path: Path, writer: str, kind: str) -> None:
    with special(kind, tmp_path / "out") as path:
        (tmp_path / "link").symlink_to(path)
        before, mode = names(tmp_path), path.stat().st_mode
        with pytest.raises(WriteError, match=rf"could not write .*{path.name}: it is a {kind} .*Name another file"):
            WRITERS[writer](path)
        text = rf"could not write .*link: it is a link to .*{path.name}, which is a {kind} and not a regular file"
        with pytest.raises(WriteError, match=text):
            WRITERS[writer](tmp_path / "link")
        assert path.stat().st_mode == mode
        assert names(tmp_path) == before  # no part of a file, no labels beside it


@pytest.mark.parametrize("writer", WRITERS)
def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path, writer: str) -> None:
    plain = tmp_path / "plain"
    WRITERS[writer](plain)
    for folder in ("links", "disk"):
        (tmp_path / folder).mkdir()
    target, first, second = tmp_path / "disk" / "target", tmp_path / "links" / "first", tmp_path / "links" / "second"
    target.write_bytes(b"")
    first.symlink_to(Path("..") / "disk" / "target")
    second.symlink_to(first)
    for link in (first, second):
        target.write_bytes(b"")
        WRITERS[writer](link)
        assert first.is_symlink()
        assert second.is_symlink()
        assert target.read_bytes() == plain.read_bytes()
        kept = {p.name for p in (tmp_path / "disk").iterdir()} - {"target.labels"}
        assert kept == {"target"}  # the temporary file stood beside it, and is gone


@pytest.mark.parametrize("writer", WRITERS)
def test_links_that_lead_nowhere(tmp_path: Path, writer: str) -> None:
    dangling, away, loop = tmp_path / "dangling", tmp_path / "away", tmp_path / "loop"
    dangling.symlink_to("made")
    away.symlink_to("disk/made")
    loop.symlink_to("again")
    (tmp_path / "again").symlink_to("loop")
    WRITERS[writer](dangling)
    assert dangling.is_symlink()
    assert (tmp_path / "made").is_file()
    with pytest.raises(WriteError, match=r"could not write .*away: No such file or directory"):
        WRITERS[writer](away)
    with pytest.raises(WriteError, match=r"could not write .*loop: Too many levels of symbolic links"):
        WRITERS[writer](loop)
    assert not (tmp_path / "disk").exists()
    assert away.is_symlink()
    assert loop.is_symlink()


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o640])
def test_a_replaced_file_keeps_its_mode_but_no_hard_links(tmp_path: Path, mode: int) -> None:
    path, link, other = tmp_path / "x", tmp_path / "link", tmp_path / "other"
    path.write_bytes(b"old")
    path.chmod(mode)
    link.symlink_to(path)
    other.hardlink_to(path)
    for place in (path, link):
        files.write_bytes(place, b"new")
        assert path.read_bytes() == b"new"
        assert path.stat().st_mode & 0o7777 == mode
    assert other.read_bytes() == b"old"  # a rename makes another file; `append_jsonl` alone writes into the old one


def test_a_name_may_have_255_bytes(tmp_path: Path) -> None:
    for name in ("x" * 255, "θ" * 127):
        files.write_bytes(tmp_path / name, b"new")
        assert (tmp_path / name).read_bytes() == b"new"


@pytest.mark.parametrize(
    ("name", "text"), [("x" * 300, "too long. Give it a shorter name"), ("a\0b", "null byte. Give")]
)
def test_names_that_no_file_has_are_refused(tmp_path: Path, name: str, text: str) -> None:
    for call in (
        lambda: files.write_bytes(tmp_path / name, b"new"),
        lambda: files.append_jsonl(tmp_path / name, [{}]),
        lambda: files.check_writable(tmp_path / name),
    ):
        with pytest.raises(WriteError, match=text):
            call()
    assert list(tmp_path.iterdir()) == []


def test_a_replaced_file_is_not_run_as_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "a"
    files.write_bytes(path, b"old")
    path.chmod(0o4755)
    files.write_bytes(path, b"new")
    assert path.stat().st_mode & 0o7777 == 0o755


def test_remove_empties_the_place_that_a_link_names(tmp_path: Path) -> None:
    files.remove(tmp_path / "none")
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    for _ in range(2):  # the second time it dangles
        files.remove(link)
        assert link.is_symlink()
        assert not target.exists()
    with pytest.raises(WriteError, match="is a folder"):
        files.remove(tmp_path)


def test_a_run_folder_of_links_stays_one(tmp_path: Path) -> None:
    """Log and checkpoint on another disk stay there, over a fresh start and the removal of the checkpoint."""
    run, disk = tmp_path / "run", tmp_path / "disk"
    run.mkdir()
    disk.mkdir()
    linked = ("log.jsonl", "checkpoint.safetensors", "synthetic.safetensors", "run.json")
    for name in linked:
        (run / name).symlink_to(disk / name)

    def distilled(seed: int, **how: Any) -> bytes:
        dd.distill(data(), "random", ipc=1, out=run, seed=seed, **how)
        return (run / "synthetic.safetensors").read_bytes()

    made = {distilled(0), distilled(1, resume=False)}
    assert len(made) == 2
    files.write_bytes(run / "checkpoint.safetensors", b"left by a run that was stopped")
    made.add(distilled(2, resume=False))
    assert len(made) == 3
    assert all((run / name).is_symlink() for name in linked)
    assert sorted(path.name for path in disk.iterdir()) == ["log.jsonl", "run.json", "synthetic.safetensors"]


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"old")
    files.append_jsonl(tmp_path / "run" / "log.jsonl", [{"iteration": 1, "loss": 0.5}])

    class SummaryWriter:
        def __init__(self, folder: str) -> None:
            os.makedirs(folder)

    fake = types.ModuleType("torch.utils.tensorboard")
    fake.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    for write in (
        lambda path: to_imagefolder(small(3), path),
        lambda path: small(3).plot(path),
        lambda path: to_tensorboard(tmp_path / "run", path),
    ):
        with pytest.raises(WriteError, match=r"could not write .*file"):
            write(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"old"
