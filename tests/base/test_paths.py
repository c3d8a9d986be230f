"""What stands at a path is told as it is, at every verb: never an error of the system, never a false "no such file"."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from reference.evaluation import data, small

import dd
from dd.base import paths
from dd.cli.main import main
from dd.errors import DamagedError, DDError, InputError, MissingError
from dd.exchange.export import to_tensorboard
from dd.experts import load_recipe
from dd.synthetic import LabelStore

ODD: dict[str, tuple[type[DDError], str]] = {
    "absent": (MissingError, "no .*absent"),
    "file/inside": (MissingError, r"file is a file, not a folder|file/inside is not there|no .*file/inside"),
    "broken": (MissingError, "broken is a link to nowhere, which is not there"),
    "loop": (DamagedError, r"loop\S* cannot be read: its links go in a circle"),
    "fifo": (DamagedError, "it is a FIFO, not a file"),
    "n" * 300: (MissingError, "the name is too long"),
    "": (InputError, "must be the name of a file or folder; got ''"),
    "nul\0": (InputError, "must be the name of a file or folder"),
}


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one of each; the current one, so that names are as short as above."""
    monkeypatch.chdir(tmp_path)
    Path("file").write_bytes(b"x")
    Path("folder").mkdir()
    Path("broken").symlink_to("nowhere")
    Path("loop").symlink_to("loop")
    os.mkfifo("fifo")
    return tmp_path


READERS: dict[str, Callable[[str], Any]] = {
    "load": dd.load,
    "verify": dd.verify,
    "evaluate": lambda name: dd.evaluate(name, data()),
    "train": dd.train,
    "report": dd.report,
    "set": dd.SyntheticImages.load,
    "labels": LabelStore.load,
    "import_pt": dd.import_pt,
    "import_folder": lambda name: dd.import_folder(name, mean=(0.5,), std=(0.5,)),
    "recipe": lambda name: load_recipe(f"{name}.toml" if name else ".toml"),
    "imagefolder": lambda name: dd.load_images(f"imagefolder:{name}"),
    "smiles": lambda name: dd.data.load_graphs(f"smiles:{name}"),
    "tensorboard": to_tensorboard,
    "store": lambda name: dd.base.home.home("datasets", name),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ODD)
def test_every_reader_tells_what_is_there(odd: Path, reader: str, name: str) -> None:
    if reader == "store" and "\0" not in name and name:
        pytest.skip("a store need not be there")
    with pytest.raises(DDError) as caught:
        READERS[reader](name)
    assert "No such file" not in str(caught.value)
    assert "Errno" not in str(caught.value)


@pytest.mark.parametrize("name", ODD)
def test_the_true_reason_is_told(odd: Path, name: str) -> None:
    kind, text = ODD[name]
    for read in (dd.load, dd.verify, paths.read_bytes) if name and "\0" not in name else (dd.load, dd.verify):
        with pytest.raises(kind, match=text):
            read(Path(name) if read is paths.read_bytes else name)


def test_a_folder_for_a_file_and_a_file_for_a_folder(odd: Path) -> None:
    Path("recipe.toml").mkdir()
    for read, name in ((dd.SyntheticImages.load, "folder"), (load_recipe, "recipe.toml"), (dd.import_pt, "folder")):
        with pytest.raises(DamagedError, match="it is a folder, not a file"):
            read(name) if read is not dd.import_pt else dd.import_pt(name, mean=(0.5,), std=(0.5,), classes=2)
    with pytest.raises(MissingError, match="no run folder file: it is a file: a run folder holds"):
        dd.report("file")
    with pytest.raises(MissingError, match=r"no folder file: it is a file, not a folder\. Expected layout"):
        READERS["import_folder"]("file")
    with pytest.raises(MissingError, match=r"no folder file: it is a file, not a folder\. Expected layout"):
        READERS["imagefolder"]("file")
    with pytest.raises(DDError, match="file"):
        dd.distill(data(), "random", ipc=1, out="file")
    assert Path("file").read_bytes() == b"x"


def test_texts_that_are_none(odd: Path) -> None:
    Path("x.toml").write_bytes(b"a = \xff")
    with pytest.raises(DamagedError, match=r"x\.toml is not TOML \(.* invalid start byte"):
        load_recipe("x.toml")
    Path("x.toml").write_text("a = " + "[" * 100_000)
    with pytest.raises(DamagedError, match=r"x\.toml is not TOML \(nested too deep\)"):
        load_recipe("x.toml")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads what nobody may read")
def test_what_may_not_be_read(odd: Path) -> None:
    small(3).save("set.safetensors")
    Path("set.safetensors").chmod(0)
    with pytest.raises(DamagedError, match=r"set\.safetensors cannot be read \(Permission denied\)\. Make it readable"):
        dd.load("set.safetensors")
    Path("folder").chmod(0)
    with pytest.raises(DamagedError, match=r"folder/synthetic\.safetensors cannot be read"):
        dd.load("folder")
    Path("folder").chmod(0o700)


def test_what_the_system_refuses_is_told(odd: Path) -> None:
    """As root too: the system's errors by number."""
    for number, kind, text in (
        (13, DamagedError, r"file cannot be read \(Permission denied\)\. Make it readable, or name another one"),
        (5, DamagedError, r"file cannot be read \(Input/output error\)"),
        (40, DamagedError, "links go in a circle"),
    ):

        def fail(_: Path, number: int = number) -> bytes:
            raise OSError(number, os.strerror(number))

        with pytest.raises(kind, match=text):
            paths.reading(Path("file"), fail)


@pytest.mark.parametrize("value", [None, 3, b"x", ["x"]])
def test_what_is_no_path(value: Any) -> None:
    with pytest.raises(InputError, match="`path` must be"):
        dd.verify(value)


@pytest.mark.parametrize("name", ["absent", "broken", "loop", "fifo", "n" * 300, "file/inside"])
def test_the_command_line_says_it_in_one_line(odd: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["verify", name],
        ["evaluate", name, "digits"],
        ["report", name],
        ["buffer", "digits", f"{name}.toml"],
    ):
        assert main([*words, "--json"]) in (1, 2)
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"ddistill {words[0]}: ")
        assert err.count("\n") == 1
