"""Labels by running and by batch statistics (invariants 12, 19 to 23)."""

from __future__ import annotations

import pytest
import torch
from reference.teachers import pictures, settle, teacher
from torch import Tensor, nn

from dd.errors import InputError
from dd.models import build
from dd.teachers import batch_statistics, label


def buffers(net: nn.Module) -> list[Tensor]:
    return [b.clone() for b in net.buffers()]


def test_running_mode_does_not_see_the_cut_and_batch_mode_does() -> None:
    net, x = teacher(), pictures(8)
    assert torch.allclose(label([net], [1.0], x), label([net], [1.0], x, micro_batch=4), rtol=0, atol=1e-12)
    whole = label([net], [1.0], x, bn_mode="batch")
    halves = label([net], [1.0], x, bn_mode="batch", micro_batch=4)
    assert float((whole - halves).abs().max()) > 1e-3
    assert torch.equal(halves[:4], label([net], [1.0], x[:4], bn_mode="batch"))


def test_batch_mode_is_equivariant_inside_a_micro_batch() -> None:
    net, x = teacher(), pictures(8)
    order = torch.tensor([2, 0, 3, 1, 5, 4, 7, 6])
    plain = label([net], [1.0], x, bn_mode="batch", micro_batch=4)
    moved = label([net], [1.0], x[order], bn_mode="batch", micro_batch=4)
    assert torch.allclose(moved, plain[order], rtol=0, atol=1e-12)


def test_batch_mode_is_that_of_training_without_its_side_effects() -> None:
    net, x = teacher(), pictures(8)
    before = buffers(net)
    first = label([net], [1.0], x, bn_mode="batch")
    assert torch.equal(first, label([net], [1.0], x, bn_mode="batch"))  # a second pass is the first
    assert all(torch.equal(a, b) for a, b in zip(before, buffers(net), strict=True))
    with torch.no_grad():
        trained = net.train()(x)
    assert torch.allclose(first, trained, rtol=0, atol=1e-12)
    assert not all(torch.equal(a, b) for a, b in zip(before, buffers(net), strict=True))  # what `.train()` does


def test_dropout_stays_off() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Dropout(0.5), nn.Linear(192, 2)).double().eval()
    x = pictures(8)
    assert torch.equal(*(label([net], [1.0], x, bn_mode="batch") for _ in range(2)))


def test_statistics_come_back_after_an_error() -> None:
    net = teacher()
    before = buffers(net)
    with pytest.raises(RuntimeError), batch_statistics(net):
        net(torch.zeros(2, 5, 8, 8, dtype=torch.float64))
    assert all(torch.equal(a, b) for a, b in zip(before, buffers(net), strict=True))


def test_batch_mode_is_running_mode_where_the_statistics_are_the_batchs() -> None:
    net, x = teacher(), pictures(8)
    settle(net, x)
    assert torch.allclose(label([net], [1.0], x), label([net], [1.0], x, bn_mode="batch"), rtol=0, atol=1e-12)


def test_a_student_in_training_sees_the_teachers_statistics() -> None:
    net, x = teacher(), pictures(16)
    student = teacher(seed=5).train()
    student.blocks[0].conv.load_state_dict(net.blocks[0].conv.state_dict())  # type: ignore[union-attr,index]
    seen: dict[str, list[Tensor]] = {"teacher": [], "student": []}
    for name, module in (("teacher", net), ("student", student)):
        layer = next(m for m in module.modules() if isinstance(m, nn.BatchNorm2d))
        layer.register_forward_pre_hook(lambda m, args, name=name: seen[name].append(args[0].mean((0, 2, 3))))
    label([net], [1.0], x, bn_mode="batch", micro_batch=8)
    for part in x.split(8):  # `accumulate=2` of a batch of 16
        student(part)
    assert len(seen["teacher"]) == 2
    assert all(torch.equal(a, b) for a, b in zip(seen["teacher"], seen["student"], strict=True))


def test_a_committees_logits_are_the_weighted_sum() -> None:
    a, b, x = teacher(0), teacher(1), pictures(8)
    weights = [0.3, 0.7]
    together = label([a, b], weights, x, bn_mode="batch", micro_batch=4)
    alone = [label([net], [1.0], x, bn_mode="batch", micro_batch=4) for net in (a, b)]
    assert torch.allclose(together, 0.3 * alone[0] + 0.7 * alone[1], rtol=0, atol=1e-12)
    assert torch.allclose(together, label([b, a], weights[::-1], x, bn_mode="batch", micro_batch=4), rtol=0, atol=1e-12)


def test_refusals() -> None:
    net, x = teacher(), pictures(9)
    with pytest.raises(InputError, match=r"micro_batch.*none of a batch has one picture.*leaves 1"):
        label([net], [1.0], x, bn_mode="batch", micro_batch=4)
    with pytest.raises(InputError, match="`members` must be of 3 classes each; got 4"):
        label([net, teacher(classes=4)], [0.5, 0.5], x)
    with pytest.raises(InputError, match="`weights` must be one a member"):
        label([net], [0.5, 0.5], x)
    with pytest.raises(InputError, match="`bn_mode` must be `running` or `batch`"):
        label([net], [1.0], x, bn_mode="eval")  # type: ignore[arg-type]
    instance = build("convnet(width=4, depth=1)", channels=3, classes=2, size=(8, 8), seed=0).eval()
    with pytest.raises(InputError, match=r"batch norms.*bn_mode='running'"):
        label([instance], [1.0], x.float(), bn_mode="batch")
