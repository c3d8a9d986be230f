"""The outer optimisers against torch's."""

from __future__ import annotations

import pytest
import torch

from dd.methods.outer import State, adam, sgd


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_sgd_equals_torch(momentum: float) -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(4, 3, generator=g, dtype=torch.float64)
    parameter = torch.nn.Parameter(x.clone())
    optimizer = torch.optim.SGD([parameter], lr=3.0, momentum=momentum)
    state: State = {"x": x}
    for _ in range(5):
        gradient = torch.randn(4, 3, generator=g, dtype=torch.float64)
        parameter.grad = gradient.clone()
        optimizer.step()
        before = state["x"].clone()
        new = {**state, **sgd(state["x"], gradient, state, "x", 3.0, momentum)}
        assert torch.equal(state["x"], before)  # nothing in place
        state = new
    torch.testing.assert_close(state["x"], parameter.data)


def test_adam_equals_torch() -> None:
    g = torch.Generator().manual_seed(1)
    x = torch.randn(4, 3, generator=g, dtype=torch.float64)
    parameter = torch.nn.Parameter(x.clone())
    optimizer = torch.optim.Adam([parameter], lr=0.1)
    state: State = {"x": x}
    for _ in range(5):
        gradient = torch.randn(4, 3, generator=g, dtype=torch.float64)
        parameter.grad = gradient.clone()
        optimizer.step()
        state = {**state, **adam(state["x"], gradient, state, "x", 0.1)}
    torch.testing.assert_close(state["x"], parameter.data)
