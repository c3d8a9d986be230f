"""Streams: independent by name, the same for ever, and no trace on the global one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import dd
from dd.base.seeding import child, child_seed, isolated


def test_streams_are_the_same_for_ever() -> None:
    # golden: first 8 bytes, little endian, of `printf 0/order/3 | sha256sum`, shifted right by one
    assert child_seed(0, "order", 3) == int.from_bytes(bytes.fromhex("4b9958534e8d938f"), "little") >> 1
    assert torch.rand(2, generator=child(0, "order", 3)).tolist() == [0.055987536907196045, 0.6500077843666077]


def test_names_and_seeds_tell_streams_apart() -> None:
    tags: list[tuple[int, tuple[str | int, ...]]] = [
        (0, ()),
        (1, ()),
        (-1, ()),
        (0, ("a",)),
        (0, ("b",)),
        (1, ("a",)),
        (0, ("a", "b")),
        (0, ("b", "a")),
        (0, ("a/b",)),
        (0, ("a%2Fb",)),
        (0, ("a", "b", "")),
        (0, ("ab",)),
        (0, ("a", 1)),
        (0, ("a", 11)),
        (0, ("a", 1, 1)),
        (2**70, ("a",)),
    ]
    seeds = [child_seed(seed, *names) for seed, names in tags]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert child_seed(0, "a", 1) == child_seed(0, "a", "1")


def test_neighbouring_streams_are_unrelated() -> None:
    n = 20_000
    draws = torch.stack([torch.randn(n, generator=child(0, "draw", step)) for step in range(8)])
    correlation = torch.corrcoef(draws) - torch.eye(8)
    assert float(correlation.abs().max()) < 5 / n**0.5


def test_a_child_is_fresh_each_time() -> None:
    a, b = child(3, "x"), child(3, "x")
    assert torch.equal(torch.rand(5, generator=a), torch.rand(5, generator=b))
    assert not torch.equal(torch.rand(5, generator=a), torch.rand(5, generator=child(3, "x")))


def test_isolated_seeds_inside_and_leaves_the_global_stream() -> None:
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    child(0, "x")
    with isolated(0, "init"):
        inside = torch.rand(3)
        torch.manual_seed(99)  # code that insists on it
    assert torch.equal(torch.rand(4), expected)
    with isolated(0, "init"):
        assert torch.equal(torch.rand(3), inside)
    torch.manual_seed(child_seed(0, "init"))
    assert torch.equal(torch.rand(3), inside)


def test_isolated_restores_after_an_error_and_nests() -> None:
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    with contextlib.suppress(KeyError), isolated(0, "init"):
        torch.rand(3)
        raise KeyError
    assert torch.equal(torch.rand(4), expected)
    with isolated(0, "a"):
        whole = torch.rand(4)
    with isolated(0, "a"):
        first = torch.rand(2)
        with isolated(0, "b"):
            torch.rand(7)
        assert torch.equal(torch.cat([first, torch.rand(2)]), whole)


def test_nothing_reseeds_the_global_stream() -> None:
    sources = Path(dd.__file__).parent.rglob("*.py")
    text = {path.name: path.read_text(encoding="utf-8") for path in sources}
    for word in ("torch.manual_seed(", "torch.seed(", "random.seed(", "time.time("):
        assert [name for name, source in text.items() if word in source] == [], word


def test_of_several_gpus_the_one_in_use_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    forked: list[list[int]] = []
    streams = [torch.Generator() for _ in range(4)]
    before = [stream.initial_seed() for stream in streams]

    @contextlib.contextmanager
    def fork(devices: list[int]) -> Iterator[None]:
        forked.append(devices)
        yield

    monkeypatch.setattr(torch.random, "fork_rng", fork)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "default_generators", streams)
    for device in (None, torch.device("cpu"), torch.device("cuda", 2), torch.device("cuda")):
        with isolated(3, "layers", device=device):
            pass
    assert forked == [[], [], [2], [1]]
    wanted = child_seed(3, "layers")
    assert [stream.initial_seed() for stream in streams] == [before[0], wanted, wanted, before[3]]
