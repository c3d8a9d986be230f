"""Curricula of recovery: crops that grow harder, images that enter late, members that take turns."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import pytest
import torch
from test_methods_recover import HOW, METHOD, REAL, SAME, start, teacher

import dd
from dd.errors import InputError
from dd.methods import CDA, DELT, Run, rebuild
from dd.methods.decoupled import recover
from dd.methods.decoupled.curriculum import iterations_of, smallest_area
from dd.methods.decoupled.recovery import _augmented, recover_block


def test_the_smallest_area_is_the_published_cosine() -> None:
    for t in range(20):
        wanted = 0.08 + 0.92 * 0.5 * (1 + math.cos(math.pi * t / 10)) if t < 10 else 0.08
        assert smallest_area("cosine", 0.5, t, 20) == pytest.approx(wanted)
    assert [smallest_area("linear", 1.0, t, 4) for t in (0, 2)] == [1.0, pytest.approx(0.54)]
    assert [smallest_area("step", 0.5, t, 4) for t in range(4)] == [1.0, 1.0, 0.08, 0.08]
    assert {smallest_area("none", 1.0, t, 4) for t in range(4)} == {0.08}


def test_a_crop_of_all_of_the_area_is_the_picture_or_its_mirror_image() -> None:
    x = start()
    for t in range(4):
        how = dataclasses.replace(HOW, crop=True, jitter=0, curriculum="step", curriculum_share=0.5)
        seen = _augmented(x, how, torch.Generator().manual_seed(t), t)
        whole = any(torch.allclose(seen, y, rtol=0, atol=1e-12) for y in (x, x.flip(3)))
        assert whole == (t < 2)


@pytest.mark.parametrize(("ipc", "total", "rounds"), [(10, 4000, 8), (3, 10, 2), (4, 5, 1), (2, 7, 2)])
def test_images_enter_in_rounds_and_go_on_to_the_end(ipc: int, total: int, rounds: int) -> None:
    found = [iterations_of(i, ipc, total, rounds) for i in range(ipc)]
    wanted = [total - math.floor(math.floor(i * rounds / ipc) * total / rounds) for i in range(ipc)]
    assert found == wanted
    assert found[0] == total
    assert found == sorted(found, reverse=True)
    assert found[-1] >= total / rounds


def test_each_image_has_its_own_number_of_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    real = recover.recover_block

    def counted(*args: Any, **kwargs: Any) -> Any:
        made.append(args[4].iterations)
        return real(*args, **kwargs)

    monkeypatch.setattr(recover, "recover_block", counted)
    method = dataclasses.replace(METHOD, ipc=4, iterations=4, rounds=2)
    list(method.distill(REAL, Run(seed=0)))
    assert made == [4, 4, 2, 2]
    made.clear()
    list(dataclasses.replace(method, iterations=0).distill(REAL, Run(seed=0)))
    assert made == [0] * 4


def test_members_take_turns_with_weight_one() -> None:
    calls: list[int] = []
    members = [teacher(0), teacher(3)]
    for number, one in enumerate(members):
        one.module.register_forward_hook(lambda *_, number=number: calls.append(number))
    how, y = dataclasses.replace(HOW, turns=True), torch.arange(3)
    recover_block([(one, 0.5) for one in members], start(), y, SAME, how, 0, (0,))
    assert calls == [0, 1, 0, 1]
    alone = recover_block([(teacher(0), 0.3)], start(), y, SAME, how, 0, (0,))
    plain = recover_block([(teacher(0), 1.0)], start(), y, SAME, HOW, 0, (0,))
    assert torch.equal(alone, plain)


def test_the_papers_are_fields_and_a_set_tells_them() -> None:
    assert (CDA().name, CDA().curriculum, CDA().init) == ("cda", "cosine", "noise")
    assert (DELT().name, DELT().rounds, DELT().init, DELT().jitter) == ("delt", 8, "medium", 0)
    told = DELT().describe()
    assert {name: told[name] for name in ("rounds", "curriculum")} == {"rounds": 8, "curriculum": "cosine"}
    assert rebuild(told) == DELT()
    assert not {"rounds", "turns", "curriculum", "curriculum_share"} & METHOD.describe().keys()
    again = rebuild(METHOD.describe())
    assert again is not None
    assert again.describe() == METHOD.describe()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"curriculum": "sine"}, "`curriculum` must be"),
        ({"curriculum_share": 0.0}, "`curriculum_share` must be in (0, 1]; got 0"),
        ({"curriculum": "cosine", "crop": False}, "`curriculum` must be `none` without crops, which it is of"),
        ({"rounds": 0}, "`rounds` must be"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=re.escape(told)):
        dataclasses.replace(METHOD, **fields)


def test_the_estimate_counts_rounds_and_turns() -> None:
    fields = {"ipc": 8, "iterations": 400, "committee": ("convnet(norm=batch, width=8)",) * 2, "preset": "cpu"}
    data = dd.blank_images(5, 50, size=16)
    whole, rounds, turns = (
        dd.estimate(data, "cvdd", **fields, **more).seconds for more in ({}, {"rounds": 8}, {"turns": True})
    )
    assert rounds < whole
    assert turns < whole
