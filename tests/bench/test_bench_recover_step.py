"""The bench of recovery runs in its rows, and its plain loop is the library's; speeds are not asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dd.methods.decoupled.recovery import Recovery, recover_block
from dd.models import build
from dd.teachers import Teacher
from dd.transforms.whiten import Normalise

ROOT = Path(__file__).resolve().parents[2]


def test_the_plain_loop_is_the_same_mathematics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "bench"))
    from plain import plain_recovery
    from torchvision.transforms import v2

    monkeypatch.setattr(v2, "Compose", lambda _: lambda x: x)
    monkeypatch.setattr(torch, "randint", lambda *_: torch.tensor(0))
    transform = Normalise(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    nets = [
        build(f"convnet(width={w}, depth=2, norm=batch)", channels=3, classes=4, size=(8, 8), seed=w) for w in (4, 6)
    ]
    teachers = [(Teacher("t", net, transform), weight) for net, weight in zip(nets, (0.3, 0.7), strict=True)]
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    how = Recovery(
        iterations=3, lr=0.1, bn_weight=0.5, first_bn=10.0, bn_norm="sum", crop=False, shared_crop=True, jitter=0
    )
    fast = recover_block(teachers, x, torch.arange(4), transform, how, 0, (0,))
    plain = plain_recovery(
        [(t.module, w) for t, w in teachers], x, torch.arange(4), transform.mean, transform.std, 3, 0.1, 0.5
    )
    assert torch.allclose(fast, transform.inverse(plain).clamp(0, 1), atol=1e-4)


@pytest.mark.slow  # a process a row
def test_one_object_with_the_rows() -> None:
    script = ROOT / "scripts" / "bench" / "recover_step.py"
    tiny = ["--members", "convnet(width=4, norm=batch);resnet9(width=4)", "--steps", "1", "--repeats", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(script), *tiny, "--json"], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert list(results) == ["library", "plain", "members"]
    assert results["library"]["share"] > 0
    assert "share of the members" in done.stderr
