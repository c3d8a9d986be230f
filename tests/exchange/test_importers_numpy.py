"""NumPy's files as sets: archives by name, pairs of files; objects, bombs and lies of headers are refused."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dd
from dd.base import bounds
from dd.exchange.arrays import read_numpy

STATISTICS: dict[str, Any] = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.25), "lr": 0.01}
LABELS = np.array([0, 0, 1, 1, 2, 2])


def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(6, 3, 8, 5)).astype("float32")


@pytest.mark.parametrize("names", [("x", "y"), ("images", "labels"), ("data", "targets"), ()])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archives(names: tuple[str, ...], save: Any, tmp_path: Path) -> None:
    save(tmp_path / "a.npz", *(() if names else (noise(), LABELS)), **dict(zip(names, (noise(), LABELS), strict=False)))
    small = dd.import_numpy(tmp_path / "a.npz", **STATISTICS)
    assert np.array_equal(small.images.numpy(), noise())
    assert small.labels.tolist() == LABELS.tolist()
    assert list(small.provenance["imported"]) == ["a.npz"]


def test_pairs_of_files_and_axes(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", noise().transpose(0, 2, 3, 1).astype(">f8"))
    np.save(tmp_path / "y.npy", LABELS.astype("uint8"))
    small = dd.import_numpy(tmp_path / "x.npy", tmp_path / "y.npy", **STATISTICS)
    assert np.array_equal(small.images.numpy(), noise())
    assert small.labels.tolist() == LABELS.tolist()
    soft = np.full((6, 4), 0.25)
    np.save(tmp_path / "y.npy", soft)
    assert dd.import_numpy(tmp_path / "x.npy", tmp_path / "y.npy", **STATISTICS).labels.shape == (6, 4)
    np.save(tmp_path / "x.npy", np.zeros((6, 7, 9)))
    grey = dd.import_numpy(tmp_path / "x.npy", mean=(0.5,), std=(1.0,), ipc=2, lr=0.01)
    assert grey.images.shape == (6, 1, 7, 9)


def test_an_axis_that_nobody_can_tell_is_told(tmp_path: Path) -> None:
    square = noise()[..., :3]
    np.savez(tmp_path / "a.npz", x=square, y=LABELS)
    with pytest.raises(dd.InputError, match=r'both could be the channels.*dd\.import_numpy\(…, layout="NCHW"\)'):
        dd.import_numpy(tmp_path / "a.npz", **STATISTICS)
    made = dd.import_numpy(tmp_path / "a.npz", **STATISTICS, layout="NHWC")
    assert torch.equal(made.images, torch.from_numpy(square).movedim(-1, 1))
    with pytest.raises(dd.InputError, match="`layout` must be 'NCHW'"):
        dd.import_numpy(tmp_path / "a.npz", **STATISTICS, layout="CHW")


def test_bytes_are_pixels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 5), dtype="uint8")
    np.savez(tmp_path / "a.npz", x=pixels, y=LABELS)
    assert np.array_equal(dd.import_numpy(tmp_path / "a.npz", **STATISTICS).pictures().numpy(), pixels)


def test_two_lines_make_an_archive_of_what_has_other_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", x_syn=noise(), y_syn=LABELS)
    with pytest.raises(dd.InputError, match=r"got one with 'x_syn', 'y_syn' in a\.npz\. These two lines") as caught:
        dd.import_numpy("a.npz", **STATISTICS)
    lines = re.findall(r"`((?:t = |numpy\.savez)[^`]*)`", str(caught.value))
    exec("\n".join(lines).replace("[I]", "['x_syn']").replace("[L]", "['y_syn']"), {"numpy": np})
    assert np.array_equal(dd.import_numpy("set.npz", **STATISTICS).images.numpy(), noise())


def test_what_is_no_array_in_an_archive_is_passed_over(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=noise(), y=LABELS)
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("readme.txt", b"of theirs")
    assert len(dd.import_numpy(tmp_path / "a.npz", **STATISTICS)) == 6
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("readme.txt", b"of theirs")
    with pytest.raises(dd.InputError, match="got one with nothing in"):
        dd.import_numpy(tmp_path / "b.npz", **STATISTICS)


def test_a_label_beyond_any_number_of_classes_is_refused_at_once(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=noise(), y=LABELS + 10**15)
    with pytest.raises(dd.InputError, match=r"`classes` must be at most 1,000,000"):
        dd.import_numpy(tmp_path / "a.npz", **STATISTICS)


def test_each_verb_names_the_other(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", noise())
    torch.save(torch.zeros(6, 3, 8, 5), tmp_path / "x.pt")
    with pytest.raises(dd.InputError, match=r"`images_path` must be a file for `dd.import_pt`; got an array of NumPy"):
        dd.import_pt(tmp_path / "x.npy", **STATISTICS)
    with pytest.raises(dd.InputError, match=r"`labels_path` .* got a file of `torch.save`, .*`dd.import_pt\('.*x\.pt'"):
        dd.import_numpy(tmp_path / "x.npy", tmp_path / "x.pt", **STATISTICS)


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def bad_files(folder: Path) -> dict[str, bytes]:
    objects = np.empty(1, object)
    objects[0] = Evil(folder / "evil")
    np.save(folder / "o.npy", objects)
    np.savez(folder / "o.npz", x=objects, y=LABELS)
    np.save(folder / "x.npy", noise())
    whole = (folder / "x.npy").read_bytes()
    return {
        "objects.npy": (folder / "o.npy").read_bytes(),
        "objects.npz": (folder / "o.npz").read_bytes(),
        "cut.npy": whole[:-9],
        "cut header.npy": whole[:20],
        "huge shape.npy": header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**15},), }}\n"),
        "negative.npy": header("{'descr': '<f4', 'fortran_order': False, 'shape': (-4,), }\n"),
        "deep.npy": header("(" * 60_000),
        "texts.npy": header("{'descr': '<U3', 'fortran_order': False, 'shape': (1,), }\n") + bytes(12),
        "complex.npy": header("{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }\n") + bytes(8),
        "empty": b"",
        "other": b"PK\x03\x04 and no archive",
    }


@pytest.mark.parametrize(
    "name",
    [
        "objects.npy",
        "objects.npz",
        "cut.npy",
        "cut header.npy",
        "huge shape.npy",
        "negative.npy",
        "deep.npy",
        "texts.npy",
        "complex.npy",
        "empty",
        "other",
    ],
)
def test_only_whole_arrays_of_numbers_are_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(bad_files(tmp_path)[name])
    with pytest.raises(dd.DamagedError, match="must hold arrays of numbers"):
        read_numpy(tmp_path / name)
    assert not (tmp_path / "evil").exists()


def test_an_entry_that_says_more_than_it_has(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**9}, 9), }}\n"))
    with pytest.raises(dd.DamagedError, match="must hold arrays of numbers"):
        read_numpy(tmp_path / "a.npz")


def test_an_archive_that_expands_is_refused_before_it_is_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((20_000, 3, 32, 32), "float32"))
    with pytest.raises(dd.DamagedError, match=r"says to hold 245,\d+,\d+ bytes in \d+,\d+, which are no pictures"):
        read_numpy(tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["a.npz", "x.npy"])
def test_a_file_larger_than_the_memory_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "a.npz", x=noise())
    np.save(tmp_path / "x.npy", noise())
    monkeypatch.setattr(bounds, "machine_bytes", lambda: 1000)
    with pytest.raises(dd.InputError, match=rf"what .*{name} holds would take .* Save fewer images"):
        read_numpy(tmp_path / name)
