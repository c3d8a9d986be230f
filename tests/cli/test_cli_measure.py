"""`ddistill measure`: tables or one JSON object, arguments that reach the metric, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import dd
from dd.base.files import read_json
from dd.cli.measure import METRICS, run_measure
from dd.errors import InputError
from dd.synthetic import SyntheticImages, TrainRecipe
from dd.transforms.whiten import Normalise


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A saved set of one real digit a class."""
    real, transform = dd.load_images("digits"), Normalise((0.3,), (0.35,))
    rows = torch.stack([real.class_index(k)[0] for k in range(10)])
    made = SyntheticImages(
        images=transform.forward(real.train.pixels(rows)),
        labels=real.train.labels[rows],
        classes=real.classes,
        recipe=TrainRecipe(model="mlp", steps=3, lr=0.05),
        transform=transform,
        method={"name": "first"},
    )
    return made.save(tmp_path / "set.safetensors")


def test_tables_json_and_file(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(path), "digits", "--quiet", "--repeats", "2", "--out", str(tmp_path / "m.json")]
    found = run_measure(words)
    out = capsys.readouterr().out
    assert "first on digits, mlp: calibration" in out
    assert "distance to the nearest training image" in out
    assert found.pop("json") is False
    assert read_json(tmp_path / "m.json") == json.loads(json.dumps(found))
    assert list(found["measures"]) == ["calibration", "neighbours"]
    assert found["measures"]["calibration"]["figures"]["ece"]["n"] == 2
    assert found["measures"]["neighbours"]["distance"] == pytest.approx([0.0] * 10, abs=1e-5)
    told = run_measure([str(path), "digits", "--metrics", "neighbours", "--json", "--quiet"])
    assert told["json"] is True
    assert capsys.readouterr().out == ""


def test_arguments_reach_the_metric(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    seen: dict[str, dict[str, Any]] = {}

    class Answer:
        def to_json(self) -> dict[str, Any]:
            return {}

    def fake(name: str) -> Any:
        def measure(small: Any, data: Any, **options: Any) -> Answer:
            seen[name] = options
            return Answer()

        return measure

    opened: list[dict[str, Any]] = []

    class Shared:
        def networks(self) -> list[str]:
            return ["net"]

    def bench(small: Any, data: Any, **options: Any) -> Shared:
        opened.append(options)
        return Shared()

    monkeypatch.setattr("dd.measure.bench.open_bench", bench)
    monkeypatch.setattr("dd.cli.measure.METRICS", {name: fake(name) for name in METRICS})
    words = [
        "--metrics",
        ",".join(METRICS),
        "--lr",
        "0.1",
        "--seed",
        "4",
        "--full-steps",
        "9",
        "--model",
        "mlp",
        "--json",
    ]
    run_measure([str(path), "digits", *words])
    assert list(seen) == list(METRICS)
    assert all(options["seed"] == 4 for options in seen.values())
    assert {name for name, options in seen.items() if "full_steps" in options} == {"robust", "architectures"}
    assert {name for name, options in seen.items() if options.get("repeats") == 3} == set(METRICS) - {
        "neighbours",
        "architectures",
    }
    assert seen["robust"]["lr"] == 0.1
    asking = {"calibration", "membership", "adversarial"}
    assert {name for name, options in seen.items() if options.get("networks") == ["net"]} == asking
    assert [options["repeats"] for options in opened] == [3]  # trained once for the three
    assert seen["continual"]["model"] == "mlp"
    assert "lr" not in seen["neighbours"]
    run_measure([str(path), "digits", "--metrics", "robust", "--lr", "tuned", "--json"])
    assert seen["robust"]["lr"] == "tuned"
    assert "steps" not in seen["robust"]


def test_refusals(path: Path) -> None:
    with pytest.raises(InputError, match="unknown metric 'fid'; known: adversarial"):
        run_measure([str(path), "digits", "--metrics", "fid"])
    with pytest.raises(InputError, match="unknown metric ''; known: adversarial"):
        run_measure([str(path), "digits", "--metrics", ""])
