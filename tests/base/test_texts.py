"""Names and texts of others: cleaned where they enter; nothing that steers a terminal or a page leaves."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from PIL import Image

import dd
from dd.base.files import dump_json, write_text
from dd.base.progress import Bars, announce, say
from dd.base.texts import NAME, NAMELESS, as_cell, both, clean_name, clean_names, count, printable, shown
from dd.cli.main import main
from dd.errors import InputError, refuse, unknown
from dd.evaluation.leaderboard import Benchmark
from dd.methods import METHODS

STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
WILD = (
    "red\x1b[31m",
    "two\nlines",
    "tab\tand\rreturn",
    "\udcff\udcfe",
    "evil\u202egnp.exe",
    "nul\x00",
    "",
    "   ",
    "x" * 10_000,
    "x" * 10_001,
    "<script>alert(1)</script>",
    "=cmd|' /C calc'!A0",
    "../../etc",
    "a|b",
)


@pytest.mark.parametrize("name", WILD, ids=range(len(WILD)))
def test_a_name_is_one_line_that_can_be_written(name: str) -> None:
    clean = clean_name(name)
    assert not STEERING.search(clean)
    assert "\n" not in clean
    assert 0 < len(clean) <= NAME
    assert clean.encode().decode() == clean
    assert clean_name(clean) == clean


def test_names_stay_different_and_good_ones_as_they_are() -> None:
    assert clean_names(["cat", "Hündin", "寿司", "👩\u200d🔬", "a b"]) == ("cat", "Hündin", "寿司", "👩\u200d🔬", "a b")
    assert clean_names(["a\n", "a\t", "a ", ""]) == ("a ", "a  (2)", "a  (3)", NAMELESS)
    assert len(set(clean_names(WILD))) == len(WILD)
    assert clean_names(clean_names(WILD)) == clean_names(WILD)


def test_what_steers_is_shown_as_an_escape() -> None:
    assert printable("a\x1b[2Jb\u202e\udc80\x9b\tc\n") == "a\\u001b[2Jb\\u202e\\udc80\\u009b\tc\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [(10**40, "about 10^40"), (-(10**30), "about -10^30"), (True, "True"), ("\x1b", "'\\x1b'"), ("y" * 400, "y…")],
)
def test_any_value_can_be_shown(value: object, text: str) -> None:
    assert text in shown(value)
    assert len(shown(value)) < 400


def test_a_value_that_cannot_be_shown_is_told_by_its_type() -> None:
    class Odd:
        def __repr__(self) -> str:
            raise OSError

    assert shown(Odd()) == "a Odd"


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+SUM(A1)", "'+SUM(A1)"),
        ("@x", "'@x"),
        ("-x", "'-x"),
        ("\tx", "'\tx"),
        ("\r=x", "'\\u000d=x"),
        ("-0.5", "-0.5"),
        ("+3e-4", "+3e-4"),
        (-0.5, -0.5),
        (None, None),
        ("mtt", "mtt"),
        ("a\x1b", "a\\u001b"),
    ],
)
def test_a_cell_of_csv_is_no_formula(value: object, cell: object) -> None:
    assert as_cell(value) == cell


def test_errors_and_lines_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for error in (refuse("x\x1b", "y\x1b", "z\x1b"), unknown("name", "a\x1b", ["b\x1b"]), InputError("\udcff\x9b")):
        assert not STEERING.search(str(error))
    say("a\x1b\udcff")
    announce("b\x1b")
    bar = Bars("c\x1b", True)
    bar(0, 2, "d\x1b")
    bar.close()
    told = capsys.readouterr()
    assert "a\\u001b\\udcff" in told.out
    assert "b\\u001b" in told.err
    assert "\x1b[31" not in told.err


def test_what_is_written_as_text_cannot_either(tmp_path: Path) -> None:
    write_text(tmp_path / "x.md", "a\x1b\u202e\udcff\n")
    assert (tmp_path / "x.md").read_bytes() == b"a\\u001b\\u202e\\udcff\n"
    value = {"a\x9b": "\u202e\x7f\udcff\u2028"}
    text = dump_json(value)
    assert not STEERING.search(text)
    assert json.loads(text) == value


def test_a_leaderboard_of_wild_names(tmp_path: Path) -> None:
    cell = {"set": "=1+1\x1b", "budget": 1, "model": "+x", "values": [0.5, 0.25], "metric": "accuracy", "steps": 3}
    board = Benchmark(dataset="@data\x1b", protocol="clean", unit="ipc", models=("+x",), cells=(cell,))
    board.save(tmp_path)
    for kind in ("txt", "csv", "json", "md"):
        assert not STEERING.search((tmp_path / f"leaderboard.{kind}").read_text(encoding="utf-8"))
    (row,) = csv.DictReader(io.StringIO((tmp_path / "leaderboard.csv").read_text(encoding="utf-8")))
    assert (row["set"], row["dataset"], row["model"]) == ("'=1+1\\u001b", "'@data\\u001b", "'+x")
    assert float(row["mean"]) == 0.375


class Wild:
    """A data set of one colour a class, whose names are wild."""

    def __init__(self, names: tuple[str, ...], each: int = 4) -> None:
        self.classes, self._each = list(names), each

    def __len__(self) -> int:
        return len(self.classes) * self._each

    def __getitem__(self, i: int) -> tuple[Any, int]:
        if i >= len(self):
            raise IndexError(i)
        generator = torch.Generator().manual_seed(i)
        return torch.rand(3, 8, 8, generator=generator), i % len(self.classes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Named:
    """A user's own method of a wild name."""

    kind: ClassVar[str] = "images"
    budget: ClassVar[str] = "ipc"
    ipc: int = 1
    name: str = "=m|<script>alert(2)</script>"

    def distill(self, real: Any, run: Any, state: Any = None) -> Any:
        yield from METHODS["random"](ipc=self.ipc).distill(real, run, state)

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "ipc": self.ipc}


