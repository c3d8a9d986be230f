"""`dd.load` names what reads the files of others."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from reference.synthetic import small

import dd
from dd.transforms.whiten import Normalise


def files(folder: Path) -> dict[str, Path]:
    torch.save([small().images, small().labels], folder / "a.pt")
    torch.save(small().images, folder / "old.pt", _use_new_zipfile_serialization=False)
    np.save(folder / "a.npy", np.zeros(3))
    np.savez(folder / "a.npz", x=np.zeros(3))
    (folder / "a.pkl").write_bytes(pickle.dumps([1]))
    safetensors.torch.save_file({"syn": small().images, "cls": small().labels}, folder / "a.safetensors")
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.pt", r"a file of `torch\.save`\. `dd\.import_pt\('.*a\.pt', mean=…, std=…\)` reads it"),
        ("old.pt", r"a pickle, as early versions of `torch\.save` wrote it\. `dd\.import_pt"),
        ("a.pkl", r"a pickle, as early versions"),
        ("a.npy", r"an array of NumPy\. `dd\.import_numpy\("),
        ("a.npz", r"an archive of NumPy arrays\. `dd\.import_numpy\("),
        ("a.safetensors", r"a safetensors file of others\. These two lines"),
    ],
)
def test_files_of_others(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(dd.DamagedError, match=rf"{re.escape(name)} is no set of this library but {message}"):
        dd.load(files(tmp_path)[name])


def test_the_two_lines_for_safetensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(dd.DamagedError) as caught:
        dd.load(files(tmp_path)["a.safetensors"])
    lines = re.findall(r"`((?:t = |torch\.save)[^`]*)`", str(caught.value))
    exec("\n".join(lines).replace("[I]", "['syn']").replace("[L]", "['cls']"), globals())
    made = dd.import_pt("set.pt", mean=(0.5, 0.5), std=(1.0, 1.0), lr=0.1)
    assert torch.equal(made.images, small().images)


def test_a_damaged_set_of_ours_is_not_called_foreign(tmp_path: Path) -> None:
    path = small().save(tmp_path / "a.safetensors")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(dd.DamagedError, match="do not match their checksum"):
        dd.load(path)
    path.write_bytes(bytes(9))
    with pytest.raises(dd.DamagedError, match="not a whole safetensors file"):
        dd.load(path)


def test_folders_of_pictures(tmp_path: Path) -> None:
    grey = small(images=small().images[:, :1].contiguous(), transform=Normalise((0.5,), (1.0,)))
    folder = dd.to_imagefolder(grey, tmp_path / "theirs")
    with pytest.raises(dd.MissingError, match=r"no set .* `dd\.import_folder\('.*theirs/train'\)` reads the pictures"):
        dd.load(folder)
    with pytest.raises(dd.MissingError, match=r"`dd\.import_folder\('.*theirs/train'\)`"):
        dd.load(folder / "train")
    (folder / "train" / "set.json").unlink()
    with pytest.raises(dd.MissingError, match=r"`dd\.import_folder\('.*theirs/train', mean=…, std=…\)`"):
        dd.load(folder)
    with pytest.raises(dd.MissingError, match=r"no set of this library in .* Name its file; or put it there"):
        dd.load(tmp_path)


def test_a_folder_of_runs_names_them(tmp_path: Path) -> None:
    small = dd.distill("digits", "random", ipc=1, progress=False)
    for seed in (0, 1):
        (tmp_path / f"seed{seed}").mkdir()
        small.save(tmp_path / f"seed{seed}" / "synthetic.safetensors")
    told = rf"It holds the runs seed0, seed1: give one of them, such as {tmp_path / 'seed0'}\.$"
    with pytest.raises(dd.MissingError, match=rf"no set of this library in {tmp_path}\. {told}"):
        dd.evaluate(tmp_path, "digits")
    with pytest.raises(dd.MissingError, match=rf"no report.json in {tmp_path}\. {told}"):
        dd.report(tmp_path)
