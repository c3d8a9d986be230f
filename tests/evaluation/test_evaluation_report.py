"""Step sizes tuned on the validation split, and the report."""

from __future__ import annotations

import dataclasses
import math
import re
import statistics
import subprocess
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
import torch
from reference.evaluation import CPU, data, small
from torch import nn

import dd
from dd.base import files
from dd.data import Images, Split
from dd.errors import DivergedError, InputError
from dd.evaluation import (
    LR_GRID,
    EvalReport,
    NetworkLearner,
    NetworkPredictor,
    Row,
    Scorer,
    fresh,
    learners,
    mean_std,
    origin,
    report,
    tune_lr,
)
from dd.evaluation.scores import Figures
from dd.synthetic import SyntheticImages, TrainRecipe

# Tuning


@dataclasses.dataclass
class Fake:
    """Training and scoring replaced by a table; keeps which split each step size was scored on."""

    table: dict[float, float]
    seen: list[tuple[str, float]] = dataclasses.field(default_factory=list)

    def patch(self, monkeypatch: pytest.MonkeyPatch, real: Images) -> None:
        def fit(
            value: SyntheticImages, net: nn.Module, recipe: TrainRecipe, seed: int, device: Any, forward: Any
        ) -> nn.Module:
            if self.table.get(recipe.lr, 0.5) < 0:
                raise DivergedError("diverged")
            net.lr = recipe.lr  # type: ignore[assignment]
            return net

        def score(net: Any, split: Split, transform: Any, device: Any) -> float:
            for name in ("val", "test"):
                if getattr(real, name) is not None and split.fingerprint == getattr(real, name).fingerprint:
                    self.seen.append((name, net.lr))
                    return self.table.get(net.lr, 0.5) if name == "val" else 1 - self.table.get(net.lr, 0.5)
            raise AssertionError("scored on another split")

        monkeypatch.setattr(learners, "fit", fit)
        monkeypatch.setattr(learners, "accuracy", score)

        def told(scorer: Scorer, net: Any, transform: Any, metric: str) -> Figures:
            return Figures({metric: score(net, scorer.split, transform, CPU)}, (None,) * 3)

        monkeypatch.setattr(Scorer, "figures", told)


def test_tuning_takes_the_best_on_val(monkeypatch: pytest.MonkeyPatch) -> None:
    real = data()
    assert real.val is not None
    for table, best in (
        ({0.03: 0.9}, 0.03),
        ({0.001: 0.7, 0.01: 0.7}, 0.001),  # the smallest of equals
        ({0.3: 0.8, 0.1: -1.0}, 0.3),  # one that diverges is passed over
        (dict.fromkeys(LR_GRID[1:], -1.0), LR_GRID[0]),
    ):
        fake = Fake(table)
        fake.patch(monkeypatch, real)
        learner = tune_lr(NetworkLearner(steps=3), small(), real.val, seed=0, repeats=2)
        assert learner == NetworkLearner(steps=3, lr=best)
        assert fake.seen == [("val", lr) for lr in LR_GRID if table.get(lr, 0) >= 0 for _ in range(2)]
    Fake(dict.fromkeys(LR_GRID, -1.0)).patch(monkeypatch, real)
    with pytest.raises(DivergedError, match=r"diverged with every lr of \(0.001, .*Give `lr` yourself"):
        tune_lr(NetworkLearner(), small(), real.val, seed=0)


def test_evaluate_tunes_on_val_and_reports_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    real = data()
    fake = Fake({0.03: 0.9, 0.1: 0.8})  # the test split would choose another one
    fake.patch(monkeypatch, real)
    result = dd.evaluate(small(), real, lr="tuned", baselines=("random", "random_tuned"), repeats=2, progress=False)
    assert [(row.set, row.lr) for row in result.rows] == [("mine", 0.03), ("random", 0.05), ("random_tuned", 0.03)]
    assert [lr for name, lr in fake.seen if name == "val"] == list(LR_GRID) * 2
    assert {lr for name, lr in fake.seen if name == "test"} == {0.03, 0.05}
    assert result.mean == pytest.approx(0.1)  # the test's, not the one that chose it
    with pytest.raises(InputError, match=r"`lr` must be `recipe` or a number.*no validation split; got tuned"):
        dd.evaluate(dataclasses.replace(small(), provenance={"protocol": "paper"}), real, lr="tuned", progress=False)


