"""The compiled pass of evaluation: gradients to rounding, one compilation for all networks, and its ways out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import dd
from dd.evaluation import NetworkLearner, fresh
from dd.evaluation.fast import CompiledForward, plain_forward
from dd.synthetic import SyntheticImages, TrainRecipe
from dd.transforms.whiten import Normalise

CPU = torch.device("cpu")


def small(model: str = "convnet(width=4)", count: int = 12) -> SyntheticImages:
    generator = torch.Generator().manual_seed(0)
    return SyntheticImages(
        images=torch.randn(count, 1, 8, 8, generator=generator),
        labels=torch.arange(count) % 3,
        classes=("a", "b", "c"),
        recipe=TrainRecipe(model=model, steps=6, lr=0.05, augment="crop_flip"),
        transform=Normalise((0.5,), (0.25,)),
    )


def gradients(net: nn.Module, forward: CompiledForward | None, x: torch.Tensor) -> list[torch.Tensor]:
    scores = (forward or plain_forward)(net, x)
    return list(torch.autograd.grad(scores.square().mean(), list(net.parameters())))


def test_networks_of_one_structure_share_a_pass_and_have_their_own_gradients() -> None:
    forward, made = CompiledForward("aot_eager"), small()
    for seed in (0, 1, 2):
        net = fresh(made, "convnet(width=4)", seed, CPU).train()
        for ours, theirs in zip(gradients(net, forward, made.images), gradients(net, None, made.images), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)
    assert len(forward._made) == 1


def test_a_short_training_ends_at_the_same_weights_to_rounding() -> None:
    plain, fast = (NetworkLearner(forward=f).fit(small(), 3).net for f in (plain_forward, CompiledForward("aot_eager")))
    for p, q in zip(plain.parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("model", ["convnet(width=4, norm=batch)", "mlp"])
def test_other_networks_go_by_their_own_pass(model: str) -> None:
    forward = CompiledForward("aot_eager")
    plain, fast = (NetworkLearner(forward=f).fit(small(model), 3).net for f in (plain_forward, forward))
    assert all(torch.equal(p, q) for p, q in zip(plain.parameters(), fast.parameters(), strict=True))
    assert forward._made == {}


def test_another_batch_and_a_broken_compiler_go_by_the_networks_own_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    made, forward = small(), CompiledForward("aot_eager")
    net = fresh(made, "convnet(width=4)", 0, CPU).train()
    forward(net, made.images)
    assert torch.equal(forward(net, made.images[:5]), net(made.images[:5]))

    def broken(*_: object, **__: object) -> torch.Tensor:
        raise RuntimeError("no compiler")

    key = next(iter(forward._made))
    forward._made[key] = (tuple(made.images.shape), broken)
    assert torch.equal(forward(net, made.images), net(made.images))
    assert not forward._works
    monkeypatch.setattr(torch, "compile", broken)  # torch makes its cache as it loads the compiler
    forward = CompiledForward("aot_eager")
    assert torch.equal(forward(net, made.images), net(made.images))
    assert not forward._works


@pytest.mark.slow  # compiles
def test_evaluate_compiles_on_request() -> None:
    made = dd.distill("digits", "random", ipc=1, progress=False)
    rows = [
        dd.evaluate(made, "digits", models="convnet(width=4)", repeats=1, steps=5, progress=False, compile=c).rows
        for c in (False, True)
    ]
    assert rows[0][0].mean == pytest.approx(rows[1][0].mean, abs=0.02)
