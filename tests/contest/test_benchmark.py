"""Benchmarks: the networks that `dd.evaluate` would train, resumed cell by cell, refusals as rows, shared folders."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.teachers import quick_rded

import dd
from dd.base.files import read_json
from dd.base.locks import locked
from dd.base.seeding import child_seed
from dd.cli.main import main
from dd.contest import benchmark_images
from dd.errors import InputError
from dd.evaluation import Reader
from dd.methods import RandomReal

RECIPE = dd.ExpertRecipe(
    model="convnet(width=4)",
    augment="",
    batch_size=16,
    experts=2,
    snapshots=3,
    snapshot_every=2,
    snapshot_unit="step",
)
METHOD = dd.MTT(
    ipc=1,
    expert=RECIPE,
    iterations=2,
    student_steps=2,
    expert_epochs=1,
    max_start_epoch=3,
    lr_img=1.0,
    train=dd.TrainRecipe(steps=2),
)
FAST: dict[str, Any] = {"models": ["convnet(width=4)"], "repeats": 2, "steps": 3, "progress": False, "device": "cpu"}


def run(out: Path | None = None, **changes: Any) -> dd.Benchmark:
    given = {**FAST, "ipc": 1, "baselines": ("random", "full"), "out": out, **changes}
    return dd.benchmark("digits", given.pop("methods", [METHOD]), **given)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_images_a_class_are_those_of_the_values_where_the_call_says_none(home: Path) -> None:
    one, two = (RandomReal(name=f"own-{ipc}", ipc=ipc) for ipc in (1, 2))
    asked: dict[str, Any] = {"baselines": (), "repeats": 1, "ipc": None}
    assert {cell["budget"] for cell in run(methods=[two], **asked).cells} == {2}
    with pytest.raises(InputError, match=r"`ipc` must be given, where .*; got 1 \(own-1\), 2 \(own-2\)\. It takes"):
        run(methods=[one, two], **asked)


@pytest.mark.parametrize("given", [{"sieve": 1}, {"factor": 2}, {"stepps": 3}])
def test_an_argument_that_a_benchmark_has_not_is_refused_before_any_work(given: dict[str, Any], home: Path) -> None:
    (name,) = given
    with pytest.raises(
        InputError, match=rf"`{name}` must be an argument of `dd\.benchmark` .*; got .*`methods=\[dd\.MTT"
    ):
        run(**given)
    with pytest.raises(InputError, match="`steps` must be a whole number of at least 1; got 0"):
        run(steps=0)


@pytest.mark.parametrize("given", [{"engine": "zzz"}, {"micro_batch": 0}, {"compile": 3}, {"lr": -1}, {"lr": 0.0}])
def test_a_slip_in_the_call_is_no_row_and_leaves_no_cell(given: dict[str, Any], home: Path) -> None:
    """Every method refused it, the rows said so, and the corrected call found them there."""
    (name,) = given
    with pytest.raises(InputError, match=f"`{name}` must be"):
        run(out=home / "board", **given)
    assert not (home / "board").exists()


def test_cells_are_what_evaluate_measures(home: Path) -> None:
    table = run()
    small = dd.distill("digits", METHOD, progress=False)
    row = dd.evaluate(small, "digits", repeats=2, steps=3, baselines=(), models=FAST["models"], progress=False).rows[0]
    assert table.row("mtt").values == row.values
    assert [cell["set"] for cell in table.cells] == ["random", "mtt", "full"]
    assert table.row("full").budget is None
    assert table.row("mtt").first("bytes") == small.nbytes._asdict()
    assert table.row("mtt").first("distill_seconds") > 0


def test_all_sets_share_their_networks(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []
    original = dd.evaluation.NetworkLearner.figures

    def figures(self: Any, small: Any, seeds: Any, *rest: Any) -> Any:
        seen.append(list(seeds))
        return original(self, small, seeds, *rest)

    monkeypatch.setattr(dd.evaluation.NetworkLearner, "figures", figures)
    run(seeds=2, seed=5)
    wanted = [[child_seed(s, "evaluate", 0, r) for r in range(2)] for s in (5, 6)]
    assert seen == wanted * 3


def test_a_folder_is_gone_on_with_and_grows(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = home / "out"
    first = run(out)
    before = {p: p.read_bytes() for p in (out / "cells").iterdir()}
    assert {p.name for p in out.iterdir()} >= {"leaderboard.md", "leaderboard.csv", "leaderboard.json", "cells", "runs"}
    measured: list[str] = []
    original = benchmark_images.ImageBench.measure

    def measure(self: Any, unit: Any, models: Any) -> Any:
        measured.extend(f"{unit.name} {m}" for m in models)
        return original(self, unit, models)

    monkeypatch.setattr(benchmark_images.ImageBench, "measure", measure)
    assert run(out).to_json() == json.loads(json.dumps(first.to_json()))
    assert measured == []
    grown = run(out, models=["convnet(width=4)", "mlp"], seeds=2)
    assert len(grown.cells) == 12
    assert len(measured) == 9  # one of the four of each set was there
    assert all(p.read_bytes() == text for p, text in before.items())
    assert run(out, resume=False).row("mtt").values == first.row("mtt").values


def test_another_protocol_in_the_folder_is_refused(home: Path) -> None:
    out = home / "out"
    run(out, methods=["infer"], baselines=("random",))
    with pytest.raises(InputError, match=r"holds random-1-seed0-convnet-width-4.json of another benchmark \(other rep"):
        run(out, methods=["infer"], baselines=("random",), repeats=3)


def test_refusals_are_rows(home: Path) -> None:
    table = run(home / "out", methods=[METHOD, "infer"], baselines=("random", "class_mean"), ipc=(1, 2))
    assert [(e.set, e.budget) for e in table.entries] == [
        ("random", 1),
        ("class_mean", 1),
        ("mtt", 1),
        ("infer", 1),
        ("random", 2),
        ("mtt", 2),
        ("infer", 2),
    ]
    assert "at least 2 for 1 compensator" in str(table.row("infer", 1).refused)
    assert table.row("infer", 2).values
    assert table.row("mtt", 2).first("bytes")["images"] == 2 * table.row("mtt", 1).first("bytes")["images"]
    assert read_json(home / "out" / "cells" / "infer-1-seed0-convnet-width-4.json")["refused"]


def test_methods_with_labels_of_teachers_stand_beside_random_images_under_them(home: Path) -> None:
    labelled = quick_rded()
    hard = dataclasses.replace(labelled, name="hard", labels="hard", train=dd.TrainRecipe(steps=3))
    table = run(home / "out", methods=[METHOD, labelled, hard], baselines=("random", "random_labels"))
    assert [c["set"] for c in table.cells] == ["random", "mtt", "rded", "hard", "random_labels of rded"]
    own = table.row("random_labels of rded")
    assert own.beside == "rded"
    assert own.first("distill_seconds") is None
    plain = dd.distill("digits", labelled.of_random_images(), progress=False)
    row = dd.evaluate(plain, "digits", repeats=2, steps=3, baselines=(), models=FAST["models"], progress=False).rows[0]
    assert own.values == row.values
    gap = table.against_labels(table.row("rded"))
    assert gap is not None
    assert gap.paired
    assert gap.mean == pytest.approx(sum(table.row("rded").values) / 2 - sum(own.values) / 2)
    assert not list((home / "out" / "runs").glob("random_labels*/synthetic.safetensors"))  # no set of a method
    assert table.row("rded").first("lr") == own.first("lr")


def test_a_method_that_fails_is_run_once_for_all_models(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def distill(*_: Any, **__: Any) -> Any:
        calls.append(1)
        raise dd.DivergedError("not finite")

    monkeypatch.setattr("dd.contest.plan.distill", distill)
    table = run(models=["convnet(width=4)", "mlp"], baselines=())
    assert [cell["refused"] for cell in table.cells] == ["not finite"] * 2
    assert len(calls) == 1


def test_a_model_that_does_not_fit_is_na_alone(home: Path) -> None:
    table = run(models=["convnet(width=4, depth=4)", "convnet(width=4)"], baselines=("random",))
    assert [bool(cell.get("refused")) for cell in table.cells] == [True, False, True, False]


def test_full_data_trains_on_every_image_with_the_same_steps(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    original = dd.evaluation.NetworkLearner.figures

    def figures(self: Any, small: Any, seeds: Any, *rest: Any) -> Any:
        seen.append(len(small))
        return original(self, small, seeds, *rest)

    monkeypatch.setattr(dd.evaluation.NetworkLearner, "figures", figures)
    table = run(baselines=("full", "full_converged"), methods=[METHOD], steps=4)
    real = dd.load_images("digits")
    assert seen[-1] == len(real.train)
    assert table.row("full").first("steps") == 4
    assert table.row("full").first("bytes")["total"] == len(real.train) * (64 + 8)
    assert "steps" in table.row("full_converged").first("selection")


def test_a_unit_of_another_process_is_waited_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, waits = home / "out", []
    lock = locked(out / "runs" / ".mtt-1-seed0.lock")
    assert lock.__enter__()

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        lock.__exit__(None, None, None)

    monkeypatch.setattr("dd.contest.benchmark.time.sleep", sleep)
    assert run(out).row("mtt").values
    assert len(waits) == 1


@pytest.mark.shared
def test_graphs(home: Path, shared_data: Any) -> None:
    root = shared_data("MUTAG") / "tu"
    given = {"budget_bytes": 512, "models": "gin(width=4)", "repeats": 2, "steps": 3, "root": root, "progress": False}
    table = dd.benchmark("MUTAG", "all", baselines=("random", "full", "node_count"), out=home / "out", **given)
    assert table.unit == "bytes"
    assert table.metric == "auroc"
    assert [(c["set"], c["budget"], c["model"]) for c in table.cells] == [
        ("random", 512, "gin(width=4)"),
        ("mirage", 512, "gin(width=4)"),
        ("full", None, "gin(width=4)"),
        ("node_count", None, ""),
    ]
    gap = table.against(table.row("mirage"))
    assert gap is not None
    assert not gap.paired  # random graphs are two draws
    assert "published B" in str(table)


def test_command_line(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["benchmark", "digits", "--methods", "infer", "--ipc", "1,2", "--baselines", "random", "--steps", "2"]
    words += ["--models", "convnet(width=4)", "--repeats", "1", "--threads", "1", "--quiet"]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(r["set"], r["budget"]) for r in told["rows"]] == [("random", 1), ("infer", 1), ("random", 2), ("infer", 2)]
    assert (home / "runs" / "digits-benchmark" / "leaderboard.md").exists()
    assert main(words) == 0
    assert "n/a: infer at 1" in capsys.readouterr().out
    assert main(["benchmark", "digits", "--ipc", "ten"]) == 2
    assert "`ipc` must be whole numbers, by commas; got 'ten'" in capsys.readouterr().err


@pytest.mark.slow  # a second process
def test_workers_share_the_folder(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["benchmark", "digits", "--methods", "infer", "--ipc", "2", "--baselines", "random", "--steps", "2"]
    words += ["--models", "convnet(width=4)", "--repeats", "1", "--quiet", "--json", "--workers", "2"]
    assert main(words) == 0
    assert len(json.loads(capsys.readouterr().out)["cells"]) == 2


def test_a_reader_of_another_network_or_strength_is_not_served_the_cell_of_the_first(home: Path) -> None:
    """A kept cell of `ridge` was one of the network that stood first when it was made."""
    given: dict[str, Any] = {"baselines": ("random",), "methods": [METHOD], "repeats": 1}
    shown: set[str] = set()
    for models in (["convnet(width=4)", "ridge"], ["mlp", "ridge"], ["mlp", Reader("ridge", strength=1000)]):
        kept_there, fresh = (run(out, **{**given, "models": models}) for out in (home / "out", None))
        a, b = ([(c["set"], c["values"]) for c in t.cells if "ridge" in c["model"]] for t in (kept_there, fresh))
        assert a == b != []
        shown |= {c["model"] for c in kept_there.cells if c["model"].startswith("ridge")}
    assert len(shown) == 3


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"methods": ["mttt"]}, "unknown method for images 'mttt'"),
        ({"methods": ["infer", "infer"]}, "`methods` must be different names; got 'infer' twice"),
        ({"methods": ["mirage"]}, "unknown method for images 'mirage'"),
        ({"methods": []}, "`methods` must be at least one"),
        (
            {"methods": ["random", "infer"]},
            "`methods` must be names of methods; got 'random', which is a baseline.",
        ),
        ({"methods": ["infer,rded"]}, "unknown method for images 'infer,rded'"),
        ({"baselines": ["randm"]}, "unknown baseline 'randm'"),
        ({"ipc": ()}, "`ipc` must be one or more whole numbers"),
        ({"ipc": (1, 1)}, "`ipc` must be one or more whole numbers, each once"),
        ({"ipc": 1.5}, "`ipc` must be a whole number of at least 1; got 1.5"),
        ({"ipc": {1: 2}}, "`ipc` must be a whole number of at least 1; got {1: 2}"),
        ({"models": []}, "`models` must be at least one network, or None"),
        ({"repeats": 0}, "`repeats` must be a whole number of at least 1"),
        ({"lr": "best"}, "`lr` must be `recipe`, `tuned` or a number; got 'best'"),
    ],
)
def test_refusals(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text.replace("(", r"\(")):
        run(**changes)


@pytest.mark.parametrize("protocol", ["clean", "paper"])
def test_baselines_of_a_published_row_do_not_have_its_first_step_size(
    home: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    """It is made for matching: 0.001 in CIFAR-10's row of 10 images a class."""
    digits = dd.load_images("digits").all_train()
    assert digits.test is not None
    pairs = [(s.pixels().repeat(1, 3, 1, 1), s.labels) for s in (digits.train, digits.test)]
    real = dd.Images(train=pairs[0], test=pairs[1], name="cifar10")
    given: dict[str, Any] = {**FAST, "ipc": 10, "methods": ["mtt"], "baselines": ("random", "full"), "steps": 2}

    def quick(**_: Any) -> dd.methods.TrajectoryMatching:
        return dataclasses.replace(METHOD, ipc=10)

    monkeypatch.setitem(dd.methods.METHODS, "mtt", quick)
    found = dd.benchmark(real, **given, preset="paper", protocol=protocol, lr="recipe")
    told = {row: found.row(row).first("lr") for row in ("random", "full")}
    base = dd.methods.presets.preset("mtt", "cifar10", 10, "paper").fields
    if protocol == "paper":
        assert told == {"random": base["expert"].lr, "full": base["expert"].lr}
        assert "step size: that of its experts" in found.notes[0]
    else:
        assert set(told.values()) <= set(dd.evaluation.LR_GRID)
        assert "step size: tuned on held-out images" in found.notes[0]
    assert base["lr_init"] == 0.001