def test_same_seed_same_report() -> None:
    value, real = small(), data()
    first, again, other = (
        dd.evaluate(value, real, repeats=3, steps=20, seed=seed, progress=False, device="cpu") for seed in (0, 0, 1)
    )
    assert [row.values for row in first.rows] == [row.values for row in again.rows]
    assert [row.values for row in first.rows] != [row.values for row in other.rows]
    assert [(row.set, row.steps, len(row.values)) for row in first.rows] == [("mine", 20, 3), ("random", 20, 6)]


# The report


def test_mean_and_sample_std() -> None:
    mean, std = mean_std([0.25, 0.5, 0.75, 1.0])
    assert mean == 0.625
    assert std == pytest.approx(0.3227486121839514)  # √(0.3125 / 3): n − 1, not n
    values = torch.rand(7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).tolist()
    assert mean_std(values) == pytest.approx((statistics.mean(values), statistics.stdev(values)))
    assert mean_std([0.4]) == (0.4, None)
    assert mean_std([0.4] * 3)[1] == pytest.approx(0.0, abs=1e-12)


def row(*values: float, **fields: Any) -> Row:
    return Row(**{"set": "mtt", "model": "convnet", "steps": 9, "lr": 0.1, "seconds": 1.23456, **fields}, values=values)


@pytest.mark.parametrize("values", [(0.5, 0.6), (0.2, 0.4, 0.45), (0.1, 0.2, 0.3, 0.3, 0.9)])
def test_interval_is_students(values: tuple[float, ...]) -> None:
    found = row(*values)
    assert found.interval is not None
    sem = scipy.stats.sem(values)  # n − 1 by default
    low, high = scipy.stats.t.interval(0.95, len(values) - 1, loc=found.mean, scale=sem)
    assert (found.mean - found.interval, found.mean + found.interval) == pytest.approx((low, high))


def test_interval_of_several_draws_is_over_their_means() -> None:
    found = dataclasses.replace(row(0.40, 0.42, 0.30, 0.32, 0.52, 0.54), draws=3)
    assert found.interval == row(0.41, 0.31, 0.53).interval
    assert found.to_json()["draws"] == 3
    assert found.records()[0]["interval95"] == found.interval
    assert found.std == row(*found.values).std  # of networks, as before


def test_interval_golden() -> None:
    assert row(0.5, 0.6).interval == pytest.approx(12.706204736 * math.sqrt(0.005) / math.sqrt(2))  # t(0.975; 1)
    assert row(0.5).interval is None


def made(**fields: Any) -> EvalReport:
    base: dict[str, Any] = {
        "dataset": "digits",
        "split": "test",
        "protocol": "clean",
        "selection": "last iterate",
        "method": "mtt, 10 images",
        "rows": (row(0.5, 0.6), row(0.25, set="random")),
        "bytes": {"images": 2560, "labels": 80, "extras": 100, "total": 2740},
        "origin": origin(7, CPU),
        "notes": ("no class_mean row",),
    }
    return EvalReport(**{**base, **fields})


def test_report_json_has_the_fields_of_the_contract(tmp_path: Path) -> None:
    value = made()
    value.save(tmp_path / "report.json")
    told = files.read_json(tmp_path / "report.json")
    assert told == value.to_json()
    assert {"format", "dataset", "split", "protocol", "selection", "method", "rows", "bytes", "origin"} <= told.keys()
    wanted = {"set", "model", "metric", "mean", "std", "n", "values", "steps", "lr", "seconds"}
    assert all(wanted <= entry.keys() for entry in told["rows"])
    assert told["bytes"].keys() == {"images", "labels", "extras", "total"}
    assert told["origin"].keys() == {"seed", "commit", "versions", "machine", "threads"}
    first, second = told["rows"]
    assert (first["mean"], first["n"], first["values"]) == (pytest.approx(0.55), 2, [0.5, 0.6])
    assert first["std"] == pytest.approx(0.0707106781)
    assert (first["seconds"], first["metric"]) == (1.235, "accuracy")
    assert (second["std"], second["interval95"]) == (None, None)
    assert told["format"] == 1
    assert (value.mean, value.std) == (value.rows[0].mean, value.rows[0].std)


