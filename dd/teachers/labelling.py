"""Soft labels of a teacher or a committee: by its running statistics, or by those of the batch it labels (CV-DD)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn

from dd.base.shapes import check_whole
from dd.errors import refuse
from dd.teachers.statistics import keeps_statistics

BNMode = Literal["running", "batch"]
BN_MODES: Final = ("running", "batch")


@contextmanager
def batch_statistics(module: nn.Module) -> Iterator[nn.Module]:
    """Inside the block the batch norms normalise by the batch that they see; nothing else changes.

    The published relabelling puts the whole teacher into training mode. That also switches dropout on and lets the
    running statistics drift; here dropout stays off, and the statistics are the same before and after.

    Raises:
        InputError: a teacher in training mode, or without batch norms that keep statistics.
    """
    layers: list[Any] = [layer for layer in module.modules() if keeps_statistics(layer)]
    if not layers:
        raise refuse("teacher", "a network with batch norms", type(module).__name__, "Label with `bn_mode='running'`.")
    if module.training:
        raise refuse("teacher", "in eval mode", "a module in training mode", "Call `.eval()`.")
    kept = [(layer, layer.running_mean, layer.running_var) for layer in layers]
    try:
        for layer in layers:
            layer.running_mean = layer.running_var = None
        yield module
    finally:
        for layer, mean, variance in kept:
            layer.running_mean, layer.running_var = mean, variance


@torch.no_grad()
def label(
    members: Sequence[nn.Module],
    weights: Sequence[float],
    x: Tensor,
    *,
    bn_mode: BNMode = "running",
    micro_batch: int | None = None,
) -> Tensor:
    """Logits z = Σ_m v_m z_m `[n, K]` of a batch `[n, C, H, W]` in the members' model space.

    In batch mode each micro-batch is normalised by its own statistics, as a student's micro-batch will be: the
    student's `accumulate` and this must cut the batch alike (CV-DD: 16 pictures, 8 a micro-batch). In running mode the
    cut changes nothing.

    Args:
        members: teachers in eval mode.
        weights: v, one a member; CV-DD's are `vote_weights(priors, LABEL_TAU)`.
        x: the batch that the student will see: augmented and mixed.
        bn_mode: `running` (SRe2L, INFER, RDED) or `batch` (SRe2L++, CV-DD).
        micro_batch: pictures at once; `None` for all.

    Raises:
        InputError: no member, another number of weights, members that disagree on the classes, or a micro-batch of one
            picture in batch mode, whose statistics would be its own.
    """
    if not members or len(weights) != len(members):
        raise refuse("weights", f"one a member, of {len(members)} ≥ 1", len(weights))
    if bn_mode not in BN_MODES:
        raise refuse("bn_mode", "`running` or `batch`", repr(bn_mode))
    size = len(x) if micro_batch is None else check_whole(micro_batch, "micro_batch")
    parts = x.split(size)
    if bn_mode == "batch" and (short := min(map(len, parts))) < 2:
        raise refuse(
            "micro_batch",
            "such that none of a batch has one picture",
            f"{size} for {len(x)} pictures, which leaves {short}",
            "Choose a batch size that it divides, or one that leaves two or more.",
        )
    total: Tensor | None = None
    for member, weight in zip(members, weights, strict=True):
        if bn_mode == "batch":
            with batch_statistics(member):
                scores = torch.cat([member(part) for part in parts])
        else:
            scores = torch.cat([member(part) for part in parts])
        if total is not None and scores.shape != total.shape:
            raise refuse(
                "members", f"of {total.shape[1]} classes each", scores.shape[1], "They must be trained on one data set."
            )
        total = weight * scores if total is None else total + weight * scores
    assert total is not None
    return total