def test_tuning_without_a_validation_split_is_refused_before_any_cell() -> None:
    told = r"`lr` must be `recipe` or a number, since digits\S* has no validation split; got `tuned`"
    with pytest.raises(InputError, match=told):
        dd.benchmark("digits", "all", lr="tuned", protocol="paper", progress=False)
    graphs = dataclasses.replace(dd.load_graphs("digits-graphs"), val=None)
    with pytest.raises(InputError, match=told):
        dd.benchmark(graphs, "all", lr="tuned", progress=False)


def test_data_without_test_or_training_images_is_refused() -> None:
    labels = torch.arange(20) % 2
    pixels = torch.randint(0, 256, (20, 1, 8, 8)).to(torch.uint8)
    with pytest.raises(InputError, match="with training and test images"):
        dd.benchmark((pixels, labels), "infer", **FAST)


@pytest.mark.parametrize("resume", [True, False])
def test_files_of_that_name_that_no_benchmark_wrote_are_kept(home: Path, resume: bool) -> None:
    board = home / "out" / "leaderboard.csv"
    board.parent.mkdir()
    board.write_text("mine")
    text = "`out` must be a new folder, or one of a benchmark; got out, which has leaderboard.csv and no cells"
    with pytest.raises(InputError, match=text):
        run(Path("out"), resume=resume)
    board.rename(home / "moved away")
    cell = home / "out" / "cells" / "random-1-seed0-convnet-width-4.json"
    cell.parent.mkdir()
    cell.write_text('["mine"]')
    with pytest.raises(InputError, match=rf"which has cells/{cell.name} that is no cell. Name another folder"):
        run(Path("out"), resume=resume, baselines=("random",))
    assert cell.read_text() == '["mine"]'
    cell.unlink()
    run(Path("out"), resume=resume, baselines=("random",))
    assert len(run(Path("out"), resume=resume, baselines=("random",)).cells) == 2


class BlendOfNone(dd.methods.RandomReal):
    """A method that takes no budget of the benchmark's."""

    def __post_init__(self) -> None:
        if self.ipc != 10:
            raise dd.errors.refuse("ipc", "10", self.ipc)


def test_a_leaderboard_without_cells_is_known_again(home: Path) -> None:
    for _ in range(2):
        refused = run(Path("out"), methods=[BlendOfNone(name="blend")], baselines=()).cells
        assert [cell["values"] for cell in refused] == [[]]
        assert (home / "out" / "leaderboard.md").exists()
        assert not (home / "out" / "cells").exists()