def test_report_of_a_run_has_the_bytes_of_its_file(tmp_path: Path) -> None:
    path = small().save(tmp_path / "x.safetensors")
    result = dd.evaluate(path, data(), repeats=1, steps=1, baselines=(), progress=False)
    assert result.bytes["total"] == path.stat().st_size
    assert result.bytes["images"] == 9 * 64 * 4
    assert result.bytes["labels"] == 9 * 8
    assert sum(result.bytes[name] for name in ("images", "labels", "extras")) == result.bytes["total"]
    assert files.dump_json(result.to_json())


def test_report_prints_a_table() -> None:
    lines = str(made()).splitlines()
    assert lines[0] == "mtt, 10 images on digits (test split, protocol clean: last iterate)"
    assert "55.0 ± 7.1" in lines[2]
    assert "25.0 " in lines[3]
    assert "±" not in lines[3]
    assert lines[-2:] == ["bytes: images 2,560, labels 80, extras 100, total 2,740", "note: no class_mean row"]


def test_a_table_says_the_bytes_of_each_row_and_what_the_rows_are() -> None:
    rows = (row(0.5, 0.6, bytes=2640), row(0.25, set="full", steps=0, lr=0.0))
    value = made(rows=rows, about={"full": "all training images, 3 draws"})
    heads, cells = value.table()
    assert heads[3:] == ["n", "bytes", "steps", "lr", "s"]
    assert [line[3:7] for line in cells] == [["2", "2,640", "9", "0.1"], ["1", "–", "–", "–"]]
    text = "rows: full: all training images, 3 draws. n is networks: of several draws, draws × networks of each; ± is"
    assert value.legend[1].startswith(text)
    told = value.to_json()
    assert ([entry["bytes"] for entry in told["rows"]], told["about"]) == ([2640, None], dict(value.about))


def test_a_report_without_bytes_of_rows_is_read(tmp_path: Path) -> None:
    told = made().to_json()
    del told["about"]
    for entry in told["rows"]:
        del entry["bytes"]
    files.write_json(tmp_path / "report.json", told)
    assert files.read_json(tmp_path / "report.json", "report") == told


RARE = {"common": 95, "rare": 5}


def told(accuracy: float, *recalls: float | None) -> Figures:
    known = [share for share in recalls if share is not None]
    return Figures({"accuracy": accuracy, "balanced_accuracy": sum(known) / len(known)}, recalls)


def a_row(*found: Figures, metric: str = "accuracy", name: str = "mtt") -> Row:
    return Row.of(found, metric, set=name, model="convnet", steps=9, lr=0.1, seconds=1.0)


def test_a_row_keeps_what_its_networks_score_otherwise() -> None:
    found = a_row(told(0.94, 0.98, 0.2), told(0.96, 1.0, 0.3))
    assert found.values == (0.94, 0.96)
    assert found.by("balanced_accuracy") == pytest.approx((0.59, 0.65))
    assert (found.by("accuracy"), found.by("auroc")) == (found.values, None)
    assert found.recall == pytest.approx((0.99, 0.25))
    entry = found.to_json()
    other = entry["other_metrics"]["balanced_accuracy"]
    assert (other["mean"], other["std"]) == pytest.approx((0.62, 0.06 / math.sqrt(2)))
    assert entry["recall"] == list(found.recall)
    balanced = a_row(told(0.94, 0.98, None), metric="balanced_accuracy")
    assert (balanced.values, balanced.recall, balanced.by("accuracy")) == ((0.98,), (0.98, None), (0.94,))


def test_balanced_accuracy_is_shown_where_classes_are_uneven() -> None:
    rows = (a_row(told(0.94, 0.98, 0.2), told(0.96, 1.0, 0.3)), a_row(told(0.5, 0.5, 0.5), name="random"))
    lines = str(made(rows=rows, support=RARE)).splitlines()
    assert re.search(r"accuracy % +balanced accuracy % +n", lines[1])
    assert re.search(r"95\.0 ± 1\.4 +62\.0 ± 4\.2 +2 ", lines[2])
    assert re.search(r" 50\.0 +50\.0 +1 ", lines[3])
    assert len({len(line) for line in lines[1:4]}) == 1
    assert "balanced" not in str(made(rows=rows, support={"a": 60, "b": 41}))
    assert "balanced" in str(made(rows=rows, support={"a": 60, "b": 40}))
    assert "balanced" in str(made(rows=rows, support={"a": 60, "b": 0}))
    assert made(rows=rows, support=RARE).to_json()["support"] == RARE


