"""Cells of accuracy against minutes and bytes: what they are, and a state that goes on."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

import dd
from dd.methods import Run
from scripts.docs import frontier as picture
from scripts.records.make import frontier
from scripts.records.make.frontier import CELLS, ENDLESS, method_of, timed
from scripts.records.tables import frontier as table


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_has_the_bytes_that_its_name_says_and_no_end_of_its_own(name: str) -> None:
    method = method_of(name)
    stored = method.ipc * 3 * 32 * 32 * method.layout.itemsize  # type: ignore[attr-defined]
    assert stored == {"ten": 10 * 4, "one": 1}[name.partition("-")[0]] * 3 * 32 * 32
    assert getattr(method, "iterations", ENDLESS) == ENDLESS


def test_a_run_by_the_clock_goes_on_where_it_was(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8, generator=generator)
    real = dd.load_images((images, torch.arange(40) % 2))
    expert = {"model": "convnet(width=4)", "augment": ""}
    method = dd.DM(ipc=1, batch_real=4, candidate_every=1, iterations=4)
    method = dataclasses.replace(method, expert=dataclasses.replace(method.expert, **expert))
    how = Run(seed=0, store=tmp_path / "store")
    whole = [small for _, small in timed(method, real, how, tmp_path / "a", 60)]
    first = next(iter(timed(method, real, how, tmp_path / "b", 60)))[1]
    rest = [small for _, small in timed(method, real, how, tmp_path / "b", 60)]
    assert [first, *rest] == whole
    assert len(whole) == 4


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A cell of tiny images, made as the script makes one."""
    folder = tmp_path_factory.mktemp("frontier")
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (80, 1, 8, 8), dtype=torch.uint8, generator=generator)
    labels = torch.arange(80) % 2
    real = dd.load_images({"train": (images[:60], labels[:60]), "test": (images[60:], labels[60:])})
    method = dd.DM(ipc=1, batch_real=4, candidate_every=1, iterations=2, factor=2)
    method = dataclasses.replace(method, expert=dataclasses.replace(method.expert, model="mlp", augment=""))
    given = argparse.Namespace(root=None, work=folder, marks=[1e-9, 5.0, 20.0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frontier, "load_real", lambda *_: real)
        patch.setattr(frontier, "method_of", lambda *_: method)
        patch.setattr(frontier, "STEPS", 2)
        patch.setattr(frontier, "NETWORKS", 2)
        patch.setattr(frontier, "MODEL", "mlp")
        patch.setattr(frontier, "EVERY", ["mlp", "ridge"])
        return {"record": "frontier-one-byte-dm-0", **frontier.cell("one-byte-dm", 0, given)}


def test_a_mark_without_a_set_is_left_out_and_the_last_stands_beside_real_pictures(record: dict[str, Any]) -> None:
    assert [point["minutes"] for point in record["points"]] == [5.0, 20.0]
    assert {(row["set"], row["model"]) for row in record["last"]} == {
        (name, model) for name in ("dm", "random", "random_packed") for model in ("mlp", "ridge, random mlp")
    }


def test_the_table_of_one_set_tells_its_networks_and_the_gain(record: dict[str, Any], monkeypatch: Any) -> None:
    monkeypatch.setattr(table, "MODEL", "mlp")
    lines = table.frontier_table({"one-byte-dm": [record]})
    own, packed = (table.last([record], name, "mlp")[0] for name in ("own", "random_packed"))
    cells = [cell.strip() for cell in lines[3].split("|")[1:-1]]
    assert cells[0] == "one-byte-dm"
    assert cells[1] == "144"
    assert cells[3].startswith(f"{100 * own['mean']:.1f}")
    assert cells[6] == f"{100 * (own['mean'] - packed['mean']):+.1f}"
    assert cells[7] == "1 × 2"


def test_the_gain_of_several_sets_is_paired_with_its_interval() -> None:
    own, beside = [{"mean": m} for m in (0.50, 0.54)], [{"mean": m} for m in (0.40, 0.42)]
    assert table.gain(own, beside) == "+11.0 ± 12.7"  # differences .10 and .12: t(1) = 12.706, s = .01414
    assert table.gain(own, beside[:1]) == ""


def test_the_picture_has_a_line_a_cell_and_one_of_real_pictures(record: dict[str, Any], monkeypatch: Any) -> None:
    monkeypatch.setattr(picture, "MODEL", "mlp")
    found = picture.points({"one-byte-dm": [record]})
    assert [(name, cost) for name, cost, *_ in found] == [
        ("one-byte-dm", 5.0),
        ("one-byte-dm", 20.0),
        ("one: random, stored alike", 5.0),
        ("one: random, stored alike", 20.0),
    ]


def test_no_records_give_no_table() -> None:
    assert table.frontier_table({}) == []
