"""Devices that users name: those of this machine, and nothing that loses the numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dd.base.devices import check_device, moved
from dd.errors import InputError


def test_the_cpu_is_there() -> None:
    assert check_device("cpu") == check_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize(
    ("device", "text"),
    [
        ("gpu", "`device` must be a torch device such as 'cpu' or 'cuda:0'; got 'gpu'"),
        (None, "`device` must be a torch device such as 'cpu' or 'cuda:0'; got None"),
        (torch.float16, "`device` must be a torch device"),
        ("meta", "`device` must be a device that keeps numbers, such as 'cpu' or 'cuda:0'; got 'meta'"),
        ("cuda:99", r"`device` must be a device of this machine; got 'cuda:99'. (No CUDA device|Torch sees \d+)"),
        ("xla", "`device` must be a device of this machine; got 'xla'. Give 'cpu'."),
    ],
)
def test_others_are_refused(device: Any, text: str) -> None:
    with pytest.raises(InputError, match=text):
        check_device(device)


def test_what_goes_to_a_gpu_goes_by_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    x, seen = torch.arange(3), list[object]()
    assert moved(x, torch.device("cpu")) is x
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: seen.append("pinned") or self)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, device, non_blocking=False: seen.append(non_blocking))
    moved(x, torch.device("cuda", 1))
    assert seen == ["pinned", True]
