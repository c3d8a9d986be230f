"""The reference engine: differentiate through the whole unrolled training with a create-graph loop."""

from __future__ import annotations

import torch

from dd.inner.problem import Matching, Problem


def unroll(problem: Problem) -> Matching:
    """L and its gradients by autograd through all N student steps; memory grows with N.

    This is what the published code does, and the twin that `adjoint` is tested against.
    """
    p = problem
    images = p.images.detach().requires_grad_()
    lr = p.lr.detach().requires_grad_()
    labels = p.labels.detach().requires_grad_() if p.wants_labels else p.labels
    theta = p.theta.detach().requires_grad_()
    velocity: torch.Tensor | float = 0.0
    path = [theta]
    for i, step in enumerate(p.steps):
        at = theta.detach().requires_grad_() if p.gradient == "detached" else theta
        loss = p.student.loss(at, step.draw(images[step.index]), labels[step.index])
        (gradient,) = torch.autograd.grad(loss, at, create_graph=i >= p.first)
        velocity = p.momentum * velocity + gradient
        theta = theta - lr * velocity
        path.append(theta)
    terms = [p.scale(t) * (path[t.step] - t.theta).square().sum() for t in p.targets]
    total = torch.stack(terms).sum()
    wanted = [images, lr, labels] if p.wants_labels else [images, lr]
    gradients = torch.autograd.grad(total, wanted, allow_unused=True, materialize_grads=True)
    return Matching(
        loss=total.detach(),
        images=gradients[0],
        lr=gradients[1],
        labels=gradients[2] if p.wants_labels else None,
        theta=theta.detach(),
    )
