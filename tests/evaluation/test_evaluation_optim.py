"""Step sizes, decay, losses and accumulation of the decoupled methods' students (their invariants 24 and 26 to 28)."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from dd.base.seeding import child
from dd.errors import InputError
from dd.evaluation.loop import accumulate
from dd.evaluation.optim import decay_groups, distillation_loss, make_optimizer, mixed, smoothed_cosine
from dd.models import build
from dd.synthetic import TrainRecipe
from dd.transforms.views import draw_mix


def logits(seed: int, rows: int = 6, classes: int = 4) -> torch.Tensor:
    return 3 * torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_smoothed_cosine() -> None:
    assert smoothed_cosine(1.0, 1.0) == pytest.approx(0, abs=1e-15)
    assert smoothed_cosine(1.0, 2.0) == pytest.approx(0.5)
    published = {0: 1.0, 75: 0.9619, 150: 0.8536, 225: 0.6913, 299: 0.5026}  # η = 2, 300 epochs
    for epoch, factor in published.items():
        assert smoothed_cosine(epoch / 300, 2.0) == pytest.approx(factor, abs=5.1e-5)
    for eta in (1.0, 2.0, 5.0):
        steps = [smoothed_cosine(s / 50, eta) for s in range(51)]
        assert all(a > b for a, b in itertools.pairwise(steps))
    assert smoothed_cosine(1.0, 1e9) == pytest.approx(1.0)


def test_kl_of_equal_logits_is_zero_and_shifts_change_nothing() -> None:
    z, s = logits(0), logits(1)
    recipe = TrainRecipe(loss="kl", temperature=20.0)
    assert float(distillation_loss(z, z, recipe)) == pytest.approx(0, abs=1e-15)
    plain = float(distillation_loss(s, z, recipe))
    assert plain > 0
    shift = torch.arange(6, dtype=torch.float64)[:, None]
    assert float(distillation_loss(s + shift, z - 2 * shift, recipe)) == pytest.approx(plain, rel=1e-12)


def test_kl_equals_its_definition() -> None:
    z, s, t = logits(0), logits(1), 3.0
    total = 0.0
    for row_z, row_s in zip((z / t).tolist(), (s / t).tolist(), strict=True):
        p = [math.exp(v) / sum(map(math.exp, row_z)) for v in row_z]
        q = [math.exp(v) / sum(map(math.exp, row_s)) for v in row_s]
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    recipe = TrainRecipe(loss="kl", temperature=t)
    assert float(distillation_loss(s, z, recipe)) == pytest.approx(total / 6, rel=1e-12)


def test_the_gradient_falls_as_one_over_the_temperature_without_a_factor() -> None:
    z, s = logits(0), logits(1)

    def gradient(t: float) -> torch.Tensor:
        leaf = s.clone().requires_grad_()
        recipe = TrainRecipe(loss="kl", temperature=t)
        return torch.autograd.grad(distillation_loss(leaf, z, recipe), leaf)[0]

    for t in (1.0, 20.0):
        by_hand = ((s / t).softmax(1) - (z / t).softmax(1)) / (6 * t)
        assert torch.allclose(gradient(t), by_hand, rtol=1e-10, atol=1e-15)


def test_decay_leaves_biases_and_norms_alone() -> None:
    net = build("convnet(width=4, depth=2, norm=batch)", channels=3, classes=3, size=(8, 8), seed=0)
    decayed, free = decay_groups(net, TrainRecipe(decay="weights", weight_decay=0.01))
    assert all(p.ndim > 1 for p in decayed["params"])  # type: ignore[attr-defined]
    assert all(p.ndim == 1 for p in free["params"])  # type: ignore[attr-defined]
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.01, 0.0)
    assert len(decayed["params"]) + len(free["params"]) == len(list(net.parameters()))  # type: ignore[arg-type]
    (everything,) = decay_groups(net, TrainRecipe(weight_decay=0.01))
    assert len(everything["params"]) == len(list(net.parameters()))  # type: ignore[arg-type]
    assert isinstance(make_optimizer(net, TrainRecipe(optimizer="adamw"), 0.1), torch.optim.AdamW)


def gradients(net: nn.Module, accumulated: int, batch: int, count: int) -> torch.Tensor:
    x = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = torch.arange(count) % 3
    net.zero_grad()
    accumulate(net, x, y, TrainRecipe(accumulate=accumulated), batch)
    return torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])


def test_accumulation_equals_the_whole_batch_where_no_batch_norm_looks_at_it() -> None:
    net = build("convnet(width=4, depth=1, norm=batch)", channels=3, classes=3, size=(8, 8), seed=0).double()
    net.eval()
    assert torch.allclose(gradients(net, 2, 8, 8), gradients(net, 1, 8, 8), rtol=1e-10, atol=1e-12)
    net.train()
    apart = gradients(net, 2, 8, 8) - gradients(net, 1, 8, 8)
    assert float(apart.norm()) > 1e-3 * float(gradients(net, 1, 8, 8).norm())


def test_a_short_batch_weighs_by_its_micro_batches() -> None:
    net = build("convnet(width=4, depth=1)", channels=3, classes=3, size=(8, 8), seed=0).double()
    assert torch.allclose(gradients(net, 2, 16, 4), gradients(net, 1, 16, 4) / 2, rtol=1e-10, atol=1e-14)


def test_labels_mix_as_pictures_do_in_either_space() -> None:
    x, z = torch.rand(6, 3, 4, 4, dtype=torch.float64), logits(0)
    recipe = TrainRecipe(loss="kl", temperature=2.0, mix="mixup")
    seen, by_logit = mixed(x, z, recipe, child(0, "mix"))
    mix = draw_mix("mixup", 6, (4, 4), child(0, "mix"))
    assert torch.equal(seen, mix(x))
    geometric = ((z / 2).softmax(1) ** mix.share) * ((z / 2).softmax(1)[mix.order] ** (1 - mix.share))
    assert torch.allclose((by_logit / 2).softmax(1), geometric / geometric.sum(1, keepdim=True), rtol=1e-12)
    gaps = []
    for t in (2.0, 20.0, 200.0):
        prob = TrainRecipe(loss="kl", temperature=t, mix="mixup", mix_space="prob")
        _, by_prob = mixed(x, z, prob, child(0, "mix"))
        p = (z / t).softmax(1)
        assert torch.allclose((by_prob / t).softmax(1), mix.share * p + (1 - mix.share) * p[mix.order], rtol=1e-12)
        gaps.append(float(((by_prob / t).softmax(1) - (mix.blend(z) / t).softmax(1)).abs().max()))
    assert gaps[0] > 10 * gaps[1] > 100 * gaps[2] > 0  # the two spaces agree as T grows
    assert mixed(x, z, TrainRecipe(), child(0, "mix")) == (x, z)
    with pytest.raises(InputError, match="`mix` must be `none` with hard labels"):
        mixed(x, torch.arange(6), recipe, child(0, "mix"))


def test_every_field_of_a_recipe_comes_back() -> None:
    recipe = TrainRecipe(optimizer="adamw", decay="weights", schedule="cosine", eta=2.0, loss="kl", temperature=20.0)
    assert TrainRecipe.from_json(recipe.to_json()) == recipe


def test_refusals() -> None:
    for field, value, text in (
        ("optimizer", "adam", "`optimizer` must be `sgd` or `adamw`"),
        ("loss", "mse", "`loss` must be `ce` or `kl`"),
        ("eta", 0.5, "`eta` must be at least 1; got 0.5"),
        ("temperature", 0.0, "`temperature` must be positive"),
        ("accumulate", 0, "`accumulate`"),
    ):
        with pytest.raises(InputError, match=text):
            TrainRecipe(**{field: value})  # type: ignore[arg-type]


def test_the_gift_loss_is_one_minus_the_cosine_to_refined_labels() -> None:
    generator = torch.Generator().manual_seed(5)
    scores, z = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)
    recipe = TrainRecipe(loss="gift", temperature=2.0)
    total = 0.0
    for f, logits in zip(scores, z, strict=True):
        p = (logits / 2).exp() / (logits / 2).exp().sum()
        s = torch.full((3,), 0.1 / 3, dtype=torch.float64)
        s[int(p.argmax())] += 0.9
        t = 0.1 * s / s.norm() + 0.9 * p / p.norm()
        total += 1 - float(f @ t / (f.norm() * t.norm()))
    assert float(distillation_loss(scores, z, recipe)) == pytest.approx(total / 4, rel=1e-12)
    assert float(distillation_loss(3 * scores, z, recipe)) == pytest.approx(total / 4, rel=1e-12), "no scale"
