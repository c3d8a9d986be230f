"""What the benches share: the convolutions of a step alone, the bound that they set, and the command line."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dd.models import build

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def common(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "bench"))
    import common

    return common


class Seen(TorchDispatchMode):
    """Operations under way: name, shapes of the first three tensors, and which gradients are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[Any] = Counter()
        self.others = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "convolution" in func.name():
            masks = [tuple(a) for a in args if isinstance(a, list) and a and isinstance(a[0], bool)]
            self.found[func.name(), *(tuple(a.shape) for a in args[:3] if isinstance(a, Tensor)), *masks] += 1
        else:
            self.others += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("last", [False, True])
def test_the_convolutions_alone_are_those_of_a_training_step(common: ModuleType, last: bool) -> None:
    net = common.usual(build("convnet(width=4, depth=2)", channels=3, classes=2, size=(8, 8), seed=0))
    x = torch.randn(5, 3, 8, 8)
    with Seen() as step:
        net(x).sum().backward()
    run = common.convolutions(net, x, last)
    with Seen() as alone:
        run()
    assert alone.found == step.found
    assert alone.found.total() == 4
    assert step.others > 0
    assert not alone.others
    run = common.convolutions(net, x, last, backward=False)
    with Seen() as forward:
        run()
    assert forward.found.total() == 2


def test_the_bound_by_hand(common: ModuleType) -> None:
    told = common.bound(4.0, {"convolutions": 3.0, "convolutions_last": 2.0})
    shares = "share of the plain loop's CPU seconds: convolutions 75 %, convolutions_last 50 %"
    assert told == f"{shares}; with all else for nothing 2.00x"
    assert common.bound(4.0, {}) == ""


def test_words_that_benches_share_are_read_and_refused(common: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    def read(*words: str) -> Any:
        parser = common.command_line("A bench.\n\nMore.", ("a", "b", "c"), usual="a,b", threads=1)
        parser.add_argument("--steps", type=int, default=4)
        return common.parsed(parser, list(words), ("a", "b", "c"), steps=2)

    assert (read().rows, read().threads, read().json) == (["a", "b"], 1, False)
    assert read("--rows", "c", "--threads", "3").rows == ["c"]
    for words, wanted in (
        (["--rows", "a,d"], "unknown row 'd'; known: a, b, c"),
        (["--steps", "1"], "--steps must be at least 2; got 1"),
        (["--threads", "0"], "--threads must be at least 1; got 0"),
    ):
        with pytest.raises(SystemExit):
            read(*words)
        assert wanted in capsys.readouterr().err
