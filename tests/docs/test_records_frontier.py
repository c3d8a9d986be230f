"""Cells of accuracy against minutes and bytes: what they are, and a state that goes on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

import dd
from dd.methods import Run
from scripts.records.make.frontier import CELLS, ENDLESS, method_of, timed


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
