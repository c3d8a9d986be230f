"""From any of its states a method goes on to the same last step; from the last one it gives that step again."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest
import torch

import dd
from dd.methods import METHODS, CoverageWarning, Run
from dd.synthetic import to_tensors

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.campaigns import jobs


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


def same(a: dd.methods.Step, b: dd.methods.Step) -> bool:
    """Iteration, state and what every candidate tells and holds."""
    told = [[to_tensors(c.set) for c in step.candidates] for step in (a, b)]  # type: ignore[arg-type]
    if (a.iteration, a.total, a.state.keys()) != (b.iteration, b.total, b.state.keys()):
        return False
    pairs = [(a.state[name], b.state[name]) for name in a.state]
    for (left, about), (right, beside) in zip(*told, strict=True):
        assert about == beside
        pairs += [(left[name], right[name]) for name in left]
    return len(told[0]) == len(a.candidates) and all(torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_state_leads_to_the_same_last_step(name: str, store: Path) -> None:
    value = jobs.method(name)
    real, run = jobs.graphs() if name == "mirage" else jobs.pictures(), Run(store=store)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CoverageWarning)
        steps = list(value.distill(real, run))
        assert steps[-1].iteration == steps[-1].total
        assert steps[-1].candidates
        for step in steps:
            (*_, last) = value.distill(real, run, step.state)
            assert same(last, steps[-1]), step.iteration