def test_no_name_makes_a_run_fail_after_it_was_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = Wild(WILD)
    data = dd.Images(train=train, test=[(1 - train[i][0], i) for i in range(len(WILD))], name="a\x1b\udcff\n")
    small = dd.distill(data, "random", ipc=1, out=tmp_path / "run", progress=False)
    assert small.classes == clean_names(WILD)
    back = dd.load(tmp_path / "run")
    assert back.classes == small.classes
    report = dd.evaluate(back, data, models=["mlp"], repeats=1, steps=2, baselines=(), progress=False)
    page = dd.report(tmp_path / "run")
    board = dd.benchmark(
        data,
        [Named()],
        ipc=1,
        models=["mlp"],
        repeats=1,
        steps=2,
        baselines=(),
        out=tmp_path / "board",
        progress=False,
    )
    print(report, board, small, data, sep="\n")
    kinds = (".html", ".json", ".md", ".csv", ".txt")
    texts = {p: p.read_text(encoding="utf-8") for p in tmp_path.rglob("*") if p.suffix in kinds}
    assert {p.suffix for p in texts} == set(kinds)
    assert page is not None
    for text in (*texts.values(), capsys.readouterr().out):
        assert not STEERING.search(text)
    assert not [p for p, text in texts.items() if p.suffix in (".html", ".md") and "<script>alert" in text]
    small.plot(tmp_path / "set.svg")
    dd.to_imagefolder(small, tmp_path / "tree")


def test_folders_of_classes_may_have_any_name_that_the_system_takes(tmp_path: Path) -> None:
    names = ["red\x1b[31m", "two\nlines", "\udcff", "=x"]
    for split, side in (("train", 8), ("test", 8)):
        for k, name in enumerate(names):
            folder = tmp_path / "d\x1b" / split / name
            folder.mkdir(parents=True)
            for i in range(3):
                Image.new("RGB", (side, side), (20 * k, 10 * i, 30 * k + len(split))).save(folder / f"{i}\x1b.png")
    real = dd.load_images("imagefolder:" + str(tmp_path / "d\x1b"))
    assert sorted(real.classes) == sorted(clean_names(names))
    assert real.name == "d\\u001b"
    dd.distill(real, "random", ipc=1, progress=False).save(tmp_path / "x.safetensors")


def test_the_command_line_shows_no_escape_of_a_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path / "no\x1b[31m\udcff")]) == 1
    assert "no\\u001b[31m\\udcff" in capsys.readouterr().err


def test_a_method_of_a_wild_name_is_refused_before_it_runs(tmp_path: Path) -> None:
    for verb in (dd.distill, lambda data, one, **how: dd.benchmark(data, [one], **how)):
        with pytest.raises(dd.InputError, match=r"`name` must be one line of text .* Call it 'm.*u001b  '"):
            verb("digits", Named(name="m\x1b\n\n"), out=tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("classes", [["a", "a"], "ab", ["a", 3], []])
def test_classes_are_different_texts(classes: Any) -> None:
    images = torch.rand(4, 3, 8, 8), torch.tensor([0, 0, 1, 1])
    with pytest.raises(dd.InputError, match="`classes` must be different names"):
        dd.Images(train=images, classes=classes)


def test_one_of_two_alike_is_said_once_and_one_thing_is_no_many() -> None:
    assert (both(8, 8), both(8, 6)) == ("8", "8 and 6")
    assert (count(1, "unit"), count(1000, "unit")) == ("1 unit", "1,000 units")
