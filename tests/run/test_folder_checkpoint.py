"""Checkpoints of images that are finished one by one: each is written once, whenever the process ends."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import dd
from dd.base import raster
from dd.errors import DamagedError
from dd.methods.decoupled.infer import Infer
from dd.methods.decoupled.recover import Recover
from dd.run import folder
from dd.teachers import Teacher
from dd.transforms.whiten import Normalise

PIXELS = torch.randint(0, 80, (60, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
LABELS = torch.arange(60) % 3
for k in range(3):
    PIXELS[LABELS == k, k] += 150  # class k is bright in channel k
REAL = dd.load_images(dd.Images(train=(PIXELS, LABELS)))
NET = nn.Sequential(nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
TEACHER = Teacher("channels", NET, Normalise(mean=(0.5,) * 3, std=(0.01,) * 3))
METHOD = Recover(ipc=4, committee=(TEACHER,), labels="hard", iterations=1, crop=False, jitter=0)
INFER = Infer(ipc=4, committee=(TEACHER,), labels="hard", compensators=1, iterations=1, train=dd.TrainRecipe(steps=2))
FILES = ("synthetic.safetensors", "log.jsonl", "preview.png")


def run(out: Path, method: Any = METHOD, **options: Any) -> Any:
    return dd.distill(
        REAL, method, out=out, store=out.parent / "store", **{"progress": False, "device": "cpu"} | options
    )


def content(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in FILES if (out / name).exists()}


class Killed(BaseException):
    """The end of the process: nothing that it would still do reaches the disk."""


@contextmanager
def killed_after(count: int, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let so many files be replaced, and finished ones removed, and no more."""
    done = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *rest: Any, **options: Any) -> Any:
            nonlocal done
            if os.fspath(path).endswith((".part", ".lock")) and real is not os_replace:
                return real(path, *rest, **options)
            if done == count:
                raise Killed
            done += 1
            return real(path, *rest, **options)

        return call

    os_replace = os.replace
    with patch.context() as inner:
        for name in ("replace", "unlink", "rmdir"):
            inner.setattr(os, name, counted(getattr(os, name)))
        yield


@pytest.mark.parametrize("method", [METHOD, INFER], ids=["recover", "infer"])
def test_an_end_between_any_two_writes_costs_nothing(
    method: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "whole", method)
    whole, kept = content(tmp_path / "whole"), {path.name for path in (tmp_path / "whole").iterdir()}
    ends = 0
    while True:
        out = tmp_path / str(ends)
        try:
            with killed_after(ends, monkeypatch):
                run(out, method)
            break
        except Killed:
            run(out, method)
            assert content(out) == whole, ends
            run(out, method)  # what an end after the last write left is removed now
            assert {path.name for path in out.iterdir() if not path.name.endswith(".part")} == kept, ends
            ends += 1
    assert ends > 12  # parts, checkpoints, previews, the set, what is removed


def test_what_is_finished_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    save = folder.save_tensors

    def saved(path: Path, tensors: Any, about: Any) -> None:
        written.extend(tensors)
        assert all(t.dtype == torch.uint8 for name, t in tensors.items() if name.startswith("done/"))
        save(path, tensors, about)

    monkeypatch.setattr(folder, "save_tensors", saved)
    run(tmp_path / "out", dataclasses.replace(METHOD, ipc=6))
    assert [name for name in written if name.startswith("done/")] == [f"done/{i}" for i in range(5)]  # not the last
    assert not (tmp_path / "out" / "checkpoint").exists()


def stopped(out: Path) -> Path:
    """A run that was stopped when it had three images."""

    def stop(done: int, total: int, text: str) -> None:
        if not text and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(out, progress=stop)
    assert len(list((out / "checkpoint").iterdir())) == 2
    return out


def test_parts_of_another_run_and_of_none_are_removed(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    out = stopped(tmp_path / "cut")
    (out / "checkpoint" / "00009-0123456789abcdef.safetensors").write_bytes(b"of a checkpoint that was never written")
    (out / "checkpoint" / "notes.txt").write_bytes(b"mine")
    run(out, resume=False)
    assert content(out) == content(tmp_path / "whole")
    assert [path.name for path in (out / "checkpoint").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("damage", [Path.unlink, lambda part: part.write_bytes(part.read_bytes()[:-1])])
def test_a_part_that_is_damaged_or_missing_is_named_with_the_way_out(
    damage: Callable[[Path], object], tmp_path: Path
) -> None:
    run(tmp_path / "whole")
    out = stopped(tmp_path / "cut")
    part = sorted((out / "checkpoint").iterdir())[0]
    damage(part)
    with pytest.raises(DamagedError, match=rf"{part.name}, a part of the checkpoint, is damaged or missing. R"):
        run(out)
    (out / "checkpoint.safetensors").unlink()  # the way out
    run(out)
    assert content(out) == content(tmp_path / "whole")


def test_pictures_are_drawn_where_there_is_more_to_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    draw = raster.preview_png
    monkeypatch.setattr(raster, "preview_png", lambda x, classes: drawn.append(x.shape[1]) or draw(x, classes))
    run(tmp_path / "out", dataclasses.replace(METHOD, ipc=9))
    assert drawn == [1, 2, 4, 8, 9]
    small = dd.load(tmp_path / "out")
    pixels = (small.pixels() * 255).round() / 255
    assert (tmp_path / "out" / "preview.png").read_bytes() == draw(pixels.view(3, 9, 3, 8, 8), REAL.classes)
