"""Files of a wrong form with a right checksum: refused by what reads them, in one error of the library."""

from __future__ import annotations

import ast
import contextlib
import copy
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import dd
from dd.base.files import (
    load_tensors,
    read_foreign_json,
    read_json,
    read_jsonl,
    read_meta,
    save_tensors,
    write_json,
    write_jsonl,
)
from dd.base.forms import Also, ByKind, Many, Map, Maybe, Real, Text, Whole, Word, misfit
from dd.base.schema import KINDS, conform
from dd.errors import DamagedError, DDError, InputError
from dd.experts.store import verify_folder
from dd.synthetic import LabelStore
from dd.transforms.whiten import Normalise
from scripts.campaigns import jobs

OTHERS: list[Any] = [None, "x", True, 10**400, ["x"], {"x": {}}]
"""One of each kind of value that JSON has, and numbers out of every range."""
Step = str | int


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, a benchmark with an evaluated run, and a set with a label store."""
    base = tmp_path_factory.mktemp("schema")
    with pytest.MonkeyPatch.context() as patch, jobs.still():
        patch.chdir(base)
        jobs.buffered()
        jobs.benchmarked()
        (run,) = {path.parent for path in base.rglob("run.json")}
        dd.evaluate(run, jobs.pictures(), repeats=1, steps=2, baselines=(), progress=False)
        jobs.labelled(0).save("set.safetensors")
    return base


def places(form: Any, value: Any, at: tuple[Step, ...] = ()) -> Iterator[tuple[tuple[Step, ...], bool]]:
    """(place, whether it may be left out) of all that a form names, where the value has it; of a list the first."""
    if isinstance(form, Also | Maybe):
        yield from places(form.form, value, at) if value is not None else ()
    elif isinstance(form, ByKind):
        yield (*at, form.key), False
        yield from places(form.forms[value[form.key]], value, at)
    elif isinstance(form, list | Many):
        if value:
            yield (*at, 0), True
            yield from places(form[0] if isinstance(form, list) else form.form, value[0], (*at, 0))
    elif isinstance(form, Map):
        for name in list(value)[:1]:
            yield (*at, name), True
            yield from places(form.form, value[name], (*at, name))
    elif isinstance(form, dict):
        for name, inner in form.items():
            key = name.removesuffix("?")
            if key in value:
                yield (*at, key), key != name
                yield from places(inner, value[key], (*at, key))


def replaced(value: Any, at: tuple[Step, ...], new: Any) -> Any:
    """A copy with another value at a place, or without it where `new` is Ellipsis."""
    made = copy.deepcopy(value)
    inner = made
    for step in at[:-1]:
        inner = inner[step]
    if new is ...:
        del inner[at[-1]]
    else:
        inner[at[-1]] = new
    return made


def sort_of(value: Any) -> str:
    """The kind of a value in JSON."""
    return "number" if type(value) in (int, float) else type(value).__name__


def wrongs(kind: str, value: Any) -> Iterator[tuple[str, Any, bool]]:
    """(name, another content of the file, whether it must be refused): one change at each place that the form names."""
    for at, may_lack in places(KINDS[kind].form, value):
        name, old = ".".join(map(str, at)), value
        for step in at:
            old = old[step]
        if not may_lack:
            yield f"{name} missing", replaced(value, at, ...), True
        for new in OTHERS:
            if sort_of(new) != sort_of(old):
                yield f"{name} = {str(new)[:9]}", replaced(value, at, new), None not in (old, new)


def check(kind: str, whole: Any, write: Callable[[Any], object], read: Callable[[], object]) -> None:
    """All changes of one file."""
    write(whole)
    read()
    count = 0
    for name, value, must in wrongs(kind, whole):
        write(value)
        if must:
            with pytest.raises(DamagedError) as caught:
                print(f"{kind}: {name}: {read()}")
            assert "\n" not in str(caught.value)
        else:  # null where there was a value may be right, and is never another error
            try:
                read()
            except DDError:
                pass
        count += 1
    assert count > 3, kind
    write(whole)
    read()


def test_json_of_a_run_a_report_and_experts(home: Path) -> None:
    (run,) = {path.parent for path in home.rglob("run.json")}
    (experts,) = {path.parent for path in home.rglob("recipe.json")}
    for kind, path, read in (
        ("run", run / "run.json", lambda: dd.verify(run)),
        ("report", run / "report.json", lambda: dd.verify(run / "report.json")),
        ("experts", experts / "recipe.json", lambda: verify_folder(experts)),
    ):
        check(kind, read_json(path), lambda value, path=path: write_json(path, value), read)


def test_rows_of_a_log(home: Path) -> None:
    (log,) = home.rglob("log.jsonl")
    rows = read_jsonl(log)
    check("log", rows[0], lambda row: write_jsonl(log, [row, *rows[1:]]), lambda: read_jsonl(log, "log"))
    write_jsonl(log, [rows[0], {**rows[1], "iteration": "2"}])
    with pytest.raises(DamagedError, match=r"line 2 of .*log\.jsonl is no row of a log: `iteration` must be"):
        dd.verify(log)
    write_jsonl(log, rows)


def test_a_report_that_is_none_makes_no_page(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from dd.cli.main import main

    (run,) = {path.parent for path in home.rglob("run.json")}
    told = read_json(run / "report.json")
    page = (run / "index.html").read_bytes()
    write_json(run / "report.json", {**told, "rows": [{**told["rows"][0], "mean": "high"}]})
    assert main(["report", str(run)]) == 1
    text = capsys.readouterr().err
    assert "`rows[0].mean` must be a finite number in 0…1; got 'high'. Evaluate the run again." in text
    assert text.count("\n") == 1
    assert (run / "index.html").read_bytes() == page
    write_json(run / "report.json", told)


def test_a_resumed_run_and_a_benchmark(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What only a run's own request or a benchmark's row can tell is an `InputError`; all else is damage."""
    monkeypatch.chdir(home)
    cell = sorted((home / "out" / "cells").glob("random*.json"))[0]
    told = read_json(cell)
    for name, value, must in wrongs("cell", told):
        if not must and "missing" not in name:
            continue
        write_json(cell, value)
        with jobs.still(), pytest.raises((DamagedError, InputError)):
            jobs.benchmarked()
    write_json(cell, {**told, "model": "convnet"})
    with jobs.still(), pytest.raises(DamagedError, match=r"is the cell of another row .*Remove it and run again"):
        jobs.benchmarked()
    write_json(cell, told)
    (run,) = {path.parent for path in home.rglob("run.json")}
    whole = read_json(run / "run.json")
    for value in ({**whole, "request": [3]}, {**whole, "finished": "no"}, {**whole, "origin": {"versions": 3}}):
        write_json(run / "run.json", value)
        with jobs.still(), pytest.raises(DamagedError, match=r"run\.json that cannot be used .*The set there is whole"):
            dd.distill(jobs.pictures(), jobs.method("mtt"), out=run, store=jobs.STORE, progress=False)
    write_json(run / "run.json", whole)


