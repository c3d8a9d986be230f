"""The bench of evaluation runs in its rows, and its plain loop is the library's; speeds are not asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


def test_the_plain_loop_is_the_same_mathematics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "bench"))
    import evaluate as bench
    import plain

    from dd import evaluation
    from dd.evaluation import NetworkLearner

    small, test = bench.setting(Namespace(images=10, steps=4, test=30, model="convnet(width=4)"))
    kept: list[torch.nn.Module] = []
    original = evaluation.fresh

    def fresh(*given: object) -> torch.nn.Module:
        kept.append(original(*given))  # type: ignore[arg-type]
        return kept[-1]

    monkeypatch.setattr(evaluation, "fresh", fresh)
    monkeypatch.setattr("torch.utils.data.DataLoader", _in_order(torch.utils.data.DataLoader))
    plain.plain_evaluation(small, test, 2)
    for seed, net in enumerate(kept):
        ours = NetworkLearner().fit(small, seed).net
        for p, q in zip(ours.parameters(), net.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)


def _in_order(loader: type) -> object:
    return lambda data, batch_size, shuffle=False: loader(data, batch_size=batch_size)


@pytest.mark.slow  # a process a row
def test_one_object_with_the_rows() -> None:
    script = ROOT / "scripts" / "bench" / "evaluate.py"
    tiny = ["--model", "convnet(width=4)", "--networks", "2", "--images", "10", "--steps", "2", "--test", "20"]
    tiny += ["--repeats", "1", "--rows", "usual,library,vmap,convolutions_last"]
    words = [sys.executable, str(script), *tiny, "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) == {"usual", "library", "vmap", "convolutions_last"}
    assert "ratio" in done.stderr
    assert "share of the plain loop's CPU seconds: convolutions_last" in done.stderr
