"""The compiled pass of evaluation: gradients to rounding, one compilation for all networks, and its ways out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import dd
from dd.evaluation import NetworkLearner, fast, fresh
from dd.evaluation.fast import CompiledForward, plain_forward, usual_forward
from dd.inner import NotCompiledError, compiler_present
from dd.inner.fast import block_forward
from dd.models import build
from dd.models.images.convnet import ConvNet
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


needs_compiler = pytest.mark.skipif(not compiler_present(), reason="no C++ compiler")


@needs_compiler
@pytest.mark.parametrize("model", ["convnet(width=20)", "convnet(width=4, depth=2)"])
def test_built_kernels_give_the_networks_own_logits_and_gradients(model: str) -> None:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(7, 3, 8, 12, generator=generator, dtype=torch.float64), torch.arange(7) % 3
    net = build(model, channels=3, classes=3, size=(8, 12), seed=0, dtype=torch.float64)
    net.load_state_dict({k: v + 0.1 * torch.randn(v.shape, generator=generator) for k, v in net.state_dict().items()})
    found = []
    for forward in (plain_forward, block_forward):
        pictures = x.clone().requires_grad_()
        scores = forward(net, pictures)
        loss = nn.functional.cross_entropy(scores, y)
        found.append([scores, *torch.autograd.grad(loss, [pictures, *net.parameters()])])
    for plain, built in zip(*found, strict=True):
        torch.testing.assert_close(built, plain, rtol=1e-10, atol=1e-12)


@needs_compiler
def test_built_kernels_are_differentiated_once() -> None:
    net = build("convnet(width=4)", channels=1, classes=3, size=(8, 8), seed=0)
    scores = block_forward(net, torch.randn(2, 1, 8, 8))
    (gradient,) = torch.autograd.grad(scores.sum(), [net.blocks[0].conv.weight], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@needs_compiler
def test_a_long_training_goes_by_built_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    net = build("convnet(width=4)", channels=1, classes=3, size=(8, 8), seed=0)
    usual = lambda net, pictures=10**9: usual_forward(net, pictures, (8, 8), CPU)  # noqa: E731
    assert usual(net) is block_forward
    assert usual(net, 100) is plain_forward  # nothing to gain
    assert usual_forward(net, 10**9, (8, 8), torch.device("meta")) is plain_forward
    assert usual_forward(net, 10**9, (9, 8), CPU) is plain_forward  # odd maps
    for other in ("convnet(width=4, norm=batch)", "convnet(width=4, pool=max)", "mlp"):
        assert usual(build(other, channels=1, classes=3, size=(8, 8), seed=0)) is plain_forward
    assert usual(copy.deepcopy(net).double()) is plain_forward
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert usual(net) is plain_forward
    heard = copy.deepcopy(net)
    heard.blocks[0].act.register_forward_hook(lambda *_: None)
    assert usual(heard) is plain_forward
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    assert usual(net) is plain_forward
    handle.remove()
    assert usual(net) is block_forward

    def broken() -> None:
        raise NotCompiledError("no room")

    monkeypatch.setattr(fast, "library", broken)
    with pytest.warns(UserWarning, match=r"cannot be compiled \(no room\); networks .* without.*compile=False"):
        assert usual(net) is plain_forward


class Louder(nn.ReLU):
    """Somebody's own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


EXCHANGED = {
    "act": [nn.GELU(), Louder()],
    "pool": [nn.AvgPool2d(3, 2, 1), nn.AvgPool2d(4), nn.AvgPool2d(2, divisor_override=1), nn.MaxPool2d(2)],
    "norm": [nn.GroupNorm(4, 4, affine=False), nn.GroupNorm(2, 4), nn.GroupNorm(2, 2), nn.Identity()],
    "conv": [
        nn.Conv2d(1, 4, 3, padding=(1, 0)),
        nn.Conv2d(1, 4, 4, padding=1),
        nn.Conv2d(1, 4, 3, padding="same"),
        nn.Conv2d(1, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(1, 4, 3, padding=1, stride=2),
        nn.Conv2d(1, 4, 3, padding=2, dilation=2),
    ],
}


@pytest.mark.parametrize(("name", "layer"), [(name, layer) for name, layers in EXCHANGED.items() for layer in layers])
def test_a_network_with_another_layer_goes_by_its_own_pass(name: str, layer: nn.Module) -> None:
    net = build("convnet(width=4)", channels=1, classes=3, size=(8, 8), seed=0)
    setattr(net.blocks[0], name, layer)
    assert usual_forward(net, 10**9, (8, 8), CPU) is plain_forward


def test_a_network_that_somebody_has_changed_goes_by_its_own_pass() -> None:
    def changed(change: Callable[[Any], None]) -> nn.Module:
        net = build("convnet(width=4)", channels=1, classes=3, size=(8, 8), seed=0)
        change(net)
        return net

    class Own(ConvNet):  # type: ignore[misc]
        pass

    for net in (
        changed(lambda net: net.blocks.append(nn.Dropout(0.1))),
        changed(lambda net: setattr(net, "blocks", nn.Sequential(nn.Sequential(*net.blocks[0].children())))),
        changed(lambda net: setattr(net, "forward", lambda x: x)),
        changed(lambda net: setattr(net.blocks[0], "forward", lambda x: x)),
        changed(lambda net: setattr(net, "classifier", nn.Sequential(net.classifier))),
        changed(lambda net: setattr(net, "__class__", Own)),
    ):
        assert usual_forward(net, 10**9, (8, 8), CPU) is plain_forward


@needs_compiler
def test_evaluate_takes_the_road_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made, seen = dd.distill("digits", "random", ipc=1, progress=False), []
    monkeypatch.setattr(fast, "block_forward", lambda net, x: seen.append(len(x)) or block_forward(net, x))
    given = {"models": "convnet(width=4)", "repeats": 1, "steps": 5, "progress": False, "baselines": ()}
    rows = {c: dd.evaluate(made, "digits", compile=c, **given).rows[0].mean for c in (False, None, True)}
    assert seen == 5 * [10]  # five steps are not long enough to pay
    assert rows[False] == rows[None] == pytest.approx(rows[True], abs=0.02)
    monkeypatch.setattr("dd.inner.engines.BUILD", 0.0)
    assert dd.evaluate(made, "digits", **given).rows[0].mean == rows[True]
    assert len(seen) == 10