def test_a_leaderboard(home: Path) -> None:
    path = home / "out" / "leaderboard.json"
    board = read_json(path)
    check("leaderboard", board, lambda value: write_json(path, value), lambda: dd.verify(path))
    write_json(path, {**board, "cells": []})
    with pytest.raises(DamagedError, match="`cells` must be a list of at least one; got a list of 0"):
        dd.report(home / "out")
    write_json(path, board)


def test_a_manifest_of_labels(home: Path) -> None:
    (path,) = home.rglob("manifest.json")
    check("labels", read_json(path), lambda value: write_json(path, value), lambda: LabelStore.load(path.parent))


@pytest.mark.parametrize("kind", ["images", "labelled", "compensated", "trees", "expert", "teacher"])
def test_metadata_of_tensors(home: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.safetensors"
    if kind in ("images", "labelled"):
        source = next(home.rglob("synthetic.safetensors")) if kind == "images" else home / "set.safetensors"
    elif kind in ("expert", "teacher"):
        source = next(p for p in (home / "store").rglob("*.safetensors") if read_meta(p)["kind"] == kind)
    else:
        source = tmp_path / "source.safetensors"
        (compensated() if kind == "compensated" else trees()).save(source)
    tensors, meta = load_tensors(source)
    form = "images" if kind == "labelled" else kind
    if kind == "labelled":  # its labels lie beside it
        path = source
    if kind not in ("expert", "teacher"):
        check(form, meta, lambda value: save_tensors(path, tensors, value), lambda: dd.load(path))
        return
    for _, value, must in wrongs(kind, meta):
        save_tensors(path, tensors, value)
        with pytest.raises(DamagedError) if must else contextlib.suppress(DamagedError):
            load_tensors(path, kind)


def compensated() -> dd.CompensatedImages:
    return dd.CompensatedImages(
        base=torch.zeros(1, 3, 3, 4, 4, dtype=torch.uint8),
        compensators=torch.zeros(1, 1, 3, 4, 4, dtype=torch.float16),
        logits=None,
        classes=("a", "b", "c"),
        recipe=dd.TrainRecipe(steps=2),
        transform=Normalise((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    )


def trees() -> Any:
    with jobs.still():
        return dd.distill(jobs.graphs(), jobs.method("mirage"), progress=False)


# What a form says


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        (Whole(1), [1, 2**63 - 1], [0, 2**63, True, 1.0, "1", None, 10**400]),
        (int, [-(10**400), 0], [True, 1.0]),
        (Real(0, 1), [0, 0.5, 1], [-0.1, 1.5, float("nan"), float("inf"), 10**400, "0.5", False]),
        (Text("[0-9a-f]{4}", "four hex digits"), ["00ff"], ["00FF", "00ff\n", 4, None]),
        (Word(1, "a"), [1, "a"], [True, 1.0, "b", ["a"], {}]),
        (Maybe(str), [None, ""], [3, []]),
        ([str], [[], ["a"]], [["a", 3], "a", {}, None]),
        (Many(str), [["a"]], [[], [None]]),
        ({"a": str, "b?": int}, [{"a": "x"}, {"a": "x", "b": 1, "c": []}], [{}, {"a": "x", "b": "y"}, []]),
        (Map(int), [{}, {"x": 1}], [{"x": "y"}, [1]]),
        (ByKind("k", {"a": {"x": int}}), [{"k": "a", "x": 1}], [{"k": "a"}, {"k": "b"}, {"k": ["a"]}, {}, 3]),
        (Also(list, len, "a full list"), [[1]], [[], 3]),
    ],
)
def test_forms(form: Any, good: list[Any], bad: list[Any]) -> None:
    assert [misfit(value, form) for value in good] == [None] * len(good)
    for value in bad:
        found = misfit(value, form)
        assert found is not None, value
        assert found.expected
        assert found.got


def test_the_place_is_named(tmp_path: Path) -> None:
    value = {"train": [0, 3], "valid": [1, -2], "test": []}
    (tmp_path / "s.json").write_text(json.dumps(value))
    with pytest.raises(DamagedError) as caught:
        read_foreign_json(tmp_path / "s.json", "split")
    assert str(caught.value) == (
        f"{tmp_path / 's.json'} is no split of a table: `valid[1]` must be a whole number of at least 0; got -2. "
        "Remove it."
    )
    with pytest.raises(DamagedError, match=r"line 4 of x is no row of a log: it must be an object; got a list of 0"):
        conform([], "log", Path("x"), "line 4")


def test_a_set_that_could_not_be_read_again_is_not_written(home: Path, tmp_path: Path) -> None:
    small = dd.load(home / "set.safetensors").hard()
    with pytest.raises(InputError, match=r"`method\.name of the synthetic image set` must be a text; got 3"):
        dataclasses.replace(small, method={"name": 3}).save(tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()


# Texts that are no good JSON


DEEP = 100_000
TEXTS = {
    "deep lists": "[" * DEEP,
    "deep closed lists": "[" * 500 + "]" * 500,
    "deep objects": '{"a":' * DEEP,
    "a key twice": '{"a": 1, "a": 2}',
    "no number": '{"a": NaN}',
    "no end": '{"a": 1e999}',
    "digits": '{"a": ' + "9" * 100_000 + "}",
    "no text": "\ud800",
}


@pytest.mark.parametrize("name", TEXTS)
def test_odd_json_is_damage_wherever_it_stands(tmp_path: Path, name: str) -> None:
    text = TEXTS[name]
    path = tmp_path / "x.json"
    for whole in (text, f'{{"sha256": "by hand", "request": {text}}}'):
        path.write_bytes(whole.encode(errors="surrogatepass"))
        for read in (read_json, read_foreign_json, dd.verify):
            with pytest.raises(DamagedError, match=r"x\.json is not JSON"):
                read(path)
    (tmp_path / "log.jsonl").write_bytes(text.encode(errors="surrogatepass") + b"\n")
    assert read_jsonl(tmp_path / "log.jsonl", "log") == []
    if name != "no text":
        data = safetensors.torch.save({"a": torch.zeros(1)}, {"dd": text})
        (tmp_path / "x.safetensors").write_bytes(data)
        for read in (read_meta, load_tensors, dd.load, dd.verify):
            with pytest.raises(DamagedError, match=r"x\.safetensors"):
                read(tmp_path / "x.safetensors")


def test_what_is_too_deep_is_not_written(tmp_path: Path) -> None:
    deep: Any = "x"
    for _ in range(5000):
        deep = [deep]
        if _ in (70, 4999):
            with pytest.raises(InputError, match="`value` must be"):
                write_json(tmp_path / "x.json", {"a": deep})
    assert not (tmp_path / "x.json").exists()


def test_every_reader_in_the_library_says_what_it_reads() -> None:
    names = {"read_json", "read_foreign_json", "read_jsonl", "read_meta", "load_tensors"}
    for path in sorted(Path(dd.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
                assert len(node.args) + len(node.keywords) >= 2, f"{path}:{node.lineno} reads any kind of file"
