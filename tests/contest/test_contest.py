"""Contests: tables of baselines, what each verb takes from them, and a new entry that both verbs pick up."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from reference.summaries import distil, evaluate, graphs

import dd
from dd.base.seeding import child_seed
from dd.contest.baselines_graphs import GRAPH_BASELINES
from dd.contest.baselines_images import IMAGE_BASELINES, BesideImages
from dd.contest.contest import Baseline, chosen, given_lr
from dd.errors import InputError
from dd.methods import METHODS, Step
from dd.methods.cards import is_baseline

TABLES: dict[str, Mapping[str, Baseline]] = {"images": IMAGE_BASELINES, "graphs": GRAPH_BASELINES}
FAST: dict[str, Any] = {"models": "mlp", "repeats": 2, "steps": 2, "progress": False, "device": "cpu"}


@pytest.mark.parametrize("kind", TABLES)
def test_a_verb_offers_what_it_has_by_default_and_describes_it(kind: str) -> None:
    for name, one in TABLES[kind].items():
        assert (one.name, one.kind) == (name, kind)
        assert set(one.default) <= set(one.offered)
        assert one.says
        assert one.told.endswith(f", {one.draws} draws") == (one.draws > 1)
        for verb in one.offered if kind == "images" else ("evaluate",):  # of graphs `benchmark` refers to `evaluate`
            assert f"`{name}`" in re.sub(r"\s+", " ", getattr(dd, verb).__doc__ or ""), f"{verb} {name}"


def test_every_method_whose_card_says_baseline_is_an_entry() -> None:
    methods = {name for name in METHODS if is_baseline(name)}
    assert methods == {"random", "class_mean", "herding", "k_center"}
    assert methods <= set(IMAGE_BASELINES)


def test_baselines_are_chosen_in_the_order_asked_for() -> None:
    assert [one.name for one in chosen(IMAGE_BASELINES, "evaluate", ["hard", "random"])] == ["hard", "random"]
    assert [one.name for one in chosen(GRAPH_BASELINES, "benchmark", "full")] == ["full"]
    assert [one.name for one in chosen(IMAGE_BASELINES, "evaluate", None)] == [
        "random",
        "random_packed",
        "random_labels",
        "hard",
    ]
    with pytest.raises(InputError, match="unknown baseline 'full'; known: class_mean, hard, random, random_labels, "):
        chosen(IMAGE_BASELINES, "evaluate", ["full"])
    with pytest.raises(InputError, match="unknown baseline for graphs 'hard'; known: all_trees, edges_per_node, "):
        chosen(GRAPH_BASELINES, "evaluate", ["hard"])


@pytest.mark.parametrize("kind", TABLES)
def test_a_baseline_is_asked_for_once_in_capitals_or_not(kind: str) -> None:
    assert [one.name for one in chosen(TABLES[kind], "evaluate", ["Random"])] == ["random"]
    for verb in ("evaluate", "benchmark"):
        with pytest.raises(InputError, match="`baselines` must be different names; got 'random' twice"):
            chosen(TABLES[kind], verb, ["random", "RANDOM"])


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnTrees:
    """A user's method for graphs, with nothing but what `dd.methods.Method` asks for."""

    kind: ClassVar[str] = "graphs"
    budget: ClassVar[str] = "budget_bytes"
    name: str = "own"
    budget_bytes: int = 300

    def distill(self, real: dd.Graphs, run: dd.Run, state: Any = None) -> Iterator[Step]:
        yield from dd.Mirage(depth=1, budget_bytes=self.budget_bytes).distill(real, run, state)

    def describe(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def test_a_users_method_for_graphs_leads_a_benchmark() -> None:
    given: dict[str, Any] = {"budget_bytes": 300, "repeats": 1, "steps": 1, "progress": False, "device": "cpu"}
    table = dd.benchmark(graphs(), [OwnTrees()], **given)
    assert {cell["model"] for cell in table.cells} == {"gin", ""}
    assert {cell["set"] for cell in table.cells} >= {"own", "random", "naive_bayes"}
    assert not any(cell.get("refused") for cell in table.cells)


def test_the_step_size_is_a_number_or_a_word() -> None:
    assert (given_lr(1), given_lr("recipe"), given_lr("tuned")) == (1.0, None, "tuned")
    for wrong in ("best", True, None):
        with pytest.raises(InputError, match="`lr` must be `recipe`, `tuned` or a number; got"):
            given_lr(wrong)


def test_nothing_is_read_from_the_name_of_a_baseline_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same entry under another name has the same rows, in both verbs."""
    for name in ("random", "random_tuned", "full"):
        monkeypatch.setitem(
            IMAGE_BASELINES, f"my_{name}", dataclasses.replace(IMAGE_BASELINES[name], name=f"my_{name}")
        )
    small = dd.distill("digits", "random", ipc=1, progress=False)
    report = dd.evaluate(small, "digits", baselines=("random", "my_random", "random_tuned", "my_random_tuned"), **FAST)
    rows = {row.set: (row.values, row.lr) for row in report.rows[1:]}
    assert rows["random (baseline)"] == rows["my_random"] != rows["random_tuned"]
    assert rows["random_tuned"] == rows["my_random_tuned"]
    board = dd.benchmark("digits", "infer", ipc=1, baselines=("random", "my_random", "full", "my_full"), **FAST)
    for name, budget in (("random", 1), ("full", None)):
        assert board.row(name).values == board.row(f"my_{name}").values != ()
        assert board.row(f"my_{name}").budget == budget


LAID: dict[str, Any] = {"factor": 2, "mirror": True, "storage": "uint8"}


def test_beside_a_layout_stand_real_images_stored_alike_and_as_many_in_float32_as_its_bytes_hold() -> None:
    small = dd.distill("digits", "random", ipc=8, **LAID, progress=False)
    real, run = dd.load_images("digits"), dd.Run(seed=3)
    beside = BesideImages(
        real=real, ipc=small.budget[0], recipe=small.recipe, small=small, layout=small.layout, stored=small.ipc
    )
    packed = IMAGE_BASELINES["random_packed"].sets(beside, run)
    plain = IMAGE_BASELINES["random"].sets(beside, run)
    assert len(packed) == len(plain) == 3
    for draw, (one, other) in enumerate(zip(packed, plain, strict=True)):
        assert (one.layout, one.nbytes.images) == (small.layout, small.nbytes.images)
        assert (other.layout.plain, other.nbytes.images) == (True, small.nbytes.images)
        seed = child_seed(3, "draw", draw)
        wanted: Any = dd.distill(real, METHODS["random"](ipc=8, **LAID), seed=seed, progress=False)
        torch.testing.assert_close(one.stored_images, wanted.stored_images, rtol=0, atol=float(one.stored.levels[1]))
    report = dd.evaluate(small, real, **FAST)
    assert [row.set for row in report.rows] == ["random", "random (baseline)", "random_packed"]
    own, plain_row, packed_row = (row.bytes or 0 for row in report.rows)
    assert own == packed_row == small.nbytes.images + small.nbytes.labels
    assert plain_row == plain[0].nbytes.images + plain[0].nbytes.labels
    assert report.about.keys() == {"random (baseline)", "random_packed"}
    note = "images stored as factor 2, mirrored, uint8: their bytes are those of 2 a class in float32"
    assert note in report.notes
    one = dd.distill("digits", "random", ipc=1, storage="fp16", progress=False)
    assert any(note.endswith("1 a class in float32 (which is more)") for note in dd.evaluate(one, real, **FAST).notes)
    asked = dd.evaluate(dd.distill("digits", "random", ipc=1, progress=False), real, baselines="random_packed", **FAST)
    assert "no random_packed row: the set's stored images are its pictures: it is `random`" in asked.notes


@pytest.mark.parametrize("whiten", [False, True])
def test_beside_whole_images_in_uint8_stand_as_many_real_ones_in_uint8(whiten: bool) -> None:
    small = dd.distill("digits", "random", ipc=1, storage="uint8", whiten=whiten, progress=False)
    real, run = dd.load_images("digits"), dd.Run(seed=3)
    report = dd.evaluate(small, real, baselines=("random", "class_mean", "random_packed"), **FAST)
    assert [row.set for row in report.rows] == ["random", "random (baseline)", "class_mean"]
    assert {row.bytes for row in report.rows} == {10 * 64 + 10 * 8}
    assert report.method == "random, 10 images (uint8)"
    none = dd.evaluate(small, real, baselines=("random_labels",), **FAST)  # its way out were teachers, which it refuses
    assert [row.set for row in none.rows] == ["random"]
    assert "no random_labels row: the set has no labels of teachers" in none.notes
    assert "no random_packed row: the set's stored images are its pictures: it is `random`" in report.notes
    assert not any("float32" in note for note in report.notes)
    assert [row.set for row in dd.evaluate(small, real, **FAST).rows] == ["random", "random (baseline)"]
    beside = BesideImages(
        real=real, ipc=1, recipe=small.recipe, whiten=whiten, small=small, layout=small.layout, stored=1
    )
    one: Any = IMAGE_BASELINES["random"].sets(beside, run)[0]
    wanted: Any = dd.distill(real, METHODS["random"](ipc=1), seed=child_seed(3, "draw", 0), progress=False)
    torch.testing.assert_close(one.pixels(), wanted.pixels(), rtol=0, atol=0.03 if whiten else 0.51 / 255)


def test_a_benchmark_has_one_row_of_random_images_beside_whole_ones() -> None:
    methods = [METHODS["random"](name=storage, storage=storage) for storage in ("uint8", "fp32")]
    named: dict[str, Any] = {"baselines": ("random", "class_mean", "random_packed", "random_bytes"), "ipc": 1}
    board = dd.benchmark("digits", methods, **{**FAST, **named})
    size = {cell["set"]: cell["bytes"]["images"] for cell in board.cells}
    assert size == {"random": 640, "class_mean": 640, "uint8": 640, "fp32": 2560}


CANVAS: dict[str, Any] = {
    "canvas": 2,
    "storage": "fp16",
    "iterations": 1,
    "student_steps": 1,
    "expert_epochs": 1,
    "max_start_epoch": 1,
    "expert": dd.ExpertRecipe(model="mlp", augment="", experts=1, snapshots=1, batch_size=512),
    "train": dd.TrainRecipe(model="mlp", steps=1),
}


def test_a_canvas_is_weighed_by_its_bytes_on_every_board(tmp_path: Path) -> None:
    method = dd.methods.TrajectoryMatching(name="drawn", ipc=3, **CANVAS)
    small = dd.distill("digits", method, store=tmp_path, progress=False)
    assert small.nbytes.images == 10 * 3 * 4 * 64 * 2
    named = ("random", "random_packed", "random_bytes")
    report = dd.evaluate(small, "digits", baselines=named[:2], **FAST)
    assert [(row.bytes or 0) - 80 * count for row, count in zip(report.rows, (3, 6, 12), strict=True)] == [15360] * 3
    assert "a canvas counts as 4 images, its bytes: 12 a class in the baselines" in report.notes
    whole = dd.methods.TrajectoryMatching(name="bytes", ipc=3, **{**CANVAS, "storage": "uint8"})
    board = dd.benchmark("digits", [method, whole], ipc=3, baselines=named, store=tmp_path, **{**FAST, "repeats": 1})
    size = {cell["set"]: cell["bytes"]["images"] for cell in board.cells}
    assert size["drawn"] == size["random_packed of drawn"] == size["random_bytes of drawn"] == 15360
    assert size["bytes"] == size["random_packed of bytes"] == 7680
    assert "random_bytes of bytes" not in size  # real pictures lose nothing in uint8


def test_beside_labels_of_teachers_stand_pictures_in_uint8_as_theirs(tmp_path: Path) -> None:
    model = "convnet(width=4, depth=1, norm=batch)"
    given: dict[str, Any] = {"iterations": 1, "committee": [model], "teacher": {"epochs": 1, "batch_size": 512}}
    given |= {"label_epochs": 1, "train": {"model": model, "steps": 1, "batch_size": 7}}
    small = dd.distill("digits", "cda", ipc=2, store=tmp_path, progress=False, **given)
    rows = dd.evaluate(small, "digits", store=tmp_path, **FAST).rows
    images = 20 * 64
    assert {row.set: row.bytes for row in rows} == {
        "cda": images + small.nbytes.labels,
        "random": images + 20 * 8,
        "random_labels": images + small.nbytes.labels,
        "hard": images + 20 * 8,
    }
    hard = small.hard()
    assert torch.equal(hard.pictures(), small.pictures())
    assert dd.load(hard.save(tmp_path / "hard")) == hard
    assert small.nbytes.images == hard.nbytes.images == images


def test_a_whitened_set_has_packed_images_in_its_own_model_space() -> None:
    small = dd.distill("digits", "random", ipc=1, whiten=True, factor=2, progress=False)
    real, run = dd.load_images("digits"), dd.Run(seed=3)
    beside = BesideImages(real=real, ipc=1, recipe=small.recipe, small=small, layout=small.layout, stored=1)
    (one, *_) = IMAGE_BASELINES["random_packed"].sets(beside, run)
    seed = child_seed(3, "draw", 0)
    wanted: Any = dd.distill(real, METHODS["random"](ipc=1, factor=2, whiten=True), seed=seed, progress=False)
    torch.testing.assert_close(one.stored_images, wanted.stored_images, rtol=0, atol=1e-4)


def test_a_benchmark_has_rows_beside_each_method_with_a_layout() -> None:
    methods = [METHODS["random"](name="laid", **LAID), METHODS["random"](name="cut", factor=2), "infer"]
    given: dict[str, Any] = {"ipc": 4, "baselines": ("random", "random_packed", "random_bytes"), **FAST}
    board = dd.benchmark("digits", methods, **{**given, "repeats": 1})
    names = ["random", "laid", "cut", "infer", "random_packed of laid", "random_bytes of laid", "random_packed of cut"]
    assert sorted(cell["set"] for cell in board.cells) == sorted(names)
    size = {cell["set"]: cell["bytes"]["images"] for cell in board.cells if cell.get("bytes")}
    assert size["laid"] == size["random_packed of laid"] == size["random_bytes of laid"] == 10 * 4 * 64
    assert size["cut"] == size["random_packed of cut"] == 4 * size["laid"]
    assert size["random"] == 10 * 4 * 64  # as many, in the bits of the trajectory presets
    assert not any(cell.get("beside") for cell in board.cells)  # that is of labels


def test_a_set_with_the_name_of_a_baseline_does_not_tune_it() -> None:
    small = dd.distill("digits", "random", ipc=1, progress=False)
    recipe = dd.evaluate(small, "digits", baselines="random", **FAST).rows
    tuned = dd.evaluate(small, "digits", baselines=("random", "random_tuned"), lr="tuned", **FAST).rows
    assert [row.set for row in tuned] == ["random", "random (baseline)", "random_tuned"]
    assert (tuned[1].lr, tuned[1].values) == (small.recipe.lr, recipe[1].values)


def test_nothing_is_read_from_the_name_of_a_baseline_of_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("random_sum", "random_trees", "herding", "full", "node_count")
    for name in names:
        monkeypatch.setitem(
            GRAPH_BASELINES, f"my_{name}", dataclasses.replace(GRAPH_BASELINES[name], name=f"my_{name}")
        )
    real = graphs()
    report = evaluate(distil(real), real, baselines=[f"{prefix}{name}" for prefix in ("", "my_") for name in names])
    rows = {row.set: (row.values, row.model, row.steps) for row in report.rows}
    assert {name: rows[name] for name in names} == {name: rows[f"my_{name}"] for name in names}
    given: dict[str, Any] = {**FAST, "models": "gin(width=4)", "budget_bytes": 500}
    board = dd.benchmark(
        real, dd.methods.Mirage(depth=1), baselines=("my_random_sum", "my_full", "my_node_count"), **given
    )
    told = [(cell["set"], cell["budget"], cell["model"], cell["streams"][1]) for cell in board.cells]
    assert told == [
        ("my_random_sum", 500, "gin(width=4)", "two draws"),
        ("mirage", 500, "gin(width=4)", "one set"),
        ("my_full", None, "gin(width=4)", "one set"),
        ("my_node_count", None, "", "one set"),
    ]


def test_progress_knows_how_many_rows_there_will_be() -> None:
    seen: list[tuple[int, int]] = []
    small = dd.distill("digits-graphs", "mirage", budget_bytes=2048, progress=False)
    given = {**FAST, "models": ["gin(width=4)", "gcn(width=4)"], "early_stop": True}
    given["progress"] = lambda done, total, _: seen.append((done, total))
    report = dd.evaluate(small, "digits-graphs", baselines=("full", "node_count"), **given)
    assert seen == [(n + 1, len(report.rows)) for n in range(9)]