def test_an_accuracy_no_better_than_the_largest_class_is_said() -> None:
    good, poor = a_row(told(0.96, 1.0, 0.3)), a_row(told(0.95, 1.0, 0.0), name="random")
    text = "accuracy no better than always saying the largest class, 95.0 % right: random (convnet)"
    assert report.no_better([good, poor, poor], [95, 5]) == [text]
    assert report.no_better([good], [95, 5]) == []
    assert report.no_better([a_row(told(0.9, 1.0, 0.0), metric="balanced_accuracy")], [95, 5]) == []


def rare(seed: int, n: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y = (torch.rand(n, generator=generator) < 0.1).long()
    x = torch.randint(0, 200, (n, 1, 8, 8), generator=generator)
    x[:, :, :2] += 20 * y[:, None, None, None]
    return x.to(torch.uint8), y


def test_evaluate_of_uneven_images(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Images(train=rare(1), test=rare(2))
    value = dd.distill(real, "random", ipc=3, progress=False, device="cpu")
    options: dict[str, Any] = {"models": "convnet(width=4)", "repeats": 2, "steps": 3, "progress": False}
    found = dd.evaluate(value, real, device="cpu", **options)
    counts = rare(2)[1].bincount().tolist()
    assert found.support == {"0": counts[0], "1": counts[1]}
    assert len(found.rows[0].other_metrics["auroc"]) == 2
    for row in found.rows:  # accuracy is the mean of recalls by the share of the class
        shares = [n * float(share or 0) for n, share in zip(counts, row.recall, strict=True)]
        assert row.mean == pytest.approx(sum(shares) / sum(counts))
    assert any(note.startswith("accuracy no better than always saying the largest class") for note in found.notes)
    for metric in ("balanced_accuracy", "auroc"):
        other = dd.evaluate(value, real, device="cpu", metric=metric, baselines=(), **options)
        assert other.rows[0].values == found.rows[0].other_metrics[metric]
        assert other.rows[0].by("accuracy") == found.rows[0].values
    with pytest.raises(InputError, match="unknown metric 'f1'; known: accuracy, auroc, balanced_accuracy"):
        dd.evaluate(value, real, metric="f1", **options)
    x, y = rare(2)
    with pytest.raises(InputError, match=r"got none of class 1\. AUROC needs every class in the split"):
        dd.evaluate(value, Images(train=real.train, test=(x[y == 0], y[y == 0])), metric="auroc", **options)
    asked: list[str] = []

    def score(self: NetworkPredictor, split: Split, metric: str = "accuracy") -> float:
        asked.append(metric)
        return 0.5

    monkeypatch.setattr(NetworkPredictor, "score", score)
    dd.evaluate(value, real, metric="auroc", lr="tuned", baselines=(), **options)
    assert asked == ["auroc"] * len(LR_GRID)


def test_report_refuses_numbers_that_json_has_no_word_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="for JSON"):
        made(rows=(row(float("nan")),)).save(tmp_path / "report.json")
    assert not list(tmp_path.iterdir())


def test_origin_knows_the_machine_and_needs_no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    found = origin(7, CPU)
    assert (found["seed"], found["threads"]) == (7, torch.get_num_threads())
    assert found["versions"]["torch"] == str(torch.__version__).partition("+")[0] or torch.__version__
    assert found["machine"].endswith(", cpu")

    def absent(*_: object, **__: object) -> None:
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", absent)
    assert report.origin(7, CPU)["commit"] is None


def test_predictor_needs_a_transform() -> None:
    value = dataclasses.replace(small(), transform=None, transform_record={"kind": "zca"})
    with pytest.raises(InputError, match="saved without its matrix"):
        NetworkPredictor(fresh(value, "mlp", 0, CPU), value, CPU).score(data().train)
