"""Recipes of an evaluation: hard labels for all, one teacher's labels for all, and what they refuse."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.evaluation import data, small

import dd
from dd.base.files import read_json
from dd.contest.evaluate import evaluate
from dd.contest.recipes import RD3, RD3_EPOCHS, rectified
from dd.errors import InputError
from dd.methods import RandomReal, Run
from dd.synthetic import Layout, SyntheticImages
from dd.teachers import Teacher
from dd.transforms.whiten import Normalise

FAST: dict[str, Any] = {"models": "mlp", "repeats": 2, "steps": 3, "out": False, "progress": False}
TEACHER = ["convnet(width=2, norm=batch)"]


def soft() -> SyntheticImages:
    made = small()
    labels = torch.rand(len(made), len(made.classes), generator=torch.Generator().manual_seed(0)).softmax(1)
    return dataclasses.replace(made, labels=labels)


@pytest.mark.parametrize("recipe", ["hard", "rd3"])
def test_a_row_has_the_bytes_of_the_set_and_not_of_what_a_recipe_makes_of_it(recipe: Any) -> None:
    """The table had fewer bytes than the line below it under `hard`, and those of RD3's labels under `rd3`."""
    committee = TEACHER if recipe == "rd3" else None
    made = soft()
    report = evaluate(made, data(), recipe=recipe, committee=committee, **FAST)
    assert report.rows[0].bytes == made.nbytes.images + made.nbytes.labels
    assert report.rows[1].bytes == evaluate(made, data(), **FAST).rows[1].bytes
    assert any("bytes" in note and f'recipe="{recipe}"' in note for note in report.notes)


def test_a_set_with_stored_labels_has_the_bytes_of_its_folder_too_and_pictures_in_uint8(tmp_path: Path) -> None:
    """A file beside its labels had fewer bytes in all than labels, and its pictures were said to be in float32."""
    made, real = small(), data()
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(made.images[0].numel(), len(made.classes))).eval()
    space = Normalise(mean=tuple(real.mean), std=tuple(real.std))
    path = rectified(made, [(Teacher("t", net, space), 1.0)], space, Run(seed=0), steps=40).save(tmp_path / "a")
    there = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    report, back = dd.evaluate(path, real, baselines=(), **FAST), dd.load(path)
    assert report.bytes["total"] == there
    assert report.bytes == back.nbytes._asdict()
    assert back.layout == back.hard().layout == Layout(storage="uint8")


def test_hard_is_the_set_with_its_classes() -> None:
    one, two = evaluate(soft(), data(), recipe="hard", **FAST), evaluate(soft().hard(), data(), **FAST)
    assert one.rows[0].values == two.rows[0].values
    assert (one.recipe, two.recipe) == ("hard", "own")
    assert "recipe hard" in one.head
    assert evaluate(soft(), data(), **FAST).rows[0].values != one.rows[0].values


def test_a_report_tells_its_recipe_and_how_it_is_made_again(tmp_path: Path) -> None:
    dd.distill(data(), "random", ipc=1, out=tmp_path / "run", progress=False)
    given = {**FAST, "out": None}
    evaluate(tmp_path / "run", data(), recipe="hard", **given)
    assert read_json(tmp_path / "run" / "report.json", "report")["recipe"] == "hard"
    page = (tmp_path / "run" / "index.html").read_text(encoding="utf-8")
    assert re.search(r"recipe</dt>\s*<dd>hard", page)


