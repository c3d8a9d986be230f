"""The choice of the `cpu` rows of distribution matching: what is tried, and its table."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

import dd
from scripts.records import kept
from scripts.records.make import choices
from scripts.records.make.choices import CHOICES, ROW, Choice
from scripts.records.tables.choices import choices_table


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice.name)
def test_a_choice_is_the_row_but_for_one_field(choice: Choice) -> None:
    row, made = Choice(choice.method, ROW, ROW, choice.seed).made(), choice.made()
    differ = {f.name for f in dataclasses.fields(row) if getattr(row, f.name) != getattr(made, f.name)}
    assert differ == ({choice.field} - {ROW})


def test_names_of_choices_are_their_own() -> None:
    assert len({choice.name for choice in CHOICES}) == len(CHOICES)


def record(value: Any, seed: int, values: list[float]) -> dict[str, Any]:
    told = {"method": "dm", "field": ROW if value == ROW else "lr_img", "value": value, "seed": seed}
    return {
        "choice": told,
        "report": {"rows": [{"values": values, "mean": sum(values) / len(values)}]},
        "distill_seconds": 10.0 + seed,
    }


def test_the_table_marks_the_best_and_counts_sets() -> None:
    rows = [record(ROW, 0, [0.40, 0.42]), record(3.0, 0, [0.44, 0.46]), record(3.0, 1, [0.46, 0.48])]
    lines = choices_table(rows)
    assert "| dm | row | lr_img 10.0 | 41.0 ± 1.4 | 1 × 2 | 10 |" in lines
    assert "| dm | `lr_img` | 3.0 | **46.0 ± 1.4** | 2 × 2 | 10 |" in lines


def test_a_record_is_made_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8, generator=generator)
    real = dd.load_images((images, torch.arange(40) % 2))
    method = dd.DM(ipc=1, batch_real=4, iterations=2)
    small = {"expert": dataclasses.replace(method.expert, model="mlp", augment="")}
    method = dataclasses.replace(method, **small, train=dataclasses.replace(method.train, steps=2))
    monkeypatch.setattr(choices, "data", lambda *_: real)
    monkeypatch.setattr(Choice, "made", lambda _: method)
    made = choices.measure(Choice("dm", "lr_img", 3.0, 0), tmp_path, tmp_path)
    kept.keep("choices-a", made, tmp_path)
    back = kept.named("choices-*", tmp_path)["choices-a"]
    assert back["choice"] == {"method": "dm", "field": "lr_img", "value": 3.0, "seed": 0}
    assert back["report"]["split"] == "val"
    assert len(back["report"]["rows"][0]["values"]) == choices.NETWORKS


def test_no_records_give_no_table() -> None:
    assert choices_table([]) == []
