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
from dd.models import as_spec
from scripts.docs import frontier as picture
from scripts.records.make import frontier
from scripts.records.make.frontier import CELLS, ENDLESS, method_of, timed
from scripts.records.tables import frontier as table


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_has_the_bytes_that_its_name_says_and_no_end_of_its_own(name: str) -> None:
    method = method_of(name)
    stored = method.ipc * 3 * 32 * 32 * method.layout.itemsize  # type: ignore[attr-defined]
    sizes = {"ten-floats": 10 * 4, "twenty-bytes": 20, "ten-bytes": 10, "ten-wide": 10, "one-byte": 1}
    assert stored == sizes[name.rpartition("-")[0]] * 3 * 32 * 32
    assert getattr(method, "iterations", ENDLESS) == ENDLESS
    assert table.real_of(name) in CELLS
    expert = getattr(method, "expert", None)
    train = method.train  # type: ignore[attr-defined]
    asked, known = (expert.model, frontier.MODEL) if expert else (train.model, frontier.model_of(name))
    assert str(as_spec(asked)) == known


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
        patch.setattr(frontier, "STRANGERS", ["convnet(width=4)", "ridge"])
        return frontier.cell("one-byte-dm", 0, given)


def test_a_mark_without_a_set_is_left_out_and_the_last_set_meets_strangers(record: dict[str, Any]) -> None:
    assert [point["minutes"] for point in record["points"]] == [5.0]
    assert [row["model"] for row in record["strangers"]] == ["convnet(width=4)", "ridge, random mlp"]
    lr = record["points"][0]["rows"][0]["lr"]
    assert record["strangers"][0]["lr"] == lr


def test_what_was_tested_is_not_tested_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(40) % 2
    real = dd.load_images({"train": (images[:20], labels[:20]), "test": (images[20:], labels[20:])})
    dd.distill(real, "random", ipc=1, seed=0).save(tmp_path / "5.safetensors")
    monkeypatch.setattr(frontier, "STEPS", 2)
    rows = frontier.rows_of(tmp_path / "5.safetensors", real, ["mlp"], 0, 1, 0.01)
    monkeypatch.setattr(dd, "evaluate", None)
    assert frontier.rows_of(tmp_path / "5.safetensors", real, ["mlp"], 0, 1, 0.01) == rows
    with pytest.raises(TypeError):
        frontier.rows_of(tmp_path / "5.safetensors", real, ["mlp(width=8)"], 0, 1, 0.01)


def test_every_cell_and_seed_makes_its_own_experts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stores = []

    def timed(method: Any, real: Any, how: Run, *_: object) -> Any:
        stores.append(how.store)
        raise InterruptedError

    monkeypatch.setattr(frontier, "load_real", lambda *_: dd.load_images("digits"))
    monkeypatch.setattr(frontier, "timed", timed)
    given = argparse.Namespace(root=None, work=tmp_path, marks=[1.0])
    for name, seed in (("one-byte-mtt", 0), ("one-byte-mtt", 1), ("ten-bytes-mtt", 0)):
        with pytest.raises(InterruptedError):
            frontier.cell(name, seed, given)
    assert len(set(stores)) == 3


def real_pictures(*means: float) -> list[dict[str, Any]]:
    row = {"bytes": 144, "n": 1, "lr": 0.01, "steps": 2, "model": "mlp"}
    rows = [{**row, "mean": mean, "values": [mean]} for mean in means]
    return [{"points": [{"minutes": 20.0, "rows": [r]}], "strangers": [], "origin": ORIGIN} for r in rows]


ORIGIN = {"machine": "m", "threads": 1, "versions": {"torch": "t"}, "commit": "c"}


def test_the_table_tells_networks_and_the_gain_over_real_pictures(record: dict[str, Any]) -> None:
    lines = table.frontier_table({"one-byte-dm": [record], "one-byte-random": real_pictures(0.25)})
    own = table.last([record])[0]
    cells = [cell.strip() for cell in lines[3].split("|")[1:-1]]
    assert cells[:3] == ["one-byte-dm", "144", table.percent(own["values"])]
    assert cells[3] == ""  # nothing was tested at the mark of the real pictures
    assert cells[4] == f"{100 * (own['mean'] - 0.25):+.1f}"
    assert cells[5:] == ["1 × 2", f"{own['lr']:.3g}"]
    assert "| one-byte-random | 144 |  | 25.0 |  | 1 × 1 | 0.01 |" in lines


def test_the_gain_of_several_sets_has_the_interval_of_welch() -> None:
    found = table.gain(table.last(real_pictures(0.50, 0.52, 0.54)), table.last(real_pictures(0.40, 0.42, 0.44)))
    assert found == "+10.0 ± 4.5"  # s = .02 each, of the difference .02 √(2/3); t(4) = 2.776
    assert table.gain(table.last(real_pictures(0.5)), []) == ""


def test_the_picture_has_a_line_a_cell_and_a_level_one_of_real_pictures(record: dict[str, Any]) -> None:
    found = picture.points({"one-byte-dm": [record], "one-byte-random": real_pictures(0.25)})
    assert [(name, cost) for name, cost, *_ in found] == [
        ("dm, 144 bytes", 5.0),
        ("random, 144 bytes", 5.0),
        ("random, 144 bytes", 20.0),
    ]
    assert {mean for name, _, mean, _ in found if name == "random, 144 bytes"} == {0.25}


def test_cells_under_the_wide_network_say_so() -> None:
    cells = {"one-byte-random": real_pictures(0.25), "ten-wide-random": real_pictures(0.5)}
    assert {name for name, *_ in picture.points(cells)} == {"random, 144 bytes", "random, 144 bytes, convnet"}
    assert "`convnet(width=32)` above, `convnet` for `ten-wide-random`, 2 steps" in table.frontier_table(cells)[-1]
    assert ", `convnet` for" not in table.frontier_table({"one-byte-random": real_pictures(0.25)})[-1]


def test_no_records_give_no_table() -> None:
    assert table.frontier_table({}) == []