def test_rd3_stores_what_the_teacher_says_of_each_batch() -> None:
    made, real = small(), data()
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(made.images[0].numel(), len(made.classes))).eval()
    space = Normalise(mean=tuple(real.mean), std=tuple(real.std))
    found = rectified(made, [(Teacher("t", net, space), 1.0)], space, Run(seed=0), steps=4)
    assert found.store is not None
    assert torch.equal(found.pictures(), made.pictures())
    assert len(found.store) == 4 * -(-len(made) // min(50, len(made))) or len(found.store) == 4
    for x, z in found.batches(50, torch.Generator()):
        with torch.no_grad():
            torch.testing.assert_close(net(x), z, rtol=2e-3, atol=2e-3)  # float16
    assert found.recipe.steps == RD3_EPOCHS * -(-len(made) // 50)
    assert (found.recipe.loss, found.recipe.lr, found.recipe.weight_decay) == ("kl", 1e-3, 0.0)


def test_rd3_trains_all_rows_under_one_teacher() -> None:
    report = evaluate(soft(), data(), recipe="rd3", committee=TEACHER, **FAST)
    other = evaluate(soft().hard(), data(), recipe="rd3", committee=TEACHER, **FAST)
    assert report.rows[0].values == other.rows[0].values, "its own labels have no part in it"
    assert {row.lr for row in report.rows} == {1e-3}
    assert "recipe rd3" in report.head
    assert report.bytes == evaluate(soft(), data(), **FAST).bytes, "the bytes are those of the set"


def test_the_student_of_rd3_is_its_own() -> None:
    assert RD3.model == "resnet18(norm=batch)"
    report = evaluate(small(), data(), recipe="rd3", committee=TEACHER, **{**FAST, "models": "ridge"}, baselines=())
    assert report.rows[0].model == "ridge, random resnet18(norm=batch)"


def test_sets_that_rd3_cannot_label_are_refused_and_the_way_out_works() -> None:
    made = small()
    canvas = dataclasses.replace(made, images=made.images.repeat(1, 1, 2, 2), canvas=2)
    with pytest.raises(InputError, match="`recipe` must be `own` or `hard` for canvases") as caught:
        evaluate(canvas, data(), recipe="rd3", committee=TEACHER, **FAST)
    assert "Give `recipe='hard'`" in str(caught.value)
    assert evaluate(canvas, data(), recipe="hard", **FAST).recipe == "hard"
    test_only = (data().test.pixels(), data().test.labels)
    with pytest.raises(InputError, match="`own` or `hard` for data without training images for a teacher"):
        evaluate(made, test_only, recipe="rd3", **FAST)


def test_rd3_serves_its_own_student_where_one_picture_is_left_over() -> None:
    """A map of a ResNet-18 ends in one pixel at 8 px, and a batch norm has no statistics of one picture there."""
    made = dd.distill(data(20), "random", ipc=17, train={"model": "mlp"}, progress=False)
    assert len(made) == RD3.batch_size + 1
    given = {**FAST, "models": None, "repeats": 1, "steps": 3}
    report = evaluate(made, data(20), recipe="rd3", committee=TEACHER, baselines=(), **given)
    assert report.rows[0].model == RD3.model


def test_a_committee_that_labels_nothing_is_refused() -> None:
    told = "`committee` must be left out where no teachers label"
    for recipe in ("hard", "own"):
        with pytest.raises(InputError, match=told):
            evaluate(small(), data(), recipe=recipe, committee=TEACHER, **FAST)
    summary = dd.distill("digits-graphs", "mirage", budget_bytes=2048, progress=False)
    with pytest.raises(InputError, match="`committee` must be left out for graphs"):
        evaluate(summary, "digits-graphs", committee=TEACHER, **{**FAST, "models": "gin"})


def test_steps_are_looked_at_before_a_teacher_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dd.contest.recipes.seat", None)
    with pytest.raises(InputError, match="`steps` must be a whole number of at least 1; got -3"):
        evaluate(small(), data(), recipe="rd3", **{**FAST, "steps": -3})


@pytest.mark.parametrize("name", ["random_labels", "hard"])
def test_baselines_with_labels_of_their_own_are_refused_where_all_have_the_same(name: str) -> None:
    told = f"`baselines` must be those that `recipe='hard'` can train; got `{name}`. Leave it out"
    with pytest.raises(InputError, match=re.escape(told)):
        evaluate(soft(), data(), recipe="hard", baselines=(name,), **FAST)


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(InputError, match="unknown evaluation recipe 'rd4'; known: hard, own, rd3"):
        evaluate(small(), data(), recipe="rd4", **FAST)


def test_a_benchmark_of_hard_labels_has_cells_of_its_own(tmp_path: Path) -> None:
    mine = RandomReal(name="mine", ipc=1)
    given: dict[str, Any] = {"ipc": 1, "models": ["mlp", "nearest_mean"], "repeats": 2, "steps": 2, "lr": 0.01}
    given |= {"baselines": ("random", "full"), "progress": False}
    board = dd.benchmark(data(), [mine], recipe="hard", out=tmp_path / "hard", **given)
    assert board.models == ("mlp", "nearest_mean of mlp")
    assert len(board.cells) == 6
    assert all(cell["request"]["recipe"] == "hard" for cell in board.cells)
    assert 'under one class an image (`recipe="hard"`)' in board.to_markdown()
    assert "one class an image" not in dd.benchmark(data(), [mine], out=tmp_path / "own", **given).to_markdown()
    with pytest.raises(InputError, match=r"of another benchmark \(other recipe\)"):
        dd.benchmark(data(), [mine], out=tmp_path / "hard", **given)
    with pytest.raises(InputError, match=r"`baselines` must be those that `recipe='rd3'` can train; got `full`"):
        dd.benchmark(data(), [mine], recipe="rd3", **given)


def test_a_benchmark_under_rd3_takes_another_teacher(tmp_path: Path) -> None:
    mine = RandomReal(name="mine", ipc=1)
    given: dict[str, Any] = {"ipc": 1, "models": "mlp", "repeats": 2, "steps": 2, "store": tmp_path, "progress": False}
    given |= {"baselines": ("random",), "out": tmp_path / "board"}
    board = dd.benchmark(data(), [mine], recipe="rd3", committee=TEACHER, **given)
    assert board.cells[0]["request"]["committee"] == ["convnet(norm=batch, width=2)"]
    with pytest.raises(InputError, match=r"of another benchmark \(other committee\)"):
        dd.benchmark(data(), [mine], recipe="rd3", committee=["convnet(width=4, norm=batch)"], **given)
    with pytest.raises(InputError, match=r"`committee` must be left out unless `recipe='rd3'`; got one") as caught:
        dd.benchmark(data(), [mine], committee=TEACHER, **given)
    assert "`methods=[dd.RDED(committee=…)]`" in str(caught.value)
    assert dd.RDED(committee=("convnet(norm=batch)",)).committee == ("convnet(norm=batch)",)


@pytest.mark.parametrize(
    ("kind", "data_of_it", "method"), [("graphs", "digits-graphs", "mirage"), ("nodes", "blocks", "node_means")]
)
def test_graphs_and_nodes_have_no_other_labels_and_the_way_out_works(kind: str, data_of_it: str, method: str) -> None:
    told = f"`recipe` must be `own` for {kind}, whose sets have no other labels; got `hard`. Leave `recipe` out."
    given: dict[str, Any] = {"repeats": 2, "steps": 2, "progress": False, "budget_bytes": 2048, "baselines": ("full",)}
    with pytest.raises(InputError, match=re.escape(told)):
        dd.benchmark(data_of_it, [method], recipe="hard", **given)
    made = dd.distill(data_of_it, method, budget_bytes=2048, progress=False)
    few: dict[str, Any] = {"repeats": 2, "steps": 2, "progress": False, "out": False, "baselines": ()}
    with pytest.raises(InputError, match=re.escape(told)):
        evaluate(made, data_of_it, recipe="hard", **few)
    assert evaluate(made, data_of_it, **few).recipe == "own"
